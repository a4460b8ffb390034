/* One level: calls of every built kernel, an expansion of kernels.def. Compiled once per level by a file that the build
 * writes, which defines PF_KERNEL_SUFFIX (_v4) and PF_LEVEL_NAME ("v4"). */
#include <string.h>
#include "level.h"
#include "stream.h"

PF_KERNELS(PF_PROTOTYPE)

static inline float pf_value_float(uint32_t bits)
{
	float value;
	memcpy(&value, &bits, sizeof value);
	return value;
}

static inline uint32_t pf_value_uint32_t(uint32_t bits)
{
	return bits;
}

#define PF_PASS_IN(i, ctype)    (const ctype *)at[i]
#define PF_PASS_OUT(i, ctype)   (ctype *)at[i]
#define PF_PASS_INOUT(i, ctype) (ctype *)at[i]
#define PF_PASS_VAL(i, ctype)   pf_value_##ctype(value[i])
#define PF_PASS_PORTS_0(dir, i, ctype) PF_PASS_##dir(i, ctype)
#define PF_PASS_PORTS_1(dir, i, ctype) PF_PASS_##dir(i, ctype)
#define PF_PASS_PORTS_4(dir, i, ctype) PF_PASS_##dir(i, ctype), PF_PASS_##dir(i + 1, ctype), \
                                       PF_PASS_##dir(i + 2, ctype), PF_PASS_##dir(i + 3, ctype)
#define PF_PASS(kernel, name, dir, ctype, ports, bundle, bank, count) \
	PF_PASS_PORTS_##ports(dir, PF_ARG_##kernel##_##name, ctype)
#define PF_CALL_BUILT(kernel) \
	static void call_##kernel(void *const *at, const uint32_t *value) \
	{ \
		(void)value; \
		PF_KERNEL_NAME(kernel)(PF_ARGS_##kernel(PF_PASS, PF_COMMA)); \
		pf_stream_fence(); \
	}
#define PF_CALL_RESERVED(kernel)
#define PF_CALL(kernel, file, state, lanes, brief) PF_CALL_##state(kernel)
PF_KERNELS(PF_CALL)

#define PF_ENTRY_BUILT(kernel) [PF_KERNEL_##kernel] = call_##kernel,
#define PF_ENTRY_RESERVED(kernel)
#define PF_ENTRY(kernel, file, state, lanes, brief) PF_ENTRY_##state(kernel)
extern const struct pf_level PF_PASTE3(pf_level, PF_KERNEL_SUFFIX, );
const struct pf_level PF_PASTE3(pf_level, PF_KERNEL_SUFFIX, ) = { PF_LEVEL_NAME, { PF_KERNELS(PF_ENTRY) } };
