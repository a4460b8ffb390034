/* backend.h: what a backend must do. Thin on purpose: driver/device.c does the checking, queueing, waiting, watching
 * and counting once for all of them, so every function here may block and none needs a lock of its own beyond what it
 * says.
 *
 * To add a backend: one .c with a `const struct pf_backend pf_backend_<name>`, one line in the top CMakeLists.txt. */
#ifndef PF_INTERNAL_BACKEND_H
#define PF_INTERNAL_BACKEND_H
#include "../device.h"
#include "../recover.h"
#include "kernels.h"
#include "units.h"

struct pf_memory;                              /* opaque: one allocation, defined by each backend */

struct pf_backend_open {
	const char                     *where; /* what follows the colon of the spec, "" if nothing */
	const struct pf_device_options *options;       /* never NULL; threads is never 0 */
};

/* A launch, checked. memory[i]: the allocation behind argument i (NULL for scalars), bytes[i] what the table says the
 * kernel touches from offset[i] on. Regions of inputs and outputs are disjoint, or the same region for both (in
 * place) */
struct pf_launch {
	enum pf_kernel    kernel;
	unsigned          count;
	struct pf_memory *memory[PF_ARGS_MAX];
	uint64_t          offset[PF_ARGS_MAX], bytes[PF_ARGS_MAX];
	uint32_t          value[PF_ARGS_MAX];  /* scalars: the bits of u32 or f32 */
};

enum pf_direction { PF_TO_DEVICE, PF_FROM_DEVICE };

struct pf_backend {
	const char *name;
	/* Opens and loads. Fills facts (strings must outlive the card) and cus[PF_KERNEL_COUNT]; both come zeroed */
	int  (*open)(const struct pf_backend_open *open, void **card, struct pf_device_facts *facts, uint32_t *cus,
	             struct pf_error *error);
	void (*close)(void *card);     /* once for every open that succeeded; every allocation was freed */
	/* Allocation, one call at a time per device. Copies and runs of other allocations may be going on */
	int  (*alloc)(void *card, enum pf_kernel kernel, unsigned arg, uint64_t bytes, struct pf_memory **memory,
	              struct pf_error *error);
	/* The same with `host` (a multiple of 4096, `bytes` of the caller's) as the buffer's host side: copies whose
	 * other end is the same offset of it need not be copied on the host. NULL: the core uses alloc */
	int  (*alloc_host)(void *card, enum pf_kernel kernel, unsigned arg, void *host, uint64_t bytes,
	                   struct pf_memory **memory, struct pf_error *error);
	/* An allocation that is the host's memory, which free leaves alone. NULL: there is no such thing */
	int  (*adopt)(void *card, void *host, uint64_t bytes, struct pf_memory **memory, struct pf_error *error);
	void (*free)(void *card, struct pf_memory *memory);
	void *(*map)(void *card, struct pf_memory *memory);    /* NULL function: never host visible */
	/* One call per direction at a time; never 0 bytes. PF_E_TRANSFER from copy: the bytes did not arrive, which the
	 * core tries again. PF_E_DEVICE from copy or run says that the card is lost: the core refuses everything from
	 * then on */
	int  (*copy)(void *card, enum pf_direction direction, struct pf_memory *memory, uint64_t offset, void *host,
	             uint64_t bytes, struct pf_error *error);
	/* One call per (kernel, cu) at a time; returns when the kernel is done */
	int  (*run)(void *card, unsigned cu, const struct pf_launch *launch, struct pf_error *error);
	/* From the watchdog, while run is in progress: make it return soon. NULL or an error: cannot; the run is then
	 * abandoned, its ticket fails, and its memory is kept until it returns, if ever */
	int  (*abort)(void *card, enum pf_kernel kernel, unsigned cu);
	/* Right after run or copy succeeded, from the same thread: when the operation really began and ended by the
	 * card's own events, in ns after the call. queue: the kernel, or PF_KERNEL_COUNT + direction. NULL: unknown */
	void (*times)(void *card, unsigned queue, unsigned cu, uint64_t *started_ns, uint64_t *done_ns);
	/* Resets a card that nobody in this process has open. where: as for open. NULL: there is nothing to reset */
	int  (*reset)(const char *where, enum pf_reset level, struct pf_error *error);
};

/* What pf_device_check runs; every image has it (vitis.def) */
#define PF_CHECK_KERNEL PF_KERNEL_seq_sum

/* The longest the core waits after a successful abort */
#define PF_ABORT_GRACE_NS 2000000000u

/* Opens a backend object directly, without the name table: tests wrap backends to inject faults and latches */
int pf_device_open_backend(const struct pf_backend *backend, const char *where, const struct pf_device_options *options,
                           struct pf_device **device, struct pf_error *error);

/* The backend that `spec` names and, in *where, what follows the colon */
int pf_backend_find(const char *spec, const struct pf_backend **backend, const char **where, struct pf_error *error);

/* For tests of backend `fault`: called, without a lock, when a run is held that will not end by itself (1) and when it
 * was given up (0) */
void pf_fault_on_hold(void (*held)(int holding));

/* For tests: reads the time from `now` (ns) from here on, and looks at the deadlines again when told that it has
 * moved */
void pf_device_clock(struct pf_device *device, uint64_t (*now)(void *context), void *context);
void pf_device_tick(struct pf_device *device);

/* The table at run time (driver/kernels.c). Port arrays are expanded: one entry per argument of the C function */
enum pf_arg_dir { PF_DIR_IN, PF_DIR_OUT, PF_DIR_INOUT, PF_DIR_VAL };
struct pf_arg_row {
	const char     *name, *ctype, *bundle;             /* tensors on several ports: name0, ... */
	const char     *count;                             /* the table's text */
	enum pf_arg_dir dir;
	enum pf_bank    bank;
	uint32_t        size;                              /* bytes of one element */
	int             is_float;                          /* scalars: float register */
};
struct pf_kernel_row {
	const char              *name, *file, *brief;
	int                      built;                    /* 0: reserved */
	unsigned                 count;
	unsigned                 lanes;                    /* of a beat of logits: 16 (fp32), 32 (bf16), 0 (none) */
	const struct pf_arg_row *arg;
	const char              *signature;                /* name and every argument as text: what the hash covers */
	/* elements of argument i for these scalars */
	uint64_t               (*elements)(unsigned arg, const uint32_t *value);
};
extern const struct pf_kernel_row pf_kernel_rows[PF_KERNEL_COUNT];
/* Is no earlier argument on the bundle of this one? (driver/units.c) */
int pf_first_of_bundle(const struct pf_kernel_row *row, unsigned arg);
/* How often a run goes over argument i: a head's W and dW (class WEIGHT, beside a scalar `rows`) pass by once for each
 * block of PF_TOKENS rows, everything else once */
uint64_t pf_kernel_passes(enum pf_kernel kernel, unsigned arg, const uint32_t *value);
/* The ABI of a kernel as one number: its signature without spaces, and the size of every argument (FNV-1a, 64 bits) */
uint64_t pf_kernel_hash(enum pf_kernel kernel);
#endif
