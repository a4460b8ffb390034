/* logprob and logit_grad on every instruction set of backend cpu, and on sim, against the reference: logp and log_sum
 * 1e-6 + 1 ULP, rest and gradients 1e-6 relative (sim drops what is below V 2^-48 of the sum), statistics 4e-6, max,
 * target, argmax, status exact; and the same bits for every number of threads. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "tests/cmocka.h"
#include "tests/cpu_run.h"
#include "tests/ref/ref.h"

static const struct { const char *name; double rest; } specs[] = {      /* rest: absolute error of 1 - p */
	{ "cpu:avx512", 0x1p-126 }, { "cpu:avx2", 0x1p-126 }, { "cpu:baseline", 0x1p-126 }, { "sim", 0x1p-30 },
};
enum { SPECS = sizeof specs / sizeof *specs };
static double rest_error;              /* of the device under test */

/* ---- inputs ---- */
static uint64_t state = 88172645463325252ull;

static double uniform(void)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return (double)(state >> 11) * 0x1p-53;
}

static double normal(void)
{
	return sqrt(-2 * log(uniform() + 1e-12)) * cos(6.283185307 * uniform());
}

static double draw(int kind, uint32_t v, uint32_t vocab)
{
	switch (kind) {
	case 0:  return 100 * uniform() - 50;
	case 1:  return 3 * normal();                                  /* like a model's */
	case 2:  return v == vocab / 2 ? 50 : normal() - 40;           /* near certainty */
	case 3:  return 7.25;
	case 4:  return 50 - 100.0 * v / vocab;
	case 5:  return -50 + 100.0 * v / vocab;
	case 6:  return v == 0 ? 0.1 : -12.3;                          /* many equal small terms */
	case 7:  return uniform() < 0.4 ? -10990 - 20 * uniform() : -11010;
	case 8:  return 21998 * uniform() - 10999;
	case 9:  return uniform() < 0.6 ? -INFINITY : 5 * normal();
	case 10: return v == 0 ? -10999 : -INFINITY;
	default: return -86.9 - 0.001 * v + (v == 0 ? 87 : 0);         /* terms at the edge of fp32 */
	}
}
enum { KINDS = 12 };

struct input {
	struct run_shape shape;
	char            *z;            /* the array as the kernels see it */
	double          *wide;         /* [rows, vocab], the same values */
	int32_t         *target;
	float           *coef;
};

static void put(struct input *in, uint32_t t, uint32_t v, double value)
{
	size_t lane = (size_t)t * in->shape.stride * run_lanes(&in->shape) + v;
	in->wide[(size_t)t * in->shape.vocab + v] = in->shape.bf16 ? ref_from_bf16(ref_to_bf16(value)) : (float)value;
	if (in->shape.bf16)
		((uint16_t *)in->z)[lane] = ref_to_bf16(value);
	else
		((float *)in->z)[lane] = (float)value;
}

/* Row t is of kind t % KINDS; targets are the first, the last, the largest or any token */
static struct input make_input(struct run_shape shape, int first_kind)
{
	struct input in = { .shape = shape, .z = malloc(run_bytes(&shape)) };
	in.wide = malloc((size_t)shape.rows * shape.vocab * sizeof *in.wide);
	in.target = malloc(shape.rows * sizeof *in.target);
	in.coef = malloc(shape.rows * sizeof *in.coef);
	memset(in.z, 0x7f, run_bytes(&shape));                 /* what lies beyond V: NaN and huge */
	for (uint32_t t = 0; t < shape.rows; t++) {
		for (uint32_t v = 0; v < shape.vocab; v++)
			put(&in, t, v, draw((int)(first_kind + t) % KINDS, v, shape.vocab));
		uint32_t pick = (uint32_t)(uniform() * 4);
		in.target[t] = (int32_t)(pick == 0 ? 0 : pick == 1 ? shape.vocab - 1 : pick == 2 ? shape.vocab / 2
		                         : (uint32_t)(uniform() * shape.vocab));
		in.coef[t] = (float)(uniform() - 0.5);
	}
	return in;
}

static void free_input(struct input *in)
{
	free(in->z);
	free(in->wide);
	free(in->target);
	free(in->coef);
}

/* ---- comparisons ---- */
static void close_to(const char *what, double got, long double want, double tolerance, uint32_t row)
{
	if (isnan(want) ? !isnan(got) : isinf(want) ? got != (double)want : !(fabsl(got - want) <= tolerance))
		fail_msg("row %u: %s is %.10g, should be %.10Lg within %.3g", row, what, got, want, tolerance);
}

static void check_numbers(const struct pf_row *got, const struct ref_row *want, uint32_t t)
{
	double logp = (double)want->logp, rest = (double)want->rest, log_sum = (double)want->log_sum;
	close_to("logp", (double)got->logp, want->logp, 1e-6 + ref_ulp32(logp), t);
	close_to("log_sum", (double)got->log_sum, want->log_sum, 1e-6 + ref_ulp32(log_sum), t);
	close_to("rest", (double)got->rest, want->rest, 1e-6 * rest + rest_error, t);
	assert_true(isnan(got->max) ? isnan(want->max) : got->max == (float)want->max);
	assert_true(isnan(got->target) ? isnan(want->target) : got->target == (float)want->target);
	if (!isfinite(want->logp))
		assert_true(got->logp_q32 == (got->status & PF_ROW_IGNORED ? 0 : PF_Q32_NONE));
	else
		close_to("logp_q32", ldexp((double)got->logp_q32, -32), want->logp, 1e-6 + 0x1p-32, t);
	if (!isfinite(want->log_sum) || got->status & PF_ROW_IGNORED)
		return;
	assert_true(got->inv > 0.5f && got->inv <= 1);
	close_to("inv, exp2", got->exp2 * M_LN2 - log((double)got->inv), want->max + want->log_sum, 1e-6, t);
}

static double mean_size(const double *z, uint32_t vocab)
{
	double sum = 0;
	for (uint32_t v = 0; v < vocab; v++)
		sum += fabs(z[v]);
	return sum / vocab;
}

static void check_stats(const struct pf_row *got, const struct ref_row *want, const double *z, uint32_t vocab,
                        uint32_t t)
{
	if (got->status & (PF_ROW_IGNORED | PF_ROW_RANGE | PF_ROW_EMPTY)) {
		assert_true(isnan(want->mean) ? isnan(got->mean) : got->mean == 0);
		assert_true(isnan(want->mean) ? isnan(got->entropy) && isnan(got->log_sum_p2) : got->entropy == 0);
		return;
	}
	close_to("entropy", (double)got->entropy, want->entropy, 4e-6, t);
	close_to("mean", (double)got->mean, want->mean, 2e-6 * mean_size(z, vocab), t);
	close_to("log_sum_p2", (double)got->log_sum_p2, want->log_sum_p2, 4e-6, t);
}

static void check_rows(const struct input *in, const struct pf_row *got, uint32_t flags)
{
	for (uint32_t t = 0; t < in->shape.rows; t++) {
		const double *z = in->wide + (size_t)t * in->shape.vocab;
		struct ref_row want;
		ref_logprob(z, in->shape.vocab, in->target[t], &want);
		assert_int_equal(got[t].status, want.status);
		assert_int_equal(got[t].argmax, want.argmax);
		check_numbers(&got[t], &want, t);
		if (flags & PF_WANT_STATS)
			check_stats(&got[t], &want, z, in->shape.vocab, t);
		else
			assert_true(got[t].entropy == 0 && got[t].mean == 0 && got[t].log_sum_p2 == 0);
	}
}

static double lane_value(const struct input *in, const void *array, uint32_t t, uint32_t v)
{
	size_t lane = (size_t)t * in->shape.stride * run_lanes(&in->shape) + v;
	return in->shape.bf16 ? ref_from_bf16(((const uint16_t *)array)[lane]) : (double)((const float *)array)[lane];
}

static void check_grad(const struct input *in, const void *dz)
{
	const uint32_t vocab = in->shape.vocab, lanes = in->shape.stride * run_lanes(&in->shape);
	long double *want = malloc(vocab * sizeof *want);
	const double relative = in->shape.bf16 ? 0x1p-8 : 1.5e-6;
	const double absolute = 0x1p-125 + rest_error;         /* |c| < 1 */
	for (uint32_t t = 0; t < in->shape.rows; t++) {
		ref_logit_grad(in->wide + (size_t)t * vocab, vocab, in->target[t], (double)in->coef[t], want);
		for (uint32_t v = 0; v < vocab; v++)
			close_to("dz", lane_value(in, dz, t, v), want[v], relative * fabs((double)want[v]) + absolute,
			         t);
		for (uint32_t v = vocab; v < lanes; v++)
			assert_true(lane_value(in, dz, t, v) == 0);
	}
	free(want);
}

/* ---- what is compared ---- */
static void check_input(struct pf_device *device, const struct input *in)
{
	struct pf_row *row = calloc(in->shape.rows, sizeof *row);
	char *dz = malloc(run_bytes(&in->shape)), *same = malloc(run_bytes(&in->shape));
	run_logprob(device, &in->shape, in->z, in->target, PF_WANT_STATS, row);
	check_rows(in, row, PF_WANT_STATS);
	run_logprob(device, &in->shape, in->z, in->target, 0, row);
	check_rows(in, row, 0);
	run_logit_grad(device, &in->shape, in->z, in->target, in->coef, row, dz, 0);
	check_grad(in, dz);
	run_logit_grad(device, &in->shape, in->z, in->target, in->coef, row, same, 1);
	assert_memory_equal(dz, same, run_bytes(&in->shape));
	free(row);
	free(dz);
	free(same);
}

static void check_everywhere(const struct input *in)
{
	for (int i = 0; i < SPECS; i++) {
		struct pf_device *device = run_open(specs[i].name, 2);
		if (!device) {
			print_message("%s: not on this machine\n", specs[i].name);
			continue;
		}
		rest_error = specs[i].rest;
		check_input(device, in);
		assert_int_equal(pf_device_close(device), 0);
	}
}

static void check_shape(struct run_shape shape, int first_kind)
{
	struct input in = make_input(shape, first_kind);
	check_everywhere(&in);
	free_input(&in);
}

static void test_edges(void **unused)
{
	static const uint32_t vocabs[] = { 1, 2, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128, 129, 255, 256, 257, 511,
	                                   512, 513, 1000, 1024 };
	(void)unused;
	for (unsigned i = 0; i < sizeof vocabs / sizeof *vocabs; i++)
		for (int bf16 = 0; bf16 < 2; bf16++)
			check_shape(run_shape_of(2 * KINDS, vocabs[i], bf16), 0);
}

static void test_wide_stride(void **unused)
{
	(void)unused;
	for (int bf16 = 0; bf16 < 2; bf16++) {
		struct run_shape shape = run_shape_of(KINDS, 700, bf16);
		shape.stride += 5;
		check_shape(shape, 0);
	}
}

static void test_large_vocabulary(void **unused)
{
	(void)unused;
	for (int bf16 = 0; bf16 < 2; bf16++) {
		check_shape(run_shape_of(3, 151936, bf16), 0);
		check_shape(run_shape_of(2, 262144, bf16), 5);
	}
}

/* ---- statuses ---- */
static void test_statuses(void **unused)
{
	enum { VOCAB = 600, ROWS = 16 };
	static const float bad[] = { NAN, -NAN, INFINITY, 11000.0f, 3e38f };
	struct input in = make_input(run_shape_of(ROWS, VOCAB, 0), 1);
	(void)unused;
	for (uint32_t t = 0; t < ROWS; t++)
		for (uint32_t v = 0; v < VOCAB; v++)
			put(&in, t, v, normal());
	for (uint32_t i = 0; i < 5; i++)
		put(&in, i, (i * 131) % VOCAB, (double)bad[i]);
	in.target[0] = 0;                                      /* the bad logit is the target's */
	in.target[1] = VOCAB;                                  /* both */
	in.target[5] = VOCAB;
	in.target[6] = INT32_MAX;
	in.target[7] = PF_IGNORE;
	in.target[8] = INT32_MIN;
	for (uint32_t v = 0; v < VOCAB; v++) {
		put(&in, 8, v, NAN);
		put(&in, 9, v, v % 2 ? -INFINITY : -11000);
		put(&in, 10, v, -3e38);
		put(&in, 11, v, NAN);
	}
	put(&in, 12, 5, -INFINITY);
	in.target[12] = 5;
	put(&in, 13, 5, -11000);
	in.target[13] = 5;
	put(&in, 14, VOCAB - 1, NAN);
	in.target[10] = VOCAB + 1;
	check_everywhere(&in);
	free_input(&in);
}

/* NaNs as they come from memory that was never written: every low bit may be set */
static void test_nans(void **unused)
{
	enum { VOCAB = 600, ROWS = 32 };
	struct input in = make_input(run_shape_of(ROWS, VOCAB, 0), 1);
	(void)unused;
	for (uint32_t t = 0; t < ROWS; t++) {
		const uint32_t bits = (t < 16 ? 0x7fc00000u : 0xffc00000u) | (t % 16 == 15 ? 0x3fffffu : 1u << t % 16);
		float nan;
		memcpy(&nan, &bits, sizeof nan);
		for (uint32_t v = 0; v < VOCAB; v++)
			put(&in, t, v, normal());
		put(&in, t, (t * 131) % VOCAB, (double)nan);
	}
	check_everywhere(&in);
	free_input(&in);
}

/* Coefficients at the ends: 0, tiny, huge; a coefficient without meaning makes its row NaN */
static void check_coefficients(struct pf_device *device, const struct input *in)
{
	struct pf_row row[8];
	void *dz = malloc(run_bytes(&in->shape));
	run_logprob(device, &in->shape, in->z, in->target, 0, row);
	run_logit_grad(device, &in->shape, in->z, in->target, in->coef, row, dz, 0);
	for (uint32_t t = 0; t < 8; t++) {
		const double first = lane_value(in, dz, t, 0), masked = lane_value(in, dz, t, 7),
			     c = (double)in->coef[t];
		const double target = lane_value(in, dz, t, 150);
		assert_true(lane_value(in, dz, t, 200) == 0);
		assert_true(t < 5 ? masked == 0 : isnan(first) && isnan(masked) && isnan(target));
		if (t < 2)
			assert_true(first == 0 && target == 0);
		else if (t < 5)
			close_to("target", target, -c * (double)row[t].rest, fabs(c) * (in->shape.bf16 ? 0x1p-8 : 1e-6),
			         t);
	}
	free(dz);
}

static void test_coefficients(void **unused)
{
	static const float c[] = { 0, 0x1p-149f, 0x1p-120f, 1, -0x1p125f, 0x1p126f, INFINITY, NAN };
	(void)unused;
	for (int bf16 = 0; bf16 < 2; bf16++) {
		struct input in = make_input(run_shape_of(8, 200, bf16), 1);
		memcpy(in.coef, c, sizeof c);
		for (uint32_t t = 0; t < 8; t++) {
			for (uint32_t v = 0; v < 200; v++)
				put(&in, t, v, v == 7 ? -INFINITY : normal());
			in.target[t] = 150;
		}
		for (int i = 0; i < SPECS; i++) {
			struct pf_device *device = run_open(specs[i].name, 1);
			if (device)
				check_coefficients(device, &in);
			pf_device_close(device);
		}
		free_input(&in);
	}
}

/* ---- repeatability ---- */
static void test_threads(void **unused)
{
	struct input in = make_input(run_shape_of(40, 5003, 0), 0);
	struct pf_row row[2][40];
	char *dz[2] = { malloc(run_bytes(&in.shape)), malloc(run_bytes(&in.shape)) };
	(void)unused;
	for (uint32_t threads = 1; threads <= 5; threads += 2) {
		struct pf_device *device = run_open("cpu", threads);
		int i = threads > 1;
		run_logprob(device, &in.shape, in.z, in.target, PF_WANT_STATS, row[i]);
		run_logit_grad(device, &in.shape, in.z, in.target, in.coef, row[i], dz[i], 0);
		pf_device_close(device);
		if (i) {
			assert_memory_equal(row[0], row[1], sizeof row[0]);
			assert_memory_equal(dz[0], dz[1], run_bytes(&in.shape));
		}
	}
	free(dz[0]);
	free(dz[1]);
	free_input(&in);
}

/* Large enough that the gradient is streamed past the caches */
static void test_streamed(void **unused)
{
	(void)unused;
	for (int bf16 = 0; bf16 < 2; bf16++)
		check_shape(run_shape_of(80, bf16 ? 30001 : 15001, bf16), 0);
}

/* ---- the device ---- */
static void test_specs(void **unused)
{
	struct pf_device *device = NULL;
	struct pf_error error = { 0 };
	(void)unused;
	assert_int_equal(pf_device_open("cpu:sse9", NULL, &device, &error), PF_E_UNKNOWN);
	assert_non_null(strstr(error.text, "baseline"));
	device = run_open("cpu", 3);
	const struct pf_device_facts *facts = pf_device_facts(device);
	assert_string_equal(facts->backend, "cpu");
	assert_true(facts->host_visible && !facts->exact && facts->memory_bytes > 0);
	pf_device_close(device);
}

static void test_memory_limit(void **unused)
{
	struct pf_device_options options = { .memory_bytes = 1 << 20 };
	struct pf_device *device = NULL;
	struct pf_error error = { 0 };
	struct pf_buf *half = NULL, *more = NULL;
	int kernel = pf_kernel_find("logprob");
	(void)unused;
	assert_int_equal(pf_device_open("cpu", &options, &device, &error), 0);
	assert_int_equal(pf_buf_alloc(device, kernel, 0, 1 << 19, &half, &error), 0);
	assert_int_equal(pf_buf_alloc(device, kernel, 0, (1 << 19) + 1, &more, &error), PF_E_MEMORY);
	assert_non_null(strstr(error.text, "524288"));
	pf_buf_free(half);
	assert_int_equal(pf_buf_alloc(device, kernel, 0, 1 << 20, &more, &error), 0);
	memset(pf_buf_map(more), 1, 1 << 20);
	pf_buf_free(more);
	pf_device_close(device);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_edges), cmocka_unit_test(test_wide_stride),
		cmocka_unit_test(test_large_vocabulary),
		cmocka_unit_test(test_statuses),
		cmocka_unit_test(test_nans), cmocka_unit_test(test_coefficients), cmocka_unit_test(test_threads),
		cmocka_unit_test(test_streamed), cmocka_unit_test(test_specs), cmocka_unit_test(test_memory_limit),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
