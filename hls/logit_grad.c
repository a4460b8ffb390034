/* logit_grad: dz_v = c (p_v - [v = target]) for rows of z[T, V], elsewhere or in place; c and the row records are
 * input.
 *
 * p_v is e^z times the row's inverse sum with the exponents added as integers, so no large logits are subtracted. The
 * target's entry is -c times the row's `rest`, exact near certainty. Lanes and beats beyond the vocabulary are written
 * 0, and so are rows that are ignored or without a valid log-probability; values below 2^-126 are 0. A coefficient that
 * is not finite, or 2^126 and more, makes its row NaN. A step is read before it is written, and steps are independent:
 * II = 1 with no recurrence to break. Rows that follow each other are one loop over their beats, as in logprob, what
 * pads them included: addresses count up by one, and the pipeline is filled and emptied once a block of 64 rows. */
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

/* A step: beats from number i on of a row, whose target is y; lanes: of the vocabulary that are left */
static inline void pf_grad_step(const struct PF_BEAT *from, struct PF_BEAT *to, uint32_t i, uint32_t beats,
                                uint32_t lanes, uint32_t y, const struct pf_factor *f, float x[PF_LANES],
                                float left[PF_LANES], uint32_t at[PF_LANES], float d[PF_LANES])
{
	pf_step_read(from, beats, lanes, x);
places:
	for (uint32_t l = 0; l < beats * PF_BEAT_LANES; l++)
		at[l] = pf_exp_at(x[l], &left[l]);
powers:
	for (uint32_t l = 0; l < beats * PF_BEAT_LANES; l++)
		d[l] = pf_scaled_power(left[l], at[l], f->scale, f->exp2);
	if (y / PF_LANES == i / PF_STEP)
		d[y % PF_LANES] = f->target;
	pf_step_write(to, beats, d);
}

/* Rows [first, first + rows) of the block, whose logits begin at `from` */
static void pf_rows_grad(const struct PF_BEAT *from, struct PF_BEAT *to, uint32_t first, uint32_t rows, uint32_t vocab,
                         uint32_t stride, const int32_t target[PF_TOKENS], const struct pf_factor factor[PF_TOKENS])
{
	const uint32_t used = (vocab + PF_BEAT_LANES - 1) / PF_BEAT_LANES;
	float x[PF_LANES], left[PF_LANES], d[PF_LANES];
	uint32_t at[PF_LANES];
#pragma HLS ARRAY_PARTITION variable=x complete
#pragma HLS ARRAY_PARTITION variable=left complete
#pragma HLS ARRAY_PARTITION variable=at complete
#pragma HLS ARRAY_PARTITION variable=d complete
#if PF_STEP == 1
	uint32_t r = first, i = 0;             /* row of the block, beat of the row */
steps:
	for (uint32_t k = 0; k < rows * stride; k++) {
#pragma HLS PIPELINE II=1
#pragma HLS LOOP_TRIPCOUNT min=1 max=1048576
		pf_grad_step(from + k, to + k, i, 1, i < used ? vocab - i * PF_BEAT_LANES : 0, (uint32_t)target[r],
		             &factor[r], x, left, at, d);
		i++;
		if (i == stride) {
			i = 0;
			r++;
		}
	}
#else                                          /* a simulator has no pipeline to fill */
rows:
	for (uint32_t r = first; r < first + rows; r++) {
#pragma HLS LOOP_TRIPCOUNT min=1 max=64
		const uint64_t row = (uint64_t)(r - first) * stride;
steps:
		for (uint32_t i = 0; i < used; i += PF_STEP) {
#pragma HLS PIPELINE II=1
#pragma HLS LOOP_TRIPCOUNT min=1 max=16384
			pf_grad_step(from + row + i, to + row + i, i, pf_step_beats(used - i),
			             vocab - i * PF_BEAT_LANES, (uint32_t)target[r], &factor[r], x, left, at, d);
		}
		pf_row_fill(to + row + used, stride - used, 0, 0.0f);
	}
#endif
}

/* Factors of a block's rows; target[r] of those that are `scale` everywhere is PF_IGNORE */
static void pf_factors_read(const int32_t *from, const float *coef, const struct pf_row *row, uint32_t n,
                            int32_t target[PF_TOKENS], struct pf_factor factor[PF_TOKENS])
{
factors:
	for (uint32_t r = 0; r < n; r++) {
#pragma HLS PIPELINE II=2
#pragma HLS LOOP_TRIPCOUNT min=1 max=64
		const struct pf_row record = row[r];
		const int32_t y = from[r];
		factor[r] = pf_factor_of(coef[r], &record, y);
		target[r] = factor[r].constant ? PF_IGNORE : y;
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
	struct pf_factor factor[PF_TOKENS];
	int32_t own[PF_TOKENS];
	uint32_t run[PF_TOKENS];
blocks:
	for (uint32_t first = 0; first < rows; first += PF_TOKENS) {
#pragma HLS LOOP_TRIPCOUNT min=1 max=16384
		const uint32_t n = rows - first < PF_TOKENS ? rows - first : PF_TOKENS;
		pf_factors_read(target + first, coef + first, row + first, n, own, factor);
		pf_block_runs(own, n, run);
rows:
		for (uint32_t r = 0; r < n; r += run[r] ? run[r] : 1) {
#pragma HLS LOOP_TRIPCOUNT min=1 max=64
			const uint64_t at = (uint64_t)(first + r) * stride;
			if (run[r])
				pf_rows_grad(z + at, dz + at, r, run[r], room, stride, own, factor);
			else
				pf_row_fill(dz + at, stride, room, factor[r].scale);
		}
	}
}
