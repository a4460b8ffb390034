#include <math.h>
#include <string.h>
#include "cpu.h"

static float coefficient(double c)
{
	return fabs(c) < 0x1p-126 ? 0 : (float)c;
}

void pf_cpu_coef(const struct pf_item_out *item, const struct pf_span *span, float *out, uint32_t rows, uint32_t seqs,
                 float tail)
{
	memset(out, 0, (size_t)rows * sizeof *out);
	for (uint32_t b = 0; b < seqs; b++) {
		const uint32_t end = span[b].end < rows ? span[b].end : rows;
		const float head = coefficient(-item[b].grad), rest = coefficient(-item[b].grad * (double)tail);
		for (uint32_t t = span[b].begin; t < end; t++)
			out[t] = t < span[b].split ? head : rest;
	}
}
