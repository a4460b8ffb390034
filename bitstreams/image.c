#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "image.h"
#include "prefpga/internal/registers.h"

/* The tables of an image, all on the heap */
struct tables {
	struct pf_xclbin_memory memory[PF_EMULATED_BANKS];
	struct pf_xclbin_ip    *ip;
	struct pf_xclbin_link  *link;
	uint32_t                ips, links;
};

static void add_cu(struct tables *tables, const struct pf_layout *layout, int k, uint32_t number)
{
	const struct pf_kernel_row *row = &pf_kernel_rows[k];
	struct pf_xclbin_ip *ip = &tables->ip[tables->ips];
	*ip = (struct pf_xclbin_ip) {
		.type = PF_XCLBIN_IP_KERNEL, .control = layout->control,
		.base = PF_EMULATED_BASE + tables->ips * PF_EMULATED_STEP,
	};
	snprintf(ip->name, sizeof ip->name, "pf_k_%s:pf_k_%s_%u", row->name, row->name, number);
	for (unsigned i = 0; i < row->count; i++)
		if (row->arg[i].dir != PF_DIR_VAL)
			tables->link[tables->links++] = (struct pf_xclbin_link) {
				(int32_t)i, (int32_t)tables->ips, (int32_t)row->arg[i].bank,
			};
	tables->ips++;
}

static int make_tables(struct tables *tables, const struct pf_layout *layout)
{
	uint32_t cus = pf_layout_cus(layout);
	memset(tables, 0, sizeof *tables);
	tables->ip = calloc(cus + 1, sizeof *tables->ip);
	tables->link = calloc((size_t)cus * PF_ARGS_MAX + 1, sizeof *tables->link);
	if (!tables->ip || !tables->link)
		return -ENOMEM;
	for (unsigned i = 0; i < PF_EMULATED_BANKS; i++) {
		tables->memory[i] = (struct pf_xclbin_memory) {
			.type = PF_XCLBIN_DDR4, .used = 1, .bytes = PF_EMULATED_BANK_BYTES,
			.base = i * PF_EMULATED_BANK_BYTES,
		};
		if (layout->host_memory && i == PF_BANK_SMALL)
			snprintf(tables->memory[i].tag, sizeof tables->memory[i].tag, "HOST[0]");
		else
			snprintf(tables->memory[i].tag, sizeof tables->memory[i].tag, "bank%u", i);
	}
	for (int k = 0; k < PF_KERNEL_COUNT; k++)
		for (uint32_t i = 0; i < layout->cus[k]; i++)
			add_cu(tables, layout, k, i + 1);
	return 0;
}

/* Runs a writer into memory */
static char *written(int (*describe)(FILE *, const struct pf_layout *),
                     const struct pf_layout *layout, size_t *bytes)
{
	char *text = NULL;
	FILE *out = open_memstream(&text, bytes);
	if (!out)
		return NULL;
	int status = describe(out, layout);
	if (fclose(out) == 0 && status == 0)
		return text;
	free(text);
	return NULL;
}

static void *read_whole(const char *path, size_t *bytes, struct pf_error *error)
{
	char *data = NULL;
	size_t used = 0;
	FILE *in = fopen(path, "rb"), *out = open_memstream(&data, bytes);
	char block[65536];
	while (in && out && (used = fread(block, 1, sizeof block, in)) > 0)
		fwrite(block, 1, used, out);
	int failed = !in || !out || ferror(in);
	if (failed)
		pf_fail(error, errno ? -errno : PF_E_DATA, "%s: %s", path, strerror(errno));
	if (in)
		fclose(in);
	if (out && fclose(out) != 0)
		failed = 1;
	if (!failed)
		return data;
	free(data);
	return NULL;
}

int pf_image_emulated(const struct pf_layout *layout, const char *library, void **data,
                      size_t *bytes, struct pf_error *error)
{
	struct tables tables;
	struct pf_xclbin_plan plan = { .mode = PF_XCLBIN_SW_EMU, .platform = PF_PLATFORM_EMULATED };
	char *code = read_whole(library, &plan.bitstream_bytes, error);
	if (!code)
		return error ? error->code : PF_E_DATA;
	char *xml = written(pf_describe_xml, layout, &plan.kernel_xml_bytes);
	char *manifest = written(pf_describe_manifest, layout, &plan.manifest_bytes);
	int status = make_tables(&tables, layout);
	if (status != 0 || !xml || !manifest)
		status = pf_fail(error, -ENOMEM, "out of memory while describing the image");
	plan.bitstream = code;
	plan.kernel_xml = xml;
	plan.manifest = manifest;
	plan.memory = tables.memory;
	plan.memories = PF_EMULATED_BANKS;
	plan.ip = tables.ip;
	plan.ips = tables.ips;
	plan.link = tables.link;
	plan.links = tables.links;
	if (status == 0)
		status = pf_xclbin_build(&plan, data, bytes, error);
	free(code);
	free(xml);
	free(manifest);
	free(tables.ip);
	free(tables.link);
	return status;
}
