/* linear_scan.h: a block of 64 tokens scanned tile by tile into the integers of row_scan.h, and its raw logits written.
 */
#ifndef PF_HLS_LINEAR_SCAN_H
#define PF_HLS_LINEAR_SCAN_H
#include "linear_words.h"
#include "prefpga/internal/row_finish.h"

#define PF_TILE_STEPS (PF_TOKENS * ((PF_ROW_BEATS + PF_STEP - 1) / PF_STEP))

/* The row of the tile that is token y, or PF_TOKENS */
static inline uint32_t pf_tile_find(uint32_t vocab, uint32_t tile, uint32_t y)
{
	const uint32_t share = PF_PORT_SHARE(vocab), port = y / share, row = y - port * share;
	return y < vocab && row / PF_TILE_ROWS == tile ? port * PF_TILE_ROWS + row % PF_TILE_ROWS : PF_TOKENS;
}

/* A step of one token: logits x of rows [first, first + PF_LANES) of the tile */
static inline void pf_token_scan(const float x[PF_LANES], uint32_t beats, uint32_t vocab, uint32_t tile, uint32_t first,
                                 uint32_t flags, uint32_t target, struct pf_scan *s, int64_t sum[PF_BINS],
                                 int64_t moment[PF_BINS], int64_t square[PF_BINS])
{
	const uint32_t best = pf_step_best(x, beats), row = pf_tile_find(vocab, tile, target);
	if (row >= first && row < first + beats * PF_BEAT_LANES)
		s->target = x[row - first];
	if (best >= s->best) {
		const uint32_t at = pf_tile_index(vocab, tile, first + pf_step_find(x, beats, best));
		s->argmax = best > s->best || at < s->argmax ? at : s->argmax;
		s->best = best;
	}
	if (best < pf_key(PF_LOGIT_LIMIT))
		pf_scan_terms(x, beats, best, flags, s, sum, moment, square);
}

/* dot[row of the tile][token]: beat by beat, and within it token by token */
static void pf_block_scan(const float dot[PF_TOKENS][PF_TOKENS], const float bias[PF_TOKENS],
                          const uint32_t has[PF_TOKENS], const struct pf_form *form, uint32_t vocab,
                          uint32_t tile, uint32_t flags, const int32_t target[PF_TOKENS],
                          struct pf_scan scan[PF_TOKENS], int64_t sum[PF_TOKENS][PF_BINS],
                          int64_t moment[PF_TOKENS][PF_BINS], int64_t square[PF_TOKENS][PF_BINS])
{
steps:
	for (uint32_t n = 0; n < PF_TILE_STEPS; n++) {
#pragma HLS PIPELINE II=4
#pragma HLS DEPENDENCE variable=scan inter RAW distance=64 true
#pragma HLS DEPENDENCE variable=sum inter RAW distance=64 true
#pragma HLS DEPENDENCE variable=moment inter RAW distance=64 true
#pragma HLS DEPENDENCE variable=square inter RAW distance=64 true
		const uint32_t t = n % PF_TOKENS, b = n / PF_TOKENS * PF_STEP, first = b * PF_BEAT_LANES;
		const uint32_t beats = pf_step_beats(PF_ROW_BEATS - b);
		float x[PF_LANES], unused;
#pragma HLS ARRAY_PARTITION variable=x complete
		if (target[t] < 0)
			continue;
logits:
		for (uint32_t l = 0; l < beats * PF_BEAT_LANES; l++)
			x[l] = pf_form_logit(pf_biased(dot[first + l][t], bias[first + l], has[first + l]), form,
			                     &unused);
		struct pf_scan s = scan[t];
		pf_token_scan(x, beats, vocab, tile, first, flags, (uint32_t)target[t], &s, sum[t], moment[t],
		              square[t]);
		scan[t] = s;
	}
}

static inline void pf_put64(int64_t value, struct pf_beat_f32 *beat, uint32_t lane)
{
	beat->lane[lane] = (uint32_t)value;
	beat->lane[lane + 1] = (uint32_t)((uint64_t)value >> 32);
}

/* A state as it lies in memory: two beats */
static void pf_shard_write(const struct pf_shard *s, struct pf_beat_f32 *to)
{
	struct pf_beat_f32 a, b;
bins:
	for (uint32_t j = 0; j < PF_BINS; j++) {
#pragma HLS UNROLL factor=4
		pf_put64(s->sum[j], &a, 2 * j);
		pf_put64(s->sum_p2[j], &a, 8 + 2 * j);
		pf_put64(s->moment[j], &b, 2 * j);
	}
	pf_put64(s->logits, &b, 8);
	b.lane[10] = (uint32_t)s->top;
	b.lane[11] = (uint32_t)s->top_p2;
	b.lane[12] = pf_bits(s->max);
	b.lane[13] = pf_bits(s->target);
	b.lane[14] = s->argmax;
	b.lane[15] = s->status;
	to[0] = a;
	to[1] = b;
}

/* Records of a block, or with PF_LINEAR_SHARD its states */
static void pf_block_finish(const struct pf_scan scan[PF_TOKENS], const int32_t target[PF_TOKENS],
                            const int64_t sum[PF_TOKENS][PF_BINS], const int64_t moment[PF_TOKENS][PF_BINS],
                            const int64_t square[PF_TOKENS][PF_BINS], uint32_t n, uint32_t vocab, uint32_t flags,
                            uint32_t shards, struct pf_row *out, struct pf_beat_f32 *shard)
{
finish:
	for (uint32_t t = 0; t < n; t++) {
#pragma HLS PIPELINE II=16
#pragma HLS LOOP_TRIPCOUNT min=1 max=64
		const struct pf_shard none = { .status = PF_ROW_IGNORED };
		struct pf_shard s = none;
		if (target[t] >= 0)
			pf_scan_state(&scan[t], sum[t], moment[t], square[t], vocab, &s);
		if (shards) {
			pf_shard_write(&s, shard + 2 * t);
		} else {
			struct pf_row row;
			if (target[t] >= 0)
				s.status = pf_row_status_of(&s, target[t], vocab);
			pf_row_finish(&s, vocab, flags, &row);
			out[t] = row;
		}
	}
}

static void pf_raw_write(const float dot[PF_TOKENS][PF_TOKENS], const float bias[PF_TOKENS],
                         const uint32_t has[PF_TOKENS], struct pf_beat_f32 *to)
{
raw:
	for (uint32_t n = 0; n < PF_ROW_SQUARE; n++) {
#pragma HLS PIPELINE II=1
		const uint32_t r = n / PF_ROW_BEATS, b = n % PF_ROW_BEATS;
		struct pf_beat_f32 w;
lanes:
		for (uint32_t l = 0; l < PF_BEAT_LANES; l++)
			w.lane[l] = pf_lane_store(pf_biased(dot[r][b * PF_BEAT_LANES + l], bias[r], has[r]));
		to[n] = w;
	}
}

/* What is done with the products of a tile while those of the next are formed: raw logits to `to` if they are to be
 * kept, and the scan */
static void pf_tile_scan(const float dot[PF_TOKENS][PF_TOKENS], const float *bias, const struct pf_form *form,
                         uint32_t vocab, uint32_t tile, uint32_t mode, struct pf_beat_f32 *to,
                         const int32_t target[PF_TOKENS], struct pf_scan scan[PF_TOKENS],
                         int64_t sum[PF_TOKENS][PF_BINS], int64_t moment[PF_TOKENS][PF_BINS],
                         int64_t square[PF_TOKENS][PF_BINS])
{
	float own[PF_TOKENS];
	uint32_t has[PF_TOKENS];
#pragma HLS ARRAY_PARTITION variable=own complete
#pragma HLS ARRAY_PARTITION variable=has complete
	pf_words_read(bias, vocab, tile, mode & PF_LINEAR_BIAS, own, has);
	if (mode & PF_LINEAR_RAW)
		pf_raw_write(dot, own, has, to);
	pf_block_scan(dot, own, has, form, vocab, tile, mode & PF_LINEAR_STATS ? PF_WANT_STATS : 0, target, scan, sum,
	              moment, square);
}
#endif
