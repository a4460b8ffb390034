/* prefpga-emit: writes what is generated from kernels.def, cards.def and vitis.def.
 *
 *	prefpga-emit KIND [--cus kernel=N,...] [--control hs|chain] [--card NAME] [--image NAME] [--library FILE]
 *	             [--host-memory] [--vitis RELEASE] [--target csim|csynth|cosim|hw_emu|hw] [--kernel NAME]
 *	             [--source DIR] [--benches DIR] [--program FILE] --out FILE
 *	--host-memory: class SMALL lies in memory of the host that the card reaches (HOST[0], the slave bridge)
 *	--image: which of a card's images (vitis.def); --cus changes how many units its kernels have
 *	KIND  xml       kernel.xml, as XRT's emulation reads it
 *	      manifest  manifest.json, as prefpga's driver reads it
 *	      link      link configuration of an image for v++ (--card)
 *	      hls       configuration of one kernel for v++ or vitis_hls (--card --vitis --target --kernel --source)
 *	      commands  shell script from sources to the target (--card --vitis --target --source --program)
 *	      budget    images of a card, their ports against their limits (--card), markdown
 *	      quality   what the kernels make of a card, by their sources (--card: markdown; else CSV of all cards)
 *	      docs      table of kernels and arguments, markdown
 *	      image     xclbin for XRT's software emulation (--library: the kernels); with --card, of an image's */
#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include "image.h"
#include "quality.h"
#include "vitis.h"

struct request {
	const char      *kind, *library, *kernel, *out;
	struct pf_vitis  vitis;
	struct pf_layout layout;
	const char      *chosen;       /* --cus */
};

/* What a card's image holds: what --image is made of, as --cus changes it, or an error */
static int fit(struct pf_layout *layout, const struct request *request, struct pf_error *error)
{
	struct pf_ports ports;
	int status = pf_layout_image(layout, request->vitis.card, request->vitis.image, error);
	if (status || !request->chosen)
		return status;
	status = pf_units_set(layout->cus, request->chosen, error);
	if (status == 0)
		status = pf_ports_count(layout->cus, request->vitis.card, &ports, error);
	if (status == 0 && !pf_ports_fit(&ports))
		status = pf_fail(error, PF_E_RANGE,
				 "--cus: %u + %u + %u ports of classes STREAM, WEIGHT, SMALL do not fit the %s "
				 "of %s, which takes %u; see prefpga-emit budget",
				 ports.used[0], ports.used[1], ports.used[2], ports.memory, request->vitis.card,
				 ports.limit);
	return status;
}

static int write_image(FILE *out, const struct request *request, struct pf_error *error)
{
	void *data;
	size_t bytes;
	struct pf_layout layout = request->layout;
	if (!request->library)
		return pf_fail(error, PF_E_ARGUMENT, "image needs --library FILE");
	int status = request->vitis.card ? fit(&layout, request, error) : 0;
	if (status == 0)
		status = pf_image_emulated(&layout, request->library, &data, &bytes, error);
	if (status != 0)
		return status;
	if (fwrite(data, 1, bytes, out) != bytes)
		status = pf_fail(error, PF_E_DATA, "%s: cannot write", request->out);
	free(data);
	return status;
}

static int write_link(FILE *out, const struct request *request, struct pf_error *error)
{
	struct pf_layout layout = request->layout;
	int status = fit(&layout, request, error);
	return status ? status : pf_describe_link(out, &layout, request->vitis.card, error);
}

static int write_commands(FILE *out, const struct request *request, struct pf_error *error)
{
	struct pf_layout layout = request->layout;
	int status = pf_vitis_check(&request->vitis, error);
	if (status == 0 && strncmp(request->vitis.target, "hw", 2) == 0)
		status = fit(&layout, request, error);
	return status ? status : pf_vitis_commands(out, &request->vitis, &layout);
}

static int write_budget(FILE *out, const struct request *request, struct pf_error *error)
{
	struct pf_layout layout = request->layout;
	int status = request->chosen ? fit(&layout, request, error) : 0;
	return status ? status : pf_vitis_budget(out, request->chosen ? &layout : NULL, request->vitis.card, error);
}

static int write_hls(FILE *out, const struct request *request, struct pf_error *error)
{
	int kernel = pf_kernel_find(request->kernel), status = pf_vitis_check(&request->vitis, error);
	if (status == 0 && (kernel < 0 || !pf_kernel_rows[kernel].built))
		status = pf_fail(error, PF_E_UNKNOWN, "no built kernel is called %s",
				 request->kernel ? request->kernel : "(--kernel)");
	return status ? status : pf_vitis_kernel(out, &request->vitis, kernel);
}

static int write_kind(FILE *out, const struct request *request, struct pf_error *error)
{
	if (strcmp(request->kind, "xml") == 0)
		return pf_describe_xml(out, &request->layout);
	if (strcmp(request->kind, "manifest") == 0)
		return pf_describe_manifest(out, &request->layout);
	if (strcmp(request->kind, "docs") == 0)
		return pf_describe_docs(out);
	if (strcmp(request->kind, "link") == 0)
		return write_link(out, request, error);
	if (strcmp(request->kind, "hls") == 0)
		return write_hls(out, request, error);
	if (strcmp(request->kind, "commands") == 0)
		return write_commands(out, request, error);
	if (strcmp(request->kind, "budget") == 0)
		return write_budget(out, request, error);
	if (strcmp(request->kind, "quality") == 0)
		return pf_quality(out, request->vitis.card, error);
	if (strcmp(request->kind, "image") == 0)
		return write_image(out, request, error);
	return pf_fail(error, PF_E_UNKNOWN, "unknown kind %s", request->kind);
}

static int parse(int argc, char **argv, struct request *request, struct pf_error *error)
{
	static const struct option options[] = {
	    {"cus", 1, NULL, 'n'},
	    {"control", 1, NULL, 'p'},
	    {"card", 1, NULL, 'c'},
	    {"library", 1, NULL, 'l'},
	    {"out", 1, NULL, 'o'},
	    {"vitis", 1, NULL, 'v'},
	    {"host-memory", 0, NULL, 'H'},
	    {"target", 1, NULL, 't'},
	    {"kernel", 1, NULL, 'k'},
	    {"image", 1, NULL, 'i'},
	    {"source", 1, NULL, 's'},
	    {"benches", 1, NULL, 'b'},
	    {"program", 1, NULL, 'P'},
	    {NULL, 0, NULL, 0},
	};
	struct { int letter; const char **value; } texts[] = {
		{ 'c', &request->vitis.card }, { 'l', &request->library }, { 'o', &request->out },
		{ 'v', &request->vitis.release }, { 't', &request->vitis.target }, { 'k', &request->kernel },
		{ 's', &request->vitis.source }, { 'b', &request->vitis.benches }, { 'P', &request->vitis.program },
		{ 'i', &request->vitis.image },
	};
	request->vitis = (struct pf_vitis){ .source = ".", .benches = ".", .program = "prefpga" };
	pf_layout_default(&request->layout);
	for (int which; (which = getopt_long(argc, argv, "", options, NULL)) != -1;) {
		if (which == 'n' && pf_units_set(request->layout.cus, optarg, error) != 0)
			return PF_E_ARGUMENT;
		if (which == 'n')
			request->chosen = optarg;
		request->layout.host_memory |= which == 'H';
		if (which == 'p')
			request->layout.control = strcmp(optarg, "hs") == 0 ? PF_XCLBIN_CTRL_HS
			                                                    : PF_XCLBIN_CTRL_CHAIN;
		for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
			if (texts[i].letter == which)
				*texts[i].value = optarg;
	}
	request->kind = optind < argc ? argv[optind] : NULL;
	if (!request->kind || !request->out)
		return pf_fail(error, PF_E_ARGUMENT, "usage: prefpga-emit KIND [options] --out FILE");
	return 0;
}

int main(int argc, char **argv)
{
	struct request request = { 0 };
	struct pf_error error = { 0 };
	int status = parse(argc, argv, &request, &error);
	FILE *out = status == 0 ? fopen(request.out, "wb") : NULL;
	if (status == 0 && !out)
		status = pf_fail(&error, PF_E_DATA, "%s: cannot write", request.out);
	if (status == 0)
		status = write_kind(out, &request, &error);
	if (out && fclose(out) != 0 && status == 0)
		status = pf_fail(&error, PF_E_DATA, "%s: cannot write", request.out);
	if (status == 0)
		return 0;
	if (out)
		remove(request.out);
	fprintf(stderr, "prefpga-emit: %s\n", error.text[0] ? error.text : pf_error_text(status));
	return 1;
}
