/* device.h: open a device (a card, its simulation, or the host itself), move bytes, run kernels.
 *
 * A device has one queue per direction of copying and one per kernel; operations of a queue start in the order of
 * submission, different queues run in parallel. Every operation has a ticket and may name an earlier ticket it waits
 * for, so a streaming loop needs no thread of its own:
 *
 *	pf_wait(&out[i], &error);                                   slot i is drained, its tickets may be used again
 *	pf_copy_in(targets, 0, y, bytes, NULL, &in[i]);
 *	pf_copy_in(logits, 0, z, bytes, &in[i], &in2[i]);           chained, so that a failure of either reaches the run
 *	pf_run(device, PF_KERNEL_logprob, args, 7, &in2[i], &run[i]);
 *	pf_copy_out(rows, 0, host, bytes, &run[i], &out[i]);
 *
 * Copies of one direction finish in order. Runs of one kernel do so only on a device with one compute unit of it.
 *
 * Threads: devices are independent of each other. One device may be used from several threads; a ticket belongs to one.
 * Ownership: open/close and alloc/free pair up. A submitted buffer, host or device, must not be touched until its
 * ticket is done. pf_device_close waits for what is in flight, at most the watchdog's limit, then abandons it with an
 * error.
 * After a run that passed the watchdog's limit, and after the loss of the card, the device has failed: what is queued
 * and what is submitted from then on fails with PF_E_DEVICE, and only closing is left. */
#ifndef PREFPGA_DEVICE_H
#define PREFPGA_DEVICE_H
#include <stddef.h>
#include <stdint.h>
#include "error.h"
#ifdef __cplusplus
extern "C" {
#endif

struct pf_device;
struct pf_buf;

typedef void (*pf_log_fn)(void *context, int level, const char *text);   /* level 0 error, 1 warning, 2 note */

/* What happened on a device: a copy or a run that is over, or a wait for one. For timelines */
enum { PF_OPERATION_VALUES = 24 };
enum pf_operation_kind { PF_OP_IN, PF_OP_OUT, PF_OP_RUN, PF_OP_WAIT };
struct pf_operation {
	const char *device;            /* its name; lives as long as the device */
	enum pf_operation_kind kind;
	uint64_t    serial;            /* of the operation, counted from 1 per device; of a wait: what was waited for */
	uint64_t    after;             /* serial of what it was submitted to wait for; 0: nothing */
	int         kernel;            /* of a run; of a copy and a wait -1 */
	unsigned    cu, bank;          /* compute unit of a run; bank class of a copy (kernels.def) */
	uint64_t    bytes, beats;      /* of a copy; of device memory, by contract */
	unsigned    values;            /* scalars of a run, in the order of the kernel's arguments */
	uint32_t    value[PF_OPERATION_VALUES];
	uint64_t    queued_ns, started_ns, done_ns;    /* as in the ticket; a wait: begun, begun, over */
	int         status;
};
typedef void (*pf_operation_fn)(void *context, const struct pf_operation *operation);

struct pf_device_options {
	uint64_t    memory_bytes;      /* device memory to use; 0: the card's */
	uint32_t    watchdog_ms;       /* limit of one run; 0: max(10 s, 8 x the median of earlier runs of its shape,
	                                * the kernel and its scalars); of a new shape 10 s and 1 us a beat, or 8 x
	                                * what its beats took in runs of other shapes */
	uint32_t    threads;           /* host threads of `cpu`, compute units of `sim` where the spec names no number;
	                                * 0: as many as there are processors */
	const char *image;             /* image file for xrt and opencl, or a folder of prefpga*.xclbin; NULL: the
	                                * folder beside the library */
	uint64_t    kernels;           /* what the run needs (pf_kernel_set): of a folder's images the one that has most
	                                * of it is loaded; 0: prefpga.xclbin */
	pf_log_fn   log;               /* may be NULL */
	void       *log_context;
	pf_operation_fn operation;     /* told of every operation when it is over, before close returns, by several
	                                * threads at once; must not call the device. May be NULL */
	void       *operation_context;
};

/* What an opened device is. Strings live as long as the device */
struct pf_device_facts {
	const char *backend;           /* "cpu", "sim", "xrt", ... */
	const char *name;              /* what a person calls it: "simulated u55c", ... */
	const char *variant;           /* instruction set or image the kernels come from */
	uint64_t    memory_bytes;      /* for logits: what buffers of bank class STREAM can take together */
	uint32_t    numerics;          /* version of the numerics; equal versions and exact = equal bits */
	int         exact;             /* 1: bits of the numerics version; 0: within the stated bound of it */
	int         host_visible;      /* 1: pf_buf_map works */
};

/* Opens `spec`: cpu | sim[:card[*cus][@level]] | xrt[:index|BDF] | opencl[:...] | auto (the first of xrt, cpu that
 * works). options may be NULL. Unknown names list what exists; absent backends say what is missing and what to
 * install */
PF_API int pf_device_open(const char *spec, const struct pf_device_options *options, struct pf_device **device,
                          struct pf_error *error);
/* NULL is allowed. What has not started fails with PF_E_CLOSED, what has is waited for: every ticket is done
 * afterwards, and pf_wait must not be called on it any more. Frees every buffer still allocated. Returns 0, or
 * PF_E_TIMEOUT when operations had to be abandoned (host memory of an abandoned copy must then stay) */
PF_API int pf_device_close(struct pf_device *device);
PF_API const struct pf_device_facts *pf_device_facts(const struct pf_device *device);
/* Compute units of a kernel, 0 if the image lacks it. kernel: enum pf_kernel as int, see pf_kernel_find */
PF_API uint32_t pf_device_cus(const struct pf_device *device, int kernel);
/* Number of a kernel by name ("logprob"), or -1 */
PF_API int pf_kernel_find(const char *name);
/* A bit for the number of each kernel in `names`, "pref coef"; names of none count for nothing */
PF_API uint64_t pf_kernel_set(const char *names);
/* Name of backend number i, NULL past the last */
PF_API const char *pf_backend_name(unsigned i);

/* Allocates `bytes` (> 0) where argument `arg` of `kernel` can reach them; every argument of the same bank class can
 * too. The contents are undefined until written: reading them first is an error on `sim` and a fault on a card */
PF_API int pf_buf_alloc(struct pf_device *device, int kernel, unsigned arg, uint64_t bytes, struct pf_buf **buf,
                        struct pf_error *error);
/* The same with the caller's memory as the buffer's host side: `host`, a multiple of 4096, `bytes` of it, which must
 * outlive the buffer. Where the card can use it (xrt), copies between the buffer and the same offset of `host` go there
 * directly, without a staging copy; everything else is as ever. Elsewhere it is an ordinary buffer */
PF_API int pf_buf_alloc_host(struct pf_device *device, int kernel, unsigned arg, void *host, uint64_t bytes,
                             struct pf_buf **buf, struct pf_error *error);
/* A buffer that is the caller's own memory, which must outlive it and what is pending on it: nothing is copied. Only
 * where facts.host_visible is 1, else PF_E_UNSUPPORTED */
PF_API int pf_buf_adopt(struct pf_device *device, int kernel, unsigned arg, void *memory, uint64_t bytes,
                        struct pf_buf **buf, struct pf_error *error);
/* NULL is allowed; memory of pending operations goes when they are done */
PF_API void pf_buf_free(struct pf_buf *buf);
PF_API uint64_t pf_buf_bytes(const struct pf_buf *buf);
/* The buffer's memory in this process, or NULL where the device has its own memory (facts.host_visible == 0) */
PF_API void *pf_buf_map(struct pf_buf *buf);

/* An operation in the caller's memory. Zero-initialise; status is PF_PENDING until done, then 0 or an error. A ticket
 * that is done may be used again, a pending one is refused with PF_E_ARGUMENT. Read the fields after pf_wait */
#define PF_PENDING 1
struct pf_ticket {
	int               status;
	uint64_t          queued_ns, started_ns, done_ns;  /* CLOCK_MONOTONIC; the latter two by the card's own events
	                                                    * where it has such (opencl) */
	uint64_t          beats;       /* 512-bit beats of device memory the operation read and wrote, by contract */
	uint64_t          serial;      /* of the operation on its device, from 1 */
	struct pf_device *device;      /* set by the submission */
};

/* One kernel argument: a buffer with an offset (a multiple of 4096), or a scalar */
struct pf_arg {
	struct pf_buf *buf;
	uint64_t       offset;
	union { uint32_t u32; float f32; } val;
};

/* Copies bytes between host and device. `after` (may be NULL) must have been submitted to the same device before, or
 * never; it is waited for, and its failure fails this operation with PF_E_DEPENDENCY. Ranges are checked before
 * anything is queued. Returns 0 or why the operation was refused; the ticket of a refused one is done, with that
 * status */
PF_API int pf_copy_in(struct pf_buf *buf, uint64_t offset, const void *from, uint64_t bytes,
                      const struct pf_ticket *after, struct pf_ticket *ticket);
PF_API int pf_copy_out(struct pf_buf *buf, uint64_t offset, void *to, uint64_t bytes,
                       const struct pf_ticket *after, struct pf_ticket *ticket);
/* Runs a kernel on the next free compute unit. Arguments are in the order of kernels.def; their sizes, alignment, bank
 * class and limits are checked before anything is queued. A written buffer region may overlap another argument's only
 * where one input and one output of the same type are the same region (in place). `after` and the result as above */
PF_API int pf_run(struct pf_device *device, int kernel, const struct pf_arg *args, unsigned count,
                  const struct pf_ticket *after, struct pf_ticket *ticket);
/* Waits until the ticket is done; returns its status. The error text of a failed or refused operation goes to *error
 * (may be NULL); of the latest 32 failures of a device the full text is kept, of older ones the general text.
 * A ticket that was never submitted (all zero) is done */
PF_API int pf_wait(struct pf_ticket *ticket, struct pf_error *error);

/* Counted since open over operations that succeeded: how many, bytes over the host link, beats of device memory */
struct pf_device_counts { uint64_t runs, copies, bytes_in, bytes_out, beats; };
PF_API void pf_device_counts(const struct pf_device *device, struct pf_device_counts *counts);
#ifdef __cplusplus
}
#endif
#endif
