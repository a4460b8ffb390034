/* logprob called directly: errors against the reference.
 * What is promised: logp 1e-6 + 1 ULP; 1 - p, the sum, log_sum relative; statistics as named below. */
#include <math.h>
#include <mpfr.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "tests/cmocka.h"
#include "tests/kernels.h"
#include "tests/ref/ref.h"
#include "tests/seed.h"

/* Bounds: absolute, and relative where a number goes to 0 with certainty */
#define LOGP_BOUND      1e-6           /* beside 1 ULP */
/* Sum of exponentials, relative: over all logits a term is off by at most 1.08e-7 (|z| <= 1024) and 2.24e-7 (all: the
 * reduction's ln2 has 33 bits), 1 / sum is rounded by 2^-24. What counts lies near the largest logit */
#define SUM_BOUND(max)  (fabs((double)(max)) <= 1000 ? 2e-7 : 3e-7)
#define REST_BOUND      3e-7           /* 1 - p, relative, beside V 2^-48 */
/* Entropy, relative below 1, beside 1 ULP; proven, for the sum as above. H = log s + mean x with x = max - z.
 *	x of a term but the largest: two roundings of 2^-21 below 16 ln2, the product's 2^-24 of 16 ln2, 2^-23.4 cut off
 *	the integer, 7e-8 of ln2 and the reduction (2.5e-7 beyond 1000): 1.8e-6 (2.0e-6), a share 1 - p(max) of it
 *	weights off by e = 1.08e-7 (2.24e-7): e (1 + mean |x - mean x|), and that mean is below sqrt(varentropy) <= 6.4
 *	at V <= 2^18; near certainty 2 e (1 - p + mean x), and 1 - p <= 0.73 H
 * Measured: x 1.53e-6 (1.63e-6) over all logits; the worst rows found use 0.54 of it (entropy_at_its_worst) */
#define ENTROPY_BOUND(max) (fabs((double)(max)) <= 1000 ? 2.7e-6 : 3.8e-6)
#define MEAN_BOUND      0x1p-23        /* beside 1 ULP */
#define P2_BOUND        1e-6           /* log sum p^2, beside 1 ULP; relative below 1 */

enum { Q32, LOGP, SUM, REST, LOG_SUM, ENTROPY, MEAN, P2, MEASURES };
static const char *const names[MEASURES] = { "logp_q32", "logp", "sum", "1-p", "log_sum", "entropy", "mean", "log_p2" };
static double worst[MEASURES];         /* shares of the bounds */

static void note(int measure, double error, double bound, const char *kind, uint32_t vocab)
{
	if (!(error <= bound))
		fail_msg("%s: error %.3g, bound %.3g (%s, V = %u)", names[measure], error, bound, kind, vocab);
	worst[measure] = fmax(worst[measure], error / bound);
}

static double apart(double got, long double want)
{
	return isinf(want) && got == (double)want ? 0 : (double)fabsl(got - want);
}

static double certain(long double want)
{
	return fmin(1, (double)fabsl(want));
}

static void compare_target(const struct pf_row *got, const struct ref_row *want, const char *kind, uint32_t vocab)
{
	double ulp = ref_ulp32((double)want->logp);
	note(Q32, apart(ldexp((double)got->logp_q32, -32), want->logp), LOGP_BOUND, kind, vocab);
	note(LOGP, apart((double)got->logp, want->logp), LOGP_BOUND + ulp, kind, vocab);
	note(REST, apart((double)got->rest, want->rest), REST_BOUND * (double)want->rest + vocab * 0x1p-48, kind,
	     vocab);
	assert_true((double)got->target == (double)want->target);
}

static void compare_row(const struct pf_row *got, const struct ref_row *want, const char *kind, uint32_t vocab)
{
	long double sum = ldexpl(1 / (long double)got->inv, got->exp2), log_sum = want->log_sum;
	assert_int_equal(got->status, want->status);
	assert_true(got->inv > 0.5f && got->inv <= 1);
	assert_true((double)got->max == (double)want->max);
	note(SUM, apart((double)(sum / expl(want->max + log_sum)), 1), SUM_BOUND(want->max), kind, vocab);
	note(LOG_SUM, apart((double)got->log_sum, log_sum),
	     LOGP_BOUND * certain(log_sum) + ref_ulp32((double)log_sum) + vocab * 0x1p-48, kind, vocab);
	note(ENTROPY, apart((double)got->entropy, want->entropy),
	     ENTROPY_BOUND(want->max) * certain(want->entropy) + ref_ulp32((double)want->entropy) + vocab * 0x1p-40,
	     kind, vocab);
	note(MEAN, apart((double)got->mean, want->mean), MEAN_BOUND + ref_ulp32((double)want->mean), kind, vocab);
	note(P2, apart((double)got->log_sum_p2, want->log_sum_p2),
	     P2_BOUND * certain(want->log_sum_p2) + ref_ulp32((double)want->log_sum_p2) + vocab * 0x1p-44, kind, vocab);
	if (want->status == 0)
		compare_target(got, want, kind, vocab);
}

/* The reference's statistics again, exact also where they go to 0: without the largest logit, which counts 1 */
static void reference_row(const double *z, uint32_t vocab, int32_t target, struct ref_row *want)
{
	long double rest = 0, squares = 0, below = 0;
	ref_logprob(z, vocab, target, want);
	for (uint32_t v = 0; v < vocab; v++) {
		long double x = z[v] - want->max, e = v == want->argmax || z[v] <= -11000 ? 0 : expl(x);
		rest += e;
		squares += e * e;
		below -= e > 0 ? e * x : 0;
	}
	want->log_sum = log1pl(rest);
	want->entropy = want->log_sum + below / (1 + rest);
	want->log_sum_p2 = log1pl(squares) - 2 * want->log_sum;
}

/* ---- errors ---- */
static void measure_vocab(int bf16, uint32_t vocab, uint64_t *state)
{
	struct logits l;
	int32_t target[LOGITS_KINDS];
	struct pf_row row[LOGITS_KINDS];
	logits_make(&l, bf16, LOGITS_KINDS, vocab, vocab & 1);
	for (uint32_t kind = 0; kind < LOGITS_KINDS; kind++) {
		logits_fill(&l, kind, (enum logit_kind)kind, state);
		target[kind] = (int32_t)(random_bits(state) & 1 ? vocab / 2 : random_bits(state) % vocab);
	}
	run_logprob(&kernel_builds[2], &l, target, PF_WANT_STATS, row);
	for (uint32_t kind = 0; kind < LOGITS_KINDS; kind++) {
		struct ref_row want;
		reference_row(l.z + (size_t)kind * vocab, vocab, target[kind], &want);
		compare_row(&row[kind], &want, logit_kind_names[kind], vocab);
	}
	logits_free(&l);
}

static void errors_are_bounded(void **state)
{
	static const uint32_t vocabs[] = {
		1, 2, 3, 15, 16, 17, 31, 32, 33, 260, 1023, 1025, 4097, 50257, 151936, 262144
	};
	uint64_t seed = seed_of(1);
	(void)state;
	for (size_t i = 0; i < sizeof vocabs / sizeof *vocabs; i++)
		for (int repeat = 0; repeat < (vocabs[i] > 5000 ? 1 : 8); repeat++)
			for (int bf16 = 0; bf16 < 2; bf16++)
				measure_vocab(bf16, vocabs[i], &seed);
	for (int m = 0; m < MEASURES; m++)
		print_message("%-9s %.2f of the bound\n", names[m], worst[m]);
}

/* Two levels, the shape that lets weights and distances err most: one logit near `top`, the others so far below that
 * they weigh as much together; of the numbers there those whose e^z and x err most, told by rows of two and of one */
struct level { float z; double weight, distance; };

static float level_logit(double near, uint32_t i)
{
	return (float)near + (float)i * 1e-4f;
}

/* Errors of e^z, relative, and of x, seen in rows of two: [z, 0] off the fixed weight of 0, [z, z] off x = 0 */
static void measure_levels(double near, struct level *level, uint32_t count)
{
	struct logits l;
	int32_t target[2] = { 0, 0 };
	for (uint32_t i = 0; i < count; i++) {
		struct pf_row row[2];
		level[i].z = level_logit(near, i);
		logits_make(&l, 0, 2, 2, 0);
		for (uint32_t r = 0; r < 2; r++) {
			logits_set(&l, r, 0, level[i].z);
			logits_set(&l, r, 1, r ? level[i].z : 0);
		}
		run_logprob(&kernel_builds[2], &l, target, PF_WANT_STATS, row);
		const long double s = ldexpl(1 / (long double)row[0].inv, row[0].exp2);
		level[i].weight = (double)((s - 1) / expl((long double)level[i].z) - 1);
		level[i].distance = (double)row[1].entropy - 0.6931471805599453;
		logits_free(&l);
	}
}

static float worst_level(double near, double weight, double distance)
{
	enum { COUNT = 400 };
	struct level level[COUNT];
	uint32_t worst_at = 0;
	double most = -1;
	measure_levels(near, level, COUNT);
	for (uint32_t i = 0; i < COUNT; i++) {
		const double bad = weight * level[i].weight + distance * level[i].distance;
		if (bad > most) {
			most = bad;
			worst_at = i;
		}
	}
	return level[worst_at].z;
}

static void entropy_at_its_worst(void **state)
{
	static const uint32_t vocabs[] = { 2, 3, 17, 260, 4097, 50257, 151936, 262144 };
	static const double tops[] = { -0.92, 8.9, 20, 41.5 };
	static const int32_t target = 0;
	const double before = worst[ENTROPY];
	(void)state;
	worst[ENTROPY] = 0;
	for (size_t i = 0; i < sizeof vocabs / sizeof *vocabs; i++)
		for (size_t t = 0; t < 2 * sizeof tops / sizeof *tops; t++) {
			const uint32_t vocab = vocabs[i];
			const double far = log((double)vocab - 1) + 0.01, top = tops[t / 2];
			const int flat = vocab == 2 || t % 2;          /* all at one level, or two levels */
			const float low = worst_level(flat ? top : top - far, flat ? 0 : far / 2, 1);
			const float high = flat ? low : worst_level(top, -far / 2, 0);
			struct logits l;
			struct ref_row want;
			struct pf_row row;
			logits_make(&l, 0, 1, vocab, 0);
			for (uint32_t v = 0; v < vocab; v++)
				logits_set(&l, 0, v, v ? low : high);
			run_logprob(&kernel_builds[2], &l, &target, PF_WANT_STATS, &row);
			reference_row(l.z, vocab, target, &want);
			compare_row(&row, &want, flat ? "one bad level" : "two bad levels", vocab);
			logits_free(&l);
		}
	print_message("entropy at its worst: %.2f of the bound\n", worst[ENTROPY]);
	assert_true(worst[ENTROPY] > 0.4);             /* or the search has lost its aim */
	worst[ENTROPY] = fmax(before, worst[ENTROPY]);
}

/* The reference itself, at one long row, against 200 bits */
static void reference_is_right(void **state)
{
	enum { V = 151936 };
	uint64_t seed = seed_of(3);
	struct logits l;
	struct ref_row want;
	mpfr_t sum, e;
	(void)state;
	logits_make(&l, 0, 1, V, 0);
	logits_fill(&l, 0, LOGITS_WIDE, &seed);
	ref_logprob(l.z, V, 77, &want);
	mpfr_init2(sum, 200);
	mpfr_init2(e, 200);
	mpfr_set_zero(sum, 1);
	for (uint32_t v = 0; v < V; v++) {
		mpfr_set_d(e, l.z[v], MPFR_RNDN);
		mpfr_exp(e, e, MPFR_RNDN);
		mpfr_add(sum, sum, e, MPFR_RNDN);
	}
	mpfr_log(sum, sum, MPFR_RNDN);
	mpfr_d_sub(sum, l.z[77], sum, MPFR_RNDN);
	assert_true(fabsl(mpfr_get_ld(sum, MPFR_RNDN) - want.logp) < 1e-15L);
	mpfr_clears(sum, e, (mpfr_ptr)0);
	logits_free(&l);
}

/* More rows than are finished together, ignored ones between */
static void many_rows(void **state)
{
	enum { ROWS = 150 };
	struct logits l;
	int32_t target[ROWS];
	struct pf_row row[ROWS];
	uint64_t seed = seed_of(17);
	(void)state;
	logits_make(&l, 0, ROWS, 70, 3);
	for (uint32_t r = 0; r < ROWS; r++) {
		logits_fill(&l, r, (enum logit_kind)(r % LOGITS_KINDS), &seed);
		target[r] = r % 7 == 3 ? PF_IGNORE : (int32_t)(random_bits(&seed) % 70);
	}
	run_logprob(&kernel_builds[1], &l, target, PF_WANT_STATS, row);
	for (uint32_t r = 0; r < ROWS; r++) {
		struct ref_row want;
		reference_row(l.z + r * 70, 70, target[r], &want);
		assert_int_equal(row[r].status, want.status);
		if (!(want.status & PF_ROW_IGNORED))
			compare_row(&row[r], &want, "many rows", 70);
	}
	logits_free(&l);
}

int main(int argc, char **argv)
{
	if (seed_take(&argc, argv) || argc > 1)
		return 2;
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reference_is_right),
		cmocka_unit_test(errors_are_bounded),
		cmocka_unit_test(entropy_at_its_worst),
		cmocka_unit_test(many_rows),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
