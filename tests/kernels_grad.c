/* logit_grad called directly: errors against the reference, in place, what is written 0 or NaN, extreme
 * coefficients. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "tests/cmocka.h"
#include "tests/kernels.h"
#include "tests/ref/ref.h"
#include "tests/seed.h"

#define GRAD_BOUND   4e-7              /* relative, fp32; promised: 1e-6 |c| */
#define BF16_BOUND   0x1.01p-8         /* relative: half an ULP and what comes before rounding */
#define SMALLEST     0x1p-126

struct job {
	struct logits l;
	int32_t      *target;
	float        *coef;
	struct pf_row *row;
	void         *dz;
};

static void job_make(struct job *j, int bf16, uint32_t rows, uint32_t vocab, uint32_t pad)
{
	logits_make(&j->l, bf16, rows, vocab, pad);
	j->target = calloc(rows, sizeof *j->target);
	j->coef = calloc(rows, sizeof *j->coef);
	j->row = calloc(rows, sizeof *j->row);
	j->dz = aligned_alloc(PF_BEAT_BYTES, (size_t)rows * j->l.beats * PF_BEAT_BYTES);
	assert_true(j->target && j->coef && j->row && j->dz);
	memset(j->dz, 0xaa, (size_t)rows * j->l.beats * PF_BEAT_BYTES);
}

static void job_free(struct job *j)
{
	logits_free(&j->l);
	free(j->target);
	free(j->coef);
	free(j->row);
	free(j->dz);
}

static void job_run(struct job *j, int build)
{
	run_logprob(&kernel_builds[build], &j->l, j->target, 0, j->row);
	run_logit_grad(&kernel_builds[build], &j->l, j->target, j->coef, j->row, j->dz);
}

static double entry(const struct job *j, uint32_t row, uint32_t v)
{
	return logits_lane(&j->l, j->dz, row, v);
}

static double worst;                   /* share of the bound, fp32 */

/* Entries of a row against c (p - onehot) */
static void compare_row(const struct job *j, uint32_t row, const char *kind)
{
	const uint32_t vocab = j->l.vocab;
	const double c = (double)j->coef[row], relative = j->l.bf16 ? BF16_BOUND : GRAD_BOUND;
	long double *want = calloc(vocab, sizeof *want);
	assert_non_null(want);
	ref_logit_grad(j->l.z + (size_t)row * vocab, vocab, j->target[row], c, want);
	for (uint32_t v = 0; v < vocab; v++) {
		double got = entry(j, row, v), bound = relative * (double)fabsl(want[v]) + SMALLEST;
		if (v == (uint32_t)j->target[row])             /* the reference's 1 - p, and what the window drops */
			bound += fabs(c) * vocab * 0x1p-48;
		double error = (double)fabsl(got - want[v]);
		if (!(error <= bound))
			fail_msg("%s, V = %u, dz[%u]: %.9g, not %.9Lg", kind, vocab, v, got, want[v]);
		assert_true(j->l.bf16 || error <= 1e-6 * fabs(c) + SMALLEST);
		if (!j->l.bf16 && v != (uint32_t)j->target[row] && fabsl(want[v]) > 0x1p-100L)
			worst = fmax(worst, error / bound);
	}
	for (uint32_t v = vocab; v < j->l.beats * j->l.lanes; v++)
		assert_true(entry(j, row, v) == 0);
	free(want);
}

static void errors_are_bounded(void **state)
{
	static const uint32_t vocabs[] = { 1, 2, 15, 16, 17, 31, 32, 33, 511, 513, 1025, 4097, 50257, 151936, 262144 };
	uint64_t seed = seed_of(1);
	(void)state;
	for (size_t i = 0; i < 2 * sizeof vocabs / sizeof *vocabs; i++) {
		const uint32_t vocab = vocabs[i / 2];
		struct job j;
		job_make(&j, i & 1, LOGITS_KINDS, vocab, (uint32_t)i % 3);
		for (uint32_t kind = 0; kind < LOGITS_KINDS; kind++) {
			logits_fill(&j.l, kind, (enum logit_kind)kind, &seed);
			j.target[kind] = (int32_t)(random_bits(&seed) & 1 ? vocab / 2 : random_bits(&seed) % vocab);
			j.coef[kind] = (float)ldexp(random_unit(&seed) - 0.5, (int)(random_bits(&seed) % 20) - 15);
		}
		job_run(&j, 2);
		for (uint32_t kind = 0; kind < LOGITS_KINDS; kind++)
			compare_row(&j, kind, logit_kind_names[kind]);
		job_free(&j);
	}
	print_message("worst fp32 entry: %.2f of the bound\n", worst);
}

static void builds_agree_also_in_place(void **state)
{
	static const uint32_t vocabs[] = { 1, 16, 17, 33, 47, 96, 255, 256, 257, 1025, 3000 };
	uint64_t seed = seed_of(5);
	(void)state;
	for (size_t i = 0; i < 2 * sizeof vocabs / sizeof *vocabs; i++) {
		struct job j;
		job_make(&j, i & 1, LOGITS_KINDS, vocabs[i / 2], 2);
		const size_t bytes = (size_t)LOGITS_KINDS * j.l.beats * PF_BEAT_BYTES;
		void *first = malloc(bytes), *logits = malloc(bytes);
		assert_true(first && logits);
		for (uint32_t kind = 0; kind < LOGITS_KINDS; kind++) {
			logits_fill(&j.l, kind, (enum logit_kind)kind, &seed);
			j.target[kind] = (int32_t)(random_bits(&seed) % j.l.vocab);
			j.coef[kind] = (float)(random_unit(&seed) - 0.5);
		}
		memcpy(logits, j.l.beat, bytes);
		job_run(&j, 0);
		memcpy(first, j.dz, bytes);
		for (int b = 1; b < KERNEL_BUILDS; b++) {
			job_run(&j, b);
			assert_memory_equal(first, j.dz, bytes);
			run_logit_grad(&kernel_builds[b], &j.l, j.target, j.coef, j.row, j.l.beat);
			assert_memory_equal(first, j.l.beat, bytes);
			memcpy(j.l.beat, logits, bytes);
		}
		free(first);
		free(logits);
		job_free(&j);
	}
}

/* The entries of a row add up to 0 */
static void rows_sum_to_zero(void **state)
{
	uint64_t seed = seed_of(7);
	struct job j;
	(void)state;
	job_make(&j, 0, 4, 50257, 0);
	for (uint32_t r = 0; r < 4; r++) {
		logits_fill(&j.l, r, (enum logit_kind)(LOGITS_MODEL + r), &seed);
		j.target[r] = r & 1 ? 17 : 50257 / 2;
		j.coef[r] = -1;
	}
	job_run(&j, 2);
	for (uint32_t r = 0; r < 4; r++) {
		double sum = 0;
		for (uint32_t v = 0; v < 50257; v++)
			sum += entry(&j, r, v);
		assert_true(fabs(sum) <= 1e-6 * fabs(entry(&j, r, (uint32_t)j.target[r])) + 50257 * 0x1p-48);
	}
	job_free(&j);
}

static void assert_row_is(const struct job *j, uint32_t row, double value)
{
	for (uint32_t v = 0; v < j->l.beats * j->l.lanes; v++) {
		double got = entry(j, row, v), want = v < j->l.vocab ? value : 0;
		assert_true(isnan(want) ? isnan(got) : got == want);
	}
}

/* Ignored rows, rows without a log-probability, coefficients that count as 0 */
static void rows_without_gradient(void **state)
{
	(void)state;
	for (int i = 0; i < 2 * KERNEL_BUILDS; i++) {
		uint64_t seed = seed_of(9);
		struct job j;
		job_make(&j, i & 1, 8, 70, 1);
		for (uint32_t r = 0; r < 8; r++) {
			logits_fill(&j.l, r, LOGITS_MODEL, &seed);
			j.target[r] = 5;
			j.coef[r] = 1;
		}
		logits_set(&j.l, 0, 33, NAN);
		for (uint32_t v = 0; v < 70; v++)
			logits_set(&j.l, 1, v, -INFINITY);
		j.target[2] = 70;
		logits_set(&j.l, 3, 5, -INFINITY);
		j.target[4] = PF_IGNORE;
		j.coef[5] = 0;
		j.coef[6] = -0.0f;
		j.coef[7] = 1e-40f;
		job_run(&j, i / 2);
		for (uint32_t r = 0; r < 8; r++)
			assert_row_is(&j, r, 0);
		job_free(&j);
	}
}

static void extreme_coefficients(void **state)
{
	static const float coefs[] = { 0x1p125f, -0x1.fffffep125f, 0x1p-126f, -0x1.8p-120f, 0x1p-100f };
	uint64_t seed = seed_of(11);
	struct job j;
	(void)state;
	job_make(&j, 0, 5, 100, 0);
	for (uint32_t r = 0; r < 5; r++) {
		logits_fill(&j.l, r, LOGITS_MODEL, &seed);
		j.target[r] = (int32_t)r;
		j.coef[r] = coefs[r];
	}
	job_run(&j, 2);
	for (uint32_t r = 0; r < 5; r++)
		compare_row(&j, r, "extreme coefficient");
	job_free(&j);
}

static void no_sensible_coefficient(void **state)
{
	static const float coefs[] = { NAN, INFINITY, -INFINITY, 0x1p126f, -0x1.8p127f };
	(void)state;
	for (int i = 0; i < 2 * KERNEL_BUILDS; i++) {
		uint64_t seed = seed_of(13);
		struct job j;
		job_make(&j, i & 1, 5, 100, 1);
		for (uint32_t r = 0; r < 5; r++) {
			logits_fill(&j.l, r, LOGITS_MODEL, &seed);
			j.coef[r] = coefs[r];
		}
		job_run(&j, i / 2);
		for (uint32_t r = 0; r < 5; r++)
			assert_row_is(&j, r, NAN);
		job_free(&j);
	}
}

static void no_rows(void **state)
{
	(void)state;
	for (int b = 0; b < KERNEL_BUILDS; b++)
		kernel_builds[b].logit_grad(NULL, NULL, NULL, NULL, NULL, 0, 100, 7);
}

int main(int argc, char **argv)
{
	if (seed_take(&argc, argv) || argc > 1)
		return 2;
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(errors_are_bounded), cmocka_unit_test(builds_agree_also_in_place),
		cmocka_unit_test(rows_sum_to_zero), cmocka_unit_test(rows_without_gradient),
		cmocka_unit_test(extreme_coefficients), cmocka_unit_test(no_sensible_coefficient),
		cmocka_unit_test(no_rows),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
