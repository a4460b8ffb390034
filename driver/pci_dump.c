#include "pci_dump.h"
#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>

enum { CONFIG_BYTES = 4096 };

/* Does `text` begin like `shape`, in which # is a hexadecimal digit? */
static int begins(const char *text, const char *shape)
{
	for (; *shape; shape++, text++)
		if (*shape == '#' ? !isxdigit((unsigned char)*text) : *shape != *text)
			return 0;
	return 1;
}

/* "03:00.1 ..." or "0000:03:00.1 ...": its length up to the blank, 0: no such line, -1: no such
 * device */
static int device_line(const char *line)
{
	int length = begins(line, "##:##.# ") ? 7 : begins(line, "####:##:##.# ") ? 12 : 0;
	if (!length)
		return 0;
	const char *slot = line + length - 4;
	return strtoul(slot, NULL, 16) < 32 && slot[3] < '8' ? length : -1;
}

/* The byte at `text` if one stands there and ends there, else -1 */
static int byte_at(const char *text)
{
	char digits[3] = { text[0], text[0] ? text[1] : '\0', '\0' };
	if (!isxdigit((unsigned char)digits[0]) || !isxdigit((unsigned char)digits[1])
	    || (text[2] && text[2] != ' '))
		return -1;
	return (int)strtoul(digits, NULL, 16);
}

/* "40: 10 00 ff": checked and written. Return PF_E_FORMAT for anything that only looks like it */
static int hex_line(const char *line, FILE *out)
{
	size_t digits = strspn(line, "0123456789abcdefABCDEF");
	if (digits > 8)
		return PF_E_FORMAT;
	unsigned long offset = strtoul(line, NULL, 16);
	const char *at = line + digits + 2;
	fprintf(out, "%02lx:", offset < CONFIG_BYTES ? offset : 0);
	for (; *at; offset++) {
		int byte = byte_at(at);
		if (byte < 0 || offset >= CONFIG_BYTES)
			return PF_E_FORMAT;
		fprintf(out, " %02x", (unsigned)byte);
		at += at[2] ? 3 : 2;
	}
	fputc('\n', out);
	return 0;
}

static int is_hex_line(const char *line)
{
	size_t digits = strspn(line, "0123456789abcdefABCDEF");
	return digits >= 2 && line[digits] == ':' && line[digits + 1] == ' ';
}

static int copy_line(const char *line, int *inside, unsigned long *contents, FILE *out)
{
	int device = device_line(line);
	if (device < 0)
		return PF_E_FORMAT;
	if (device > 0) {
		*inside = 1;
		return fprintf(out, "%.*s x\n", device, line) < 0 ? PF_E_DATA : 0;
	}
	if (*inside && is_hex_line(line)) {
		++*contents;
		return hex_line(line, out);
	}
	if (!line[0]) {
		*inside = 0;
		fputc('\n', out);
	}
	return 0;
}

int pf_pci_dump_copy(FILE *in, FILE *out, const char *path, struct pf_error *error)
{
	char *line = NULL;
	size_t size = 0;
	unsigned long contents = 0;            /* lines of configuration space */
	int inside = 0, status = 0;
	ssize_t length;
	for (unsigned long number = 1; status == 0 && (length = getline(&line, &size, in)) >= 0; number++) {
		line[strcspn(line, "\r\n")] = '\0';
		if (copy_line(line, &inside, &contents, out) != 0)
			status = pf_fail(error, PF_E_FORMAT,
			                 "%s: line %lu is not what lspci -xxxx prints", path, number);
	}
	free(line);
	if (status == 0 && (ferror(in) || fflush(out) != 0))
		status = pf_fail(error, PF_E_DATA, "%s: cannot read it", path);
	if (status == 0 && !contents)
		status = pf_fail(error, PF_E_FORMAT,
		                 "%s: no configuration space of a PCI device is in it: make it with lspci -xxxx", path);
	return status;
}
