/* memory.h: the memory of a simulated card.
 *
 * Buffers are sparse mappings between guard regions that fault, so that a kernel which leaves its buffer stops at once.
 * Every beat of a buffer knows whether it was ever written: reading it before is an error here, and an ECC fault and a
 * hanging compute unit on a card with DDR. Under AddressSanitizer the rest of the last page, and freed buffers, are
 * poisoned. Freed ranges fault too, until 16 more were freed.
 * Threads: alloc and free one at a time; mark and the check from anywhere. */
#ifndef PF_SIM_MEMORY_H
#define PF_SIM_MEMORY_H
#include <stddef.h>
#include "prefpga/internal/backend.h"

enum { PF_FREED_KEPT = 16 };

/* Banks of one class, which its buffers share */
struct pf_store {
	char     label[48];            /* "STREAM (HBM[0:19])" */
	uint64_t bytes, used;
};

struct pf_freed { void *base; size_t bytes; };

struct pf_stores {
	struct pf_store store[PF_BANK_CLASSES];
	uint64_t        bytes, used;   /* of all classes together: what the user lets us have */
	struct pf_freed freed[PF_FREED_KEPT];
	unsigned        freed_next;
};

/* PF_E_MEMORY with the numbers when the class or the card is full, -ENOMEM when the host is */
int   pf_memory_alloc(struct pf_stores *stores, enum pf_bank bank, uint64_t bytes, struct pf_memory **memory,
                      struct pf_error *error);
void  pf_memory_free(struct pf_stores *stores, struct pf_memory *memory);
/* Unmaps the ranges of freed buffers; all buffers must have been freed */
void  pf_memory_end(struct pf_stores *stores);
void *pf_memory_at(const struct pf_memory *memory, uint64_t offset);
/* [offset, offset + bytes) was written */
void  pf_memory_mark(struct pf_memory *memory, uint64_t offset, uint64_t bytes);
/* The first offset in [offset, offset + bytes) that lies in a beat never written, or UINT64_MAX */
uint64_t pf_memory_unwritten(const struct pf_memory *memory, uint64_t offset, uint64_t bytes);
#endif
