#include "prefpga/prefpga.h"
#include <string.h>
#include "score.h"

const char *pf_version(void)
{
	return PREFPGA_VERSION;
}

static int take_batch(void *context, const struct pf_score_batch *batch, struct pf_error *error)
{
	const struct pf_logprob *what = context;
	const size_t row_bytes = what->logits.cols * pf_dtype_bytes(what->logits.type);
	(void)error;
	for (uint32_t i = 0; i < batch->rows; i++) {
		const struct pf_row *row = &batch->row[i];
		if (what->logp)
			what->logp[batch->first + i] = row->logp;
		if (what->lse)
			what->lse[batch->first + i] = row->max + row->log_sum;
		if (what->entropy)
			what->entropy[batch->first + i] = row->entropy;
	}
	if (batch->grad && batch->grad != (char *)what->grad + batch->first * row_bytes)
		memcpy((char *)what->grad + batch->first * row_bytes, batch->grad, batch->rows * row_bytes);
	return 0;
}

int pf_logprob(struct pf_device *device, const struct pf_logprob *what, struct pf_error *error)
{
	const struct pf_view *z = &what->logits;
	if (z->type != PF_F32 && z->type != PF_BF16 && z->type != PF_F16)
		return pf_fail(error, PF_E_TYPE, "logits must be PF_F32, PF_BF16 or PF_F16");
	if (z->stride != z->cols || z->cols == 0 || z->cols > PF_VOCAB_MAX)
		return pf_fail(error, PF_E_SHAPE,
		               "logits of %llu columns with stride %llu: rows must lie end to end, of 1 to %u "
		               "columns",
		               (unsigned long long)z->cols, (unsigned long long)z->stride, PF_VOCAB_MAX);
	const struct pf_score_input input = { .logits = z->base, .type = z->type, .rows = z->rows,
		.vocab = (uint32_t)z->cols, .target = what->target, .want_grad = what->grad != NULL, .coef = what->coef,
		.grad = what->grad, .flags = what->entropy ? PF_WANT_STATS : 0 };
	return pf_score(device, &input, take_batch, (void *)what, error);
}
