/* xrt_card.h: the inside of an opened card of backend xrt, shared by driver/xrt*.c only.
 *
 * Threads: what the core promises a backend. `abort` and `lost` are read across threads. */
#ifndef PF_DRIVER_XRT_CARD_H
#define PF_DRIVER_XRT_CARD_H
#include <stdatomic.h>
#include "card_image.h"
#include "xrt_library.h"
#include "xrt_pool.h"

struct pf_xrt_cu {
	xrtKernelHandle kernel;
	xrtRunHandle    run;           /* opened by the first run, used by all */
	atomic_int      abort;
	atomic_int      lost;          /* a run was given up: the unit still works at it */
};
struct pf_xrt_card {
	xrtDeviceHandle   device;
	struct pf_image  *image;
	char              name[96];
	struct pf_xrt_cu *cu[PF_KERNEL_COUNT];
	uint32_t          cus[PF_KERNEL_COUNT];
	struct pf_memory *pool;        /* freed buffers */
};

/* Does a unit still work at a run that was given up? Its memory must stay as it is then */
int  pf_xrt_lost(const struct pf_xrt_card *card);
/* Entries of the vtable */
int  pf_xrt_alloc(void *card, enum pf_kernel kernel, unsigned arg, uint64_t bytes, struct pf_memory **memory,
                  struct pf_error *error);
int  pf_xrt_alloc_host(void *card, enum pf_kernel kernel, unsigned arg, void *host, uint64_t bytes,
                       struct pf_memory **memory, struct pf_error *error);
void pf_xrt_free(void *card, struct pf_memory *memory);
int  pf_xrt_copy(void *card, enum pf_direction direction, struct pf_memory *memory, uint64_t offset, void *host,
                 uint64_t bytes, struct pf_error *error);
int  pf_xrt_run(void *card, unsigned cu, const struct pf_launch *launch, struct pf_error *error);
int  pf_xrt_reset(const char *where, enum pf_reset level, struct pf_error *error);
int  pf_xrt_abort(void *card, enum pf_kernel kernel, unsigned cu);
void pf_xrt_pool_empty(struct pf_xrt_card *card, int keep);    /* keep: XRT's buffers stay as they are */
void pf_xrt_cu_close(struct pf_xrt_cu *cu);
#endif
