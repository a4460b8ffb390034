/* prefpga's manifest inside an otherwise sound image: refused with a text, or every question has an answer. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include "driver/image.h"
#include "driver/xclbin.h"
#include "prefpga/internal/backend.h"

static const struct pf_xclbin_ip units[] = {
	{ .type = PF_XCLBIN_IP_KERNEL, .name = "pf_k_coef:pf_k_coef_1" },
	{ .type = PF_XCLBIN_IP_KERNEL, .name = "pf_k_coef:pf_k_coef_2" },
	{ .type = PF_XCLBIN_IP_KERNEL, .name = "other:other_1" },
};

static void ask(const struct pf_image *image)
{
	const struct pf_image_kernel *kernel;
	struct pf_error error;
	for (unsigned i = 0; (kernel = pf_image_kernel(image, i)); i++) {
		if (!kernel->name || kernel->matches != (kernel->kernel >= 0 && kernel->hash == kernel->wanted))
			abort();
		for (uint32_t cu = 0; kernel->kernel >= 0 && cu < kernel->cus; cu++)
			if (!pf_image_cu(image, kernel->kernel, cu))
				abort();
	}
	for (int k = 0; k < PF_KERNEL_COUNT; k++)
		if (pf_image_check(image, k, &error) != 0 && !error.text[0])
			abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const struct pf_xclbin_plan plan = { .mode = PF_XCLBIN_SW_EMU, .platform = "fuzz", .manifest = data,
	                                     .manifest_bytes = size, .ip = units, .ips = 3 };
	struct pf_image *image;
	struct pf_error error = { 0 };
	void *file;
	size_t bytes;
	if (pf_xclbin_build(&plan, &file, &bytes, &error) != 0)
		abort();
	error.text[0] = '\0';
	if (pf_image_parse(file, bytes, "fuzz", &image, &error) == 0) {
		ask(image);
		pf_image_close(image);
	} else if (!error.text[0] || image)
		abort();
	free(file);
	return 0;
}
