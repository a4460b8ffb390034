/* fp32 elementary functions against MPFR: dense sweeps, fixed random points, special values, bf16.
 * `kmath --all`: every fp32 argument, against libm's doubles, whose own error is 2^-28 of what is measured here. */
#include <math.h>
#include <string.h>
#include "prefpga/internal/kmath.h"
#include "tests/cmocka.h"
#include "tests/mpfr_forms.h"
#include "tests/worst.h"

struct function {
	const char *name;
	float     (*ours)(float);
	double    (*libm)(double);
	int       (*mpfr)(mpfr_t, const mpfr_t, mpfr_rnd_t);
	double      bound;             /* ULP */
};

static double libm_sigmoid(double x)
{
	return x < 0 ? exp(x) / (1 + exp(x)) : 1 / (1 + exp(-x));
}

static double libm_softplus(double x)
{
	return x > 0 ? x + log1p(exp(-x)) : log1p(exp(x));
}

static const struct function functions[] = {
	{ "exp", pf_exp, exp, mpfr_exp, PF_EXP_ULP },
	{ "expm1", pf_expm1, expm1, mpfr_expm1, PF_EXPM1_ULP },
	{ "log", pf_log, log, mpfr_log, PF_LOG_ULP },
	{ "log1p", pf_log1p, log1p, mpfr_log1p, PF_LOG1P_ULP },
	{ "sigmoid", pf_sigmoid, libm_sigmoid, mpfr_sigmoid, PF_SIGMOID_ULP },
	{ "softplus", pf_softplus, libm_softplus, mpfr_softplus, PF_SOFTPLUS_ULP },
};
enum { FUNCTIONS = sizeof functions / sizeof *functions };

/* Error in units of the last place of `want`, which is a normal fp32 number; 0 where a result may be 0 or infinite */
static double error_ulp(float got, long double want)
{
	int exponent;
	long double size = fabsl(want);
	if (size < 0x1p-126L)
		return got == 0 || fabsl(got - want) < 0x1p-149L ? 0 : INFINITY;
	if (size >= 0x1.ffffffp127L)
		return isinf(got) && (got > 0) == (want > 0) ? 0 : INFINITY;
	frexpl(size, &exponent);
	return (double)(fabsl((long double)got - want) / ldexpl(1, exponent - 24));
}

static int counts_as_zero(float x)
{
	return fabsf(x) < 0x1p-126f;
}

struct worst { double ulp; float at; };

static void measure(const struct function *f, float x, mpfr_t a, mpfr_t y, struct worst *worst)
{
	if (isnan(x))
		return;
	mpfr_set_flt(a, counts_as_zero(x) ? copysignf(0, x) : x, MPFR_RNDN);
	f->mpfr(y, a, MPFR_RNDN);
	long double want = mpfr_get_ld(y, MPFR_RNDN);
	float got = f->ours(x);
	double ulp = isnan(want) ? (isnan(got) ? 0 : INFINITY)
	             : isinf(want) ? (got == (float)want ? 0 : INFINITY) : error_ulp(got, want);
	if (!(ulp <= worst->ulp))
		*worst = (struct worst){ worst_of(worst->ulp, ulp), x };
}

static uint32_t next_random(uint64_t *state)
{
	*state = *state * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)(*state >> 32);
}

static void sweep(const struct function *f)
{
	struct worst worst = { 0, 0 };
	uint64_t state = 42;
	mpfr_t a, y;
	mpfr_init2(a, 24);
	mpfr_init2(y, 96);
	for (uint64_t u = 0; u < 1ull << 32; u += 30011)
		measure(f, pf_float((uint32_t)u), a, y, &worst);
	for (int i = 0; i < 60000; i++) {                      /* where the functions are steep, and near their zeros */
		float t = (float)next_random(&state) * 0x1p-32f;
		measure(f, 40 * t - 20, a, y, &worst);
		measure(f, 208 * t - 104, a, y, &worst);
		measure(f, ldexpf(i & 1 ? t : -t, -(int)(next_random(&state) % 30)), a, y, &worst);
		measure(f, 1 + ldexpf(t - 0.5f, -(int)(next_random(&state) % 24)), a, y, &worst);
	}
	mpfr_clears(a, y, (mpfr_ptr)0);
	print_message("%-8s %.4f ULP at %a, bound %.2f\n", f->name, worst.ulp, (double)worst.at, f->bound);
	assert_true(worst.ulp <= f->bound);
}

static void sweeps(void **state)
{
	(void)state;
	for (int i = 0; i < FUNCTIONS; i++)
		sweep(&functions[i]);
}

/* Every function over every argument */
static void exhaustive(void **state)
{
	(void)state;
	for (int i = 0; i < FUNCTIONS; i++) {
		const struct function *f = &functions[i];
		double worst = 0;
#pragma omp parallel for reduction(max : worst) schedule(dynamic, 1)
		for (int block = 0; block < 4096; block++)
			for (uint32_t j = 0; j < 1u << 20; j++) {
				float x = pf_float((uint32_t)block << 20 | j), got = f->ours(x);
				double want = f->libm(counts_as_zero(x) ? (double)copysignf(0, x) : (double)x);
				double ulp = isnan(want) || isinf(want)
				             ? (isnan(want) ? isnan(got) : got == (float)want) ? 0 : INFINITY
				             : error_ulp(got, want);
				worst = worst_of(worst, ulp);
			}
		print_message("%-8s %.4f ULP over all arguments, bound %.2f\n", f->name, worst, f->bound);
		assert_true(worst <= f->bound);
	}
}

struct special { float (*ours)(float); float x, y; };

static void specials(void **state)
{
	static const struct special cases[] = {
		{ pf_exp, 0, 1 }, { pf_exp, INFINITY, INFINITY }, { pf_exp, -INFINITY, 0 }, { pf_exp, -88, 0 },
		{ pf_exp, 89, INFINITY }, { pf_exp, 1e-40f, 1 }, { pf_exp, NAN, NAN }, { pf_exp, 1e38f, INFINITY },
		{ pf_expm1, 0.0f, 0.0f }, { pf_expm1, -0.0f, -0.0f }, { pf_expm1, -INFINITY, -1 },
		{ pf_expm1, -100, -1 },
		{ pf_expm1, INFINITY, INFINITY }, { pf_expm1, 1e-40f, 0 }, { pf_expm1, -1e-40f, -0.0f },
		{ pf_expm1, NAN, NAN },
		{ pf_log, 1, 0 }, { pf_log, 0, -INFINITY }, { pf_log, -0.0f, -INFINITY }, { pf_log, 1e-40f, -INFINITY },
		{ pf_log, -1e-40f, -INFINITY }, { pf_log, -1, NAN }, { pf_log, INFINITY, INFINITY },
		{ pf_log, -INFINITY, NAN },
		{ pf_log, NAN, NAN }, { pf_log1p, 0.0f, 0.0f }, { pf_log1p, -0.0f, -0.0f }, { pf_log1p, -1, -INFINITY },
		{ pf_log1p, -2, NAN }, { pf_log1p, INFINITY, INFINITY }, { pf_log1p, -INFINITY, NAN },
		{ pf_log1p, NAN, NAN },
		{ pf_sigmoid, 0, 0.5f }, { pf_sigmoid, INFINITY, 1 }, { pf_sigmoid, -INFINITY, 0 },
		{ pf_sigmoid, NAN, NAN },
		{ pf_softplus, INFINITY, INFINITY }, { pf_softplus, -INFINITY, 0 }, { pf_softplus, NAN, NAN },
		{ pf_softplus, 200, 200 }, { pf_softplus, -200, 0 },
	};
	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		float got = cases[i].ours(cases[i].x), want = cases[i].y;
		int same = isnan(want) ? isnan(got) : pf_bits(got) == pf_bits(want);
		if (!same)
			fail_msg("case %zu: f(%a) is %a, not %a", i, (double)cases[i].x, (double)got, (double)want);
	}
}

static void scales(void **state)
{
	(void)state;
	assert_true(pf_scale(1.5f, 127) == 0x1.8p127f);
	assert_true(isinf(pf_scale(-1.5f, 128)) && pf_scale(-1.5f, 128) < 0);
	assert_true(pf_scale(1.5f, -126) == 0x1.8p-126f);
	assert_int_equal(pf_bits(pf_scale(-1.5f, -127)), 0x80000000u);
	assert_int_equal(pf_bits(pf_scale(1e-40f, 10)), 0);
}

/* Nearest bf16, ties to even, by comparing with both neighbours */
static void bf16_rounds_to_nearest(void **state)
{
	uint64_t seed = 7;
	(void)state;
	for (uint32_t b = 0; b < 65536; b++)
		if (!isnan(pf_from_bf16((uint16_t)b)))
			assert_int_equal(pf_bf16(pf_from_bf16((uint16_t)b)), b);
	for (int i = 0; i < 1000000; i++) {
		uint32_t u = next_random(&seed) >> (i & 1) * 16 << (i & 1) * 16 | (i & 2 ? 0x8000u : 0);
		float x = pf_float(u);
		if (!isfinite(x) || fabsf(x) > 0x1.fep127f)
			continue;
		uint16_t down = (uint16_t)(u >> 16), up = (uint16_t)(down + 1), got = pf_bf16(x);
		double below = fabs((double)x - (double)pf_from_bf16(down)),
		       above = fabs((double)pf_from_bf16(up) - (double)x);
		uint16_t want = below < above ? down : above < below ? up : down & 1 ? up : down;
		assert_int_equal(got, want);
	}
	assert_true(isnan(pf_from_bf16(pf_bf16(pf_float(PF_F32_NAN)))));
	assert_true(isinf(pf_from_bf16(pf_bf16(INFINITY))));
	for (uint32_t low = 1; low < 1u << 23; low = 2 * low + 1) {
		assert_true(isnan(pf_from_bf16(pf_bf16_any(pf_float(PF_F32_INF | low)))));
		assert_true(isnan(pf_from_bf16(pf_bf16_any(pf_float(0xff800000u | low)))));
	}
	assert_int_equal(pf_bf16_any(1.0f), 0x3f80);
	assert_int_equal(pf_bf16_any(-INFINITY), 0xff80);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest quick[] = {
		cmocka_unit_test(sweeps), cmocka_unit_test(specials), cmocka_unit_test(scales),
		cmocka_unit_test(bf16_rounds_to_nearest),
	};
	const struct CMUnitTest all[] = { cmocka_unit_test(exhaustive) };
	if (argc > 1 && strcmp(argv[1], "--all") == 0)
		return cmocka_run_group_tests(all, NULL, NULL);
	return cmocka_run_group_tests(quick, NULL, NULL);
}
