/* kernel.xml as the device process gets it. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include "sim/xrtmodel/layout.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct pf_emu_layout layout;
	struct pf_error error = { 0 };
	int status = pf_emu_layout_parse((const char *)data, size, &layout, &error);
	if (status != 0 && !error.text[0])
		abort();
	for (unsigned i = 0; status == 0 && i < layout.count; i++)
		if (!pf_kernel_rows[layout.unit[i].kernel].built || strlen(layout.unit[i].name) > 63)
			abort();
	return 0;
}
