/* image.h: what an FPGA image contains, and whether it serves this program.
 *
 * An image (xclbin) carries prefpga's manifest: the numerics version and, for each kernel, one hash
 * over its argument list. An image serves a run if every kernel that the run uses matches; others
 * may differ. Thread-safe: an opened image is constant. */
#ifndef PREFPGA_IMAGE_H
#define PREFPGA_IMAGE_H
#include <stdint.h>
#include "error.h"
#ifdef __cplusplus
extern "C" {
#endif

struct pf_image;

struct pf_image_facts {
	const char *path;
	const char *platform;          /* the shell it was built for */
	const char *version;           /* of prefpga, when it was built */
	char        uuid[37];
	int         emulated;          /* 1: for XRT's software emulation */
	uint32_t    numerics;
	uint64_t    memory_bytes;      /* of all banks in use */
};
struct pf_image_kernel {
	const char *name;
	int         kernel;            /* number in this program, -1: unknown to it */
	uint64_t    hash, wanted;      /* in the image; in this program (0: unknown) */
	uint32_t    cus;
	int         matches;
};

/* Reads and checks a file. Strings live as long as the image */
PF_API int pf_image_open(const char *path, struct pf_image **image, struct pf_error *error);
PF_API void pf_image_close(struct pf_image *image);            /* NULL is allowed */
PF_API const struct pf_image_facts *pf_image_facts(const struct pf_image *image);
/* Kernel i of the image, NULL past the last */
PF_API const struct pf_image_kernel *pf_image_kernel(const struct pf_image *image, unsigned i);
/* 0 if the image has kernel number `kernel` (see pf_kernel_find) as this program knows it; else
 * PF_E_IMAGE, and the text shows both hashes */
PF_API int pf_image_check(const struct pf_image *image, int kernel, struct pf_error *error);
/* Compares what the tool has built with the table of kernel arguments: their order, names, register offsets and sizes,
 * the width of their ports, and the banks that they reach. PF_E_IMAGE: the text names kernel, argument and both values
 */
PF_API int pf_image_check_abi(const char *path, struct pf_error *error);
/* Writes image `in` with prefpga's manifest (a JSON file of prefpga-emit) added to `out`. Signed images and such that
 * carry a manifest are refused. `out` may be `in`: it is replaced, whole or not at all, by way of <out>.partial */
PF_API int pf_image_pack(const char *in, const char *manifest, const char *out, struct pf_error *error);
/* Name of compute unit `cu` (from 0) of a kernel, "pf_k_logprob:pf_k_logprob_1", or NULL */
PF_API const char *pf_image_cu(const struct pf_image *image, int kernel, uint32_t cu);
/* 1 if XRT's memory group number `group` is memory of the host that the card reaches (HOST[0], the slave bridge) */
PF_API int pf_image_group_in_host(const struct pf_image *image, int group);
#ifdef __cplusplus
}
#endif
#endif
