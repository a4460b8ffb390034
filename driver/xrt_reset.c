/* Resets of a card by XRT's tools, as its C API has none: xrt-smi (xbutil before 2024.2) for the user function, xbmgmt
 * for the management function, which has the same address but for function 0. Both ask before they act; --force
 * answers. Source: XRT 2025.2, xrt-smi.rst and xbmgmt.rst ("reset", "Global options"). Not confirmed on hardware. */
#define _GNU_SOURCE                            /* environ */
#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "xrt_card.h"

/* 0000:03:00.1 */
static int is_bdf(const char *where)
{
	unsigned domain, bus, device, function;
	int used = 0;
	return sscanf(where, "%4x:%2x:%2x.%1u%n", &domain, &bus, &device, &function, &used) == 4 && !where[used];
}

/* The exit code of the tool, or -errno if it could not be started */
static int run_tool(const char *tool, const char *bdf)
{
	char *argv[] = { (char *)tool, "reset", "--device", (char *)bdf, "--force", NULL };
	posix_spawn_file_actions_t silent;
	pid_t child;
	int status, code;
	posix_spawn_file_actions_init(&silent);
	posix_spawn_file_actions_addopen(&silent, 0, "/dev/null", O_RDONLY, 0);
	posix_spawn_file_actions_addopen(&silent, 1, "/dev/null", O_WRONLY, 0);
	posix_spawn_file_actions_addopen(&silent, 2, "/dev/null", O_WRONLY, 0);
	code = -posix_spawnp(&child, tool, &silent, NULL, argv, environ);
	posix_spawn_file_actions_destroy(&silent);
	if (code)
		return code;
	while (waitpid(child, &status, 0) < 0 && errno == EINTR)
		;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128;
}

int pf_xrt_reset(const char *where, enum pf_reset level, struct pf_error *error)
{
	static const char *const user[] = { "xrt-smi", "xbutil", NULL }, *const mgmt[] = { "xbmgmt", NULL };
	char bdf[16];
	struct pf_xrt_place place;
	int code = pf_xrt_start("xrt", &place, error);
	if (code)
		return code;
	if (place.mode)
		return pf_fail(error, PF_E_UNSUPPORTED, "an emulated card has no reset: start its session anew");
	if (!is_bdf(where))
		return pf_fail(error, PF_E_UNSUPPORTED, "only a card named by its address can be reset: give --device "
		               "xrt:DDDD:BB:DD.F as `prefpga devices` shows it");
	snprintf(bdf, sizeof bdf, "%s", where);
	if (level == PF_RESET_MGMT)
		bdf[strlen(bdf) - 1] = '0';
	code = -ENOENT;
	for (const char *const *tool = level == PF_RESET_MGMT ? mgmt : user; *tool && code == -ENOENT; tool++)
		if ((code = run_tool(*tool, bdf)) > 0)
			return pf_fail(error, PF_E_DEVICE, "`%s reset --device %s --force` failed with exit code %d",
				       *tool, bdf, code);
	return code ? pf_fail(error, PF_E_ABSENT, "XRT's tool for resets is not installed: %s",
	                      level == PF_RESET_MGMT ? "xbmgmt" : "xrt-smi") : 0;
}
