/* memory.h: the memory of the card that XRT's emulation talks to.
 *
 * One sparse mapping; a device address is an offset into it. The host chooses addresses and frees
 * them, so allocations are remembered: a kernel argument must lie inside one. XRT keeps a host copy
 * of each buffer in a file that we name: a sparse memfd, never shared with the device's memory, so
 * that a forgotten sync stays visible as the bug it is.
 * Thread-safe: allocation from one thread; pf_emu_at from any. */
#ifndef PF_XRTMODEL_MEMORY_H
#define PF_XRTMODEL_MEMORY_H
#include <stddef.h>
#include <stdint.h>

struct pf_emu_memory;

/* Reserves `bytes` of address space. Return 0 or -errno */
int  pf_emu_memory_open(uint64_t bytes, struct pf_emu_memory **memory);
void pf_emu_memory_close(struct pf_emu_memory *memory);

/* Remembers an allocation. PF_E_RANGE: outside the card, or overlapping another one; -ENOMEM */
int  pf_emu_alloc(struct pf_emu_memory *memory, uint64_t address, uint64_t bytes);
/* Forgets it and its file. Unknown addresses are ignored, as XRT frees some twice */
void pf_emu_free(struct pf_emu_memory *memory, uint64_t address);
/* How many allocations nobody freed, and their bytes in *bytes */
size_t pf_emu_kept(struct pf_emu_memory *memory, uint64_t *bytes);
/* Makes the file for the host's copy of the allocation at `address`; its name to path[size].
 * Return 0 or -errno */
int  pf_emu_file(struct pf_emu_memory *memory, uint64_t address, char *path, size_t size);

/* [address, address + bytes) in this process, or NULL if it leaves the card */
void *pf_emu_at(struct pf_emu_memory *memory, uint64_t address, uint64_t bytes);
/* The same, but NULL also if it is not inside one allocation */
void *pf_emu_allocated(struct pf_emu_memory *memory, uint64_t address, uint64_t bytes);
#endif
