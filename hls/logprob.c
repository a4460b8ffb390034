/* logprob: log-probability of one target per row of logits z[T, V], in one pass over the vocabulary.
 *
 * A step reads PF_STEP beats, finds their largest logit, moves the window of the row's bins there and adds the lanes'
 * exponentials as integers (row_sum.h). What crosses from step to step is an integer maximum and, per slot, AND and one
 * 64-bit addition, so II = 1; no floating-point number is carried. Rows go in blocks: all of a block are scanned, then
 * finished in a pipeline of their own, so that the long chain of doubles is paid once a block and not once a row. */
#include "beat.h"
#include "row_finish.h"
PF_KERNELS(PF_PROTOTYPE)

#define PF_BLOCK 64                    /* rows scanned before they are finished together */

/* What the scan of a row carries from step to step */
struct pf_scan {
	uint32_t best, best_step, dead;        /* key and step of the largest logit; a logit of probability 0 was met */
	int32_t top, top_p2;
	int64_t logits;
	float target;
};

/* Lanes at or beyond the end of the row become -inf */
static inline void pf_step_read(const struct PF_BEAT *z, uint32_t beats, uint32_t lanes, float x[PF_LANES])
{
read_beats:
	for (uint32_t b = 0; b < PF_STEP; b++) {
		struct PF_BEAT w = z[b < beats ? b : beats - 1];
		uint32_t first = b * PF_BEAT_LANES;
read_lanes:
		for (uint32_t l = 0; l < PF_BEAT_LANES; l++) {
			uint32_t u = pf_bits(PF_LANE_LOAD(w.lane[l]));
			x[first + l] = pf_float(first + l < lanes ? u : PF_F32_SIGN | PF_F32_INF);
		}
	}
}

static inline uint32_t pf_step_best(const float x[PF_LANES])
{
	uint32_t best = 0;
lanes:
	for (uint32_t l = 0; l < PF_LANES; l++) {
		uint32_t key = pf_key(x[l]);
		best = key > best ? key : best;
	}
	return best;
}

static inline void pf_step_sum(const struct pf_power e[PF_LANES], int32_t top, int64_t sum[PF_BINS])
{
	int64_t a[PF_BINS] = { 0 };
lanes:
	for (uint32_t l = 0; l < PF_LANES; l++) {
		int64_t term = pf_term(e[l]);
		for (int j = 0; j < PF_BINS; j++)
			a[j] += PF_SUM_BIN(e[l].k) == pf_slot_bin(top, j) ? term : 0;
	}
	for (int j = 0; j < PF_BINS; j++)
		sum[j] += a[j];
}

static inline void pf_step_stats(const float x[PF_LANES], const struct pf_power e[PF_LANES], struct pf_scan *s,
                                 int64_t moment[PF_BINS], int64_t square[PF_BINS])
{
lanes:
	for (uint32_t l = 0; l < PF_LANES; l++) {
		int64_t m = pf_moment_term(e[l]), q = pf_square_term(e[l]);
		for (int j = 0; j < PF_BINS; j++) {
			moment[j] += PF_SUM_BIN(e[l].k) == pf_slot_bin(s->top, j) ? m : 0;
			square[j] += PF_SQUARE_BIN(e[l].k) == pf_slot_bin(s->top_p2, j) ? q : 0;
		}
		s->dead |= e[l].k == 0;
		s->logits += e[l].k == 0 ? 0 : (int64_t)(x[l] * 0x1p24f);
	}
}

static inline uint32_t pf_find_lane(const float held[PF_LANES], uint32_t key)
{
	uint32_t found = 0;
lanes:
	for (uint32_t l = PF_LANES; l > 0; l--)
		found = pf_key(held[l - 1]) == key ? l - 1 : found;
	return found;
}

static void pf_row_scan(const struct PF_BEAT *z, uint32_t vocab, int32_t target, uint32_t flags, struct pf_shard *out)
{
	const uint32_t used = (vocab + PF_BEAT_LANES - 1) / PF_BEAT_LANES;
	struct pf_scan s = { 0, 0, 0, PF_BINS - 1, PF_BINS - 1, 0, 0.0f };
	int64_t sum[PF_BINS] = { 0 }, moment[PF_BINS] = { 0 }, square[PF_BINS] = { 0 };
	float x[PF_LANES], held[PF_LANES];
	struct pf_power e[PF_LANES];
	uint32_t status = 0;
steps:
	for (uint32_t i = 0; i < used; i += PF_STEP) {
#pragma HLS PIPELINE II=1
#pragma HLS LOOP_TRIPCOUNT min=1 max=16384
		pf_step_read(z + i, used - i, vocab - i * PF_BEAT_LANES, x);
		uint32_t best = pf_step_best(x);
		if ((uint32_t)target / PF_LANES == i / PF_STEP)
			s.target = x[(uint32_t)target % PF_LANES];
		if (best > s.best) {
			s.best = best;
			s.best_step = i;
			for (uint32_t l = 0; l < PF_LANES; l++)
				held[l] = x[l];
		}
		if (best >= pf_key(PF_LOGIT_LIMIT)) {
			status |= PF_ROW_RANGE;
			continue;
		}
		struct pf_power largest = pf_power(pf_key_logit(best));
		int32_t top = PF_SUM_BIN(largest.k), top_p2 = PF_SQUARE_BIN(largest.k);
		top = top > s.top ? top : s.top;
		top_p2 = top_p2 > s.top_p2 ? top_p2 : s.top_p2;
		pf_bins_move(sum, s.top, top);
		pf_bins_move(moment, s.top, top);
		pf_bins_move(square, s.top_p2, top_p2);
		s.top = top;
		s.top_p2 = top_p2;
		for (uint32_t l = 0; l < PF_LANES; l++)
			e[l] = pf_power(x[l]);
		pf_step_sum(e, top, sum);
		if (flags & PF_WANT_STATS)
			pf_step_stats(x, e, &s, moment, square);
	}
	if (used > 0)
		out->argmax = s.best_step * PF_BEAT_LANES + pf_find_lane(held, s.best);
	for (int j = 0; j < PF_BINS; j++) {
		out->sum[j] = sum[j];
		out->moment[j] = moment[j];
		out->sum_p2[j] = square[j];
	}
	out->logits = s.dead ? INT64_MIN : s.logits;
	out->top = s.top;
	out->top_p2 = s.top_p2;
	out->max = pf_key_logit(s.best);
	out->target = s.target;
	out->status = status;
}

static inline uint32_t pf_scan_status(const struct pf_shard *s, int32_t target, uint32_t vocab)
{
	uint32_t status = s->status;
	if (status == 0 && !(s->max > -PF_LOGIT_LIMIT))
		status = PF_ROW_EMPTY;
	if ((uint32_t)target >= vocab)
		return status | PF_ROW_TARGET;
	if (status == 0 && !(s->target > -PF_LOGIT_LIMIT))
		status = PF_ROW_MASKED;
	return status;
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
				pf_row_scan(z + (uint64_t)(first + r) * stride, room, y, flags, &s);
				s.status = pf_scan_status(&s, y, room);
			} else {
				s.status = PF_ROW_IGNORED;
			}
			state[r] = s;
		}
finish:
		for (uint32_t r = 0; r < n; r++) {
#pragma HLS PIPELINE II=16
#pragma HLS LOOP_TRIPCOUNT min=1 max=64
			struct pf_row row;
			pf_row_finish(&state[r], room, flags, &row);
			out[first + r] = row;
		}
	}
}
