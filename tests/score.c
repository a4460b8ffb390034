/* Streaming ready logits through a device, against the reference: types, layouts, chunks, errors; and halves. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include "tests/cmocka.h"
#include "tests/ref/ref.h"
#include "host/model/half_rows.h"
#include "host/train/score.h"

static const char *const specs[] = { "cpu", "sim" };
enum { SPECS = sizeof specs / sizeof *specs };

static uint64_t state = 0x2545f4914f6cdd1dull;

static double uniform(void)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return (double)(state >> 11) * 0x1p-53;
}

/* ---- arrays ---- */
struct arrays {
	struct pf_score_input in;
	void                 *logits;
	int32_t              *target;
	float                *coef;
	double               *wide;            /* the values of logits */
	uint64_t              next;            /* row that the next batch must begin with */
	unsigned              batches;
	int                   lies;            /* the gradient must lie in in.grad, nothing having been copied */
	int                   stop_at;         /* batch whose consumer fails; -1: none */
};

static double get(enum pf_dtype type, const void *array, size_t i)
{
	if (type == PF_F32)
		return (double)((const float *)array)[i];
	return type == PF_F16 ? ref_from_f16(((const uint16_t *)array)[i])
	                      : ref_from_bf16(((const uint16_t *)array)[i]);
}

static void put(enum pf_dtype type, void *array, size_t i, double value)
{
	if (type == PF_F32)
		((float *)array)[i] = (float)value;
	else
		((uint16_t *)array)[i] = type == PF_F16 ? ref_to_f16(value) : ref_to_bf16(value);
}

static struct arrays make_arrays(enum pf_dtype type, uint64_t rows, uint32_t vocab)
{
	struct arrays a = { .stop_at = -1 };
	a.logits = malloc(rows * vocab * pf_dtype_bytes(type));
	a.wide = malloc(rows * vocab * sizeof *a.wide);
	a.target = malloc(rows * sizeof *a.target);
	a.coef = malloc(rows * sizeof *a.coef);
	for (size_t i = 0; i < rows * vocab; i++) {
		put(type, a.logits, i, i % 97 == 5 ? -INFINITY : 20 * uniform() - 10);
		a.wide[i] = get(type, a.logits, i);
	}
	for (uint64_t t = 0; t < rows; t++) {
		a.target[t] = t % 5 == 2 ? PF_IGNORE : (int32_t)(uniform() * vocab);
		a.coef[t] = (float)(uniform() - 0.5);
	}
	a.in = (struct pf_score_input){ .logits = a.logits, .type = type, .rows = rows, .vocab = vocab,
	                                .target = a.target, .want_grad = 1, .coef = a.coef };
	return a;
}

static void free_arrays(struct arrays *a)
{
	free(a->logits);
	free(a->wide);
	free(a->target);
	free(a->coef);
}

/* ---- the consumer ---- */
static void close_to(const char *what, double got, long double want, double tolerance, uint64_t row)
{
	if (isnan(want) ? !isnan(got) : isinf(want) ? got != (double)want : !(fabsl(got - want) <= tolerance))
		fail_msg("row %llu: %s is %.9g, should be %.9Lg", (unsigned long long)row, what, got, want);
}

static void check_row(const struct arrays *a, uint64_t t, const struct pf_row *row)
{
	struct ref_row want;
	ref_logprob(a->wide + t * a->in.vocab, a->in.vocab, a->target[t], &want);
	assert_int_equal(row->status, want.status);
	close_to("logp", (double)row->logp, want.logp, 1e-6 + ref_ulp32((double)want.logp), t);
}

static void check_gradient(const struct arrays *a, uint64_t t, const void *grad, size_t at)
{
	const double c = a->in.coef ? (double)a->coef[t] : 1;
	const double unit = a->in.type == PF_F32 ? 2e-6 : a->in.type == PF_F16 ? 0x1.1p-11 : 0x1.1p-8;
	long double *want = malloc(a->in.vocab * sizeof *want);
	ref_logit_grad(a->wide + t * a->in.vocab, a->in.vocab, a->target[t], c, want);
	for (uint32_t v = 0; v < a->in.vocab; v++)
		close_to("dz", get(a->in.type, grad, at + v), want[v],
		         unit * fabs((double)want[v]) + (a->in.type == PF_F16 ? 0x1p-25 : 0) + 1e-37, t);
	free(want);
}

static int check_batch(void *context, const struct pf_score_batch *batch, struct pf_error *error)
{
	struct arrays *a = context;
	if ((int)a->batches++ == a->stop_at)
		return pf_fail(error, PF_E_DATA, "enough");
	assert_true(batch->first == a->next && batch->rows > 0);
	assert_int_equal(batch->grad != NULL, a->in.want_grad);
	if (a->lies)
		assert_ptr_equal(batch->grad, (char *)a->in.grad +
		                              batch->first * a->in.vocab * pf_dtype_bytes(a->in.type));
	for (uint32_t i = 0; i < batch->rows; i++) {
		check_row(a, batch->first + i, &batch->row[i]);
		if (batch->grad)
			check_gradient(a, batch->first + i, batch->grad, (size_t)i * a->in.vocab);
	}
	a->next += batch->rows;
	return 0;
}

static struct pf_device *open_limited(const char *spec, uint64_t memory)
{
	const struct pf_device_options options = { .memory_bytes = memory, .threads = 2 };
	struct pf_device *device = NULL;
	struct pf_error error = { 0 };
	if (pf_device_open(spec, &options, &device, &error))
		fail_msg("%s", error.text);
	return device;
}

static void check_score(const char *spec, struct arrays *a, uint64_t memory, unsigned batches_least)
{
	struct pf_device *device = open_limited(spec, memory);
	struct pf_error error = { 0 };
	a->next = a->batches = 0;
	if (pf_score(device, &a->in, check_batch, a, &error))
		fail_msg("%s: %s", spec, error.text);
	assert_true(a->next == a->in.rows);
	assert_true(a->batches >= batches_least);
	assert_int_equal(pf_device_close(device), 0);
}

/* ---- tests ---- */
static void test_types_and_layouts(void **unused)
{
	static const enum pf_dtype types[] = { PF_F32, PF_BF16, PF_F16 };
	static const uint32_t vocabs[] = { 1, 64, 77, 640, 1001 };
	(void)unused;
	for (int i = 0; i < SPECS; i++)
		for (int k = 0; k < 3; k++)
			for (int j = 0; j < 5; j++) {
				struct arrays a = make_arrays(types[k], 29, vocabs[j]);
				check_score(specs[i], &a, 0, 1);
				check_score(specs[i], &a, 1 << 16, vocabs[j] > 600 ? 4 : 1);
				a.in.coef = NULL;
				check_score(specs[i], &a, 0, 1);
				a.in.want_grad = 0;
				check_score(specs[i], &a, 1 << 16, 1);
				free_arrays(&a);
			}
}

/* Rows that lie as kernels read them are computed where they lie: logits that nobody may write, the gradient beside
 * them or in their place, in several chunks; on other devices, and with other rows, the result is the same */
static void test_matrices_of_the_caller(void **unused)
{
	static const struct { enum pf_dtype type; uint32_t vocab; int whole; } cases[] = {
		{ PF_F32, 640, 1 }, { PF_BF16, 640, 1 }, { PF_F32, 641, 0 }, { PF_F16, 640, 0 },
	};
	(void)unused;
	for (int i = 0; i < SPECS; i++)
		for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
			struct arrays a = make_arrays(cases[k].type, 29, cases[k].vocab);
			const size_t bytes = 29 * cases[k].vocab * pf_dtype_bytes(cases[k].type),
				     pages = (bytes + 4095) & ~4095ul;
			char *map = mmap(NULL, 2 * pages, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
			assert_true(map != MAP_FAILED);
			memcpy(map, a.logits, bytes);
			assert_int_equal(mprotect(map, pages, PROT_READ), 0);
			a.lies = cases[k].whole && strcmp(specs[i], "cpu") == 0;
			a.in.logits = map;
			a.in.grad = map + pages;
			check_score(specs[i], &a, 1 << 16, 4);
			assert_memory_equal(map, a.logits, bytes);
			assert_int_equal(mprotect(map, pages, PROT_READ | PROT_WRITE), 0);
			a.in.grad = map;
			check_score(specs[i], &a, 1 << 16, 4);
			munmap(map, 2 * pages);
			free_arrays(&a);
		}
}

static void test_no_rows(void **unused)
{
	struct arrays a = make_arrays(PF_F32, 1, 10);
	(void)unused;
	a.in.rows = 0;
	check_score("cpu", &a, 0, 0);
	free_arrays(&a);
}

/* More rows than one chunk holds */
static void test_many_chunks(void **unused)
{
	struct arrays a = make_arrays(PF_BF16, 700, 20011);
	(void)unused;
	a.in.want_grad = 0;
	check_score("cpu", &a, 0, 3);
	free_arrays(&a);
}

static void refuse(struct arrays *a, uint64_t memory, int code, const char *says)
{
	struct pf_device *device = open_limited("cpu", memory);
	struct pf_error error = { 0 };
	a->next = a->batches = 0;
	int got = pf_score(device, &a->in, check_batch, a, &error);
	if (got != code || !strstr(error.text, says))
		fail_msg("%d: %s", got, error.text);
	assert_int_equal(pf_device_close(device), 0);
}

static void test_errors(void **unused)
{
	struct arrays a = make_arrays(PF_F32, 20, 5000);
	(void)unused;
	refuse(&a, 1 << 16, PF_E_MEMORY, "more memory");
	a.target[17] = 5000;
	refuse(&a, 0, PF_E_RANGE, "row 17: target 5000");
	a.target[17] = -5;
	refuse(&a, 0, PF_E_RANGE, "row 17: target -5");
	a.target[17] = 3;
	a.coef[4] = NAN;
	refuse(&a, 0, PF_E_RANGE, "row 4: coefficient nan");
	a.coef[4] = 1;
	a.in.type = PF_F64;
	refuse(&a, 0, PF_E_TYPE, "float16");
	a.in.type = PF_F32;
	a.in.vocab = PF_VOCAB_MAX + 1;
	refuse(&a, 0, PF_E_RANGE, "262145");
	a.in.vocab = 5000;
	a.stop_at = 2;
	refuse(&a, 1 << 18, PF_E_DATA, "enough");
	free_arrays(&a);
}

/* ---- halves ---- */
static void check_half(float value)
{
	uint16_t got;
	pf_halves_round(&value, &got, 1);
	if (isnan(value) ? (got & 0x7fff) <= 0x7c00 : got != ref_to_f16((double)value))
		fail_msg("%a rounds to %04x, should be %04x", (double)value, got, ref_to_f16((double)value));
}

static void test_halves(void **unused)
{
	(void)unused;
	for (uint32_t bits = 0; bits < 65536; bits++) {
		const uint16_t half = (uint16_t)bits;
		const double want = ref_from_f16(half), next = ref_from_f16((uint16_t)(bits + 1));
		float got;
		pf_halves_widen(&half, &got, 1);
		assert_true(isnan(want) ? isnan(got) : (double)got == want && !signbit(got) == !signbit(want));
		check_half(got);
		check_half((float)((want + next) / 2));
		check_half(nextafterf((float)((want + next) / 2), INFINITY));
		check_half(nextafterf((float)((want + next) / 2), -INFINITY));
	}
	check_half(65519.996f);
	check_half(65520.0f);
	check_half(-3e38f);
	check_half(INFINITY);
	check_half(NAN);
	check_half(1e-42f);
	for (int i = 0; i < 1000000; i++)
		check_half((float)ldexp(uniform() - 0.5, (int)(uniform() * 50) - 30));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_types_and_layouts), cmocka_unit_test(test_matrices_of_the_caller),
		cmocka_unit_test(test_no_rows), cmocka_unit_test(test_many_chunks),
		cmocka_unit_test(test_errors), cmocka_unit_test(test_halves),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
