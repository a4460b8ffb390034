/* npy_header.h: the text at the head of a .npy file, parsed and made; used by npy.c only. */
#ifndef PF_CORPUS_NPY_HEADER_H
#define PF_CORPUS_NPY_HEADER_H
#include "npy.h"

/* Parses a file of `length` bytes. *offset: where the elements start */
int pf_npy_header_parse(const unsigned char *bytes, size_t length, const char *path, struct pf_npy_shape *shape,
                        size_t *offset, struct pf_error *error);
/* Writes a header of version 1, padded to a multiple of 64 bytes, into text; returns its length */
enum { PF_NPY_HEADER_MAX = 320 };
size_t pf_npy_header_make(const struct pf_npy_shape *shape, char text[PF_NPY_HEADER_MAX]);
#endif
