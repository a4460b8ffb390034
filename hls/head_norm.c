/* head_norm: |dW|^2 where dW lies, for clipping by the global norm, to whose other parts the host adds it.
 *
 * Squares of floats are exact in double. A beat's are added as a tree and then to one of 16 sums in turn, which come
 * round in a shift register: an addition has 16 cycles, and its order is part of the result. */
#include "beat.h"
PF_KERNELS(PF_PROTOTYPE)

enum { PF_NORM_SUMS = 16 };

static inline double pf_sum_tree(const double x[PF_NORM_SUMS])
{
	const double a = (x[0] + x[1]) + (x[2] + x[3]), b = (x[4] + x[5]) + (x[6] + x[7]);
	const double c = (x[8] + x[9]) + (x[10] + x[11]), d = (x[12] + x[13]) + (x[14] + x[15]);
	return (a + b) + (c + d);
}

static double pf_port_square(const struct PF_BEAT *dweight, uint64_t beats)
{
	double sum[PF_NORM_SUMS] = { 0.0 };
#pragma HLS ARRAY_PARTITION variable=sum complete
squares:
	for (uint64_t b = 0; b < beats; b++) {
#pragma HLS PIPELINE II=1
#pragma HLS LOOP_TRIPCOUNT min=1 max=33554432
		const struct PF_BEAT w = dweight[b];
		double square[PF_NORM_SUMS];
#pragma HLS ARRAY_PARTITION variable=square complete
lanes:
		for (uint32_t l = 0; l < PF_BEAT_LANES; l++) {
			const double g = (double)pf_same(pf_lane_load(w.lane[l]));
			square[l] = g * g;
		}
		const double next = sum[PF_NORM_SUMS - 1] + pf_sum_tree(square);
turn:
		for (uint32_t i = PF_NORM_SUMS - 1; i > 0; i--)
			sum[i] = sum[i - 1];
		sum[0] = next;
	}
	return pf_sum_tree(sum);
}

void PF_KERNEL_NAME(head_norm)(const struct PF_BEAT *dweight0, const struct PF_BEAT *dweight1,
                               const struct PF_BEAT *dweight2, const struct PF_BEAT *dweight3, double *square,
                               uint32_t vocab, uint32_t depth)
{
#pragma HLS INTERFACE mode=m_axi port=dweight0 bundle=gmem0 offset=slave
#pragma HLS INTERFACE mode=m_axi port=dweight1 bundle=gmem0 offset=slave
#pragma HLS INTERFACE mode=m_axi port=dweight2 bundle=gmem0 offset=slave
#pragma HLS INTERFACE mode=m_axi port=dweight3 bundle=gmem0 offset=slave
#pragma HLS INTERFACE mode=m_axi port=square bundle=gmem1 offset=slave
#pragma HLS INTERFACE mode=s_axilite port=dweight0 bundle=control
#pragma HLS INTERFACE mode=s_axilite port=dweight1 bundle=control
#pragma HLS INTERFACE mode=s_axilite port=dweight2 bundle=control
#pragma HLS INTERFACE mode=s_axilite port=dweight3 bundle=control
#pragma HLS INTERFACE mode=s_axilite port=square bundle=control
#pragma HLS INTERFACE mode=s_axilite port=vocab bundle=control
#pragma HLS INTERFACE mode=s_axilite port=depth bundle=control
#pragma HLS INTERFACE mode=s_axilite port=return bundle=control
	square[0] = pf_port_square(dweight0, PF_PORT_ROWS(vocab, 0) * depth);
	square[1] = pf_port_square(dweight1, PF_PORT_ROWS(vocab, 1) * depth);
	square[2] = pf_port_square(dweight2, PF_PORT_ROWS(vocab, 2) * depth);
	square[3] = pf_port_square(dweight3, PF_PORT_ROWS(vocab, 3) * depth);
}
