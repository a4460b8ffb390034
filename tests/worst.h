/* worst.h: the largest error so far, for tests that judge it once at the end. fmax and `a < b ? b : a` forget a NaN. */
#ifndef PF_TESTS_WORST_H
#define PF_TESTS_WORST_H
#include <math.h>

/* The larger one; a NaN, now or earlier, is INFINITY from then on */
static inline double worst_of(double worst, double error)
{
	return isnan(worst) || isnan(error) ? INFINITY : error > worst ? error : worst;
}
#endif
