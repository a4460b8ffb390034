/* The watchdog, the loss of a card, closing under load. Time is the test's own: nothing here waits for a clock. */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <string.h>
#include "driver/core.h"
#include "tests/cmocka.h"
#include "tests/job.h"
#include "tests/own_time.h"
#include "tests/wrap.h"

extern const struct pf_backend pf_backend_sim;

static char logged[1024];

static void log_to_test(void *context, int level, const char *text)
{
	(void)context;
	if (level == 0)
		strncpy(logged, text, sizeof logged - 1);
}

static struct pf_device *open_wrapped(uint32_t watchdog_ms)
{
	struct pf_device_options options = { .watchdog_ms = watchdog_ms, .log = log_to_test };
	struct pf_device *device;
	logged[0] = 0;
	assert_int_equal(pf_device_open_backend(wrap_backend(), "*1", &options, &device, NULL), 0);
	pf_device_clock(device, now, NULL);
	return device;
}

/* The simulator, which tells when it has been closed */
static atomic_uint closed;

static void counting_close(void *card)
{
	pf_backend_sim.close(card);
	atomic_fetch_add(&closed, 1);
}

static void reset_counting(void)
{
	static struct pf_backend inner;
	inner = pf_backend_sim;
	inner.close = counting_close;
	atomic_store(&closed, 0);
	wrap_reset(&inner);
}

static void await_closed(void)
{
	while (atomic_load(&closed) == 0)
		sched_yield();
}

/* A job whose run has begun and does not end */
static void hold_a_run(struct pf_device *device, struct job *job)
{
	assert_int_equal(job_open(device, job, NULL), 0);
	wrap_pass(WRAP_RUN, 0);
	assert_int_equal(job_submit(job, 1), 0);
	wrap_await_entered(WRAP_RUN, 1);
}

static void expect_failed(struct pf_device *device, struct job *job)
{
	struct pf_ticket ticket = { 0 };
	struct pf_error error = { 0 };
	assert_int_equal(pf_copy_in(job->item, 0, &job->host_item, 1, NULL, &ticket), PF_E_DEVICE);
	assert_int_equal(pf_wait(&ticket, &error), PF_E_DEVICE);
	assert_non_null(strstr(error.text, "refused, the device has failed"));
	(void)device;
}

static void limit_is_an_option(void **state)
{
	struct pf_error error = { 0 };
	struct job job;
	(void)state;
	wrap_reset(&pf_backend_sim);
	wrap_abort_with(-EINTR);
	struct pf_device *device = open_wrapped(250);
	hold_a_run(device, &job);
	pass_time(device, 249 * MS);
	assert_int_equal(wrap_entered(WRAP_ABORT), 0);
	pass_time(device, 1 * MS);
	assert_int_equal(pf_wait(&job.run, &error), PF_E_TIMEOUT);
	assert_non_null(strstr(error.text, "kernel coef on compute unit 0 took longer than 250 ms"));
	assert_int_equal(wrap_entered(WRAP_ABORT), 1);
	assert_int_equal(pf_wait(&job.back, &error), PF_E_DEVICE);     /* was queued */
	assert_non_null(strstr(error.text, "250 ms"));
	expect_failed(device, &job);
	assert_int_equal(pf_device_close(device), 0);                  /* nothing was left behind */
	assert_non_null(strstr(logged, "250 ms"));
}

/* A run that cannot be aborted: its ticket is done all the same, its memory stays until it comes back */
static void hanging_run_is_abandoned(void **state)
{
	struct pf_error error = { 0 };
	struct job job;
	(void)state;
	reset_counting();
	struct pf_device *device = open_wrapped(100);
	hold_a_run(device, &job);
	pass_time(device, 100 * MS);
	assert_int_equal(pf_wait(&job.run, &error), PF_E_TIMEOUT);
	job_close(&job);
	wrap_pass(WRAP_RUN, WRAP_ALL);                                 /* it runs on the buffers just freed */
	pf_device_close(device);                                       /* whether it is back by then is open */
	await_closed();
}

/* An abort that is taken but does not help: after the grace the run is given up all the same */
static int abort_in_vain(void *card, enum pf_kernel kernel, unsigned cu)
{
	(void)card, (void)kernel, (void)cu;
	return 0;
}

static atomic_int waited;

static void *wait_for_run(void *job)
{
	assert_int_equal(pf_wait(&((struct job *)job)->run, NULL), PF_E_TIMEOUT);
	atomic_store(&waited, 1);
	return NULL;
}

static void abort_has_a_grace(void **state)
{
	struct pf_device_options options = { .watchdog_ms = 100 };
	static struct pf_backend outer;
	struct pf_device *device;
	struct job job;
	pthread_t waiter;
	(void)state;
	reset_counting();
	outer = *wrap_backend();
	outer.abort = abort_in_vain;
	assert_int_equal(pf_device_open_backend(&outer, "*1", &options, &device, NULL), 0);
	pf_device_clock(device, now, NULL);
	hold_a_run(device, &job);
	atomic_store(&waited, 0);
	assert_int_equal(pthread_create(&waiter, NULL, wait_for_run, &job), 0);
	while (!atomic_load(&waited)) {
		pass_time(device, PF_ABORT_GRACE_NS);
		sched_yield();
	}
	pthread_join(waiter, NULL);
	wrap_pass(WRAP_RUN, WRAP_ALL);
	pf_device_close(device);
	await_closed();
}

/* The real clock: nobody needs to tell the watchdog */
static void time_passes_by_itself(void **state)
{
	struct pf_device_options options = { .watchdog_ms = 1 };
	struct pf_device *device;
	struct job job;
	(void)state;
	reset_counting();
	wrap_abort_with(-EINTR);
	wrap_pass(WRAP_RUN, 0);
	assert_int_equal(pf_device_open_backend(wrap_backend(), "*1", &options, &device, NULL), 0);
	assert_int_equal(job_open(device, &job, NULL), 0);
	assert_int_equal(job_submit(&job, 1), 0);
	assert_int_equal(pf_wait(&job.run, NULL), PF_E_TIMEOUT);
	pf_device_close(device);
	await_closed();
}

/* The same, but it has not come back when the device is closed: the last thread to leave takes the device with it */
static void close_leaves_a_hanging_run(void **state)
{
	struct job job;
	(void)state;
	reset_counting();
	struct pf_device *device = open_wrapped(100);
	hold_a_run(device, &job);
	pass_time(device, 100 * MS);
	assert_int_equal(pf_wait(&job.run, NULL), PF_E_TIMEOUT);
	assert_int_equal(pf_device_close(device), PF_E_TIMEOUT);
	assert_int_equal(job.back.status, PF_E_DEVICE);
	assert_int_equal(atomic_load(&closed), 0);
	wrap_pass(WRAP_RUN, WRAP_ALL);
	await_closed();
}

/* ---- closing while a run or a copy is in progress ---- */
static void *close_device(void *device)
{
	return (void *)(intptr_t)pf_device_close(device);
}

/* Refused from the moment that closing has begun; the thread that closes gets there in its own time */
static void await_closing(struct job *job)
{
	struct pf_ticket ticket = { 0 };
	while (pf_copy_in(job->item, 0, &job->host_item, 1, NULL, &ticket) != PF_E_CLOSED)
		pf_wait(&ticket, NULL);
}

static int close_beside(struct pf_device *device, struct job *job, void (*meanwhile)(struct pf_device *device))
{
	pthread_t thread;
	void *result;
	assert_int_equal(pthread_create(&thread, NULL, close_device, device), 0);
	await_closing(job);
	meanwhile(device);
	assert_int_equal(pthread_join(thread, &result), 0);
	return (int)(intptr_t)result;
}

static void let_runs_go(struct pf_device *device)
{
	(void)device;
	wrap_pass(WRAP_RUN, WRAP_ALL);
}

static void close_waits_for_a_run(void **state)
{
	struct job job, queued;
	(void)state;
	wrap_reset(&pf_backend_sim);
	struct pf_device *device = open_wrapped(0);
	assert_int_equal(job_open(device, &job, NULL), 0);
	assert_int_equal(job_open(device, &queued, NULL), 0);
	wrap_pass(WRAP_RUN, 0);
	assert_int_equal(job_submit(&job, 1), 0);
	assert_int_equal(job_submit(&queued, 2), 0);
	wrap_await_entered(WRAP_RUN, 1);
	wrap_await_left(WRAP_COPY_IN, 4);
	assert_int_equal(close_beside(device, &job, let_runs_go), 0);
	assert_int_equal(job.run.status, 0);
	assert_int_equal(job.back.status, PF_E_CLOSED);
	assert_int_equal(queued.run.status, PF_E_CLOSED);
}

static void let_time_pass(struct pf_device *device)
{
	pass_time(device, 3600 * 1000 * MS);
}

/* Copies have no limit of their own; closing gives them one */
static void close_abandons_a_copy(void **state)
{
	struct job job;
	(void)state;
	reset_counting();
	struct pf_device *device = open_wrapped(0);
	assert_int_equal(job_open(device, &job, NULL), 0);
	assert_int_equal(job_submit(&job, 1), 0);
	assert_int_equal(job_wait(&job, 1, NULL), 0);
	wrap_pass(WRAP_COPY_OUT, 1);
	assert_int_equal(pf_copy_out(job.out, 0, job.result, sizeof job.result, NULL, &job.back), 0);
	wrap_await_entered(WRAP_COPY_OUT, 2);
	let_time_pass(device);
	assert_int_equal(job.back.status, PF_PENDING);
	assert_int_equal(close_beside(device, &job, let_time_pass), PF_E_TIMEOUT);
	assert_int_equal(job.back.status, PF_E_TIMEOUT);
	wrap_pass(WRAP_COPY_OUT, WRAP_ALL);
	await_closed();
}

/* ---- a card that is gone ---- */
static void lost_card_fails_the_device(void **state)
{
	struct pf_error error = { 0 };
	struct job job, queued;
	(void)state;
	wrap_reset(&pf_backend_sim);
	struct pf_device *device = open_wrapped(0);
	assert_int_equal(job_open(device, &job, NULL), 0);
	assert_int_equal(job_open(device, &queued, NULL), 0);
	wrap_pass(WRAP_COPY_IN, 0);
	wrap_fail_at(1, PF_E_DEVICE);
	assert_int_equal(job_submit(&job, 1), 0);
	assert_int_equal(job_submit(&queued, 1), 0);
	wrap_pass(WRAP_COPY_IN, WRAP_ALL);
	assert_int_equal(pf_wait(&job.in[1], &error), PF_E_DEVICE);
	assert_non_null(strstr(error.text, "injected"));
	assert_int_not_equal(job_wait(&queued, 1, &error), 0);
	assert_non_null(strstr(error.text, "injected"));
	expect_failed(device, &job);
	assert_int_equal(pf_device_close(device), 0);
	assert_non_null(strstr(logged, "injected"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(limit_is_an_option),
		cmocka_unit_test(hanging_run_is_abandoned), cmocka_unit_test(abort_has_a_grace),
		cmocka_unit_test(time_passes_by_itself), cmocka_unit_test(close_leaves_a_hanging_run),
		cmocka_unit_test(close_waits_for_a_run), cmocka_unit_test(close_abandons_a_copy),
		cmocka_unit_test(lost_card_fails_the_device),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
