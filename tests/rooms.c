/* The room check: who may include whom (CONTRIBUTING.md, "Rooms"). Reads every #include "..." and <vendor/...> of the
 * tree and names file:line of what a room must not see. Run from the top of the tree; with an argument: from there. */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* May a file below `room` include `header`? The first matching rule decides; no rule: yes */
struct rule { const char *room, *header; int allowed; const char *why; };
static const struct rule rules[] = {
	{ "hls/", "abi.h", 1, "" }, { "hls/", "kernels.h", 1, "" }, { "hls/", "kmath", 1, "" }, { "hls/", "row_", 1, "" },
	{ "hls/", "beat.h", 1, "" }, { "hls/", "pref_", 1, "" },
	{ "hls/", "<stdint.h>", 1, "" }, { "hls/", "", 0, "kernels see abi.h, kernels.h, kmath*.h, stdint.h and hls/*.h" },
	{ "include/", "hls/", 0, "public and internal words include no room" },
	{ "include/", "driver/", 0, "public and internal words include no room" },
	{ "include/", "sim/", 0, "public and internal words include no room" },
	{ "include/", "host/", 0, "public and internal words include no room" },
	{ "driver/", "hls/", 0, "drivers do not know kernel sources" }, { "driver/", "sim/", 0, "backends register; see backend.h" },
	{ "driver/", "host/", 0, "the host is above the drivers" },
	{ "sim/", "host/", 0, "the host is above the simulator" },
	{ "host/", "backend.h", 0, "the host sees devices, not backends" }, { "host/", "hls/", 0, "the host sees devices" },
	{ "host/", "driver/", 0, "the host sees public headers" }, { "host/", "sim/", 0, "the host sees public headers" },
};

/* Vendor headers: the one file each may appear in */
struct vendor { const char *header, *file; };
static const struct vendor vendors[] = {
	{ "<xrt/xclbin.h>", "driver/xclbin.c" }, { "<xclbin.h>", "driver/xclbin.c" }, { "<xrt", "driver/xrt.c" },
	{ "<experimental/xrt", "driver/xrt.c" }, { "<CL/", "driver/opencl.c" }, { "<pci/", "driver/discover.c" },
};

static int faults, files;

static int starts(const char *text, const char *with)
{
	return strncmp(text, with, strlen(with)) == 0;
}

static void complain(const char *path, int line, const char *header, const char *why)
{
	printf("%s:%d: includes %s: %s\n", path, line, header, why);
	faults++;
}

static void check_include(const char *path, int line, const char *header)
{
	const char *name = header[0] == '"' ? header + 1 : header;
	for (size_t i = 0; i < sizeof vendors / sizeof *vendors; i++)
		if (starts(header, vendors[i].header)) {
			if (strcmp(path, vendors[i].file) != 0 && !starts(path, "tests/"))
				complain(path, line, header, vendors[i].file);
			return;
		}
	for (size_t i = 0; i < sizeof rules / sizeof *rules; i++) {
		if (!starts(path, rules[i].room) || !strstr(name, rules[i].header))
			continue;
		if (!rules[i].allowed)
			complain(path, line, header, rules[i].why);
		return;
	}
}

static void check_file(const char *path)
{
	char text[4096];
	FILE *file = fopen(path, "r");
	if (!file)
		return;
	files++;
	for (int line = 1; fgets(text, sizeof text, file); line++) {
		char header[256];
		if (sscanf(text, " # include %255s", header) == 1)
			check_include(path, line, header);
	}
	fclose(file);
}

static void check_tree(const char *path)
{
	DIR *dir = opendir(path);
	struct dirent *entry;
	while (dir && (entry = readdir(dir))) {
		char below[4096];
		struct stat st;
		if (entry->d_name[0] == '.')
			continue;
		snprintf(below, sizeof below, "%s/%s", path, entry->d_name);
		const char *dot = strrchr(below, '.');
		if (lstat(below, &st) == 0 && S_ISDIR(st.st_mode))
			check_tree(below);
		else if (dot && (strcmp(dot, ".c") == 0 || strcmp(dot, ".h") == 0 || strcmp(dot, ".def") == 0))
			check_file(below);
	}
	if (dir)
		closedir(dir);
}

int main(int argc, char **argv)
{
	static const char *const rooms[] = { "include", "hls", "driver", "sim", "bitstreams", "host" };
	if (argc > 1 && chdir(argv[1]) != 0)
		return perror(argv[1]), 1;
	for (size_t i = 0; i < sizeof rooms / sizeof *rooms; i++)
		check_tree(rooms[i]);
	printf("%d files, %d forbidden includes\n", files, faults);
	return faults != 0 || files < 20;
}
