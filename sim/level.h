/* level.h: the kernels built for one instruction set, and which of them this processor has.
 *
 * The same hls/ sources are compiled once per level (sim/CMakeLists.txt); every level gives the same bits, by design
 * and by test. The build lists its levels, weakest first, in levels.def: PF_LEVEL(v1) PF_LEVEL(v3) PF_LEVEL(v4), or
 * PF_LEVEL(base) on processors without levels. Thread-safe: constant data. */
#ifndef PF_SIM_LEVEL_H
#define PF_SIM_LEVEL_H
#include "prefpga/internal/kernels.h"

struct pf_level {
	const char *name;              /* "v4" */
	/* Calls of the built kernels, NULL for reserved ones. at[i]: where argument i lies; value[i]: bits of a
	 * scalar */
	void      (*call[PF_KERNEL_COUNT])(void *const *at, const uint32_t *value);
};

/* The level called `name`, or the strongest that works here if name is "". NULL: unknown. *able: this processor has
 * it */
const struct pf_level *pf_level_find(const char *name, int *able);
/* Level number i, NULL past the last */
const struct pf_level *pf_level_at(unsigned i);
#endif
