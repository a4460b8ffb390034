#define _GNU_SOURCE                    /* memmem */
#include "layout.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "prefpga/internal/registers.h"

struct span { const char *at, *end; };

/* The next element <name ...>, behind which `rest` goes on; `element` is what stands between the
 * name and '>' */
static int next_element(struct span *rest, const char *name, struct span *element)
{
	char open[32];
	size_t length = (size_t)snprintf(open, sizeof open, "<%s ", name);
	const char *at = memmem(rest->at, (size_t)(rest->end - rest->at), open, length);
	if (!at)
		return 0;
	const char *close = memchr(at, '>', (size_t)(rest->end - at));
	if (!close)
		return 0;
	*element = (struct span) { at + length - 1, close };   /* starts with the space */
	rest->at = close + 1;
	return 1;
}

/* Value of attribute `name` as text; 0: there is none, or it does not fit */
static int attribute(struct span element, const char *name, char *value, size_t size)
{
	char key[40];
	size_t length = (size_t)snprintf(key, sizeof key, " %s=\"", name);
	const char *at = memmem(element.at, (size_t)(element.end - element.at), key, length);
	if (!at)
		return 0;
	at += length;
	const char *quote = memchr(at, '"', (size_t)(element.end - at));
	if (!quote || (size_t)(quote - at) >= size)
		return 0;
	memcpy(value, at, (size_t)(quote - at));
	value[quote - at] = '\0';
	return 1;
}

static int number(struct span element, const char *name, uint64_t *value)
{
	char text[32], *end;
	if (!attribute(element, name, text, sizeof text) || !text[0])
		return 0;
	*value = strtoull(text, &end, 0);
	return *end == '\0';
}

/* The part of `rest` up to </name>; without one, all of it */
static struct span inside(struct span rest, const char *name)
{
	char close[32];
	size_t length = (size_t)snprintf(close, sizeof close, "</%s>", name);
	const char *end = memmem(rest.at, (size_t)(rest.end - rest.at), close, length);
	return (struct span) { rest.at, end ? end : rest.end };
}

static int check_args(struct span body, const struct pf_kernel_row *row, struct pf_error *error)
{
	struct span arg;
	unsigned count = 0;
	for (; next_element(&body, "arg", &arg); count++) {
		uint64_t id, offset, size;
		if (!number(arg, "id", &id) || !number(arg, "offset", &offset)
		    || !number(arg, "size", &size))
			return pf_fail(error, PF_E_FORMAT, "kernel.xml: %s: argument %u lacks a number",
			               row->name, count);
		unsigned bytes = count < row->count && row->arg[count].dir == PF_DIR_VAL ? 4 : 8;
		if (count >= row->count || id != count || size != bytes
		    || offset != pf_register_offset(row, count))
			return pf_fail(error, PF_E_IMAGE, "kernel.xml: %s: argument %u is not that of "
			               "this program; build the image again", row->name, count);
	}
	if (count != row->count)
		return pf_fail(error, PF_E_IMAGE, "kernel.xml: %s has %u arguments, this program's %u",
		               row->name, count, row->count);
	return 0;
}

static int add_units(struct span body, enum pf_kernel kernel, int chain,
                     struct pf_emu_layout *layout, struct pf_error *error)
{
	const char *name = pf_kernel_rows[kernel].name;
	struct span instance, remap;
	while (next_element(&body, "instance", &instance)) {
		struct pf_emu_unit unit = { .kernel = kernel, .chain = chain };
		struct span below = inside(body, "instance");
		if (layout->count == PF_EMU_CUS_MAX)
			return pf_fail(error, PF_E_RANGE, "kernel.xml: more than %u compute units",
			               PF_EMU_CUS_MAX);
		if (!attribute(instance, "name", unit.name, sizeof unit.name)
		    || !next_element(&below, "addrRemap", &remap)
		    || !number(remap, "base", &unit.base)
		    || unit.base > UINT64_MAX - PF_REGISTER_WINDOW)
			return pf_fail(error, PF_E_FORMAT, "kernel.xml: %s: instance without name or base",
			               name);
		layout->unit[layout->count++] = unit;
	}
	return 0;
}

static int add_kernel(struct span element, struct span body, struct pf_emu_layout *layout,
                      struct pf_error *error)
{
	char name[64], control[32] = "";
	if (!attribute(element, "name", name, sizeof name))
		return pf_fail(error, PF_E_FORMAT, "kernel.xml: a kernel without a name");
	int kernel = strncmp(name, "pf_k_", 5) == 0 ? pf_kernel_find(name + 5) : -1;
	if (kernel < 0 || !pf_kernel_rows[kernel].built)
		return pf_fail(error, PF_E_IMAGE, "kernel.xml: this program has no kernel %s", name);
	attribute(element, "hwControlProtocol", control, sizeof control);
	int status = check_args(body, &pf_kernel_rows[kernel], error);
	if (status != 0)
		return status;
	return add_units(body, (enum pf_kernel)kernel, strcmp(control, "ap_ctrl_hs") != 0, layout,
	                 error);
}

int pf_emu_layout_parse(const char *xml, size_t length, struct pf_emu_layout *layout,
                          struct pf_error *error)
{
	struct span rest = { xml, xml + length }, kernel;
	layout->count = 0;
	while (next_element(&rest, "kernel", &kernel)) {
		int status = add_kernel(kernel, inside(rest, "kernel"), layout, error);
		if (status != 0)
			return status;
	}
	return 0;
}
