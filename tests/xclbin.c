/* Images: driver/xclbin.c against XRT's own header, driver/image.c, and files that are damaged. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "driver/image.h"
#include "driver/xclbin.h"
#include "prefpga/internal/backend.h"
#include "tests/cmocka.h"
#include "tests/scratch.h"
#ifdef PF_HAVE_XCLBIN_H
#include <xclbin.h>
#endif

static const struct pf_xclbin_memory memories[] = {
	{ PF_XCLBIN_DDR4, 1, (uint64_t)16 << 30, 0, "bank0" },
	{ PF_XCLBIN_HBM, 0, (uint64_t)1 << 28, (uint64_t)16 << 30, "HBM[1]" },
};
static const struct pf_xclbin_ip ips[] = {
	{ PF_XCLBIN_IP_KERNEL, PF_XCLBIN_CTRL_CHAIN, 0x1800000, "pf_k_coef:pf_k_coef_1" },
	{ PF_XCLBIN_IP_KERNEL, PF_XCLBIN_CTRL_HS, 0x1810000, "pf_k_coef:pf_k_coef_2" },
	{ 3, 0, 0x1820000, "pf_k_coef:not_a_kernel" },
};
static const struct pf_xclbin_link links[] = { { 0, 0, 1 }, { 2, 1, 0 } };

static char manifest[512];

static struct pf_xclbin_plan plan(void)
{
	snprintf(manifest, sizeof manifest, "{\"prefpga\": \"9.8\", \"numerics\": %u, \"kernels\": ["
	         "{\"name\": \"coef\", \"hash\": \"%016llx\"}, {\"name\": \"other\", \"hash\": \"1\"}, "
	         "{\"name\": \"pref\", \"hash\": \"2\"}]}", PF_NUMERICS,
	         (unsigned long long)pf_kernel_hash(PF_KERNEL_coef));
	return (struct pf_xclbin_plan) {
		.mode = PF_XCLBIN_SW_EMU, .platform = "a_platform", .bitstream = "bits",
		.bitstream_bytes = 4, .kernel_xml = "<xml/>", .kernel_xml_bytes = 6,
		.manifest = manifest, .manifest_bytes = strlen(manifest), .memory = memories,
		.memories = 2, .ip = ips, .ips = 3, .link = links, .links = 2,
	};
}

static uint8_t *build(size_t *bytes)
{
	struct pf_xclbin_plan p = plan();
	struct pf_error error = { 0 };
	void *data;
	assert_int_equal(pf_xclbin_build(&p, &data, bytes, &error), 0);
	return data;
}

static void what_is_written_is_read(void **state)
{
	size_t bytes, part;
	uint8_t *data = build(&bytes);
	struct pf_xclbin x;
	struct pf_xclbin_memory memory;
	struct pf_xclbin_ip ip;
	struct pf_xclbin_link link;
	(void)state;
	assert_int_equal(pf_xclbin_parse(data, bytes, "x", &x, NULL), 0);
	assert_int_equal(x.mode, PF_XCLBIN_SW_EMU);
	assert_string_equal(x.platform, "a_platform");
	assert_memory_equal(pf_xclbin_section(&x, PF_XCLBIN_BITSTREAM, &part), "bits", 4);
	assert_int_equal(part, 4);
	for (uint32_t i = 0; i < 2; i++) {
		assert_true(pf_xclbin_memory_at(&x, i, &memory));
		assert_memory_equal(&memory, &memories[i], sizeof memory);
		assert_true(pf_xclbin_link_at(&x, i, &link));
		assert_memory_equal(&link, &links[i], sizeof link);
	}
	for (uint32_t i = 0; i < 3; i++) {
		assert_true(pf_xclbin_ip_at(&x, i, &ip));
		assert_memory_equal(&ip, &ips[i], sizeof ip);
	}
	assert_false(pf_xclbin_memory_at(&x, 2, &memory) || pf_xclbin_ip_at(&x, 3, &ip)
	             || pf_xclbin_link_at(&x, 2, &link));
	free(data);
}

static void equal_plans_give_equal_files(void **state)
{
	size_t bytes[3];
	uint8_t *one = build(&bytes[0]), *two = build(&bytes[1]);
	struct pf_xclbin_plan p = plan();
	void *three;
	struct pf_xclbin a, b;
	(void)state;
	assert_int_equal(bytes[0], bytes[1]);
	assert_memory_equal(one, two, bytes[0]);
	p.bitstream = "bitz";
	assert_int_equal(pf_xclbin_build(&p, &three, &bytes[2], NULL), 0);
	assert_int_equal(pf_xclbin_parse(one, bytes[0], "a", &a, NULL), 0);
	assert_int_equal(pf_xclbin_parse(three, bytes[2], "b", &b, NULL), 0);
	assert_memory_not_equal(a.uuid, b.uuid, 16);
	free(one);
	free(two);
	free(three);
}

#ifdef PF_HAVE_XCLBIN_H
static const void *their_section(const struct axlf *top, uint32_t kind)
{
	for (uint32_t i = 0; i < top->m_header.m_numSections; i++)
		if (top->m_sections[i].m_sectionKind == kind)
			return (const char *)top + top->m_sections[i].m_sectionOffset;
	return NULL;
}

/* The oracle: XRT's own structs laid over our bytes */
static void xrt_reads_the_same(void **state)
{
	size_t bytes;
	uint8_t *data = build(&bytes);
	const struct axlf *top = (const void *)data;
	(void)state;
	assert_string_equal(top->m_magic, "xclbin2");
	assert_int_equal(top->m_signature_length, -1);
	assert_int_equal(top->m_header.m_length, bytes);
	assert_int_equal(top->m_header.m_mode, XCLBIN_SW_EMU);
	assert_string_equal((const char *)top->m_header.m_platformVBNV, "a_platform");
	const struct mem_topology *memory = their_section(top, MEM_TOPOLOGY);
	assert_int_equal(memory->m_count, 2);
	assert_int_equal(memory->m_mem_data[1].m_type, MEM_HBM);
	assert_int_equal(memory->m_mem_data[1].m_used, 0);
	assert_int_equal(memory->m_mem_data[1].m_size, 1 << 18);
	assert_string_equal((const char *)memory->m_mem_data[1].m_tag, "HBM[1]");
	const struct ip_layout *layout = their_section(top, IP_LAYOUT);
	assert_int_equal(layout->m_count, 3);
	assert_int_equal(layout->m_ip_data[0].m_type, IP_KERNEL);
	assert_int_equal((layout->m_ip_data[0].properties & IP_CONTROL_MASK) >> IP_CONTROL_SHIFT,
	                 AP_CTRL_CHAIN);
	assert_int_equal(layout->m_ip_data[1].m_base_address, 0x1810000);
	assert_string_equal((const char *)layout->m_ip_data[1].m_name, "pf_k_coef:pf_k_coef_2");
	const struct connectivity *connectivity = their_section(top, CONNECTIVITY);
	assert_int_equal(connectivity->m_count, 2);
	assert_int_equal(connectivity->m_connection[1].arg_index, 2);
	assert_int_equal(connectivity->m_connection[1].m_ip_layout_index, 1);
	assert_memory_equal(their_section(top, EMBEDDED_METADATA), "<xml/>", 6);
	assert_memory_equal(their_section(top, USER_METADATA), manifest, strlen(manifest));
	free(data);
}
#endif

static void images_say_what_they_serve(void **state)
{
	size_t bytes;
	uint8_t *data = build(&bytes);
	struct pf_image *image;
	struct pf_error error = { 0 };
	(void)state;
	assert_int_equal(pf_image_parse(data, bytes, "some.xclbin", &image, &error), 0);
	const struct pf_image_facts *facts = pf_image_facts(image);
	assert_string_equal(facts->version, "9.8");
	assert_true(facts->emulated && facts->numerics == PF_NUMERICS);
	assert_true(facts->memory_bytes == (uint64_t)16 << 30);        /* unused banks do not count */
	assert_int_equal(strlen(facts->uuid), 36);
	assert_int_equal(pf_image_kernel(image, 0)->cus, 2);
	assert_int_equal(pf_image_kernel(image, 1)->kernel, -1);
	assert_null(pf_image_kernel(image, 3));
	assert_int_equal(pf_image_check(image, PF_KERNEL_coef, &error), 0);
	assert_string_equal(pf_image_cu(image, PF_KERNEL_coef, 1), "pf_k_coef:pf_k_coef_2");
	assert_null(pf_image_cu(image, PF_KERNEL_coef, 3));
	assert_null(pf_image_cu(image, PF_KERNEL_pref, 0));
	assert_int_equal(pf_image_check(image, PF_KERNEL_logprob, &error), PF_E_IMAGE);
	assert_non_null(strstr(error.text, "no kernel logprob"));
	pf_image_close(image);
	free(data);
}

static void a_refusal_shows_both_hashes(void **state)
{
	struct pf_xclbin_plan p = plan();
	struct pf_image *image;
	struct pf_error error = { 0 };
	char want[17];
	void *data;
	size_t bytes;
	(void)state;
	char *hash = strstr(manifest, "hash") + 8;
	memcpy(hash, "00000000deadbeef", 16);
	assert_int_equal(pf_xclbin_build(&p, &data, &bytes, &error), 0);
	assert_int_equal(pf_image_parse(data, bytes, "old.xclbin", &image, &error), 0);
	assert_int_equal(pf_image_check(image, PF_KERNEL_coef, &error), PF_E_IMAGE);
	snprintf(want, sizeof want, "%016llx", (unsigned long long)pf_kernel_hash(PF_KERNEL_coef));
	assert_non_null(strstr(error.text, "deadbeef"));
	assert_non_null(strstr(error.text, want));
	assert_non_null(strstr(error.text, "old.xclbin"));
	pf_image_close(image);
	free(data);
}

static int parse_manifest(const char *text, struct pf_error *error)
{
	struct pf_xclbin_plan p = plan();
	struct pf_image *image;
	void *data;
	size_t bytes;
	p.manifest = text;
	p.manifest_bytes = text ? strlen(text) : 0;
	assert_int_equal(pf_xclbin_build(&p, &data, &bytes, NULL), 0);
	int status = pf_image_parse(data, bytes, "bad", &image, error);
	pf_image_close(image);
	free(data);
	return status;
}

static void bad_manifests_are_refused(void **state)
{
	static const char *const bad[] = {
		"", "{", "[]", "{\"prefpga\": 1, \"numerics\": 1}", "{\"prefpga\": \"1\"}",
		"{\"prefpga\": \"1\", \"numerics\": -1}",
		"{\"prefpga\": \"1\", \"numerics\": 1, \"kernels\": [{\"name\": \"pref\"}]}",
		"{\"prefpga\": \"1\", \"numerics\": 1, \"kernels\": [{\"name\": 1, \"hash\": \"1\"}]}",
		"{\"prefpga\": \"1\", \"numerics\": 1, \"kernels\": [{\"name\": \"pref\", \"hash\": \"x\"}]}",
		"{\"prefpga\": \"1\", \"numerics\": 1, \"kernels\": "
		"[{\"name\": \"pref\", \"hash\": \"11111111111111111\"}]}",
	};
	struct pf_error error;
	(void)state;
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		assert_int_equal(parse_manifest(bad[i], &error), PF_E_FORMAT);
	assert_int_equal(parse_manifest(NULL, &error), PF_E_IMAGE);
	assert_int_equal(parse_manifest("{\"prefpga\": \"1\", \"numerics\": 1}", &error), 0);
}

/* Cut at every length: an error or a whole image, never a crash */
static void cut_files_are_refused(void **state)
{
	size_t bytes;
	uint8_t *data = build(&bytes);
	(void)state;
	for (size_t length = 0; length < bytes; length++) {
		uint8_t *cut = malloc(length + 1);     /* exact size, so that ASan sees a read beyond */
		struct pf_image *image;
		struct pf_error error = { 0 };
		memcpy(cut, data, length);
		assert_int_equal(pf_image_parse(cut, length, "cut", &image, &error), PF_E_FORMAT);
		assert_non_null(strstr(error.text, "cut"));
		free(cut);
	}
	free(data);
}

static void files_are_opened(void **state)
{
	size_t bytes;
	uint8_t *data = build(&bytes);
	struct pf_image *image;
	struct pf_error error;
	(void)state;
	scratch_open("xclbin");
	const char *path = scratch_bytes("one.xclbin", data, bytes);
	assert_int_equal(pf_image_open(path, &image, &error), 0);
	assert_string_equal(pf_image_facts(image)->path, path);
	pf_image_close(image);
	assert_int_equal(pf_image_open(scratch_path("none"), &image, &error), -ENOENT);
	assert_int_equal(pf_image_open(scratch_path("."), &image, &error), PF_E_FORMAT);
	free(data);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_written_is_read),
		cmocka_unit_test(equal_plans_give_equal_files),
#ifdef PF_HAVE_XCLBIN_H
		cmocka_unit_test(xrt_reads_the_same),
#endif
		cmocka_unit_test(images_say_what_they_serve),
		cmocka_unit_test(a_refusal_shows_both_hashes),
		cmocka_unit_test(bad_manifests_are_refused),
		cmocka_unit_test(cut_files_are_refused),
		cmocka_unit_test(files_are_opened),
	};
	return cmocka_run_group_tests_name("xclbin", tests, NULL, NULL);
}
