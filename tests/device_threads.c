/* Many threads on one device, with several compute units; meant for ThreadSanitizer. */
#include <pthread.h>
#include <stdint.h>
#include "tests/cmocka.h"
#include "tests/job.h"

enum { THREADS = 8, JOBS = 50, CUS = 3 };

static void *work(void *argument)
{
	struct pf_device *device = argument;
	intptr_t failures = 0;
	struct job job;
	for (int i = 0; i < JOBS; i++) {
		double value = i + (double)((uintptr_t)&job % 1024) / 1024;
		if (i % 10 == 0 && job_open(device, &job, NULL) != 0)
			return (void *)(intptr_t)-1;
		failures += job_submit(&job, value) != 0;
		failures += job_wait(&job, value, NULL) != 0;
		if (i % 10 == 9)
			job_close(&job);
	}
	return (void *)failures;
}

static void threads_share_a_device(void **state)
{
	struct pf_device *device;
	struct pf_device_counts counts;
	pthread_t thread[THREADS];
	(void)state;
	assert_int_equal(pf_device_open("sim:*3", NULL, &device, NULL), 0);
	assert_int_equal(pf_device_cus(device, PF_KERNEL_coef), CUS);
	for (int i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&thread[i], NULL, work, device), 0);
	for (int i = 0; i < THREADS; i++) {
		void *failures = NULL;
		pthread_join(thread[i], &failures);
		assert_int_equal((intptr_t)failures, 0);
	}
	pf_device_counts(device, &counts);
	assert_int_equal(counts.runs, THREADS * JOBS);
	assert_int_equal(counts.copies, 3 * THREADS * JOBS);
	assert_int_equal(pf_device_close(device), 0);
}

/* Runs of one kernel start in the order of submission, whatever compute unit they get */
static void devices_are_independent(void **state)
{
	struct pf_device *device[2];
	struct job job[2];
	(void)state;
	for (int i = 0; i < 2; i++) {
		assert_int_equal(pf_device_open("sim:u50", NULL, &device[i], NULL), 0);
		assert_int_equal(job_open(device[i], &job[i], NULL), 0);
		assert_int_equal(job_submit(&job[i], i), 0);
	}
	assert_int_equal(job_wait(&job[0], 0, NULL), 0);
	assert_int_equal(pf_device_close(device[0]), 0);
	assert_int_equal(job_wait(&job[1], 1, NULL), 0);
	assert_int_equal(pf_device_close(device[1]), 0);
}

static void starts_follow_submissions(void **state)
{
	enum { RUNS = 40 };
	static struct job job[RUNS];
	struct pf_device *device;
	(void)state;
	assert_int_equal(pf_device_open("sim:u50*4", NULL, &device, NULL), 0);
	for (int i = 0; i < RUNS; i++)
		assert_int_equal(job_open(device, &job[i], NULL), 0);
	for (int i = 0; i < RUNS; i++)
		assert_int_equal(job_submit(&job[i], i), 0);
	for (int i = 0; i < RUNS; i++)
		assert_int_equal(job_wait(&job[i], i, NULL), 0);
	for (int i = 1; i < RUNS; i++)
		assert_true(job[i - 1].run.started_ns <= job[i].run.started_ns);
	assert_int_equal(pf_device_close(device), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(threads_share_a_device), cmocka_unit_test(devices_are_independent),
		cmocka_unit_test(starts_follow_submissions),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
