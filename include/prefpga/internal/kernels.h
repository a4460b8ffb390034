/* kernels.h: the C expansions of kernels.def that everybody needs: kernel numbers, argument indices, prototypes. */
#ifndef PF_INTERNAL_KERNELS_H
#define PF_INTERNAL_KERNELS_H
#include "abi.h"
#include "kernels.def"

#define PF_COMMA() ,
#define PF_NOTHING()

/* PF_KERNEL_logprob, ... */
enum pf_kernel {
#define PF_KERNEL_ENUM(kernel, file, state, lanes, brief) PF_KERNEL_##kernel,
	PF_KERNELS(PF_KERNEL_ENUM)
#undef PF_KERNEL_ENUM
	PF_KERNEL_COUNT
};

/* PF_ARG_logprob_z, ...: argument indices. A tensor on several ports owns the indices name .. name_last */
#define PF_ARG_ENUM(kernel, name, dir, ctype, ports, bundle, bank, count) \
	PF_ARG_##kernel##_##name, \
	PF_ARG_##kernel##_##name##_last = PF_ARG_##kernel##_##name + (ports > 1 ? ports - 1 : 0)
#define PF_KERNEL_ARGS(kernel, file, state, lanes, brief) \
	enum { PF_ARGS_##kernel(PF_ARG_ENUM, PF_COMMA), PF_ARG_##kernel##_COUNT };
PF_KERNELS(PF_KERNEL_ARGS)
#undef PF_KERNEL_ARGS
/* PF_SCALARS_logprob, ...: how many of a kernel's arguments are scalars */
#define PF_IS_VAL_IN    0
#define PF_IS_VAL_OUT   0
#define PF_IS_VAL_INOUT 0
#define PF_IS_VAL_VAL   1
#define PF_ADD_SCALAR(kernel, name, dir, ctype, ports, bundle, bank, count) + PF_IS_VAL_##dir
#define PF_KERNEL_SCALARS(kernel, file, state, lanes, brief) \
	enum { PF_SCALARS_##kernel = 0 PF_ARGS_##kernel(PF_ADD_SCALAR, PF_NOTHING) };
PF_KERNELS(PF_KERNEL_SCALARS)
#undef PF_KERNEL_SCALARS
#undef PF_ADD_SCALAR
#define PF_ARGS_MAX 48u                /* arguments of the widest kernel, ports counted; checked in driver/kernels.c */

/* Prototypes of the built kernels. PF_KERNEL_NAME adds the suffix of an ISA build in the simulator; on a card: none */
#ifndef PF_KERNEL_SUFFIX
#define PF_KERNEL_SUFFIX
#endif
#define PF_PASTE3_(a, b, c) a##b##c
#define PF_PASTE3(a, b, c) PF_PASTE3_(a, b, c)
#define PF_KERNEL_NAME(kernel) PF_PASTE3(pf_k_, kernel, PF_KERNEL_SUFFIX)

#define PF_PARAM_IN(ctype, name)    const ctype *name
#define PF_PARAM_OUT(ctype, name)   ctype *name
#define PF_PARAM_INOUT(ctype, name) ctype *name
#define PF_PARAM_VAL(ctype, name)   ctype name
#define PF_PARAM_PORTS_0(dir, ctype, name)  PF_PARAM_##dir(ctype, name)
#define PF_PARAM_PORTS_1(dir, ctype, name)  PF_PARAM_##dir(ctype, name)
#define PF_PARAM_PORTS_4(dir, ctype, name)  PF_PARAM_##dir(ctype, name##0), PF_PARAM_##dir(ctype, name##1), \
                                            PF_PARAM_##dir(ctype, name##2), PF_PARAM_##dir(ctype, name##3)
#define PF_PARAM(kernel, name, dir, ctype, ports, bundle, bank, count) PF_PARAM_PORTS_##ports(dir, ctype, name)
#define PF_PROTOTYPE_BUILT(kernel) void PF_KERNEL_NAME(kernel)(PF_ARGS_##kernel(PF_PARAM, PF_COMMA));
#define PF_PROTOTYPE_RESERVED(kernel)
#define PF_PROTOTYPE(kernel, file, state, lanes, brief) PF_PROTOTYPE_##state(kernel)
#endif
