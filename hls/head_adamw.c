/* head_adamw: one step of AdamW over W[V, D] and its moments where they lie, from the dW that linear_grad left there.
 *
 * Part by part and beat by beat: four reads and three writes of one AXI port a beat, hence II = 4. The square root is
 * an integer recurrence, 25 steps that a card pipelines without a DSP; with it every operation is correctly rounded, so
 * that the result is that of host/train/adamw.c (kernels.def has the formula and says what subnormal numbers do). */
#include "beat.h"
PF_KERNELS(PF_PROTOTYPE)

struct pf_adamw_factors { float beta1, beta2, rest1, rest2, grad, rate, root, epsilon, keep; };

/* Square roots, to nearest; of zeros and subnormals 0, of infinity infinity, else NaN. A root of 25 bits decides all
 * roundings: it is never a tie, whose square would have 49 bits or more */
static inline void pf_beat_sqrt(const float x[PF_BEAT_LANES], float y[PF_BEAT_LANES])
{
	uint32_t root[PF_BEAT_LANES], rest[PF_BEAT_LANES], left[PF_BEAT_LANES];
#pragma HLS ARRAY_PARTITION variable=root complete
#pragma HLS ARRAY_PARTITION variable=rest complete
#pragma HLS ARRAY_PARTITION variable=left complete
begin:
	for (uint32_t l = 0; l < PF_BEAT_LANES; l++) {
		const uint32_t b = pf_bits(x[l]), fraction = (b & 0x7fffffu) | 0x800000u;
		left[l] = (b >> 23 & 1u ? fraction : fraction << 1) << 7;      /* 26 bits, the pairs from the top */
		root[l] = rest[l] = 0;
	}
steps:
	for (uint32_t i = 0; i < 25; i++) {
lanes:
		for (uint32_t l = 0; l < PF_BEAT_LANES; l++) {
			const uint32_t more = rest[l] << 2 | left[l] >> 30, trial = root[l] << 2 | 1u;
			const uint32_t fits = more >= trial;
			rest[l] = fits ? more - trial : more;
			root[l] = root[l] << 1 | fits;
			left[l] <<= 2;
		}
	}
end:
	for (uint32_t l = 0; l < PF_BEAT_LANES; l++) {
		const uint32_t b = pf_bits(x[l]), exponent = b >> 23 & 255u;
		const uint32_t fraction = ((root[l] + 1u) >> 1) - 0x800000u;
		const uint32_t number = ((exponent + 127u) >> 1 << 23) + fraction;
		const uint32_t other = exponent == 0 ? b & PF_F32_SIGN : b == PF_F32_INF ? b : PF_F32_NAN;
		y[l] = pf_float(exponent == 0 || b >= PF_F32_INF ? other : number);
	}
}

static inline void pf_beat_load(const struct PF_BEAT *from, float x[PF_BEAT_LANES])
{
	const struct PF_BEAT w = *from;
lanes:
	for (uint32_t l = 0; l < PF_BEAT_LANES; l++)
		x[l] = pf_same(pf_lane_load(w.lane[l]));
}

static inline void pf_beat_store(const float x[PF_BEAT_LANES], struct PF_BEAT *to)
{
	struct PF_BEAT w;
lanes:
	for (uint32_t l = 0; l < PF_BEAT_LANES; l++)
		w.lane[l] = pf_lane_store(pf_same(x[l]));
	*to = w;
}

static inline void pf_beat_adamw(const struct pf_adamw_factors *f, const float g[PF_BEAT_LANES], float w[PF_BEAT_LANES],
                                 float m[PF_BEAT_LANES], float v[PF_BEAT_LANES])
{
	float s[PF_BEAT_LANES];
#pragma HLS ARRAY_PARTITION variable=s complete
moments:
	for (uint32_t l = 0; l < PF_BEAT_LANES; l++) {
		const float d = pf_same(g[l] * f->grad), square = pf_same(d * d);
		m[l] = pf_same(pf_same(f->beta1 * m[l]) + pf_same(f->rest1 * d));
		v[l] = pf_same(pf_same(f->beta2 * v[l]) + pf_same(f->rest2 * square));
	}
	pf_beat_sqrt(v, s);
weights:
	for (uint32_t l = 0; l < PF_BEAT_LANES; l++) {
		const float below = pf_same(s[l] * f->root) + f->epsilon;
		w[l] = pf_same(f->keep * w[l]) - pf_same(pf_same(f->rate * m[l]) / below);
	}
}

static void pf_port_adamw(const struct pf_adamw_factors *f, const struct PF_BEAT *dweight, uint64_t beats,
                          struct PF_BEAT *weight, struct PF_BEAT *moment1, struct PF_BEAT *moment2)
{
update:
	for (uint64_t b = 0; b < beats; b++) {
#pragma HLS PIPELINE II=4
#pragma HLS LOOP_TRIPCOUNT min=1 max=33554432
		float g[PF_BEAT_LANES], w[PF_BEAT_LANES], m[PF_BEAT_LANES], v[PF_BEAT_LANES];
#pragma HLS ARRAY_PARTITION variable=g complete
#pragma HLS ARRAY_PARTITION variable=w complete
#pragma HLS ARRAY_PARTITION variable=m complete
#pragma HLS ARRAY_PARTITION variable=v complete
		pf_beat_load(dweight + b, g);
		pf_beat_load(weight + b, w);
		pf_beat_load(moment1 + b, m);
		pf_beat_load(moment2 + b, v);
		pf_beat_adamw(f, g, w, m, v);
		pf_beat_store(w, weight + b);
		pf_beat_store(m, moment1 + b);
		pf_beat_store(v, moment2 + b);
	}
}

void PF_KERNEL_NAME(head_adamw)(struct PF_BEAT *weight0, struct PF_BEAT *weight1, struct PF_BEAT *weight2,
                                struct PF_BEAT *weight3, struct PF_BEAT *moment10, struct PF_BEAT *moment11,
                                struct PF_BEAT *moment12, struct PF_BEAT *moment13, struct PF_BEAT *moment20,
                                struct PF_BEAT *moment21, struct PF_BEAT *moment22, struct PF_BEAT *moment23,
                                const struct PF_BEAT *dweight0, const struct PF_BEAT *dweight1,
                                const struct PF_BEAT *dweight2, const struct PF_BEAT *dweight3, uint32_t vocab,
                                uint32_t depth, float beta1, float beta2, float rest1, float rest2, float grad,
                                float rate, float root, float epsilon, float keep)
{
#pragma HLS INTERFACE mode=m_axi port=weight0 bundle=gmem0 offset=slave
#pragma HLS INTERFACE mode=m_axi port=weight1 bundle=gmem0 offset=slave
#pragma HLS INTERFACE mode=m_axi port=weight2 bundle=gmem0 offset=slave
#pragma HLS INTERFACE mode=m_axi port=weight3 bundle=gmem0 offset=slave
#pragma HLS INTERFACE mode=m_axi port=moment10 bundle=gmem0 offset=slave
#pragma HLS INTERFACE mode=m_axi port=moment11 bundle=gmem0 offset=slave
#pragma HLS INTERFACE mode=m_axi port=moment12 bundle=gmem0 offset=slave
#pragma HLS INTERFACE mode=m_axi port=moment13 bundle=gmem0 offset=slave
#pragma HLS INTERFACE mode=m_axi port=moment20 bundle=gmem0 offset=slave
#pragma HLS INTERFACE mode=m_axi port=moment21 bundle=gmem0 offset=slave
#pragma HLS INTERFACE mode=m_axi port=moment22 bundle=gmem0 offset=slave
#pragma HLS INTERFACE mode=m_axi port=moment23 bundle=gmem0 offset=slave
#pragma HLS INTERFACE mode=m_axi port=dweight0 bundle=gmem0 offset=slave
#pragma HLS INTERFACE mode=m_axi port=dweight1 bundle=gmem0 offset=slave
#pragma HLS INTERFACE mode=m_axi port=dweight2 bundle=gmem0 offset=slave
#pragma HLS INTERFACE mode=m_axi port=dweight3 bundle=gmem0 offset=slave
#pragma HLS INTERFACE mode=s_axilite port=weight0 bundle=control
#pragma HLS INTERFACE mode=s_axilite port=weight1 bundle=control
#pragma HLS INTERFACE mode=s_axilite port=weight2 bundle=control
#pragma HLS INTERFACE mode=s_axilite port=weight3 bundle=control
#pragma HLS INTERFACE mode=s_axilite port=moment10 bundle=control
#pragma HLS INTERFACE mode=s_axilite port=moment11 bundle=control
#pragma HLS INTERFACE mode=s_axilite port=moment12 bundle=control
#pragma HLS INTERFACE mode=s_axilite port=moment13 bundle=control
#pragma HLS INTERFACE mode=s_axilite port=moment20 bundle=control
#pragma HLS INTERFACE mode=s_axilite port=moment21 bundle=control
#pragma HLS INTERFACE mode=s_axilite port=moment22 bundle=control
#pragma HLS INTERFACE mode=s_axilite port=moment23 bundle=control
#pragma HLS INTERFACE mode=s_axilite port=dweight0 bundle=control
#pragma HLS INTERFACE mode=s_axilite port=dweight1 bundle=control
#pragma HLS INTERFACE mode=s_axilite port=dweight2 bundle=control
#pragma HLS INTERFACE mode=s_axilite port=dweight3 bundle=control
#pragma HLS INTERFACE mode=s_axilite port=vocab bundle=control
#pragma HLS INTERFACE mode=s_axilite port=depth bundle=control
#pragma HLS INTERFACE mode=s_axilite port=beta1 bundle=control
#pragma HLS INTERFACE mode=s_axilite port=beta2 bundle=control
#pragma HLS INTERFACE mode=s_axilite port=rest1 bundle=control
#pragma HLS INTERFACE mode=s_axilite port=rest2 bundle=control
#pragma HLS INTERFACE mode=s_axilite port=grad bundle=control
#pragma HLS INTERFACE mode=s_axilite port=rate bundle=control
#pragma HLS INTERFACE mode=s_axilite port=root bundle=control
#pragma HLS INTERFACE mode=s_axilite port=epsilon bundle=control
#pragma HLS INTERFACE mode=s_axilite port=keep bundle=control
#pragma HLS INTERFACE mode=s_axilite port=return bundle=control
	const struct pf_adamw_factors f = { beta1, beta2, rest1, rest2, grad, rate, root, epsilon, keep };
	pf_port_adamw(&f, dweight0, PF_PORT_ROWS(vocab, 0) * depth, weight0, moment10, moment20);
	pf_port_adamw(&f, dweight1, PF_PORT_ROWS(vocab, 1) * depth, weight1, moment11, moment21);
	pf_port_adamw(&f, dweight2, PF_PORT_ROWS(vocab, 2) * depth, weight2, moment12, moment22);
	pf_port_adamw(&f, dweight3, PF_PORT_ROWS(vocab, 3) * depth, weight3, moment13, moment23);
}
