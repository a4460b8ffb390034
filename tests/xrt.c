/* Backends xrt and opencl against XRT's own library in software emulation: run by
 * `prefpga emulate --cards 2 --image` with an image that has two units of kernel coef: `xrt BACKEND [MODE]`. Without
 * emulation: a skip. Modes: `hang` with an image of one unit of coef, which hangs; `kill` kills the card's process;
 * `interrupt` is interrupted; `wait` opens, works, says so and goes on until it is killed; `many` opens and closes
 * again and again. */
#define _GNU_SOURCE                    /* memmem */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "tests/cmocka.h"
#include "tests/scratch.h"
#include "tests/xrt_emulated.h"

enum { JOBS = 24, THREADS = 4 };
const char *xrt_backend = "xrt";

int is_opencl(void)
{
	return strcmp(xrt_backend, "opencl") == 0;
}

struct pf_device *open_card(unsigned index, const struct pf_device_options *options)
{
	char spec[32];
	struct pf_device *device;
	struct pf_error error = { 0 };
	snprintf(spec, sizeof spec, "%s:%u", xrt_backend, index);
	if (pf_device_open(spec, options, &device, &error) != 0)
		fail_msg("%s", error.text);
	return device;
}

struct pf_device *open_first(const struct pf_device_options *options)
{
	return open_card(0, options);
}

void work(struct pf_device *device, int rounds)
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
	struct pf_device *device = open_first(NULL);
	const struct pf_device_facts *f = pf_device_facts(device);
	(void)state;
	assert_string_equal(f->backend, xrt_backend);
	assert_string_equal(f->name, is_opencl() ? "OpenCL card 0 (emulated)" : "XRT card 0 (emulated)");
	assert_int_equal(f->numerics, PF_NUMERICS);
	assert_true(f->exact && !f->host_visible);
	assert_true(f->memory_bytes == (uint64_t)48 << 30);
	assert_int_equal(pf_device_cus(device, PF_KERNEL_coef), 2);
	assert_int_equal(pf_device_cus(device, PF_KERNEL_pref), 1);
	assert_int_equal(pf_device_cus(device, PF_KERNEL_head_adamw), 1);
	assert_int_equal(pf_device_close(device), 0);
}

/* One process opens, loads and closes again and again */
static void several_loads(void **state)
{
	(void)state;
	for (int round = 0; round < 4; round++) {
		struct pf_device *device = open_first(NULL);
		work(device, 2);
		assert_int_equal(pf_device_close(device), 0);
	}
}

/* More jobs than units, all queued at once: every one gets its own result */
static void two_units(void **state)
{
	struct pf_device *device = open_first(NULL);
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
	struct pf_device *device = open_first(NULL);
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
	char where[64];
	snprintf(where, sizeof where, "%s%s", xrt_backend, spec);
	assert_int_equal(pf_device_open(where, &options, &device, &error), code);
	if (!strstr(error.text, says))
		fail_msg("\"%s\" does not say \"%s\"", error.text, says);
}

static void refusals(void **state)
{
	(void)state;
	scratch_open("xrt");
	refusal(":7", NULL, PF_E_ABSENT, is_opencl() ? "no card 7" : "no emulated card 7");
	refusal(":no:card", NULL, PF_E_ABSENT, is_opencl() ? "no card no:card" : "XRT: ");
	refusal("", scratch_path("none.xclbin"), -ENOENT, "none.xclbin");
	refusal("", scratch_text("text.xclbin", "no image"), PF_E_FORMAT, "text.xclbin");
	struct pf_device *device = open_first(NULL);     /* and a refusal leaves nothing broken */
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
	refusal("", foreign_image(), PF_E_IMAGE, "has ABI 0000000000000000, this program expects ");
}

static int run_group(const char *mode)
{
	static const struct CMUnitTest hang[] = { cmocka_unit_test(a_hanging_unit) };
	static const struct CMUnitTest many[] = { cmocka_unit_test(many_opens_leave_nothing) };
	static const struct CMUnitTest tests[] = {
		/* OpenCL wants all cards before the first run */
		cmocka_unit_test(several_cards),
		cmocka_unit_test(one_card_more),
		cmocka_unit_test(cards_by_address),
		cmocka_unit_test(facts),
		cmocka_unit_test(several_loads),
		cmocka_unit_test(two_units),
		cmocka_unit_test(several_threads),
		cmocka_unit_test(refusals),
		cmocka_unit_test(foreign_kernels_are_refused),
		cmocka_unit_test(more_memory_than_there_is),
		cmocka_unit_test(buffers_are_used_again),
		cmocka_unit_test(one_interface),
		cmocka_unit_test(parts_stay_on_the_card),
		cmocka_unit_test(large_buffers),
		cmocka_unit_test(memory_of_the_caller),
	};
	if (strcmp(mode, "many") == 0)
		return cmocka_run_group_tests_name("xrt many", many, NULL, NULL);
	if (strcmp(mode, "hang") != 0)
		return cmocka_run_group_tests_name("xrt", tests, NULL, NULL);
	int failed = cmocka_run_group_tests_name("xrt hang", hang, NULL, NULL);
	fflush(NULL);
	_exit(failed);                         /* XRT 2.13's destructors do not survive a hanging run */
}

int main(int argc, char **argv)
{
	struct pf_device *device;
	struct pf_error error = { 0 };
	const char *mode = argc > 2 ? argv[2] : "";
	if (argc > 1)
		xrt_backend = argv[1];
	int status = pf_device_open(xrt_backend, NULL, &device, &error);
	if (status == PF_E_ABSENT || status == PF_E_UNSUPPORTED) {
		printf("skipped: %s\n", error.text);
		return 77;
	}
	if (status == 0)
		pf_device_close(device);
	if (strcmp(mode, "interrupt") == 0)
		return survive_an_interrupt();
	if (strcmp(mode, "kill") == 0)
		return lose_the_card();
	if (strcmp(mode, "wait") == 0)
		return work_to_the_end();
	return run_group(mode);
}
