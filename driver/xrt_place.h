/* xrt_place.h: what must be on disk before XRT may be called.
 *
 * Up to 2.15, XRT opens its shim below $XILINX_XRT only and ends the program if it is not there; in
 * software emulation a missing device process makes it wait for five minutes. So we look first. */
#ifndef PF_DRIVER_XRT_PLACE_H
#define PF_DRIVER_XRT_PLACE_H
#include <stdint.h>
#include "prefpga/error.h"

enum { PF_PATH_BYTES = 4096 };

/* The environment as driver/xrt_library.c found it; NULL: not set */
struct pf_xrt_place {
	const char *root;              /* XILINX_XRT */
	const char *vitis;             /* XILINX_VITIS */
	const char *mode;              /* XCL_EMULATION_MODE, NULL also if empty */
	const char *emconfig;          /* EMCONFIG_PATH: folder of emconfig.json */
	const char *library;           /* real path of libxrt_coreutil, which ends in its version */
};
/* Does XRT emulate the card in software? */
int  pf_xrt_place_emulated(const struct pf_xrt_place *place);
/* How many cards it emulates, as emconfig.json says; UINT32_MAX: unknown */
uint32_t pf_xrt_place_cards(const struct pf_xrt_place *place);
/* 0, or an error that says what to do */
int  pf_xrt_place_check(const struct pf_xrt_place *place, struct pf_error *error);
/* The image to load if the user names none. self: path of the library that prefpga's code is in */
void pf_xrt_place_image(const struct pf_xrt_place *place, const char *self,
                        char path[PF_PATH_BYTES]);
#endif
