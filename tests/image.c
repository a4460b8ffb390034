/* Images against the table: what `prefpga image check` notices, what `pack` adds, which of several a card is loaded
 * with. `image XCLBIN FOLDER`: an emulated image of this build, into copies of which faults are planted; and emulated
 * images of what a card's images hold. */
#define _GNU_SOURCE                    /* memmem */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include "driver/card_image.h"
#include "driver/image.h"
#include "driver/xclbin.h"
#include "prefpga/internal/backend.h"
#include "tests/cmocka.h"
#include "tests/scratch.h"

static const char *image_path, *images;
static void *image;
static size_t image_bytes;

static void *copy(void)
{
	void *data = malloc(image_bytes);
	assert_non_null(data);
	memcpy(data, image, image_bytes);
	return data;
}

/* Replaces the first `old` behind `anchor` by `new`, of the same length */
static void spoil(void *data, const char *anchor, const char *old, const char *new)
{
	char *end = (char *)data + image_bytes;
	char *at = memmem(data, image_bytes, anchor, strlen(anchor));
	assert_non_null(at);
	at = memmem(at, (size_t)(end - at), old, strlen(old));
	assert_non_null(at);
	assert_int_equal(strlen(old), strlen(new));
	memcpy(at, new, strlen(new));
}

static void noticed(const char *anchor, const char *old, const char *new, const char *says)
{
	struct pf_error error = { 0 };
	void *data = copy();
	spoil(data, anchor, old, new);
	int status = pf_image_abi(data, image_bytes, "spoiled", &error);
	if (status != PF_E_IMAGE || !strstr(error.text, says))
		fail_msg("%s -> %s: %d \"%s\"", old, new, status, error.text);
	free(data);
}

static void what_the_tool_has_built(void **state)
{
	struct pf_error error = { 0 };
	(void)state;
	if (pf_image_abi(image, image_bytes, image_path, &error) != 0)
		fail_msg("%s", error.text);
#define COEF "<kernel name=\"pf_k_coef\""
	noticed(COEF, "arg name=\"span\"", "arg name=\"spam\"", "argument 1 (span): name is spam");
	noticed(COEF, "id=\"1\"", "id=\"2\"", "position is 0x2, the table says 0x1");
	noticed(COEF, "offset=\"0x1C\"", "offset=\"0x18\"", "register is 0x18, the table says 0x1c");
	noticed(COEF, "port=\"M_AXI_GMEM1\"", "port=\"M_AXI_GMEM2\"",
	        "port is M_AXI_GMEM2, the table says M_AXI_GMEM1");
	noticed(COEF, "size=\"0x8\"", "size=\"0x4\"", "size is 0x4, the table says 0x8");
	noticed(COEF, "dataWidth=\"512\"", "dataWidth=\"8  \"", "does not carry argument item");
	noticed(COEF, "dataWidth=\"512\"", "dataWidth=\"500\"", "does not carry argument item");
	noticed(COEF, "<port name=\"M_AXI_GMEM0\"", "<port name=\"M_AXI_GMEM9\"", "port is missing");
	noticed(COEF, "<arg ", "<arh ", "argument 0 (item): name is span");
	noticed("<kernel name=\"pf_k_coef\"", "<kernel name=\"pf_k_coef\"", "<kernel name=\"pf_k_pref\"",
	        "kernel pref");
}

/* Links are (argument, unit, memory), three numbers of 32 bits: sends the first to another bank, then to none */
static void banks(void **state)
{
	struct pf_error error = { 0 };
	struct pf_xclbin xclbin;
	size_t bytes;
	(void)state;
	assert_int_equal(pf_xclbin_parse(image, image_bytes, "image", &xclbin, &error), 0);
	const char *links = pf_xclbin_section(&xclbin, PF_XCLBIN_LINKS, &bytes);
	assert_non_null(links);
	const size_t memory = (size_t)(links - (const char *)image) + 4 + 8;   /* count, argument, unit */
	static const struct { int32_t memory; const char *says; } wrong[] = {
		{ 2, "memory is bank2, the table says banks 0 to 0" }, { 77, "memory is not in the image" },
		{ -1, "memory is not in the image" },
	};
	for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
		char *data = copy();
		memcpy(data + memory, &wrong[i].memory, sizeof wrong[i].memory);
		assert_int_equal(pf_image_abi(data, image_bytes, "spoiled", &error), PF_E_IMAGE);
		if (!strstr(error.text, wrong[i].says))
			fail_msg("%s", error.text);
		free(data);
	}
	char *data = copy();
	memcpy(data + memory - 8, &(int32_t){ 40 }, sizeof(int32_t));          /* that argument has no link any more */
	assert_int_equal(pf_image_abi(data, image_bytes, "spoiled", &error), PF_E_IMAGE);
	assert_non_null(strstr(error.text, "memory is none"));
	free(data);
}

/* ---- pack ---- */
static void write_file(const char *name, const void *data, size_t bytes)
{
	scratch_bytes(name, data, bytes);
}

/* The image as v++ would leave it: the same sections but for the manifest */
static void make_bare(void **bare, size_t *bytes, void **manifest, size_t *manifest_bytes)
{
	struct pf_xclbin xclbin;
	struct pf_error error = { 0 };
	struct pf_xclbin_memory memory[8];
	struct pf_xclbin_ip ip[32];
	struct pf_xclbin_link link[512];
	struct pf_xclbin_plan plan = {
		.mode = PF_XCLBIN_SW_EMU, .platform = "some_platform", .memory = memory, .ip = ip, .link = link
	};
	assert_int_equal(pf_xclbin_parse(image, image_bytes, "image", &xclbin, &error), 0);
	plan.bitstream = "bits";
	plan.bitstream_bytes = 4;
	plan.kernel_xml = pf_xclbin_section(&xclbin, PF_XCLBIN_KERNEL_XML, &plan.kernel_xml_bytes);
	while (plan.memories < 8 && pf_xclbin_memory_at(&xclbin, plan.memories, &memory[plan.memories]))
		plan.memories++;
	while (plan.ips < 32 && pf_xclbin_ip_at(&xclbin, plan.ips, &ip[plan.ips]))
		plan.ips++;
	while (plan.links < 512 && pf_xclbin_link_at(&xclbin, plan.links, &link[plan.links]))
		plan.links++;
	*manifest = (void *)pf_xclbin_section(&xclbin, PF_XCLBIN_MANIFEST, manifest_bytes);
	assert_int_equal(pf_xclbin_build(&plan, bare, bytes, &error), 0);
}

static void pack_adds_the_manifest(void **state)
{
	void *bare, *manifest, *data;
	size_t bytes, manifest_bytes, had, has;
	struct pf_image *opened;
	struct pf_error error = { 0 };
	struct pf_xclbin before, after;
	char in[512], json[512], out[512];
	(void)state;
	scratch_open("image");
	make_bare(&bare, &bytes, &manifest, &manifest_bytes);
	write_file("bare.xclbin", bare, bytes);
	write_file("manifest.json", manifest, manifest_bytes);
	snprintf(in, sizeof in, "%s", scratch_path("bare.xclbin"));
	snprintf(json, sizeof json, "%s", scratch_path("manifest.json"));
	snprintf(out, sizeof out, "%s", scratch_path("packed.xclbin"));
	assert_int_equal(pf_image_open(in, &opened, &error), PF_E_IMAGE);      /* without it, nobody loads the image */
	assert_non_null(strstr(error.text, "no manifest"));
	if (pf_image_pack(in, json, out, &error) != 0)
		fail_msg("%s", error.text);
	assert_int_equal(pf_image_open(out, &opened, &error), 0);
	assert_int_equal(pf_image_check(opened, PF_KERNEL_coef, &error), 0);
	pf_image_close(opened);
	assert_int_equal(pf_image_check_abi(out, &error), 0);
	/* and everything else is as it was */
	assert_int_equal(pf_image_read(out, &data, &has, &error), 0);
	assert_int_equal(pf_xclbin_parse(bare, bytes, "bare", &before, &error), 0);
	assert_int_equal(pf_xclbin_parse(data, has, "packed", &after, &error), 0);
	assert_int_equal(after.sections, before.sections + 1);
	assert_memory_equal(after.uuid, before.uuid, sizeof after.uuid);
	static const enum pf_xclbin_kind kinds[] = { PF_XCLBIN_BITSTREAM, PF_XCLBIN_KERNEL_XML, PF_XCLBIN_MEMORIES,
	                                             PF_XCLBIN_LINKS, PF_XCLBIN_IPS };
	for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
		const void *a = pf_xclbin_section(&before, kinds[i], &had),
			   *b = pf_xclbin_section(&after, kinds[i], &has);
		assert_int_equal(had, has);
		assert_memory_equal(a, b, had);
	}
	assert_int_equal(pf_image_pack(out, json, in, &error), PF_E_IMAGE);    /* not twice */
	assert_non_null(strstr(error.text, "already"));
	write_file("manifest.json", "{}", 2);
	assert_true(pf_image_pack(scratch_path("bare.xclbin"), json, out, &error) < 0);
	free(data);
	free(bare);
}

/* A file-size limit is met where a full disk would be: in the middle of writing */
static void a_full_disk_leaves_the_image(void **state)
{
	void *bare, *manifest, *data;
	size_t bytes, manifest_bytes, has;
	struct pf_image *opened;
	struct pf_error error = { 0 };
	struct rlimit full;
	char path[512], json[512];
	(void)state;
	scratch_open("image_full");
	make_bare(&bare, &bytes, &manifest, &manifest_bytes);
	snprintf(path, sizeof path, "%s", scratch_bytes("one.xclbin", bare, bytes));
	snprintf(json, sizeof json, "%s", scratch_bytes("manifest.json", manifest, manifest_bytes));
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &full), 0);
	const struct rlimit small = { 1000, full.rlim_max };
	void (*before)(int) = signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
	const int code = pf_image_pack(path, json, path, &error);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &full), 0);
	signal(SIGXFSZ, before);
	assert_int_equal(code, -EFBIG);
	assert_int_equal(pf_image_read(path, &data, &has, &error), 0);
	assert_int_equal(has, bytes);
	assert_memory_equal(data, bare, bytes);
	free(data);
	assert_int_equal(scratch_count(""), 2);        /* no .partial */
	if (pf_image_pack(path, json, path, &error) != 0)
		fail_msg("%s", error.text);
	assert_int_equal(pf_image_open(path, &opened, &error), 0);
	pf_image_close(opened);
	assert_int_equal(scratch_count(""), 2);
	free(bare);
}

static void signed_images_are_left_alone(void **state)
{
	void *bare, *manifest, *data;
	size_t bytes, manifest_bytes, has;
	struct pf_xclbin xclbin;
	struct pf_error error = { 0 };
	(void)state;
	make_bare(&bare, &bytes, &manifest, &manifest_bytes);
	memcpy((char *)bare + 8, &(int32_t){ 256 }, sizeof(int32_t));          /* length of the signature */
	assert_int_equal(pf_xclbin_parse(bare, bytes, "bare", &xclbin, &error), 0);
	assert_int_equal(pf_xclbin_add(&xclbin, PF_XCLBIN_MANIFEST, manifest, manifest_bytes, &data, &has, &error),
	                 PF_E_IMAGE);
	assert_non_null(strstr(error.text, "signed"));
	free(bare);
}

/* What was written over an old file is on disk, and so is the folder that names it */
int __real_fsync(int file);
int __wrap_fsync(int file);
static int synced_file, synced_folder;

int __wrap_fsync(int file)
{
	struct stat st;
	assert_int_equal(fstat(file, &st), 0);
	*(S_ISDIR(st.st_mode) ? &synced_folder : &synced_file) += 1;
	assert_true(synced_file >= synced_folder);     /* in this order */
	return __real_fsync(file);
}

static void pack_outlives_a_loss_of_power(void **state)
{
	void *bare, *manifest;
	size_t bytes, manifest_bytes;
	struct pf_error error = { 0 };
	char path[512], json[512];
	(void)state;
	scratch_open("image_sync");
	make_bare(&bare, &bytes, &manifest, &manifest_bytes);
	snprintf(path, sizeof path, "%s", scratch_bytes("one.xclbin", bare, bytes));
	snprintf(json, sizeof json, "%s", scratch_bytes("manifest.json", manifest, manifest_bytes));
	synced_file = synced_folder = 0;
	assert_int_equal(pf_image_pack(path, json, path, &error), 0);
	assert_int_equal(synced_file, 1);
	assert_int_equal(synced_folder, 1);
	free(bare);
}

/* ---- which of several images ---- */
static const struct pf_xrt_place emulated = { .mode = "sw_emu", .root = "/no/such/folder" };

/* Name of the file that `folder` offers for these kernels; units of them all are there if it is one that has them */
static const char *chosen(const char *folder, const char *kernels, uint32_t *cus)
{
	static char name[64];
	const struct pf_device_options options = { .image = folder, .kernels = pf_kernel_set(kernels) };
	struct pf_image *one;
	struct pf_error error = { 0 };
	memset(cus, 0, PF_KERNEL_COUNT * sizeof *cus);
	if (pf_card_image_open(&emulated, &options, &one, cus, &error) != 0)
		fail_msg("%s: %s", kernels, error.text);
	snprintf(name, sizeof name, "%s", strrchr(pf_image_facts(one)->path, '/') + 1);
	pf_image_close(one);
	return name;
}

static void the_image_of_a_run(void **state)
{
	uint32_t cus[PF_KERNEL_COUNT];
	(void)state;
	assert_string_equal(chosen(images, "", cus), "prefpga.xclbin");
	assert_string_equal(chosen(images, "pref seq_sum", cus), "prefpga.xclbin");
	assert_string_equal(chosen(images, "coef", cus), "prefpga-bf16.xclbin");       /* of two that have it */
	assert_string_equal(chosen(images, "seq_sum pref linear_logprob linear_grad", cus), "prefpga.xclbin");
	assert_true(cus[PF_KERNEL_linear_grad] == 1 && cus[PF_KERNEL_logprob] == 0);
	assert_string_equal(chosen(images, "seq_sum pref coef logprob logit_grad", cus), "prefpga-logits.xclbin");
	assert_true(cus[PF_KERNEL_linear_grad] == 0 && cus[PF_KERNEL_logprob] == 1 && cus[PF_KERNEL_pref] == 1);
	assert_string_equal(chosen(images, "logprob_bf16 logit_grad_bf16", cus), "prefpga-bf16.xclbin");
	assert_string_equal(chosen(images, "seq_sum linear_logprob_mxint8", cus), "prefpga-mxint8.xclbin");
	assert_true(cus[PF_KERNEL_linear_grad_bf16] == 0);
	assert_string_equal(chosen(images, "seq_sum pref linear_logprob_mxint8 linear_grad_bf16", cus),
	                    "prefpga-mxpolicy.xclbin");
	/* a policy in bf16 and its reference in mxint8: no image has both, the policy's has more */
	assert_string_equal(
		chosen(images, "seq_sum pref linear_logprob_bf16 linear_grad_bf16 linear_logprob_mxint8", cus),
		"prefpga-low.xclbin");
	assert_string_equal(chosen(images, "seq_sum pref linear_logprob linear_grad head_adamw head_norm", cus),
	                    "prefpga-resident.xclbin");
	assert_string_equal(chosen(image_path, "logprob", cus), strrchr(image_path, '/') + 1);
}

static void no_image(const char *folder, int code, const char *says)
{
	const struct pf_device_options options = { .image = folder };
	struct pf_image *one;
	struct pf_error error = { 0 };
	uint32_t cus[PF_KERNEL_COUNT] = { 0 };
	const struct pf_xrt_place nowhere = { .mode = "sw_emu", .root = "/no" };
	assert_int_equal(pf_card_image_open(folder ? &emulated : &nowhere, &options, &one, cus, &error), code);
	assert_null(one);
	if (!strstr(error.text, says))
		fail_msg("\"%s\" does not say \"%s\"", error.text, says);
}

/* Files that are no images of ours, or none for this card, are passed over while another serves */
static void images_that_do_not_serve(void **state)
{
	uint32_t cus[PF_KERNEL_COUNT];
	void *wrong = copy();
	char folder[512];
	(void)state;
	scratch_open("image_choice");
	snprintf(folder, sizeof folder, "%s", scratch_path(""));
	scratch_bytes("other.xclbin", image, image_bytes);
	scratch_bytes("prefpgas.xclbin", image, image_bytes);
	scratch_bytes("prefpga-sw_emu.xclbin", image, image_bytes);
	no_image(folder, PF_E_ABSENT, "no image to load: there is no prefpga.xclbin in");
	no_image(NULL, PF_E_ABSENT, "and none is named");
	scratch_bytes("prefpga.xclbin", "no image", 8);
	no_image(folder, PF_E_FORMAT, "prefpga.xclbin");
	spoil(wrong, "\"numerics\"", "2", "9");
	scratch_bytes("prefpga-wrong.xclbin", wrong, image_bytes);
	no_image(folder, PF_E_IMAGE, "numerics version 9");
	scratch_bytes("prefpga-z.xclbin", image, image_bytes);
	assert_string_equal(chosen(folder, "", cus), "prefpga-z.xclbin");
	assert_string_equal(chosen(folder, "coef", cus), "prefpga-z.xclbin");
	free(wrong);
}

int main(int argc, char **argv)
{
	struct pf_error error = { 0 };
	if (argc < 3 || pf_image_read(argv[1], &image, &image_bytes, &error) != 0) {
		fprintf(stderr, "image: %s\n", error.text);
		return 2;
	}
	image_path = argv[1];
	images = argv[2];
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_the_tool_has_built), cmocka_unit_test(banks),
		cmocka_unit_test(pack_adds_the_manifest), cmocka_unit_test(a_full_disk_leaves_the_image),
		cmocka_unit_test(signed_images_are_left_alone), cmocka_unit_test(pack_outlives_a_loss_of_power),
		cmocka_unit_test(the_image_of_a_run), cmocka_unit_test(images_that_do_not_serve),
	};
	int failed = cmocka_run_group_tests_name("image", tests, NULL, NULL);
	free(image);
	return failed;
}
