/* xrt_pool.h: freed buffers of backend xrt, kept for the next allocation of their kind.
 *
 * XRT's emulation keeps a file open, and with it the memory behind, for each buffer that it ever
 * mapped until the device is closed; a training loop that allocates in every step would run out of
 * both. On a card it saves the driver calls. No lock: the core allocates and frees under its own. */
#ifndef PF_DRIVER_XRT_POOL_H
#define PF_DRIVER_XRT_POOL_H
#include <stdint.h>

struct pf_memory {
	struct pf_memory *next;        /* in the pool */
	void             *buffer;      /* xrtBufferHandle */
	uint8_t          *host;        /* its mapping */
	uint64_t          bytes;       /* rounded */
	int               group;       /* of banks */
	int               of_caller;   /* host side: not the buffer's own mapping, never in the pool */
};

/* Size to allocate for `bytes`: few different ones, at most an eighth more and at least a page */
uint64_t pf_xrt_pool_round(uint64_t bytes);
/* Takes a buffer of exactly this (rounded) size and group out of the pool, or NULL */
struct pf_memory *pf_xrt_pool_take(struct pf_memory **pool, uint64_t bytes, int group);
/* Takes any, or NULL */
struct pf_memory *pf_xrt_pool_any(struct pf_memory **pool);
void pf_xrt_pool_put(struct pf_memory **pool, struct pf_memory *memory);
#endif
