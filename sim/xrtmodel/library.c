/* The kernel library inside an emulated image: the simulator's kernels behind one symbol. */
#include <stddef.h>
#include "library.h"
#include "prefpga/error.h"

PF_API const struct pf_level *pf_emulated_kernels(unsigned kernels);

const struct pf_level *pf_emulated_kernels(unsigned kernels)
{
	int able;
	return kernels == PF_KERNEL_COUNT ? pf_level_find("", &able) : NULL;
}
