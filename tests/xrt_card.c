/* Backend xrt on cards with addresses, which XRT's emulation has not, and what it makes of what XRT's drivers say.
 * LD_LIBRARY_PATH leads to the stand-in of fake_xrt.c. `xrt_card XCLBIN`: an emulated image, of which a copy is made
 * that says it is for a card. */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "driver/image.h"
#include "prefpga/recover.h"
#include "tests/cmocka.h"
#include "tests/fake_xrt.h"
#include "tests/job.h"
#include "tests/scratch.h"

enum { MODE_OFFSET = 332 };            /* of axlf's m_mode, 16 bits; 0: a bitstream */
static char image[512];
static struct fake_card *(*card_of)(unsigned i);
static void (*fail_next)(const char *call, int times, const char *text, int state);

static int open_device(const char *spec, struct pf_device **device, struct pf_error *error)
{
	const struct pf_device_options options = { .image = image };
	return pf_device_open(spec, &options, device, error);
}

static struct pf_device *opened(const char *spec)
{
	struct pf_device *device;
	struct pf_error error = { 0 };
	if (open_device(spec, &device, &error) != 0)
		fail_msg("%s: %s", spec, error.text);
	return device;
}

static void work(struct pf_device *device, double value)
{
	struct pf_error error = { 0 };
	struct job job;
	assert_int_equal(job_open(device, &job, &error), 0);
	assert_int_equal(job_submit(&job, value), 0);
	if (job_wait(&job, value, &error) != 0)
		fail_msg("%s", error.text);
	job_close(&job);
}

/* Both cards in one process, the second one first: copies and runs of each reach the card whose address was named */
static void cards_by_address(void **state)
{
	(void)state;
	struct pf_device *second = opened("xrt:0000:af:00.1"), *first = opened("xrt:0000:3b:00.1");
	assert_string_equal(pf_device_facts(second)->name, "XRT card 0000:af:00.1");
	assert_string_equal(pf_device_facts(first)->name, "XRT card 0000:3b:00.1");
	assert_true(card_of(0)->open == 1 && card_of(1)->open == 1);
	for (unsigned i = 0; i < 2; i++) {
		const struct fake_card *named = card_of(i), *other = card_of(!i), was = *named, other_was = *other;
		work(i ? second : first, 3.0 + i);
		assert_true(named->runs == was.runs + 1 && other->runs == other_was.runs);
		assert_true(named->bytes_in > was.bytes_in && other->bytes_in == other_was.bytes_in);
		assert_true(named->bytes_out > was.bytes_out && other->bytes_out == other_was.bytes_out);
	}
	assert_int_equal(pf_device_close(first), 0);
	assert_true(card_of(0)->open == 0 && card_of(1)->open == 1);
	work(second, 5.0);
	assert_int_equal(pf_device_close(second), 0);
	assert_int_equal(card_of(1)->open, 0);
}

static void cards_by_number(void **state)
{
	(void)state;
	const uint64_t before = card_of(1)->runs;
	struct pf_device *device = opened("xrt:1");
	work(device, 7.0);
	assert_true(card_of(1)->runs == before + 1);
	assert_int_equal(pf_device_close(device), 0);
}

static void unknown_cards(void **state)
{
	static const char *const specs[] = { "xrt:0000:01:00.1", "xrt:2", "xrt:0000:3b:00", "xrt:3b:00.1", "xrt:x" };
	(void)state;
	for (size_t i = 0; i < sizeof specs / sizeof *specs; i++) {
		struct pf_device *device;
		struct pf_error error = { 0 };
		assert_int_equal(open_device(specs[i], &device, &error), PF_E_ABSENT);
		assert_null(device);
		assert_non_null(strstr(error.text, specs[i] + 4));
		assert_non_null(strstr(error.text, "`prefpga devices` lists cards"));
	}
	assert_true(card_of(0)->open == 0 && card_of(1)->open == 0);
}

/* ---- what the drivers say, and what to do about it (texts: XRT's shim.cpp, debug-faq.rst) ---- */
struct saying { const char *call, *text; int code; const char *remedy; };
#define LOAD "xrtDeviceLoadXclbinFile"
static const struct saying at_open[] = {
	{ "xrtDeviceOpen", "No such device with index '0'", PF_E_ABSENT, "`prefpga devices` lists cards" },
	{ LOAD, "Xclbin does not match shell on card.", PF_E_IMAGE, "build the image for the shell" },
	{ LOAD, "Xclbin on card is in use, can't change.", PF_E_IMAGE, "another program holds the card" },
	{ LOAD, "Xclbin isn't signed properly", PF_E_IMAGE, "signed images only" },
	{ LOAD, "Not enough host_mem for xclbin", PF_E_IMAGE, "xrt-smi configure --host-mem" },
	{ LOAD, "Can't reach out to mgmt for xclbin downloading", PF_E_IMAGE, "management daemon" },
	{ LOAD, "CU was deadlocked? Hardware is not stable", PF_E_IMAGE, "xrt-smi reset, else xbmgmt reset" },
	{ LOAD, "something that nobody knows", PF_E_IMAGE, "is it built for the card's shell" },
	{ "xrtPLKernelOpen", "No compute units satisfy requested connectivity", PF_E_IMAGE, "connectivity" },
};

static void what_opening_says(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof at_open / sizeof *at_open; i++) {
		const struct saying *s = &at_open[i];
		struct pf_device *device;
		struct pf_error error = { 0 };
		fail_next(s->call, 1, s->text, 0);
		const int code = open_device("xrt:0000:3b:00.1", &device, &error);
		if (code != s->code || !strstr(error.text, s->text) || !strstr(error.text, s->remedy))
			fail_msg("%s said \"%s\", and we %d: %s", s->call, s->text, code, error.text);
		assert_int_equal(card_of(0)->open, 0);
	}
}

enum { ERROR_STATE = 5, TIMEOUT_STATE = 8 };
static const struct { struct saying s; int times, state; } at_work[] = {
	{ { "xrtRunStart", "AXI Firewall 3 tripped, status: 0x80000", PF_E_DEVICE, "xrt-smi reset, else xbmgmt" }, 1, 0 },
	{ { "xrtRunState", "AXI firewall 0 is tripped", PF_E_DEVICE, "xrt-smi reset, else xbmgmt" }, 1, ERROR_STATE },
	{ { "xrtRunState", "command timed out", PF_E_DEVICE, "reset the card (xrt-smi reset)" }, 1, TIMEOUT_STATE },
	{ { "xrtBOSync", "sync failed", PF_E_DEVICE, "reset the card (xrt-smi reset)" }, 3, 0 },
};

static void what_working_says(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof at_work / sizeof *at_work; i++) {
		const struct saying *s = &at_work[i].s;
		struct pf_device *device = opened("xrt:0000:3b:00.1");
		struct pf_error error = { 0 };
		struct job job;
		assert_int_equal(job_open(device, &job, &error), 0);
		fail_next(s->call, at_work[i].times, s->text, at_work[i].state);
		job_submit(&job, 1.0);
		assert_true(job_wait(&job, 1.0, &error) != 0);
		if (!strstr(error.text, s->text) || !strstr(error.text, s->remedy))
			fail_msg("%s said \"%s\", and we: %s", s->call, s->text, error.text);
		assert_int_equal(pf_copy_in(job.item, 0, &job.host_item, 1, NULL, &job.in[0]), s->code);       /* it is lost */
		job_close(&job);
		assert_int_equal(pf_device_close(device), 0);
	}
}

/* A copy that fails twice is done a third time; memory that is refused is freed from the pool and asked for again */
static void what_is_tried_again(void **state)
{
	(void)state;
	struct pf_device *device = opened("xrt:0000:3b:00.1");
	struct pf_error error = { 0 };
	struct pf_buf *buf;
	fail_next("xrtBOSync", 2, "sync failed", 0);
	work(device, 9.0);
	fail_next("xrtBOAlloc", 1, "out of memory", 0);
	assert_int_equal(pf_buf_alloc(device, PF_KERNEL_coef, PF_ARG_coef_out, 1 << 20, &buf, &error), 0);
	pf_buf_free(buf);
	fail_next("xrtBOAlloc", 2, "Failed to allocate host memory buffer (1), make sure host bank is enabled", 0);
	assert_int_equal(pf_buf_alloc(device, PF_KERNEL_coef, PF_ARG_coef_out, 1 << 22, &buf, &error), PF_E_MEMORY);
	assert_non_null(strstr(error.text, "xrt-smi configure --host-mem"));
	assert_int_equal(pf_device_close(device), 0);
}

/* The stand-in computes nothing but coef, so the check of a card that was reset, for instance, sees through it */
static void a_card_that_computes_wrong(void **state)
{
	struct pf_device *device = opened("xrt:1");
	struct pf_error error = { 0 };
	(void)state;
	assert_int_equal(pf_device_check(device, &error), PF_E_DEVICE);
	assert_non_null(strstr(error.text, "kernel seq_sum computes 0 where -"));
	assert_int_equal(pf_device_close(device), 0);
}

int main(int argc, char **argv)
{
	struct pf_error error = { 0 };
	size_t bytes;
	void *data = NULL, *library = dlopen("libxrt_coreutil.so.2", RTLD_NOW);
	if (library) {
		*(void **)&card_of = dlsym(library, "fake_xrt_card");
		*(void **)&fail_next = dlsym(library, "fake_xrt_fail");
	}
	if (argc < 2 || !card_of || !fail_next || pf_image_read(argv[1], &data, &bytes, &error) != 0) {
		fprintf(stderr, "xrt_card: %s\n",
		        card_of ? error.text : "LD_LIBRARY_PATH leads to no stand-in for XRT");
		return 2;
	}
	scratch_open("xrt_card");
	memset((char *)data + MODE_OFFSET, 0, 2);
	snprintf(image, sizeof image, "%s", scratch_bytes("card.xclbin", data, bytes));
	free(data);
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(cards_by_address), cmocka_unit_test(cards_by_number), cmocka_unit_test(unknown_cards),
		cmocka_unit_test(what_opening_says), cmocka_unit_test(what_working_says),
		cmocka_unit_test(what_is_tried_again), cmocka_unit_test(a_card_that_computes_wrong),
	};
	return cmocka_run_group_tests_name("xrt_card", tests, NULL, NULL);
}
