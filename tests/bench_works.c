/* The bench below its verb: what it times, that it times nothing wrong, the rule of --against, and its tables. No time
 * is judged. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "host/bench/table.h"
#include "prefpga/internal/backend.h"
#include "tests/cmocka.h"
#include "tests/scratch.h"

extern const struct pf_backend pf_backend_sim;

/* ---- a card that brings back other bits than it has ---- */
static struct {
	uint64_t from, step, least;
	unsigned char mask;
} lie;

static int lying_copy(void *card, enum pf_direction direction, struct pf_memory *memory, uint64_t offset, void *host,
                      uint64_t bytes, struct pf_error *error)
{
	const int code = pf_backend_sim.copy(card, direction, memory, offset, host, bytes, error);
	for (uint64_t i = lie.from; lie.mask && direction != PF_TO_DEVICE && bytes >= lie.least && i < bytes;
	     i += lie.step)
		((unsigned char *)host)[i] ^= lie.mask;
	return code;
}

static struct pf_device *open_liar(void)
{
	static struct pf_backend liar;
	struct pf_device *device;
	liar = pf_backend_sim;
	liar.copy = lying_copy;
	lie.mask = 0;
	assert_int_equal(pf_device_open_backend(&liar, "*1", NULL, &device, NULL), 0);
	return device;
}

static const struct pf_bench_shape small = { 70, 203, 32, 1 };

static int check(const struct pf_bench_work *work, struct pf_device *device, struct pf_error *error)
{
	const struct pf_bench_task task = { device, small, 1, 0 };
	void *state = NULL;
	int code = work->open(&task, &state, error);
	if (!code)
		code = work->check(state, error);
	if (!code)
		code = work->run(state, error);
	work->close(state);
	return code;
}

static void sound_devices_pass(void **state)
{
	static const char *const spec[] = { "cpu", "sim:u55c*2" };
	(void)state;
	for (int d = 0; d < 2; d++) {
		struct pf_device *device;
		assert_int_equal(pf_device_open(spec[d], NULL, &device, NULL), 0);
		for (unsigned i = 0; pf_bench_work(i); i++) {
			struct pf_error error = { 0 };
			if (check(pf_bench_work(i), device, &error))
				fail_msg("%s: %s", pf_bench_work(i)->name, error.text);
		}
		pf_device_close(device);
	}
}

/* One bit in 64 bytes of what comes back, in steps the sign of every gradient: each work notices */
static void wrong_numbers_are_not_timed(void **state)
{
	struct pf_device *device = open_liar();
	(void)state;
	for (unsigned i = 0; pf_bench_work(i); i++) {
		const int step = strcmp(pf_bench_work(i)->name, "step") == 0;
		struct pf_error error = { 0 };
		lie.mask = 0;
		if (check(pf_bench_work(i), device, &error))
			fail_msg("%s, without a lie: %s", pf_bench_work(i)->name, error.text);
		lie.from = step ? 3 : 6;
		lie.step = step ? 4 : 64;
		lie.least = step ? sizeof(float) * small.dim * 16 : 1;
		lie.mask = step ? 0x80 : 0x10;
		assert_int_equal(check(pf_bench_work(i), device, &error), PF_E_DATA);
		assert_non_null(strstr(error.text, "nothing was timed"));
	}
	pf_device_close(device);
}

/* A wrong work is refused by measure, and its samples stay as they were */
static void measure_checks_first(void **state)
{
	struct pf_device *device = open_liar();
	const struct pf_bench_task task = { device, small, 1, 0 };
	struct pf_bench_times times = { .repeats = 3 };
	struct pf_yardstick *yardstick;
	struct pf_error error = { 0 };
	void *work = NULL;
	(void)state;
	assert_int_equal(pf_yardstick_open(1, 1 << 16, &yardstick, &error), 0);
	assert_int_equal(pf_bench_logprob.open(&task, &work, &error), 0);
	lie.from = 6, lie.step = 64, lie.least = 1, lie.mask = 0x10;
	assert_int_equal(pf_bench_measure(&pf_bench_logprob, work, &small, yardstick, &times, NULL, NULL, NULL, &error),
	                 PF_E_DATA);
	assert_true(times.second[0] == 0 && times.limit[0] == 0);
	lie.mask = 0;
	assert_int_equal(pf_bench_measure(&pf_bench_logprob, work, &small, yardstick, &times, NULL, NULL, NULL, &error),
	                 0);
	for (int i = 0; i < 3; i++)
		assert_true(times.second[i] > 0 && times.limit[i] > 0);
	pf_bench_logprob.close(work);
	pf_yardstick_close(yardstick);
	pf_device_close(device);
}

/* ---- shapes and names ---- */
static void shapes(void **state)
{
	struct pf_bench_shape s;
	struct pf_error error;
	(void)state;
	assert_int_equal(pf_bench_shape("1,1", &s, &error), 0);
	assert_true(s.tokens == 1 && s.vocab == 1 && s.dim == 0);
	assert_int_equal(pf_bench_shape("1048576,262144,8192", &s, &error), 0);
	assert_true(s.tokens == 1048576 && s.vocab == 262144 && s.dim == 8192);
	assert_int_equal(pf_bench_shape("gpt2", &s, &error), 0);
	assert_true(s.vocab == 50257 && s.dim == 768);
	static const char *const wrong[] = {
		"",    "1",     "1,",        "1,2,",     "1,2,3,4",  ",1,2",
		"1;2", "-1,2",  "1,2x",      "1 ,2",     "gtp2",     "0,5",
		"5,0", "5,5,0", "1048577,5", "5,262145", "5,5,8193", "99999999999999999999999,5"
	};
	for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
		if (pf_bench_shape(wrong[i], &s, &error) == 0)
			fail_msg("\"%s\" was taken", wrong[i]);
	pf_bench_shape("gtp2", &s, &error);
	assert_non_null(strstr(error.text, "did you mean gpt2?"));
	const struct pf_bench_work *work;
	assert_int_equal(pf_bench_find("logit_grad-bf16", &work, &error), 0);
	assert_string_equal(work->type, "bf16");
	assert_int_equal(pf_bench_find("linear_logprob-mxint8", &work, &error), 0);
	assert_int_equal(work->kernel, PF_KERNEL_linear_logprob_mxint8);
	assert_int_equal(pf_bench_find("linear_grad-mxint8", &work, &error), PF_E_UNKNOWN);
	assert_int_equal(pf_bench_find("logit_gard", &work, &error), PF_E_UNKNOWN);
	assert_non_null(strstr(error.text, "did you mean logit_grad?"));
}

/* ---- the rule ---- */
/* All subsets of `as` samples among all, counted one by one */
static double by_counting(const double *a, unsigned as, const double *b, unsigned bs)
{
	double all[16], rank[16], sum = 0;
	unsigned low = 0, high = 0, total = 0;
	const unsigned count = as + bs;
	memcpy(all, a, as * sizeof *all);
	memcpy(all + as, b, bs * sizeof *all);
	for (unsigned i = 0; i < count; i++) {
		rank[i] = 0.5;
		for (unsigned k = 0; k < count; k++)
			rank[i] += all[k] < all[i] ? 1 : all[k] == all[i] ? 0.5 : 0;
		sum += i < as ? rank[i] : 0;
	}
	for (unsigned set = 0; set < 1u << count; set++) {
		double other = 0;
		unsigned members = 0;
		for (unsigned i = 0; i < count; i++) {
			members += set >> i & 1;
			other += set >> i & 1 ? rank[i] : 0;
		}
		if (members != as)
			continue;
		total++;
		low += other <= sum + 1e-9;
		high += other >= sum - 1e-9;
	}
	const double p = 2.0 * (low < high ? low : high) / total;
	return p < 1 ? p : 1;
}

static void rank_sums(void **state)
{
	static const double apart[] = { 1, 2, 3, 4, 5, 6, 7, 8, 9, 10 };
	static const double tied[] = { 1, 1, 2, 2, 2, 3, 5, 5, 5, 5, 1, 7 };
	(void)state;
	assert_true(fabs(pf_compare_ranks(apart, 5, apart + 5, 5) - 2.0 / 252) <= 1e-15); /* U = 0 at 5 and 5 */
	assert_true(fabs(pf_compare_ranks(apart, 9, apart, 9) - 1) <= 1e-12);
	for (unsigned as = 1; as <= 6; as++)
		for (unsigned bs = 1; bs <= 6; bs++) {
			const double want = by_counting(tied, as, tied + as, bs);
			assert_true(fabs(pf_compare_ranks(tied, as, tied + as, bs) - want) <= 1e-12);
			const double other = by_counting(apart, as, tied + 2, bs);
			assert_true(fabs(pf_compare_ranks(apart, as, tied + 2, bs) - other) <= 1e-12);
		}
	double many[PF_BENCH_REPEATS_MOST], more[PF_BENCH_REPEATS_MOST];
	for (int i = 0; i < PF_BENCH_REPEATS_MOST; i++) {
		many[i] = i;
		more[i] = i + 0.5;
	}
	const double p = pf_compare_ranks(many, PF_BENCH_REPEATS_MOST, more, PF_BENCH_REPEATS_MOST);
	assert_true(p > 0.5 && p <= 1);
}

/* Holm's own procedure, by hand: 0.01, 0.04, 0.03, 0.005 become 0.03, 0.06, 0.06, 0.02 */
static void holm(void **state)
{
	struct pf_comparison row[] = {
		{ 0.2, 0.001, 0, 0 }, { 0.2, 0.004, 0, 0 }, { -0.2, 0.003, 0, 0 }, { 0.04, 0.0005, 0, 0 }
	};
	static const double want[] = { 0.003, 0.006, 0.006, 0.002 };
	(void)state;
	pf_compare_holm(row, 4);
	for (int i = 0; i < 4; i++)
		assert_true(fabs(row[i].adjusted - want[i]) <= 1e-15);
	assert_int_equal(row[0].verdict, 1);
	assert_int_equal(row[2].verdict, -1);
	assert_int_equal(row[3].verdict, 0); /* sure, and too small to count */
	row[0].p = 0.02;
	pf_compare_holm(row, 1);
	assert_int_equal(row[0].verdict, 0);
}

static void quantiles(void **state)
{
	static const double v[] = { 5, 1, 3, 2 };
	(void)state;
	assert_true(pf_compare_quantile(v, 4, 0) == 1 && pf_compare_quantile(v, 4, 1) == 5);
	assert_true(pf_compare_quantile(v, 4, 0.5) == 2.5 && pf_compare_quantile(v, 4, 0.25) == 1.75);
	assert_true(isnan(pf_compare_quantile(v, 0, 0.5)));
}

/* ---- tables ---- */
static struct pf_bench_row a_row(void)
{
	struct pf_bench_row row = {
		"linear_grad",
		"f32",
		"sim:u55c*2,odd",
		"x86-64-v4",
		{ 64, 100, 32, 0 },
		2,
		{ .repeats = 5, .second = { 0.5, 0.25, 1, 2, 4 }, .limit = { 0.25, 0.125, 0.5, 1, 2 } },
		"sgemm",
		1e9,
		0,
		{ "package", 64, 32, 128, 16 },
		NAN,
		NAN,
		NAN,
		NAN,
		NAN,
		""
	};
	return row;
}

static void a_table_comes_back(void **state)
{
	const struct pf_bench_row row = a_row();
	struct pf_bench_row *back;
	struct pf_error error;
	size_t count;
	(void)state;
	const char *path = scratch_path("table.csv");
	FILE *file = fopen(path, "w");
	pf_bench_write_head(file, ",machine");
	pf_bench_write_row(file, &row, ",\"here, there\"");
	assert_int_equal(fclose(file), 0);
	assert_int_equal(pf_bench_read(path, &back, &count, &error), 0);
	assert_int_equal(count, 1);
	assert_ptr_equal(pf_bench_same(back, count, &row), back);
	assert_int_equal(back->times.repeats, 5);
	for (int i = 0; i < 5; i++)
		assert_true(back->times.second[i] == row.times.second[i] && back->times.limit[i] == row.times.limit[i]);
	const struct pf_comparison c = pf_bench_compare(back, &row);
	assert_true(c.change == 0 && fabs(c.p - 1) <= 1e-12);
	assert_true(pf_bench_part(&row) == 0.5);
	back->shape.dim = 33;
	assert_null(pf_bench_same(back, count, &row));
	free(back);
}

static void wrong_tables_are_refused(void **state)
{
#define HEAD "work,type,device,tokens,vocabulary,dim,layers,threads,samples_s,limits_s\n"
	static const struct {
		const char *text, *says;
	} wrong[] = {
		{ "", "empty" },
		{ "work,type\n", "no column device" },
		{ HEAD "a,b,c,1,2,3,4\n", ":2: fewer fields" },
		{ HEAD "a,b,c,1,2,3,4,5,1;2,1\n", ":2: samples_s and limits_s" },
		{ HEAD "a,b,c,1,2,3,4,5,1;-2,1;2\n", "positive" },
		{ HEAD "a,b,c,1,2,3,4,5,1;,1;\n", "positive" },
		{ HEAD "a,b,c,1,2,3,4,5,nan,nan\n", "positive" },
		{ HEAD "a,b,c,x,2,3,4,5,1,1\n", "whole number" },
		{ HEAD "a,b,c,5000000000,2,3,4,5,1,1\n", "whole number" },
		{ HEAD ",b,c,1,2,3,4,5,1,1\n", "empty" },
		{ HEAD "a,\"b,c,1,2,3,4,5,1,1\n", "quote" },
	};
	struct pf_bench_row *rows;
	struct pf_error error;
	size_t count;
	(void)state;
	for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
		assert_int_equal(pf_bench_read(scratch_text("wrong.csv", wrong[i].text), &rows, &count, &error),
		                 PF_E_FORMAT);
		if (!strstr(error.text, wrong[i].says))
			fail_msg("%zu: %s", i, error.text);
		assert_null(rows);
	}
	assert_int_equal(pf_bench_read(scratch_path("absent.csv"), &rows, &count, &error), -2);
	assert_int_equal(
		pf_bench_read(scratch_text("empty.csv", HEAD "a,b,c,1,2,3,4,5,,\r\n\n"), &rows, &count, &error), 0);
	assert_int_equal(count, 0); /* a row without samples is no row to compare with */
	free(rows);
}

/* ---- the model ---- */
/* Bytes over width and clock, by hand; never faster than its line rate; two units share the tokens */
static void modelled_runs(void **state)
{
	const struct pf_bench_shape s = { 4096, 32000, 0, 0 };
	struct pf_bench_modelled one, two;
	struct pf_error error;
	(void)state;
	assert_int_equal(pf_bench_model(&pf_bench_logprob, &s, "u55c", 1, NULL, &one, &error), 0);
	assert_int_equal(pf_bench_model(&pf_bench_logprob, &s, "u55c", 2, NULL, &two, &error), 0);
	assert_true(fabs(one.line_s - 4096.0 * 32000 * 4 / (64 * 300e6)) <= 1e-12);
	assert_true(one.joule.low > 0 && one.joule.low <= one.joule.value && one.joule.value <= one.joule.high);
	assert_true(one.line_s <= one.seconds && two.line_s <= two.seconds && two.seconds < one.seconds);
	assert_int_equal(pf_bench_model(&pf_bench_logprob, &s, "u56c", 1, NULL, &one, &error), PF_E_UNKNOWN);
	assert_int_equal(pf_bench_model(&pf_bench_step, &s, "u55c", 1, NULL, &one, &error), PF_E_UNSUPPORTED);
}

static int begin(void **state)
{
	(void)state;
	scratch_open("bench_works");
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sound_devices_pass),
		cmocka_unit_test(wrong_numbers_are_not_timed),
		cmocka_unit_test(measure_checks_first),
		cmocka_unit_test(shapes),
		cmocka_unit_test(rank_sums),
		cmocka_unit_test(holm),
		cmocka_unit_test(quantiles),
		cmocka_unit_test(a_table_comes_back),
		cmocka_unit_test(wrong_tables_are_refused),
		cmocka_unit_test(modelled_runs),
	};
	return cmocka_run_group_tests(tests, begin, NULL);
}
