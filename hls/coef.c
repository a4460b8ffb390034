/* coef: c[t] = -grad * (t < split ? 1 : tail) for the tokens of each span, 0 for tokens of none.
 *
 * First everything is written 0, then the spans in their order (of overlapping spans the last one counts). What of a
 * span lies beyond the rows is left out. Values below 2^-126 are 0. Two write loops, no recurrence: II = 1. */
#include "prefpga/internal/abi.h"
#include "prefpga/internal/kernels.h"
#include "prefpga/internal/kmath.h"
PF_KERNELS(PF_PROTOTYPE)

/* To fp32; below 2^-126 zero, whether or not conversions flush */
static inline float pf_coefficient(double g)
{
	double a = g < 0.0 ? -g : g;
	return a < 0x1p-126 ? 0.0f : (float)g;
}

void PF_KERNEL_NAME(coef)(const struct pf_item_out *item, const struct pf_span *span, float *out, uint32_t rows,
                          uint32_t seqs, float tail)
{
#pragma HLS INTERFACE mode=m_axi port=item bundle=gmem0 offset=slave
#pragma HLS INTERFACE mode=m_axi port=span bundle=gmem1 offset=slave
#pragma HLS INTERFACE mode=m_axi port=out bundle=gmem2 offset=slave
#pragma HLS INTERFACE mode=s_axilite port=item bundle=control
#pragma HLS INTERFACE mode=s_axilite port=span bundle=control
#pragma HLS INTERFACE mode=s_axilite port=out bundle=control
#pragma HLS INTERFACE mode=s_axilite port=rows bundle=control
#pragma HLS INTERFACE mode=s_axilite port=seqs bundle=control
#pragma HLS INTERFACE mode=s_axilite port=tail bundle=control
#pragma HLS INTERFACE mode=s_axilite port=return bundle=control
zero:
	for (uint32_t t = 0; t < rows; t++) {
#pragma HLS PIPELINE II=1
#pragma HLS LOOP_TRIPCOUNT min=1 max=1048576
		out[t] = 0.0f;
	}
sequences:
	for (uint32_t q = 0; q < seqs; q++) {
#pragma HLS LOOP_TRIPCOUNT min=1 max=65536
		const struct pf_span at = span[q];
		const double grad = item[q].grad;
		const float head = pf_coefficient(-grad), rest = pf_coefficient(-grad * (double)tail);
		const uint32_t end = at.end < rows ? at.end : rows;
tokens:
		for (uint32_t t = at.begin; t < end; t++) {
#pragma HLS PIPELINE II=1
#pragma HLS LOOP_TRIPCOUNT min=1 max=65536
			out[t] = t < at.split ? head : rest;
		}
	}
}
