/* prefpga.h: the library in one header: devices, log-probs and gradients of logits, losses, models, images, discovery.
 *
 * Link with -lprefpga (pkg-config prefpga, or CMake's prefpga::prefpga). Every header says what its functions take, who
 * owns what, and which threads may call. examples/ has small programs. */
#ifndef PREFPGA_PREFPGA_H
#define PREFPGA_PREFPGA_H
#include "device.h"
#include "discover.h"
#include "emulation.h"
#include "error.h"
#include "flat.h"
#include "image.h"
#include "loss.h"
#include "model.h"
#include "view.h"
#ifdef __cplusplus
extern "C" {
#endif

/* "0.1.0" */
PF_API const char *pf_version(void);

/* What to compute from logits z[T, V]. Outputs that are NULL are not wanted; all arrays are the caller's */
struct pf_logprob {
	struct pf_view logits;         /* T rows, V columns, stride V; PF_F32, PF_BF16 or PF_F16 */
	const int32_t *target;         /* [T] ids below V; negative: the row is not scored (-100 by custom) */
	const float   *coef;           /* [T] c of the gradient, finite; NULL: ones */
	float         *logp;           /* [T] log p(target), nats; 0 where not scored; NaN where a logit is NaN or +inf
	                                * or the row has no finite logit, -inf where the target's own logit is */
	float         *lse;            /* [T] log sum exp(z) */
	float         *entropy;        /* [T] nats */
	void          *grad;           /* [T, V] c (softmax - onehot), in the type of the logits; 0 where not scored */
};
/* Streams the rows through the device, three chunks in flight; memory does not grow with T. Errors name the argument or
 * the row. Source of the one-pass softmax: Milakov and Gimelshein 2018, with exact integer sums (internal/row_sum.h) */
PF_API int pf_logprob(struct pf_device *device, const struct pf_logprob *what, struct pf_error *error);
#ifdef __cplusplus
}
#endif
#endif
