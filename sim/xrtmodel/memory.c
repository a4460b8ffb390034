#define _GNU_SOURCE                    /* memfd_create */
#include "memory.h"
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>
#include "prefpga/error.h"

struct allocation { uint64_t address, bytes; int file; };

struct pf_emu_memory {
	uint8_t           *base;
	uint64_t           bytes;
	pthread_mutex_t    lock;               /* guards the list; compute units look into it */
	struct allocation *list;
	size_t             count, size;
};

int pf_emu_memory_open(uint64_t bytes, struct pf_emu_memory **memory)
{
	struct pf_emu_memory *m = calloc(1, sizeof *m);
	if (!m)
		return -ENOMEM;
	m->bytes = bytes;
	m->base = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
	               MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (m->base == MAP_FAILED) {
		int status = -errno;
		free(m);
		return status;
	}
	pthread_mutex_init(&m->lock, NULL);
	*memory = m;
	return 0;
}

void pf_emu_memory_close(struct pf_emu_memory *memory)
{
	for (size_t i = 0; i < memory->count; i++)
		if (memory->list[i].file >= 0)
			close(memory->list[i].file);
	munmap(memory->base, memory->bytes);
	pthread_mutex_destroy(&memory->lock);
	free(memory->list);
	free(memory);
}

static int overlaps(const struct pf_emu_memory *memory, uint64_t address, uint64_t bytes)
{
	for (size_t i = 0; i < memory->count; i++)
		if (address < memory->list[i].address + memory->list[i].bytes
		    && memory->list[i].address < address + bytes)
			return 1;
	return 0;
}

static int remember(struct pf_emu_memory *memory, uint64_t address, uint64_t bytes)
{
	if (overlaps(memory, address, bytes))
		return PF_E_RANGE;
	if (memory->count == memory->size) {
		size_t size = memory->size ? memory->size * 2 : 64;
		struct allocation *list = realloc(memory->list, size * sizeof *list);
		if (!list)
			return -ENOMEM;
		memory->list = list;
		memory->size = size;
	}
	memory->list[memory->count++] = (struct allocation) { address, bytes, -1 };
	return 0;
}

int pf_emu_alloc(struct pf_emu_memory *memory, uint64_t address, uint64_t bytes)
{
	if (!pf_emu_at(memory, address, bytes))
		return PF_E_RANGE;
	pthread_mutex_lock(&memory->lock);
	int status = remember(memory, address, bytes);
	pthread_mutex_unlock(&memory->lock);
	return status;
}

static struct allocation *find(struct pf_emu_memory *memory, uint64_t address)
{
	for (size_t i = 0; i < memory->count; i++)
		if (memory->list[i].address == address)
			return &memory->list[i];
	return NULL;
}

void pf_emu_free(struct pf_emu_memory *memory, uint64_t address)
{
	pthread_mutex_lock(&memory->lock);
	struct allocation *gone = find(memory, address);
	if (gone) {
		if (gone->file >= 0)
			close(gone->file);
		*gone = memory->list[--memory->count];
	}
	pthread_mutex_unlock(&memory->lock);
}

size_t pf_emu_kept(struct pf_emu_memory *memory, uint64_t *bytes)
{
	*bytes = 0;
	pthread_mutex_lock(&memory->lock);
	const size_t count = memory->count;
	for (size_t i = 0; i < count; i++)
		*bytes += memory->list[i].bytes;
	pthread_mutex_unlock(&memory->lock);
	return count;
}

int pf_emu_file(struct pf_emu_memory *memory, uint64_t address, char *path, size_t size)
{
	struct allocation *owner = find(memory, address);
	if (!owner)
		return -ENOENT;
	if (owner->file < 0) {
		owner->file = memfd_create("prefpga-buffer", MFD_CLOEXEC);
		if (owner->file < 0 || ftruncate(owner->file, (off_t)owner->bytes) != 0)
			return -errno;
	}
	snprintf(path, size, "/proc/%ld/fd/%d", (long)getpid(), owner->file);
	return 0;
}

void *pf_emu_at(struct pf_emu_memory *memory, uint64_t address, uint64_t bytes)
{
	if (address > memory->bytes || bytes > memory->bytes - address)
		return NULL;
	return memory->base + address;
}

void *pf_emu_allocated(struct pf_emu_memory *memory, uint64_t address, uint64_t bytes)
{
	void *found = NULL;
	pthread_mutex_lock(&memory->lock);
	for (size_t i = 0; i < memory->count && !found; i++) {
		const struct allocation *a = &memory->list[i];
		if (address >= a->address && address - a->address <= a->bytes
		    && bytes <= a->bytes - (address - a->address))
			found = memory->base + address;
	}
	pthread_mutex_unlock(&memory->lock);
	return found;
}
