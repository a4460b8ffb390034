/* A kernel library for images of tests: coef never returns. */
#include <stddef.h>
#include <unistd.h>
#include "prefpga/error.h"
#include "sim/xrtmodel/library.h"

static void never(void *const *at, const uint32_t *value)
{
	(void)at;
	(void)value;
	for (;;)
		pause();
}

PF_API const struct pf_level *pf_emulated_kernels(unsigned kernels);

const struct pf_level *pf_emulated_kernels(unsigned kernels)
{
	static const struct pf_level hanging = { "hanging", { [PF_KERNEL_coef] = never } };
	return kernels == PF_KERNEL_COUNT ? &hanging : NULL;
}
