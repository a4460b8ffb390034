/* prefpga-emit: writes what is generated from kernels.def and cards.def.
 *
 *	prefpga-emit KIND [--cus kernel=N,...] [--control hs|chain] [--card NAME] [--library FILE]
 *	             --out FILE
 *	KIND  xml       kernel.xml, as XRT's emulation reads it
 *	      manifest  manifest.json, as prefpga's driver reads it
 *	      link      link configuration for v++ (--card)
 *	      docs      table of kernels and arguments, markdown
 *	      image     xclbin for XRT's software emulation (--library: the kernels) */
#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include "image.h"

struct request {
	const char      *kind, *card, *library, *out;
	struct pf_layout layout;
};

static int write_image(FILE *out, const struct request *request, struct pf_error *error)
{
	void *data;
	size_t bytes;
	if (!request->library)
		return pf_fail(error, PF_E_ARGUMENT, "image needs --library FILE");
	int status = pf_image_emulated(&request->layout, request->library, &data, &bytes, error);
	if (status != 0)
		return status;
	if (fwrite(data, 1, bytes, out) != bytes)
		status = pf_fail(error, PF_E_DATA, "%s: cannot write", request->out);
	free(data);
	return status;
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
		return pf_describe_link(out, &request->layout, request->card, error);
	if (strcmp(request->kind, "image") == 0)
		return write_image(out, request, error);
	return pf_fail(error, PF_E_UNKNOWN, "unknown kind %s", request->kind);
}

static int parse(int argc, char **argv, struct request *request, struct pf_error *error)
{
	static const struct option options[] = {
		{ "cus", 1, NULL, 'n' }, { "control", 1, NULL, 'p' }, { "card", 1, NULL, 'c' },
		{ "library", 1, NULL, 'l' }, { "out", 1, NULL, 'o' }, { NULL, 0, NULL, 0 },
	};
	pf_layout_default(&request->layout);
	for (int which; (which = getopt_long(argc, argv, "", options, NULL)) != -1;) {
		if (which == 'n' && pf_layout_set(&request->layout, optarg, error) != 0)
			return PF_E_ARGUMENT;
		if (which == 'p')
			request->layout.control = strcmp(optarg, "hs") == 0 ? PF_XCLBIN_CTRL_HS
			                                                    : PF_XCLBIN_CTRL_CHAIN;
		if (which == 'c')
			request->card = optarg;
		if (which == 'l')
			request->library = optarg;
		if (which == 'o')
			request->out = optarg;
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
