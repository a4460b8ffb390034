#include "card_sysfs.h"
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { PATH_BYTES = 4096 };

static void function_path(char path[PATH_BYTES], const char *root, const char *bdf, const char *name)
{
	snprintf(path, PATH_BYTES, "%s/sys/bus/pci/devices/%s/%s", root, bdf, name);
}

void pf_card_sysfs_line(const char *path, char *text, int size)
{
	FILE *in = fopen(path, "r");
	if (!in || !fgets(text, size, in))
		text[0] = '\0';
	if (in)
		fclose(in);
	text[strcspn(text, "\r\n")] = '\0';
	for (char *c = text; *c; c++)
		if (*c < ' ' || *c > '~')
			*c = '?';
}

static void read_text(const char *root, const char *bdf, const char *name, char *text, int size)
{
	char path[PATH_BYTES];
	function_path(path, root, bdf, name);
	pf_card_sysfs_line(path, text, size);
}

static long to_number(const char *text, long unknown)
{
	char *end;
	errno = 0;
	long value = strtol(text, &end, 0);
	return end == text || *end || errno ? unknown : value;
}

long pf_card_sysfs_number(const char *root, const char *bdf, const char *name, long unknown)
{
	char text[64];
	read_text(root, bdf, name, text, sizeof text);
	return to_number(text, unknown);
}

/* The last part of where a link of the function points, "" if there is none */
static void read_link(const char *root, const char *bdf, const char *name, char *text, int size)
{
	char path[PATH_BYTES], target[PATH_BYTES];
	function_path(path, root, bdf, name);
	ssize_t length = readlink(path, target, sizeof target - 1);
	target[length > 0 ? length : 0] = '\0';
	const char *slash = strrchr(target, '/');
	snprintf(text, (size_t)size, "%.*s", size - 1, slash ? slash + 1 : target);
}

/* XRT's driver names the folders of its parts "<part>.<u or m>.<number>" */
static void part_text(const char *root, const char *bdf, const char *part, const char *name, char *text, int size)
{
	char path[PATH_BYTES], below[512];
	struct dirent *entry;
	size_t length = strlen(part);
	text[0] = '\0';
	function_path(path, root, bdf, "");
	DIR *folder = opendir(path);
	while (folder && !text[0] && (entry = readdir(folder))) {
		if (strncmp(entry->d_name, part, length) != 0 || entry->d_name[length] != '.')
			continue;
		snprintf(below, sizeof below, "%.200s/%.200s", entry->d_name, name);
		read_text(root, bdf, below, text, size);
	}
	if (folder)
		closedir(folder);
}

static int part_number(const char *root, const char *bdf, const char *part, const char *name)
{
	char text[64];
	part_text(root, bdf, part, name, text, sizeof text);
	long value = to_number(text, -1);
	return value >= 0 && value <= INT_MAX ? (int)value : -1;
}

/* "start end flags" a line; size of a region that exists */
static void read_bars(const char *root, struct pf_card_function *function)
{
	char path[PATH_BYTES];
	unsigned long long start, end, flags;
	function_path(path, root, function->bdf, "resource");
	FILE *in = fopen(path, "r");
	for (unsigned i = 0; i < 6 && in && fscanf(in, "%llx %llx %llx", &start, &end, &flags) == 3; i++)
		function->bar_bytes[i] = end > start ? end - start + 1 : 0;
	if (in)
		fclose(in);
}

/* Runs go through the function's render node */
static void read_access(const char *root, struct pf_card_function *function)
{
	char path[PATH_BYTES], node[PATH_BYTES];
	struct dirent *entry;
	function_path(path, root, function->bdf, "drm");
	DIR *folder = opendir(path);
	while (folder && (entry = readdir(folder)))
		if (strncmp(entry->d_name, "renderD", 7) == 0) {
			snprintf(node, sizeof node, "%s/dev/dri/%.64s", root, entry->d_name);
			function->accessible = access(node, R_OK | W_OK) == 0;
		}
	if (folder)
		closedir(folder);
}

/* A card off the bus answers with ones; the kernel's copy of the ids does not show it */
static void read_alive(const char *root, struct pf_card_function *function)
{
	static const unsigned char ones[4] = { 0xff, 0xff, 0xff, 0xff };
	unsigned char config[4];
	char path[PATH_BYTES];
	function_path(path, root, function->bdf, "config");
	FILE *in = fopen(path, "rb");
	if (in && fread(config, 1, sizeof config, in) == sizeof config)
		function->alive = memcmp(config, ones, sizeof ones) != 0;
	if (in)
		fclose(in);
}

void pf_card_sysfs_read(const char *root, struct pf_card_function *f)
{
	char group[16];
	const char *bdf = f->bdf;
	read_link(root, bdf, "driver", f->driver, sizeof f->driver);
	read_link(root, bdf, "iommu_group", group, sizeof group);
	f->iommu_group = (int)to_number(group, -1);
	f->numa_node = (int)pf_card_sysfs_number(root, bdf, "numa_node", -1);
	read_text(root, bdf, "current_link_speed", f->link_speed, sizeof f->link_speed);
	read_text(root, bdf, "max_link_speed", f->link_speed_max, sizeof f->link_speed_max);
	f->link_width = (unsigned)pf_card_sysfs_number(root, bdf, "current_link_width", 0);
	f->link_width_max = (unsigned)pf_card_sysfs_number(root, bdf, "max_link_width", 0);
	read_bars(root, f);
	read_access(root, f);
	read_alive(root, f);
	part_text(root, bdf, "rom", "VBNV", f->shell, sizeof f->shell);
	read_text(root, bdf, "xclbinuuid", f->image, sizeof f->image);
	f->firewall = part_number(root, bdf, "firewall", "detected_level");
	f->celsius = part_number(root, bdf, "xmc", "xmc_fpga_temp");
	f->microwatts = part_number(root, bdf, "xmc", "xmc_power");
}
