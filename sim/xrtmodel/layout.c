#define _GNU_SOURCE                    /* memmem */
#include "layout.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "prefpga/internal/registers.h"
#include "prefpga/internal/xml.h"

static int check_args(struct pf_xml body, const struct pf_kernel_row *row, struct pf_error *error)
{
	struct pf_xml arg;
	unsigned count = 0;
	for (; pf_xml_next(&body, "arg", &arg); count++) {
		uint64_t id, offset, size;
		if (!pf_xml_number(arg, "id", &id) || !pf_xml_number(arg, "offset", &offset)
		    || !pf_xml_number(arg, "size", &size))
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

static int add_units(struct pf_xml body, enum pf_kernel kernel, int chain,
                     struct pf_emu_layout *layout, struct pf_error *error)
{
	const char *name = pf_kernel_rows[kernel].name;
	struct pf_xml instance, remap;
	while (pf_xml_next(&body, "instance", &instance)) {
		struct pf_emu_unit unit = { .kernel = kernel, .chain = chain };
		struct pf_xml below = pf_xml_inside(body, "instance");
		if (layout->count == PF_EMU_CUS_MAX)
			return pf_fail(error, PF_E_RANGE, "kernel.xml: more than %u compute units",
			               PF_EMU_CUS_MAX);
		if (!pf_xml_text(instance, "name", unit.name, sizeof unit.name)
		    || !pf_xml_next(&below, "addrRemap", &remap)
		    || !pf_xml_number(remap, "base", &unit.base)
		    || unit.base > UINT64_MAX - PF_REGISTER_WINDOW)
			return pf_fail(error, PF_E_FORMAT, "kernel.xml: %s: instance without name or base",
			               name);
		layout->unit[layout->count++] = unit;
	}
	return 0;
}

static int add_kernel(struct pf_xml element, struct pf_xml body, struct pf_emu_layout *layout,
                      struct pf_error *error)
{
	char name[64], control[32] = "";
	if (!pf_xml_text(element, "name", name, sizeof name))
		return pf_fail(error, PF_E_FORMAT, "kernel.xml: a kernel without a name");
	int kernel = strncmp(name, "pf_k_", 5) == 0 ? pf_kernel_find(name + 5) : -1;
	if (kernel < 0 || !pf_kernel_rows[kernel].built)
		return pf_fail(error, PF_E_IMAGE, "kernel.xml: this program has no kernel %s", name);
	pf_xml_text(element, "hwControlProtocol", control, sizeof control);
	int status = check_args(body, &pf_kernel_rows[kernel], error);
	if (status != 0)
		return status;
	return add_units(body, (enum pf_kernel)kernel, strcmp(control, "ap_ctrl_hs") != 0, layout,
	                 error);
}

int pf_emu_layout_parse(const char *xml, size_t length, struct pf_emu_layout *layout,
                          struct pf_error *error)
{
	struct pf_xml rest = { xml, xml + length }, kernel;
	layout->count = 0;
	while (pf_xml_next(&rest, "kernel", &kernel)) {
		int status = add_kernel(kernel, pf_xml_inside(rest, "kernel"), layout, error);
		if (status != 0)
			return status;
	}
	return 0;
}
