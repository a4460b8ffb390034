#include "adamw.h"
#include <math.h>

#define U 0x1p-24L
#define LEAST 0x1p-120L

struct ref_adamw ref_adamw(const struct ref_adamw_factors *f, double weight, double moment1, double moment2,
                           double dweight, struct ref_adamw *off)
{
	const long double g = (long double)dweight * f->grad;
	const struct ref_adamw y = { 0, f->beta1 * (long double)moment1 + f->rest1 * g,
		                     f->beta2 * (long double)moment2 + f->rest2 * g * g };
	const long double below = sqrtl(y.moment2) * f->root + f->epsilon, step = f->rate * y.moment1 / below;
	struct ref_adamw out = y;
	out.weight = f->keep * (long double)weight - step;
	off->moment1 = 4 * U * (fabsl(f->beta1 * (long double)moment1) + fabsl(f->rest1 * g)) + LEAST;
	off->moment2 = 6 * U * (f->beta2 * (long double)moment2 + f->rest2 * g * g) + LEAST;
	/* the moments' own errors come through: that of m as it is, half of v's relative one */
	off->weight = 4 * U * (fabsl(f->keep * (long double)weight) + fabsl(step)) + f->rate * off->moment1 / below +
	              8 * U * fabsl(step) + LEAST / below;
	return out;
}

long double ref_square(const float *x, uint64_t count)
{
	long double sum = 0;
	for (uint64_t i = 0; i < count; i++)
		sum += (long double)x[i] * x[i];
	return sum;
}
