/* Verb head, the program itself: NumPy files in and out on cpu and sim, both ways back, against the reference; errors
 * leave nothing. argv[1]: the program. */
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "tests/cmocka.h"
#include "tests/npy_scratch.h"
#include "tests/ref/linear.h"
#include "tests/scratch.h"

enum { T = 70, V = 203, D = 21 };

static const char *program;
static float hidden[T * D], weight[V * D], bias[V], coef[T];
static int32_t target[T];

static void save_inputs(void)
{
	for (int i = 0; i < T * D; i++)
		hidden[i] = (float)sin(i * 0.37);
	for (int i = 0; i < V * D; i++)
		weight[i] = (float)cos(i * 1.7);
	for (int v = 0; v < V; v++)
		bias[v] = v == 17 ? -INFINITY : (float)sin(v * 2.1);
	for (int t = 0; t < T; t++) {
		target[t] = t % 6 == 3 ? -100 : t * 131 % V;
		coef[t] = (float)(t - 35) / 32;
	}
	npy_save("h.npy", (struct pf_npy_shape){ PF_F32, 2, { T, D } }, hidden);
	npy_save("w.npy", (struct pf_npy_shape){ PF_F32, 2, { V, D } }, weight);
	npy_save("b.npy", (struct pf_npy_shape){ PF_F32, 1, { V } }, bias);
	npy_save("y.npy", (struct pf_npy_shape){ PF_I32, 1, { T } }, target);
	npy_save("c.npy", (struct pf_npy_shape){ PF_F32, 1, { T } }, coef);
}

static int run(const char *options, char text[2048])
{
	return npy_run(program, "head", options, text);
}

static void check_file(const char *name, size_t count, const long double *want, const long double *size, double share)
{
	struct pf_npy npy = npy_load(name);
	assert_int_equal(pf_npy_count(&npy.shape), count);
	for (size_t i = 0; i < count; i++) {
		const double got = (double)((const float *)npy.data)[i];
		if (!(fabsl(got - want[i]) <= share * (double)size[i] + 1e-12))
			fail_msg("%s[%zu]: %.9g, the reference says %.9Lg", name, i, got, want[i]);
	}
	pf_npy_close(&npy);
}

static void check_outputs(const struct ref_linear *ref)
{
	static long double g[2 * (T * D + V * D + V)], logp[T], one[T];
	const struct ref_linear_grad grad = {
		g, g + T * D, g + 2 * T * D, g + 2 * T * D + V * D, g + 2 * (T * D + V * D), g + 2 * (T * D + V * D) + V
	};
	const double size = ref_linear_grad(ref, coef, &grad), share = ref_linear_share(size);
	double z[V];
	for (uint32_t t = 0; t < T; t++) {
		struct ref_row row;
		ref_linear_logits(ref, t, z);
		ref_logprob(z, V, target[t], &row);
		logp[t] = row.logp;
		one[t] = 1;
	}
	check_file("logp.npy", T, logp, one, 2 * ref_linear_logit_error(size) + 1e-6);
	check_file("dh.npy", T * D, grad.dhidden, grad.dhidden_size, share);
	check_file("dw.npy", V * D, grad.dweight, grad.dweight_size, share);
	check_file("db.npy", V, grad.dbias, grad.dbias_size, share);
}

static void files_against_the_reference(void **state)
{
	static const char *const devices[] = { "cpu --way spill", "cpu --way recompute", "sim --way spill",
		                               "sim:u250*2 --way recompute",
		                               "sim:u250*2 --way spill --shards 3" };
	const struct ref_linear ref = { hidden, weight, bias, target, T, D, V, 1.25, 5, 0.75, 0.01, 0.05 };
	char options[512], text[2048];
	(void)state;
	scratch_open("head");
	save_inputs();
	for (size_t i = 0; i < sizeof devices / sizeof *devices; i++) {
		snprintf(options, sizeof options,
		         "--hidden h.npy --weight w.npy --bias b.npy --targets y.npy --out logp.npy "
		         "--coef c.npy --dhidden dh.npy --dweight dw.npy --dbias db.npy --scale 1.25 --softcap 5 "
		         "--temperature 0.75 --z-loss 0.01 --entropy-bonus 0.05 --format json --device %s",
		         devices[i]);
		if (run(options, text) != 0)
			fail_msg("%s", text);
		check_outputs(&ref);
		json_t *json = json_loads(text, 0, NULL);
		assert_non_null(json);
		assert_int_equal(json_integer_value(json_object_get(json, "dim")), D);
		assert_string_equal(json_string_value(json_object_get(json, "way")), i % 2 ? "recompute" : "spill");
		assert_true(json_integer_value(json_object_get(json, "link_bytes_in")) >= (T * D + V) * 4);
		assert_true(json_integer_value(json_object_get(json, "peak_device_bytes")) > 0);
		assert_true(json_integer_value(json_object_get(json, "peak_host_bytes")) > 0);
		assert_true(json_real_value(json_object_get(json, "seconds")) > 0);
		const char *cost = json_string_value(json_object_get(json, "cost_model"));
		assert_true(strncmp(devices[i], "sim", 3) ? !cost : cost && strstr(cost, "offload") &&
		            strstr(cost, "modelled"));
		json_decref(json);
	}
}

/* ---- precisions ---- */

/* Makes an array bfloat16 numbers, and saves it as such */
static void save_bf16(const char *name, uint64_t rows, float *x)
{
	static uint16_t half[V * D];
	for (uint64_t i = 0; i < rows * D; i++) {
		half[i] = ref_to_bf16((double)x[i]);
		x[i] = (float)ref_from_bf16(half[i]);
	}
	npy_save(name, (struct pf_npy_shape){ PF_BF16, 2, { rows, D } }, half);
}

static double value_of(const char *name, size_t i)
{
	struct pf_npy npy = npy_load(name);
	const double value = npy.shape.type == PF_U16 ? ref_from_bf16(((const uint16_t *)npy.data)[i])
	                                              : (double)((const float *)npy.data)[i];
	pf_npy_close(&npy);
	return value;
}

/* Files of bfloat16 are what they are in fp32 and bf16; dhidden is written in their type. mxint8 is near, not equal */
static void bfloat16_goes_in_and_out(void **state)
{
	static const char *const devices[] = { "fp32 --device cpu", "bf16 --device cpu",
		                               "bf16 --device sim --way recompute" };
	static long double g[2 * (T * D + V * D + V)];
	const struct ref_linear ref = { hidden, weight, bias, target, T, D, V, 1, 0, 1, 0, 0 };
	const struct ref_linear_grad grad = {
		g, g + T * D, g + 2 * T * D, g + 2 * T * D + V * D, g + 2 * (T * D + V * D), g + 2 * (T * D + V * D) + V
	};
	char options[512], text[2048];
	double logp[2];
	(void)state;
	scratch_open("head");
	save_inputs();
	save_bf16("h16.npy", T, hidden);
	save_bf16("w16.npy", V, weight);
	const double share = ref_linear_share(ref_linear_grad(&ref, coef, &grad));
	for (size_t i = 0; i < sizeof devices / sizeof *devices; i++) {
		snprintf(options, sizeof options,
		         "--hidden h16.npy --weight w16.npy --bias b.npy --targets y.npy --out logp.npy --coef c.npy "
		         "--dhidden dh.npy --dweight dw.npy --format json --precision %s",
		         devices[i]);
		if (run(options, text) != 0)
			fail_msg("%s", text);
		assert_non_null(strstr(text, i ? "\"precision\":\"bf16\"" : "\"precision\":\"fp32\""));
		check_file("dw.npy", V * D, grad.dweight, grad.dweight_size, share);
		for (size_t k = 0; k < T * D; k++) {
			const double want = (double)grad.dhidden[k], got = value_of("dh.npy", k);
			const double fp32 = share * (double)grad.dhidden_size[k] + 1e-12;
			if (!(fabs(got - want) <= 0x1.01p-8 * fabs(want) + fp32))
				fail_msg("dh.npy[%zu]: %.9g, the reference says %.9g", k, got, want);
		}
		logp[0] = value_of("logp.npy", 0);
	}
	if (run("--hidden h16.npy --weight w16.npy --bias b.npy --targets y.npy --out logp.npy --precision mxint8 "
	        "--device sim", text) != 0)
		fail_msg("%s", text);
	logp[1] = value_of("logp.npy", 0);
	assert_true(fabs(logp[1] - logp[0]) > 1e-6 && fabs(logp[1] - logp[0]) < 0.3);
}

/* What was left out is said, and is less than what may be: V words below 0.003 */
static void a_filter_says_what_it_dropped(void **state)
{
	char text[2048];
	(void)state;
	scratch_open("head");
	save_inputs();
	if (run("--hidden h.npy --weight w.npy --targets y.npy --coef c.npy --dhidden dh.npy --filter 0.003 "
	        "--format json --device sim", text) != 0)
		fail_msg("%s", text);
	json_t *json = json_loads(text, 0, NULL);
	assert_non_null(json);
	const double most = json_real_value(json_object_get(json, "dropped_max"));
	const double mean = json_real_value(json_object_get(json, "dropped_mean"));
	assert_true(mean >= 0 && mean <= most && most <= 0.003 * V);
	assert_true(json_is_number(json_object_get(json, "dropped_words")));
	assert_true(json_is_number(json_object_get(json, "saved_words")));
	json_decref(json);
}

static void mistakes_are_named_and_leave_nothing(void **state)
{
	static const struct { const char *options, *says; } cases[] = {
		{ "--hidden h.npy --weight w.npy", "--hidden, --weight and --targets are needed" },
		{ "--hidden h.npy --weight h.npy --targets c.npy --out o.npy", "c.npy: elements are float32" },
		{ "--hidden h.npy --weight y.npy --targets y.npy --out o.npy", "y.npy: elements are int32" },
		{ "--hidden w.npy --weight w.npy --targets y.npy --out o.npy", "one target for each hidden state" },
		{ "--hidden h.npy --weight w.npy --targets bad.npy --out o.npy", "row 2: target 203 is no token" },
		{ "--hidden h.npy --weight w.npy --targets y.npy --bias y.npy --out o.npy", "y.npy: elements are int32" },
		{ "--hidden h.npy --weight w.npy --targets y.npy --coef c.npy --out o.npy", "--coef is for gradients" },
		{ "--hidden h.npy --weight w.npy --targets y.npy --dbias o.npy", "--dbias is the gradient of --bias" },
		{ "--hidden h.npy --weight w.npy --targets y.npy --out o.npy --dhidden o.npy", "give each its own" },
		{ "--hidden h.npy --weight w.npy --targets y.npy --out h.npy",
		  "--hidden is read, and --out would be written over it" },
		{ "--hidden h.npy --weight w.npy --targets y.npy --coef c.npy --dweight ./w.npy", "--weight is read" },
		{ "--hidden h.npy --weight w.npy --targets y.npy --bias b.npy --dbias b.npy", "--bias is read" },
		{ "--hidden h.npy --weight w.npy --targets y.npy --coef nan.npy --dhidden o.npy", "row 4: coefficient nan" },
		{ "--hidden h.npy --weight w.npy --targets y.npy --temperature 0 --out o.npy", "temperature" },
		{ "--hidden h.npy --weight w.npy --targets y.npy --dhidden o.npy --filter 0.1 --z-loss 1",
		  "leave out --z-loss" },
		{ "--hidden h.npy --weight w.npy --targets y.npy --shards 5 --out o.npy", "5 ranges of 203 words" },
		{ "--hidden missing.npy --weight w.npy --targets y.npy", "missing.npy" },
		{ "--hidden h.npy --weight w.npy --targets y.npy --precision fp16 --out o.npy", "fp32|bf16" },
		{ "--hidden h.npy --weight w.npy --targets y.npy --precision mxint8 --way recompute --dhidden o.npy", "--way spill" },
		{ "--hidden h.npy --weight inf.npy --targets y.npy --precision mxint8 --out o.npy", "row 5 of the head's weight" },
	};
	char text[2048];
	(void)state;
	scratch_open("head");
	save_inputs();
	target[2] = V;
	coef[4] = NAN;
	npy_save("bad.npy", (struct pf_npy_shape){ PF_I32, 1, { T } }, target);
	npy_save("nan.npy", (struct pf_npy_shape){ PF_F32, 1, { T } }, coef);
	weight[5 * D + 20] = INFINITY;
	npy_save("inf.npy", (struct pf_npy_shape){ PF_F32, 2, { V, D } }, weight);
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		if (run(cases[i].options, text) == 0 || !strstr(text, cases[i].says))
			fail_msg("%s: %s", cases[i].options, text);
		assert_int_equal(access(scratch_path("o.npy"), F_OK), -1);
	}
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(files_against_the_reference), cmocka_unit_test(bfloat16_goes_in_and_out),
		cmocka_unit_test(a_filter_says_what_it_dropped),
		cmocka_unit_test(mistakes_are_named_and_leave_nothing),
	};
	if (argc < 2)
		return 2;
	program = argv[1];
	return cmocka_run_group_tests(tests, NULL, NULL);
}
