/* logprob: log-probability of one target per row of logits z[T, V], in one pass over the vocabulary.
 *
 * A step reads PF_STEP beats, finds their largest logit, moves the window of the row's bins there and adds the lanes'
 * exponentials as integers (row_sum.h). What crosses from step to step is an integer maximum and, per slot, a select
 * and one 64-bit addition, so II = 1; no floating-point number is carried. Rows go in blocks: all of a block are
 * scanned, then finished in a pipeline of their own (II = 16: its operators are shared), so that the long chain of
 * doubles is paid once a block and not once a row.
 *
 * Errors (tests/kernels_logprob.c): logp 1e-6 + 1 ULP, measured 1.1e-7 before rounding; sum of exponentials 2e-7
 * relative for logits within +-1000, 3e-7 up to the limit (ln 2 in two constants holds 33 bits); 1 - p 3e-7 relative
 * and V 2^-48; entropy 2.7e-6 (3.8e-6 beyond +-1000) and log sum p^2 1e-6, both + 1 ULP and relative below 1; mean
 * 2^-23 + 1 ULP. */
#include "beat.h"
#include "prefpga/internal/row_finish.h"
#include "row_scan.h"
PF_KERNELS(PF_PROTOTYPE)

#define PF_BLOCK 64                    /* rows scanned before they are finished together */

static void pf_row_scan(const struct PF_BEAT *z, uint32_t vocab, uint32_t target, uint32_t flags,
                        struct pf_shard *out)
{
	const uint32_t used = (vocab + PF_BEAT_LANES - 1) / PF_BEAT_LANES, limit = pf_key(PF_LOGIT_LIMIT);
	struct pf_scan s = { .top = PF_TOP_NONE, .top_p2 = PF_TOP_NONE };
	int64_t sum[PF_BINS] = { 0 }, moment[PF_BINS] = { 0 }, square[PF_BINS] = { 0 };
	float x[PF_LANES];
#pragma HLS ARRAY_PARTITION variable=sum complete
#pragma HLS ARRAY_PARTITION variable=moment complete
#pragma HLS ARRAY_PARTITION variable=square complete
#pragma HLS ARRAY_PARTITION variable=x complete
steps:
	for (uint32_t i = 0; i < used; i += PF_STEP) {
#pragma HLS PIPELINE II=1
#pragma HLS LOOP_TRIPCOUNT min=1 max=16384
		const uint32_t beats = pf_step_beats(used - i);
		pf_step_read(z + i, beats, vocab - i * PF_BEAT_LANES, x);
		const uint32_t best = pf_step_best(x, beats);
		if (target / PF_LANES == i / PF_STEP)
			s.target = x[target % PF_LANES];
		if (best > s.best) {
			s.best = best;
			s.argmax = i * PF_BEAT_LANES + pf_step_find(x, beats, best);
		}
		if (best < limit)
			pf_scan_terms(x, beats, best, flags, &s, sum, moment, square);
	}
	pf_scan_state(&s, sum, moment, square, vocab, out);
}

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
	struct pf_shard state[PF_BLOCK];
blocks:
	for (uint32_t first = 0; first < rows; first += PF_BLOCK) {
#pragma HLS LOOP_TRIPCOUNT min=1 max=16384
		const uint32_t n = rows - first < PF_BLOCK ? rows - first : PF_BLOCK;
scan:
		for (uint32_t r = 0; r < n; r++) {
#pragma HLS LOOP_TRIPCOUNT min=1 max=64
			int32_t y = target[first + r];
			struct pf_shard s = { 0 };
			if (y >= 0) {
				pf_row_scan(z + (uint64_t)(first + r) * stride, room, (uint32_t)y, flags, &s);
				s.status = pf_row_status_of(&s, y, room);
			} else {
				s.status = PF_ROW_IGNORED;
			}
			state[r] = s;
		}
finish:
		for (uint32_t r = 0; r < n; r++) {
#pragma HLS PIPELINE II=16
#pragma HLS LOOP_TRIPCOUNT min=1 max=64
			const struct pf_shard s = state[r];
			struct pf_row row;
			pf_row_finish(&s, room, flags, &row);
			out[first + r] = row;
		}
	}
}
