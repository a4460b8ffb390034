/* describe.h: what tools want to know about the kernels, written from kernels.def.
 *
 * One writer per reader: kernel.xml for XRT's emulation, the manifest for our own driver, link
 * configuration for v++, a table for people. Nothing else in the tree spells these formats. */
#ifndef PF_BITSTREAMS_DESCRIBE_H
#define PF_BITSTREAMS_DESCRIBE_H
#include <stdio.h>
#include "driver/xclbin.h"
#include "prefpga/internal/backend.h"

struct pf_layout {
	uint32_t               cus[PF_KERNEL_COUNT];   /* 0: not in the image */
	enum pf_xclbin_control control;
	int                    host_memory;            /* 1: class SMALL lies in HOST[0] */
};
/* One compute unit of every built kernel, ap_ctrl_chain as Vitis makes it */
void pf_layout_default(struct pf_layout *layout);
uint32_t pf_layout_cus(const struct pf_layout *layout);        /* all of them */

/* What image `image` of a card holds, NULL: the first; control and host_memory of `layout` stay */
int  pf_layout_image(struct pf_layout *layout, const char *card, const char *image, struct pf_error *error);
/* All return 0 or an error; `out` stays open */
int pf_describe_xml(FILE *out, const struct pf_layout *layout);
int pf_describe_manifest(FILE *out, const struct pf_layout *layout);
int pf_describe_link(FILE *out, const struct pf_layout *layout, const char *card,
                     struct pf_error *error);
int pf_describe_docs(FILE *out);
#endif
