#include "xrt_pool.h"
#include <stddef.h>

enum { PAGE = 4096 };

uint64_t pf_xrt_pool_round(uint64_t bytes)
{
	uint64_t step = PAGE;
	while (step < bytes / 16)              /* so that 8 <= bytes / step < 16, from 64 KiB on */
		step *= 2;
	return bytes > UINT64_MAX - step ? bytes : (bytes + step - 1) / step * step;
}

struct pf_memory *pf_xrt_pool_take(struct pf_memory **pool, uint64_t bytes, int group)
{
	for (struct pf_memory **at = pool; *at; at = &(*at)->next) {
		struct pf_memory *found = *at;
		if (found->bytes == bytes && found->group == group) {
			*at = found->next;
			return found;
		}
	}
	return NULL;
}

struct pf_memory *pf_xrt_pool_any(struct pf_memory **pool)
{
	struct pf_memory *first = *pool;
	if (first)
		*pool = first->next;
	return first;
}

void pf_xrt_pool_put(struct pf_memory **pool, struct pf_memory *memory)
{
	memory->next = *pool;
	*pool = memory;
}
