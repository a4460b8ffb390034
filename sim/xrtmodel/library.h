/* library.h: the one symbol of an emulated image's kernel library. */
#ifndef PF_XRTMODEL_LIBRARY_H
#define PF_XRTMODEL_LIBRARY_H
#include "sim/level.h"

#define PF_EMULATED_KERNELS "pf_emulated_kernels"
/* The kernels for this processor, or NULL if the caller's table has another number of kernels */
typedef const struct pf_level *(*pf_emulated_kernels_fn)(unsigned kernels);
#endif
