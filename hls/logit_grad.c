/* logit_grad: dz_v = c (p_v - [v = target]) for rows of z[T, V], elsewhere or in place; c and the row records are input.
 *
 * p_v is e^z times the row's inverse sum with the exponents added as integers, so no large logits are subtracted. The
 * target's entry is -c times the row's `rest`, exact near certainty. Lanes and beats beyond the vocabulary are written 0,
 * and so are rows that are ignored or without a valid log-probability. Values below 2^-126 are 0. A coefficient that is
 * not finite, or 2^126 and more, makes its row NaN. Steps are independent: II = 1. */
#include "beat.h"
#include "row_sum.h"
PF_KERNELS(PF_PROTOTYPE)

/* c = scale 2^exp2 */
struct pf_factor { float scale, target; int32_t exp2; uint32_t zero; };

static inline struct pf_factor pf_factor(float c, const struct pf_row *row, int32_t target)
{
	struct pf_factor f;
	uint32_t b = pf_bits(c);
	int32_t e = (int32_t)(b >> 23 & 255u) - 127;
	float unit = pf_float((b & 0x807fffffu) | 0x3f800000u);
	f.zero = target < 0 || row->status != 0 || e == -127;
	f.exp2 = e - row->exp2 - PF_BIAS;
	f.scale = unit * row->inv;
	f.target = pf_scale(-(unit * row->rest), e);
	if (e >= 126)
		f.scale = f.target = pf_float(PF_F32_NAN);
	return f;
}

/* scale e^z 2^exp2 */
static inline float pf_scaled_power(float z, struct pf_factor f)
{
	struct pf_power e = pf_power(z);
	uint32_t g = pf_bits(e.p * f.scale);
	int32_t n = e.k + f.exp2;
	int32_t live = (int32_t)(g >> 23 & 255u) + n > 0;
	return pf_float(e.k != 0 && live ? g + ((uint32_t)n << 23) : 0u);
}

void PF_KERNEL_NAME(PF_VARIANT(logit_grad))(const struct PF_BEAT *z, const int32_t *target, const float *coef,
                                            const struct pf_row *row, struct PF_BEAT *dz, uint32_t rows,
                                            uint32_t vocab, uint32_t stride)
{
#pragma HLS INTERFACE mode=m_axi port=z bundle=gmem0 offset=slave
#pragma HLS INTERFACE mode=m_axi port=target bundle=gmem1 offset=slave
#pragma HLS INTERFACE mode=m_axi port=coef bundle=gmem2 offset=slave
#pragma HLS INTERFACE mode=m_axi port=row bundle=gmem3 offset=slave
#pragma HLS INTERFACE mode=m_axi port=dz bundle=gmem4 offset=slave
#pragma HLS INTERFACE mode=s_axilite port=z bundle=control
#pragma HLS INTERFACE mode=s_axilite port=target bundle=control
#pragma HLS INTERFACE mode=s_axilite port=coef bundle=control
#pragma HLS INTERFACE mode=s_axilite port=row bundle=control
#pragma HLS INTERFACE mode=s_axilite port=dz bundle=control
#pragma HLS INTERFACE mode=s_axilite port=rows bundle=control
#pragma HLS INTERFACE mode=s_axilite port=vocab bundle=control
#pragma HLS INTERFACE mode=s_axilite port=stride bundle=control
#pragma HLS INTERFACE mode=s_axilite port=return bundle=control
rows:
	for (uint32_t t = 0; t < rows; t++) {
#pragma HLS LOOP_TRIPCOUNT min=1 max=1048576
		const struct pf_row record = row[t];
		const int32_t y = target[t];
		const struct pf_factor f = pf_factor(coef[t], &record, y);
		const struct PF_BEAT *from = z + (uint64_t)t * stride;
		struct PF_BEAT *to = dz + (uint64_t)t * stride;
steps:
		for (uint32_t i = 0; i < stride; i++) {
#pragma HLS PIPELINE II=1
#pragma HLS LOOP_TRIPCOUNT min=1 max=16384
			struct PF_BEAT w = from[i], g;
			for (uint32_t l = 0; l < PF_BEAT_LANES; l++) {
				uint32_t v = i * PF_BEAT_LANES + l;
				float d = pf_scaled_power(PF_LANE_LOAD(w.lane[l]), f);
				d = v == (uint32_t)y ? f.target : d;
				g.lane[l] = PF_LANE_STORE(v < vocab && !f.zero ? d : 0.0f);
			}
			to[i] = g;
		}
	}
}
