/* decoder_open.h: making and freeing decoders and caches. Part of decoder_body.h. */

static size_t larger(size_t a, size_t b)
{
	return a > b ? a : b;
}

/* Widths of the norms and biases of a layer, and places of their gradients in a tile's row */
static void set_vectors(struct PF_T(decoder) *d)
{
	const struct pf_layer_layout *layer = &d->layout->layer[0];
	const size_t width[PF_PARTS] = {
		[PF_PART_NORM1] = d->dim, [PF_PART_NORM1_BIAS] = d->dim, [PF_PART_QKV_BIAS] = d->qkv_dim,
		[PF_PART_Q_NORM] = d->config.head_dim, [PF_PART_K_NORM] = d->config.head_dim, [PF_PART_OUT_BIAS] = d->dim,
		[PF_PART_POST1] = d->dim, [PF_PART_NORM2] = d->dim, [PF_PART_NORM2_BIAS] = d->dim,
		[PF_PART_UP_BIAS] = d->up_dim, [PF_PART_DOWN_BIAS] = d->dim, [PF_PART_POST2] = d->dim,
	};
	for (int part = 0; part < PF_PARTS; part++) {
		d->vector_at[part] = d->vector_width;
		d->vector_dim[part] = layer->part[part] == PF_ABSENT ? 0 : width[part];
		d->vector_width += d->vector_dim[part];
	}
}

static void set_activation(struct PF_T(decoder) *d)
{
	const struct PF_T(rows) *r = d->rows;
	d->act = d->config.mlp == PF_MLP_SILU_GATED ? r->glu : d->config.mlp == PF_MLP_GELU_GATED ? r->geglu : r->gelu;
	d->act_grad = d->config.mlp == PF_MLP_SILU_GATED   ? r->glu_grad
	              : d->config.mlp == PF_MLP_GELU_GATED ? r->geglu_grad
	                                                   : r->gelu_grad;
}

static size_t scratch_of(const struct PF_T(decoder) *d)
{
	const struct pf_model_config *c = &d->config;
	const size_t wide = larger(d->qkv_dim, d->q_dim + d->ffn) + (c->post_norms ? d->dim : 0) +
	                    (c->qk_norm ? 2 * d->qkv_dim : 0);
	const size_t tile = TILE_MOST * (d->dim + wide);
	const size_t scores = ((c->attention_cap > 0 ? 3 : 2) * KEY_COLS + 1) * larger(QUERY_ROWS, d->group);
	return (larger(tile, scores) + ALIGN_BYTES - 1) / ALIGN_BYTES * ALIGN_BYTES;
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
	d->up_dim = c->mlp == PF_MLP_GELU ? d->ffn : 2 * d->ffn;
	d->group = c->heads / c->kv_heads;
	d->q_dim = (size_t)c->heads * c->head_dim;
	d->kv_dim = (size_t)c->kv_heads * c->head_dim;
	d->qkv_dim = d->q_dim + 2 * d->kv_dim;
	set_vectors(d);
	set_activation(d);
	d->scratch_each = scratch_of(d);
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

/* Llama 3.1: wavelengths beyond the original context are stretched by the factor, short ones stay, those between are
 * interpolated. Source: apply_scaling of Meta's llama-models, models/llama3/reference_impl/model.py */
static double scaled_frequency(const struct pf_model_config *c, double frequency)
{
	const double turns = c->rope_original * frequency / (2 * 3.14159265358979323846);
	if (c->positions == PF_POSITION_ROPE_LINEAR)
		return frequency / c->rope_factor;
	if (c->positions != PF_POSITION_ROPE_LLAMA3 || turns > c->rope_high)
		return frequency;
	if (turns < c->rope_low)
		return frequency / c->rope_factor;
	const double smooth = (turns - c->rope_low) / (c->rope_high - c->rope_low);
	return (1 - smooth) * frequency / c->rope_factor + smooth * frequency;
}

/* With learned positions the heads are turned by nothing */
static void fill_rotations(struct PF_T(decoder) *d)
{
	const unsigned half = d->config.head_dim / 2;
	if (d->config.positions == PF_POSITION_LEARNED)
		return;
	for (uint32_t p = 0; p < d->max_length; p++)
		for (unsigned j = 0; j < half; j++) {
			const double angle =
				p * scaled_frequency(&d->config, pow(d->config.rope_theta, -(double)j / half));
			REAL *row = d->rotations + (size_t)p * 2 * half;
			row[j] = (REAL)cos(angle);
			row[half + j] = (REAL)sin(angle);
		}
}

static int count_all(struct PF_T(decoder) *d)
{
	struct carve count = { NULL, 0 };
	d->acts = calloc(d->config.layers + 1, sizeof *d->acts);
	if (!d->acts)
		return -ENOMEM;
	carve_all(d, &count);
	d->bytes = count.next;
	return 0;
}

static int alloc_all(struct PF_T(decoder) *d, struct pf_error *error)
{
	if (count_all(d) == 0)
		d->memory = aligned_alloc(ALIGN_BYTES, d->bytes);
	if (!d->memory)
		return pf_fail(
		        error, -ENOMEM,
		        "decoder: out of memory: %llu MiB for %u tokens; use smaller batches",
		        (unsigned long long)(d->bytes >> 20), d->max_tokens);
	struct carve place = { d->memory, 0 };
	carve_all(d, &place);
	return 0;
}

static void describe(struct PF_T(decoder) *d, const struct pf_model_config *config, const struct pf_layout *layout,
                     const struct pf_decoder_options *options)
{
	d->config = *config;
	d->layout = layout;
	d->rows = ROWS_BEST;
	set_sizes(d, options);
}

int PF_T(decoder_plan)(const struct pf_model_config *config, const struct pf_layout *layout,
                       const struct pf_decoder_options *options, uint64_t *bytes, struct pf_error *error)
{
	struct PF_T(decoder) d = { .layout = layout };
	int code = check_options(config, options, error);
	if (code != 0)
		return code;
	describe(&d, config, layout, options);
	code = count_all(&d);
	free(d.acts);
	*bytes = d.bytes;
	return code != 0 ? pf_fail(error, code, "decoder: out of memory") : 0;
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
	describe(d, config, layout, options);
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
	free(d->window);
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
