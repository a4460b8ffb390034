/* coefficient.h: what kernel coef makes of a gradient, for coefficients that the host spreads itself. */
#ifndef PF_TRAIN_COEFFICIENT_H
#define PF_TRAIN_COEFFICIENT_H
#include <math.h>

/* c = -grad in fp32, grad: dL/d(sum of logp); below 2^-126 zero */
static inline float pf_coefficient(double grad)
{
	return fabs(grad) < 0x1p-126 ? 0.0f : (float)-grad;
}
#endif
