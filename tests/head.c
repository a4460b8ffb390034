/* The head over devices, fused and not: sums and gradients against plain long double loops; the same bits when blocks
 * do not stay on the device, and on one device or two. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "tests/cmocka.h"
#include "tests/worst.h"
#include "host/model/random.h"
#include "host/train/head.h"

enum { V = 1003, D = 24, T = 640, B = 6 };

struct problem {
	float hidden[T * D], weight[V * D], dhidden[T * D], dweight[V * D];
	int32_t target[T];
	struct pf_span span[B];
	struct pf_seq sum[B];
	struct pf_row row[T];
	double grad[B];
};

/* Sequences of very different lengths, one of them empty, some targets ignored */
static void make_problem(struct problem *p)
{
	static const uint32_t edge[B + 1] = { 0, 300, 300, 301, 420, 600, T };
	struct pf_random random;
	pf_random_seed(&random, 7, 0);
	for (size_t i = 0; i < T * D; i++)
		p->hidden[i] = (float)pf_random_normal(&random);
	for (size_t i = 0; i < V * D; i++)
		p->weight[i] = (float)pf_random_normal(&random);
	for (size_t t = 0; t < T; t++)
		p->target[t] = t % 50 == 3 ? PF_IGNORE : (int32_t)pf_random_below(&random, V);
	for (size_t i = 0; i < B; i++) {
		p->span[i] = (struct pf_span){ edge[i], edge[i + 1], edge[i + 1], 0 };
		p->grad[i] = i == 4 ? 0.0 : 0.3 * ((double)i - 2.5);
	}
}

/* ---- the oracle ---- */

static long double row_probs(const struct problem *p, size_t t, long double *prob)
{
	long double largest = -INFINITY, total = 0.0L;
	for (size_t v = 0; v < V; v++) {
		prob[v] = 0.0L;
		for (size_t d = 0; d < D; d++)
			prob[v] += (long double)p->hidden[t * D + d] * (long double)p->weight[v * D + d];
		largest = fmaxl(largest, prob[v]);
	}
	for (size_t v = 0; v < V; v++)
		total += expl(prob[v] - largest);
	const long double logp = p->target[t] < 0 ? 0.0L : prob[p->target[t]] - largest - logl(total);
	for (size_t v = 0; v < V; v++)
		prob[v] = expl(prob[v] - largest) / total;
	return logp;
}

static void check_sums(const struct problem *p)
{
	static long double prob[V];
	for (size_t i = 0; i < B; i++) {
		long double logp = 0.0L;
		uint32_t n = 0;
		for (uint32_t t = p->span[i].begin; t < p->span[i].end; t++) {
			logp += row_probs(p, t, prob);
			n += p->target[t] >= 0;
		}
		assert_int_equal(p->sum[i].n, n);
		if (!(fabsl((long double)p->sum[i].logp * 0x1p-32L - logp) <= 2e-5L * n))
			fail_msg("sequence %zu: %.9Lg, not %.9Lg", i, (long double)p->sum[i].logp * 0x1p-32L, logp);
	}
}

static long double coefficient(const struct problem *p, size_t t)
{
	for (size_t i = 0; i < B; i++)
		if (t >= p->span[i].begin && t < p->span[i].end)
			return p->target[t] < 0 ? 0.0L : -(long double)p->grad[i];
	return 0.0L;
}

static void check_gradients(const struct problem *p)
{
	static long double prob[V], dweight[V * D];
	double worst = 0;
	memset(dweight, 0, sizeof dweight);
	for (size_t t = 0; t < T; t++) {
		const long double c = coefficient(p, t);
		long double dhidden[D] = { 0 };
		row_probs(p, t, prob);
		for (size_t v = 0; v < V; v++) {
			const long double dz = c * (prob[v] - ((int32_t)v == p->target[t]));
			for (size_t d = 0; d < D; d++) {
				dhidden[d] += dz * (long double)p->weight[v * D + d];
				dweight[v * D + d] += dz * (long double)p->hidden[t * D + d];
			}
		}
		for (size_t d = 0; d < D; d++)
			if (!(fabsl(dhidden[d] - (long double)p->dhidden[t * D + d]) <= 3e-5L))
				fail_msg("dhidden[%zu, %zu]", t, d);
	}
	for (size_t i = 0; i < V * D; i++)
		worst = worst_of(worst, (double)fabsl(dweight[i] + 1.0L - (long double)p->dweight[i]));
	if (!(worst <= 1e-4))
		fail_msg("dweight: %.3g", worst);
}

/* ---- on devices ---- */

static void run_on(struct problem *p, const char *const *specs, unsigned devices, uint64_t memory_bytes, int fused)
{
	struct pf_device *device[2];
	struct pf_error error;
	struct pf_head *head;
	for (unsigned i = 0; i < devices; i++)
		if (pf_device_open(specs[i], NULL, &device[i], &error))
			fail_msg("%s", error.text);
	const struct pf_head_options options = { .device = device, .devices = devices, .vocab = V, .dim = D,
		.memory_bytes = memory_bytes, .threads = 2, .fused = fused, .backward = 1 };
	const struct pf_head_input input = { p->hidden, p->weight, p->target, p->span, T, B, 0, 1, 0,
		                             PF_PRECISION_FP32, 0 };
	if (pf_head_open(&options, &head, &error) || pf_head_forward(head, &input, p->sum, p->row, &error))
		fail_msg("%s", error.text);
	for (size_t i = 0; i < V * D; i++)
		p->dweight[i] = 1.0f;          /* it is added to */
	if (pf_head_backward(head, p->grad, p->dhidden, p->dweight, &error))
		fail_msg("%s", error.text);
	pf_head_close(head);
	for (unsigned i = 0; i < devices; i++)
		assert_int_equal(pf_device_close(device[i]), 0);
}

static void on_the_simulated_card(void **state)
{
	static const char *const sim[] = { "sim" };
	struct problem *p = calloc(1, sizeof *p);
	make_problem(p);
	run_on(p, sim, 1, 0, *state != NULL);
	check_sums(p);
	check_gradients(p);
	free(p);
}

static void on_the_host(void **state)
{
	static const char *const cpu[] = { "cpu" };
	struct problem *p = calloc(1, sizeof *p);
	make_problem(p);
	run_on(p, cpu, 1, 0, *state != NULL);
	check_sums(p);
	check_gradients(p);
	free(p);
}

/* Ten blocks of 64 rows. With memory for three of them most leave the device and are formed again for the gradient;
 * with two devices of five each all stay */
static void little_memory_same_bits(void **state)
{
	static const char *const sim[] = { "sim", "sim:u250*3" };
	struct problem *p = calloc(1, sizeof *p), *q = calloc(1, sizeof *q);
	const uint64_t slot = 64 * (63 * 64 + 4 + 64 + 4 + 16 + 64 + 32) + 7 * 4096;
	(void)state;
	make_problem(p);
	make_problem(q);
	run_on(p, sim, 1, 3 * slot, 0);
	check_sums(p);
	check_gradients(p);
	run_on(q, sim, 2, 5 * slot, 0);
	assert_memory_equal(p->sum, q->sum, sizeof p->sum);
	assert_memory_equal(p->row, q->row, sizeof p->row);
	assert_memory_equal(p->dhidden, q->dhidden, sizeof p->dhidden);
	assert_memory_equal(p->dweight, q->dweight, sizeof p->dweight);
	free(p);
	free(q);
}

/* Shares of both devices: rows do not change, sums of dW round otherwise */
static void fused_on_two_devices(void **state)
{
	static const char *const mixed[] = { "sim", "cpu" }, *const sim[] = { "sim" },
				 *const two[] = { "sim", "sim:u250*3" };
	struct problem *p = calloc(1, sizeof *p), *q = calloc(1, sizeof *q);
	(void)state;
	make_problem(p);
	make_problem(q);
	run_on(p, mixed, 2, 0, 1);
	check_sums(p);
	check_gradients(p);
	run_on(p, sim, 1, 0, 1);
	run_on(q, two, 2, 0, 1);
	assert_memory_equal(p->sum, q->sum, sizeof p->sum);
	assert_memory_equal(p->row, q->row, sizeof p->row);
	assert_memory_equal(p->dhidden, q->dhidden, sizeof p->dhidden);
	check_gradients(q);
	free(p);
	free(q);
}

static void too_little_memory(void **state)
{
	struct pf_device *device;
	struct pf_error error;
	struct pf_head *head;
	(void)state;
	assert_int_equal(pf_device_open("cpu", NULL, &device, &error), 0);
	const struct pf_head_options options = { .device = &device, .devices = 1, .vocab = 262144, .dim = D,
		.memory_bytes = 1 << 20, .threads = 1 };
	assert_int_equal(pf_head_open(&options, &head, &error), PF_E_MEMORY);
	assert_non_null(strstr(error.text, "--card-memory"));
	assert_null(head);
	const struct pf_head_options wide = { .device = &device, .devices = 1, .vocab = 262145, .dim = D };
	assert_int_equal(pf_head_open(&wide, &head, &error), PF_E_RANGE);
	pf_device_close(device);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(on_the_simulated_card), cmocka_unit_test(on_the_host),
		{ "on_the_simulated_card, fused", on_the_simulated_card, NULL, NULL, "fused" },
		{ "on_the_host, fused", on_the_host, NULL, NULL, "fused" },
		cmocka_unit_test(fused_on_two_devices),
		cmocka_unit_test(little_memory_same_bits), cmocka_unit_test(too_little_memory),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
