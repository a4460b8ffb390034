/* describe.h: what tools want to know about the kernels, written from kernels.def.
 *
 * One writer per reader: kernel.xml for XRT's emulation, the manifest for our own driver, link
 * configuration for v++, a table for people. Nothing else in the tree spells these formats. */
#ifndef PF_BITSTREAMS_DESCRIBE_H
#define PF_BITSTREAMS_DESCRIBE_H
#include <stdio.h>
#include "driver/xclbin.h"
#include "prefpga/internal/backend.h"

#define PF_CUS_MAX 15u                         /* of one kernel; v++ names them <kernel>_1 .. */

struct pf_layout {
	uint32_t               cus[PF_KERNEL_COUNT];   /* 0: not in the image */
	enum pf_xclbin_control control;
	int                    host_memory;            /* 1: class SMALL lies in HOST[0] */
};
/* One compute unit of every built kernel, ap_ctrl_chain as Vitis makes it */
void pf_layout_default(struct pf_layout *layout);
/* Applies "logprob=2,pref=0"; other kernels keep their number */
int  pf_layout_set(struct pf_layout *layout, const char *text, struct pf_error *error);
uint32_t pf_layout_cus(const struct pf_layout *layout);        /* all of them */

/* Ports of a kernel in each bank class: bundles that arguments of the class use */
enum { PF_BANK_CLASSES = 3 };
int pf_first_of_bundle(const struct pf_kernel_row *row, unsigned arg); /* is no earlier argument on its bundle? */
void pf_layout_ports(int kernel, unsigned ports[PF_BANK_CLASSES]);
/* Ports of all compute units on a card against what its memory takes (vitis.def) */
struct pf_ports {
	const char *memory;            /* "HBM", "DDR" */
	int         shared;            /* 1: the limit is for all classes together; 0: for each, which has a bank */
	unsigned    limit, used[PF_BANK_CLASSES];
};
int  pf_layout_count(const struct pf_layout *layout, const char *card, struct pf_ports *ports, struct pf_error *error);
int  pf_layout_fits(const struct pf_ports *ports);
/* Name and purpose of image number i (vitis.def), NULL past the last */
const char *pf_image_name(unsigned i, const char **purpose);
/* What image `image` of a card holds, NULL: the first; control and host_memory of `layout` stay */
int  pf_layout_image(struct pf_layout *layout, const char *card, const char *image, struct pf_error *error);
/* All return 0 or an error; `out` stays open */
int pf_describe_xml(FILE *out, const struct pf_layout *layout);
int pf_describe_manifest(FILE *out, const struct pf_layout *layout);
int pf_describe_link(FILE *out, const struct pf_layout *layout, const char *card,
                     struct pf_error *error);
int pf_describe_docs(FILE *out);
#endif
