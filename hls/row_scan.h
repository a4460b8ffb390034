/* row_scan.h: the scan of a row of logits, step by step, into the integers of row_sum.h.
 *
 * A step takes the logits of some beats: the caller finds its largest, keeps the row's largest with its index and the
 * target's logit, and pf_scan_terms moves the window of the row's bins and adds the lanes' exponentials. What crosses
 * from step to step is an integer maximum and, per slot, a select and one 64-bit addition; no floating-point number is
 * carried, and the order of steps does not matter. */
#ifndef PF_HLS_ROW_SCAN_H
#define PF_HLS_ROW_SCAN_H
#include "beat.h"
#include "prefpga/internal/row_sum.h"

/* What the scan of a row carries from step to step, beside the bins */
struct pf_scan {
	uint32_t best, argmax;                 /* key and index of the largest logit */
	uint32_t top, top_p2, live;            /* live: logits with a probability */
	int64_t  logits;
	float    target;
};

static inline uint32_t pf_step_best(const float x[PF_LANES], uint32_t beats)
{
	uint32_t best = 0;
lanes:
	for (uint32_t l = 0; l < beats * PF_BEAT_LANES; l++) {
		uint32_t key = pf_key(x[l]);
		best = key > best ? key : best;
	}
	return best;
}

static inline uint32_t pf_step_find(const float x[PF_LANES], uint32_t beats, uint32_t key)
{
	uint32_t first = PF_LANES;
lanes:
	for (uint32_t l = 0; l < beats * PF_BEAT_LANES; l++) {
		uint32_t here = pf_key(x[l]) == key ? l : PF_LANES;
		first = here < first ? here : first;
	}
	return first;
}

/* Adds the terms q 2^at to the bins of the window. Every lane of a beat has its own pair of 32-bit partial sums per
 * slot, high and low part of the terms; they are added up at the end of the step. (A step has a beat at least: `do`
 * says so, and gcc then vectorises across the lanes.) */
static inline void pf_step_add(const int32_t q[PF_LANES], const uint32_t at[PF_LANES], uint32_t beats, uint32_t top,
                               int64_t bin[PF_BINS])
{
	int32_t high[PF_BINS][PF_BEAT_LANES];
	uint32_t low[PF_BINS][PF_BEAT_LANES];
#pragma HLS ARRAY_PARTITION variable=high complete dim=0
#pragma HLS ARRAY_PARTITION variable=low complete dim=0
	const uint32_t bin0 = pf_slot_bin(top, 0), bin1 = pf_slot_bin(top, 1);
	const uint32_t bin2 = pf_slot_bin(top, 2), bin3 = pf_slot_bin(top, 3);
lanes:
	for (uint32_t l = 0; l < PF_BEAT_LANES; l++) {
		int32_t h0 = 0, h1 = 0, h2 = 0, h3 = 0;
		uint32_t l0 = 0, l1 = 0, l2 = 0, l3 = 0;
		uint32_t b = 0;
beats:
		do {
			const int32_t term = q[b * PF_BEAT_LANES + l];
			const uint32_t place = at[b * PF_BEAT_LANES + l], shift = place & 15u, own = place >> 4;
			const int32_t h = term >> (20u - shift);
			const uint32_t r = ((uint32_t)term << shift) & 0xfffffu;
			h0 = own == bin0 ? h0 + h : h0;
			h1 = own == bin1 ? h1 + h : h1;
			h2 = own == bin2 ? h2 + h : h2;
			h3 = own == bin3 ? h3 + h : h3;
			l0 = own == bin0 ? l0 + r : l0;
			l1 = own == bin1 ? l1 + r : l1;
			l2 = own == bin2 ? l2 + r : l2;
			l3 = own == bin3 ? l3 + r : l3;
		} while (++b < beats);
		high[0][l] = h0;
		high[1][l] = h1;
		high[2][l] = h2;
		high[3][l] = h3;
		low[0][l] = l0;
		low[1][l] = l1;
		low[2][l] = l2;
		low[3][l] = l3;
	}
slots:
	for (uint32_t j = 0; j < PF_BINS; j++) {
		int64_t upper = 0, lower = 0;
parts:
		for (uint32_t l = 0; l < PF_BEAT_LANES; l++) {
			upper += high[j][l];
			lower += low[j][l];
		}
		bin[j] += upper * (1 << 20) + lower;
	}
}

/* Sum of the logits that have a probability: whole and fractional parts apart, per lane of a beat as above */
static inline void pf_step_logits(const float x[PF_LANES], const uint32_t at[PF_LANES], uint32_t beats,
                                  struct pf_scan *s)
{
	int32_t whole[PF_BEAT_LANES], fraction[PF_BEAT_LANES];
	uint32_t live[PF_BEAT_LANES];
#pragma HLS ARRAY_PARTITION variable=whole complete
#pragma HLS ARRAY_PARTITION variable=fraction complete
#pragma HLS ARRAY_PARTITION variable=live complete
lanes:
	for (uint32_t l = 0; l < PF_BEAT_LANES; l++) {
		int32_t w = 0, f = 0;
		uint32_t n = 0, b = 0;
beats:
		do {
			const uint32_t here = 0u - (uint32_t)(at[b * PF_BEAT_LANES + l] != 0);
			const float z = pf_float(pf_bits(x[b * PF_BEAT_LANES + l]) & here);
			const int32_t integer = (int32_t)z;
			w += integer;
			f += (int32_t)((z - (float)integer) * 0x1p24f);
			n -= here;
		} while (++b < beats);
		whole[l] = w;
		fraction[l] = f;
		live[l] = n;
	}
	int64_t logits = 0;
	uint32_t lives = 0;
total:
	for (uint32_t l = 0; l < PF_BEAT_LANES; l++) {
		logits += (int64_t)whole[l] * (1 << 24) + fraction[l];
		lives += live[l];
	}
	s->logits += logits;
	s->live += lives;
}

static inline void pf_step_stats(const float left[PF_LANES], const int32_t q[PF_LANES], const uint32_t at[PF_LANES],
                                 uint32_t beats, const struct pf_scan *s, int64_t moment[PF_BINS],
                                 int64_t square[PF_BINS])
{
	int32_t qm[PF_LANES], q2[PF_LANES];
	uint32_t at2[PF_LANES];
#pragma HLS ARRAY_PARTITION variable=qm complete
#pragma HLS ARRAY_PARTITION variable=q2 complete
#pragma HLS ARRAY_PARTITION variable=at2 complete
lanes:
	for (uint32_t l = 0; l < beats * PF_BEAT_LANES; l++) {
		qm[l] = pf_moment_term(q[l], at[l], left[l]);
		q2[l] = pf_square_term(q[l]);
		at2[l] = 2 * at[l];
	}
	pf_step_add(qm, at, beats, s->top, moment);
	pf_step_add(q2, at2, beats, s->top_p2, square);
}

static inline uint32_t pf_higher(uint32_t a, uint32_t b) { return a > b ? a : b; }

/* The terms of a step whose largest logit has key `best`, below PF_LOGIT_LIMIT's */
static inline void pf_scan_terms(const float x[PF_LANES], uint32_t beats, uint32_t best, uint32_t flags,
                                 struct pf_scan *s, int64_t sum[PF_BINS], int64_t moment[PF_BINS],
                                 int64_t square[PF_BINS])
{
	const uint32_t width = beats * PF_BEAT_LANES;
	float left[PF_LANES], unused;
	int32_t q[PF_LANES];
	uint32_t at[PF_LANES];
#pragma HLS ARRAY_PARTITION variable=left complete
#pragma HLS ARRAY_PARTITION variable=q complete
#pragma HLS ARRAY_PARTITION variable=at complete
	const uint32_t place = pf_exp_at(pf_key_logit(best), &unused);
	const uint32_t top = pf_higher(place >> 4, s->top), top_p2 = pf_higher(place >> 3, s->top_p2);
	pf_bins_move(sum, s->top, top);
	pf_bins_move(moment, s->top, top);
	pf_bins_move(square, s->top_p2, top_p2);
	s->top = top;
	s->top_p2 = top_p2;
places:
	for (uint32_t l = 0; l < width; l++)
		at[l] = pf_exp_at(x[l], &left[l]);
terms:
	for (uint32_t l = 0; l < width; l++)
		q[l] = pf_exp_term(left[l]);
	pf_step_add(q, at, beats, top, sum);
	if (flags & PF_WANT_STATS) {
		pf_step_logits(x, at, beats, s);
		pf_step_stats(left, q, at, beats, s, moment, square);
	}
}

/* Targets of a block's rows [0, n), those beyond ignored, and states without a logit */
static inline void pf_block_begin(const int32_t *from, uint32_t n, struct pf_scan scan[PF_TOKENS],
                                  int32_t target[PF_TOKENS], int64_t sum[PF_TOKENS][PF_BINS],
                                  int64_t moment[PF_TOKENS][PF_BINS], int64_t square[PF_TOKENS][PF_BINS])
{
begin:
	for (uint32_t t = 0; t < PF_TOKENS; t++) {
#pragma HLS PIPELINE II=1
		const struct pf_scan none = { .top = PF_TOP_NONE, .top_p2 = PF_TOP_NONE };
		scan[t] = none;
		target[t] = t < n ? from[t] : PF_IGNORE;
bins:
		for (uint32_t j = 0; j < PF_BINS; j++)
			sum[t][j] = moment[t][j] = square[t][j] = 0;
	}
}

/* The state of a row of `vocab` logits after its last step */
static inline void pf_scan_state(const struct pf_scan *s, const int64_t sum[PF_BINS], const int64_t moment[PF_BINS],
                                 const int64_t square[PF_BINS], uint32_t vocab, struct pf_shard *out)
{
	pf_bins_window(sum, s->top, out->sum);
	pf_bins_window(moment, s->top, out->moment);
	pf_bins_window(square, s->top_p2, out->sum_p2);
	out->logits = s->live < vocab ? INT64_MIN : s->logits;
	out->top = (int32_t)s->top;
	out->top_p2 = (int32_t)s->top_p2;
	out->max = pf_key_logit(s->best);
	out->argmax = s->argmax;
	out->target = s->target;
	out->status = s->best >= pf_key(PF_LOGIT_LIMIT) ? PF_ROW_RANGE : 0;
}
#endif
