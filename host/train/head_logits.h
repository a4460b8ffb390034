/* head_logits.h: the form of head.h whose logits cross the link. What head.h says of its functions holds for these.
 *
 * The host multiplies hidden[T,D] by weight[V,D] block by block, the device turns each block of logits into row
 * statistics and per-sequence sums (phase 1) and, once the preference loss has said dL/dlogp per sequence, into logit
 * gradients in place (phase 3), which the host multiplies back. Blocks overlap: while the device works on one, the host
 * multiplies the next. Blocks stay on the device between the phases when they fit its memory; otherwise phase 3 forms
 * them again, bit for bit. (stream.h's ring, for logits that pass through once, gives a slot back as soon as its batch
 * is out; here slots must outlive phase 2, so the head keeps its own.) */
#ifndef PF_TRAIN_HEAD_LOGITS_H
#define PF_TRAIN_HEAD_LOGITS_H
#include "head.h"

struct pf_head_logits;

int  pf_head_logits_open(const struct pf_head_options *options, struct pf_head_logits **head, struct pf_error *error);
void pf_head_logits_close(struct pf_head_logits *head);        /* NULL is allowed */
int  pf_head_logits_forward(struct pf_head_logits *head, const struct pf_head_input *input, struct pf_seq *sum,
                            struct pf_row *row, struct pf_error *error);
int  pf_head_logits_backward(struct pf_head_logits *head, const double *grad, float *dhidden, float *dweight,
                             struct pf_error *error);
#endif
