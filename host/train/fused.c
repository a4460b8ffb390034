#include "fused_inside.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

static int check_kernels(const struct pf_fused_options *o, enum pf_precision precision, int backward,
                         struct pf_error *error)
{
	const int forward = pf_precision_forward_kernel(precision), back = pf_precision_backward_kernel(precision);
	const char *lacks = !pf_device_cus(o->device, forward)             ? pf_precision_forward_name(precision)
	                    : backward && !pf_device_cus(o->device, back) ? pf_precision_backward_name(precision)
	                                                                   : NULL;
	return !lacks ? 0
	              : pf_fail(error, PF_E_UNSUPPORTED,
	                        "%s has no kernel %s in its image, which the head in %s needs; load one that has it, "
	                        "take another precision, or give --head logits",
	                        pf_device_facts(o->device)->name, lacks, pf_precision_name(precision));
}

/* Whether a way back may follow the last forward */
static int may_return(const struct pf_fused *f)
{
	return f->options.backward && !f->tokens.forward_only;
}

/* What follows from the precision of the next forward */
static void set_precision(struct pf_fused *f, enum pf_precision precision)
{
	const uint32_t dim = f->options.dim;
	f->precision = precision;
	f->back = pf_precision_back(precision);
	f->visible = f->host_visible && pf_precision_as_is(precision, dim);
	f->dweight_visible = f->host_visible && pf_precision_pitch(f->back, dim) == dim;
}

int pf_fused_open(const struct pf_fused_options *options, struct pf_fused **fused, struct pf_error *error)
{
	const struct pf_fused_form *form = &options->form;
	*fused = NULL;
	if (options->vocab == 0 || options->vocab > PF_VOCAB_MAX)
		return pf_fail(error, PF_E_RANGE, "vocabulary of %u: 1 to %u are possible", options->vocab,
		               PF_VOCAB_MAX);
	if (options->dim == 0 || options->dim > PF_DEPTH_MAX * 16)
		return pf_fail(error, PF_E_RANGE, "hidden states of %u numbers: 1 to %u are possible", options->dim,
		               PF_DEPTH_MAX * 16);
	if (!(form->scale > 0 && form->softcap >= 0 && form->temperature > 0))
		return pf_fail(error, PF_E_RANGE,
		               "scale %g, softcap %g, temperature %g: scale and temperature must be above 0, "
		               "softcap above 0 or 0 for none",
		               (double)form->scale, (double)form->softcap, (double)form->temperature);
	if (!(options->filter >= 0 && options->filter < 1) ||
	    (options->filter > 0 && (form->zloss != 0 || form->entropy != 0)))
		return pf_fail(error, PF_E_RANGE,
		               "filter %g with z-loss %g and entropy bonus %g: a filter is below 1, and what it "
		               "leaves out is only bounded without these terms", (double)options->filter,
		               (double)form->zloss, (double)form->entropy);
	int code = check_kernels(options, options->precision, options->backward, error);
	if (code)
		return code;
	if (options->precision == PF_PRECISION_MXINT8 && options->backward && options->way == PF_WAY_RECOMPUTE)
		return pf_fail(error, PF_E_UNSUPPORTED,
		               "the way back of mxint8 reads the logits that the forward wrote; it cannot form them "
		               "once more: take --way spill or auto, or bf16");
	struct pf_fused *f = calloc(1, sizeof *f);
	if (!f)
		return pf_fail(error, -ENOMEM, "no memory for the head");
	f->options = *options;
	f->host_visible = pf_device_facts(options->device)->host_visible;
	set_precision(f, options->precision);
	*fused = f;
	return 0;
}

void pf_fused_close(struct pf_fused *f)
{
	if (!f)
		return;
	struct place *all[] = { &f->hidden, &f->hidden_back, &f->dhidden, &f->stage_w, &f->target, &f->coef, &f->row,
		                &f->span,   &f->seq,         &f->raw,     &f->dbias,   &f->state,  &f->filtered };
	pf_fused_wait(f, NULL);
	pf_fused_free_weights(f);
	for (size_t i = 0; i < sizeof all / sizeof *all; i++)
		pf_fused_drop(f, all[i]);
	free(f->left_out);
	free(f);
}

/* ---- operations of a phase; the first failure shows in wait ---- */
static void copy_in(struct pf_fused *f, struct pf_buf *buf, const void *from, uint64_t bytes)
{
	if (bytes)
		pf_copy_in(buf, 0, from, bytes, f->ins ? &f->in[f->ins - 1] : NULL, &f->in[f->ins]), f->ins++;
}

static void copy_out(struct pf_fused *f, struct pf_buf *buf, void *to, uint64_t bytes, const struct pf_ticket *after)
{
	if (bytes)
		pf_copy_out(buf, 0, to, bytes, after, &f->out[f->outs++]);
}

static int settle(struct pf_ticket *ticket, unsigned *count, int code, struct pf_error *error)
{
	for (unsigned i = 0; i < *count; i++) {
		int one = pf_wait(&ticket[i], code ? NULL : error);
		code = code ? code : one;
	}
	*count = 0;
	return code;
}

static int settle_all(struct pf_fused *f, struct pf_error *error)
{
	int code = settle(f->in, &f->ins, 0, error);
	code = settle(f->run, &f->runs, code, error);
	return settle(f->out, &f->outs, code, error);
}

/* ---- forward ---- */
/* The cost model (cost.h) finds spilling faster on every card wherever it fits, which tests/cost.c holds it to */
static void choose_way(struct pf_fused *f, uint32_t tokens)
{
	const struct pf_fused_options *o = &f->options;
	const uint64_t room = o->memory_bytes ? o->memory_bytes : pf_device_facts(o->device)->memory_bytes / 2;
	const uint64_t bytes = PF_RAW_BEATS(tokens, o->vocab) * PF_BEAT_BYTES;
	int spill = may_return(f) && o->way != PF_WAY_RECOMPUTE && (o->way == PF_WAY_SPILL || bytes <= room);
	f->why = !may_return(f) ? "no way back is wanted" : o->way != PF_WAY_AUTO ? "as asked"
	         : spill ? "the chunk's logits fit, and reading 4 V bytes a token costs less than 2 D V operations"
	                 : "the chunk's logits do not fit the device memory given";
	f->mode = (spill ? PF_LINEAR_RAW : 0) | (o->bias ? PF_LINEAR_BIAS : 0);
}

static int make_room(struct pf_fused *f, const struct pf_fused_tokens *t, struct pf_error *error)
{
	const int forward = pf_precision_forward_kernel(f->precision);
	const int back = pf_precision_backward_kernel(f->precision);
	const uint64_t tokens = t->tokens, matrix = tokens * pf_precision_row_bytes(f->precision, f->options.dim);
	const struct { struct place *place; int kernel; unsigned arg; uint64_t bytes; } want[] = {
		{ &f->target, forward, PF_ARG_linear_logprob_target, tokens * sizeof(int32_t) },
		{ &f->row, forward, PF_ARG_linear_logprob_out, tokens * sizeof(struct pf_row) },
		{ &f->raw, forward, PF_ARG_linear_logprob_raw,
		  f->mode & PF_LINEAR_RAW ? PF_RAW_BEATS(tokens, f->options.vocab) * PF_BEAT_BYTES : 0 },
		{ &f->span, PF_KERNEL_seq_sum, PF_ARG_seq_sum_span, t->seqs * sizeof(struct pf_span) },
		{ &f->seq, PF_KERNEL_seq_sum, PF_ARG_seq_sum_out, t->seqs * sizeof(struct pf_seq) },
		{ &f->state, forward, PF_ARG_linear_logprob_shard,
		  f->to_state ? tokens * sizeof(struct pf_shard) : 0 },
		{ &f->coef, back, PF_ARG_linear_grad_coef, tokens * sizeof(float) },
		{ &f->filtered, back, PF_ARG_linear_grad_filtered,
		  f->options.filter > 0 ? (tokens + 3) * sizeof(struct pf_filtered) : 0 },
	};
	const size_t count = sizeof want / sizeof *want - (may_return(f) ? 0 : 2);     /* the last two are the way back's */
	int code = pf_fused_lay(f, &f->hidden, forward, PF_ARG_linear_logprob_hidden, (void *)t->hidden, matrix, error);
	for (size_t i = 0; !code && i < count; i++)
		code = pf_fused_grow(f, want[i].place, want[i].kernel, want[i].arg, want[i].bytes, error);
	return code
	       ? pf_fail_in(error, "chunk of %u tokens: give fewer with --chunk-tokens, or more with --card-memory",
	                    t->tokens),
	       code : 0;
}

/* Tokens of a piece: all compute units get about as many */
static uint32_t piece_tokens(const struct pf_fused *f, int kernel)
{
	uint32_t cus = pf_device_cus(f->options.device, kernel);
	cus = cus < 1 ? 1 : cus > PIECES_MOST ? PIECES_MOST : cus;
	const uint32_t each = (f->tokens.tokens + cus - 1) / cus;
	return (each + PIECE - 1) / PIECE * PIECE;
}

static struct pf_arg piece_of(struct pf_buf *buf, uint64_t offset)
{
	return (struct pf_arg){ .buf = buf, .offset = offset };
}

static void put_float(struct pf_arg *arg, float value)
{
	arg->val.f32 = value;
}

/* Scalars that both kernels have, rows .. temperature, from arg[0] on */
static void put_scalars(const struct pf_fused *f, enum pf_precision precision, uint32_t rows, uint32_t mode,
                        struct pf_arg *arg)
{
	arg[0].val.u32 = rows;
	arg[1].val.u32 = pf_precision_depth(precision, f->options.dim);
	arg[2].val.u32 = f->options.vocab;
	arg[3].val.u32 = mode;
	put_float(&arg[4], f->options.form.scale);
	put_float(&arg[5], f->options.form.softcap);
	put_float(&arg[6], f->options.form.temperature);
}

static uint64_t raw_at(const struct pf_fused *f, uint32_t first)
{
	return f->mode & PF_LINEAR_RAW ? PF_RAW_BEATS(first, f->options.vocab) * PF_BEAT_BYTES : 0;
}

static void run_forward(struct pf_fused *f, uint32_t first, uint32_t rows, const struct pf_ticket *after)
{
	struct pf_arg arg[PF_ARG_linear_logprob_COUNT] = { { 0 } };
	arg[PF_ARG_linear_logprob_hidden] =
		piece_of(f->hidden.buf, first * pf_precision_row_bytes(f->precision, f->options.dim));
	for (unsigned p = 0; p < PORTS; p++)
		arg[PF_ARG_linear_logprob_weight + p].buf = f->now->port[p];
	arg[PF_ARG_linear_logprob_bias].buf = f->now->bias.buf;
	arg[PF_ARG_linear_logprob_target] = piece_of(f->target.buf, first * sizeof(int32_t));
	arg[PF_ARG_linear_logprob_out] = piece_of(f->row.buf, first * sizeof(struct pf_row));
	arg[PF_ARG_linear_logprob_raw] = piece_of(f->raw.buf, raw_at(f, first));
	arg[PF_ARG_linear_logprob_shard] = piece_of(f->state.buf, f->to_state ? first * sizeof(struct pf_shard) : 0);
	put_scalars(f, f->precision, rows, f->mode | (f->to_state ? PF_LINEAR_SHARD : 0),
	            &arg[PF_ARG_linear_logprob_rows]);
	pf_run(f->options.device, pf_precision_forward_kernel(f->precision), arg, PF_ARG_linear_logprob_COUNT, after,
	       &f->run[f->runs++]);
}

/* The tokens' hidden states into `place`, in a precision */
static int send_hidden(struct pf_fused *f, enum pf_precision precision, struct place *place, struct pf_error *error)
{
	const struct pf_fused_tokens *t = &f->tokens;
	const uint64_t row = pf_precision_row_bytes(precision, f->options.dim), bytes = t->tokens * row;
	void *to = f->host_visible ? pf_buf_map(place->buf) : NULL;
	int code = 0;
	if (pf_precision_as_is(precision, f->options.dim)) {
		copy_in(f, place->buf, t->hidden, bytes);
		return 0;
	}
	if (!to)
		code = pf_fused_grow_host(place, bytes, error);
	if (code)
		return code;
	pf_precision_pack(precision, t->hidden, t->tokens, f->options.dim, to ? to : place->host);
	if (!to)
		copy_in(f, place->buf, place->host, bytes);
	return 0;
}

static int begin_forward(struct pf_fused *f, const struct pf_fused_weight *weight,
                         const struct pf_fused_tokens *tokens, struct pf_shard *state, struct pf_error *error)
{
	int code = pf_fused_wait(f, error);
	f->tokens = *tokens;
	f->to_state = state;
	f->weight = *weight;
	set_precision(f, weight->precision);
	choose_way(f, tokens->tokens);
	if (tokens->flags & PF_WANT_STATS || f->options.form.entropy != 0)
		f->mode |= PF_LINEAR_STATS;
	if (!code)
		code = check_kernels(&f->options, weight->precision, may_return(f), error);
	if (!code)
		code = pf_fused_load(f, weight, f->precision, error);
	if (!code)
		code = make_room(f, tokens, error);
	if (!code && !f->visible)
		code = send_hidden(f, f->precision, &f->hidden, error);
	if (code)
		return code;
	copy_in(f, f->target.buf, tokens->target, tokens->tokens * sizeof *tokens->target);
	copy_in(f, f->span.buf, tokens->span, tokens->seqs * sizeof *tokens->span);
	const struct pf_ticket *ready = f->ins ? &f->in[f->ins - 1] : NULL;
	const uint32_t each = piece_tokens(f, pf_precision_forward_kernel(f->precision));
	for (uint32_t first = 0; first < tokens->tokens; first += each)
		run_forward(f, first, tokens->tokens - first < each ? tokens->tokens - first : each, ready);
	f->sum = NULL;
	f->to_row = NULL;
	f->forward_pending = 1;
	return 0;
}

int pf_fused_forward(struct pf_fused *f, const struct pf_fused_weight *weight, const struct pf_fused_tokens *tokens,
                     struct pf_seq *sum, struct pf_row *row, struct pf_error *error)
{
	int code = begin_forward(f, weight, tokens, NULL, error);
	f->sum = sum;
	f->to_row = row;
	return code;
}

int pf_fused_forward_shard(struct pf_fused *f, const struct pf_fused_weight *weight,
                           const struct pf_fused_tokens *tokens, struct pf_shard *state, struct pf_error *error)
{
	return begin_forward(f, weight, tokens, state, error);
}

int pf_fused_merged(struct pf_fused *f, const struct pf_row *row, struct pf_seq *sum, struct pf_error *error)
{
	int code = pf_fused_wait(f, error);
	if (code)
		return code;
	copy_in(f, f->row.buf, row, f->tokens.tokens * sizeof *row);
	f->sum = sum;
	f->to_row = NULL;
	f->to_state = NULL;
	f->forward_pending = 1;
	return 0;
}

/* What comes behind all pieces of a forward: sums over sequences, records */
static int finish_forward(struct pf_fused *f, struct pf_error *error)
{
	const struct pf_fused_tokens *t = &f->tokens;
	int code = 0;
	f->forward_pending = 0;
	for (uint32_t first = 0; !code && f->sum && t->tokens && first < t->seqs; first += PF_SEQS_MAX) {
		const uint32_t seqs = t->seqs - first < PF_SEQS_MAX ? t->seqs - first : PF_SEQS_MAX;
		const struct pf_arg arg[] = { { .buf = f->row.buf },
			                      piece_of(f->span.buf, first * sizeof(struct pf_span)),
			                      piece_of(f->seq.buf, first * sizeof(struct pf_seq)),
			                      { .val.u32 = t->tokens },
			                      { .val.u32 = seqs } };
		pf_run(f->options.device, PF_KERNEL_seq_sum, arg, PF_ARG_seq_sum_COUNT, NULL, &f->run[f->runs++]);
		code = settle_all(f, error);
	}
	if (code)
		return code;
	if (f->sum && t->tokens)
		copy_out(f, f->seq.buf, f->sum, t->seqs * sizeof *f->sum, NULL);
	if (f->to_state)
		copy_out(f, f->state.buf, f->to_state, t->tokens * sizeof *f->to_state, NULL);
	if (f->to_row)
		copy_out(f, f->row.buf, f->to_row, t->tokens * sizeof *f->to_row, NULL);
	return settle_all(f, error);
}

/* ---- backward ---- */

static int left_out_room(struct pf_fused *f, struct pf_error *error)
{
	if (!(f->options.filter > 0) || f->tokens.tokens <= f->left_out_room)
		return 0;
	free(f->left_out);
	f->left_out = calloc(f->tokens.tokens, sizeof *f->left_out);
	f->left_out_room = f->left_out ? f->tokens.tokens : 0;
	return f->left_out ? 0 : pf_fail(error, -ENOMEM, "no memory for what the filter leaves out");
}

static void run_backward(struct pf_fused *f, uint32_t first, uint32_t rows, uint32_t mode,
                         const struct pf_ticket *after)
{
	struct pf_arg arg[PF_ARG_linear_grad_COUNT] = { { 0 } };
	const uint64_t at = first * pf_precision_row_bytes(f->back, f->options.dim);
	arg[PF_ARG_linear_grad_hidden] = piece_of(f->back == f->precision ? f->hidden.buf : f->hidden_back.buf, at);
	arg[PF_ARG_linear_grad_bias].buf = f->now->bias.buf;
	arg[PF_ARG_linear_grad_target] = piece_of(f->target.buf, first * sizeof(int32_t));
	arg[PF_ARG_linear_grad_coef] = piece_of(f->coef.buf, first * sizeof(float));
	arg[PF_ARG_linear_grad_row] = piece_of(f->row.buf, first * sizeof(struct pf_row));
	arg[PF_ARG_linear_grad_raw] = piece_of(f->raw.buf, raw_at(f, first));
	arg[PF_ARG_linear_grad_dhidden] = piece_of(f->dhidden.buf, at);
	for (unsigned p = 0; p < PORTS; p++) {
		arg[PF_ARG_linear_grad_weight + p].buf = f->now->port[p];
		arg[PF_ARG_linear_grad_dweight + p].buf = f->adopted[p] ? f->adopted[p] : f->dport[p].buf;
	}
	arg[PF_ARG_linear_grad_dbias].buf = f->dbias.buf;
	arg[PF_ARG_linear_grad_filtered] =
		piece_of(f->filtered.buf, f->options.filter > 0 ? first * sizeof(struct pf_filtered) : 0);
	put_float(&arg[PF_ARG_linear_grad_filter], f->options.filter);
	put_scalars(f, f->back, rows, mode | (f->options.filter > 0 ? PF_LINEAR_FILTER : 0),
	            &arg[PF_ARG_linear_grad_rows]);
	put_float(&arg[PF_ARG_linear_grad_zloss], f->options.form.zloss);
	put_float(&arg[PF_ARG_linear_grad_entropy], f->options.form.entropy);
	pf_run(f->options.device, pf_precision_backward_kernel(f->precision), arg, PF_ARG_linear_grad_COUNT, after,
	       &f->run[f->runs++]);
}

/* Where the way back takes another form of W and of the hidden states than the forward did: brings them */
static int bring_back_forms(struct pf_fused *f, struct pf_error *error)
{
	const uint64_t row = pf_precision_row_bytes(f->back, f->options.dim);
	if (f->back == f->precision)
		return 0;
	if (!(f->mode & PF_LINEAR_RAW))
		return pf_fail(error, PF_E_MEMORY,
		               "chunk of %u tokens: its logits do not fit the device memory given, and the way back of "
		               "%s reads them: give fewer with --chunk-tokens, or more with --card-memory",
		               f->tokens.tokens, pf_precision_name(f->precision));
	int code = pf_fused_load(f, &f->weight, f->back, error);
	if (!code)
		code = pf_fused_grow(f, &f->hidden_back, pf_precision_backward_kernel(f->precision),
		                     PF_ARG_linear_grad_hidden, f->tokens.tokens * row, error);
	return code ? code : send_hidden(f, f->back, &f->hidden_back, error);
}

int pf_fused_backward(struct pf_fused *f, const float *coef, float *dhidden, float *dweight, float *dbias,
                      struct pf_error *error)
{
	const uint32_t tokens = f->tokens.tokens;
	const int stays = f->kept && f->now == f->kept && !dweight;
	const int shared = dweight || stays || f->options.bias;        /* sums that every piece adds to */
	int code = pf_fused_wait(f, error);
	if (!code && !may_return(f))
		code = pf_fail(error, PF_E_ARGUMENT, "the last forward said that no way back follows");
	if (!code)
		code = pf_fused_open_dweight(f, dweight, error);
	if (!code)
		code = pf_fused_lay(f, &f->dhidden, pf_precision_backward_kernel(f->precision),
		                    PF_ARG_linear_grad_dhidden, dhidden,
		                    tokens * pf_precision_row_bytes(f->back, f->options.dim), error);
	if (!code && tokens)
		code = bring_back_forms(f, error);
	if (!code)
		code = left_out_room(f, error);
	if (code || tokens == 0)
		return code;
	copy_in(f, f->coef.buf, coef, tokens * sizeof *coef);
	const struct pf_ticket *ready = &f->in[f->ins - 1];
	const uint32_t each = piece_tokens(f, pf_precision_backward_kernel(f->precision));
	for (uint32_t first = 0; first < tokens; first += each) {
		const int add = first > 0 || (dweight && f->dweight_visible) || (stays && f->summed);
		run_backward(f, first, tokens - first < each ? tokens - first : each,
		             f->mode | (dweight || stays ? PF_LINEAR_DWEIGHT : 0) | (add ? PF_LINEAR_ADD : 0), ready);
		ready = shared ? &f->run[f->runs - 1] : ready;
	}
	f->summed |= stays;
	f->filter_pending = f->options.filter > 0;
	f->dhidden_to = f->visible ? NULL : dhidden;
	f->sums = (struct sums){ f->dweight_visible ? NULL : dweight, f->options.bias ? dbias : NULL };
	return 0;
}

static int bring_dhidden(struct pf_fused *f, float *to, struct pf_error *error)
{
	const uint64_t row = pf_precision_row_bytes(f->back, f->options.dim), bytes = f->tokens.tokens * row;
	const void *from = f->host_visible ? pf_buf_map(f->dhidden.buf) : NULL;
	int code = 0;
	if (pf_precision_as_is(f->back, f->options.dim))
		return pf_fused_move(f->dhidden.buf, to, bytes, 0, error);
	if (!from)
		code = pf_fused_grow_host(&f->dhidden, bytes, error);
	if (!code && !from)
		code = pf_fused_move(f->dhidden.buf, f->dhidden.host, bytes, 0, error);
	if (!code)
		pf_precision_unpack(f->back, from ? from : f->dhidden.host, f->tokens.tokens, f->options.dim, to);
	return code;
}

int pf_fused_wait(struct pf_fused *f, struct pf_error *error)
{
	int code = settle_all(f, error);
	if (!code && f->forward_pending)
		code = finish_forward(f, error);
	if (!code && f->filter_pending)
		code = pf_fused_move(f->filtered.buf, f->left_out, f->tokens.tokens * sizeof *f->left_out, 0, error);
	if (!code && f->dhidden_to)
		code = bring_dhidden(f, f->dhidden_to, error);
	if (!code && f->sums.dweight)
		code = pf_fused_bring_dweight(f, f->sums.dweight, error);
	if (!code && f->sums.dbias) {
		code = pf_fused_move(f->dbias.buf, f->stage_w.host, f->options.vocab * sizeof(float), 0, error);
		if (!code)
			pf_fused_add_narrowed(f->stage_w.host, 1, f->sums.dbias, 1, f->options.vocab);
	}
	f->forward_pending = f->filter_pending = 0;
	f->dhidden_to = NULL;
	f->sums = (struct sums){ NULL, NULL };
	return code;
}

enum pf_way pf_fused_way(const struct pf_fused *f, const char **why)
{
	if (why)
		*why = f->why ? f->why : "nothing was computed yet";
	return f->mode & PF_LINEAR_RAW ? PF_WAY_SPILL : PF_WAY_RECOMPUTE;
}

void pf_left_out_add(struct pf_left_out *sum, const struct pf_left_out *more)
{
	sum->tokens += more->tokens;
	sum->mass += more->mass;
	sum->most = more->most > sum->most ? more->most : sum->most;
	sum->words += more->words;
	sum->saved += more->saved;
}

void pf_left_out_count(struct pf_left_out *sum, const struct pf_filtered *filtered, const int32_t *target,
                       uint32_t tokens)
{
	for (uint32_t t = 0; filtered && t < tokens; t++) {
		const double mass = (double)filtered[t].mass_q40 * 0x1p-40;
		const struct pf_left_out one = { 1, mass, mass, filtered[t].words, filtered[t].saved };
		if (target[t] >= 0)
			pf_left_out_add(sum, &one);
	}
}

const struct pf_filtered *pf_fused_filtered(const struct pf_fused *f)
{
	return f->left_out;
}

int pf_fused_in_place(const struct pf_fused *f)
{
	return f->dweight_visible;
}

uint64_t pf_fused_peak(const struct pf_fused *f)
{
	return f->peak;
}
