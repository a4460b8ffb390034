/* layout.h: which compute units an image has, read from the kernel.xml that XRT hands over.
 *
 * Not an XML parser: a scanner for the elements and attributes that XRT's own metadata uses
 * (kernel, arg, instance, addrRemap), bounds-checked, and strict where our kernels are concerned:
 * an argument whose id, offset or size differs from kernels.def is an error. Thread-safe. */
#ifndef PF_XRTMODEL_LAYOUT_H
#define PF_XRTMODEL_LAYOUT_H
#include <stddef.h>
#include "prefpga/internal/backend.h"

#define PF_EMU_CUS_MAX 64u

struct pf_emu_unit {
	enum pf_kernel kernel;
	int            chain;                  /* ap_ctrl_chain; 0: ap_ctrl_hs */
	uint64_t       base;                   /* of its registers */
	char           name[64];               /* of the instance */
};
struct pf_emu_layout {
	unsigned             count;
	struct pf_emu_unit unit[PF_EMU_CUS_MAX];
};

/* xml[length] need not end in 0 */
int pf_emu_layout_parse(const char *xml, size_t length, struct pf_emu_layout *layout,
                          struct pf_error *error);
#endif
