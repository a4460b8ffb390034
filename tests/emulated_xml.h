/* emulated_xml.h: kernel.xml of an image for emulation, for tests of the emulated card. A failure fails the test. */
#ifndef PF_TESTS_EMULATED_XML_H
#define PF_TESTS_EMULATED_XML_H
#include <stdio.h>
#include "bitstreams/describe.h"
#include "tests/cmocka.h"

/* With units "coef=2,pref=0"; the caller frees it */
static inline char *xml(enum pf_xclbin_control control, const char *cus, size_t *length)
{
	struct pf_layout layout;
	static char *text;
	FILE *out = open_memstream(&text, length);
	pf_layout_default(&layout);
	layout.control = control;
	assert_int_equal(pf_units_set(layout.cus, cus, NULL), 0);
	assert_int_equal(pf_describe_xml(out, &layout), 0);
	fclose(out);
	return text;
}
#endif
