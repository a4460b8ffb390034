/* Elementary functions in double against MPFR: half of the stated bound, over ranges that the losses use and beyond. */
#include <math.h>
#include "prefpga/internal/kmath64.h"
#include "tests/cmocka.h"
#include "tests/mpfr_forms.h"
#include "tests/worst.h"

struct function {
	const char *name;
	double    (*ours)(double);
	int       (*mpfr)(mpfr_t, const mpfr_t, mpfr_rnd_t);
};

static int mpfr_log1mexp(mpfr_t y, const mpfr_t x, mpfr_rnd_t round)
{
	mpfr_expm1(y, x, round);
	mpfr_neg(y, y, round);
	if (mpfr_cmp_d(x, -1) > 0)
		return mpfr_log(y, y, round);
	mpfr_exp(y, x, round);
	mpfr_neg(y, y, round);
	return mpfr_log1p(y, y, round);
}

static const struct function functions[] = {
	{ "exp", pf_exp64, mpfr_exp }, { "expm1", pf_expm1_64, mpfr_expm1 }, { "log", pf_log64, mpfr_log },
	{ "log1p", pf_log1p64, mpfr_log1p }, { "sigmoid", pf_sigmoid64, mpfr_sigmoid },
	{ "softplus", pf_softplus64, mpfr_softplus }, { "log1mexp", pf_log1mexp64, mpfr_log1mexp },
};
enum { FUNCTIONS = sizeof functions / sizeof *functions };

struct worst { double error, at; };

/* Relative; a result below 2^-1022 may be 0 */
static void measure(const struct function *f, double x, mpfr_t a, mpfr_t y, struct worst *worst)
{
	mpfr_set_d(a, x, MPFR_RNDN);
	f->mpfr(y, a, MPFR_RNDN);
	double got = f->ours(x), error;
	if (mpfr_nan_p(y)) {
		error = isnan(got) ? 0 : INFINITY;
	} else if (mpfr_inf_p(y) || mpfr_cmp_d(y, 0x1.fffffffffffffp1023) > 0) {
		error = isinf(got) && (got > 0) == (mpfr_sgn(y) > 0) ? 0 : INFINITY;
	} else if (mpfr_cmpabs_ui(y, 0) == 0 || mpfr_get_exp(y) <= -1022) {
		error = fabs(got) <= 0x1p-1022 ? 0 : INFINITY;
	} else {
		mpfr_d_sub(a, got, y, MPFR_RNDN);
		mpfr_div(a, a, y, MPFR_RNDN);
		error = fabs(mpfr_get_d(a, MPFR_RNDN));
	}
	if (!(error <= worst->error))
		*worst = (struct worst){ worst_of(worst->error, error), x };
}

static double next_random(uint64_t *state)
{
	*state = *state * 6364136223846793005u + 1442695040888963407u;
	return (double)(*state >> 11) * 0x1p-53;
}

static void sweep(const struct function *f)
{
	struct worst worst = { 0, 0 };
	uint64_t state = 42;
	mpfr_t a, y;
	mpfr_init2(a, 160);
	mpfr_init2(y, 160);
	for (int i = 0; i < 40000; i++) {
		double t = next_random(&state), s = i & 1 ? t : -t;
		measure(f, 2 * s, a, y, &worst);
		measure(f, 60 * s, a, y, &worst);
		measure(f, 800 * s, a, y, &worst);
		measure(f, ldexp(s, -(int)(next_random(&state) * 1000)), a, y, &worst);
		measure(f, ldexp(s, (int)(next_random(&state) * 1000)), a, y, &worst);
		measure(f, 1 + ldexp(t - 0.5, -(int)(next_random(&state) * 50)), a, y, &worst);
		measure(f, (double)(i - 20000) * 0.34657359027997264 + ldexp(t - 0.5, -20), a, y, &worst);
	}
	mpfr_clears(a, y, (mpfr_ptr)0);
	print_message("%-8s 2^%.2f at %a\n", f->name, log2(worst.error), worst.at);
	assert_true(worst.error <= PF_F64_BOUND / 2);
}

static void sweeps(void **state)
{
	(void)state;
	for (int i = 0; i < FUNCTIONS; i++)
		sweep(&functions[i]);
}

struct special { double (*ours)(double); double x, y; };

static void specials(void **state)
{
	static const struct special cases[] = {
		{ pf_exp64, 0, 1 }, { pf_exp64, INFINITY, INFINITY }, { pf_exp64, -INFINITY, 0 },
		{ pf_exp64, NAN, NAN },
		{ pf_exp64, 709.79, INFINITY }, { pf_exp64, -708.5, 0 }, { pf_exp64, -1e300, 0 },
		{ pf_expm1_64, 0.0, 0.0 }, { pf_expm1_64, -0.0, -0.0 }, { pf_expm1_64, -INFINITY, -1 },
		{ pf_expm1_64, INFINITY, INFINITY }, { pf_expm1_64, NAN, NAN }, { pf_expm1_64, 0x1p-1060, 0 },
		{ pf_log64, 1, 0 }, { pf_log64, 0, -INFINITY }, { pf_log64, -0.0, -INFINITY },
		{ pf_log64, 0x1p-1060, -INFINITY },
		{ pf_log64, -1, NAN }, { pf_log64, INFINITY, INFINITY }, { pf_log64, NAN, NAN },
		{ pf_log64, -INFINITY, NAN },
		{ pf_log1p64, 0.0, 0.0 }, { pf_log1p64, -0.0, -0.0 }, { pf_log1p64, -1, -INFINITY },
		{ pf_log1p64, -1.5, NAN },
		{ pf_log1p64, INFINITY, INFINITY }, { pf_log1p64, NAN, NAN }, { pf_sigmoid64, 0, 0.5 },
		{ pf_sigmoid64, INFINITY, 1 }, { pf_sigmoid64, -INFINITY, 0 }, { pf_sigmoid64, NAN, NAN },
		{ pf_softplus64, INFINITY, INFINITY }, { pf_softplus64, -INFINITY, 0 }, { pf_softplus64, NAN, NAN },
		{ pf_log1mexp64, 0, -INFINITY }, { pf_log1mexp64, 1, NAN }, { pf_log1mexp64, -INFINITY, -0.0 },
		{ pf_log1mexp64, NAN, NAN },
	};
	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		double got = cases[i].ours(cases[i].x), want = cases[i].y;
		if (!(isnan(want) ? isnan(got) : pf_bits64(got) == pf_bits64(want)))
			fail_msg("case %zu: f(%a) is %a, not %a", i, cases[i].x, got, want);
	}
}

static void flushes(void **state)
{
	(void)state;
	assert_true(pf_flush64(0x1p-1022) == 0);
	assert_true(signbit(pf_flush64(-0x1p-1022)));
	assert_true(pf_flush64(0x1.0000000000001p-1022) == 0x1.0000000000001p-1022);
	assert_true(pf_flush64(-3.5) == -3.5);
	assert_true(isnan(pf_flush64(NAN)) && isinf(pf_flush64(INFINITY)));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sweeps), cmocka_unit_test(specials), cmocka_unit_test(flushes),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
