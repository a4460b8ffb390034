/* opencl_card.h: the inside of an opened card of backend opencl, shared by driver/opencl*.c only.
 *
 * Threads: what the core promises a backend. `abort` and `lost` are read across threads. */
#ifndef PF_DRIVER_OPENCL_CARD_H
#define PF_DRIVER_OPENCL_CARD_H
#include <stdatomic.h>
#include "card_image.h"
#include "opencl_library.h"
#include "xrt_pool.h"

enum { PF_CL_DIRECTIONS = 2 };

struct pf_cl_times { uint64_t started_ns, done_ns; };
struct pf_cl_cu {
	cl_kernel          kernel;
	struct pf_cl_times times;
	atomic_int         abort, lost;        /* lost: a run was given up, the unit still works at it */
};
/* XRT 2.13 now and then crashes in a later load of a process, and keeps files open for what it released. So a card
 * that is closed is parked as it is until the program ends, and whoever opens it with the same image gets it again */
struct pf_cl_card {
	struct pf_cl_card *next;       /* parked */
	cl_device_id       device;
	cl_context         context;
	cl_command_queue   queue;
	cl_program         program;
	struct pf_image   *image;
	char               name[96];
	struct pf_cl_cu   *cu[PF_KERNEL_COUNT];
	uint32_t           cus[PF_KERNEL_COUNT];
	cl_kernel          place[PF_KERNEL_COUNT];     /* for allocations only: XRT makes the buffer their argument */
	struct pf_cl_times copy[PF_CL_DIRECTIONS];
	struct pf_memory  *pool;       /* freed buffers; group: the bank class */
};

/* Fails with OpenCL's number and what XRT said */
int  pf_cl_fail(struct pf_error *error, int code, const char *what, cl_int why);
/* Does a unit still work at a run that was given up? */
int  pf_cl_lost(const struct pf_cl_card *card);
/* 1 once any card has run: XRT 2.13 crashes in its runs once another image is loaded after that */
int  pf_cl_ran(void);
/* Entries of the vtable */
int  pf_cl_alloc(void *card, enum pf_kernel kernel, unsigned arg, uint64_t bytes, struct pf_memory **memory,
                 struct pf_error *error);
void pf_cl_free(void *card, struct pf_memory *memory);
int  pf_cl_copy(void *card, enum pf_direction direction, struct pf_memory *memory, uint64_t offset, void *host,
                uint64_t bytes, struct pf_error *error);
int  pf_cl_run(void *card, unsigned cu, const struct pf_launch *launch, struct pf_error *error);
int  pf_cl_abort(void *card, enum pf_kernel kernel, unsigned cu);
void pf_cl_times(void *card, unsigned queue, unsigned cu, uint64_t *started_ns, uint64_t *done_ns);
#endif
