/* decoder_weights.h: a layer's weights on their way into the window, and the gradient of an adapter on its way out of
 * it. Part of decoder_body.h.
 *
 * Bringing a layer costs a pass over its weights and, for an adapter, 2 rank operations a weight; next to the products
 * of a batch, with 2 operations a weight and token, that is little. The gradient of a target's whole matrix is formed
 * in a window of the same size and contracted at once, so it costs a layer's memory. */

enum { FILL_COUNT = 1 << 15, ADAPT_ROWS = 64 };

/* Elements [offset, offset + count) of the flat array, as they are computed with */
static void load_weights(const struct PF_T(decoder) *d, uint64_t offset, size_t count, REAL *to)
{
	const struct PF_T(weights) *w = &d->source;
	if (!w->half && !w->rounded) {
		memcpy(to, w->param + offset, count * sizeof *to);
		return;
	}
	for (size_t i = 0; i < count; i++)
		to[i] = pf_from_bf16(w->half ? w->half[offset + i] : pf_bf16_any((float)w->param[offset + i]));
}

static int is_windowed(const struct PF_T(weights) *w)
{
	return w->half || w->rounded || w->lora;
}

static size_t layer_size(const struct PF_T(decoder) *d, unsigned layer)
{
	return (size_t)(d->layout->layer[layer].end - d->layout->layer[layer].begin);
}

/* [window][gradient's window][final norm and its bias], all layers being of one size */
static int make_window(struct PF_T(decoder) *d, struct pf_error *error)
{
	const uint64_t count = 2 * (uint64_t)layer_size(d, 0) + 2 * d->dim;
	if (d->window || !is_windowed(&d->source))
		return 0;
	d->window = calloc(count, sizeof *d->window);
	if (!d->window)
		return pf_fail(error, -ENOMEM, "decoder: out of memory: %llu MiB for a layer's weights",
		               (unsigned long long)(count * sizeof *d->window >> 20));
	d->bytes += count * sizeof *d->window;
	return 0;
}

/* What lies outside of layers and is needed throughout: the final norm */
static void load_ends(struct PF_T(decoder) *d)
{
	if (!is_windowed(&d->source)) {
		d->norm_weight = d->param + d->layout->norm;
		d->norm_bias = d->layout->norm_bias == PF_ABSENT ? NULL : d->param + d->layout->norm_bias;
		return;
	}
	REAL *to = d->window + 2 * layer_size(d, 0);
	load_weights(d, d->layout->norm, d->dim, to);
	d->norm_weight = to;
	d->norm_bias = NULL;
	if (d->layout->norm_bias == PF_ABSENT)
		return;
	load_weights(d, d->layout->norm_bias, d->dim, to + d->dim);
	d->norm_bias = to + d->dim;
}

static void stage_fill(struct PF_T(decoder) *d, size_t index, REAL *scratch)
{
	const size_t at = index * FILL_COUNT, count = least(FILL_COUNT, layer_size(d, d->at) - at);
	(void)scratch;
	load_weights(d, d->layout->layer[d->at].begin + at, count, d->window + at);
}

/* ---- adapters ---- */

/* Targets [first, end) of the layer at work */
struct targets {
	const struct pf_lora_target *first;
	size_t count;
};

static struct targets layer_targets(const struct PF_T(decoder) *d)
{
	const struct pf_lora *l = d->source.lora;
	struct targets t = { NULL, 0 };
	for (unsigned i = 0; l && i < l->targets; i++)
		if (l->target[i].layer == d->at) {
			t.first = t.count++ ? t.first : &l->target[i];
		}
	return t;
}

static size_t row_blocks(const struct pf_lora_target *t)
{
	return (t->out + ADAPT_ROWS - 1) / ADAPT_ROWS;
}

static size_t adapt_pieces(const struct PF_T(decoder) *d)
{
	const struct targets t = layer_targets(d);
	size_t pieces = 0;
	for (size_t i = 0; i < t.count; i++)
		pieces += row_blocks(&t.first[i]);
	return pieces;
}

/* Some rows of a target: W += scale B A */
static void stage_adapt(struct PF_T(decoder) *d, size_t index, REAL *scratch)
{
	const struct pf_lora *l = d->source.lora;
	const struct pf_lora_target *t = layer_targets(d).first;
	(void)scratch;
	for (; index >= row_blocks(t); t++)
		index -= row_blocks(t);
	const size_t row = index * ADAPT_ROWS, rows = least(ADAPT_ROWS, t->out - row);
	REAL *to = d->window + (t->weight - d->layout->layer[d->at].begin) + row * t->in;
	product(CblasNoTrans, CblasNoTrans, rows, t->in, l->rank, (REAL)l->scale,
	        d->source.adapter + t->b + row * l->rank, l->rank, d->source.adapter + t->a, t->in, 1, to, t->in);
}

/* dB += scale dW A^T (even pieces), dA += scale B^T dW (odd ones) */
static void stage_adapt_grad(struct PF_T(decoder) *d, size_t index, REAL *scratch)
{
	const struct pf_lora *l = d->source.lora;
	const struct pf_lora_target *t = &layer_targets(d).first[index / 2];
	const REAL *dw = d->dweights + (t->weight - d->layout->layer[d->at].begin), *adapter = d->source.adapter;
	(void)scratch;
	if (index % 2 == 0)
		product(CblasNoTrans, CblasTrans, t->out, l->rank, t->in, (REAL)l->scale, dw, t->in, adapter + t->a,
		        t->in, 1, d->dparam + t->b, l->rank);
	else
		product(CblasTrans, CblasNoTrans, l->rank, t->in, t->out, (REAL)l->scale, adapter + t->b, l->rank, dw,
		        t->in, 1, d->dparam + t->a, t->in);
}

/* 1 if the gradient of that matrix is asked for */
static int is_trained(const struct PF_T(decoder) *d, enum pf_part part)
{
	const struct targets t = layer_targets(d);
	for (size_t i = 0; i < t.count; i++)
		if (t.first[i].part == part)
			return 1;
	return !d->source.lora;
}

/* ---- layers ---- */

/* Sets weights and dweights for the layer at work; back: its gradient is to be formed */
static void enter_layer(struct PF_T(decoder) *d, int back)
{
	const size_t size = layer_size(d, d->at);
	const uint64_t begin = d->layout->layer[d->at].begin;
	d->weights = is_windowed(&d->source) ? d->window : d->param + begin;
	d->dweights = !back ? NULL : d->source.lora ? d->window + size : d->dparam + begin;
	if (is_windowed(&d->source)) {
		run_stage(d, stage_fill, (size + FILL_COUNT - 1) / FILL_COUNT);
		run_stage(d, stage_adapt, adapt_pieces(d));
	}
	if (back && d->source.lora)
		memset(d->dweights, 0, size * sizeof *d->dweights);
}

static void leave_layer(struct PF_T(decoder) *d)
{
	if (d->source.lora)
		run_stage(d, stage_adapt_grad, 2 * layer_targets(d).count);
}
