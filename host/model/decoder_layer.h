/* decoder_layer.h: a layer beside attention, a tile of tokens at a time, forward and backward. Part
 * of decoder_body.h. A tile goes through everything between two attentions while it lies in the
 * cache. */

static struct tile tile_at(const struct PF_T(decoder) *d, size_t index)
{
	const size_t begin = index * d->tile;
	return (struct tile){ begin, least(d->tile, d->tokens - begin) };
}

/* Where a part of the layer at work lies, in its weights or gradients; NULL when the model has none */
static const REAL *part_at(const struct PF_T(decoder) *d, enum pf_part part)
{
	const struct pf_layer_layout *layer = &d->layout->layer[d->at];
	return layer->part[part] == PF_ABSENT ? NULL : d->weights + (layer->part[part] - layer->begin);
}

static REAL *part_grad(const struct PF_T(decoder) *d, enum pf_part part)
{
	const struct pf_layer_layout *layer = &d->layout->layer[d->at];
	return d->dweights + (layer->part[part] - layer->begin);
}

/* A tile's part of the gradient of a norm or bias, set to zero; NULL when the model has none */
static REAL *vector_grad(const struct PF_T(decoder) *d, size_t index, enum pf_part part)
{
	REAL *to = d->grad.vectors + index * d->vector_width + d->vector_at[part];
	if (d->vector_dim[part] == 0)
		return NULL;
	memset(to, 0, d->vector_dim[part] * sizeof *to);
	return to;
}

static struct PF_T(norm) norm_like(const struct PF_T(decoder) *d, size_t dim, const REAL *w, const REAL *b)
{
	const enum pf_norm_kind kind = d->config.norm;
	return (struct PF_T(norm)){ dim, w, b, (REAL)d->config.norm_eps, kind == PF_NORM_RMS_PLUS, kind == PF_NORM_LAYER };
}

/* The layer's norm of that part; its bias, if any, is the part that follows */
static struct PF_T(norm) norm_at(const struct PF_T(decoder) *d, enum pf_part part)
{
	const int centered = d->config.norm == PF_NORM_LAYER;
	return norm_like(d, d->vector_dim[part], part_at(d, part), centered ? part_at(d, part + 1) : NULL);
}

static struct PF_T(norm) final_norm(const struct PF_T(decoder) *d)
{
	return norm_like(d, d->dim, d->norm_weight, d->norm_bias);
}

/* y[rows, out] (+)= x[rows, in] w^T, and the bias */
static void linear(const struct PF_T(decoder) *d, enum pf_part part, size_t rows, size_t out, size_t in, const REAL *x,
                   int add, REAL *y)
{
	const REAL *bias = part_at(d, part + 1);
	product(CblasNoTrans, CblasTrans, rows, out, in, 1, x, in, part_at(d, part), in, add, y, out);
	if (bias)
		d->rows->add_row(rows, out, bias, y);
}

/* dx[rows, in] = dy[rows, out] w, and the bias's gradient */
static void linear_grad(const struct PF_T(decoder) *d, size_t index, enum pf_part part, size_t rows, size_t out,
                        size_t in, const REAL *dy, REAL *dx)
{
	REAL *bias = vector_grad(d, index, part + 1);
	product(CblasNoTrans, CblasNoTrans, rows, in, out, 1, dy, out, part_at(d, part), in, 0, dx, in);
	if (bias)
		d->rows->sum_rows(rows, out, dy, bias);
}

/* dx += the gradient of a norm over the tile, whose values are formed again in y */
static void norm_back(const struct PF_T(decoder) *d, size_t index, enum pf_part part, size_t rows, const REAL *x,
                      const REAL *rstd, const REAL *dy, REAL *dx, REAL *y)
{
	const struct PF_T(norm) n = norm_at(d, part);
	REAL *dw = vector_grad(d, index, part), *db = n.b ? vector_grad(d, index, part + 1) : NULL;
	d->rows->norm_grad(&n, rows, x, rstd, dy, dx, dw, db, y);
	if (n.b)
		d->rows->add_row(rows, n.dim, n.b, y);
}

/* Rows [tile] of `heads` heads between token order (stride between) and one key/value head of head
 * order */
static struct PF_T(rotation) rotation(const struct PF_T(decoder) *d, struct tile t, size_t heads,
                                      REAL sign)
{
	struct PF_T(rotation) r = { .rows = t.rows, .heads = heads, .sign = sign };
	r.half = d->config.head_dim / 2;
	r.position = d->position + t.begin;
	r.table = d->rotations;
	return r;
}

static void copy_rows(size_t rows, size_t dim, const REAL *from, size_t from_stride, REAL *to,
                      size_t to_stride)
{
	for (size_t i = 0; i < rows; i++)
		memcpy(to + i * to_stride, from + i * from_stride, dim * sizeof *to);
}

/* Element where head `head` of an array in head order holds the tile; group heads a token */
static size_t head_order(const struct PF_T(decoder) *d, struct tile t, size_t head, size_t group)
{
	return (head * d->tokens + t.begin) * group * d->config.head_dim;
}

static int turns(const struct PF_T(decoder) *d)
{
	return d->config.positions != PF_POSITION_LEARNED;
}

static void rotate_out(struct PF_T(decoder) *d, struct tile t, size_t heads, const REAL *qkv,
                       REAL *to)
{
	struct PF_T(rotation) r = rotation(d, t, heads, 1);
	r.from = qkv;
	r.from_stride = d->qkv_dim;
	r.to = to;
	r.to_stride = heads * d->config.head_dim;
	if (turns(d))
		d->rows->rotate(&r);
	else
		copy_rows(r.rows, r.to_stride, r.from, r.from_stride, r.to, r.to_stride);
}

static void rotate_back(struct PF_T(decoder) *d, struct tile t, size_t heads, const REAL *from,
                        REAL *qkv)
{
	struct PF_T(rotation) r = rotation(d, t, heads, -1);
	r.from = from;
	r.from_stride = heads * d->config.head_dim;
	r.to = qkv;
	r.to_stride = d->qkv_dim;
	if (turns(d))
		d->rows->rotate(&r);
	else
		copy_rows(r.rows, r.from_stride, r.from, r.from_stride, r.to, r.to_stride);
}

/* What an embedding is multiplied by; the framework rounds it to the type of the weights */
static REAL embedding_scale(const struct PF_T(decoder) *d)
{
	return d->config.scaled_embedding ? (REAL)sqrt((double)d->dim) : 1;
}

static void embed(const struct PF_T(decoder) *d, struct tile t, REAL *x, REAL *scratch)
{
	const REAL scale = embedding_scale(d);
	for (size_t i = 0; i < t.rows; i++) {
		REAL *row = x + i * d->dim;
		load_weights(d, d->layout->embed + (uint64_t)d->ids[t.begin + i] * d->dim, d->dim, row);
		if (scale != 1)
			d->rows->scale(1, d->dim, &scale, row);
		if (d->layout->position == PF_ABSENT)
			continue;
		load_weights(d, d->layout->position + (uint64_t)d->position[t.begin + i] * d->dim, d->dim, scratch);
		d->rows->add_row(1, d->dim, scratch, row);
	}
}

/* Queries and keys of a tile through their norms, in place; what they were is kept for the way back */
static void norm_heads(const struct PF_T(decoder) *d, struct tile t, REAL *qkv)
{
	const struct activations *a = &d->acts[d->at];
	const size_t heads = d->config.heads, kv_heads = d->config.kv_heads, width = d->q_dim + d->kv_dim;
	const struct PF_T(norm) q = norm_at(d, PF_PART_Q_NORM), k = norm_at(d, PF_PART_K_NORM);
	for (size_t i = 0; i < t.rows; i++, qkv += d->qkv_dim) {
		REAL *rstd = a->rstd_qk + (t.begin + i) * (heads + kv_heads);
		memcpy(a->qk + (t.begin + i) * width, qkv, width * sizeof *qkv);
		d->rows->norm(&q, heads, qkv, qkv, rstd);
		d->rows->norm(&k, kv_heads, qkv + d->q_dim, qkv + d->q_dim, rstd + heads);
	}
}

static void norm_heads_grad(const struct PF_T(decoder) *d, struct tile t, size_t index, REAL *qkv, REAL *scratch)
{
	const struct activations *a = &d->acts[d->at];
	const size_t heads = d->config.heads, kv_heads = d->config.kv_heads, width = d->q_dim + d->kv_dim;
	const struct PF_T(norm) q = norm_at(d, PF_PART_Q_NORM), k = norm_at(d, PF_PART_K_NORM);
	REAL *dq = vector_grad(d, index, PF_PART_Q_NORM), *dk = vector_grad(d, index, PF_PART_K_NORM);
	REAL *dy = scratch, *again = scratch + width;
	for (size_t i = 0; i < t.rows; i++, qkv += d->qkv_dim) {
		const REAL *x = a->qk + (t.begin + i) * width, *rstd = a->rstd_qk + (t.begin + i) * (heads + kv_heads);
		memcpy(dy, qkv, width * sizeof *dy);
		memset(qkv, 0, width * sizeof *qkv);
		d->rows->norm_grad(&q, heads, x, rstd, dy, qkv, dq, NULL, again);
		d->rows->norm_grad(&k, kv_heads, x + d->q_dim, rstd + heads, dy + d->q_dim, qkv + d->q_dim, dk, NULL,
		                   again);
	}
}

/* qkv[rows, Q + 2 KV] to the heads, rotated */
static void split_heads(struct PF_T(decoder) *d, struct tile t, const REAL *qkv)
{
	const struct activations *a = &d->acts[d->at];
	const size_t hd = d->config.head_dim;
	for (size_t j = 0; j < d->config.kv_heads; j++) {
		const size_t at = head_order(d, t, j, 1);
		const REAL *k = qkv + d->q_dim + j * hd, *v = k + d->kv_dim;
		rotate_out(d, t, d->group, qkv + j * d->group * hd,
		           a->q + head_order(d, t, j, d->group));
		rotate_out(d, t, 1, k, a->k + at);
		copy_rows(t.rows, hd, v, d->qkv_dim, a->v + at, hd);
	}
}

static void stage_qkv(struct PF_T(decoder) *d, size_t index, REAL *scratch)
{
	const struct tile t = tile_at(d, index);
	const struct activations *a = &d->acts[d->at];
	const struct PF_T(norm) before = norm_at(d, PF_PART_NORM1);
	REAL *x = a->x + t.begin * d->dim, *normed = scratch, *qkv = scratch + t.rows * d->dim;
	if (d->at == 0)
		embed(d, t, x, scratch);
	d->rows->norm(&before, t.rows, x, normed, a->rstd1 + t.begin);
	linear(d, PF_PART_QKV, t.rows, d->qkv_dim, d->dim, normed, 0, qkv);
	if (d->config.qk_norm)
		norm_heads(d, t, qkv);
	split_heads(d, t, qkv);
}

/* An array in head order, of `heads` heads a token and key/value head, to token order and back */
static void to_tokens(const struct PF_T(decoder) *d, struct tile t, const REAL *from, REAL *to)
{
	const size_t width = d->group * d->config.head_dim;
	for (size_t j = 0; j < d->config.kv_heads; j++)
		copy_rows(t.rows, width, from + head_order(d, t, j, d->group), width,
		          to + j * width, d->q_dim);
}

static void to_heads(const struct PF_T(decoder) *d, struct tile t, const REAL *from, REAL *to)
{
	const size_t width = d->group * d->config.head_dim;
	for (size_t j = 0; j < d->config.kv_heads; j++)
		copy_rows(t.rows, width, from + j * width, d->q_dim,
		          to + head_order(d, t, j, d->group), width);
}

/* The residual stream and what a branch adds: to = x + branch(y), through a norm if the model has one there */
static void add_branch(const struct PF_T(decoder) *d, struct tile t, enum pf_part weight, enum pf_part after,
                       const REAL *x, const REAL *y, size_t in, REAL *branch, REAL *rstd, REAL *to)
{
	const size_t at = t.begin * d->dim, count = t.rows * d->dim;
	if (!d->config.post_norms) {
		memcpy(to, x, count * sizeof *to);
		linear(d, weight, t.rows, d->dim, in, y, 1, to);
		return;
	}
	const struct PF_T(norm) n = norm_at(d, after);
	linear(d, weight, t.rows, d->dim, in, y, 0, branch + at);
	d->rows->norm(&n, t.rows, branch + at, to, rstd + t.begin);
	d->rows->add_row(1, count, x, to);
}

static void stage_mlp(struct PF_T(decoder) *d, size_t index, REAL *scratch)
{
	const struct tile t = tile_at(d, index);
	const struct activations *a = &d->acts[d->at];
	const struct PF_T(norm) before = norm_at(d, PF_PART_NORM2);
	const size_t at = t.begin * d->dim;
	REAL *mid = a->mid + at, *x = d->acts[d->at + 1].x + at, *gate_up = a->gate_up + t.begin * d->up_dim;
	REAL *normed = scratch, *attended = normed + t.rows * d->dim,
	     *hidden = attended + t.rows * d->q_dim;

	to_tokens(d, t, a->o, attended);
	add_branch(d, t, PF_PART_OUT, PF_PART_POST1, a->x + at, attended, d->q_dim, a->branch1, a->rstd3, mid);
	d->rows->norm(&before, t.rows, mid, normed, a->rstd2 + t.begin);
	linear(d, PF_PART_UP, t.rows, d->up_dim, d->dim, normed, 0, gate_up);
	d->act(t.rows, d->ffn, gate_up, hidden);
	add_branch(d, t, PF_PART_DOWN, PF_PART_POST2, mid, hidden, d->ffn, a->branch2, a->rstd4, x);
}

static void stage_final(struct PF_T(decoder) *d, size_t index, REAL *scratch)
{
	const struct tile t = tile_at(d, index);
	const struct PF_T(norm) n = final_norm(d);
	const size_t at = t.begin * d->dim;
	(void)scratch;
	d->rows->norm(&n, t.rows, d->acts[d->config.layers].x + at, d->hidden + at, d->rstd + t.begin);
}

/* Its vectors take the places of the first norm's */
static void stage_final_grad(struct PF_T(decoder) *d, size_t index, REAL *scratch)
{
	const struct tile t = tile_at(d, index);
	const struct gradients *g = &d->grad;
	const struct PF_T(norm) n = final_norm(d);
	const size_t at = t.begin * d->dim;
	REAL *dw = vector_grad(d, index, PF_PART_NORM1), *db = vector_grad(d, index, PF_PART_NORM1_BIAS);
	(void)scratch;
	memset(g->x + at, 0, t.rows * d->dim * sizeof(REAL));
	d->rows->norm_grad(&n, t.rows, d->acts[d->config.layers].x + at, d->rstd + t.begin, d->dhidden + at, g->x + at,
	                   dw, db, g->normed + at);
}

/* delta = sum of o do, for every row of head order */
static void form_delta(const struct PF_T(decoder) *d, struct tile t)
{
	const size_t hd = d->config.head_dim;
	for (size_t j = 0; j < d->config.kv_heads; j++) {
		const size_t at = head_order(d, t, j, d->group);
		d->rows->dots(t.rows * d->group, hd, d->acts[d->at].o + at, d->grad.o + at,
		              d->grad.delta + at / hd);
	}
}

/* From the gradient of the stream, dx, to that of what a branch added to it */
static void branch_back(const struct PF_T(decoder) *d, struct tile t, size_t index, enum pf_part after, const REAL *branch,
                        const REAL *rstd, const REAL *dx, REAL *dbranch, REAL *scratch)
{
	const size_t at = t.begin * d->dim;
	if (!d->config.post_norms)
		return;
	memset(dbranch + at, 0, t.rows * d->dim * sizeof *dbranch);
	norm_back(d, index, after, t.rows, branch + at, rstd + t.begin, dx + at, dbranch + at, scratch);
}

/* From the gradient of the layer's output to those of mid and o, forming again what the weights'
 * gradients need */
static void stage_mlp_grad(struct PF_T(decoder) *d, size_t index, REAL *scratch)
{
	const struct tile t = tile_at(d, index);
	const struct activations *a = &d->acts[d->at];
	const struct gradients *g = &d->grad;
	const size_t at = t.begin * d->dim, at_ffn = t.begin * d->ffn, at_up = t.begin * d->up_dim;
	REAL *dnormed = scratch, *dhidden = dnormed + t.rows * d->dim, *dattended = dhidden + t.rows * d->ffn,
	     *spare = dattended + t.rows * d->q_dim;

	branch_back(d, t, index, PF_PART_POST2, a->branch2, a->rstd4, g->x, g->branch2, spare);
	linear_grad(d, index, PF_PART_DOWN, t.rows, d->dim, d->ffn, g->branch2 + at, dhidden);
	d->act_grad(t.rows, d->ffn, a->gate_up + at_up, dhidden, g->gate_up + at_up, g->hidden + at_ffn);
	linear_grad(d, index, PF_PART_UP, t.rows, d->up_dim, d->dim, g->gate_up + at_up, dnormed);
	memcpy(g->mid + at, g->x + at, t.rows * d->dim * sizeof(REAL));
	norm_back(d, index, PF_PART_NORM2, t.rows, a->mid + at, a->rstd2 + t.begin, dnormed, g->mid + at,
	          g->normed + at);
	branch_back(d, t, index, PF_PART_POST1, a->branch1, a->rstd3, g->mid, g->branch1, spare);
	linear_grad(d, index, PF_PART_OUT, t.rows, d->dim, d->q_dim, g->branch1 + at, dattended);
	to_heads(d, t, dattended, g->o);
	to_tokens(d, t, a->o, g->attended + t.begin * d->q_dim);
	form_delta(d, t);
}

/* Gradients of the heads to qkv[rows, Q + 2 KV] in token order, rotated back */
static void join_heads(struct PF_T(decoder) *d, struct tile t, REAL *qkv)
{
	const struct gradients *g = &d->grad;
	const size_t hd = d->config.head_dim;
	for (size_t j = 0; j < d->config.kv_heads; j++) {
		const size_t at = head_order(d, t, j, 1);
		REAL *k = qkv + d->q_dim + j * hd, *v = k + d->kv_dim;
		rotate_back(d, t, d->group, g->q + head_order(d, t, j, d->group),
		            qkv + j * d->group * hd);
		rotate_back(d, t, 1, g->k + at, k);
		copy_rows(t.rows, hd, g->v + at, hd, v, d->qkv_dim);
	}
}

static void stage_qkv_grad(struct PF_T(decoder) *d, size_t index, REAL *scratch)
{
	const struct tile t = tile_at(d, index);
	const struct activations *a = &d->acts[d->at];
	const struct gradients *g = &d->grad;
	const size_t at = t.begin * d->dim;
	REAL *qkv = g->qkv + t.begin * d->qkv_dim;

	join_heads(d, t, qkv);
	if (d->config.qk_norm)
		norm_heads_grad(d, t, index, qkv, scratch + t.rows * d->dim);
	linear_grad(d, index, PF_PART_QKV, t.rows, d->qkv_dim, d->dim, qkv, scratch);
	memcpy(g->x + at, g->mid + at, t.rows * d->dim * sizeof(REAL));
	norm_back(d, index, PF_PART_NORM1, t.rows, a->x + at, a->rstd1 + t.begin, scratch, g->x + at, g->normed + at);
}
