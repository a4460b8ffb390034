#include <errno.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include "memory.h"

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define PF_ASAN 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(PF_ASAN)
#include <sanitizer/asan_interface.h>
#define PF_POISON(base, bytes)   __asan_poison_memory_region(base, bytes)
#define PF_UNPOISON(base, bytes) __asan_unpoison_memory_region(base, bytes)
#else
#define PF_POISON(base, bytes)   ((void)(base), (void)(bytes))
#define PF_UNPOISON(base, bytes) ((void)(base), (void)(bytes))
#endif

#define PF_GUARD_BYTES (64u << 10)             /* a multiple of every page size in use */

#define PF_HUGE_BYTES (4u << 20)               /* buffers from here on ask for large pages */
#ifndef MADV_HUGEPAGE
#define MADV_HUGEPAGE MADV_NORMAL
#endif

struct pf_memory {
	unsigned char    *base;
	uint64_t          bytes, room;         /* room: whole guard units, mapped */
	enum pf_bank      bank;
	_Atomic uint64_t *written;             /* a bit for each beat */
};

static uint64_t round_up(uint64_t n, uint64_t unit)
{
	return (n + unit - 1) / unit * unit;
}

/* ---- room ---- */
static int pf_store_take(struct pf_stores *stores, struct pf_store *store, uint64_t bytes, struct pf_error *error)
{
	uint64_t pages = round_up(bytes, PF_PAGE_BYTES);
	if (pages < bytes || pages > store->bytes - store->used)
		return pf_fail(error, PF_E_MEMORY, "%" PRIu64 " bytes do not fit bank class %s: %" PRIu64 " of %" PRIu64
		               " bytes are in use; use smaller chunks or another card",
		               bytes, store->label, store->used, store->bytes);
	if (pages > stores->bytes - stores->used)
		return pf_fail(error, PF_E_MEMORY, "%" PRIu64 " bytes do not fit the %" PRIu64 " bytes of card memory "
		               "that may be used, %" PRIu64 " are in use; raise the limit or use smaller chunks",
		               bytes, stores->bytes, stores->used);
	store->used += pages;
	stores->used += pages;
	return 0;
}

static void pf_store_return(struct pf_stores *stores, enum pf_bank bank, uint64_t bytes)
{
	stores->store[bank].used -= round_up(bytes, PF_PAGE_BYTES);
	stores->used -= round_up(bytes, PF_PAGE_BYTES);
}

/* ---- mapping ---- */
static int pf_memory_map(struct pf_memory *m)
{
	unsigned char *whole = mmap(NULL, m->room + 2 * PF_GUARD_BYTES, PROT_NONE,
	                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (whole == MAP_FAILED)
		return -errno;
	m->base = whole + PF_GUARD_BYTES;
	if (mprotect(m->base, m->room, PROT_READ | PROT_WRITE) != 0) {
		int code = -errno;
		munmap(whole, m->room + 2 * PF_GUARD_BYTES);
		return code;
	}
	if (m->room >= PF_HUGE_BYTES)
		madvise(m->base, m->room, MADV_HUGEPAGE);      /* only speed: logits are gone through from end to end */
	PF_POISON(m->base + m->bytes, m->room - m->bytes);
	return 0;
}

static void pf_freed_unmap(struct pf_freed *freed)
{
	if (!freed->base)
		return;
	PF_UNPOISON(freed->base, freed->bytes);
	munmap(freed->base, freed->bytes);
	freed->base = NULL;
}

/* The pages go back to the host at once; the addresses stay taken, and fault */
static void pf_memory_unmap(struct pf_stores *stores, struct pf_memory *m)
{
	struct pf_freed *freed = &stores->freed[stores->freed_next++ % PF_FREED_KEPT];
	pf_freed_unmap(freed);
	freed->base = m->base - PF_GUARD_BYTES;
	freed->bytes = m->room + 2 * PF_GUARD_BYTES;
	mmap(m->base, m->room, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
	PF_POISON(freed->base, freed->bytes);
}

void pf_memory_end(struct pf_stores *stores)
{
	for (unsigned i = 0; i < PF_FREED_KEPT; i++)
		pf_freed_unmap(&stores->freed[i]);
}

/* ---- buffers ---- */
static struct pf_memory *pf_memory_new(enum pf_bank bank, uint64_t bytes)
{
	uint64_t words = round_up(bytes, 64 * PF_BEAT_BYTES) / (64 * PF_BEAT_BYTES);
	struct pf_memory *m = calloc(1, sizeof *m);
	if (!m)
		return NULL;
	m->bytes = bytes;
	m->room = round_up(bytes, PF_GUARD_BYTES);
	m->bank = bank;
	m->written = calloc(words, sizeof *m->written);
	if (m->written && pf_memory_map(m) == 0)
		return m;
	free(m->written);
	free(m);
	return NULL;
}

int pf_memory_alloc(struct pf_stores *stores, enum pf_bank bank, uint64_t bytes, struct pf_memory **memory,
                    struct pf_error *error)
{
	int code = pf_store_take(stores, &stores->store[bank], bytes, error);
	if (code)
		return code;
	*memory = pf_memory_new(bank, bytes);
	if (*memory)
		return 0;
	pf_store_return(stores, bank, bytes);
	return pf_fail(error, -ENOMEM, "the host has no room to simulate %" PRIu64 " bytes of card memory", bytes);
}

void pf_memory_free(struct pf_stores *stores, struct pf_memory *m)
{
	pf_store_return(stores, m->bank, m->bytes);
	pf_memory_unmap(stores, m);
	free(m->written);
	free(m);
}

void *pf_memory_at(const struct pf_memory *memory, uint64_t offset)
{
	return memory->base + offset;
}

/* ---- what was written: words of 64 beats; `mask` are the beats of word w inside [first, last] ---- */
static uint64_t pf_beats_mask(uint64_t word, uint64_t first, uint64_t last)
{
	uint64_t mask = ~(uint64_t)0;
	if (word == first / 64)
		mask &= ~(uint64_t)0 << first % 64;
	if (word == last / 64)
		mask &= ~(uint64_t)0 >> (63 - last % 64);
	return mask;
}

void pf_memory_mark(struct pf_memory *memory, uint64_t offset, uint64_t bytes)
{
	uint64_t first = offset / PF_BEAT_BYTES, last = (offset + bytes - 1) / PF_BEAT_BYTES;
	for (uint64_t word = first / 64; bytes && word <= last / 64; word++)
		atomic_fetch_or_explicit(&memory->written[word], pf_beats_mask(word, first, last),
		                         memory_order_relaxed);
}

static unsigned lowest_bit(uint64_t bits)
{
	unsigned n = 0;
	while (!(bits >> n & 1))
		n++;
	return n;
}

uint64_t pf_memory_unwritten(const struct pf_memory *memory, uint64_t offset, uint64_t bytes)
{
	uint64_t first = offset / PF_BEAT_BYTES, last = (offset + bytes - 1) / PF_BEAT_BYTES;
	for (uint64_t word = first / 64; bytes && word <= last / 64; word++) {
		uint64_t missing = ~atomic_load_explicit(&memory->written[word], memory_order_relaxed) &
		                   pf_beats_mask(word, first, last);
		if (missing) {
			uint64_t at = (word * 64 + lowest_bit(missing)) * PF_BEAT_BYTES;
			return at > offset ? at : offset;
		}
	}
	return UINT64_MAX;
}
