/* Several emulated cards at once, by number and by address, and one of XRT's interfaces in a process. */
#include <stdio.h>
#include <string.h>
#include "tests/cmocka.h"
#include "tests/xrt_emulated.h"

enum { JOBS = 24, CARDS = 2 };

/* XRT serves one of its interfaces in a process */
void one_interface(void **state)
{
	struct pf_device *device = open_first(NULL), *other;
	struct pf_error error = { 0 };
	(void)state;
	assert_int_equal(pf_device_open(is_opencl() ? "xrt" : "opencl", NULL, &other, &error), PF_E_UNSUPPORTED);
	assert_non_null(strstr(error.text, xrt_backend));
	work(device, 1);
	assert_int_equal(pf_device_close(device), 0);
}

/* XRT 2.13's emulation unmaps a page a second time when another card is loaded; ASan may have put something there */
#if defined(__SANITIZE_ADDRESS__)
#define ONE_CARD_UNDER_ASAN() skip()
#else
#define ONE_CARD_UNDER_ASAN() ((void)0)
#endif

void several_cards(void **state)
{
	struct pf_device *device[CARDS];
	static struct job job[CARDS][JOBS];
	struct pf_error error = { 0 };
	(void)state;
	ONE_CARD_UNDER_ASAN();
	for (unsigned c = 0; c < CARDS; c++)
		device[c] = open_card(c, NULL);
	for (int i = 0; i < JOBS; i++)
		for (int c = 0; c < CARDS; c++) {
			assert_int_equal(job_open(device[c], &job[c][i], &error), 0);
			assert_int_equal(job_submit(&job[c][i], 1000 * c + i), 0);
		}
	for (int i = 0; i < JOBS; i++)
		for (int c = 0; c < CARDS; c++) {
			if (job_wait(&job[c][i], 1000 * c + i, &error) != 0)
				fail_msg("card %d: %s", c, error.text);
			job_close(&job[c][i]);
		}
	for (unsigned c = 0; c < CARDS; c++)
		assert_int_equal(pf_device_close(device[c]), 0);
}

/* Once a card has run, OpenCL takes no other one, and says so instead of crashing */
void one_card_more(void **state)
{
	struct pf_device *first, *second, *third = NULL;
	struct pf_error error = { 0 };
	char spec[32];
	(void)state;
	ONE_CARD_UNDER_ASAN();
	first = open_first(NULL);
	second = open_card(1, NULL);
	work(first, 1);
	work(second, 1);
	snprintf(spec, sizeof spec, "%s:0", xrt_backend);
	if (is_opencl()) {
		assert_int_equal(pf_device_open(spec, NULL, &third, &error), PF_E_UNSUPPORTED);
		assert_non_null(strstr(error.text, "open all cards first"));
	}
	work(first, 1);
	work(second, 1);
	assert_int_equal(pf_device_close(first), 0);
	assert_int_equal(pf_device_close(second), 0);
}

/* Emulated cards have addresses in OpenCL, 0000:00:<number>.0; the native interface takes none there (test xrt_card has
 * cards with addresses for it). That card 1 is meant, XRT's OpenCL shows by having it: it takes no other any more */
void cards_by_address(void **state)
{
	struct pf_device *first, *second = NULL;
	struct pf_error error = { 0 };
	(void)state;
	ONE_CARD_UNDER_ASAN();
	first = open_first(NULL);
	if (!is_opencl()) {
		assert_int_equal(pf_device_open("xrt:0000:00:01.0", NULL, &second, &error), PF_E_ABSENT);
		assert_non_null(strstr(error.text, "Invalid device string"));
		assert_int_equal(pf_device_close(first), 0);
		return;
	}
	if (pf_device_open("opencl:0000:00:01.0", NULL, &second, &error) != 0)
		fail_msg("%s", error.text);
	work(second, 1);
	work(first, 1);
	assert_int_equal(pf_device_close(first), 0);
	assert_int_equal(pf_device_close(second), 0);
	assert_int_equal(pf_device_open("opencl:0000:00:07.0", NULL, &second, &error), PF_E_ABSENT);
	assert_non_null(strstr(error.text, "0000:00:07.0"));
}
