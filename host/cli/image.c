/* Verb image: what an FPGA image contains, whether it fits this program, and the manifest that it needs. */
#include <inttypes.h>
#include <jansson.h>
#include <string.h>
#include "cli.h"
#include "prefpga/image.h"

static int print_json(const struct pf_image *image)
{
	const struct pf_image_facts *f = pf_image_facts(image);
	const struct pf_image_kernel *k;
	json_t *kernels = json_array();
	char hash[17], wanted[17];
	for (unsigned i = 0; (k = pf_image_kernel(image, i)); i++) {
		snprintf(hash, sizeof hash, "%016" PRIx64, k->hash);
		snprintf(wanted, sizeof wanted, "%016" PRIx64, k->wanted);
		json_array_append_new(kernels, json_pack("{ss si ss ss sb}", "name", k->name, "cus", (int)k->cus,
		                                         "hash", hash, "wanted", wanted, "matches", k->matches));
	}
	json_t *all = json_pack("{ss ss ss ss sb si sI so}", "file", f->path, "platform", f->platform, "prefpga",
	                        f->version, "uuid", f->uuid, "emulated", f->emulated, "numerics", (int)f->numerics,
	                        "memory_bytes", (json_int_t)f->memory_bytes, "kernels", kernels);
	int failed = !all || json_dumpf(all, stdout, JSON_INDENT(2)) != 0 || putchar('\n') == EOF;
	json_decref(all);
	return failed ? PF_EXIT_FAILED : PF_EXIT_OK;
}

static int inspect(const struct pf_options *o, const char *path)
{
	struct pf_image *image;
	struct pf_error error = { 0 };
	const struct pf_image_kernel *k;
	int code = PF_EXIT_OK;
	if (pf_image_open(path, &image, &error) != 0)
		return pf_cli_fail(o, &error);
	const struct pf_image_facts *f = pf_image_facts(image);
	if (strcmp(o->format, "json") == 0)
		code = print_json(image);
	else
		printf("%s\n  platform %s%s\n  prefpga %s, numerics %" PRIu32 ", uuid %s, %" PRIu64 " MiB of memory\n",
		       f->path, f->platform, f->emulated ? " (emulation)" : "", f->version, f->numerics, f->uuid,
		       f->memory_bytes >> 20);
	for (unsigned i = 0; strcmp(o->format, "json") != 0 && (k = pf_image_kernel(image, i)); i++)
		printf("  %-16s %2" PRIu32 " CU  ABI %016" PRIx64 "%s\n", k->name, k->cus, k->hash,
		       k->matches ? "" : k->kernel < 0 ? "  unknown to this program" : "  not this program's");
	pf_image_close(image);
	return code;
}

/* The manifest's hashes, then what the tool has built */
static int check(const struct pf_options *o, const char *path)
{
	struct pf_image *image;
	struct pf_error error = { 0 };
	const struct pf_image_kernel *k;
	int status = pf_image_open(path, &image, &error);
	if (status != 0)
		return pf_cli_fail(o, &error);
	for (unsigned i = 0; (k = pf_image_kernel(image, i)) && status == 0; i++)
		if (k->kernel >= 0 && k->cus)
			status = pf_image_check(image, k->kernel, &error);
	pf_image_close(image);
	if (status == 0)
		status = pf_image_check_abi(path, &error);
	if (status != 0)
		return pf_cli_fail(o, &error);
	printf("%s: hashes, registers, ports and banks are those of this program\n", path);
	return PF_EXIT_OK;
}

static int pack(const struct pf_options *o, const char *path)
{
	struct pf_error error = { 0 };
	if (!o->image_manifest || !o->image_out)
		return pf_cli_usage(o, "pack needs --manifest FILE (prefpga-emit manifest) and --out FILE");
	return pf_image_pack(path, o->image_manifest, o->image_out, &error) ? pf_cli_fail(o, &error) : PF_EXIT_OK;
}

int pf_verb_image(const struct pf_options *options)
{
	const char *what = options->argument[0], *path = options->argument[1];
	if (strcmp(what, "inspect") == 0)
		return inspect(options, path);
	if (strcmp(what, "check") == 0)
		return check(options, path);
	if (strcmp(what, "pack") == 0)
		return pack(options, path);
	return pf_cli_usage(options, "image %s: write pack, inspect or check", what);
}
