/* Resets of backend xrt: which of XRT's tools is called, with which words. The tools are scripts of the test; XRT's own
 * library must be installed, or the test is skipped. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include "prefpga/recover.h"
#include "tests/cmocka.h"
#include "tests/scratch.h"

static char folder[1024];

static void make_tool(const char *name, int code)
{
	char path[2048], text[2048];
	snprintf(path, sizeof path, "bin/%s", name);
	snprintf(text, sizeof text, "#!/bin/sh\necho %s \"$@\" >> %s/said\nexit %d\n", name, folder, code);
	assert_int_equal(chmod(scratch_text(path, text), 0755), 0);
}

static int open_world(void **state)
{
	char path[1100];
	(void)state;
	scratch_open("xrt_reset");
	snprintf(folder, sizeof folder, "%s", scratch_path("."));
	mkdir(scratch_path("bin"), 0755);
	mkdir(scratch_path("xrt"), 0755);
	mkdir(scratch_path("xrt/lib"), 0755);
	scratch_text("xrt/lib/libxrt_core.so.2", "");
	snprintf(path, sizeof path, "%s/bin", folder);
	setenv("PATH", path, 1);
	snprintf(path, sizeof path, "%s/xrt", folder);
	setenv("XILINX_XRT", path, 1);
	unsetenv("XCL_EMULATION_MODE");
	return 0;
}

static const char *said(void)
{
	static char text[1024];
	FILE *in = fopen(scratch_path("said"), "r");
	size_t n = in ? fread(text, 1, sizeof text - 1, in) : 0;
	text[n] = '\0';
	if (in)
		fclose(in);
	remove(scratch_path("said"));
	return text;
}

static void resets(const char *spec, enum pf_reset level, int code, const char *words, const char *says)
{
	struct pf_error error = { 0 };
	int got = pf_device_reset(spec, level, &error);
	if (got != code || !strstr(error.text, says))
		fail_msg("%s: %d \"%s\"", spec, got, error.text);
	assert_string_equal(said(), words);
}

static void the_right_tool_is_called(void **state)
{
	(void)state;
	resets("xrt:0000:03:00.1", PF_RESET_USER, PF_E_ABSENT, "", "not installed: xrt-smi");
	resets("xrt:0000:03:00.1", PF_RESET_MGMT, PF_E_ABSENT, "", "not installed: xbmgmt");
	make_tool("xbutil", 0);
	resets("xrt:0000:03:00.1", PF_RESET_USER, 0, "xbutil reset --device 0000:03:00.1 --force\n", "");
	make_tool("xrt-smi", 0);
	resets("xrt:0000:03:00.1", PF_RESET_USER, 0, "xrt-smi reset --device 0000:03:00.1 --force\n", "");
	make_tool("xbmgmt", 0);
	resets("xrt:0000:af:00.1", PF_RESET_MGMT, 0, "xbmgmt reset --device 0000:af:00.0 --force\n", "");
}

static void failures_are_told(void **state)
{
	(void)state;
	make_tool("xrt-smi", 3);
	resets("xrt:0000:03:00.1", PF_RESET_USER, PF_E_DEVICE, "xrt-smi reset --device 0000:03:00.1 --force\n",
	       "failed with exit code 3");
	resets("xrt:0", PF_RESET_USER, PF_E_UNSUPPORTED, "", "named by its address");
	resets("xrt:0000:03:00.1; reboot", PF_RESET_USER, PF_E_UNSUPPORTED, "", "named by its address");
	resets("sim", PF_RESET_USER, PF_E_UNSUPPORTED, "", "has no reset");
	resets("nothing", PF_RESET_USER, PF_E_UNKNOWN, "", "no device");
}

int main(void)
{
	struct pf_device *device;
	struct pf_error error = { 0 };
	int code = pf_device_open("xrt", NULL, &device, &error);
	if (strstr(error.text, "not installed") || code == PF_E_UNSUPPORTED) {
		printf("skipped: %s\n", error.text);
		return 77;
	}
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_right_tool_is_called), cmocka_unit_test(failures_are_told),
	};
	return cmocka_run_group_tests_name("xrt_reset", tests, open_world, NULL);
}
