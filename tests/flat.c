/* flat.c: the entry points for other languages, against sums in double. torch_head.py compares more, with PyTorch. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "tests/cmocka.h"
#include "prefpga/prefpga.h"

enum { T = 5, V = 37, B = 3, D = 4 };

static const int32_t target[T] = { 3, 36, -1, 0, 5 };
static const uint64_t offset[B + 1] = { 0, 2, 2, 5 };  /* the second is empty */
static const double weight[B] = { 0.5, 7.0, -1.25 };
static struct pf_device *device;
static char text[256];
static float z[T][V];

static void fill(float *to, int count, int most, float scale)
{
	for (int i = 0; i < count; i++)
		to[i] = (float)(rand() % (2 * most + 1) - most) * scale;
}

static double logsumexp(const float *row)
{
	double sum = 0.0;

	for (int v = 0; v < V; v++)
		sum += exp((double)row[v]);
	return log(sum);
}

static double logit_gradient(const int32_t *ids, int t, int v)
{
	return weight[t < 2 ? 0 : 2] * ((v == ids[t]) - exp((double)z[t][v] - logsumexp(z[t])));
}

static int open_device(void **state)
{
	(void)state;
	srand(1);
	fill(&z[0][0], sizeof z / sizeof **z, 1000, 0.01f);
	device = pf_flat_open("sim", 0, 2, text, sizeof text);
	return device ? 0 : -1;
}

static int close_device(void **state)
{
	(void)state;
	return pf_device_close(device);
}

static void numbers_have_names(void **state)
{
	(void)state;
	assert_int_equal(pf_flat_version(), PF_FLAT_VERSION);
	assert_int_equal(pf_flat_number("f32"), PF_F32);
	assert_int_equal(pf_flat_number("bf16"), PF_BF16);
	assert_int_equal(pf_flat_number("rejected"), PF_KIND_REJECTED);
	assert_int_equal(pf_flat_number("f8"), -1);
}

static void sums_are_those_of_the_rows(void **state)
{
	int64_t sum[B];
	float logp[T];

	(void)state;
	assert_int_equal(pf_flat_logps(device, z, PF_F32, T, V, target, offset, B, sum, logp, text, sizeof text), 0);
	assert_int_equal(sum[1], 0);
	for (int i = 0; i < B; i++) {
		double want = 0.0;

		for (uint64_t t = offset[i]; t < offset[i + 1]; t++) {
			const double one = target[t] < 0 ? 0.0 : (double)z[t][target[t]] - logsumexp(z[t]);

			assert_true(fabs((double)logp[t] - one) < 2e-6);
			want += one;
		}
		assert_true(fabs((double)sum[i] * 0x1p-32 - want) < 1e-6);
	}
}

static void gradients_may_take_the_place_of_logits(void **state)
{
	float apart[T][V], place[T][V];

	(void)state;
	memcpy(place, z, sizeof z);
	assert_int_equal(
		pf_flat_logps_grad(device, z, PF_F32, T, V, target, offset, B, weight, apart, text, sizeof text), 0);
	assert_int_equal(pf_flat_logps_grad(device, place, PF_F32, T, V, target, offset, B, weight, place, NULL, 0), 0);
	assert_memory_equal(apart, place, sizeof apart);
	for (int t = 0; t < T; t++)
		for (int v = 0; v < V; v++) {
			const double want = target[t] < 0 ? 0.0 : logit_gradient(target, t, v);

			assert_true(fabs((double)apart[t][v] - want) < 1e-6);
		}
}

/* As kernel coef does it: below 2^-126 a gradient is none, also one that fp32 would round up to that. The targets are
 * improbable, so what arrives at them is the gradient itself */
static void tiny_gradients_are_none(void **state)
{
	static const double tiny[3] = { 0x1.fffffffp-127, -0x1.8p-127, 0x1p-126 };
	static const float row[3][2] = { { 0, -40 }, { 0, -40 }, { 0, -40 } };
	static const int32_t improbable[3] = { 1, 1, 1 };
	static const uint64_t each[4] = { 0, 1, 2, 3 };
	float grad[3][2];

	(void)state;
	assert_int_equal(
		pf_flat_logps_grad(device, row, PF_F32, 3, 2, improbable, each, 3, tiny, grad, text, sizeof text), 0);
	for (int v = 0; v < 2; v++)
		assert_true(grad[0][v] == 0.0f && grad[1][v] == 0.0f);
	assert_true(grad[2][1] == 0x1p-126f);
}

static void mistakes_are_named(void **state)
{
	static const uint64_t back[B + 1] = { 0, 3, 2, 5 }, beyond[B + 1] = { 0, 2, 2, 6 };
	static const int32_t wild[T] = { 3, 37, 0, 0, 0 };
	int64_t sum[B];
	float broken[T][V];

	(void)state;
	assert_int_equal(pf_flat_logps(device, z, PF_F32, T, V, target, back, B, sum, NULL, text, sizeof text),
	                 PF_E_SHAPE);
	assert_non_null(strstr(text, "offset 3 of sequence 1"));
	assert_int_equal(pf_flat_logps(device, z, PF_F32, T, V, target, beyond, B, sum, NULL, text, sizeof text),
	                 PF_E_SHAPE);
	assert_int_equal(pf_flat_logps(device, z, PF_F32, T, V, wild, offset, B, sum, NULL, text, sizeof text),
	                 PF_E_RANGE);
	assert_non_null(strstr(text, "row 1"));
	assert_int_equal(pf_flat_logps(device, z, PF_F64, T, V, target, offset, B, sum, NULL, text, sizeof text),
	                 PF_E_TYPE);
	assert_int_equal(pf_flat_logps(device, z, PF_F32, T, 0, target, offset, B, sum, NULL, text, sizeof text),
	                 PF_E_SHAPE);
	memcpy(broken, z, sizeof z);
	broken[3][0] = NAN;
	assert_int_equal(pf_flat_logps(device, broken, PF_F32, T, V, target, offset, B, sum, NULL, text, 12),
	                 PF_E_NOT_FINITE);
	assert_string_equal(text, "row 3 (sequ");
	assert_null(pf_flat_open("no_such_device", 0, 0, text, sizeof text));
	assert_non_null(strstr(text, "no_such_device"));
}

static const int32_t head_ids[T] = { 3, 36, 9, 0, 5 };
static float hidden[T][D], w[V][D], dhidden[T][D], dw[V][D];

/* Hidden states and W, and in z the logits that they make */
static void multiply(float scale)
{
	fill(&hidden[0][0], T * D, 100, scale);
	fill(&w[0][0], V * D, 100, scale);
	for (int t = 0; t < T; t++)
		for (int v = 0; v < V; v++) {
			z[t][v] = 0.0f;
			for (int d = 0; d < D; d++)
				z[t][v] += hidden[t][d] * w[v][d];
		}
}

/* dW was `before` everywhere, and is added to */
static void check_dweight(double before)
{
	for (int v = 0; v < V; v++)
		for (int d = 0; d < D; d++) {
			double want = before;

			for (int t = 0; t < T; t++)
				want += logit_gradient(head_ids, t, v) * (double)hidden[t][d];
			assert_true(fabs((double)dw[v][d] - want) < 1e-5);
		}
}

/* `rounding`: of a number that is handed out, relative */
static void check_dhidden(double rounding)
{
	for (int t = 0; t < T; t++)
		for (int d = 0; d < D; d++) {
			double want = 0.0;

			for (int v = 0; v < V; v++)
				want += logit_gradient(head_ids, t, v) * (double)w[v][d];
			assert_true(fabs((double)dhidden[t][d] - want) < 1e-5 + fabs(want) * rounding);
		}
}

static struct pf_flat_head *open_head(const char *precision)
{
	struct pf_flat_head *head = pf_flat_head_open_as(device, precision, V, D, 0, 1, text, sizeof text);

	assert_non_null(head);
	return head;
}

static void head_sums(struct pf_flat_head *head, int64_t sum[B])
{
	assert_int_equal(pf_flat_head_logps(head, hidden[0], w[0], head_ids, T, offset, B, sum, text, sizeof text), 0);
}

static void assert_sums_near(const int64_t *sum, const int64_t *want, double bound)
{
	for (int i = 0; i < B; i++)
		assert_true(fabs((double)(sum[i] - want[i]) * 0x1p-32) < bound);
}

static void a_head_multiplies(void **state)
{
	struct pf_flat_head *head = pf_flat_head_open(device, V, D, 0, 1, text, sizeof text);
	int64_t sum[B], same[B];

	(void)state;
	assert_non_null(head);
	multiply(0.01f);
	for (int v = 0; v < V; v++)
		for (int d = 0; d < D; d++)
			dw[v][d] = 1.0f;
	head_sums(head, sum);
	assert_int_equal(pf_flat_logps(device, z, PF_F32, T, V, head_ids, offset, B, same, NULL, text, sizeof text), 0);
	assert_sums_near(sum, same, 1e-5);
	assert_int_equal(pf_flat_head_logps_grad(head, weight, dhidden[0], dw[0], text, sizeof text), 0);
	check_dweight(1.0);
	check_dhidden(0.0);
	pf_flat_head_close(head);
}

static void check_precision(const char *precision, int exact)
{
	struct pf_flat_head *head = open_head(precision), *fp32 = open_head("fp32");
	int64_t sum[B], plain[B];

	multiply(exact ? 1.0f / 64 : 0.0123f);
	memset(dw, 0, sizeof dw);
	head_sums(head, sum);
	head_sums(fp32, plain);
	assert_sums_near(sum, plain, exact ? 1e-5 : 0.3);
	assert_true(exact || sum[0] != plain[0]);
	assert_int_equal(pf_flat_head_logps_grad(head, weight, dhidden[0], dw[0], text, sizeof text), 0);
	if (exact) {
		check_dweight(0.0);
		check_dhidden(0x1p-8);
	}
	pf_flat_head_close(head);
	pf_flat_head_close(fp32);
}

/* Multiples of 1/64 below 2: bfloat16 and MXINT8 hold them, so log-probs are those of the numbers themselves; dhidden
 * comes back rounded to bfloat16. Other numbers are rounded, which shows */
static void a_head_has_a_precision(void **state)
{
	(void)state;
	assert_null(pf_flat_head_open_as(device, "bf17", V, D, 0, 1, text, sizeof text));
	assert_non_null(strstr(text, "bf17"));
	for (int exact = 1; exact >= 0; exact--) {
		check_precision("bf16", exact);
		check_precision("mxint8", exact);
	}
}

static void a_loss_is_evaluated(void **state)
{
	static const double nats[4] = { -12.0, -14.0, -30.0, -22.0 }, base[4] = { -13.0, -13.5, -28.0, -25.0 };
	static const uint32_t tokens[4] = { 9, 7, 21, 20 }, groups[3] = { 0, 2, 4 };
	static const int32_t kind[4] = { PF_KIND_CHOSEN, PF_KIND_REJECTED, PF_KIND_CHOSEN, PF_KIND_REJECTED };
	int64_t policy[4], reference[4];
	double total, grad[4], value, want = 0.0;

	(void)state;
	for (int i = 0; i < 4; i++) {
		policy[i] = (int64_t)ldexp(nats[i], 32);
		reference[i] = (int64_t)ldexp(base[i], 32);
	}
	assert_int_equal(pf_flat_loss_needs("sigmoid", text, sizeof text), pf_flat_number("reference"));
	assert_string_equal(pf_flat_loss_name(0), "sigmoid");
	assert_string_equal(pf_flat_loss_form("sigmoid"), "pair");
	assert_null(pf_flat_loss_form("sigmod"));
	assert_true(pf_flat_loss_needs("aot", text, sizeof text) & pf_flat_number("coupled"));
	assert_int_equal(pf_flat_loss_needs("sigmod", text, sizeof text), PF_E_UNKNOWN);
	assert_int_equal(pf_flat_loss_parameter("sigmoid:beta=0.3", 0, "beta", &value, text, sizeof text), 0);
	assert_true(value == 0.3);
	assert_int_equal(pf_flat_loss_parameter("sigmoid", 0, "gamma", &value, text, sizeof text), PF_E_UNKNOWN);
	assert_int_equal(pf_flat_loss_parameter("sigmoid", 1, "beta", &value, text, sizeof text), PF_E_RANGE);
	assert_int_equal(pf_flat_loss(device, "sigmoid:beta=0.3", 4, policy, reference, NULL, tokens, kind, NULL, NULL,
	                              NULL, NULL, groups, 2, 2.0, 0, 0, 0, 0, &total, grad, NULL, text, sizeof text),
	                 0);
	for (int p = 0; p < 4; p += 2) {
		const double x = 0.3 * (nats[p] - base[p] - nats[p + 1] + base[p + 1]);

		want += log1p(exp(-x)) / 2.0;
		assert_true(fabs(grad[p] + 0.15 / (1.0 + exp(x))) < 1e-6);
		assert_true(fabs(grad[p + 1] - 0.15 / (1.0 + exp(x))) < 1e-6);
	}
	assert_true(fabs(total - want) < 1e-6);
	assert_true(pf_flat_loss(device, "sigmoid", 3, policy, reference, NULL, tokens, kind, NULL, NULL, NULL, NULL,
	                         groups, 2, 2.0, 0, 0, 0, 0, &total, grad, NULL, text, sizeof text) < 0);
}

/* Likelihood divides by the tokens of chosen items, likelihood of prompts by those of both: by hand, in one mixture */
static void prompts_have_tokens_of_their_own(void **state)
{
	static const double nats[3] = { -12.0, -14.0, -30.0 };
	static const uint32_t tokens[3] = { 9, 7, 16 }, groups[2] = { 0, 3 };
	static const int32_t kind[3] = { PF_KIND_CHOSEN, PF_KIND_REJECTED, PF_KIND_PROMPT };
	static const struct { const char *loss; double total, chosen, prompt; } cases[] = {
		{ "sft", 12.0 / 9, -1.0 / 9, 0 },
		{ "sft_prompt", 42.0 / 25, -1.0 / 25, -1.0 / 25 },
		{ "sft+sft_prompt", 12.0 / 9 + 42.0 / 25, -1.0 / 9 - 1.0 / 25, -1.0 / 25 },
	};
	int64_t policy[3];
	double total, grad[3];

	(void)state;
	for (int i = 0; i < 3; i++)
		policy[i] = (int64_t)ldexp(nats[i], 32);
	for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
		const int bits = pf_flat_loss_needs(cases[k].loss, text, sizeof text);

		assert_true(bits >= 0 && !(bits & pf_flat_number("prompts")) == (k == 0));
		assert_int_equal(pf_flat_loss(device, cases[k].loss, 3, policy, NULL, NULL, tokens, kind, NULL, NULL,
		                              NULL, NULL, groups, 1, 1.0, 0, 0, 9, 16, &total, grad, NULL, text,
		                              sizeof text),
		                 0);
		assert_true(fabs(total - cases[k].total) <= 1e-6);
		assert_true(fabs(grad[0] - cases[k].chosen) <= 1e-6 && grad[1] == 0.0);
		assert_true(fabs(grad[2] - cases[k].prompt) <= 1e-6);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(numbers_have_names),
		cmocka_unit_test(sums_are_those_of_the_rows),
		cmocka_unit_test(gradients_may_take_the_place_of_logits),
		cmocka_unit_test(tiny_gradients_are_none),
		cmocka_unit_test(mistakes_are_named),
		cmocka_unit_test(a_head_multiplies),
		cmocka_unit_test(a_head_has_a_precision),
		cmocka_unit_test(a_loss_is_evaluated),
		cmocka_unit_test(prompts_have_tokens_of_their_own),
	};

	return cmocka_run_group_tests(tests, open_device, close_device);
}
