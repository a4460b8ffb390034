/* logprob called directly: the same bits from every build and for every order of the vocabulary, statuses of rows,
 * edges of beats and steps. */
#include <math.h>
#include <string.h>
#include "tests/cmocka.h"
#include "tests/kernels.h"
#include "tests/seed.h"

static void builds_agree(void **state)
{
	static const uint32_t vocabs[] = { 1, 15, 16, 17, 31, 33, 48, 95, 96, 97, 1023, 1024, 1025, 2049, 5000 };
	uint64_t seed = seed_of(5);
	(void)state;
	for (size_t i = 0; i < 2 * sizeof vocabs / sizeof *vocabs; i++) {
		struct pf_row row[KERNEL_BUILDS][LOGITS_KINDS];
		int32_t target[LOGITS_KINDS];
		struct logits l;
		logits_make(&l, i & 1, LOGITS_KINDS, vocabs[i / 2], 2);
		for (uint32_t kind = 0; kind < LOGITS_KINDS; kind++) {
			logits_fill(&l, kind, (enum logit_kind)kind, &seed);
			target[kind] = (int32_t)(random_bits(&seed) % l.vocab);
		}
		for (int b = 0; b < KERNEL_BUILDS; b++)
			run_logprob(&kernel_builds[b], &l, target, PF_WANT_STATS, row[b]);
		for (int b = 1; b < KERNEL_BUILDS; b++)
			assert_memory_equal(row[0], row[b], sizeof row[0]);
		logits_free(&l);
	}
}

/* Everything but the index of the largest logit is the same for every order of the vocabulary */
static void order_does_not_matter(void **state)
{
	enum { V = 3000, ORDERS = 6 };
	uint64_t seed = seed_of(9);
	(void)state;
	for (int kind = 0; kind < LOGITS_KINDS; kind++) {
		struct pf_row row[ORDERS];
		int32_t target[ORDERS];
		struct logits l;
		logits_make(&l, 0, ORDERS, V, 0);
		logits_fill(&l, 0, (enum logit_kind)kind, &seed);
		target[0] = V / 2;
		for (uint32_t r = 1; r < ORDERS; r++) {
			uint32_t shift = random_bits(&seed) % V, factor = 7;           /* 7 and 3000 are coprime */
			for (uint32_t v = 0; v < V; v++)
				logits_set(&l, r, (v * factor + shift) % V, (float)l.z[(r - 1) * V + v]);
			target[r] = (int32_t)(((uint32_t)target[r - 1] * factor + shift) % V);
		}
		run_logprob(&kernel_builds[2], &l, target, PF_WANT_STATS, row);
		for (uint32_t r = 1; r < ORDERS; r++) {
			row[r].argmax = row[0].argmax;
			assert_memory_equal(&row[0], &row[r], sizeof row[0]);
		}
		logits_free(&l);
	}
}

/* ---- statuses and edges ---- */
static struct pf_row row_of(const float *z, uint32_t vocab, int32_t target, int bf16, uint32_t flags)
{
	struct logits l;
	struct pf_row row[KERNEL_BUILDS];
	logits_make(&l, bf16, 1, vocab, 1);
	for (uint32_t v = 0; v < vocab; v++)
		logits_set(&l, 0, v, z[v]);
	memset(row, 0xaa, sizeof row);
	for (int b = 0; b < KERNEL_BUILDS; b++) {
		run_logprob(&kernel_builds[b], &l, &target, flags, &row[b]);
		assert_memory_equal(&row[0], &row[b], sizeof row[0]);
	}
	logits_free(&l);
	return row[0];
}

static void assert_no_numbers(const struct pf_row *row, uint32_t status)
{
	assert_int_equal(row->status, status);
	assert_true(isnan(row->logp) && isnan(row->max) && isnan(row->log_sum) && isnan(row->target) &&
	            isnan(row->rest));
	assert_true(isnan(row->entropy) && isnan(row->mean) && isnan(row->log_sum_p2));
	assert_true(row->logp_q32 == PF_Q32_NONE);
	assert_true(row->inv == 0);
}

static void out_of_range(void **state)
{
	static const float bad[] = { NAN, -NAN, INFINITY, 11000, 1e30f, 0x1p127f };
	(void)state;
	for (int bf16 = 0; bf16 < 2; bf16++)
		for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
			for (uint32_t at = 0; at < 40; at += 13) {
				float z[40] = { 0 };
				struct pf_row row;
				z[at] = bf16 && i == 3 ? 11008 : bad[i];
				row = row_of(z, 40, 5, bf16, PF_WANT_STATS);
				assert_no_numbers(&row, PF_ROW_RANGE);
				row = row_of(z, 40, 40, bf16, PF_WANT_STATS);
				assert_no_numbers(&row, PF_ROW_RANGE | PF_ROW_TARGET);
			}
}

static void nothing_to_normalise(void **state)
{
	static const float none[] = { -INFINITY, -11000, -1e30f, -0x1.fffffep127f };
	(void)state;
	for (size_t i = 0; i < sizeof none / sizeof *none; i++) {
		float z[40];
		for (int v = 0; v < 40; v++)
			z[v] = none[i];
		struct pf_row row = row_of(z, 40, 5, 0, PF_WANT_STATS);
		assert_no_numbers(&row, PF_ROW_EMPTY);
		row = row_of(z, 40, 77, 0, PF_WANT_STATS);
		assert_no_numbers(&row, PF_ROW_EMPTY | PF_ROW_TARGET);
	}
	struct pf_row row = row_of(NULL, 0, 0, 0, PF_WANT_STATS);
	assert_no_numbers(&row, PF_ROW_EMPTY | PF_ROW_TARGET);
}

static void masked_target(void **state)
{
	static const float none[] = { -INFINITY, -11000, -1e30f };
	(void)state;
	for (size_t i = 0; i < sizeof none / sizeof *none; i++) {
		float z[3] = { 1, none[i], 2 };
		struct pf_row row = row_of(z, 3, 1, 0, PF_WANT_STATS), other = row_of(z, 3, 0, 0, PF_WANT_STATS);
		assert_int_equal(row.status, PF_ROW_MASKED);
		assert_true(row.logp == -INFINITY && row.target == -INFINITY && row.rest == 1);
		assert_true(row.logp_q32 == PF_Q32_NONE);
		assert_true(row.max == 2 && row.argmax == 2 && row.log_sum == other.log_sum && row.inv == other.inv);
		assert_true(row.mean == -INFINITY && other.mean == -INFINITY);
		assert_true(row.entropy == other.entropy && row.log_sum_p2 == other.log_sum_p2);
	}
}

static void target_outside(void **state)
{
	float z[17] = { 0 };
	(void)state;
	for (int64_t target = 17; target <= INT32_MAX; target = target * 5 - 2) {
		struct pf_row row = row_of(z, 17, (int32_t)target, 0, PF_WANT_STATS),
			      other = row_of(z, 17, 3, 0, PF_WANT_STATS);
		assert_int_equal(row.status, PF_ROW_TARGET);
		assert_true(isnan(row.logp) && isnan(row.target) && isnan(row.rest) && row.logp_q32 == PF_Q32_NONE);
		assert_true(row.max == 0 && row.log_sum == other.log_sum && row.entropy == other.entropy);
	}
}

/* The logits of an ignored row do not count, whatever they are */
static void ignored(void **state)
{
	float z[20] = { NAN, INFINITY };
	const struct pf_row want = { .status = PF_ROW_IGNORED };
	(void)state;
	for (int i = 0; i < 3; i++) {
		struct pf_row row =
			row_of(z, 20, (const int32_t[]){ -1, PF_IGNORE, INT32_MIN }[i], i & 1, PF_WANT_STATS);
		assert_memory_equal(&row, &want, sizeof row);
	}
}

static void one_logit(void **state)
{
	float z = -3.5f;
	struct pf_row row = row_of(&z, 1, 0, 0, PF_WANT_STATS);
	(void)state;
	assert_int_equal(row.status, 0);
	assert_true(row.logp == 0 && row.logp_q32 == 0 && row.rest == 0 && row.log_sum == 0);
	assert_true(row.entropy == 0 && row.log_sum_p2 == 0 && row.mean == -3.5f && row.max == -3.5f &&
	            row.target == -3.5f);
}

static void no_rows(void **state)
{
	(void)state;
	for (int b = 0; b < KERNEL_BUILDS; b++)
		kernel_builds[b].logprob(NULL, NULL, NULL, 0, 100, 7, 0);
}

static void statistics_only_on_demand(void **state)
{
	float z[100];
	for (int v = 0; v < 100; v++)
		z[v] = (float)v / 10;
	struct pf_row with = row_of(z, 100, 5, 0, PF_WANT_STATS), without = row_of(z, 100, 5, 0, 0);
	(void)state;
	assert_true(without.entropy == 0 && without.mean == 0 && without.log_sum_p2 == 0);
	with.entropy = with.mean = with.log_sum_p2 = 0;
	assert_memory_equal(&with, &without, sizeof with);
}

static void smallest_index_of_the_largest(void **state)
{
	uint64_t seed = seed_of(11);
	(void)state;
	for (int i = 0; i < 200; i++) {
		uint32_t vocab = 1 + random_bits(&seed) % 3000, want = 0;
		float z[3000];
		for (uint32_t v = 0; v < vocab; v++) {
			z[v] = (float)(random_bits(&seed) % 5);
			want = z[v] > z[want] ? v : want;
		}
		assert_int_equal(row_of(z, vocab, 0, i & 1, 0).argmax, want);
	}
}

/* A stride too small for the vocabulary: the row ends with the stride, nothing beyond is read */
static void short_stride(void **state)
{
	struct logits l;
	uint64_t seed = seed_of(13);
	int32_t target = 31;
	(void)state;
	logits_make(&l, 0, 1, 32, 0);
	logits_fill(&l, 0, LOGITS_MODEL, &seed);
	for (int b = 0; b < KERNEL_BUILDS; b++) {
		struct pf_row want, got;
		run_logprob(&kernel_builds[b], &l, &target, 0, &want);
		kernel_builds[b].logprob(l.beat, &target, &got, 1, 1000, 2, 0);
		assert_memory_equal(&want, &got, sizeof got);
	}
	logits_free(&l);
}

int main(int argc, char **argv)
{
	if (seed_take(&argc, argv) || argc > 1)
		return 2;
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(builds_agree),
		cmocka_unit_test(order_does_not_matter),
		cmocka_unit_test(out_of_range),
		cmocka_unit_test(nothing_to_normalise),
		cmocka_unit_test(masked_target),
		cmocka_unit_test(target_outside),
		cmocka_unit_test(ignored),
		cmocka_unit_test(one_logit),
		cmocka_unit_test(no_rows),
		cmocka_unit_test(statistics_only_on_demand),
		cmocka_unit_test(smallest_index_of_the_largest),
		cmocka_unit_test(short_stride),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
