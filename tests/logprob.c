/* Verb logprob, the program itself: NumPy files in and out on cpu and sim, against the reference; errors leave nothing.
 * argv[1]: the program. */
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "tests/cmocka.h"
#include "tests/npy_scratch.h"
#include "tests/ref/ref.h"
#include "tests/scratch.h"

enum { ROWS = 37, VOCAB = 1003 };

static const char *program;
static double logits[ROWS * VOCAB];
static int32_t target[ROWS];
static float coef[ROWS];

/* ---- files ---- */
static double value(const struct pf_npy *npy, size_t i)
{
	if (npy->shape.type == PF_F32)
		return (double)((const float *)npy->data)[i];
	const uint16_t half = ((const uint16_t *)npy->data)[i];
	return npy->shape.type == PF_F16 ? ref_from_f16(half) : ref_from_bf16(half);
}

/* Logits of a type in z.npy (what they are after rounding stays in `logits`), y.npy, c.npy */
static void save_inputs(enum pf_dtype type)
{
	static float wide[ROWS * VOCAB];
	static uint16_t half[ROWS * VOCAB];
	for (uint32_t i = 0; i < ROWS * VOCAB; i++) {
		wide[i] = (float)(12 * sin(i * 0.37) + 3 * cos(i * 1.7));
		half[i] = type == PF_F16 ? ref_to_f16((double)wide[i]) : ref_to_bf16((double)wide[i]);
		logits[i] = type == PF_F32   ? (double)wide[i]
		            : type == PF_F16 ? ref_from_f16(half[i])
		                             : ref_from_bf16(half[i]);
	}
	for (int t = 0; t < ROWS; t++) {
		target[t] = t % 6 == 3 ? -100 : t * 131 % VOCAB;
		coef[t] = (float)(t - 18) / 16;
	}
	npy_save("z.npy", (struct pf_npy_shape){ type, 2, { ROWS, VOCAB } }, type == PF_F32 ? (void *)wide : half);
	npy_save("y.npy", (struct pf_npy_shape){ PF_I32, 1, { ROWS } }, target);
	npy_save("c.npy", (struct pf_npy_shape){ PF_F32, 1, { ROWS } }, coef);
}

/* ---- the program ---- */
static int run(const char *options, char text[2048])
{
	return npy_run(program, "logprob", options, text);
}

static void close_to(double got, long double want, double tolerance)
{
	if (!(fabsl(got - want) <= tolerance))
		fail_msg("%.9g, should be %.9Lg within %g", got, want, tolerance);
}

static void check_results(void)
{
	struct pf_npy logp = npy_load("logp.npy"), lse = npy_load("lse.npy");
	struct pf_npy grad = npy_load("dz.npy"), z = npy_load("z.npy");
	long double dz[VOCAB];
	assert_int_equal(grad.shape.type, z.shape.type);
	pf_npy_as_bf16(&grad);
	const double unit = grad.shape.type == PF_F32 ? 2e-6 : grad.shape.type == PF_F16 ? 0x1.1p-11 : 0x1.1p-8;
	const double least = grad.shape.type == PF_F16 ? 0x1.1p-25 : 1e-12;
	for (uint32_t t = 0; t < ROWS; t++) {
		struct ref_row want;
		ref_logprob(logits + t * VOCAB, VOCAB, target[t], &want);
		close_to(value(&logp, t), want.logp, 1e-6 + ref_ulp32((double)want.logp));
		close_to(value(&lse, t), want.max + want.log_sum, 1e-6 + ref_ulp32((double)(want.max + want.log_sum)));
		ref_logit_grad(logits + t * VOCAB, VOCAB, target[t], (double)coef[t], dz);
		for (uint32_t v = 0; v < VOCAB; v++)
			close_to(value(&grad, (size_t)t * VOCAB + v), dz[v], unit * fabs((double)dz[v]) + least);
	}
	pf_npy_close(&logp);
	pf_npy_close(&lse);
	pf_npy_close(&grad);
	pf_npy_close(&z);
}

static void check_summary(const char *text)
{
	json_t *json = json_loads(text, 0, NULL);
	if (!json)
		fail_msg("not JSON: %s", text);
	double sum = 0;
	int tokens = 0;
	for (uint32_t t = 0; t < ROWS; t++) {
		struct ref_row want;
		ref_logprob(logits + t * VOCAB, VOCAB, target[t], &want);
		sum += (double)want.logp;
		tokens += target[t] >= 0;
	}
	assert_int_equal(json_integer_value(json_object_get(json, "rows")), ROWS);
	assert_int_equal(json_integer_value(json_object_get(json, "vocabulary")), VOCAB);
	assert_int_equal(json_integer_value(json_object_get(json, "tokens")), tokens);
	close_to(json_real_value(json_object_get(json, "mean_logp")), sum / tokens, 1e-6);
	json_decref(json);
}

static void test_types(void **unused)
{
	static const enum pf_dtype types[] = { PF_F32, PF_F16, PF_BF16 };
	static const char *const devices[] = { "cpu", "sim" };
	char options[256], text[2048];
	(void)unused;
	for (int i = 0; i < 6; i++) {
		scratch_open("logprob");
		save_inputs(types[i / 2]);
		snprintf(options, sizeof options,
		         "--logits z.npy --targets y.npy --out logp.npy --lse lse.npy --coef c.npy "
		         "--grad dz.npy --format json --device %s",
		         devices[i % 2]);
		if (run(options, text))
			fail_msg("%s", text);
		check_summary(text);
		check_results();
		assert_int_equal(scratch_count("."), 6);
	}
}

static void test_more_dimensions(void **unused)
{
	static float z[2 * 3 * 4];
	static const int32_t y[2 * 3] = { 0, 1, 2, 3, -100, 1 };
	char text[2048];
	(void)unused;
	npy_save("z3.npy", (struct pf_npy_shape){ PF_F32, 3, { 2, 3, 4 } }, z);
	npy_save("y2.npy", (struct pf_npy_shape){ PF_I32, 2, { 2, 3 } }, y);
	assert_int_equal(run("--logits z3.npy --targets y2.npy --out o.npy --grad g.npy --device cpu", text), 0);
	struct pf_npy out = npy_load("o.npy"), grad = npy_load("g.npy");
	assert_true(out.shape.dims == 2 && out.shape.size[1] == 3 && grad.shape.dims == 3 && grad.shape.size[2] == 4);
	close_to(value(&out, 0), -logl(4), 1e-6);
	close_to(value(&out, 4), 0, 0);
	close_to(value(&grad, 0), -0.75, 1e-6);        /* without --coef: c = 1 */
	pf_npy_close(&out);
	pf_npy_close(&grad);
}

static void refuse(const char *options, int code, const char *says)
{
	char text[2048];
	int got = run(options, text);
	if (got != code || !strstr(text, says))
		fail_msg("%s: %d %s", options, got, text);
}

static void test_errors(void **unused)
{
	static const int64_t wide[ROWS] = { 0 };
	static const int32_t high[ROWS] = { [11] = VOCAB };
	static const float bad[ROWS] = { [5] = INFINITY };
	(void)unused;
	scratch_open("logprob");
	save_inputs(PF_F32);
	npy_save("wide.npy", (struct pf_npy_shape){ PF_I64, 1, { ROWS } }, wide);
	npy_save("short.npy", (struct pf_npy_shape){ PF_I32, 1, { ROWS - 1 } }, target);
	npy_save("high.npy", (struct pf_npy_shape){ PF_I32, 1, { ROWS } }, high);
	npy_save("bad.npy", (struct pf_npy_shape){ PF_F32, 1, { ROWS } }, bad);
	refuse("--logits z.npy", 2, "--targets");
	refuse("--logits z.npy --targets y.npy --coef c.npy", 2, "--grad");
	refuse("--logits none.npy --targets y.npy --out o.npy", 1, "none.npy: cannot open");
	refuse("--logits y.npy --targets y.npy --out o.npy", 1, "y.npy: elements are int32");
	refuse("--logits c.npy --targets y.npy --out o.npy", 1, "c.npy: shape (37,)");
	refuse("--logits z.npy --targets wide.npy --out o.npy", 1, "wide.npy: elements are int64");
	refuse("--logits z.npy --targets short.npy --out o.npy", 1, "short.npy: shape (36,)");
	refuse("--logits z.npy --targets high.npy --out o.npy", 1, "high.npy: row 11: target 1003");
	refuse("--logits z.npy --targets y.npy --coef bad.npy --grad o.npy", 1, "bad.npy: row 5");
	refuse("--logits z.npy --targets y.npy --out none/o.npy", 1, "none/o.npy");
	refuse("--logits z.npy --targets y.npy --out o.npy --device gpu", 1, "gpu");
	refuse("--logits z.npy --targets y.npy --out o.npy --lse ./o.npy", 2, "--out and --lse name one file");
	refuse("--logits z.npy --targets y.npy --lse o.npy --grad o.npy", 2, "--lse and --grad name one file");
	refuse("--logits z.npy --targets y.npy --out ./z.npy", 2, "--logits is read, and --out would be written over");
	refuse("--logits z.npy --targets y.npy --lse y.npy", 2, "--targets is read, and --lse would be written");
	refuse("--logits z.npy --targets y.npy --coef c.npy --grad c.npy", 2, "--coef is read, and --grad would");
	assert_int_equal(scratch_count("."), 7);
	assert_int_equal(mkdir(scratch_path("folder"), 0777), 0);
	refuse("--logits z.npy --targets y.npy --out o.npy --grad folder --device cpu", 1,
	       "folder: is a folder; name a file");
	refuse("--logits z.npy --targets y.npy --out /dev/null --device cpu", 1, "/dev/null: not a regular file");
	assert_int_equal(scratch_count("."), 8);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_types), cmocka_unit_test(test_more_dimensions), cmocka_unit_test(test_errors),
	};
	if (argc < 2)
		return 1;
	program = argv[1];
	scratch_open("logprob");
	return cmocka_run_group_tests(tests, NULL, NULL);
}
