/* The fused head over one device: what of an image a forward needs, the same bits on any number of compute units and
 * both ways back, on a simulated card; the host within the bound of it; W crosses the link once while it stays the
 * same, and the numbers of each step's traffic; memory that is too little. */
#include <stdlib.h>
#include <string.h>
#include "tests/head_numbers.h"
#include "tests/wrap.h"
#include "host/train/fused.h"

extern const struct pf_backend pf_backend_sim;

enum { V = 301, D = 32, T = 2100, B = 3 };

struct numbers {
	float          hidden[T * D], weight[V * D], bias[V], coef[T], dhidden[T * D], dweight[V * D], dbias[V];
	int32_t        target[T];
	struct pf_seq  sum[B];
	struct pf_row  row[T];
};

static const struct pf_span span[B] = { { 0, 700, 700, 0 }, { 700, 1500, 1200, 0 }, { 1500, T, T, 0 } };

static struct numbers *make_numbers(void)
{
	struct numbers *n = calloc(1, sizeof *n);
	assert_non_null(n);
	draw_state = 9;
	for (size_t i = 0; i < T * D; i++)
		n->hidden[i] = draw(1);
	for (size_t i = 0; i < V * D; i++)
		n->weight[i] = draw(0.5f);
	for (size_t v = 0; v < V; v++)
		n->bias[v] = draw(1);
	for (size_t t = 0; t < T; t++) {
		n->coef[t] = draw(1);
		n->target[t] = t % 40 == 7 ? PF_IGNORE : (int32_t)(t * 7919 % V);
	}
	return n;
}

static struct pf_fused *open_fused(struct pf_device *device, enum pf_way way, uint64_t memory)
{
	const struct pf_fused_options options = { .device = device,
		                                  .vocab = V,
		                                  .dim = D,
		                                  .bias = 1,
		                                  .backward = 1,
		                                  .way = way,
		                                  .memory_bytes = memory,
		                                  .form = { 1.25f, 6, 0.8f, 0.01f, 0.05f } };
	struct pf_fused *fused;
	struct pf_error error;
	if (pf_fused_open(&options, &fused, &error))
		fail_msg("%s", error.text);
	return fused;
}

static void step(struct pf_fused *fused, struct numbers *n, uint64_t version)
{
	const struct pf_fused_weight weight = { n->weight, n->bias, version, PF_PRECISION_FP32 };
	const struct pf_fused_tokens tokens = { n->hidden, n->target, span, T, B, 0, 0 };
	struct pf_error error;
	if (pf_fused_forward(fused, &weight, &tokens, n->sum, n->row, &error) || pf_fused_wait(fused, &error) ||
	    pf_fused_backward(fused, n->coef, n->dhidden, n->dweight, n->dbias, &error) || pf_fused_wait(fused, &error))
		fail_msg("%s", error.text);
}

static struct numbers *on(const char *spec, enum pf_way way)
{
	struct numbers *n = make_numbers();
	struct pf_device *device = open_device(spec);
	struct pf_fused *fused = open_fused(device, way, 0);
	for (size_t i = 0; i < V * D; i++)
		n->dweight[i] = 1;
	step(fused, n, 1);
	assert_int_equal(pf_fused_way(fused, NULL), way);
	pf_fused_close(fused);
	assert_int_equal(pf_device_close(device), 0);
	return n;
}

static void units_and_ways_change_no_bit(void **unused)
{
	struct numbers *one = on("sim:u55c*1", PF_WAY_SPILL);
	static const struct { const char *spec; enum pf_way way; } others[] = {
		{ "sim:u55c*1", PF_WAY_RECOMPUTE }, { "sim:u55c*2", PF_WAY_SPILL }, { "sim:u250*3", PF_WAY_RECOMPUTE },
		{ "sim:u55c*8@v1", PF_WAY_SPILL },
	};
	(void)unused;
	for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
		struct numbers *other = on(others[i].spec, others[i].way);
		assert_memory_equal(one->sum, other->sum, sizeof one->sum);
		assert_memory_equal(one->row, other->row, sizeof one->row);
		assert_memory_equal(one->dhidden, other->dhidden, sizeof one->dhidden);
		assert_memory_equal(one->dweight, other->dweight, sizeof one->dweight);
		assert_memory_equal(one->dbias, other->dbias, sizeof one->dbias);
		free(other);
	}
	free(one);
}

static void the_host_agrees_with_the_card(void **unused)
{
	struct numbers *sim = on("sim", PF_WAY_SPILL);
	(void)unused;
	for (enum pf_way way = PF_WAY_SPILL; way <= PF_WAY_RECOMPUTE; way++) {
		struct numbers *cpu = on("cpu", way);
		for (size_t b = 0; b < B; b++)
			assert_true(llabs(sim->sum[b].logp - cpu->sum[b].logp) <=
			            (int64_t)(1e-6 * 0x1p32) * sim->sum[b].n);
		agree("dhidden", sim->dhidden, cpu->dhidden, T * D, 2e-6);
		agree("dweight", sim->dweight, cpu->dweight, V * D, 2e-5);
		agree("dbias", sim->dbias, cpu->dbias, V, 2e-5);
		free(cpu);
	}
	free(sim);
}

/* What a step moves, beside W: hidden, targets, coefficients and spans in, dhidden, sums and rows out */
static void weights_cross_once(void **unused)
{
	struct numbers *policy = make_numbers(), *reference = make_numbers();
	struct pf_device *device = open_device("sim:u55c*1");
	struct pf_fused *fused = open_fused(device, PF_WAY_AUTO, 0);
	struct pf_device_counts before, after;
	const uint64_t w = V * D * sizeof(float), tokens = T * D * sizeof(float);
	(void)unused;
	step(fused, policy, 1);
	step(fused, reference, 2);
	pf_device_counts(device, &before);
	step(fused, policy, 1);
	step(fused, reference, 2);
	pf_device_counts(device, &after);
	assert_int_equal(after.bytes_in - before.bytes_in,
	                 2 * (tokens + T * (sizeof(int32_t) + sizeof(float)) + sizeof span + sizeof policy->bias));
	assert_int_equal(after.bytes_out - before.bytes_out,
	                 2 * (tokens + sizeof policy->sum + sizeof policy->row + w + sizeof policy->dbias));
	policy->weight[5] += 1;
	const struct pf_seq old = policy->sum[0];
	step(fused, policy, 3);                                /* a new version is taken */
	assert_true(policy->sum[0].logp != old.logp);
	pf_device_counts(device, &before);
	assert_int_equal(before.bytes_in - after.bytes_in,
	                 w + tokens + T * (sizeof(int32_t) + sizeof(float)) + sizeof span + sizeof policy->bias);
	pf_fused_close(fused);
	pf_device_close(device);
	free(policy);
	free(reference);
}

/* No dW is formed, nor brought back; dhidden is what it is anyway */
static void a_frozen_head_has_no_dw(void **unused)
{
	struct numbers *whole = on("sim", PF_WAY_SPILL), *n = make_numbers();
	struct pf_device *device = open_device("sim");
	struct pf_fused *fused = open_fused(device, PF_WAY_SPILL, 0);
	const struct pf_fused_weight weight = { n->weight, n->bias, 1, PF_PRECISION_FP32 };
	const struct pf_fused_tokens tokens = { n->hidden, n->target, span, T, B, 0, 0 };
	struct pf_device_counts before, after;
	struct pf_error error;
	(void)unused;
	if (pf_fused_forward(fused, &weight, &tokens, n->sum, NULL, &error) || pf_fused_wait(fused, &error))
		fail_msg("%s", error.text);
	pf_device_counts(device, &before);
	if (pf_fused_backward(fused, n->coef, n->dhidden, NULL, NULL, &error) || pf_fused_wait(fused, &error))
		fail_msg("%s", error.text);
	pf_device_counts(device, &after);
	assert_memory_equal(n->dhidden, whole->dhidden, sizeof n->dhidden);
	assert_int_equal(after.bytes_out - before.bytes_out, sizeof n->dhidden);
	pf_fused_close(fused);
	pf_device_close(device);
	free(whole);
	free(n);
}

static void little_memory_recomputes(void **unused)
{
	struct numbers *n = make_numbers();
	struct pf_device *device = open_device("sim");
	struct pf_fused *fused = open_fused(device, PF_WAY_AUTO, 1 << 20);
	const char *why;
	(void)unused;
	step(fused, n, 1);
	assert_int_equal(pf_fused_way(fused, &why), PF_WAY_RECOMPUTE);
	assert_non_null(strstr(why, "do not fit"));
	pf_fused_close(fused);
	pf_device_close(device);
	free(n);
}

static int forward_as(struct pf_fused *fused, struct numbers *n, enum pf_precision precision, int forward_only,
                      struct pf_error *error)
{
	const struct pf_fused_weight weight = { n->weight, n->bias, 1, precision };
	const struct pf_fused_tokens tokens = { n->hidden, n->target, span, T, B, 0, forward_only };
	int code = pf_fused_forward(fused, &weight, &tokens, n->sum, n->row, error);
	return code ? code : pf_fused_wait(fused, error);
}

/* An image without bf16's kernels, whose way back is also that of mxint8: a reference in mxint8 needs only its own */
static void a_reference_needs_its_forward_only(void **unused)
{
	struct numbers *n = make_numbers(), *want = make_numbers();
	struct pf_device *device, *whole = open_device("sim:u55c*2");
	struct pf_error error = { 0 };
	(void)unused;
	wrap_reset(&pf_backend_sim);
	wrap_lack(pf_kernel_set("linear_logprob_bf16 linear_grad_bf16"));
	assert_int_equal(pf_device_open_backend(wrap_backend(), "u55c*1", NULL, &device, &error), 0);
	struct pf_fused *fused = open_fused(device, PF_WAY_AUTO, 0), *other = open_fused(whole, PF_WAY_AUTO, 0);
	const char *why;
	assert_int_equal(forward_as(fused, n, PF_PRECISION_MXINT8, 0, &error), PF_E_UNSUPPORTED);
	assert_non_null(strstr(error.text, "no kernel linear_grad_bf16"));
	assert_int_equal(forward_as(fused, n, PF_PRECISION_BF16, 1, &error), PF_E_UNSUPPORTED);
	assert_non_null(strstr(error.text, "no kernel linear_logprob_bf16"));
	assert_int_equal(forward_as(fused, n, PF_PRECISION_MXINT8, 1, &error), 0);
	assert_int_equal(pf_fused_way(fused, &why), PF_WAY_RECOMPUTE);
	assert_non_null(strstr(why, "no way back"));
	assert_int_equal(pf_fused_backward(fused, n->coef, n->dhidden, n->dweight, n->dbias, &error), PF_E_ARGUMENT);
	assert_int_equal(forward_as(other, want, PF_PRECISION_MXINT8, 0, &error), 0);
	assert_memory_equal(n->row, want->row, sizeof n->row);
	assert_memory_equal(n->sum, want->sum, sizeof n->sum);
	step(fused, n, 1);                                     /* the policy is none the worse */
	step(other, want, 1);
	assert_memory_equal(n->dweight, want->dweight, sizeof n->dweight);
	assert_memory_equal(n->dhidden, want->dhidden, sizeof n->dhidden);
	pf_fused_close(fused);
	pf_fused_close(other);
	pf_device_close(device);
	pf_device_close(whole);
	free(n);
	free(want);
}

/* A forgotten W goes, comes again when it is needed, and takes no other along */
static void a_forgotten_weight_crosses_again(void **unused)
{
	struct numbers *n = make_numbers();
	struct pf_device *device = open_device("sim:u55c*1");
	struct pf_fused *fused = open_fused(device, PF_WAY_AUTO, 0);
	struct pf_device_counts count[4];
	struct pf_error error = { 0 };
	const enum pf_precision order[] = { PF_PRECISION_MXINT8, PF_PRECISION_BF16, PF_PRECISION_MXINT8 };
	(void)unused;
	for (int i = 0; i < 2; i++)
		assert_int_equal(forward_as(fused, n, order[i], 1, &error), 0);
	pf_fused_forget(fused, n->weight, PF_PRECISION_FP32);  /* is not there */
	pf_device_counts(device, &count[0]);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(forward_as(fused, n, order[i], 1, &error), 0);
		pf_device_counts(device, &count[i + 1]);
		if (i == 1)
			pf_fused_forget(fused, n->weight, PF_PRECISION_MXINT8);
	}
	assert_int_equal(count[3].bytes_in - count[2].bytes_in,
	                 count[1].bytes_in - count[0].bytes_in + V * pf_precision_row_bytes(PF_PRECISION_MXINT8, D));
	assert_int_equal(forward_as(fused, n, PF_PRECISION_BF16, 1, &error), 0);
	pf_device_counts(device, &count[0]);
	assert_int_equal(count[0].bytes_in - count[3].bytes_in, count[2].bytes_in - count[1].bytes_in);
	pf_fused_close(fused);
	pf_device_close(device);
	free(n);
}

static void forms_out_of_range_are_refused(void **unused)
{
	struct pf_device *device = open_device("cpu");
	struct pf_fused_options o = { .device = device, .vocab = V, .dim = D, .form = PF_FUSED_PLAIN };
	struct pf_fused *fused;
	struct pf_error error;
	(void)unused;
	o.form.temperature = 0;
	assert_int_equal(pf_fused_open(&o, &fused, &error), PF_E_RANGE);
	assert_null(fused);
	o.form = (struct pf_fused_form){ 1, NAN, 1, 0, 0 };
	assert_int_equal(pf_fused_open(&o, &fused, &error), PF_E_RANGE);
	o.form = (struct pf_fused_form)PF_FUSED_PLAIN;
	o.dim = PF_DEPTH_MAX * 16 + 1;
	assert_int_equal(pf_fused_open(&o, &fused, &error), PF_E_RANGE);
	o.dim = D;
	o.vocab = PF_VOCAB_MAX + 1;
	assert_int_equal(pf_fused_open(&o, &fused, &error), PF_E_RANGE);
	pf_device_close(device);
}

static void adopted_memory_is_the_callers(void **unused)
{
	struct pf_device *cpu = open_device("cpu"), *sim = open_device("sim");
	struct pf_error error;
	struct pf_buf *buf;
	float memory[16] = { 0 };
	(void)unused;
	assert_int_equal(pf_buf_adopt(cpu, 0, 0, memory, sizeof memory, &buf, &error), 0);
	assert_ptr_equal(pf_buf_map(buf), memory);
	pf_buf_free(buf);
	assert_int_equal(pf_buf_adopt(sim, 0, 0, memory, sizeof memory, &buf, &error), PF_E_UNSUPPORTED);
	assert_null(buf);
	assert_int_equal(pf_buf_adopt(cpu, 0, 0, NULL, sizeof memory, &buf, &error), PF_E_UNSUPPORTED);
	pf_device_close(cpu);
	pf_device_close(sim);
}

/* Two words: ports 2 and 3 have no rows, so what the device works in is ours there, and is given back with the set */
static void memory_held_does_not_drift(void **unused)
{
	struct numbers *n = make_numbers();
	struct pf_device *device = open_device("cpu");
	const struct pf_fused_options options = { .device = device, .vocab = 2, .dim = D, .form = { 1, 0, 1, 0, 0 } };
	const struct pf_fused_tokens tokens = { n->hidden, n->target, span, T, B, 0, 0 };
	struct pf_fused *fused;
	struct pf_error error;
	uint64_t peak = 0;
	(void)unused;
	for (size_t t = 0; t < T; t++)
		n->target[t] = (int32_t)(t % 2);
	if (pf_fused_open(&options, &fused, &error))
		fail_msg("%s", error.text);
	for (unsigned i = 0; i < 20; i++) {
		const struct pf_fused_weight weight = { n->weight + i * 2 * D, NULL, i + 1, PF_PRECISION_FP32 };
		if (pf_fused_forward(fused, &weight, &tokens, n->sum, n->row, &error) || pf_fused_wait(fused, &error))
			fail_msg("%s", error.text);
		peak = i == 9 ? pf_fused_peak(fused) : peak;
	}
	assert_int_equal(pf_fused_peak(fused), peak);
	pf_fused_close(fused);
	pf_device_close(device);
	free(n);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(units_and_ways_change_no_bit), cmocka_unit_test(the_host_agrees_with_the_card),
		cmocka_unit_test(weights_cross_once), cmocka_unit_test(little_memory_recomputes),
		cmocka_unit_test(a_frozen_head_has_no_dw), cmocka_unit_test(a_reference_needs_its_forward_only),
		cmocka_unit_test(a_forgotten_weight_crosses_again), cmocka_unit_test(memory_held_does_not_drift),
		cmocka_unit_test(forms_out_of_range_are_refused), cmocka_unit_test(adopted_memory_is_the_callers),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
