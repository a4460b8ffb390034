/* How long a run may take: what the watchdog learns from earlier ones; and when it ran, if the card says. Time is the
 * test's own. */
#include <errno.h>
#include <pthread.h>
#include "driver/core.h"
#include "tests/cmocka.h"
#include "tests/job.h"
#include "tests/own_time.h"
#include "tests/wrap.h"

extern const struct pf_backend pf_backend_sim;

static struct pf_device *open_wrapped(uint32_t watchdog_ms)
{
	struct pf_device_options options = { .watchdog_ms = watchdog_ms };
	struct pf_device *device;
	assert_int_equal(pf_device_open_backend(wrap_backend(), "*1", &options, &device, NULL), 0);
	pf_device_clock(device, now, NULL);
	return device;
}

/* Time during which the process was stopped does not count */
static void limit_moves(void **state)
{
	struct job job;
	(void)state;
	wrap_reset(&pf_backend_sim);
	wrap_abort_with(-EINTR);
	struct pf_device *device = open_wrapped(100);
	assert_int_equal(job_open(device, &job, NULL), 0);
	wrap_pass(WRAP_RUN, 0);
	assert_int_equal(job_submit(&job, 1), 0);
	wrap_await_entered(WRAP_RUN, 1);
	pthread_mutex_lock(&device->lock);
	pf_watch_extend(device, 5000 * MS);
	pthread_mutex_unlock(&device->lock);
	pass_time(device, 5099 * MS);
	assert_int_equal(wrap_entered(WRAP_ABORT), 0);
	wrap_pass(WRAP_RUN, WRAP_ALL);
	assert_int_equal(job_wait(&job, 1, NULL), 0);
	assert_int_equal(pf_device_close(device), 0);
}

/* 10 s and 1 us a beat, until there are earlier runs of the shape; then 8 times their median, at least 10 s */
static void limit_learns(void **state)
{
	static const uint64_t ran_ms[] = { 1000, 9000, 3000, 2000, 4000 };
	struct job job;
	(void)state;
	wrap_reset(&pf_backend_sim);
	wrap_abort_with(-EINTR);
	struct pf_device *device = open_wrapped(0);
	assert_int_equal(job_open(device, &job, NULL), 0);
	for (unsigned i = 0; i < 5; i++) {
		wrap_pass(WRAP_RUN, i);
		assert_int_equal(job_submit(&job, i), 0);
		wrap_await_entered(WRAP_RUN, i + 1);
		pass_time(device, ran_ms[i] * MS);
		wrap_pass(WRAP_RUN, i + 1);
		assert_int_equal(job_wait(&job, i, NULL), 0);
	}
	wrap_pass(WRAP_RUN, 5);
	assert_int_equal(job_submit(&job, 9), 0);
	wrap_await_entered(WRAP_RUN, 6);
	pass_time(device, 8 * 3000 * MS - 1);                          /* the median is 3 s */
	assert_int_equal(wrap_entered(WRAP_ABORT), 0);
	pass_time(device, 2);
	assert_int_equal(pf_wait(&job.run, NULL), PF_E_TIMEOUT);
	assert_int_equal(pf_device_close(device), 0);
}

/* One run of coef over `rows` rows that takes `ms` */
static void run_rows(struct pf_device *device, struct job *job, uint32_t rows, uint64_t ms, unsigned *runs)
{
	struct pf_arg args[PF_ARG_coef_COUNT];
	struct pf_ticket run = { 0 };
	job_args(job, args);
	args[PF_ARG_coef_rows].val.u32 = rows;
	wrap_pass(WRAP_RUN, *runs);
	assert_int_equal(pf_run(device, PF_KERNEL_coef, args, PF_ARG_coef_COUNT, NULL, &run), 0);
	wrap_await_entered(WRAP_RUN, ++*runs);
	pass_time(device, ms * MS);
	wrap_pass(WRAP_RUN, *runs);
	assert_int_equal(pf_wait(&run, NULL), 0);
}

/* And one that hangs, until exactly this limit */
static void hang_rows(struct pf_device *device, struct job *job, uint32_t rows, uint64_t limit_ns, unsigned runs)
{
	struct pf_arg args[PF_ARG_coef_COUNT];
	struct pf_ticket run = { 0 };
	job_args(job, args);
	args[PF_ARG_coef_rows].val.u32 = rows;
	wrap_pass(WRAP_RUN, runs);
	assert_int_equal(pf_run(device, PF_KERNEL_coef, args, PF_ARG_coef_COUNT, NULL, &run), 0);
	wrap_await_entered(WRAP_RUN, runs + 1);
	pthread_mutex_lock(&device->lock);
	assert_true(device->oldest->limit_ns == limit_ns);
	pthread_mutex_unlock(&device->lock);
	pass_time(device, limit_ns - 1);
	assert_int_equal(wrap_entered(WRAP_ABORT), 0);
	assert_int_equal(run.status, PF_PENDING);
	pass_time(device, 1);
	assert_int_equal(pf_wait(&run, NULL), PF_E_TIMEOUT);
}

static struct pf_device *open_for_shapes(struct job *job)
{
	wrap_reset(&pf_backend_sim);
	wrap_abort_with(-EINTR);
	struct pf_device *device = open_wrapped(0);
	assert_int_equal(job_open(device, job, NULL), 0);
	job->host_span.end = job->host_span.split = JOB_ROWS;
	assert_int_equal(pf_copy_in(job->item, 0, &job->host_item, sizeof job->host_item, NULL, &job->in[0]), 0);
	assert_int_equal(pf_copy_in(job->span, 0, &job->host_span, sizeof job->host_span, NULL, &job->in[1]), 0);
	assert_int_equal(pf_wait(&job->in[0], NULL) | pf_wait(&job->in[1], NULL), 0);
	return device;
}

/* The beats of `rows` floats and of one item and one span */
static uint64_t beats_of(uint32_t rows)
{
	return (rows * 4 + 63) / 64 + 2;
}

/* Two shapes alternate: each is judged by its own runs, whatever the other takes */
static void limit_is_that_of_the_shape(void **state)
{
	static const struct { uint32_t rows; uint64_t limit_s; } cases[] = { { 640, 8 * 4 }, { 16, 8 * 5 }, { 320, 10 } };
	(void)state;
	for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
		struct job job;
		unsigned runs = 0;
		struct pf_device *device = open_for_shapes(&job);
		for (unsigned i = 0; i < 3; i++) {
			run_rows(device, &job, 640, 3000 + 1000 * i, &runs);   /* median 4 s */
			run_rows(device, &job, 16, 7000 - 2000 * i, &runs);    /* median 5 s, and few beats */
			run_rows(device, &job, 320, 1, &runs);
		}
		hang_rows(device, &job, cases[c].rows, cases[c].limit_s * 1000 * MS, runs);
		pf_device_close(device);
	}
}

/* A new shape has what a first run has, or 8 times what its beats took elsewhere, whichever is more */
static void limit_of_a_new_shape(void **state)
{
	struct job job;
	unsigned runs = 0;
	(void)state;
	struct pf_device *device = open_for_shapes(&job);
	run_rows(device, &job, 992, 1, &runs);
	hang_rows(device, &job, 480, 10000 * MS + beats_of(480) * 1000, runs);
	pf_device_close(device);
	device = open_for_shapes(&job);
	runs = 0;
	run_rows(device, &job, 992, beats_of(992) * 100, &runs);               /* 0.1 s a beat */
	hang_rows(device, &job, 480, 8 * beats_of(480) * 100 * MS, runs);
	pf_device_close(device);
}

/* More shapes than are kept: the one that was not used for longest is a new one again */
static void old_shapes_are_forgotten(void **state)
{
	(void)state;
	for (int kept = 0; kept < 2; kept++) {
		struct job job;
		unsigned runs = 0;
		struct pf_device *device = open_for_shapes(&job);
		run_rows(device, &job, 64, 2000, &runs);
		for (uint32_t i = 0; i < PF_SHAPES_KEPT; i++) {
			run_rows(device, &job, 65 + i, 1, &runs);
			if (kept)
				run_rows(device, &job, 64, 2000, &runs);
		}
		hang_rows(device, &job, 64, kept ? 8 * 2000 * MS : 10000 * MS + beats_of(64) * 1000, runs);
		pf_device_close(device);
	}
}

/* ---- the card's own times ---- */
static uint64_t card_began, card_ended;

static void card_times(void *card, unsigned queue, unsigned cu, uint64_t *started_ns, uint64_t *done_ns)
{
	(void)card, (void)queue, (void)cu;
	*started_ns = card_began;
	*done_ns = card_ended;
}

/* What the card's events say of a run stands in its ticket, within the time of the call that ran it */
static void times_are_the_cards(void **state)
{
	static const struct { uint64_t began, ended, start, done; } cases[] = {
		{ 100, 300, 100, 300 },        /* as it says */
		{ 0, 1000, 0, 1000 },
		{ 200, 5000, 200, 1000 },      /* not after the call was over, */
		{ 7000, 9000, 1000, 1000 },
		{ 600, 400, 400, 400 },        /* and not before it began */
	};
	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct pf_arg args[PF_ARG_coef_COUNT];
		struct pf_ticket run = { 0 };
		struct pf_device *device;
		struct job job;
		wrap_reset(&pf_backend_sim);
		struct pf_backend outer = *wrap_backend();
		outer.times = card_times;
		card_began = card_ended = 0;
		assert_int_equal(pf_device_open_backend(&outer, "*1", NULL, &device, NULL), 0);
		pf_device_clock(device, now, NULL);
		assert_int_equal(job_open(device, &job, NULL), 0);
		assert_int_equal(job_submit(&job, 1), 0);
		assert_int_equal(job_wait(&job, 1, NULL), 0);
		card_began = cases[i].began;
		card_ended = cases[i].ended;
		job_args(&job, args);
		wrap_pass(WRAP_RUN, 1);
		const uint64_t t0 = now(NULL);
		assert_int_equal(pf_run(device, PF_KERNEL_coef, args, PF_ARG_coef_COUNT, NULL, &run), 0);
		wrap_await_entered(WRAP_RUN, 2);
		pass_time(device, 1000);
		wrap_pass(WRAP_RUN, WRAP_ALL);
		assert_int_equal(pf_wait(&run, NULL), 0);
		assert_true(run.started_ns == t0 + cases[i].start && run.done_ns == t0 + cases[i].done);
		job_close(&job);
		assert_int_equal(pf_device_close(device), 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(limit_moves), cmocka_unit_test(limit_learns),
		cmocka_unit_test(limit_is_that_of_the_shape), cmocka_unit_test(limit_of_a_new_shape),
		cmocka_unit_test(old_shapes_are_forgotten), cmocka_unit_test(times_are_the_cards),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
