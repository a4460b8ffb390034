#include <inttypes.h>
#include <jansson.h>
#include <string.h>
#include "describe.h"
#include "prefpga/internal/registers.h"

static const char *const directions[] = { "in", "out", "inout", "val" };
static const char *const banks[] = { "stream", "weight", "small" };

/* "M_AXI_GMEM0": a bundle as XRT's metadata spells it */
static void write_upper(FILE *out, const char *text)
{
	for (; *text; text++)
		fputc(*text >= 'a' && *text <= 'z' ? *text - 'a' + 'A' : *text, out);
}

/* ---- kernel.xml ---- */
static void xml_ports(FILE *out, const struct pf_kernel_row *row)
{
	for (unsigned i = 0; i < row->count; i++) {
		if (row->arg[i].dir == PF_DIR_VAL || !pf_first_of_bundle(row, i))
			continue;
		fputs("          <port name=\"M_AXI_", out);
		write_upper(out, row->arg[i].bundle);
		fprintf(out, "\" mode=\"master\" range=\"0xFFFFFFFFFFFFFFFF\" dataWidth=\"%u\" "
		        "portType=\"addressable\" base=\"0x0\"/>\n", PF_BEAT_BYTES * 8);
	}
	fprintf(out, "          <port name=\"S_AXI_CONTROL\" mode=\"slave\" range=\"0x%x\" "
	        "dataWidth=\"32\" portType=\"addressable\" base=\"0x0\"/>\n", PF_REGISTER_WINDOW);
}

static void xml_args(FILE *out, const struct pf_kernel_row *row)
{
	for (unsigned i = 0; i < row->count; i++) {
		const struct pf_arg_row *arg = &row->arg[i];
		int scalar = arg->dir == PF_DIR_VAL;
		unsigned bytes = scalar ? 4 : 8;
		fprintf(out, "          <arg name=\"%s\" addressQualifier=\"%d\" id=\"%u\" port=\"%s",
		        arg->name, !scalar, i, scalar ? "S_AXI_" : "M_AXI_");
		write_upper(out, arg->bundle);
		fprintf(out, "\" size=\"0x%x\" offset=\"0x%X\" hostOffset=\"0x0\" hostSize=\"0x%x\" "
		        "type=\"%s%s\"/>\n", bytes, pf_register_offset(row, i), bytes,
		        scalar && !arg->is_float ? "uint" : arg->ctype, scalar ? "" : "*");
	}
}

static void xml_instances(FILE *out, const struct pf_kernel_row *row, uint32_t cus, uint32_t first)
{
	for (uint32_t i = 0; i < cus; i++)
		fprintf(out, "          <instance name=\"pf_k_%s_%u\">\n"
		        "            <addrRemap base=\"0x%x\" range=\"0x%x\" port=\"S_AXI_CONTROL\"/>\n"
		        "          </instance>\n", row->name, i + 1,
		        PF_EMULATED_BASE + (first + i) * PF_EMULATED_STEP, PF_EMULATED_STEP);
}

static void xml_kernel(FILE *out, const struct pf_layout *layout, int k, uint32_t first)
{
	const struct pf_kernel_row *row = &pf_kernel_rows[k];
	fprintf(out, "        <kernel name=\"pf_k_%s\" language=\"c\" type=\"pl\" "
	        "vlnv=\"prefpga:hls:pf_k_%s:1.0\" attributes=\"\" "
	        "preferredWorkGroupSizeMultiple=\"0\" workGroupSize=\"1\" interrupt=\"true\" "
	        "hwControlProtocol=\"ap_ctrl_%s\">\n", row->name, row->name,
	        layout->control == PF_XCLBIN_CTRL_CHAIN ? "chain" : "hs");
	fputs("          <compileWorkGroupSize x=\"1\" y=\"1\" z=\"1\"/>\n"
	      "          <maxWorkGroupSize x=\"1\" y=\"1\" z=\"1\"/>\n", out);
	xml_ports(out, row);
	xml_args(out, row);
	xml_instances(out, row, layout->cus[k], first);
	fputs("        </kernel>\n", out);
}

int pf_describe_xml(FILE *out, const struct pf_layout *layout)
{
	fprintf(out, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
	        "<project name=\"prefpga\">\n"
	        "  <platform vendor=\"prefpga\" boardid=\"generic\" name=\"swemu\" "
	        "featureRomTime=\"0\">\n"
	        "    <version major=\"1\" minor=\"0\"/>\n"
	        "    <device name=\"fpga0\" fpgaDevice=\"virtual:sw:emu:1:0\" addrWidth=\"0\">\n"
	        "      <core name=\"OCL_REGION_0\" target=\"csim\" type=\"clc_region\" "
	        "clockFreq=\"0MHz\" numComputeUnits=\"%u\">\n"
	        "        <kernelClocks>\n"
	        "          <clock port=\"KERNEL_CLK\" frequency=\"300.0MHz\"/>\n"
	        "        </kernelClocks>\n", pf_layout_cus(layout));
	uint32_t first = 0;
	for (int k = 0; k < PF_KERNEL_COUNT; first += layout->cus[k++])
		if (layout->cus[k])
			xml_kernel(out, layout, k, first);
	fputs("      </core>\n    </device>\n  </platform>\n</project>\n", out);
	return ferror(out) ? PF_E_DATA : 0;
}

/* ---- manifest ---- */
static json_t *manifest_args(const struct pf_kernel_row *row)
{
	json_t *list = json_array();
	for (unsigned i = 0; i < row->count; i++) {
		const struct pf_arg_row *arg = &row->arg[i];
		json_array_append_new(list, json_pack("{ss ss ss ss ss si}", "name", arg->name,
			"direction", directions[arg->dir], "type", arg->ctype, "bundle", arg->bundle,
			"bank", banks[arg->bank], "register", (int)pf_register_offset(row, i)));
	}
	return list;
}

static json_t *manifest_kernel(int k, uint32_t cus)
{
	char hash[17];
	snprintf(hash, sizeof hash, "%016" PRIx64, pf_kernel_hash((enum pf_kernel)k));
	return json_pack("{ss ss ss si so}", "name", pf_kernel_rows[k].name, "hash", hash,
	                 "signature", pf_kernel_rows[k].signature, "cus", (int)cus,
	                 "arguments", manifest_args(&pf_kernel_rows[k]));
}

int pf_describe_manifest(FILE *out, const struct pf_layout *layout)
{
	json_t *kernels = json_array();
	for (int k = 0; k < PF_KERNEL_COUNT; k++)
		if (layout->cus[k])
			json_array_append_new(kernels, manifest_kernel(k, layout->cus[k]));
	json_t *manifest = json_pack("{ss si so}", "prefpga", PREFPGA_VERSION, "numerics", PF_NUMERICS,
	                             "kernels", kernels);
	int status = manifest ? json_dumpf(manifest, out, JSON_INDENT(2)) : -1;
	json_decref(manifest);
	return status != 0 || fputc('\n', out) == EOF ? PF_E_DATA : 0;
}

/* ---- docs ---- */
static void docs_kernel(FILE *out, const struct pf_kernel_row *row, int k)
{
	fprintf(out, "\n## %s\n\n%s.%s `hls/%s.c`, hash `%016" PRIx64 "`.\n\n"
	        "| # | argument | direction | type | elements | bundle | banks | register |\n"
	        "|--:|---|---|---|---|---|---|--:|\n", row->name, row->brief,
	        row->built ? "" : " Reserved.", row->file, pf_kernel_hash((enum pf_kernel)k));
	for (unsigned i = 0; i < row->count; i++) {
		const struct pf_arg_row *arg = &row->arg[i];
		fprintf(out, "| %u | `%s` | %s | `%s` | `%s` | %s | %s | 0x%x |\n", i, arg->name,
		        directions[arg->dir], arg->ctype, arg->count, arg->bundle,
		        arg->dir == PF_DIR_VAL ? "" : banks[arg->bank], pf_register_offset(row, i));
	}
}

int pf_describe_docs(FILE *out)
{
	fputs("# Kernels and their arguments\n\nMade from `include/prefpga/internal/kernels.def` by "
	      "`prefpga-emit docs`; a test compares. Structs: `abi.h`.\nRegisters: AXI-Lite offsets as "
	      "Vitis HLS lays them out; launches go by index.\n", out);
	for (int k = 0; k < PF_KERNEL_COUNT; k++)
		docs_kernel(out, &pf_kernel_rows[k], k);
	return ferror(out) ? PF_E_DATA : 0;
}
