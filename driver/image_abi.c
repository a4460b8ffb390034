/* What a tool has built, against kernels.def: registers, ports and banks. And the manifest into what it has built. */
#define _GNU_SOURCE                            /* memmem, in xml.h */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "image.h"
#include "prefpga/internal/cards.def"
#include "prefpga/internal/registers.h"
#include "prefpga/internal/xml.h"
#include "xclbin.h"

enum { NAME_BYTES = 96, PORT_BITS_MAX = 1024, CLASSES = 3 };

struct check {
	const char                 *path;
	const struct pf_xclbin     *xclbin;
	const struct pf_kernel_row *row;
	struct pf_error            *error;
};

static int wrong(const struct check *c, unsigned arg, const char *what, const char *is, const char *should)
{
	return pf_fail(c->error, PF_E_IMAGE, "%s: kernel %s, argument %u (%s): %s is %s, the table says %s", c->path,
	               c->row->name, arg, c->row->arg[arg].name, what, is, should);
}

static int wrong_number(const struct check *c, unsigned arg, const char *what, uint64_t is, uint64_t should)
{
	char a[24], b[24];
	snprintf(a, sizeof a, "0x%llx", (unsigned long long)is);
	snprintf(b, sizeof b, "0x%llx", (unsigned long long)should);
	return is == should ? 0 : wrong(c, arg, what, a, b);
}

/* "M_AXI_GMEM0", "S_AXI_CONTROL" */
static void port_name(const struct pf_arg_row *arg, char name[NAME_BYTES])
{
	snprintf(name, NAME_BYTES, "%s%s", arg->dir == PF_DIR_VAL ? "S_AXI_" : "M_AXI_", arg->bundle);
	for (char *c = name; *c; c++)
		*c = *c >= 'a' && *c <= 'z' ? (char)(*c - 'a' + 'A') : *c;
}

static int check_width(const struct check *c, struct pf_xml body, unsigned arg, const char *port)
{
	struct pf_xml element;
	char name[NAME_BYTES];
	uint64_t bits, element_bits = (uint64_t)c->row->arg[arg].size * 8;
	uint64_t least = element_bits < PF_BEAT_BYTES * 8 ? element_bits : PF_BEAT_BYTES * 8;
	while (pf_xml_next(&body, "port", &element)) {
		if (!pf_xml_text(element, "name", name, sizeof name) || strcmp(name, port) != 0)
			continue;
		if (!pf_xml_number(element, "dataWidth", &bits) || bits > PORT_BITS_MAX || (bits & (bits - 1)) ||
		    bits < least)
			return pf_fail(c->error, PF_E_IMAGE,
				       "%s: kernel %s: port %s does not carry argument %s, which needs %llu "
				       "bits",
				       c->path, c->row->name, port, c->row->arg[arg].name, (unsigned long long)least);
		return 0;
	}
	return wrong(c, arg, "port", "missing", port);
}

static int check_arg(const struct check *c, struct pf_xml body, struct pf_xml element, unsigned arg)
{
	const struct pf_arg_row *row = &c->row->arg[arg];
	char name[NAME_BYTES] = "", port[NAME_BYTES] = "", wanted[NAME_BYTES];
	uint64_t id = UINT64_MAX, offset = UINT64_MAX, size = UINT64_MAX;
	int scalar = row->dir == PF_DIR_VAL;
	pf_xml_text(element, "name", name, sizeof name);
	pf_xml_text(element, "port", port, sizeof port);
	pf_xml_number(element, "id", &id);
	pf_xml_number(element, "offset", &offset);
	pf_xml_number(element, "size", &size);
	port_name(row, wanted);
	int status = strcmp(name, row->name) ? wrong(c, arg, "name", name, row->name) : 0;
	if (status == 0)
		status = wrong_number(c, arg, "position", id, arg);
	if (status == 0)
		status = wrong_number(c, arg, "register", offset, pf_register_offset(c->row, arg));
	if (status == 0)
		status = wrong_number(c, arg, "size", size, scalar ? 4 : 8);
	if (status == 0 && strcasecmp(port, wanted) != 0)
		status = wrong(c, arg, "port", port, wanted);
	return status || scalar ? status : check_width(c, body, arg, port);
}

/* ---- banks ---- */
/* The number in "HBM[3]", "DDR[1]", "bank2"; -1: another memory */
static int bank_number(const char *tag)
{
	const char *digits = strpbrk(tag, "0123456789");
	int known = strncmp(tag, "HBM[", 4) == 0 || strncmp(tag, "DDR[", 4) == 0 || strncmp(tag, "bank", 4) == 0;
	return known && digits ? (int)strtol(digits, NULL, 10) : -1;
}

/* First and last bank of a class; 0: the platform is none of ours, and any bank will do */
static int class_banks(const struct pf_xclbin *xclbin, enum pf_bank class, unsigned *first, unsigned *last)
{
	static const struct { const char *platform; unsigned first[CLASSES], last[CLASSES]; } cards[] = {
#define BANKS_ROW(name, title, platform, memory, banks, mib, sf, sl, wf, wl, mf, ml, array) \
		{ platform, { sf, wf, mf }, { sl, wl, ml } },
		PF_CARDS(BANKS_ROW)
		{ PF_PLATFORM_EMULATED, { 0, 1, 2 }, { 0, 1, 2 } },
	};
	for (size_t i = 0; i < sizeof cards / sizeof *cards; i++)
		if (strcmp(cards[i].platform, xclbin->platform) == 0) {
			*first = cards[i].first[class];
			*last = cards[i].last[class];
			return 1;
		}
	return 0;
}

static int check_link(const struct check *c, unsigned arg, const struct pf_xclbin_link *link)
{
	struct pf_xclbin_memory memory;
	unsigned first, last;
	char banks[32];
	if (link->memory < 0 || !pf_xclbin_memory_at(c->xclbin, (uint32_t)link->memory, &memory))
		return wrong(c, arg, "memory", "not in the image", "there");
	if (!class_banks(c->xclbin, c->row->arg[arg].bank, &first, &last) || strncmp(memory.tag, "HOST[", 5) == 0)
		return 0;
	int number = bank_number(memory.tag);
	snprintf(banks, sizeof banks, "banks %u to %u", first, last);
	return number >= (int)first && number <= (int)last ? 0 : wrong(c, arg, "memory", memory.tag, banks);
}

/* Every compute unit of the kernel reaches a memory of the class with every pointer */
static int check_banks(const struct check *c)
{
	struct pf_xclbin_ip ip;
	struct pf_xclbin_link link;
	char prefix[NAME_BYTES];
	int length = snprintf(prefix, sizeof prefix, "pf_k_%s:", c->row->name), status = 0;
	for (uint32_t u = 0; pf_xclbin_ip_at(c->xclbin, u, &ip) && status == 0; u++)
		for (unsigned i = 0; i < c->row->count && status == 0; i++) {
			unsigned links = 0;
			if (strncmp(ip.name, prefix, (size_t)length) != 0 || c->row->arg[i].dir == PF_DIR_VAL)
				continue;
			for (uint32_t k = 0; pf_xclbin_link_at(c->xclbin, k, &link) && status == 0; k++)
				if (link.ip == (int32_t)u && link.arg == (int32_t)i) {
					links++;
					status = check_link(c, i, &link);
				}
			if (status == 0 && !links)
				status = wrong(c, i, "memory", "none", "one");
		}
	return status;
}

/* ---- kernels ---- */
static int check_kernel(struct check *c, struct pf_xml element, struct pf_xml body)
{
	char name[NAME_BYTES];
	struct pf_xml arg, rest = body;
	unsigned count = 0;
	if (!pf_xml_text(element, "name", name, sizeof name))
		return pf_fail(c->error, PF_E_FORMAT, "%s: kernel.xml: a kernel without a name", c->path);
	int kernel = strncmp(name, "pf_k_", 5) == 0 ? pf_kernel_find(name + 5) : -1;
	if (kernel < 0)
		return 0;                      /* not ours */
	c->row = &pf_kernel_rows[kernel];
	for (; pf_xml_next(&rest, "arg", &arg); count++) {
		int status = count < c->row->count ? check_arg(c, body, arg, count) : 0;
		if (status != 0)
			return status;
	}
	if (count != c->row->count)
		return pf_fail(c->error, PF_E_IMAGE, "%s: kernel %s has %u arguments, the table says %u", c->path,
			       c->row->name, count, c->row->count);
	return check_banks(c);
}

int pf_image_abi(const void *data, size_t bytes, const char *path, struct pf_error *error)
{
	struct pf_xclbin xclbin;
	size_t length;
	int status = pf_xclbin_parse(data, bytes, path, &xclbin, error);
	const char *text = status == 0 ? pf_xclbin_section(&xclbin, PF_XCLBIN_KERNEL_XML, &length) : NULL;
	struct check c = { path, &xclbin, NULL, error };
	if (status == 0 && !text)
		status = pf_fail(error, PF_E_IMAGE, "%s: has no kernel.xml (EMBEDDED_METADATA)", path);
	if (status != 0)
		return status;
	struct pf_xml rest = { text, text + length }, kernel;
	while (status == 0 && pf_xml_next(&rest, "kernel", &kernel))
		status = check_kernel(&c, kernel, pf_xml_inside(rest, "kernel"));
	if (status == 0 && !c.row)
		status = pf_fail(error, PF_E_IMAGE, "%s: has no kernel of this program", path);
	return status;
}

int pf_image_check_abi(const char *path, struct pf_error *error)
{
	void *data;
	size_t bytes;
	int status = pf_image_read(path, &data, &bytes, error);
	if (status == 0)
		status = pf_image_abi(data, bytes, path, error);
	free(data);
	return status;
}

/* ---- packing ---- */
static int write_synced(const char *path, const void *data, size_t bytes)
{
	FILE *out = fopen(path, "wb");
	if (!out)
		return -errno;
	int code = fwrite(data, 1, bytes, out) == bytes && fflush(out) == 0 && fsync(fileno(out)) == 0 ? 0 : -errno;
	return fclose(out) != 0 && code == 0 ? -errno : code;
}

/* A new name in a folder outlives a loss of power once the folder is on disk; not every file system can tell */
static int sync_folder(const char *path)
{
	const char *slash = strrchr(path, '/');
	char *folder = slash ? strndup(path, (size_t)(slash - path) + 1) : strdup(".");
	const int file = folder ? open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
	int code = file >= 0 && fsync(file) != 0 && errno != EINVAL ? -errno : 0;
	if (file >= 0)
		close(file);
	free(folder);
	return code;
}

/* Beside the file and then over it: what was there, perhaps the image that was read, outlives a full disk */
static int write_whole(const char *path, const void *data, size_t bytes, struct pf_error *error)
{
	const size_t length = strlen(path) + sizeof ".partial";
	char *partial = malloc(length);
	if (!partial)
		return pf_fail(error, -ENOMEM, "no memory for a path");
	snprintf(partial, length, "%s.partial", path);
	int code = write_synced(partial, data, bytes);
	if (code == 0 && rename(partial, path) != 0)
		code = -errno;
	if (code != 0)
		unlink(partial);
	free(partial);
	if (code != 0)
		return pf_fail(error, code, "%s: cannot write: %s; the old file stays", path, strerror(-code));
	code = sync_folder(path);
	return code == 0 ? 0 : pf_fail(error, code, "%s: written, but its folder is not safely on disk: %s", path,
	                               strerror(-code));
}

int pf_image_pack(const char *in, const char *manifest, const char *out, struct pf_error *error)
{
	void *image = NULL, *text = NULL, *packed = NULL;
	size_t image_bytes, text_bytes, packed_bytes;
	struct pf_xclbin xclbin;
	struct pf_image *check = NULL;
	int status = pf_image_read(in, &image, &image_bytes, error);
	if (status == 0)
		status = pf_image_read(manifest, &text, &text_bytes, error);
	if (status == 0)
		status = pf_xclbin_parse(image, image_bytes, in, &xclbin, error);
	if (status == 0 &&
	    (status = pf_xclbin_add(&xclbin, PF_XCLBIN_MANIFEST, text, text_bytes, &packed, &packed_bytes, error)) != 0)
		pf_fail_in(error, "%s", in);
	if (status == 0)                               /* what we write, we can read */
		status = pf_image_parse(packed, packed_bytes, out, &check, error);
	if (status == 0)
		status = write_whole(out, packed, packed_bytes, error);
	pf_image_close(check);
	free(packed);
	free(text);
	free(image);
	return status;
}
