/* Discovery on machines made up here: dumps as lspci prints them, and their /sys. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "prefpga/discover.h"
#include "tests/cmocka.h"
#include "tests/scratch.h"

/* A bridge, both functions of a U55C (one with extended config space), the SLASH function of a V80 */
static const char dump[] =
	"00:01.0 PCI bridge: somebody's bridge\n"
	"00: 86 80 02 19 07 04 10 00\n"
	"\n"
	"0000:3b:00.1 Processing accelerators: Xilinx Corporation Device 505d\n"
	"\tKernel driver in use: xocl\n"
	"00: ee 10 5d 50 06 04 10 00 00 00 00 12 10 00 80 00\n"
	"ff0: 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00\n"
	"\n"
	"3b:00.0 Processing accelerators: Xilinx Corporation Device 505c\r\n"
	"00: ee 10 5c 50\r\n"
	"\n"
	"a1:1f.7 Memory controller: Xilinx Corporation Device 50b6\n"
	"00: ee 10 b6 50 06\n";

#define USER_FUNCTION "root/sys/bus/pci/devices/0000:3b:00.1/"

static void make_sysfs(void)
{
	scratch_tree(USER_FUNCTION "current_link_speed", "8.0 GT/s PCIe\n");
	scratch_tree(USER_FUNCTION "current_link_width", "8\n");
	scratch_tree(USER_FUNCTION "max_link_speed", "16.0 GT/s PCIe\n");
	scratch_tree(USER_FUNCTION "max_link_width", "16\n");
	assert_int_equal(symlink("../../../../bus/pci/drivers/xocl", scratch_path(USER_FUNCTION "driver")), 0);
}

static size_t found(const char *text, const char *root, struct pf_card_function **functions)
{
	struct pf_discover_options options = { text ? scratch_text("dump", text) : NULL, root };
	struct pf_error error = { 0 };
	size_t count = 99;
	if (pf_discover(&options, functions, &count, &error) != 0)
		fail_msg("%s", error.text);
	return count;
}

static void cards_of_a_dump(void **state)
{
	struct pf_card_function *f;
	(void)state;
	scratch_open("discover");
	assert_int_equal(found(dump, NULL, &f), 3);
	assert_string_equal(f[0].bdf, "0000:3b:00.0");
	assert_string_equal(f[0].card, "u55c");
	assert_string_equal(f[0].role, "mgmt");
	assert_string_equal(f[1].bdf, "0000:3b:00.1");
	assert_string_equal(f[1].role, "user");
	assert_string_equal(f[1].driver, "");          /* no /sys given: not that of this machine */
	assert_int_equal(f[1].link_width, 0);
	assert_string_equal(f[2].bdf, "0000:a1:1f.7");
	assert_string_equal(f[2].card, "v80");
	assert_true(f[2].vendor == 0x10ee && f[2].device == 0x50b6);
	free(f);
}

static void drivers_and_links_of_a_recorded_sysfs(void **state)
{
	struct pf_card_function *f;
	(void)state;
	scratch_open("discover");
	make_sysfs();
	assert_int_equal(found(dump, scratch_path("root"), &f), 3);
	assert_string_equal(f[1].driver, "xocl");
	assert_string_equal(f[1].link_speed, "8.0 GT/s PCIe");
	assert_string_equal(f[1].link_speed_max, "16.0 GT/s PCIe");
	assert_int_equal(f[1].link_width, 8);
	assert_int_equal(f[1].link_width_max, 16);
	assert_string_equal(f[0].driver, "");
	free(f);
}

/* A copy of /sys alone is enough: libpci reads it in place of this machine's */
static void a_sysfs_without_a_dump(void **state)
{
	struct pf_card_function *f;
	(void)state;
	scratch_open("discover");
	make_sysfs();
	scratch_tree(USER_FUNCTION "vendor", "0x10ee\n");
	scratch_tree(USER_FUNCTION "device", "0x505d\n");
	assert_int_equal(found(NULL, scratch_path("root"), &f), 1);
	assert_string_equal(f[0].bdf, "0000:3b:00.1");
	assert_string_equal(f[0].driver, "xocl");
	free(f);
}

static void machines_without_cards(void **state)
{
	struct pf_card_function *f;
	(void)state;
	scratch_open("discover");
	assert_int_equal(found("00:00.0 Host bridge\n00: 86 80 37 12\n", NULL, &f), 0);
	free(f);
}

static void broken_dumps_are_errors(void **state)
{
	static const struct { const char *text, *why; } bad[] = {
		{ "3b:00.1 x\n00: ee 10 5d 5\n", "line 2" },           /* half a byte */
		{ "3b:00.1 x\n00: ee 10 5d50\n", "line 2" },
		{ "3b:00.1 x\n00: ee 10  5d\n", "line 2" },
		{ "3b:00.1 x\nffffffff: ee\n", "line 2" },             /* libpci would write before its buffer */
		{ "3b:00.1 x\n1000: ee\n", "line 2" },
		{ "\n3b:00.1 x\nfff: ee 10\n", "line 3" },
		{ "3b:20.1 x\n", "line 1" },
		{ "3b:00.8 x\n", "line 1" },
		{ "", "make it with lspci -xxxx" },                    /* no machine without cards */
		{ "text that is no dump at all\n", "make it with lspci -xxxx" },
		{ "3b:00.1 Processing accelerators: Xilinx\n\tFlags: fast devsel\n", "make it with lspci -xxxx" },
	};
	(void)state;
	scratch_open("discover");
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		struct pf_discover_options options = { scratch_text("dump", bad[i].text), NULL };
		struct pf_card_function *f = NULL;
		struct pf_error error = { 0 };
		size_t count;
		assert_int_equal(pf_discover(&options, &f, &count, &error), PF_E_FORMAT);
		if (!strstr(error.text, bad[i].why))
			fail_msg("%s", error.text);
	}
}

static void long_lines_pass(void **state)
{
	struct pf_card_function *f;
	char text[2000];
	(void)state;
	scratch_open("discover");
	memset(text, 'x', sizeof text);
	memcpy(text, "3b:00.1 ", 8);
	strcpy(text + 1500, "\n00: ee 10 5d 50");           /* and no newline at the end */
	assert_int_equal(found(text, NULL, &f), 1);
	free(f);
}

/* libpci's errors come back; its own handler would end the program */
static void trouble_comes_back(void **state)
{
	struct pf_discover_options options = { scratch_path("none"), NULL };
	struct pf_card_function *f;
	struct pf_error error = { 0 };
	size_t count;
	(void)state;
	scratch_open("discover");
	assert_int_equal(pf_discover(&options, &f, &count, &error), -ENOENT);
	scratch_tree("bare/etc/hostname", "somebody's\n");
	options = (struct pf_discover_options) { NULL, scratch_path("bare") };
	for (int round = 0; round < 2; round++) {
		assert_int_equal(pf_discover(&options, &f, &count, &error), PF_E_ABSENT);
		assert_non_null(strstr(error.text, "PCI bus"));
	}
}

/* Also beside a dump, which could be read without it */
static void the_root_must_be_a_folder(void **state)
{
	struct pf_discover_options options = { NULL, NULL };
	struct pf_card_function *f;
	struct pf_error error = { 0 };
	size_t count;
	(void)state;
	scratch_open("discover");
	for (int round = 0; round < 2; round++) {
		options.sysfs_root = scratch_path("none");
		assert_int_equal(pf_discover(&options, &f, &count, &error), -ENOENT);
		assert_non_null(strstr(error.text, "none, which is to stand for /"));
		options.sysfs_root = options.pci_dump = scratch_text("dump", dump);
		assert_int_equal(pf_discover(&options, &f, &count, &error), -ENOTDIR);
	}
}

int main(void)
{
	struct pf_card_function *f = NULL;
	size_t count;
	if (pf_discover(NULL, &f, &count, NULL) == PF_E_UNSUPPORTED)
		return 77;
	free(f);
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(cards_of_a_dump), cmocka_unit_test(drivers_and_links_of_a_recorded_sysfs),
		cmocka_unit_test(a_sysfs_without_a_dump), cmocka_unit_test(machines_without_cards),
		cmocka_unit_test(broken_dumps_are_errors), cmocka_unit_test(long_lines_pass),
		cmocka_unit_test(trouble_comes_back), cmocka_unit_test(the_root_must_be_a_folder),
	};
	return cmocka_run_group_tests_name("discover", tests, NULL, NULL);
}
