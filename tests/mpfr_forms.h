/* mpfr_forms.h: functions that MPFR does not have, from those it has; rounded a few times, so the caller's precision
 * leaves room. */
#ifndef PF_TESTS_MPFR_FORMS_H
#define PF_TESTS_MPFR_FORMS_H
#include <mpfr.h>

/* 1 / (1 + exp(-x)) */
static inline int mpfr_sigmoid(mpfr_t y, const mpfr_t x, mpfr_rnd_t round)
{
	mpfr_neg(y, x, round);
	mpfr_exp(y, y, round);
	mpfr_add_ui(y, y, 1, round);
	return mpfr_ui_div(y, 1, y, round);
}

/* log(1 + exp(x)) */
static inline int mpfr_softplus(mpfr_t y, const mpfr_t x, mpfr_rnd_t round)
{
	mpfr_abs(y, x, round);
	mpfr_neg(y, y, round);
	mpfr_exp(y, y, round);
	mpfr_log1p(y, y, round);
	return mpfr_sgn(x) > 0 ? mpfr_add(y, y, x, round) : 0;
}
#endif
