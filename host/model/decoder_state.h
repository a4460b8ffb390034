/* decoder_state.h: what a decoder holds, and where it lies. Part of decoder_body.h.
 *
 * Two orders of heads occur. Token order: [N, heads x head_dim], what matrix products see. Head
 * order: [kv_heads][N][group][head_dim], where a run of tokens of one key/value head is one matrix,
 * what attention sees.
 * Symbols: N tokens of the batch, D dim, F ffn, U 2 F with a gate and F without, Q heads x head_dim, G heads /
 * kv_heads.
 *
 * What only some models have (norms after attention and MLP, of queries and keys) has no memory in the others. */

/* How work is cut; measured with tests/bench/bench_body.c */
enum {
	QUERY_ROWS = 64,  /* rows (token, head of the group) of a block of queries, about */
	KEY_COLS = 128,   /* tokens of a block of keys */
	TILE_LEAST = 64,  /* tokens of a tile, */
	TILE_MOST = 256,
	TILE_UNIT = 32,   /* a multiple of this, */
	TILES_WANTED = 16 /* so that a batch has about so many */
};
enum { OUTER_ROWS = 256, OUTER_COLS = 512 }; /* of a tile of a weight's gradient */
enum { EMBED_COLS = 64, ALIGN_BYTES = 64 };
#define TOKENS_MOST (1u << 24)

struct activations {          /* of one layer */
	REAL *x;              /* [N, D] input */
	REAL *rstd1, *rstd2;  /* [N] */
	REAL *q, *o;          /* head order */
	REAL *k, *v;          /* head order, group 1 */
	REAL *peak, *inverse; /* [kv_heads][N][G] maximum of a softmax row, 1 / its sum */
	REAL *mid;            /* [N, D] after attention */
	REAL *gate_up;        /* [N, U] */
	REAL *qk, *rstd_qk;   /* [N, Q + kv_heads head_dim], [N, heads + kv_heads] before their norms */
	REAL *branch1, *rstd3; /* [N, D], [N] what attention adds, before its norm */
	REAL *branch2, *rstd4; /* of the MLP */
};

struct gradients {           /* of the layer at work */
	REAL *x, *mid;       /* [N, D] */
	REAL *hidden;        /* [N, F] formed again */
	REAL *gate_up;       /* [N, U] */
	REAL *normed;        /* [N, D] formed again */
	REAL *attended;      /* [N, Q] o in token order */
	REAL *o, *q, *k, *v; /* as in activations */
	REAL *delta;         /* [kv_heads][N][G] sum of o do */
	REAL *qkv;           /* [N, Q + 2 kv_heads head_dim] */
	REAL *branch1, *branch2; /* [N, D] of what attention and MLP add; mid and x without norms after them */
	REAL *vectors;       /* [tiles, vector_width] of the norms' and biases' gradients, a tile's part of each */
};

struct span { /* a sequence of the batch */
	uint32_t begin, length;
	uint32_t past, slot; /* tokens cached before, and where */
};
struct block { /* queries of a span */
	uint32_t span, first, count;
};
struct tile { /* tokens of the batch */
	size_t begin, rows;
};

struct PF_T(cache) {
	uint32_t slots, positions, layers, kv_heads, head_dim;
	REAL *k, *v;      /* [layers][slots][kv_heads][positions][head_dim] */
	uint32_t *length; /* [slots] */
};

struct PF_T(decoder) {
	struct pf_model_config config;
	const struct pf_layout *layout;
	const struct PF_T(rows) *rows;
	unsigned threads;
	int keeps;
	uint32_t max_tokens, max_length;
	size_t dim, ffn, up_dim, q_dim, kv_dim, qkv_dim, group;
	size_t vector_at[PF_PARTS], vector_dim[PF_PARTS], vector_width; /* of the parts that are vectors; dim 0: none */
	void (*act)(size_t rows, size_t ffn, const REAL *up, REAL *out);
	void (*act_grad)(size_t rows, size_t ffn, const REAL *up, const REAL *dout, REAL *dup, REAL *out);
	uint64_t bytes;
	void *memory;
	REAL *rotations;          /* [max_length, head_dim] cosines, then sines */
	struct activations *acts; /* [layers + 1], of the last only x */
	struct gradients grad;
	REAL *hidden, *rstd; /* [N, D], [N] of the final norm */
	REAL *window;        /* decoder_weights.h; NULL until weights need it */
	REAL *scratch;       /* [threads, scratch_each] */
	size_t scratch_each;
	uint32_t *position;          /* [N] */
	int32_t *ids;                /* [N] */
	struct span *span, *longest; /* in the order of the batch; by length, longest first */
	struct block *block;

	/* the batch at work */
	uint32_t tokens, spans, blocks, tile;
	struct PF_T(weights) source;
	const REAL *param, *dhidden;
	REAL *dparam;
	struct PF_T(cache) *cache; /* NULL in forward */
	unsigned at;               /* layer, */
	const REAL *weights;       /* its part of the flat array, */
	REAL *dweights;            /* and of the gradient's */
	const REAL *norm_weight, *norm_bias; /* of the final norm; no bias: NULL */
	int ready;                 /* a forward whose backward is outstanding */
};

/* Hands out pieces of one allocation; without a base it only counts */
struct carve {
	char *base;
	uint64_t next;
};

static void *carve_bytes(struct carve *c, uint64_t bytes)
{
	const uint64_t at = c->next;
	c->next += (bytes + ALIGN_BYTES - 1) / ALIGN_BYTES * ALIGN_BYTES;
	return c->base ? c->base + at : NULL;
}

static REAL *carve_reals(struct carve *c, uint64_t count)
{
	return carve_bytes(c, count * sizeof(REAL));
}

static void carve_activations(const struct PF_T(decoder) *d, struct carve *c, struct activations *a)
{
	const uint64_t n = d->max_tokens, heads = d->config.heads;
	a->rstd1 = carve_reals(c, n);
	a->rstd2 = carve_reals(c, n);
	a->q = carve_reals(c, n * d->q_dim);
	a->o = carve_reals(c, n * d->q_dim);
	a->k = carve_reals(c, n * d->kv_dim);
	a->v = carve_reals(c, n * d->kv_dim);
	a->peak = carve_reals(c, n * heads);
	a->inverse = carve_reals(c, n * heads);
	a->mid = carve_reals(c, n * d->dim);
	a->gate_up = carve_reals(c, n * d->up_dim);
	if (d->config.qk_norm) {
		a->qk = carve_reals(c, n * (d->q_dim + d->kv_dim));
		a->rstd_qk = carve_reals(c, n * (heads + d->config.kv_heads));
	}
	if (d->config.post_norms) {
		a->branch1 = carve_reals(c, n * d->dim);
		a->rstd3 = carve_reals(c, n);
		a->branch2 = carve_reals(c, n * d->dim);
		a->rstd4 = carve_reals(c, n);
	}
}

/* Forward only: all layers share one set, and the residual stream is one array */
static void carve_layers(struct PF_T(decoder) *d, struct carve *c)
{
	const uint64_t n = d->max_tokens;
	for (unsigned i = 0; i <= d->config.layers; i++) {
		if (i > 0 && !d->keeps) {
			d->acts[i] = d->acts[0];
			continue;
		}
		d->acts[i].x = carve_reals(c, n * d->dim);
		if (i < d->config.layers)
			carve_activations(d, c, &d->acts[i]);
	}
}

static void carve_gradients(struct PF_T(decoder) *d, struct carve *c)
{
	struct gradients *g = &d->grad;
	const uint64_t n = d->max_tokens, tiles = n / TILE_LEAST + 1;
	g->x = carve_reals(c, n * d->dim);
	g->mid = carve_reals(c, n * d->dim);
	g->hidden = carve_reals(c, n * d->ffn);
	g->gate_up = carve_reals(c, n * d->up_dim);
	g->normed = carve_reals(c, n * d->dim);
	g->attended = carve_reals(c, n * d->q_dim);
	g->o = carve_reals(c, n * d->q_dim);
	g->q = carve_reals(c, n * d->q_dim);
	g->k = carve_reals(c, n * d->kv_dim);
	g->v = carve_reals(c, n * d->kv_dim);
	g->delta = carve_reals(c, n * d->config.heads);
	g->qkv = carve_reals(c, n * d->qkv_dim);
	g->branch1 = d->config.post_norms ? carve_reals(c, n * d->dim) : g->mid;
	g->branch2 = d->config.post_norms ? carve_reals(c, n * d->dim) : g->x;
	g->vectors = carve_reals(c, tiles * d->vector_width);
}

static void carve_all(struct PF_T(decoder) *d, struct carve *c)
{
	const uint64_t n = d->max_tokens;
	carve_layers(d, c);
	d->hidden = carve_reals(c, n * d->dim);
	d->rstd = carve_reals(c, n);
	d->rotations = carve_reals(c, (uint64_t)d->max_length * d->config.head_dim);
	d->position = carve_bytes(c, n * sizeof *d->position);
	d->ids = carve_bytes(c, n * sizeof *d->ids);
	d->span = carve_bytes(c, n * sizeof *d->span);
	d->longest = carve_bytes(c, n * sizeof *d->longest);
	d->block = carve_bytes(c, n * sizeof *d->block);
	d->scratch = carve_reals(c, (uint64_t)d->threads * d->scratch_each);
	if (d->keeps)
		carve_gradients(d, c);
}
