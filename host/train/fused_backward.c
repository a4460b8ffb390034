/* Phase 3: coefficients to gradients. */
#include "fused_inside.h"
#include <errno.h>
#include <stdlib.h>

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
	arg[PF_ARG_linear_grad_hidden] =
		pf_fused_piece(f->back == f->precision ? f->hidden.buf : f->hidden_back.buf, at);
	arg[PF_ARG_linear_grad_bias].buf = f->now->bias.buf;
	arg[PF_ARG_linear_grad_target] = pf_fused_piece(f->target.buf, pf_fused_strip_at(f, first, sizeof(int32_t)));
	arg[PF_ARG_linear_grad_coef] = pf_fused_piece(f->coef.buf, pf_fused_strip_at(f, first, sizeof(float)));
	arg[PF_ARG_linear_grad_row] = pf_fused_piece(f->row.buf, first * sizeof(struct pf_row));
	arg[PF_ARG_linear_grad_raw] = pf_fused_piece(f->raw.buf, pf_fused_raw_at(f, first));
	arg[PF_ARG_linear_grad_dhidden] = pf_fused_piece(f->dhidden.buf, at);
	for (unsigned p = 0; p < PORTS; p++) {
		arg[PF_ARG_linear_grad_weight + p].buf = f->now->port[p];
		arg[PF_ARG_linear_grad_dweight + p].buf = f->adopted[p] ? f->adopted[p] : f->dport[p].buf;
	}
	arg[PF_ARG_linear_grad_dbias].buf = f->dbias.buf;
	arg[PF_ARG_linear_grad_filtered] =
		pf_fused_piece(f->filtered.buf, f->options.filter > 0
		                                        ? pf_fused_strip_at(f, first, sizeof(struct pf_filtered)) : 0);
	arg[PF_ARG_linear_grad_filter].val.f32 = f->options.filter;
	pf_fused_put_scalars(f, f->back, rows, mode | (f->options.filter > 0 ? PF_LINEAR_FILTER : 0),
	                     &arg[PF_ARG_linear_grad_rows]);
	arg[PF_ARG_linear_grad_zloss].val.f32 = f->options.form.zloss;
	arg[PF_ARG_linear_grad_entropy].val.f32 = f->options.form.entropy;
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
	return code ? code : pf_fused_send_hidden(f, f->back, &f->hidden_back, error);
}

int pf_fused_backward(struct pf_fused *f, const float *coef, float *dhidden, float *dweight, float *dbias,
                      struct pf_error *error)
{
	const uint32_t tokens = f->tokens.tokens;
	const int stays = f->kept && f->now == f->kept && !dweight;
	const int shared = dweight || stays || f->options.bias;        /* sums that every piece adds to */
	int code = pf_fused_wait(f, error);
	if (!code && !pf_fused_may_return(f))
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
	if (!code && tokens)
		code = pf_fused_send_numbers(f, &f->coef, coef, error);
	if (code || tokens == 0)
		return code;
	const struct pf_ticket *ready = &f->in[f->ins - 1];
	const uint32_t each = f->each;
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

int pf_fused_bring_dhidden(struct pf_fused *f, float *to, struct pf_error *error)
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
