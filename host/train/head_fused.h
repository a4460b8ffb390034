/* head_fused.h: the fused form of head.h: tokens in contiguous shares over the devices, each share one struct pf_fused.
 * What head.h says of its functions holds for these. Sums of dW are formed share by share, so their last bits depend on
 * the number of devices, and on nothing else about them. Or the devices share the vocabulary (shard.h), where that is
 * asked for or W does not fit one of them. */
#ifndef PF_TRAIN_HEAD_FUSED_H
#define PF_TRAIN_HEAD_FUSED_H
#include "head.h"

struct pf_head_fused;

int  pf_head_fused_open(const struct pf_head_options *options, struct pf_head_fused **head, struct pf_error *error);
void pf_head_fused_close(struct pf_head_fused *head);           /* NULL is allowed */
int  pf_head_fused_forward(struct pf_head_fused *head, const struct pf_head_input *input, struct pf_seq *sum,
                           struct pf_row *row, struct pf_error *error);
int  pf_head_fused_backward(struct pf_head_fused *head, const double *grad, float *dhidden, float *dweight,
                            struct pf_error *error);
void pf_head_fused_forget(struct pf_head_fused *head, const float *weight, enum pf_precision precision);
struct pf_left_out pf_head_fused_left_out(const struct pf_head_fused *head);
struct pf_fused *pf_head_fused_only(const struct pf_head_fused *head);        /* the one that does it all, or NULL */
unsigned pf_head_fused_shards(const struct pf_head_fused *head);
#endif
