/* adamw.h: the plain reference of head_adamw and head_norm in long double, element by element, from kernels.def's text.
 * For tests only. */
#ifndef PF_TESTS_REF_ADAMW_H
#define PF_TESTS_REF_ADAMW_H
#include <stdint.h>

struct ref_adamw_factors { double beta1, beta2, rest1, rest2, grad, rate, root, epsilon, keep; };
struct ref_adamw { long double weight, moment1, moment2; };
/* One element's step; *off: what each result may be off by, k = 4 roundings of every term it is a sum of, and 2^-120
 * for what is flushed */
struct ref_adamw ref_adamw(const struct ref_adamw_factors *f, double weight, double moment1, double moment2,
                           double dweight, struct ref_adamw *off);
long double ref_square(const float *x, uint64_t count);
#endif
