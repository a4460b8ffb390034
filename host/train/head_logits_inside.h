/* head_logits_inside.h: the inside of struct pf_head_logits: head_logits.c has the phases, head_slots.c what lies on
 * the devices and on its way there. */
#ifndef PF_TRAIN_HEAD_LOGITS_INSIDE_H
#define PF_TRAIN_HEAD_LOGITS_INSIDE_H
#include "head_logits.h"

enum { STAGES = 3, LANES = 16, ROWS_LEAST = 16, ROWS_MOST = 8192, BLOCK_BYTES = 16 << 20 };

/* One block of logits on a device, with everything phase 1 and phase 3 need beside it */
struct slot {
	struct pf_device *device;
	int mapped;                    /* the device's memory is the host's: no staging */
	struct pf_buf *z, *target, *span, *row, *seq, *item, *coef;
	struct pf_span *host_span;     /* [seqs of the block], begin and end relative to the block */
	struct pf_seq *host_seq;
	struct pf_item_out *host_item;
	uint32_t seqs_room;
	struct pf_ticket in[3], item_in, run[2], grad, out[2];
};

/* Where a block of logits waits on the host on its way in or out */
struct stage {
	float *z;                      /* [rows, stride] */
	struct pf_ticket *busy;        /* the copy that still uses it, or NULL */
};

struct block {
	uint32_t begin, end, seq_begin, seq_end;
};

struct pf_head_logits {
	uint32_t vocab, dim, stride, rows, slots, slots_open;
	unsigned threads;
	double cap;                    /* of the logits; 0: none */
	float *raw;                    /* [rows, stride] logits before the cap, formed again on the way back */
	struct slot *slot;             /* of device i % devices */
	struct stage stage[STAGES];
	struct pf_head_input input;    /* of the last forward */
	struct block *block;
	uint32_t blocks, blocks_room;
};

static inline uint64_t pf_head_row_bytes(const struct pf_head_logits *h)
{
	return (uint64_t)h->stride * PF_BEAT_BYTES;
}

/* ---- head_slots.c ---- */
/* Chooses rows and slots for the devices' memory; slots open when they are first used */
int  pf_head_slots_open(struct pf_head_logits *h, const struct pf_head_options *options, struct pf_error *error);
int  pf_head_slot_open(struct pf_head_logits *h, struct slot *slot, struct pf_error *error);
void pf_head_slot_close(struct slot *slot);
#endif
