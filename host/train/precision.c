#include "precision.h"
#include <string.h>
#include "../model/mxint8.h"
#include "prefpga/internal/kernels.h"
#include "prefpga/internal/kmath.h"

#define KERNELS(forward, backward) \
	PF_KERNEL_##forward, PF_KERNEL_##backward, #forward, #backward, #forward " " #backward
static const struct {
	const char *name;
	uint32_t    lanes;
	int         forward, backward;
	const char *forward_name, *backward_name, *kernels;
} forms[PF_PRECISIONS] = {
	[PF_PRECISION_FP32] = { "fp32", 16, KERNELS(linear_logprob, linear_grad) },
	[PF_PRECISION_BF16] = { "bf16", 32, KERNELS(linear_logprob_bf16, linear_grad_bf16) },
	[PF_PRECISION_MXINT8] = { "mxint8", 64, KERNELS(linear_logprob_mxint8, linear_grad_bf16) },
};

const char *pf_precision_name(enum pf_precision precision)
{
	return forms[precision].name;
}

int pf_precision_find(const char *name)
{
	for (int p = 0; name && p < PF_PRECISIONS; p++)
		if (strcmp(forms[p].name, name) == 0)
			return p;
	return -1;
}

enum pf_precision pf_precision_back(enum pf_precision precision)
{
	return precision == PF_PRECISION_MXINT8 ? PF_PRECISION_BF16 : precision;
}

int pf_precision_forward_kernel(enum pf_precision precision)
{
	return forms[precision].forward;
}

int pf_precision_backward_kernel(enum pf_precision precision)
{
	return forms[precision].backward;
}

const char *pf_precision_kernels(enum pf_precision precision)
{
	return forms[precision].kernels;
}

const char *pf_precision_forward_name(enum pf_precision precision)
{
	return forms[precision].forward_name;
}

const char *pf_precision_backward_name(enum pf_precision precision)
{
	return forms[precision].backward_name;
}

uint32_t pf_precision_depth(enum pf_precision precision, uint32_t dim)
{
	return (dim + forms[precision].lanes - 1) / forms[precision].lanes;
}

uint32_t pf_precision_pitch(enum pf_precision precision, uint32_t dim)
{
	return pf_precision_depth(precision, dim) * forms[precision].lanes;
}

uint64_t pf_precision_row_bytes(enum pf_precision precision, uint32_t dim)
{
	return precision == PF_PRECISION_MXINT8 ? pf_mx_row_bytes(dim)
	                                        : (uint64_t)pf_precision_depth(precision, dim) * PF_BEAT_BYTES;
}

int pf_precision_as_is(enum pf_precision precision, uint32_t dim)
{
	return precision == PF_PRECISION_FP32 && pf_precision_pitch(precision, dim) == dim;
}

static void round_row(const float *from, uint32_t dim, uint16_t *to)
{
	for (uint32_t d = 0; d < dim; d++)
		to[d] = pf_bf16_any(from[d]);
}

uint64_t pf_precision_pack(enum pf_precision precision, const float *from, uint64_t rows, uint32_t dim, void *to)
{
	const uint64_t bytes = pf_precision_row_bytes(precision, dim);
	const uint64_t used = (uint64_t)dim * (precision == PF_PRECISION_FP32 ? sizeof(float) : sizeof(uint16_t));
	if (precision == PF_PRECISION_MXINT8)
		return pf_mx_pack(from, rows, dim, to);
	for (uint64_t r = 0; r < rows; r++) {
		char *row = (char *)to + r * bytes;
		if (precision == PF_PRECISION_FP32)
			memcpy(row, from + r * dim, used);
		else
			round_row(from + r * dim, dim, (uint16_t *)(void *)row);
		memset(row + used, 0, bytes - used);
	}
	return rows;
}

void pf_precision_unpack(enum pf_precision precision, const void *from, uint64_t rows, uint32_t dim, float *to)
{
	const uint64_t bytes = pf_precision_row_bytes(precision, dim);
	for (uint64_t r = 0; r < rows; r++) {
		const char *row = (const char *)from + r * bytes;
		if (precision == PF_PRECISION_FP32)
			memcpy(to + r * dim, row, dim * sizeof *to);
		for (uint32_t d = 0; precision == PF_PRECISION_BF16 && d < dim; d++)
			to[r * dim + d] = pf_from_bf16(((const uint16_t *)(const void *)row)[d]);
	}
}
