/* score.h: log-probs and logit gradients of ready logits [T,V], streamed through a device in chunks of rows.
 *
 * Three chunks are in flight: one is copied in, one computed, one copied out. Device memory beyond what three chunks
 * need is not used, host memory beyond it neither, however many rows there are. On a device whose memory the host sees
 * nothing is copied but the rows themselves into place, and not even they where the kernels can read them as they lie:
 * rows of whole beats, aligned to 64 bytes, on a device that works in the caller's memory. float16, which no kernel
 * reads, is widened on the way in and rounded (to nearest even) on the way out. */
#ifndef PF_TRAIN_SCORE_H
#define PF_TRAIN_SCORE_H
#include "prefpga/device.h"
#include "prefpga/internal/abi.h"
#include "prefpga/view.h"

struct pf_score_input {
	const void    *logits;         /* [T,V], one row after the other */
	enum pf_dtype  type;           /* PF_F32, PF_BF16 or PF_F16; of the gradient too */
	uint64_t       rows;           /* T */
	uint32_t       vocab;          /* V */
	const int32_t *target;         /* [T], 0 <= id < V, or PF_IGNORE */
	int            want_grad;
	const float   *coef;           /* [T], finite; NULL: ones. Used with want_grad */
	uint32_t       flags;          /* enum pf_logprob_flags */
	void          *grad;           /* [T,V] where the gradient is wanted, the logits' own place included; NULL: in
	                                * the batches only */
	unsigned       threads;        /* of the host's copying and converting; 0: all processors */
};

/* Rows [first, first + rows), done */
struct pf_score_batch {
	uint64_t             first;
	uint32_t             rows;
	const struct pf_row *row;      /* [rows]; bad rows say so in their status */
	const void          *grad;     /* [rows,V] = c (softmax - onehot) in the logits' type; NULL without want_grad;
	                                * in input.grad already if it points there */
};
/* Gets the batches in order; its arrays are gone when it returns. Non-zero stops with that code */
typedef int (*pf_score_fn)(void *context, const struct pf_score_batch *batch, struct pf_error *error);

/* Errors name the row that is wrong. Without want_grad or coef the second has nothing to check */
int pf_score_check_targets(const struct pf_score_input *input, struct pf_error *error);
int pf_score_check_coef(const struct pf_score_input *input, struct pf_error *error);

/* Makes these checks, then streams. PF_E_MEMORY when three chunks of one row do not fit the device. One thread */
int pf_score(struct pf_device *device, const struct pf_score_input *input, pf_score_fn done, void *context,
             struct pf_error *error);
#endif
