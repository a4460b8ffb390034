/* mxint8.h: rows of numbers to MXINT8, the OCP Microscaling v1.0 format of int8 with a power of two per 32.
 *
 * A row is whole beats of 64 elements, 0 beyond the numbers, then a byte of exponent (E8M0) for each 32, in whole beats
 * (kernels.def). The exponent is that of the block's largest magnitude; elements are its 64ths, to nearest even, and
 * saturate at +-127. A block that holds what is not finite is NaN as a whole (exponent 255); one whose numbers are all
 * below 2^-126 is 0. An element is off by at most 2^-7 of the block's power of two, 2^-6 where it saturates.
 * Thread-safe. */
#ifndef PF_MODEL_MXINT8_H
#define PF_MODEL_MXINT8_H
#include <stdint.h>

/* Bytes of a row of `cols` numbers */
uint64_t pf_mx_row_bytes(uint32_t cols);
/* [rows, cols] to rows of pf_mx_row_bytes. Returns the first row with a number that is not finite, or `rows` */
uint64_t pf_mx_pack(const float *from, uint64_t rows, uint32_t cols, void *to);
#endif
