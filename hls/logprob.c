/* logprob: log-probability of one target per row of logits z[T, V], in one pass over the vocabulary.
 *
 * A step reads PF_STEP beats, finds their largest logit, moves the window of the row's bins there and adds the lanes'
 * exponentials as integers (row_sum.h). What crosses from step to step is an integer maximum and, per slot, a select
 * and one 64-bit addition, so II = 1; no floating-point number is carried. Rows go in blocks of 64: all of a block are
 * scanned, then finished in a pipeline of their own (II = 16: its operators are shared).
 *
 * Rows that follow each other are one loop over their beats, whose addresses count up by one: a single burst, and a
 * pipeline that is filled and emptied once a block and not once a row. On a card it goes through the whole stride of a
 * row, what pads it counted as -inf; every step leaves the row's state, of which the last stays.
 *
 * Errors (tests/kernels_logprob.c): logp 1e-6 + 1 ULP, measured 1.1e-7 before rounding; sum of exponentials 2e-7
 * relative for logits within +-1000, 3e-7 up to the limit (ln 2 in two constants holds 33 bits); 1 - p 3e-7 relative
 * and V 2^-48; entropy 2.7e-6 (3.8e-6 beyond +-1000) and log sum p^2 1e-6, both + 1 ULP and relative below 1; mean
 * 2^-23 + 1 ULP. */
#include "beat.h"
#include "prefpga/internal/row_finish.h"
#include "row_scan.h"
PF_KERNELS(PF_PROTOTYPE)

/* A step: beats from number i on of a row, whose target is y */
static inline void pf_scan_step(const struct PF_BEAT *from, uint32_t i, uint32_t beats, uint32_t lanes, uint32_t y,
                                uint32_t flags, float x[PF_LANES], struct pf_scan *s, int64_t sum[PF_BINS],
                                int64_t moment[PF_BINS], int64_t square[PF_BINS])
{
	pf_step_read(from, beats, lanes, x);
	const uint32_t best = pf_step_best(x, beats);
	if (y / PF_LANES == i / PF_STEP)
		s->target = x[y % PF_LANES];
	if (best > s->best) {
		s->best = best;
		s->argmax = i * PF_BEAT_LANES + pf_step_find(x, beats, best);
	}
	if (best < pf_key(PF_LOGIT_LIMIT))
		pf_scan_terms(x, beats, best, flags, s, sum, moment, square);
}

/* Rows [first, first + rows) of the block, whose logits begin at z */
#if PF_STEP == 1
/* Bins are cleared by the first live logit, which moves the window up from PF_TOP_NONE; a row without one has no use
 * for them */
static void pf_rows_scan(const struct PF_BEAT *z, uint32_t first, uint32_t rows, uint32_t vocab, uint32_t stride,
                         uint32_t flags, const int32_t target[PF_TOKENS], struct pf_scan scan[PF_TOKENS],
                         int64_t sum[PF_TOKENS][PF_BINS], int64_t moment[PF_TOKENS][PF_BINS],
                         int64_t square[PF_TOKENS][PF_BINS])
{
	const uint32_t used = (vocab + PF_BEAT_LANES - 1) / PF_BEAT_LANES, count = rows * stride;
	struct pf_scan s = { .top = PF_TOP_NONE, .top_p2 = PF_TOP_NONE };
	int64_t own[PF_BINS] = { 0 }, own_moment[PF_BINS] = { 0 }, own_square[PF_BINS] = { 0 };
	float x[PF_LANES];
	uint32_t r = first, i = 0;             /* row of the block, beat of the row */
#pragma HLS ARRAY_PARTITION variable=own complete
#pragma HLS ARRAY_PARTITION variable=own_moment complete
#pragma HLS ARRAY_PARTITION variable=own_square complete
#pragma HLS ARRAY_PARTITION variable=x complete
steps:
	for (uint32_t k = 0; k < count; k++) {
#pragma HLS PIPELINE II=1
#pragma HLS LOOP_TRIPCOUNT min=1 max=1048576
		const struct pf_scan none = { .top = PF_TOP_NONE, .top_p2 = PF_TOP_NONE };
		if (i == 0)
			s = none;
		pf_scan_step(z + k, i, 1, i < used ? vocab - i * PF_BEAT_LANES : 0, (uint32_t)target[r], flags, x, &s,
		             own, own_moment, own_square);
		scan[r] = s;
bins:
		for (uint32_t j = 0; j < PF_BINS; j++) {
			sum[r][j] = own[j];
			moment[r][j] = own_moment[j];
			square[r][j] = own_square[j];
		}
		i++;
		if (i == stride) {
			i = 0;
			r++;
		}
	}
}
#else
/* The same in a simulator, which has no pipeline to fill: row by row, what pads them left alone, its state in registers
 * */
static void pf_rows_scan(const struct PF_BEAT *z, uint32_t first, uint32_t rows, uint32_t vocab, uint32_t stride,
                         uint32_t flags, const int32_t target[PF_TOKENS], struct pf_scan scan[PF_TOKENS],
                         int64_t sum[PF_TOKENS][PF_BINS], int64_t moment[PF_TOKENS][PF_BINS],
                         int64_t square[PF_TOKENS][PF_BINS])
{
	const uint32_t used = (vocab + PF_BEAT_LANES - 1) / PF_BEAT_LANES;
rows:
	for (uint32_t r = first; r < first + rows; r++) {
#pragma HLS LOOP_TRIPCOUNT min=1 max=64
		const struct PF_BEAT *from = z + (uint64_t)(r - first) * stride;
		const uint32_t y = (uint32_t)target[r];
		struct pf_scan s = { .top = PF_TOP_NONE, .top_p2 = PF_TOP_NONE };
		int64_t own[PF_BINS] = { 0 }, own_moment[PF_BINS] = { 0 }, own_square[PF_BINS] = { 0 };
		float x[PF_LANES];
steps:
		for (uint32_t i = 0; i < used; i += PF_STEP) {
#pragma HLS PIPELINE II=1
#pragma HLS LOOP_TRIPCOUNT min=1 max=16384
			pf_scan_step(from + i, i, pf_step_beats(used - i), vocab - i * PF_BEAT_LANES, y, flags, x, &s,
			             own, own_moment, own_square);
		}
		scan[r] = s;
bins:
		for (uint32_t j = 0; j < PF_BINS; j++) {
#pragma HLS UNROLL factor=4
			sum[r][j] = own[j];
			moment[r][j] = own_moment[j];
			square[r][j] = own_square[j];
		}
	}
}
#endif

void PF_KERNEL_NAME(PF_VARIANT(logprob))(const struct PF_BEAT *z, const int32_t *target, struct pf_row *out,
                                         uint32_t rows, uint32_t vocab, uint32_t stride, uint32_t flags)
{
#pragma HLS INTERFACE mode=m_axi port=z bundle=gmem0 offset=slave
#pragma HLS INTERFACE mode=m_axi port=target bundle=gmem1 offset=slave
#pragma HLS INTERFACE mode=m_axi port=out bundle=gmem2 offset=slave
#pragma HLS INTERFACE mode=s_axilite port=z bundle=control
#pragma HLS INTERFACE mode=s_axilite port=target bundle=control
#pragma HLS INTERFACE mode=s_axilite port=out bundle=control
#pragma HLS INTERFACE mode=s_axilite port=rows bundle=control
#pragma HLS INTERFACE mode=s_axilite port=vocab bundle=control
#pragma HLS INTERFACE mode=s_axilite port=stride bundle=control
#pragma HLS INTERFACE mode=s_axilite port=flags bundle=control
#pragma HLS INTERFACE mode=s_axilite port=return bundle=control
	const uint32_t room = (uint64_t)stride * PF_BEAT_LANES < vocab ? stride * PF_BEAT_LANES : vocab;
	int32_t own[PF_TOKENS];
	uint32_t run[PF_TOKENS];
	struct pf_scan scan[PF_TOKENS];
	int64_t sum[PF_TOKENS][PF_BINS], moment[PF_TOKENS][PF_BINS], square[PF_TOKENS][PF_BINS];
#pragma HLS ARRAY_PARTITION variable=sum complete dim=2
#pragma HLS ARRAY_PARTITION variable=moment complete dim=2
#pragma HLS ARRAY_PARTITION variable=square complete dim=2
blocks:
	for (uint32_t first = 0; first < rows; first += PF_TOKENS) {
#pragma HLS LOOP_TRIPCOUNT min=1 max=16384
		const uint32_t n = rows - first < PF_TOKENS ? rows - first : PF_TOKENS;
		pf_block_begin(target + first, n, scan, own, sum, moment, square);
		pf_block_runs(own, n, run);
scan:
		for (uint32_t r = 0; r < n; r += run[r] ? run[r] : 1) {
#pragma HLS LOOP_TRIPCOUNT min=1 max=64
			if (run[r])
				pf_rows_scan(z + (uint64_t)(first + r) * stride, r, run[r], room, stride, flags, own,
				             scan, sum, moment, square);
		}
finish:
		for (uint32_t r = 0; r < n; r++) {
#pragma HLS PIPELINE II=16
#pragma HLS LOOP_TRIPCOUNT min=1 max=64
			struct pf_shard s = { .status = PF_ROW_IGNORED };
			struct pf_row row;
			if (own[r] >= 0) {
				pf_scan_state(&scan[r], sum[r], moment[r], square[r], room, &s);
				s.status = pf_row_status_of(&s, own[r], room);
			}
			pf_row_finish(&s, room, flags, &row);
			out[first + r] = row;
		}
	}
}
