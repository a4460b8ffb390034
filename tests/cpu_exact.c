/* The promised accuracy at the largest vocabularies, against MPFR (113 bits): fp32 logits within +-50,
 * |logp error| <= 1e-6 + 1 ULP, |gradient error| <= 1e-6 |c|. Prints the largest errors. */
#include <math.h>
#include <mpfr.h>
#include <stdio.h>
#include <stdlib.h>
#include "tests/cmocka.h"
#include "tests/worst.h"
#include "tests/cpu_run.h"
#include "tests/ref/ref.h"

static const char *const specs[] = { "cpu:avx512", "cpu:avx2", "cpu:baseline", "sim" };
enum { SPECS = sizeof specs / sizeof *specs, KINDS = 4 };

struct oracle {
	float       *z;
	long double *p;                /* softmax */
	long double  logp, rest;
	int32_t      target;
};

static uint64_t state = 0x853c49e6748fea9bull;

static double uniform(void)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return (double)(state >> 11) * 0x1p-53;
}

static float draw(int kind, uint32_t v, uint32_t vocab)
{
	switch (kind) {
	case 0:  return (float)(100 * uniform() - 50);
	case 1:  return (float)(-50 + 100.0 * v / vocab);              /* ascending */
	case 2:  return v == vocab / 3 ? 50.0f : (float)(38 + uniform());      /* many small beside one large */
	default: return (float)(12.3 + 1e-5 * uniform());              /* all nearly equal */
	}
}

/* Exponentials, their sum, and what is left of it without the target */
static void solve(struct oracle *o, uint32_t vocab)
{
	mpfr_t e, sum, rest, max, target;
	mpfr_inits2(113, e, sum, rest, max, target, (mpfr_ptr)0);
	mpfr_set_d(max, 50, MPFR_RNDN);
	mpfr_set_zero(rest, 1);
	for (uint32_t v = 0; v < vocab; v++) {
		mpfr_set_flt(e, o->z[v], MPFR_RNDN);
		mpfr_sub(e, e, max, MPFR_RNDN);
		mpfr_exp(e, e, MPFR_RNDN);
		o->p[v] = mpfr_get_ld(e, MPFR_RNDN);
		if (v != (uint32_t)o->target)
			mpfr_add(rest, rest, e, MPFR_RNDN);
		else
			mpfr_set(target, e, MPFR_RNDN);
	}
	mpfr_add(sum, target, rest, MPFR_RNDN);
	for (uint32_t v = 0; v < vocab; v++)
		o->p[v] /= mpfr_get_ld(sum, MPFR_RNDN);
	mpfr_div(e, rest, sum, MPFR_RNDN);
	o->rest = mpfr_get_ld(e, MPFR_RNDN);
	mpfr_neg(e, e, MPFR_RNDN);
	mpfr_log1p(e, e, MPFR_RNDN);
	if (o->rest > 0.5L) {
		mpfr_div(e, target, sum, MPFR_RNDN);
		mpfr_log(e, e, MPFR_RNDN);
	}
	o->logp = mpfr_get_ld(e, MPFR_RNDN);
	mpfr_clears(e, sum, rest, max, target, (mpfr_ptr)0);
}

static struct oracle make_oracle(int kind, uint32_t vocab)
{
	struct oracle o = { .z = malloc(vocab * sizeof *o.z), .p = malloc(vocab * sizeof *o.p) };
	for (uint32_t v = 0; v < vocab; v++)
		o.z[v] = draw(kind, v, vocab);
	o.target = (int32_t)(kind == 0 ? uniform() * vocab : vocab / 3);
	solve(&o, vocab);
	return o;
}

static void check(const char *spec, const struct oracle *o, uint32_t vocab, int kind)
{
	const struct run_shape shape = run_shape_of(1, vocab, 0);
	struct pf_device *device = run_open(spec, 1);
	const float c = -0.75f;
	float *dz = malloc(run_bytes(&shape));
	struct pf_row row;
	double grad = 0, allowed = 1e-6 + ref_ulp32((double)o->logp);
	if (!device) {
		free(dz);
		return;
	}
	run_logprob(device, &shape, o->z, &o->target, 0, &row);
	run_logit_grad(device, &shape, o->z, &o->target, &c, &row, dz, 0);
	for (uint32_t v = 0; v < vocab; v++)
		grad = worst_of(grad, (double)fabsl(dz[v] - c * (v == (uint32_t)o->target ? -o->rest : o->p[v])));
	const double logp = (double)fabsl(row.logp - o->logp), q32 = (double)fabsl(ldexpl(row.logp_q32, -32) - o->logp);
	print_message("%-12s V %6u kind %d: logp %.2e (allowed %.2e), Q31.32 %.2e, gradient / c %.2e\n", spec, vocab,
	              kind, logp, allowed, q32, grad / fabs((double)c));
	assert_true(logp <= allowed && q32 <= 1e-6 && grad <= 1e-6 * fabs((double)c));
	free(dz);
	pf_device_close(device);
}

static void test_accuracy(void **unused)
{
	static const uint32_t vocabs[] = { 151936, 262144 };
	(void)unused;
	for (int i = 0; i < 2; i++)
		for (int kind = 0; kind < KINDS; kind++) {
			struct oracle o = make_oracle(kind, vocabs[i]);
			for (int k = 0; k < SPECS; k++)
				check(specs[k], &o, vocabs[i], kind);
			free(o.z);
			free(o.p);
		}
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_accuracy) };
	return cmocka_run_group_tests(tests, NULL, NULL);
}
