/* Backend xrt against XRT's own library in software emulation: run by `prefpga emulate --image` with an image that has
 * two units of kernel coef. Without emulation: a skip. `xrt hang`: with an image of one unit of coef, which hangs.
 * `xrt kill`: kills the card's process. `xrt interrupt`: is interrupted. */
#define _GNU_SOURCE                    /* memmem */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/types.h>
#include <unistd.h>
#include "tests/cmocka.h"
#include "tests/job.h"
#include "tests/scratch.h"

enum { JOBS = 24, THREADS = 4 };

static struct pf_device *open_xrt(const struct pf_device_options *options)
{
	struct pf_device *device;
	struct pf_error error = { 0 };
	if (pf_device_open("xrt", options, &device, &error) != 0)
		fail_msg("%s", error.text);
	return device;
}

static void work(struct pf_device *device, int rounds)
{
	struct pf_error error = { 0 };
	struct job job;
	assert_int_equal(job_open(device, &job, &error), 0);
	for (int i = 1; i <= rounds; i++) {
		assert_int_equal(job_submit(&job, i), 0);
		if (job_wait(&job, i, &error) != 0)
			fail_msg("%s", error.text);
	}
	job_close(&job);
}

static void facts(void **state)
{
	struct pf_device *device = open_xrt(NULL);
	const struct pf_device_facts *f = pf_device_facts(device);
	(void)state;
	assert_string_equal(f->backend, "xrt");
	assert_string_equal(f->name, "XRT card 0 (emulated)");
	assert_int_equal(f->numerics, PF_NUMERICS);
	assert_true(f->exact && !f->host_visible);
	assert_true(f->memory_bytes == (uint64_t)48 << 30);
	assert_int_equal(pf_device_cus(device, PF_KERNEL_coef), 2);
	assert_int_equal(pf_device_cus(device, PF_KERNEL_pref), 1);
	assert_int_equal(pf_device_cus(device, PF_KERNEL_linear_grad), 0);
	assert_int_equal(pf_device_close(device), 0);
}

/* One process opens, loads and closes again and again */
static void several_loads(void **state)
{
	(void)state;
	for (int round = 0; round < 4; round++) {
		struct pf_device *device = open_xrt(NULL);
		work(device, 2);
		assert_int_equal(pf_device_close(device), 0);
	}
}

/* More jobs than units, all queued at once: every one gets its own result */
static void two_units(void **state)
{
	struct pf_device *device = open_xrt(NULL);
	static struct job job[JOBS];
	struct pf_error error = { 0 };
	(void)state;
	for (int i = 0; i < JOBS; i++) {
		assert_int_equal(job_open(device, &job[i], &error), 0);
		assert_int_equal(job_submit(&job[i], 100 + i), 0);
	}
	for (int i = 0; i < JOBS; i++) {
		if (job_wait(&job[i], 100 + i, &error) != 0)
			fail_msg("%s", error.text);
		job_close(&job[i]);
	}
	assert_int_equal(pf_device_close(device), 0);
}

struct worker { pthread_t thread; struct pf_device *device; int id, failed; };

static void *work_alone(void *argument)
{
	struct worker *me = argument;
	struct pf_error error = { 0 };
	struct job job;
	me->failed = job_open(me->device, &job, &error) != 0;
	for (int i = 0; i < JOBS && !me->failed; i++) {
		double value = me->id * 1000 + i;
		me->failed = job_submit(&job, value) != 0 || job_wait(&job, value, &error) != 0;
	}
	job_close(&job);
	return NULL;
}

static void several_threads(void **state)
{
	struct worker worker[THREADS];
	struct pf_device *device = open_xrt(NULL);
	(void)state;
	for (int i = 0; i < THREADS; i++) {
		worker[i] = (struct worker) { .device = device, .id = i + 1 };
		assert_int_equal(pthread_create(&worker[i].thread, NULL, work_alone, &worker[i]), 0);
	}
	for (int i = 0; i < THREADS; i++) {
		pthread_join(worker[i].thread, NULL);
		assert_int_equal(worker[i].failed, 0);
	}
	assert_int_equal(pf_device_close(device), 0);
}

/* ---- what goes wrong says why, with XRT's own words ---- */
static void refusal(const char *spec, const char *image, int code, const char *says)
{
	struct pf_device_options options = { .image = image };
	struct pf_device *device;
	struct pf_error error = { 0 };
	assert_int_equal(pf_device_open(spec, &options, &device, &error), code);
	if (!strstr(error.text, says))
		fail_msg("\"%s\" does not say \"%s\"", error.text, says);
}

static void refusals(void **state)
{
	(void)state;
	scratch_open("xrt");
	refusal("xrt:7", NULL, PF_E_ABSENT, "card 0 only");
	refusal("xrt:no:card", NULL, PF_E_ABSENT, "XRT: ");
	refusal("xrt", scratch_path("none.xclbin"), -ENOENT, "none.xclbin");
	refusal("xrt", scratch_text("text.xclbin", "no image"), PF_E_FORMAT, "text.xclbin");
	struct pf_device *device = open_xrt(NULL);     /* and a refusal leaves nothing broken */
	work(device, 1);
	assert_int_equal(pf_device_close(device), 0);
}

/* The session's image with the hash of every kernel set to 0 */
static const char *foreign_image(void)
{
	char path[4096];
	static char data[1 << 26];        /* sanitized kernels are large */
	snprintf(path, sizeof path, "%s/prefpga.xclbin", getenv("XILINX_XRT"));
	FILE *in = fopen(path, "rb");
	assert_non_null(in);
	size_t bytes = fread(data, 1, sizeof data, in);
	fclose(in);
	assert_true(bytes < sizeof data);
	for (char *at = data; (at = memmem(at, (size_t)(data + bytes - at), "\"hash\": \"", 9)); at += 9)
		memset(at + 9, '0', 16);
	return scratch_bytes("foreign.xclbin", data, bytes);
}

static void foreign_kernels_are_refused(void **state)
{
	(void)state;
	scratch_open("xrt");
	refusal("xrt", foreign_image(), PF_E_IMAGE, "has ABI 0000000000000000, this program expects ");
}

static void more_memory_than_there_is(void **state)
{
	struct pf_device *device = open_xrt(NULL);
	struct pf_error error = { 0 };
	struct pf_buf *buf = NULL;
	(void)state;
	assert_int_equal(pf_buf_alloc(device, PF_KERNEL_coef, PF_ARG_coef_out, (uint64_t)20 << 30, &buf,
	                              &error), PF_E_MEMORY);         /* a bank has 16 GiB */
	assert_non_null(strstr(error.text, "cannot allocate 21474836480 bytes: XRT: "));
	work(device, 1);
	assert_int_equal(pf_device_close(device), 0);
}

/* A unit that never ends: the watchdog's error, no hang, and the device is lost */
static void a_hanging_unit(void **state)
{
	struct pf_device_options options = { .watchdog_ms = 300 };
	struct pf_device *device = open_xrt(&options);
	struct pf_error error = { 0 };
	struct job job;
	(void)state;
	assert_int_equal(pf_device_cus(device, PF_KERNEL_coef), 1);
	assert_int_equal(job_open(device, &job, &error), 0);
	assert_int_equal(job_submit(&job, 1), 0);
	assert_int_equal(job_wait(&job, 1, &error), PF_E_TIMEOUT);
	assert_int_equal(job_submit(&job, 1), PF_E_DEVICE);
	job_close(&job);
	pf_device_close(device);
}

/* The process that XRT started for the card */
static pid_t card_process(void)
{
	char path[64], name[64];
	for (long id = 2; id < 1L << 22; id++) {
		long parent = 0;
		snprintf(path, sizeof path, "/proc/%ld/stat", id);
		FILE *in = fopen(path, "r");
		int fields = in ? fscanf(in, "%*d %63s %*c %ld", name, &parent) : 0;
		if (in)
			fclose(in);
		if (fields == 2 && parent == (long)getpid())
			return (pid_t)id;
	}
	return -1;
}

/* Ctrl-C goes to the whole group: the host handles it and goes on with its card (0) */
static int survive_an_interrupt(void)
{
	struct pf_device *device = open_xrt(NULL);
	signal(SIGINT, SIG_IGN);
	signal(SIGTERM, SIG_IGN);
	kill(0, SIGINT);
	kill(0, SIGTERM);
	work(device, 50);
	return pf_device_close(device);
}

/* Many allocations, few files: those of the emulation stay open until the device is closed */
static void buffers_are_used_again(void **state)
{
	struct pf_device *device = open_xrt(NULL);
	struct rlimit before, few = { 300, 300 };
	(void)state;
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
	few.rlim_max = before.rlim_max;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
	for (int i = 0; i < 500; i++)
		work(device, 1);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
	assert_int_equal(pf_device_close(device), 0);
}

/* Loses the card and goes on: XRT ends the program, or an operation fails (3) */
static int lose_the_card(void)
{
	struct pf_device *device = open_xrt(NULL);
	struct pf_error error = { 0 };
	struct job job;
	if (job_open(device, &job, &error) != 0 || kill(card_process(), SIGKILL) != 0)
		return 2;
	for (int i = 0; i < 1000; i++)
		if (job_submit(&job, i) != 0 || job_wait(&job, i, &error) != 0)
			return 3;
	return 0;
}

int main(int argc, char **argv)
{
	struct pf_device *device;
	struct pf_error error = { 0 };
	int status = pf_device_open("xrt", NULL, &device, &error);
	if (status == PF_E_ABSENT || status == PF_E_UNSUPPORTED) {
		printf("skipped: %s\n", error.text);
		return 77;
	}
	if (status == 0)
		pf_device_close(device);
	if (argc > 1 && strcmp(argv[1], "interrupt") == 0)
		return survive_an_interrupt();
	if (argc > 1 && strcmp(argv[1], "kill") == 0)
		return lose_the_card();
	if (argc > 1 && strcmp(argv[1], "hang") == 0) {
		const struct CMUnitTest hang[] = { cmocka_unit_test(a_hanging_unit) };
		int failed = cmocka_run_group_tests_name("xrt hang", hang, NULL, NULL);
		fflush(NULL);
		_exit(failed);                 /* XRT 2.13's destructors do not survive a hanging run */
	}
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(facts), cmocka_unit_test(several_loads), cmocka_unit_test(two_units),
		cmocka_unit_test(several_threads), cmocka_unit_test(refusals),
		cmocka_unit_test(foreign_kernels_are_refused),
		cmocka_unit_test(more_memory_than_there_is), cmocka_unit_test(buffers_are_used_again),
	};
	return cmocka_run_group_tests_name("xrt", tests, NULL, NULL);
}
