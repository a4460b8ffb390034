/* stream.h: batches through a device with copies and runs overlapping: a ring of slots, each a chain of operations.
 *
 *	pf_stream_open(&stream, device, 3, consume, context);
 *	while (there is a batch) {
 *		pf_stream_next(&stream, &slot, &error);         waits only when all slots are in flight
 *		fill staging memory of `slot`; then
 *		pf_stream_in(&stream, logits[slot], 0, staging[slot], bytes);
 *		pf_stream_run(&stream, PF_KERNEL_logprob, args[slot], PF_ARG_logprob_COUNT);
 *		pf_stream_out(&stream, rows[slot], 0, result[slot], bytes);
 *	}
 *	pf_stream_end(&stream, &error);
 *
 * Operations of one slot start one after the other; slots overlap as far as the device's queues allow: with 3 slots one
 * batch is copied in while the one before it runs and the one before that is copied out. `consume` gets the batches in
 * their order, in the thread that calls next or end, before the slot is given out again: a slow consumer delays the
 * producer and loses nothing. Device buffers and staging memory belong to the caller, one set per slot.
 *
 * The first error stops the stream: later operations are not submitted, no later batch is consumed, and next and end
 * return it. One thread per stream. */
#ifndef PF_TRAIN_STREAM_H
#define PF_TRAIN_STREAM_H
#include "prefpga/device.h"

enum { PF_STREAM_SLOTS = 8, PF_STREAM_STEPS = 16 };    /* most slots; most operations of a slot */

/* Batch number `batch` (from 0) in `slot` is done. Non-zero stops the stream with that code */
typedef int (*pf_stream_fn)(void *context, unsigned slot, uint64_t batch, struct pf_error *error);

struct pf_stream_slot {
	struct pf_ticket ticket[PF_STREAM_STEPS];
	unsigned         steps;        /* operations submitted for the batch in flight */
	uint64_t         batch;
};

struct pf_stream {
	struct pf_device     *device;
	unsigned              slots;
	pf_stream_fn          consume; /* may be NULL */
	void                 *context;
	uint64_t              begun, consumed; /* batches; at most `slots` apart */
	int                   code;    /* the first error */
	struct pf_error       error;
	struct pf_stream_slot slot[PF_STREAM_SLOTS];
};

/* slots: 1..PF_STREAM_SLOTS, else PF_E_RANGE; fewer than 3 cannot overlap all three of copying in, runs, copying out */
int pf_stream_open(struct pf_stream *stream, struct pf_device *device, unsigned slots, pf_stream_fn consume,
                   void *context);
/* Begins a batch in *slot */
int pf_stream_next(struct pf_stream *stream, unsigned *slot, struct pf_error *error);
/* Add an operation to the batch begun last, after the one added before it. A refusal is remembered, so the result need
 * not be looked at */
int pf_stream_in(struct pf_stream *stream, struct pf_buf *buf, uint64_t offset, const void *from, uint64_t bytes);
int pf_stream_run(struct pf_stream *stream, int kernel, const struct pf_arg *args, unsigned count);
int pf_stream_out(struct pf_stream *stream, struct pf_buf *buf, uint64_t offset, void *to, uint64_t bytes);
/* Waits for and consumes what is in flight; after it nothing refers to the caller's memory. Returns the stream's first
 * error. The stream may go on with next if there was none */
int pf_stream_end(struct pf_stream *stream, struct pf_error *error);
#endif
