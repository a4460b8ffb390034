/* image.h: the inside of prefpga/image.h. */
#ifndef PF_DRIVER_IMAGE_H
#define PF_DRIVER_IMAGE_H
#include <stddef.h>
#include "prefpga/image.h"

/* Reads an image from memory; the bytes are not kept. Errors name `path` */
int pf_image_parse(const void *data, size_t bytes, const char *path, struct pf_image **image,
                   struct pf_error *error);
/* pf_image_check_abi of bytes in memory */
int pf_image_abi(const void *data, size_t bytes, const char *path, struct pf_error *error);
/* A whole file (malloc, the caller frees), at most 1 GiB */
int pf_image_read(const char *path, void **data, size_t *bytes, struct pf_error *error);
#endif
