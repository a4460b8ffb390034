/* Images: an arbitrary file is refused with a text, or every question about it has an answer. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include "driver/image.h"
#include "prefpga/internal/backend.h"

static void ask(const struct pf_image *image)
{
	const struct pf_image_kernel *kernel;
	struct pf_error error;
	if (strlen(pf_image_facts(image)->uuid) != 36 || !pf_image_facts(image)->version)
		abort();
	for (unsigned i = 0; (kernel = pf_image_kernel(image, i)); i++)
		for (uint32_t cu = 0; kernel->kernel >= 0 && cu <= kernel->cus; cu++)
			if (!pf_image_cu(image, kernel->kernel, cu) != (cu == kernel->cus))
				abort();
	for (int k = -1; k <= PF_KERNEL_COUNT; k++)
		if (pf_image_check(image, k, &error) != 0 && !error.text[0])
			abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct pf_image *image;
	struct pf_error error = { 0 };
	if (pf_image_parse(data, size, "fuzz", &image, &error) == 0) {
		ask(image);
		pf_image_close(image);
	} else if (!error.text[0] || image)
		abort();
	error.text[0] = '\0';
	if (pf_image_abi(data, size, "fuzz", &error) != 0 && !error.text[0])
		abort();
	return 0;
}
