#include <string.h>
#include "describe.h"

void pf_layout_default(struct pf_layout *layout)
{
	layout->control = PF_XCLBIN_CTRL_CHAIN;
	layout->host_memory = 0;
	for (int k = 0; k < PF_KERNEL_COUNT; k++)
		layout->cus[k] = pf_kernel_rows[k].built ? 1 : 0;
}

uint32_t pf_layout_cus(const struct pf_layout *layout)
{
	uint32_t count = 0;
	for (int k = 0; k < PF_KERNEL_COUNT; k++)
		count += layout->cus[k];
	return count;
}

static int image_number(const char *image)
{
	const char *name;
	for (unsigned i = 0; image && (name = pf_image_name(i, NULL)); i++)
		if (strcmp(name, image) == 0)
			return (int)i;
	return image ? -1 : 0;
}

int pf_layout_image(struct pf_layout *layout, const char *card, const char *image, struct pf_error *error)
{
	struct pf_ports ports;
	const int number = image_number(image);
	if (number < 0)
		return pf_fail(error, PF_E_UNKNOWN, "no image is called %s; vitis.def has them", image);
	int status = pf_image_units((unsigned)number, layout->cus, error);
	if (status == 0)
		status = pf_ports_count(layout->cus, card, &ports, error);
	if (status == 0 && !pf_ports_fit(&ports))
		status = pf_fail(error, PF_E_RANGE,
		                 "image %s takes %u + %u + %u ports of classes STREAM, WEIGHT, SMALL, which do not "
		                 "fit the %s of %s: it takes %u",
		                 pf_image_name((unsigned)number, NULL), ports.used[0], ports.used[1], ports.used[2],
		                 ports.memory, card, ports.limit);
	return status;
}
