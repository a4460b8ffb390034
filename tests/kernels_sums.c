/* seq_sum and coef called directly: exactness, splits into chunks, spans that are empty, overlap or lie outside,
 * overflow. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "tests/cmocka.h"
#include "tests/kernels.h"
#include "tests/ref/ref.h"

static const struct kernel_build *const kernels = &kernel_builds[0];

static float random_float(uint64_t *state, float low, float high)
{
	return low + (high - low) * (float)random_unit(state);
}

static struct pf_row random_row(uint64_t *state)
{
	struct pf_row row = { 0 };
	row.logp = random_float(state, -30, 0);
	row.logp_q32 = (int64_t)((double)row.logp * 0x1p32) - random_bits(state) % 1000;
	row.max = random_float(state, 0, 20);
	row.target = random_bits(state) & 1 ? row.max : row.max - 1;
	row.entropy = random_float(state, 0, 12);
	row.mean = random_bits(state) % 5 ? random_float(state, -5, 5) : -INFINITY;
	row.log_sum_p2 = random_float(state, -12, 0);
	switch (random_bits(state) % 12) {
	case 0:
		row = (struct pf_row){ .status = PF_ROW_IGNORED };
		break;
	case 1:
		row.logp_q32 = PF_Q32_NONE;
		row.logp = row.target = NAN;
		row.status = PF_ROW_TARGET << random_bits(state) % 2;
		break;
	default:
		break;
	}
	return row;
}

static struct pf_span random_span(uint64_t *state, uint32_t rows)
{
	uint32_t begin = random_bits(state) % (rows + 1), end = begin + random_bits(state) % (rows - begin + 1);
	uint32_t split = begin + random_bits(state) % (end - begin + 1);
	return (struct pf_span){ begin, end, split, 0 };
}

static void assert_seq(const struct pf_seq *got, const struct ref_seq *want)
{
	double bound = want->n * 0x1p-32 + 1e-15;
	assert_true(got->logp == want->logp && got->logp_tail == want->logp_tail);
	assert_true(fabsl(ldexpl(got->entropy, -32) - want->entropy) <= bound);
	assert_true(fabsl(ldexpl(got->log_weight, -32) - want->log_weight) <= bound);
	assert_true(fabsl(ldexpl(got->mean_logit, -32) - want->mean_logit) <= bound);
	assert_int_equal(got->n, want->n);
	assert_int_equal(got->hits, want->hits);
	assert_int_equal(got->status, want->status);
}

static void sums_are_exact(void **state)
{
	enum { ROWS = 3000, SEQS = 200 };
	static struct pf_row row[ROWS];
	struct pf_span span[SEQS];
	struct pf_seq seq[SEQS];
	uint64_t seed = 1;
	(void)state;
	for (int i = 0; i < ROWS; i++)
		row[i] = random_row(&seed);
	for (int i = 0; i < SEQS; i++)
		span[i] = random_span(&seed, i % 3 ? ROWS : 20);
	memset(seq, 0xaa, sizeof seq);
	kernels->seq_sum(row, span, seq, ROWS, SEQS);
	for (int i = 0; i < SEQS; i++) {
		struct ref_seq want;
		ref_seq_sum(row, ROWS, &span[i], &want);
		assert_seq(&seq[i], &want);
	}
}

/* A sequence cut anywhere: the parts add up to the whole, in any order of the tokens */
static void parts_add_up(void **state)
{
	enum { ROWS = 500 };
	struct pf_row row[ROWS];
	struct pf_span span[3] = { { 0, ROWS, ROWS, 0 } };
	struct pf_seq seq[3];
	uint64_t seed = 3;
	(void)state;
	for (int i = 0; i < ROWS; i++)
		row[i] = random_row(&seed);
	for (uint32_t cut = 0; cut <= ROWS; cut += 25) {
		span[1] = (struct pf_span){ 0, cut, cut, 0 };
		span[2] = (struct pf_span){ cut, ROWS, ROWS, 0 };
		kernels->seq_sum(row, span, seq, ROWS, 3);
		assert_true(seq[0].logp == seq[1].logp + seq[2].logp);
		assert_true(seq[0].entropy == seq[1].entropy + seq[2].entropy);
		assert_true(seq[0].log_weight == seq[1].log_weight + seq[2].log_weight);
		assert_true(seq[0].mean_logit == seq[1].mean_logit + seq[2].mean_logit);
		assert_int_equal(seq[0].n, seq[1].n + seq[2].n);
		assert_int_equal(seq[0].hits, seq[1].hits + seq[2].hits);
		assert_int_equal(seq[0].status, seq[1].status | seq[2].status);
	}
}

static void spans_outside(void **state)
{
	static const struct pf_span outside[] = {
		{ 0, 11, 11, 0 }, { 5, 4, 4, 0 }, { 2, 5, 1, 0 }, { 2, 5, 6, 0 }, { 11, 11, 11, 0 },
		{ UINT32_MAX, UINT32_MAX, UINT32_MAX, 0 }, { 0, UINT32_MAX, 3, 0 },
	};
	enum { COUNT = sizeof outside / sizeof *outside };
	struct pf_row row[10] = { { .logp_q32 = -1 } };
	struct pf_seq seq[COUNT];
	const struct pf_seq want = { .status = PF_ROW_RANGE };
	(void)state;
	kernels->seq_sum(row, outside, seq, 10, COUNT);
	for (int i = 0; i < COUNT; i++)
		assert_memory_equal(&seq[i], &want, sizeof want);
}

static void empty_spans_and_launches(void **state)
{
	const struct pf_span span = { 10, 10, 10, 0 };
	const struct pf_seq want = { 0 };
	struct pf_row row[10] = { { .logp_q32 = -1 } };
	struct pf_seq seq;
	(void)state;
	kernels->seq_sum(row, &span, &seq, 10, 1);
	assert_memory_equal(&seq, &want, sizeof want);
	kernels->seq_sum(NULL, NULL, NULL, 0, 0);
	kernels->coef(NULL, NULL, NULL, 0, 0, 1);
}

/* 2^17 tokens of the worst possible log-probability leave 64 bits: that is said */
static void overflow_is_told(void **state)
{
	enum { ROWS = 1 << 17 };
	struct pf_row *row = calloc(ROWS, sizeof *row);
	const struct pf_span span[2] = { { 0, ROWS, ROWS, 0 }, { 0, 50000, 50000, 0 } };
	struct pf_seq seq[2];
	(void)state;
	assert_non_null(row);
	for (int i = 0; i < ROWS; i++)
		row[i].logp_q32 = -22000 * (1ll << 32);
	kernels->seq_sum(row, span, seq, ROWS, 2);
	assert_int_equal(seq[0].status, PF_ROW_RANGE);
	assert_int_equal(seq[1].status, 0);
	assert_true(seq[1].logp == -22000 * (1ll << 32) * 50000);
	free(row);
}

static void coefficients(void **state)
{
	enum { ROWS = 2000, SEQS = 30 };
	static float out[ROWS];
	static double want[ROWS];
	struct pf_span span[SEQS];
	struct pf_item_out item[SEQS];
	uint64_t seed = 5;
	(void)state;
	for (int i = 0; i < SEQS; i++) {
		span[i] = random_span(&seed, ROWS);
		item[i] = (struct pf_item_out){ .grad = random_unit(&seed) - 0.5 };
	}
	memset(out, 0xaa, sizeof out);
	kernels->coef(item, span, out, ROWS, SEQS, 0.25f);
	ref_coef(item, span, SEQS, ROWS, 0.25, want);
	for (int t = 0; t < ROWS; t++)
		assert_true(out[t] == (float)want[t]);
}

static void coefficients_at_the_ends(void **state)
{
	static const double grads[] = {
		0x1.fffffffp-127, -0x1.fffffffp-127, 0x1p-126, 1e-310, 0, -0.0, 0x1p127, 1e300
	};
	static const float want[] = { 0, 0, -0x1p-126f, 0, 0, 0, -0x1p127f, -INFINITY };
	enum { COUNT = sizeof grads / sizeof *grads };
	struct pf_item_out item[COUNT];
	struct pf_span span[COUNT];
	float out[COUNT + 2];
	(void)state;
	for (uint32_t i = 0; i < COUNT; i++) {
		item[i] = (struct pf_item_out){ .grad = grads[i] };
		span[i] = (struct pf_span){ i, i + 1, i + 1, 0 };
	}
	out[COUNT] = out[COUNT + 1] = 7;
	span[0].end = span[0].split = 1;
	kernels->coef(item, span, out, COUNT, COUNT, 1);
	for (int i = 0; i < COUNT; i++)
		assert_true(out[i] == want[i]);
	span[COUNT - 1] = (struct pf_span){ COUNT - 1, UINT32_MAX, COUNT + 5, 0 };     /* beyond the rows: left out */
	kernels->coef(item, span, out, COUNT, COUNT, 1);
	assert_true(out[COUNT] == 7 && out[COUNT + 1] == 7);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sums_are_exact), cmocka_unit_test(parts_add_up), cmocka_unit_test(spans_outside),
		cmocka_unit_test(empty_spans_and_launches), cmocka_unit_test(overflow_is_told),
		cmocka_unit_test(coefficients),
		cmocka_unit_test(coefficients_at_the_ends),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
