/* image.h: the image that XRT's software emulation loads: kernels as a shared library, and what
 * XRT and our driver want to know about them. Bank class number c lies in memory bank c. */
#ifndef PF_BITSTREAMS_IMAGE_H
#define PF_BITSTREAMS_IMAGE_H
#include "describe.h"

/* Builds the file in memory (*data: malloc, the caller frees) from the kernel library's file */
int pf_image_emulated(const struct pf_layout *layout, const char *library, void **data,
                      size_t *bytes, struct pf_error *error);
#endif
