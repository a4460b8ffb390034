/* logit_grad: dz_v = c (p_v - [v = target]) for rows of z[T, V], elsewhere or in place; c and the row records are
 * input.
 *
 * p_v is e^z times the row's inverse sum with the exponents added as integers, so no large logits are subtracted. The
 * target's entry is -c times the row's `rest`, exact near certainty. Lanes and beats beyond the vocabulary are written
 * 0, and so are rows that are ignored or without a valid log-probability; values below 2^-126 are 0. A coefficient that
 * is not finite, or 2^126 and more, makes its row NaN. A step is read before it is written, and steps are independent:
 * II = 1 with no recurrence to break. */
#if defined(PF_STEP) && PF_STEP > 16
#undef PF_STEP
#define PF_STEP 16             /* in a simulator, what a step reads and writes shall stay in the nearest cache */
#endif
#include "beat.h"
#include "prefpga/internal/row_sum.h"
PF_KERNELS(PF_PROTOTYPE)

/* Entries are scale 2^(at + exp2) p; `target` at the target. constant: the row is `scale` everywhere */
struct pf_factor { float scale, target; int32_t exp2; uint32_t constant; };

static inline struct pf_factor pf_factor_of(float c, const struct pf_row *row, int32_t target)
{
	struct pf_factor f = { 0.0f, 0.0f, 0, 1 };
	const uint32_t b = pf_bits(c);
	const int32_t e = (int32_t)(b >> 23 & 255u) - 127;
	const float unit = pf_float((b & 0x807fffffu) | 0x3f800000u);
	if (target < 0 || row->status != 0 || e == -127)
		return f;
	f.constant = e >= 126;
	f.scale = f.constant ? pf_float(PF_F32_NAN) : unit * row->inv;
	f.target = pf_scale(-(unit * row->rest), e);
	f.exp2 = (int32_t)((uint32_t)e - (uint32_t)row->exp2 - PF_BIAS);        /* unsigned: rows may hold anything */
	return f;
}

static inline void pf_step_write(struct PF_BEAT *to, uint32_t beats, const float x[PF_LANES])
{
write:
	for (uint32_t b = 0; b < beats; b++) {
		struct PF_BEAT w;
lanes:
		for (uint32_t l = 0; l < PF_BEAT_LANES; l++)
			w.lane[l] = pf_lane_store(x[b * PF_BEAT_LANES + l]);
		PF_BEAT_PUT(to + b, w);
	}
}

/* `value` in the lanes of the vocabulary, 0 in the others */
static void pf_row_fill(struct PF_BEAT *to, uint32_t beats, uint32_t vocab, float value)
{
fill:
	for (uint32_t i = 0; i < beats; i++) {
#pragma HLS PIPELINE II=1
#pragma HLS LOOP_TRIPCOUNT min=0 max=16384
		struct PF_BEAT w;
lanes:
		for (uint32_t l = 0; l < PF_BEAT_LANES; l++)
			w.lane[l] = pf_lane_store(i * PF_BEAT_LANES + l < vocab ? value : 0.0f);
		PF_BEAT_PUT(to + i, w);
	}
}

static void pf_row_grad(const struct PF_BEAT *from, struct PF_BEAT *to, uint32_t vocab, uint32_t target,
                        struct pf_factor f)
{
	const uint32_t used = (vocab + PF_BEAT_LANES - 1) / PF_BEAT_LANES;
	float x[PF_LANES], left[PF_LANES], d[PF_LANES];
	uint32_t at[PF_LANES];
#pragma HLS ARRAY_PARTITION variable=x complete
#pragma HLS ARRAY_PARTITION variable=left complete
#pragma HLS ARRAY_PARTITION variable=at complete
#pragma HLS ARRAY_PARTITION variable=d complete
steps:
	for (uint32_t i = 0; i < used; i += PF_STEP) {
#pragma HLS PIPELINE II=1
#pragma HLS LOOP_TRIPCOUNT min=1 max=16384
		const uint32_t beats = pf_step_beats(used - i);
		pf_step_read(from + i, beats, vocab - i * PF_BEAT_LANES, x);
places:
		for (uint32_t l = 0; l < beats * PF_BEAT_LANES; l++)
			at[l] = pf_exp_at(x[l], &left[l]);
powers:
		for (uint32_t l = 0; l < beats * PF_BEAT_LANES; l++)
			d[l] = pf_scaled_power(left[l], at[l], f.scale, f.exp2);
		if (target / PF_LANES == i / PF_STEP)
			d[target % PF_LANES] = f.target;
		pf_step_write(to + i, beats, d);
	}
}

void PF_KERNEL_NAME(PF_VARIANT(logit_grad))(const struct PF_BEAT *z, const int32_t *target, const float *coef,
                                            const struct pf_row *row, struct PF_BEAT *dz, uint32_t rows,
                                            uint32_t vocab, uint32_t stride)
{
#pragma HLS INTERFACE mode=m_axi port=z bundle=gmem0 offset=slave
#pragma HLS INTERFACE mode=m_axi port=target bundle=gmem1 offset=slave
#pragma HLS INTERFACE mode=m_axi port=coef bundle=gmem1 offset=slave
#pragma HLS INTERFACE mode=m_axi port=row bundle=gmem2 offset=slave
#pragma HLS INTERFACE mode=m_axi port=dz bundle=gmem0 offset=slave
#pragma HLS INTERFACE mode=s_axilite port=z bundle=control
#pragma HLS INTERFACE mode=s_axilite port=target bundle=control
#pragma HLS INTERFACE mode=s_axilite port=coef bundle=control
#pragma HLS INTERFACE mode=s_axilite port=row bundle=control
#pragma HLS INTERFACE mode=s_axilite port=dz bundle=control
#pragma HLS INTERFACE mode=s_axilite port=rows bundle=control
#pragma HLS INTERFACE mode=s_axilite port=vocab bundle=control
#pragma HLS INTERFACE mode=s_axilite port=stride bundle=control
#pragma HLS INTERFACE mode=s_axilite port=return bundle=control
	const uint32_t room = (uint64_t)stride * PF_BEAT_LANES < vocab ? stride * PF_BEAT_LANES : vocab;
	const uint32_t used = (room + PF_BEAT_LANES - 1) / PF_BEAT_LANES;
rows:
	for (uint32_t t = 0; t < rows; t++) {
#pragma HLS LOOP_TRIPCOUNT min=1 max=1048576
		const struct pf_row record = row[t];
		const int32_t y = target[t];
		const struct pf_factor f = pf_factor_of(coef[t], &record, y);
		const uint64_t first = (uint64_t)t * stride;
		if (f.constant) {
			pf_row_fill(dz + first, stride, room, f.scale);
			continue;
		}
		pf_row_grad(z + first, dz + first, room, (uint32_t)y, f);
		pf_row_fill(dz + first + used, stride - used, 0, 0.0f);
	}
}
