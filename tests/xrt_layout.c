/* The layout of the emulated card from kernel.xml: ours, others, and cut ones. */
#include <stdlib.h>
#include <string.h>
#include "prefpga/internal/registers.h"
#include "sim/xrtmodel/layout.h"
#include "tests/cmocka.h"
#include "tests/emulated_xml.h"

static void layouts_come_from_our_xml(void **state)
{
	struct pf_emu_layout layout;
	size_t length;
	char *text = xml(PF_XCLBIN_CTRL_HS, "logprob=3,pref=0", &length);
	(void)state;
	assert_int_equal(pf_emu_layout_parse(text, length, &layout, NULL), 0);
	assert_int_equal(layout.count, 15);
	assert_string_equal(layout.unit[2].name, "pf_k_logprob_3");
	assert_true(layout.unit[2].base == PF_EMULATED_BASE + 2 * PF_EMULATED_STEP);
	assert_int_equal(layout.unit[3].kernel, PF_KERNEL_logprob_bf16);
	assert_false(layout.unit[0].chain);
	free(text);
	text = xml(PF_XCLBIN_CTRL_CHAIN, "", &length);
	assert_int_equal(pf_emu_layout_parse(text, length, &layout, NULL), 0);
	assert_true(layout.unit[0].chain);
	free(text);
}

static int parse_changed(const char *from, const char *to)
{
	struct pf_emu_layout layout;
	struct pf_error error = { 0 };
	size_t length;
	char *text = xml(PF_XCLBIN_CTRL_HS, "", &length);
	assert_non_null(strstr(text, from));
	assert_int_equal(strlen(from), strlen(to));
	memcpy(strstr(text, from), to, strlen(to));
	int status = pf_emu_layout_parse(text, length, &layout, &error);
	assert_true(status == 0 || error.text[0]);
	free(text);
	return status;
}

static void foreign_layouts_are_refused(void **state)
{
	(void)state;
	assert_int_equal(parse_changed("offset=\"0x1C\"", "offset=\"0x20\""), PF_E_IMAGE);
	assert_int_equal(parse_changed("size=\"0x4\"", "size=\"0x8\""), PF_E_IMAGE);
	assert_int_equal(parse_changed("id=\"1\"", "id=\"7\""), PF_E_IMAGE);
	assert_int_equal(parse_changed("\"pf_k_seq_sum\"", "\"pf_k_seq_tum\""), PF_E_IMAGE);
	assert_int_equal(parse_changed("base=\"0x1800000\"", "base=\"0x18g0000\""), PF_E_FORMAT);
	assert_int_equal(parse_changed("id=\"0\"", "ix=\"0\""), PF_E_FORMAT);
	assert_int_equal(parse_changed("<arg name=\"flags\"", "<org name=\"flags\""), PF_E_IMAGE);
	assert_int_equal(parse_changed("vlnv", "vlnx"), 0);
}

static void cut_layouts_do_not_crash(void **state)
{
	struct pf_emu_layout layout;
	struct pf_error error;
	size_t length;
	char *text = xml(PF_XCLBIN_CTRL_HS, "logprob_bf16=0,seq_sum=0,pref=0,coef=0,logit_grad=0,"
	                 "logit_grad_bf16=0", &length);
	(void)state;
	for (size_t cut = 0; cut <= length; cut++) {
		char *copy = malloc(cut + 1);
		memcpy(copy, text, cut);
		pf_emu_layout_parse(copy, cut, &layout, &error);
		free(copy);
	}
	free(text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(layouts_come_from_our_xml),
		cmocka_unit_test(foreign_layouts_are_refused),
		cmocka_unit_test(cut_layouts_do_not_crash),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
