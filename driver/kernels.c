/* The table kernels.def as data: argument rows (port arrays expanded), element counts, signatures, hashes. */
#include <string.h>
#include "fnv.h"
#include "prefpga/internal/backend.h"

/* ---- bundles: a tensor on several ports owns as many consecutive ones ---- */
#define PF_BUNDLES(B) \
	B(gmem0) B(gmem1) B(gmem2) B(gmem3) B(gmem4) B(gmem5) B(gmem6) B(gmem7) B(gmem8) B(gmem9) B(gmem10) B(gmem11) \
	B(gmem12) B(gmem13) B(gmem14) B(gmem15) B(control)
#define PF_BUNDLE_ENUM(name) PF_BUNDLE_##name,
#define PF_BUNDLE_TEXT(name) #name,
enum { PF_BUNDLES(PF_BUNDLE_ENUM) };
static const char bundles[][8] = { PF_BUNDLES(PF_BUNDLE_TEXT) };

/* ---- argument rows ---- */
#define PF_IS_FLOAT_uint32_t 0
#define PF_IS_FLOAT_float 1
#define PF_PORT(label, dir, ctype, bundle, port, bank, count) \
	{ label, #ctype, bundles[PF_BUNDLE_##bundle + port], #count, PF_DIR_##dir, PF_BANK_##bank, sizeof(ctype), 0 }
#define PF_PORTS_0(name, dir, ctype, bundle, bank, count) \
	{ #name, #ctype, #bundle, #count, PF_DIR_##dir, PF_BANK_##bank, sizeof(ctype), PF_IS_FLOAT_##ctype }
#define PF_PORTS_1(name, dir, ctype, bundle, bank, count) \
	PF_PORT(#name, dir, ctype, bundle, 0, bank, count)
#define PF_PORTS_4(name, dir, ctype, bundle, bank, count) \
	PF_PORT(#name "0", dir, ctype, bundle, 0, bank, count), \
	PF_PORT(#name "1", dir, ctype, bundle, 1, bank, count), \
	PF_PORT(#name "2", dir, ctype, bundle, 2, bank, count), \
	PF_PORT(#name "3", dir, ctype, bundle, 3, bank, count)
#define PF_ARG_ROW(kernel, name, dir, ctype, ports, bundle, bank, count) \
	PF_PORTS_##ports(name, dir, ctype, bundle, bank, count)
#define PF_ARG_ROWS(kernel, file, state, lanes, brief) \
	static const struct pf_arg_row rows_##kernel[] = { PF_ARGS_##kernel(PF_ARG_ROW, PF_COMMA) };
PF_KERNELS(PF_ARG_ROWS)

/* ---- element counts: every scalar of the kernel becomes a variable, every tensor a case; `port` counts from 0 ---- */
#define PF_SCALAR_IN(kernel, name)
#define PF_SCALAR_OUT(kernel, name)
#define PF_SCALAR_INOUT(kernel, name)
#define PF_SCALAR_VAL(kernel, name) const uint32_t name = value[PF_ARG_##kernel##_##name]; (void)name;
#define PF_SCALAR(kernel, name, dir, ctype, ports, bundle, bank, count) PF_SCALAR_##dir(kernel, name)
#define PF_COUNT(kernel, name, dir, ctype, ports, bundle, bank, count) \
	if (arg <= PF_ARG_##kernel##_##name##_last) { \
		const uint32_t port = arg - PF_ARG_##kernel##_##name; \
		(void)port; \
		return (uint64_t)(count); \
	}
#define PF_ELEMENTS(kernel, file, state, lanes, brief) \
	static uint64_t elements_##kernel(unsigned arg, const uint32_t *value) \
	{ \
		PF_ARGS_##kernel(PF_SCALAR, PF_NOTHING) \
		PF_ARGS_##kernel(PF_COUNT, PF_NOTHING) \
		return 0; \
	}
PF_KERNELS(PF_ELEMENTS)

/* ---- kernels ---- */
#define PF_STATE_BUILT 1
#define PF_STATE_RESERVED 0
#define PF_LANES_none 0
#define PF_LANES_f32  16
#define PF_LANES_bf16 32
#define PF_LANES_mxint8 64
#define PF_SIGNATURE(kernel, name, dir, ctype, ports, bundle, bank, count) \
	#dir " " #ctype " " #name "[" #count "] " #ports " " #bundle " " #bank ";"
#define PF_KERNEL_ROW(kernel, file, state, lanes, brief) \
	{ #kernel, #file, brief, PF_STATE_##state, PF_ARG_##kernel##_COUNT, PF_LANES_##lanes, rows_##kernel, \
	  #kernel ":" PF_ARGS_##kernel(PF_SIGNATURE, PF_NOTHING), elements_##kernel },
const struct pf_kernel_row pf_kernel_rows[PF_KERNEL_COUNT] = { PF_KERNELS(PF_KERNEL_ROW) };

/* ---- what must hold of the table ---- */
#define PF_CHECK_SIZE(kernel, name, dir, ctype, ports, bundle, bank, count) \
	_Static_assert(PF_BEAT_BYTES % sizeof(ctype) == 0 || sizeof(ctype) % PF_BEAT_BYTES == 0, \
	               #kernel "." #name ": elements and beats do not divide each other"); \
	_Static_assert((PF_DIR_##dir == PF_DIR_VAL) == (ports == 0), #kernel "." #name ": ports"); \
	_Static_assert((PF_DIR_##dir == PF_DIR_VAL) == (PF_BUNDLE_##bundle == PF_BUNDLE_control), \
	               #kernel "." #name ": scalars live in bundle control"); \
	_Static_assert((int)PF_BUNDLE_##bundle + (ports > 1 ? ports - 1 : 0) <= (int)PF_BUNDLE_control, \
	               #kernel "." #name ": more than 16 bundles");
#define PF_CHECK(kernel, file, state, lanes, brief) \
	_Static_assert(PF_ARG_##kernel##_COUNT <= PF_ARGS_MAX, #kernel ": raise PF_ARGS_MAX"); \
	_Static_assert(sizeof rows_##kernel / sizeof *rows_##kernel == PF_ARG_##kernel##_COUNT, #kernel ": rows"); \
	PF_ARGS_##kernel(PF_CHECK_SIZE, PF_NOTHING)
PF_KERNELS(PF_CHECK)

int pf_kernel_find(const char *name)
{
	for (int k = 0; name && k < PF_KERNEL_COUNT; k++)
		if (strcmp(pf_kernel_rows[k].name, name) == 0)
			return k;
	return -1;
}

uint64_t pf_kernel_set(const char *names)
{
	uint64_t set = 0;
	for (size_t length; *(names += strspn(names, " ")); names += length) {
		length = strcspn(names, " ");
		for (int k = 0; k < PF_KERNEL_COUNT; k++)
			if (strlen(pf_kernel_rows[k].name) == length
			    && memcmp(pf_kernel_rows[k].name, names, length) == 0)
				set |= UINT64_C(1) << k;
	}
	return set;
}

uint64_t pf_kernel_passes(enum pf_kernel kernel, unsigned arg, const uint32_t *value)
{
	const struct pf_kernel_row *row = &pf_kernel_rows[kernel];
	for (unsigned i = 0; row->arg[arg].bank == PF_BANK_WEIGHT && i < row->count; i++)
		if (strcmp(row->arg[i].name, "rows") == 0 && value[i] > PF_TOKENS)
			return ((uint64_t)value[i] + PF_TOKENS - 1) / PF_TOKENS;
	return 1;
}

uint64_t pf_kernel_hash(enum pf_kernel kernel)
{
	const struct pf_kernel_row *row = &pf_kernel_rows[kernel];
	uint64_t hash = PF_FNV_BASIS;
	for (const char *at = row->signature; *at; at++)
		if (*at != ' ')
			hash = pf_fnv1a(hash, (uint8_t)*at);
	for (unsigned i = 0; i < row->count; i++)
		for (unsigned shift = 0; shift < 32; shift += 8)
			hash = pf_fnv1a(hash, (uint8_t)(row->arg[i].size >> shift));
	return hash;
}
