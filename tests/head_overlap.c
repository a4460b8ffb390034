/* The head's blocks overlap: with computing held, later blocks still come in; with the last block's computing held, the
 * earlier ones have gone out. Events, no clocks. */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include "tests/cmocka.h"
#include "tests/wrap.h"
#include "host/model/random.h"
#include "host/train/head.h"

enum { V = 1003, D = 8, ROWS = 64, BLOCKS = 4, T = ROWS * BLOCKS, COPIES = 3, RUNS = 2 };

extern const struct pf_backend pf_backend_sim;

static float hidden[T * D], weight[V * D];
static int32_t target[T];
static const struct pf_span span[BLOCKS] = {
	{ 0, 64, 64, 0 }, { 64, 128, 128, 0 }, { 128, 192, 192, 0 }, { 192, 256, 256, 0 }
};
static const struct pf_head_input input = { hidden, weight, target, span, T, BLOCKS, 0, 1, 0 };

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

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(blocks_overlap), cmocka_unit_test(failures_come_back) };
	return cmocka_run_group_tests(tests, NULL, NULL);
}
