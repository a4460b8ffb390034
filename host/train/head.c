#include "head.h"
#include <errno.h>
#include <stdlib.h>
#include "head_fused.h"
#include "head_logits.h"

/* One of the two forms does it all */
struct pf_head {
	struct pf_head_fused  *fused;
	struct pf_head_logits *logits;
	struct pf_fused       *kept;           /* has the optimizer's state, or NULL */
};

int pf_head_open(const struct pf_head_options *o, struct pf_head **head, struct pf_error *error)
{
	*head = NULL;
	if (o->vocab == 0 || o->vocab > PF_VOCAB_MAX || o->dim == 0)
		return pf_fail(error, PF_E_RANGE, "vocabulary of %u: 1 to %u are possible", o->vocab, PF_VOCAB_MAX);
	struct pf_head *h = calloc(1, sizeof *h);
	if (!h)
		return pf_fail(error, -ENOMEM, "no memory for the head");
	int code = o->fused ? pf_head_fused_open(o, &h->fused, error) : pf_head_logits_open(o, &h->logits, error);
	if (code) {
		free(h);
		return code;
	}
	*head = h;
	return 0;
}

void pf_head_close(struct pf_head *h)
{
	if (!h)
		return;
	pf_head_fused_close(h->fused);
	pf_head_logits_close(h->logits);
	free(h);
}

int pf_head_forward(struct pf_head *h, const struct pf_head_input *input, struct pf_seq *sum, struct pf_row *row,
                    struct pf_error *error)
{
	return h->fused ? pf_head_fused_forward(h->fused, input, sum, row, error)
	                : pf_head_logits_forward(h->logits, input, sum, row, error);
}

int pf_head_backward(struct pf_head *h, const double *grad, float *dhidden, float *dweight, struct pf_error *error)
{
	return h->fused ? pf_head_fused_backward(h->fused, grad, dhidden, dweight, error)
	                : pf_head_logits_backward(h->logits, grad, dhidden, dweight, error);
}

int pf_head_keep(struct pf_head *h, const float *weight, uint64_t version, const float *m, const float *v,
                 struct pf_error *error)
{
	const struct pf_fused_weight w = { weight, NULL, version, PF_PRECISION_FP32 };
	struct pf_fused *only = h->fused ? pf_head_fused_only(h->fused) : NULL;
	h->kept = NULL;
	if (!only)
		return pf_fail(error, PF_E_UNSUPPORTED,
		               "the head's optimizer can be on a device that has the whole fused head: not with logits "
		               "that cross the link, several devices or --shards; give --head-optimizer host");
	int code = pf_fused_keep(only, &w, m, v, error);
	h->kept = code ? NULL : only;
	return code;
}

void pf_head_forget(struct pf_head *h, const float *weight, enum pf_precision precision)
{
	if (h->fused)
		pf_head_fused_forget(h->fused, weight, precision);
}

struct pf_fused *pf_head_kept(const struct pf_head *h)
{
	return h->kept;
}

struct pf_left_out pf_head_left_out(const struct pf_head *h)
{
	return h->fused ? pf_head_fused_left_out(h->fused) : (struct pf_left_out){ 0 };
}

unsigned pf_head_shards(const struct pf_head *h)
{
	return h->fused ? pf_head_fused_shards(h->fused) : 1;
}
