/* decoder_layer.h: a layer beside attention, a tile of tokens at a time, forward and backward. Part
 * of decoder_body.h. A tile goes through everything between two attentions while it lies in the
 * cache. */

static struct tile tile_at(const struct PF_T(decoder) *d, size_t index)
{
	const size_t begin = index * d->tile;
	return (struct tile){ begin, least(d->tile, d->tokens - begin) };
}

static const struct pf_layer_layout *layer_at(const struct PF_T(decoder) *d)
{
	return &d->layout->layer[d->at];
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

static void rotate_out(struct PF_T(decoder) *d, struct tile t, size_t heads, const REAL *qkv,
                       REAL *to)
{
	struct PF_T(rotation) r = rotation(d, t, heads, 1);
	r.from = qkv;
	r.from_stride = d->qkv_dim;
	r.to = to;
	r.to_stride = heads * d->config.head_dim;
	d->rows->rotate(&r);
}

static void rotate_back(struct PF_T(decoder) *d, struct tile t, size_t heads, const REAL *from,
                        REAL *qkv)
{
	struct PF_T(rotation) r = rotation(d, t, heads, -1);
	r.from = from;
	r.from_stride = heads * d->config.head_dim;
	r.to = qkv;
	r.to_stride = d->qkv_dim;
	d->rows->rotate(&r);
}

static void embed(const struct PF_T(decoder) *d, struct tile t, REAL *x)
{
	for (size_t i = 0; i < t.rows; i++)
		memcpy(x + i * d->dim,
		       d->param + d->layout->embed + (size_t)d->ids[t.begin + i] * d->dim,
		       d->dim * sizeof *x);
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
	REAL *x = a->x + t.begin * d->dim, *normed = scratch, *qkv = scratch + t.rows * d->dim;
	if (d->at == 0)
		embed(d, t, x);
	d->rows->norm(t.rows, d->dim, x, d->param + layer_at(d)->norm1, (REAL)d->config.norm_eps,
	              normed, a->rstd1 + t.begin);
	product(CblasNoTrans, CblasTrans, t.rows, d->qkv_dim, d->dim, 1, normed, d->dim,
	        d->param + layer_at(d)->qkv, d->dim, 0, qkv, d->qkv_dim);
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

static void stage_mlp(struct PF_T(decoder) *d, size_t index, REAL *scratch)
{
	const struct tile t = tile_at(d, index);
	const struct pf_layer_layout *w = layer_at(d);
	const struct activations *a = &d->acts[d->at];
	const size_t at = t.begin * d->dim, bytes = t.rows * d->dim * sizeof(REAL);
	REAL *mid = a->mid + at, *x = d->acts[d->at + 1].x + at,
	     *gate_up = a->gate_up + t.begin * 2 * d->ffn;
	REAL *normed = scratch, *attended = normed + t.rows * d->dim,
	     *hidden = attended + t.rows * d->q_dim;

	to_tokens(d, t, a->o, attended);
	memcpy(mid, a->x + at, bytes);
	product(CblasNoTrans, CblasTrans, t.rows, d->dim, d->q_dim, 1, attended, d->q_dim,
	        d->param + w->out, d->q_dim, 1, mid, d->dim);
	d->rows->norm(t.rows, d->dim, mid, d->param + w->norm2, (REAL)d->config.norm_eps, normed,
	              a->rstd2 + t.begin);
	product(CblasNoTrans, CblasTrans, t.rows, 2 * d->ffn, d->dim, 1, normed, d->dim,
	        d->param + w->gate_up, d->dim, 0, gate_up, 2 * d->ffn);
	d->rows->glu(t.rows, d->ffn, gate_up, hidden);
	memcpy(x, mid, bytes);
	product(CblasNoTrans, CblasTrans, t.rows, d->dim, d->ffn, 1, hidden, d->ffn,
	        d->param + w->down, d->ffn, 1, x, d->dim);
}

static void stage_final(struct PF_T(decoder) *d, size_t index, REAL *scratch)
{
	const struct tile t = tile_at(d, index);
	const size_t at = t.begin * d->dim;
	(void)scratch;
	d->rows->norm(t.rows, d->dim, d->acts[d->config.layers].x + at, d->param + d->layout->norm,
	              (REAL)d->config.norm_eps, d->hidden + at, d->rstd + t.begin);
}

static void stage_final_grad(struct PF_T(decoder) *d, size_t index, REAL *scratch)
{
	const struct tile t = tile_at(d, index);
	const struct gradients *g = &d->grad;
	const size_t at = t.begin * d->dim;
	REAL *part = g->norm1 + index * d->dim;
	(void)scratch;
	memset(part, 0, d->dim * sizeof *part);
	memset(g->x + at, 0, t.rows * d->dim * sizeof(REAL));
	d->rows->norm_grad(t.rows, d->dim, d->acts[d->config.layers].x + at,
	                   d->param + d->layout->norm, d->rstd + t.begin, d->dhidden + at,
	                   g->x + at, part, g->normed + at);
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

/* From the gradient of the layer's output to those of mid and o, forming again what the weights'
 * gradients need */
static void stage_mlp_grad(struct PF_T(decoder) *d, size_t index, REAL *scratch)
{
	const struct tile t = tile_at(d, index);
	const struct pf_layer_layout *w = layer_at(d);
	const struct activations *a = &d->acts[d->at];
	const struct gradients *g = &d->grad;
	const size_t at = t.begin * d->dim, at_ffn = t.begin * d->ffn;
	REAL *dnormed = scratch, *dhidden = dnormed + t.rows * d->dim,
	     *dattended = dhidden + t.rows * d->ffn;
	REAL *part = g->norm2 + index * d->dim;

	product(CblasNoTrans, CblasNoTrans, t.rows, d->ffn, d->dim, 1, g->x + at, d->dim,
	        d->param + w->down, d->ffn, 0, dhidden, d->ffn);
	d->rows->glu_grad(t.rows, d->ffn, a->gate_up + 2 * at_ffn, dhidden, g->gate_up + 2 * at_ffn,
	                  g->hidden + at_ffn);
	product(CblasNoTrans, CblasNoTrans, t.rows, d->dim, 2 * d->ffn, 1, g->gate_up + 2 * at_ffn,
	        2 * d->ffn, d->param + w->gate_up, d->dim, 0, dnormed, d->dim);
	memset(part, 0, d->dim * sizeof *part);
	memcpy(g->mid + at, g->x + at, t.rows * d->dim * sizeof(REAL));
	d->rows->norm_grad(t.rows, d->dim, a->mid + at, d->param + w->norm2, a->rstd2 + t.begin,
	                   dnormed, g->mid + at, part, g->normed + at);
	product(CblasNoTrans, CblasNoTrans, t.rows, d->q_dim, d->dim, 1, g->mid + at, d->dim,
	        d->param + w->out, d->q_dim, 0, dattended, d->q_dim);
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
	REAL *qkv = g->qkv + t.begin * d->qkv_dim, *part = g->norm1 + index * d->dim;

	join_heads(d, t, qkv);
	product(CblasNoTrans, CblasNoTrans, t.rows, d->dim, d->qkv_dim, 1, qkv, d->qkv_dim,
	        d->param + layer_at(d)->qkv, d->dim, 0, scratch, d->dim);
	memset(part, 0, d->dim * sizeof *part);
	memcpy(g->x + at, g->mid + at, t.rows * d->dim * sizeof(REAL));
	d->rows->norm_grad(t.rows, d->dim, a->x + at, d->param + layer_at(d)->norm1,
	                   a->rstd1 + t.begin, scratch, g->x + at, part, g->normed + at);
}
