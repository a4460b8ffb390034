/* xrt_library.h: XRT itself, opened at run time, and the environment that it depends on. For driver/xrt*.c and
 * opencl.c; XRT's headers appear here only, and for their types only.
 *
 * The library is opened once and never closed, as its threads and destructors would not survive that. What XRT has to
 * say goes to a log of our own (xrt_log.h) and from there into our errors. Thread-safe. */
#ifndef PF_DRIVER_XRT_LIBRARY_H
#define PF_DRIVER_XRT_LIBRARY_H
#include <xrt/xrt_bo.h>
#include <xrt/xrt_device.h>
#include <xrt/xrt_kernel.h>
#include "prefpga/error.h"
#include "xrt_place.h"

int xrtIniStringSet(const char *key, const char *value);       /* its header is C++ before 2.14 */

#define PF_XRT_CALLS(F) \
	F(xrtDeviceOpen) F(xrtDeviceOpenByBDF) F(xrtDeviceClose) F(xrtDeviceLoadXclbinFile) \
	F(xrtDeviceGetXclbinUUID) F(xrtPLKernelOpen) F(xrtKernelClose) F(xrtKernelArgGroupId) \
	F(xrtBOAlloc) F(xrtBOAllocUserPtr) F(xrtBOSubAlloc) F(xrtBOFree) F(xrtBOMap) F(xrtBOSync) F(xrtRunOpen) \
	F(xrtRunSetArg) F(xrtRunStart) F(xrtRunState) F(xrtRunClose) F(xrtIniStringSet)

/* The calls, usable after pf_xrt_start has returned 0 */
struct pf_xrt_library {
#define PF_XRT_MEMBER(name) __typeof__(name) *name;
	PF_XRT_CALLS(PF_XRT_MEMBER)
#undef PF_XRT_MEMBER
};
extern struct pf_xrt_library pf_xrt;

#define PF_XRT_RESET "; reset the card (xrt-smi reset)"
#define PF_XRT_SYNC_BYTES_MAX ((uint64_t)1 << 30)      /* of one copy: the emulation's shim counts in 32 bits */

/* Opens the library, reads the environment and checks that XRT may be called; *place is filled if it may. `interface`
 * is "xrt" or "opencl" (a literal): XRT serves one of them in a process, so the first one stays */
int pf_xrt_start(const char *interface, struct pf_xrt_place *place, struct pf_error *error);
/* Fails with what XRT said behind `what` */
int pf_xrt_fail(struct pf_error *error, int code, const char *what, const char *remedy);
#endif
