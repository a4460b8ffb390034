/* decoder_attention.h: causal attention by blocks, forward and backward. Part of decoder_body.h. */

static size_t least(size_t a, size_t b)
{
	return a < b ? a : b;
}

/* Tokens of a block of queries */
static size_t query_tokens(const struct PF_T(decoder) *d)
{
	return larger(QUERY_ROWS / d->group, 1);
}

static REAL attention_scale(const struct PF_T(decoder) *d)
{
	return (REAL)(1.0 / sqrt(d->config.attention_scalar > 0 ? d->config.attention_scalar : d->config.head_dim));
}

/* Tokens that a token of the layer at work sees, itself included; 0: all */
static size_t layer_window(const struct PF_T(decoder) *d)
{
	const struct pf_model_config *c = &d->config;
	const unsigned every = c->window_every > 0 ? c->window_every : 1;
	return d->at >= c->window_from && (d->at - c->window_from) % every == 0 ? c->window : 0;
}

/* The first key of the first block of keys that a token at this place sees anything of */
static size_t first_key(const struct PF_T(decoder) *d, size_t place)
{
	const size_t window = layer_window(d);
	return window > 0 && place + 1 > window ? (place + 1 - window) / KEY_COLS * KEY_COLS : 0;
}

/* Scores as softmax wants them; slope: what their gradient is multiplied by, NULL on the way forth */
static void cap_scores(const struct PF_T(decoder) *d, const struct PF_T(scores) *s, REAL *slope)
{
	if (d->config.attention_cap > 0)
		d->rows->softcap(s->rows * s->cols, (REAL)d->config.attention_cap, s->s, slope);
}

/* Where the keys (or values) of one span and key/value head begin, of an array in head order or of
 * the cache */
static REAL *keys_of(const struct PF_T(decoder) *d, REAL *own, REAL *cached, const struct span *s,
                     size_t head)
{
	const size_t head_dim = d->config.head_dim, heads = d->config.kv_heads;
	if (!d->cache)
		return own + (head * d->tokens + s->begin) * head_dim;
	return cached + (((size_t)d->at * d->cache->slots + s->slot) * heads + head) *
	                        d->cache->positions * head_dim;
}

static REAL *cached_keys(const struct PF_T(decoder) *d)
{
	return d->cache ? d->cache->k : NULL;
}

static REAL *cached_values(const struct PF_T(decoder) *d)
{
	return d->cache ? d->cache->v : NULL;
}

/* Appends the batch's keys and values of one span and head to the cache */
static void stage_keep(struct PF_T(decoder) *d, size_t index, REAL *scratch)
{
	const struct activations *a = &d->acts[d->at];
	const struct span *s = &d->span[index / d->config.kv_heads];
	const size_t head = index % d->config.kv_heads, head_dim = d->config.head_dim;
	const size_t from = (head * d->tokens + s->begin) * head_dim,
	             bytes = s->length * head_dim * sizeof(REAL);
	(void)scratch;
	memcpy(keys_of(d, NULL, d->cache->k, s, head) + s->past * head_dim, a->k + from, bytes);
	memcpy(keys_of(d, NULL, d->cache->v, s, head) + s->past * head_dim, a->v + from, bytes);
}

/* One block of queries of one head against its keys, a block of keys at a time */
static void stage_attend(struct PF_T(decoder) *d, size_t index, REAL *scratch)
{
	const struct activations *a = &d->acts[d->at];
	/* the longest rows first */
	const struct block *b = &d->block[d->blocks - 1 - index / d->config.kv_heads];
	const struct span *s = &d->span[b->span];
	const size_t head = index % d->config.kv_heads, hd = d->config.head_dim,
	             rows = b->count * d->group;
	const size_t at = (head * d->tokens + s->begin + b->first) * d->group,
	             keys = s->past + b->first + b->count, begin = first_key(d, s->past + b->first);
	const REAL *k = keys_of(d, a->k, cached_keys(d), s, head),
	           *v = keys_of(d, a->v, cached_values(d), s, head);
	REAL *o = a->o + at * hd, *peak = a->peak + at, *sum = a->inverse + at;
	REAL *rescale = scratch, *scores = scratch + larger(QUERY_ROWS, d->group);

	for (size_t i = 0; i < rows; i++) {
		peak[i] = -(REAL)INFINITY;
		sum[i] = 0;
	}
	for (size_t j = begin; j < keys; j += KEY_COLS) {
		const size_t cols = least(KEY_COLS, keys - j);
		const ptrdiff_t first = (ptrdiff_t)(s->past + b->first) - (ptrdiff_t)j;
		const struct PF_T(scores) block = { rows, cols, d->group, first, scores, layer_window(d) };
		product(CblasNoTrans, CblasTrans, rows, cols, hd, attention_scale(d),
		        a->q + at * hd, hd, k + j * hd, hd, 0, scores, cols);
		cap_scores(d, &block, NULL);
		d->rows->softmax(&block, peak, sum, rescale);
		if (j > begin)
			d->rows->scale(rows, hd, rescale, o);
		product(CblasNoTrans, CblasNoTrans, rows, hd, cols, 1, scores, cols, v + j * hd, hd,
		        j > begin, o, hd);
	}
	for (size_t i = 0; i < rows; i++)
		sum[i] = 1 / sum[i];
	d->rows->scale(rows, hd, sum, o);
}

/* A block of queries against a block of keys of one head, on the way back */
struct pair {
	size_t at, rows;      /* of queries, in rows of head order */
	size_t keys_at, cols; /* of keys, in tokens of head order */
	ptrdiff_t first;
	int first_keys, first_queries; /* the first to touch dq, dk and dv */
};

static void attend_grad_pair(struct PF_T(decoder) *d, const struct pair *p, REAL *scratch)
{
	const struct activations *a = &d->acts[d->at];
	const struct gradients *g = &d->grad;
	const size_t hd = d->config.head_dim;
	const REAL *q = a->q + p->at * hd, *k = a->k + p->keys_at * hd, *v = a->v + p->keys_at * hd;
	const REAL *o_grad = g->o + p->at * hd, scale = attention_scale(d);
	REAL *weights = scratch, *ds = scratch + p->rows * p->cols, *slope = ds + p->rows * p->cols;
	const struct PF_T(scores) block = { p->rows, p->cols, d->group, p->first, weights, layer_window(d) };

	product(CblasNoTrans, CblasTrans, p->rows, p->cols, hd, scale, q, hd, k, hd, 0, weights,
	        p->cols);
	product(CblasNoTrans, CblasTrans, p->rows, p->cols, hd, 1, o_grad, hd, v, hd, 0, ds,
	        p->cols);
	cap_scores(d, &block, slope);
	d->rows->softmax_grad(&block, a->peak + p->at, a->inverse + p->at, g->delta + p->at, ds);
	if (d->config.attention_cap > 0)
		d->rows->multiply(p->rows * p->cols, slope, ds);
	product(CblasTrans, CblasNoTrans, p->cols, hd, p->rows, 1, weights, p->cols, o_grad, hd,
	        !p->first_queries, g->v + p->keys_at * hd, hd);
	product(CblasTrans, CblasNoTrans, p->cols, hd, p->rows, scale, ds, p->cols, q, hd,
	        !p->first_queries, g->k + p->keys_at * hd, hd);
	product(CblasNoTrans, CblasNoTrans, p->rows, hd, p->cols, scale, ds, p->cols, k, hd,
	        !p->first_keys, g->q + p->at * hd, hd);
}

/* All of one span and head, so that each gradient has one writer and one order */
static void attend_grad(struct PF_T(decoder) *d, size_t index, REAL *scratch)
{
	const struct span *s = &d->longest[index / d->config.kv_heads];
	const size_t begin = index % d->config.kv_heads * d->tokens + s->begin,
	             step = query_tokens(d);
	for (size_t j = 0; j < s->length; j += KEY_COLS) {
		const size_t start = j / step * step;
		for (size_t i = start; i < s->length && first_key(d, i) <= j; i += step) {
			struct pair pair = { .first_keys = j == first_key(d, i), .first_queries = i == start };
			pair.at = (begin + i) * d->group;
			pair.rows = least(step, s->length - i) * d->group;
			pair.keys_at = begin + j;
			pair.cols = least(KEY_COLS, s->length - j);
			pair.first = (ptrdiff_t)i - (ptrdiff_t)j;
			attend_grad_pair(d, &pair, scratch);
		}
	}
}
