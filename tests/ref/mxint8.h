/* mxint8.h: the plain reference of MXINT8 rows, written from what OCP Microscaling Formats v1.0 says of INT8 blocks and
 * kernels.def of the layout. For tests only, thread-safe. */
#ifndef PF_TESTS_REF_MXINT8_H
#define PF_TESTS_REF_MXINT8_H
#include <stdint.h>

/* x[count] to a row of `beats` beats of elements (64 * beats >= count) and the beats of their exponents behind: the
 * shared exponent is that of the block's largest magnitude, elements go to nearest even and saturate at +-127; a block
 * that holds what is not finite is NaN as a whole, one below 2^-126 is 0 */
void ref_mx_pack(const float *x, uint32_t count, uint32_t beats, uint8_t *row);
/* x[64 * beats] of a row */
void ref_mx_unpack(const uint8_t *row, uint32_t beats, float *x);
/* Raw logits of two rows as kernels.def has them, to the bit, from plain integers and ldexp */
float ref_mx_dot(const uint8_t *a, const uint8_t *b, uint32_t beats);
#endif
