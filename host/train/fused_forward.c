/* Phase 1: hidden states to log-probs. */
#include "fused_inside.h"
#include <string.h>

/* ---- operations of a phase; the first failure shows in wait ---- */
void pf_fused_copy_in(struct pf_fused *f, struct pf_buf *buf, const void *from, uint64_t bytes)
{
	if (bytes)
		pf_copy_in(buf, 0, from, bytes, f->ins ? &f->in[f->ins - 1] : NULL, &f->in[f->ins]), f->ins++;
}

static void copy_out(struct pf_fused *f, struct pf_buf *buf, void *to, uint64_t bytes, const struct pf_ticket *after)
{
	if (bytes)
		pf_copy_out(buf, 0, to, bytes, after, &f->out[f->outs++]);
}

/* The cost model (cost.h) finds spilling faster on every card wherever it fits, which tests/cost.c holds it to */
static void choose_way(struct pf_fused *f, uint32_t tokens)
{
	const struct pf_fused_options *o = &f->options;
	const uint64_t room = o->memory_bytes ? o->memory_bytes : pf_device_facts(o->device)->memory_bytes / 2;
	const uint64_t bytes = PF_RAW_BEATS(tokens, o->vocab) * PF_BEAT_BYTES;
	int spill = pf_fused_may_return(f) && o->way != PF_WAY_RECOMPUTE && (o->way == PF_WAY_SPILL || bytes <= room);
	f->why = !pf_fused_may_return(f) ? "no way back is wanted" : o->way != PF_WAY_AUTO ? "as asked"
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
		{ &f->target, forward, PF_ARG_linear_logprob_target, pf_fused_strips_bytes(f, sizeof(int32_t)) },
		{ &f->row, forward, PF_ARG_linear_logprob_out, tokens * sizeof(struct pf_row) },
		{ &f->raw, forward, PF_ARG_linear_logprob_raw,
		  f->mode & PF_LINEAR_RAW ? PF_RAW_BEATS(tokens, f->options.vocab) * PF_BEAT_BYTES : 0 },
		{ &f->span, PF_KERNEL_seq_sum, PF_ARG_seq_sum_span, t->seqs * sizeof(struct pf_span) },
		{ &f->seq, PF_KERNEL_seq_sum, PF_ARG_seq_sum_out, t->seqs * sizeof(struct pf_seq) },
		{ &f->state, forward, PF_ARG_linear_logprob_shard,
		  f->to_state ? tokens * sizeof(struct pf_shard) : 0 },
		{ &f->coef, back, PF_ARG_linear_grad_coef, pf_fused_strips_bytes(f, sizeof(float)) },
		{ &f->filtered, back, PF_ARG_linear_grad_filtered,
		  f->options.filter > 0 ? pf_fused_strips_bytes(f, sizeof(struct pf_filtered)) : 0 },
	};
	const size_t count = sizeof want / sizeof *want - (pf_fused_may_return(f) ? 0 : 2);  /* the last are the way back's */
	int code = pf_fused_lay(f, &f->hidden, forward, PF_ARG_linear_logprob_hidden, (void *)t->hidden, matrix, error);
	for (size_t i = 0; !code && i < count; i++)
		code = pf_fused_grow(f, want[i].place, want[i].kernel, want[i].arg, want[i].bytes, error);
	return code
	       ? pf_fail_in(error, "chunk of %u tokens: give fewer with --chunk-tokens, or more with --card-memory",
	                    t->tokens),
	       code : 0;
}

struct pf_arg pf_fused_piece(struct pf_buf *buf, uint64_t offset)
{
	return (struct pf_arg){ .buf = buf, .offset = offset };
}

/* Scalars that both kernels have, rows .. temperature, from arg[0] on */
void pf_fused_put_scalars(const struct pf_fused *f, enum pf_precision precision, uint32_t rows, uint32_t mode,
                          struct pf_arg *arg)
{
	arg[0].val.u32 = rows;
	arg[1].val.u32 = pf_precision_depth(precision, f->options.dim);
	arg[2].val.u32 = f->options.vocab;
	arg[3].val.u32 = mode;
	arg[4].val.f32 = f->options.form.scale;
	arg[5].val.f32 = f->options.form.softcap;
	arg[6].val.f32 = f->options.form.temperature;
}

uint64_t pf_fused_raw_at(const struct pf_fused *f, uint32_t first)
{
	return f->mode & PF_LINEAR_RAW ? PF_RAW_BEATS(first, f->options.vocab) * PF_BEAT_BYTES : 0;
}

/* Bytes of the tiles before row `from` of the ports, of one block of tokens */
static uint64_t tiles_bytes(uint32_t from)
{
	return from / PF_TILE_ROWS * (PF_RAW_BEATS(1, PF_TOKENS) * PF_BEAT_BYTES);
}

static void run_forward(struct pf_fused *f, uint32_t first, const struct range *range, uint64_t target_at,
                        uint64_t state_at, const struct pf_ticket *after)
{
	const uint32_t left = f->tokens.tokens - first;
	const uint64_t row = pf_precision_row_bytes(f->precision, f->options.dim);
	const int whole = f->ranges == 1;
	struct pf_arg arg[PF_ARG_linear_logprob_COUNT] = { { 0 } };
	arg[PF_ARG_linear_logprob_hidden] = pf_fused_piece(f->hidden.buf, first * row);
	for (unsigned p = 0; p < PORTS; p++)
		arg[PF_ARG_linear_logprob_weight + p] = pf_fused_piece(f->now->port[p], range->from * row);
	arg[PF_ARG_linear_logprob_bias].buf = f->now->bias.buf;
	arg[PF_ARG_linear_logprob_target] = pf_fused_piece(whole ? f->target.buf : f->range_target.buf, target_at);
	arg[PF_ARG_linear_logprob_out] = pf_fused_piece(f->row.buf, first * sizeof(struct pf_row));
	arg[PF_ARG_linear_logprob_raw] = pf_fused_piece(
		f->raw.buf, pf_fused_raw_at(f, first) + (f->mode & PF_LINEAR_RAW ? tiles_bytes(range->from) : 0));
	arg[PF_ARG_linear_logprob_shard] = pf_fused_piece(whole ? f->state.buf : f->range_state.buf, state_at);
	pf_fused_put_scalars(f, f->precision, left < f->each ? left : f->each,
	                     f->mode | (f->to_state || !whole ? PF_LINEAR_SHARD : 0), &arg[PF_ARG_linear_logprob_rows]);
	arg[PF_ARG_linear_logprob_vocab].val.u32 = range->words;
	pf_run(f->options.device, pf_precision_forward_kernel(f->precision), arg, PF_ARG_linear_logprob_COUNT, after,
	       &f->run[f->runs++]);
}

static void run_strips(struct pf_fused *f)
{
	const struct pf_ticket *ready = f->ins ? &f->in[f->ins - 1] : NULL;
	const struct range all = { 0, PF_PORT_SHARE(f->options.vocab), f->options.vocab };
	const uint64_t target = pf_fused_strip_bytes(f, sizeof(int32_t));
	const uint64_t state = f->to_state || f->ranges > 1 ? pf_fused_strip_bytes(f, sizeof(struct pf_shard)) : 0;
	for (uint32_t first = 0; first < f->tokens.tokens; first += f->each)
		for (unsigned i = 0; i < f->ranges; i++) {
			const struct range range = f->ranges > 1 ? pf_fused_range(f, i) : all;
			const uint64_t piece = first / f->each * f->ranges + i;
			run_forward(f, first, &range, piece * target, piece * state, ready);
		}
}

/* The tokens' hidden states into `place`, in a precision */
int pf_fused_send_hidden(struct pf_fused *f, enum pf_precision precision, struct place *place, struct pf_error *error)
{
	const struct pf_fused_tokens *t = &f->tokens;
	const uint64_t row = pf_precision_row_bytes(precision, f->options.dim), bytes = t->tokens * row;
	void *to = f->host_visible ? pf_buf_map(place->buf) : NULL;
	int code = 0;
	if (pf_precision_as_is(precision, f->options.dim)) {
		pf_fused_copy_in(f, place->buf, t->hidden, bytes);
		return 0;
	}
	if (!to)
		code = pf_fused_grow_host(place, bytes, error);
	if (code)
		return code;
	pf_precision_pack(precision, t->hidden, t->tokens, f->options.dim, to ? to : place->host);
	if (!to)
		pf_fused_copy_in(f, place->buf, place->host, bytes);
	return 0;
}

static int begin_forward(struct pf_fused *f, const struct pf_fused_weight *weight,
                         const struct pf_fused_tokens *tokens, struct pf_shard *state, struct pf_error *error)
{
	int code = pf_fused_wait(f, error);
	f->tokens = *tokens;
	f->to_state = state;
	f->weight = *weight;
	pf_fused_set_precision(f, weight->precision);
	choose_way(f, tokens->tokens);
	pf_fused_choose_cut(f);
	if (tokens->flags & PF_WANT_STATS || f->options.form.entropy != 0)
		f->mode |= PF_LINEAR_STATS;
	if (!code)
		code = pf_fused_check_kernels(&f->options, weight->precision, pf_fused_may_return(f), error);
	if (!code)
		code = pf_fused_load(f, weight, f->precision, error);
	if (!code)
		code = make_room(f, tokens, error);
	if (!code && !f->visible)
		code = pf_fused_send_hidden(f, f->precision, &f->hidden, error);
	if (!code && (f->ranges == 1 || pf_fused_may_return(f)))
		code = pf_fused_send_numbers(f, &f->target, tokens->target, error);
	if (!code && f->ranges > 1)
		code = pf_fused_send_range_targets(f, error);
	if (code)
		return code;
	pf_fused_copy_in(f, f->span.buf, tokens->span, tokens->seqs * sizeof *tokens->span);
	run_strips(f);
	f->merge_pending = f->ranges > 1;
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
	pf_fused_copy_in(f, f->row.buf, row, f->tokens.tokens * sizeof *row);
	f->sum = sum;
	f->to_row = NULL;
	f->to_state = NULL;
	f->merge_pending = 0;
	f->forward_pending = 1;
	return 0;
}

/* What comes behind all pieces of a forward: sums over sequences, records */
int pf_fused_finish_forward(struct pf_fused *f, struct pf_error *error)
{
	const struct pf_fused_tokens *t = &f->tokens;
	int code = f->merge_pending && t->tokens ? pf_fused_merge_ranges(f, error) : 0;
	f->forward_pending = f->merge_pending = 0;
	for (uint32_t first = 0; !code && f->sum && t->tokens && first < t->seqs; first += PF_SEQS_MAX) {
		const uint32_t seqs = t->seqs - first < PF_SEQS_MAX ? t->seqs - first : PF_SEQS_MAX;
		const struct pf_arg arg[] = { { .buf = f->row.buf },
			                      pf_fused_piece(f->span.buf, first * sizeof(struct pf_span)),
			                      pf_fused_piece(f->seq.buf, first * sizeof(struct pf_seq)),
			                      { .val.u32 = t->tokens },
			                      { .val.u32 = seqs } };
		pf_run(f->options.device, PF_KERNEL_seq_sum, arg, PF_ARG_seq_sum_COUNT, NULL, &f->run[f->runs++]);
		code = pf_fused_settle(f, error);
	}
	if (code)
		return code;
	if (f->sum && t->tokens)
		copy_out(f, f->seq.buf, f->sum, t->seqs * sizeof *f->sum, NULL);
	if (f->to_state)
		copy_out(f, f->state.buf, f->to_state, t->tokens * sizeof *f->to_state, NULL);
	if (f->to_row)
		copy_out(f, f->row.buf, f->to_row, t->tokens * sizeof *f->to_row, NULL);
	return pf_fused_settle(f, error);
}
