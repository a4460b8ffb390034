/* Discovery. libpci is GPL-2 or later and appears in this file only; -DPREFPGA_PCI=OFF builds
 * without it (discover_absent.c). */
#define _GNU_SOURCE                            /* memfd_create */
#include "prefpga/discover.h"
#include <errno.h>
#include <pci/pci.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include "card_sysfs.h"
#include "pci_dump.h"
#include "prefpga/internal/cards.def"

enum { PATH_BYTES = 4096 };

struct id { const char *card; uint16_t vendor, device; const char *role; };
#define PF_ID_ROW(card, vendor, device, role) { #card, vendor, device, #role },
static const struct id ids[] = { PF_CARD_IDS(PF_ID_ROW) };
enum { IDS = sizeof ids / sizeof *ids };

struct list { struct pf_card_function *at; size_t count, size; };

/* libpci reports errors by a function that must not return and gets no context */
static _Thread_local struct { jmp_buf back; char text[256]; } trouble;

static void on_error(char *message, ...) __attribute__((noreturn));
static void on_error(char *message, ...)
{
	va_list list;
	va_start(list, message);
	vsnprintf(trouble.text, sizeof trouble.text, message, list);
	va_end(list);
	longjmp(trouble.back, 1);
}

static void on_note(char *message, ...)
{
	(void)message;
}

static const struct id *find_id(uint16_t vendor, uint16_t device)
{
	for (size_t i = 0; i < IDS; i++)
		if (ids[i].vendor == vendor && ids[i].device == device)
			return &ids[i];
	return NULL;
}

/* ---- the bus ---- */
static int add(struct list *list, const struct pci_dev *device, const struct id *id)
{
	if (list->count == list->size) {
		size_t size = list->size ? list->size * 2 : 8;
		struct pf_card_function *at = realloc(list->at, size * sizeof *at);
		if (!at)
			return -ENOMEM;
		list->at = at;
		list->size = size;
	}
	struct pf_card_function *function = &list->at[list->count++];
	memset(function, 0, sizeof *function);
	snprintf(function->bdf, sizeof function->bdf, "%04x:%02x:%02x.%u",
	         (unsigned)device->domain & 0xffff, device->bus, device->dev, device->func & 7u);
	function->vendor = id->vendor;
	function->device = id->device;
	function->card = id->card;
	function->role = id->role;
	function->alive = function->numa_node = function->iommu_group = function->accessible = -1;
	function->firewall = function->celsius = function->microwatts = -1;
	return 0;
}

static int by_place(const void *a, const void *b)
{
	return strcmp(((const struct pf_card_function *)a)->bdf,
	              ((const struct pf_card_function *)b)->bdf);
}

/* The ids of a function. A card off the bus answers with ones; the kernel still knows its ids */
static const struct id *identify(struct pci_dev *device, const char *root)
{
	char bdf[16];
	pci_fill_info(device, PCI_FILL_IDENT);
	const struct id *id = find_id(device->vendor_id, device->device_id);
	if (id || device->vendor_id != 0xffff || !root)
		return id;
	snprintf(bdf, sizeof bdf, "%04x:%02x:%02x.%u", (unsigned)device->domain & 0xffff, device->bus, device->dev,
	         device->func & 7u);
	return find_id((uint16_t)pf_card_sysfs_number(root, bdf, "vendor", 0),
	               (uint16_t)pf_card_sysfs_number(root, bdf, "device", 0));
}

/* Everything that may call on_error; setjmp stands in the caller */
static int scan(struct pci_access *access, const char *root, struct list *list)
{
	pci_init(access);
	pci_scan_bus(access);
	for (struct pci_dev *device = access->devices; device; device = device->next) {
		const struct id *id = identify(device, root);
		if (!id)
			continue;
		if (add(list, device, id) != 0)
			return -ENOMEM;
		if (access->method == PCI_ACCESS_DUMP)
			list->at[list->count - 1].alive = pci_read_long(device, 0) != 0xffffffff;
	}
	return 0;
}

/* A path for libpci: of the checked copy of a dump, or of the bus in sysfs */
static int open_source(const struct pf_discover_options *options, const char *root,
                       struct pci_access *access, FILE **copy, struct pf_error *error)
{
	char path[PATH_BYTES];
	if (!options->pci_dump) {
		snprintf(path, sizeof path, "%s/sys/bus/pci", root);
		access->method = PCI_ACCESS_SYS_BUS_PCI;
		return pci_set_param(access, "sysfs.path", path) ? PF_E_ARGUMENT : 0;
	}
	FILE *in = fopen(options->pci_dump, "r");
	if (!in)
		return pf_fail(error, -errno, "%s: %s", options->pci_dump, strerror(errno));
	int file = memfd_create("prefpga-pci-dump", MFD_CLOEXEC);
	*copy = file < 0 ? NULL : fdopen(file, "w+");
	int status = *copy ? pf_pci_dump_copy(in, *copy, options->pci_dump, error)
	                   : pf_fail(error, -errno, "no memory for %s", options->pci_dump);
	fclose(in);
	snprintf(path, sizeof path, "/proc/self/fd/%d", file);
	access->method = PCI_ACCESS_DUMP;
	if (status == 0 && pci_set_param(access, "dump.name", path))
		status = pf_fail(error, PF_E_ARGUMENT, "%s: libpci cannot read dumps", options->pci_dump);
	return status;
}

/* A recorded machine that is not there would look like one without driver and XRT */
static int check_root(const char *root, struct pf_error *error)
{
	struct stat st;
	if (!root[0])
		return 0;
	if (stat(root, &st) != 0)
		return pf_fail(error, -errno, "folder %s, which is to stand for /: %s", root, strerror(errno));
	return S_ISDIR(st.st_mode) ? 0 : pf_fail(error, -ENOTDIR, "%s is to stand for /, but is no folder", root);
}

static int discover(const struct pf_discover_options *options, const char *root,
                    struct pci_access *access, struct list *list, struct pf_error *error)
{
	FILE *copy = NULL;
	int status = open_source(options, root, access, &copy, error);
	access->error = on_error;
	access->warning = on_note;
	access->debug = on_note;
	if (status == 0 && setjmp(trouble.back) == 0) {
		if (scan(access, options->sysfs_root || !options->pci_dump ? root : NULL, list) != 0)
			status = pf_fail(error, -ENOMEM, "out of memory");
	} else if (status == 0) {
		status = pf_fail(error, PF_E_ABSENT, "cannot read the PCI bus: %s", trouble.text);
	}
	if (copy)
		fclose(copy);
	return status;
}

int pf_discover(const struct pf_discover_options *options, struct pf_card_function **functions,
                size_t *count, struct pf_error *error)
{
	static const struct pf_discover_options nothing;
	struct list list = { NULL, 0, 0 };
	const struct pf_discover_options *wanted = options ? options : &nothing;
	const char *root = wanted->sysfs_root ? wanted->sysfs_root : "";
	int status = check_root(root, error);
	if (status != 0)
		return status;
	struct pci_access *access = pci_alloc();
	status = discover(wanted, root, access, &list, error);
	pci_cleanup(access);
	if (status != 0) {
		free(list.at);
		return status;
	}
	for (size_t i = 0; i < list.count && (wanted->sysfs_root || !wanted->pci_dump); i++)
		pf_card_sysfs_read(root, &list.at[i]);
	if (list.count)
		qsort(list.at, list.count, sizeof *list.at, by_place);
	*functions = list.at;
	*count = list.count;
	return 0;
}
