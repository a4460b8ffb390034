/* linear.h: the plain reference of the fused head: linear_logprob and linear_grad in long double, O(T V D), one row
 * after the other. As ref.h: written from kernels.def's text, for tests only, thread-safe. */
#ifndef PF_TESTS_REF_LINEAR_H
#define PF_TESTS_REF_LINEAR_H
#include "ref.h"

struct ref_linear {
	const float   *hidden, *weight, *bias;             /* [T, D], [V, D], [V] or NULL */
	const int32_t *target;                             /* [T] */
	uint32_t       rows, depth, vocab;                 /* depth: D, elements */
	double         scale, softcap, temperature;        /* softcap 0: none */
	double         zloss, entropy;
};
/* Logits z[V] of one row, after scale, softcap and temperature. Returns the largest of
 * (sum |h w| + |bias|) |scale| / temperature over the finite ones: what roundings of the dot products are relative
 * to */
double ref_linear_logits(const struct ref_linear *l, uint32_t row, double *z);
/* Gradients of sum_t (-c_t logp_t + zloss lse_t^2 - entropy H_t) over the rows that count. dhidden[T, D] and dweight[V,
 * D], dbias[V] are overwritten; each *_size holds the same sums of absolute terms. Returns max over rows of what
 * ref_linear_logits returns */
struct ref_linear_grad { long double *dhidden, *dhidden_size, *dweight, *dweight_size, *dbias, *dbias_size; };
double ref_linear_grad(const struct ref_linear *l, const float *coef, const struct ref_linear_grad *out);
/* The value that ref_linear_grad differentiates */
long double ref_linear_value(const struct ref_linear *l, const float *coef);
/* The error rule, k = 4, u = 2^-24: what a logit may be off whose dot product has size `size`; and what a sum of dz
 * times something may, as a share of its sum of absolute terms: 4 u, the logits' errors, 16 u of exponential and
 * tanh */
double ref_linear_logit_error(double size);
double ref_linear_share(double size);
#endif
