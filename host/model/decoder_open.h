/* decoder_open.h: making and freeing decoders and caches. Part of decoder_body.h. */

static size_t larger(size_t a, size_t b)
{
	return a > b ? a : b;
}

static void set_sizes(struct PF_T(decoder) *d, const struct pf_decoder_options *options)
{
	const struct pf_model_config *c = &d->config;
	d->threads = pf_threads(options->threads);
	d->keeps = options->backward;
	d->max_tokens = options->max_tokens;
	d->max_length = options->max_length;
	if (d->max_length == 0)
		d->max_length = d->max_tokens < c->max_positions ? d->max_tokens : c->max_positions;
	d->dim = c->dim;
	d->ffn = c->ffn;
	d->group = c->heads / c->kv_heads;
	d->q_dim = (size_t)c->heads * c->head_dim;
	d->kv_dim = (size_t)c->kv_heads * c->head_dim;
	d->qkv_dim = d->q_dim + 2 * d->kv_dim;
	const size_t tile = TILE_MOST * (d->dim + larger(d->qkv_dim, d->q_dim + d->ffn));
	const size_t scores = (2 * KEY_COLS + 1) * larger(QUERY_ROWS, d->group);
	d->scratch_each = (larger(tile, scores) + ALIGN_BYTES - 1) / ALIGN_BYTES * ALIGN_BYTES;
}

static int check_options(const struct pf_model_config *config,
                         const struct pf_decoder_options *options, struct pf_error *error)
{
	int code = pf_config_check(config, "decoder", error);
	if (code != 0)
		return code;
	if (options->max_tokens == 0 || options->max_tokens > TOKENS_MOST)
		return pf_fail(error, PF_E_RANGE,
		               "decoder: max_tokens is %u; it must be from 1 to %u",
		               options->max_tokens, TOKENS_MOST);
	if (options->max_length > config->max_positions)
		return pf_fail(
		        error, PF_E_RANGE,
		        "decoder: sequences of %u tokens; the model's max_position_embeddings "
		        "is %u",
		        options->max_length, config->max_positions);
	return 0;
}

static void fill_rotations(struct PF_T(decoder) *d)
{
	const unsigned half = d->config.head_dim / 2;
	for (uint32_t p = 0; p < d->max_length; p++)
		for (unsigned j = 0; j < half; j++) {
			const double angle = p * pow(d->config.rope_theta, -(double)j / half);
			REAL *row = d->rotations + (size_t)p * 2 * half;
			row[j] = (REAL)cos(angle);
			row[half + j] = (REAL)sin(angle);
		}
}

static int alloc_all(struct PF_T(decoder) *d, struct pf_error *error)
{
	struct carve count = { NULL, 0 };
	d->acts = calloc(d->config.layers + 1, sizeof *d->acts);
	if (d->acts) {
		carve_all(d, &count);
		d->bytes = count.next;
		d->memory = aligned_alloc(ALIGN_BYTES, count.next);
	}
	if (!d->memory)
		return pf_fail(
		        error, -ENOMEM,
		        "decoder: out of memory: %llu MiB for %u tokens; use smaller batches",
		        (unsigned long long)(d->bytes >> 20), d->max_tokens);
	struct carve place = { d->memory, 0 };
	carve_all(d, &place);
	return 0;
}

int PF_T(decoder_open)(const struct pf_model_config *config, const struct pf_layout *layout,
                       const struct pf_decoder_options *options, struct PF_T(decoder) **out,
                       struct pf_error *error)
{
	int code = check_options(config, options, error);
	if (code != 0)
		return code;
	struct PF_T(decoder) *d = calloc(1, sizeof *d);
	if (!d)
		return pf_fail(error, -ENOMEM, "decoder: out of memory");
	d->config = *config;
	d->layout = layout;
	d->rows = ROWS_BEST;
	set_sizes(d, options);
	code = alloc_all(d, error);
	if (code != 0) {
		PF_T(decoder_close)(d);
		return code;
	}
	fill_rotations(d);
	*out = d;
	return 0;
}

void PF_T(decoder_close)(struct PF_T(decoder) *d)
{
	if (!d)
		return;
	free(d->acts);
	free(d->memory);
	free(d);
}

uint64_t PF_T(decoder_bytes)(const struct PF_T(decoder) *d)
{
	return d->bytes;
}

const REAL *PF_T(decoder_hidden)(const struct PF_T(decoder) *d)
{
	return d->hidden;
}

int PF_T(cache_open)(const struct pf_model_config *c, uint32_t slots, uint32_t positions,
                     struct PF_T(cache) **out, struct pf_error *error)
{
	int code = pf_config_check(c, "cache", error);
	if (code != 0)
		return code;
	struct PF_T(cache) *cache = calloc(1, sizeof *cache);
	if (!cache)
		return pf_fail(error, -ENOMEM, "cache: out of memory");
	cache->slots = slots;
	cache->positions = positions;
	cache->layers = c->layers;
	cache->kv_heads = c->kv_heads;
	cache->head_dim = c->head_dim;
	const uint64_t heads = (uint64_t)c->layers * slots * c->kv_heads;
	const uint64_t each = (uint64_t)positions * c->head_dim * sizeof(REAL);
	uint64_t bytes;
	if (!__builtin_mul_overflow(heads, each, &bytes) && bytes <= SIZE_MAX) {
		cache->k = malloc(bytes > 0 ? bytes : 1);
		cache->v = malloc(bytes > 0 ? bytes : 1);
		cache->length = calloc(slots > 0 ? slots : 1, sizeof *cache->length);
	}
	if (!cache->k || !cache->v || !cache->length) {
		PF_T(cache_close)(cache);
		return pf_fail(error, -ENOMEM, "cache: out of memory for %u sequences of %u tokens",
		               slots, positions);
	}
	*out = cache;
	return 0;
}

void PF_T(cache_close)(struct PF_T(cache) *cache)
{
	if (!cache)
		return;
	free(cache->k);
	free(cache->v);
	free(cache->length);
	free(cache);
}

uint32_t PF_T(cache_length)(const struct PF_T(cache) *cache, uint32_t slot)
{
	return cache->length[slot];
}

void PF_T(cache_clear)(struct PF_T(cache) *cache, uint32_t slot)
{
	cache->length[slot] = 0;
}
