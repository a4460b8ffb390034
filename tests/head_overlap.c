/* The head's blocks overlap: with computing held, later blocks still come in; with the last block's computing held, the
 * earlier ones have gone out. Devices with memory of their own form the gradient at the same time; those that work in
 * the caller's take turns, and no share of dW is lost. Events, no clocks. */
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "tests/cmocka.h"
#include "tests/wrap.h"
#include "host/model/random.h"
#include "host/train/head.h"

enum { V = 1003, D = 16, ROWS = 64, BLOCKS = 4, T = ROWS * BLOCKS, COPIES = 3, RUNS = 2 };

extern const struct pf_backend pf_backend_sim, pf_backend_cpu;

static float hidden[T * D], weight[V * D];
static int32_t target[T];
static const struct pf_span span[BLOCKS] = {
	{ 0, 64, 64, 0 }, { 64, 128, 128, 0 }, { 128, 192, 192, 0 }, { 192, 256, 256, 0 }
};
static const struct pf_head_input input = { hidden, weight, target, span, T, BLOCKS, 0, 1, 0,
	                                     PF_PRECISION_FP32, 0 };

struct forward { struct pf_head *head; struct pf_seq sum[BLOCKS]; int code; };

static void *run_forward(void *context)
{
	struct forward *f = context;
	f->code = pf_head_forward(f->head, &input, f->sum, NULL, NULL);
	return NULL;
}

static void open_head(struct pf_device *device, struct forward *f)
{
	const uint64_t slot = ROWS * (63 * 64 + 4 + 64 + 4 + 16 + 64 + 32) + 7 * 4096;
	const struct pf_head_options options = { .device = &device, .devices = 1, .vocab = V, .dim = D,
		.memory_bytes = (BLOCKS + 1) * slot, .threads = 1 };
	struct pf_error error;
	if (pf_head_open(&options, &f->head, &error))
		fail_msg("%s", error.text);
}

static void make_input(void)
{
	struct pf_random random;
	pf_random_seed(&random, 1, 0);
	for (size_t i = 0; i < T * D; i++)
		hidden[i] = (float)pf_random_normal(&random);
	for (size_t i = 0; i < V * D; i++)
		weight[i] = (float)pf_random_normal(&random);
	for (size_t t = 0; t < T; t++)
		target[t] = (int32_t)pf_random_below(&random, V);
}

static void blocks_overlap(void **state)
{
	struct pf_device *plain, *held;
	struct forward expected = { .code = 1 }, f = { .code = 1 };
	struct pf_error error;
	pthread_t thread;
	(void)state;
	make_input();
	assert_int_equal(pf_device_open("sim", NULL, &plain, &error), 0);
	open_head(plain, &expected);
	run_forward(&expected);
	assert_int_equal(expected.code, 0);

	wrap_reset(&pf_backend_sim);
	assert_int_equal(pf_device_open_backend(wrap_backend(), "*1", NULL, &held, &error), 0);
	open_head(held, &f);
	wrap_pass(WRAP_RUN, 0);
	assert_int_equal(pthread_create(&thread, NULL, run_forward, &f), 0);
	wrap_await_left(WRAP_COPY_IN, COPIES * BLOCKS);
	assert_int_equal(wrap_left(WRAP_RUN), 0);
	wrap_pass(WRAP_RUN, RUNS * BLOCKS - 1);
	wrap_await_left(WRAP_COPY_OUT, BLOCKS - 1);
	wrap_await_entered(WRAP_RUN, RUNS * BLOCKS);
	assert_int_equal(wrap_left(WRAP_COPY_OUT), BLOCKS - 1);
	assert_true(wrap_left(WRAP_RUN) <= RUNS * BLOCKS - 1);
	wrap_pass(WRAP_RUN, WRAP_ALL);
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_int_equal(f.code, 0);
	assert_memory_equal(f.sum, expected.sum, sizeof f.sum);
	pf_head_close(f.head);
	pf_head_close(expected.head);
	assert_int_equal(pf_device_close(held), 0);
	assert_int_equal(pf_device_close(plain), 0);
}

/* Whatever call fails, the head says so and everything can be closed */
static void failures_come_back(void **state)
{
	unsigned calls = 1;
	(void)state;
	make_input();
	for (unsigned n = 1; n < calls + 1; n++) {
		struct pf_device *device;
		struct forward f = { .code = 1 };
		struct pf_error error;
		static double grad[BLOCKS] = { 0.5, -0.5, 0.25, 0.0 };
		static float dhidden[T * D], dweight[V * D];
		wrap_reset(&pf_backend_sim);
		wrap_fail_at(n, PF_E_MEMORY);
		assert_int_equal(pf_device_open_backend(wrap_backend(), "*1", NULL, &device, &error), 0);
		open_head(device, &f);
		run_forward(&f);
		int code = f.code ? f.code : pf_head_backward(f.head, grad, dhidden, dweight, &error);
		assert_int_equal(code != 0, wrap_failed());
		calls = wrap_failed() ? n + 1 : wrap_counted() - 1;
		pf_head_close(f.head);
		pf_device_close(device);
		if (!wrap_failed())
			break;
	}
	assert_true(calls > 30);
}

/* ---- shares of the fused head ---- */

enum { SHARES = 2 };
static const double grad[BLOCKS] = { 0.5, -0.25, 1.0, -0.75 };

struct backward { struct pf_head *head; float dhidden[T * D], dweight[V * D]; int code; };

static void *run_backward(void *context)
{
	struct backward *b = context;
	b->code = pf_head_backward(b->head, grad, b->dhidden, b->dweight, NULL);
	return NULL;
}

static void forward_fused(struct pf_device *const *device, unsigned devices, struct backward *b)
{
	const struct pf_head_options options = { .device = device, .devices = devices, .vocab = V, .dim = D,
		.threads = 1, .fused = 1, .backward = 1 };
	struct pf_seq sum[BLOCKS];
	struct pf_error error;
	if (pf_head_open(&options, &b->head, &error) || pf_head_forward(b->head, &input, sum, NULL, &error))
		fail_msg("%s", error.text);
}

static void gradient_on(const char *const *spec, unsigned devices, struct backward *b)
{
	struct pf_device *device[SHARES];
	for (unsigned i = 0; i < devices; i++)
		assert_int_equal(pf_device_open(spec[i], NULL, &device[i], NULL), 0);
	forward_fused(device, devices, b);
	run_backward(b);
	assert_int_equal(b->code, 0);
	pf_head_close(b->head);
	for (unsigned i = 0; i < devices; i++)
		pf_device_close(device[i]);
}

/* SHARES wrapped devices with a forward behind them */
static struct backward *open_shares(const struct pf_backend *backend, const char *spec, struct pf_device **device)
{
	struct backward *b = calloc(1, sizeof *b);
	assert_non_null(b);
	make_input();
	wrap_reset(backend);
	for (unsigned i = 0; i < SHARES; i++)
		assert_int_equal(pf_device_open_backend(wrap_backend(), spec, NULL, &device[i], NULL), 0);
	forward_fused(device, SHARES, b);
	return b;
}

/* Lets go of what is held, and waits for the way back in the thread */
static void close_shares(struct backward *b, struct pf_device **device, pthread_t thread)
{
	wrap_pass(WRAP_RUN, WRAP_ALL);
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_int_equal(b->code, 0);
	pf_head_close(b->head);
	for (unsigned i = 0; i < SHARES; i++)
		pf_device_close(device[i]);
	free(b);
}

static void devices_form_the_gradient_together(void **state)
{
	struct pf_device *device[SHARES];
	struct backward *b = open_shares(&pf_backend_sim, "*1", device);
	pthread_t thread;
	(void)state;
	const unsigned before = wrap_entered(WRAP_RUN);
	wrap_pass(WRAP_RUN, before);
	assert_int_equal(pthread_create(&thread, NULL, run_backward, b), 0);
	wrap_await_entered(WRAP_RUN, before + SHARES);
	assert_int_equal(wrap_left(WRAP_RUN), before);
	close_shares(b, device, thread);
}

/* Devices that work in the caller's memory do not add to dW at the same time: while the first one's run is held, the
 * second one's does not come, however long it has; the hold's length decides only how surely a lack of turns is seen */
static void devices_in_the_callers_memory_take_turns(void **state)
{
	const struct timespec hold = { 0, 100 * 1000000 };
	struct pf_device *device[SHARES];
	struct backward *b = open_shares(&pf_backend_cpu, "", device);
	pthread_t thread;
	(void)state;
	const unsigned runs = wrap_entered(WRAP_RUN);
	wrap_pass(WRAP_RUN, runs);
	assert_int_equal(pthread_create(&thread, NULL, run_backward, b), 0);
	wrap_await_entered(WRAP_RUN, runs + 1);
	nanosleep(&hold, NULL);
	assert_int_equal(wrap_entered(WRAP_RUN), runs + 1);
	close_shares(b, device, thread);
	assert_int_equal(wrap_entered(WRAP_RUN), runs + SHARES);
}

/* Every order of devices that do and do not work in the caller's memory, against one card */
static void every_share_adds_to_dweight(void **state)
{
	static const char *const card[] = { "sim" };
	static const char *const pair[][SHARES] = {
		{ "cpu", "cpu" }, { "cpu", "sim" }, { "sim", "cpu" }, { "sim", "sim" }
	};
	struct backward *one = calloc(1, sizeof *one);
	(void)state;
	assert_non_null(one);
	make_input();
	gradient_on(card, 1, one);
	for (size_t i = 0; i < sizeof pair / sizeof *pair; i++) {
		struct backward *two = calloc(1, sizeof *two);
		assert_non_null(two);
		gradient_on(pair[i], SHARES, two);
		for (size_t k = 0; k < V * D; k++)
			if (!(fabsf(two->dweight[k] - one->dweight[k]) <= 1e-4f))
				fail_msg("%s, %s: dW[%zu] is %g, not %g", pair[i][0], pair[i][1], k,
				         (double)two->dweight[k], (double)one->dweight[k]);
		for (size_t k = 0; k < T * D; k++)
			assert_true(fabsf(two->dhidden[k] - one->dhidden[k]) <= 1e-4f);
		free(two);
	}
	free(one);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(blocks_overlap), cmocka_unit_test(failures_come_back),
		cmocka_unit_test(devices_form_the_gradient_together),
		cmocka_unit_test(devices_in_the_callers_memory_take_turns),
		cmocka_unit_test(every_share_adds_to_dweight) };
	return cmocka_run_group_tests(tests, NULL, NULL);
}
