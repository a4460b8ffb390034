/* precision.h: the forms in which the fused head's products take hidden states and W, and what each means for memory
 * and kernels.
 *
 *	fp32     as they are
 *	bf16     rounded to nearest even; sums in fp32, dhidden comes back as bf16, dW as fp32
 *	mxint8   forward: 8-bit integers with a power of two per 32 (host/model/mxint8.h); the way back is bf16's, from the
 *	         logits that the forward has left on the device
 * Gradients are those of what was computed, taken for the numbers before rounding. Thread-safe. */
#ifndef PF_TRAIN_PRECISION_H
#define PF_TRAIN_PRECISION_H
#include <stdint.h>

enum pf_precision { PF_PRECISION_FP32, PF_PRECISION_BF16, PF_PRECISION_MXINT8, PF_PRECISIONS };

const char *pf_precision_name(enum pf_precision precision);
int         pf_precision_find(const char *name);               /* -1: none */
enum pf_precision pf_precision_back(enum pf_precision precision);      /* of linear_grad */
int         pf_precision_forward_kernel(enum pf_precision precision);  /* enum pf_kernel */
int         pf_precision_backward_kernel(enum pf_precision precision);
const char *pf_precision_kernels(enum pf_precision precision);         /* their names, as pf_kernel_set takes them */
const char *pf_precision_forward_name(enum pf_precision precision);
const char *pf_precision_backward_name(enum pf_precision precision);
/* A row of `dim` numbers on a device: beats of its numbers, the kernels' scalar `depth`; numbers of these beats, 0
 * beyond `dim`; bytes of the row */
uint32_t    pf_precision_depth(enum pf_precision precision, uint32_t dim);
uint32_t    pf_precision_pitch(enum pf_precision precision, uint32_t dim);
uint64_t    pf_precision_row_bytes(enum pf_precision precision, uint32_t dim);
/* Rows on a device are the host's */
int         pf_precision_as_is(enum pf_precision precision, uint32_t dim);
/* from[rows, dim] to rows on a device. Returns `rows`, or for mxint8 the first row with what is not finite, which
 * becomes NaN, as the other forms keep it */
uint64_t    pf_precision_pack(enum pf_precision precision, const float *from, uint64_t rows, uint32_t dim, void *to);
/* Rows of fp32 or bf16 back */
void        pf_precision_unpack(enum pf_precision precision, const void *from, uint64_t rows, uint32_t dim, float *to);
#endif
