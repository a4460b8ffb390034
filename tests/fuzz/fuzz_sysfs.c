/* Files of /sys with anything in them: discovery and doctor describe the card as far as they can, in printable text.
 * Input: one file after the other, "number of the file (one byte), contents, 0xff". */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "prefpga/discover.h"

#define FUNCTION "/sys/bus/pci/devices/0000:3b:00.1"
static const char *const names[] = {
	FUNCTION "/resource",
	FUNCTION "/current_link_speed",
	FUNCTION "/max_link_speed",
	FUNCTION "/current_link_width",
	FUNCTION "/max_link_width",
	FUNCTION "/numa_node",
	FUNCTION "/config",
	FUNCTION "/xclbinuuid",
	FUNCTION "/rom.u.1/VBNV",
	FUNCTION "/firewall.u.1/detected_level",
	FUNCTION "/xmc.u.1/xmc_fpga_temp",
	"/sys/module/xocl/version",
};
enum { NAMES = sizeof names / sizeof *names };
static char root[64];

static void write_file(const char *name, const void *data, size_t size)
{
	char path[256];
	snprintf(path, sizeof path, "%s%s", root, name);
	for (char *at = strchr(path + 1, '/'); at; at = strchr(at + 1, '/')) {
		*at = '\0';
		mkdir(path, 0700);
		*at = '/';
	}
	FILE *out = fopen(path, "wb");
	if (!out || fwrite(data, 1, size, out) != size || fclose(out) != 0)
		abort();
}

/* A card of known ids, and nothing else */
static void begin(void)
{
	char path[256];
	if (!root[0]) {
		snprintf(root, sizeof root, "sysfs-%ld", (long)getpid());
		mkdir(root, 0700);
	}
	for (unsigned i = 0; i < NAMES; i++) {
		snprintf(path, sizeof path, "%s%s", root, names[i]);
		remove(path);
	}
	write_file(FUNCTION "/vendor", "0x10ee\n", 7);
	write_file(FUNCTION "/device", "0x505d\n", 7);
	write_file(FUNCTION "/resource", "0x0 0x0 0x0\n", 12);
}

static void printable(const char *text)
{
	for (; *text; text++)
		if (*text < ' ' || *text > '~')
			abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct pf_machine_report m;
	struct pf_error error = { 0 };
	const struct pf_discover_options options = { NULL, root };
	begin();
	for (size_t at = 0; at < size;) {
		const uint8_t *end = memchr(data + at + 1, 0xff, size - at - 1);
		size_t length = (end ? (size_t)(end - data) : size) - at - 1;
		write_file(names[data[at] % NAMES], data + at + 1, length);
		at += length + 2;
	}
	if (pf_examine(&options, &m, &error) != 0) {
		if (!error.text[0])
			abort();
		return 0;
	}
	if (m.cards != 1 || !m.card[0].verdict || !m.card[0].text[0])
		abort();
	printable(m.function[0].shell);
	printable(m.function[0].image);
	printable(m.card[0].text);
	printable(m.card[0].remedy);
	printable(m.driver);
	pf_machine_free(&m);
	return 0;
}
