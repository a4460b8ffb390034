/* Buffers of backend xrt: allocation in the banks that an argument reaches, the pool, copies. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "xrt_card.h"

/* Asks XRT for a buffer and its mapping; 0: there is none. A bank of host memory wants a flag of its own */
static int acquire(const struct pf_xrt_card *card, struct pf_memory *memory)
{
	xrtBufferFlags flags = pf_image_group_in_host(card->image, memory->group) ? XRT_BO_FLAGS_HOST_ONLY
	                                                                           : XRT_BO_FLAGS_NONE;
	memory->buffer = pf_xrt.xrtBOAlloc(card->device, memory->bytes, flags, (xrtMemoryGroup)memory->group);
	memory->host = memory->buffer ? pf_xrt.xrtBOMap(memory->buffer) : NULL;
	if (memory->buffer && !memory->host)
		pf_xrt.xrtBOFree(memory->buffer);
	return memory->host != NULL;
}

static int refused(const struct pf_xrt_card *card, int group, uint64_t bytes, struct pf_error *error)
{
	char what[96];
	snprintf(what, sizeof what, "cannot allocate %llu bytes", (unsigned long long)bytes);
	return pf_xrt_fail(error, PF_E_MEMORY, what, pf_image_group_in_host(card->image, group)
	                   ? "; host memory is enabled by `xrt-smi configure --host-mem`" : "");
}

void pf_xrt_pool_empty(struct pf_xrt_card *card, int keep)
{
	for (struct pf_memory *memory; (memory = pf_xrt_pool_any(&card->pool)); free(memory))
		if (!keep)
			pf_xrt.xrtBOFree(memory->buffer);
}

int pf_xrt_alloc(void *opaque, enum pf_kernel kernel, unsigned arg, uint64_t bytes, struct pf_memory **memory,
                 struct pf_error *error)
{
	struct pf_xrt_card *card = opaque;
	int group = pf_xrt.xrtKernelArgGroupId(card->cu[kernel][0].kernel, (int)arg);
	uint64_t rounded = pf_xrt_pool_round(bytes);
	if ((*memory = pf_xrt_pool_take(&card->pool, rounded, group)))
		return 0;
	struct pf_memory *made = calloc(1, sizeof *made);
	if (!made)
		return pf_fail(error, -ENOMEM, "out of memory");
	made->bytes = rounded;
	made->group = group;
	if (group >= 0 && !acquire(card, made)) {
		pf_xrt_pool_empty(card, 0);
		acquire(card, made);
	}
	if (made->host) {
		*memory = made;
		return 0;
	}
	free(made);
	return refused(card, group, bytes, error);
}

int pf_xrt_alloc_host(void *opaque, enum pf_kernel kernel, unsigned arg, void *host, uint64_t bytes,
                      struct pf_memory **memory, struct pf_error *error)
{
	struct pf_xrt_card *card = opaque;
	int group = pf_xrt.xrtKernelArgGroupId(card->cu[kernel][0].kernel, (int)arg);
	struct pf_memory *made = calloc(1, sizeof *made);
	if (!made)
		return pf_fail(error, -ENOMEM, "out of memory");
	*made = (struct pf_memory) { .host = host, .bytes = bytes, .group = group, .of_caller = 1 };
	made->buffer = group < 0 ? NULL : pf_xrt.xrtBOAllocUserPtr(card->device, host, bytes, XRT_BO_FLAGS_NONE,
	                                                           (xrtMemoryGroup)group);
	if (made->buffer) {
		*memory = made;
		return 0;
	}
	free(made);
	return refused(card, group, bytes, error);
}

/* A lost unit may still touch the buffer: nobody else may get it, not even from XRT */
void pf_xrt_free(void *opaque, struct pf_memory *memory)
{
	struct pf_xrt_card *card = opaque;
	if (pf_xrt_lost(card))
		free(memory);
	else if (memory->of_caller) {
		pf_xrt.xrtBOFree(memory->buffer);
		free(memory);
	} else
		pf_xrt_pool_put(&card->pool, memory);
}

/* The caller's memory may be the buffer's own host side, see alloc_host */
static void move(uint8_t *to, const uint8_t *from, uint64_t bytes)
{
	if (to != from)
		memcpy(to, from, bytes);
}

static int sync_part(const struct pf_memory *memory, enum pf_direction direction, uint64_t offset, uint8_t *host,
                     uint64_t bytes)
{
	if (direction == PF_TO_DEVICE) {
		move(memory->host + offset, host, bytes);
		return pf_xrt.xrtBOSync(memory->buffer, XCL_BO_SYNC_BO_TO_DEVICE, bytes, offset);
	}
	if (pf_xrt.xrtBOSync(memory->buffer, XCL_BO_SYNC_BO_FROM_DEVICE, bytes, offset) != 0)
		return -1;
	move(host, memory->host + offset, bytes);
	return 0;
}

int pf_xrt_copy(void *opaque, enum pf_direction direction, struct pf_memory *memory, uint64_t offset, void *host,
                uint64_t bytes, struct pf_error *error)
{
	(void)opaque;
	for (uint64_t done = 0, part; done < bytes; done += part) {
		part = bytes - done < PF_XRT_SYNC_BYTES_MAX ? bytes - done : PF_XRT_SYNC_BYTES_MAX;
		if (sync_part(memory, direction, offset + done, (uint8_t *)host + done, part) != 0)
			return pf_xrt_fail(error, PF_E_TRANSFER, "copy failed", PF_XRT_RESET);
	}
	return 0;
}
