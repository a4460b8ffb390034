/* card_image.h: which image a card is loaded with, and which of its kernels serve this program. For the backends that
 * load images (xrt, opencl). Thread-safe: no state. */
#ifndef PF_DRIVER_CARD_IMAGE_H
#define PF_DRIVER_CARD_IMAGE_H
#include "prefpga/image.h"
#include "prefpga/internal/backend.h"
#include "xrt_place.h"

/* Opens the file options->image, or an image of the folder options->image or, if NULL, of the default one
 * (pf_xrt_place_image), before the card's runtime sees it. Of prefpga.xclbin and prefpga-<name>.xclbin in a folder,
 * the one with most of options->kernels is taken, of equals prefpga.xclbin, else the first by name. Kernels whose ABI
 * does not match are logged and left out of cus[PF_KERNEL_COUNT]; an image of nothing else is refused.
 * *image: to be closed by the caller, also after an error (NULL then if it was not opened) */
int pf_card_image_open(const struct pf_xrt_place *place, const struct pf_device_options *options,
                       struct pf_image **image, uint32_t *cus, struct pf_error *error);
/* Name of compute unit `number`, "pf_k_coef:{pf_k_coef_1}", as xrtPLKernelOpen and clCreateKernel take it */
void pf_card_image_cu(const struct pf_image *image, int kernel, uint32_t number, char *name, size_t size);
void pf_card_image_facts(const struct pf_image *image, struct pf_device_facts *facts);
#endif
