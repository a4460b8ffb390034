/* linear_filter.h: the filter of linear_grad: groups of 16 words of a port and a block's 64 tokens are left out where
 * no probability reaches its limit, and what was left out is counted (kernels.def, PF_LINEAR_FILTER). */
#ifndef PF_HLS_LINEAR_FILTER_H
#define PF_HLS_LINEAR_FILTER_H
#include "linear_token.h"

/* The filter over a tile: 16 words of each port are left out or kept */
struct pf_sieve {
	float    least;                /* what a share must reach to be kept; 0: everything is */
	uint32_t kept;                 /* bit p: the words of port p */
};

static inline uint32_t pf_share_largest(const float share[PF_TOKENS])
{
	uint32_t largest = 0;
tokens:
	for (uint32_t t = 0; t < PF_TOKENS; t++) {
		const uint32_t bits = pf_bits(share[t]);
		largest = bits > largest ? bits : largest;
	}
	return largest;
}

static inline void pf_sieve_add(const float share[PF_TOKENS], uint32_t fresh, uint64_t mass[PF_TOKENS])
{
tokens:
	for (uint32_t t = 0; t < PF_TOKENS; t++)
		mass[t] = (fresh ? 0 : mass[t]) + (uint64_t)(int64_t)(share[t] * 0x1p40f);
}

/* Words of the tile that are left out */
static inline uint32_t pf_sieve_words(const struct pf_sieve *sieve, uint32_t vocab, uint32_t tile)
{
	uint32_t words = 0;
ports:
	for (uint32_t p = 0; p < PF_WEIGHT_PORTS; p++) {
#pragma HLS UNROLL factor=4
		words += sieve->kept >> p & 1u ? 0 : (uint32_t)pf_tile_rows(vocab, p, tile);
	}
	return words;
}

/* Makes dz of what is left out 0, and counts it */
static void pf_tile_drop(const struct pf_sieve *sieve, const uint64_t mass[PF_WEIGHT_PORTS][PF_TOKENS],
                         const struct pf_token token[PF_TOKENS], uint32_t words, uint32_t saved,
                         float dz[PF_TOKENS][PF_TOKENS], float dzt[PF_TOKENS][PF_TOKENS],
                         struct pf_filtered filtered[PF_TOKENS])
{
drop:
	for (uint32_t r = 0; r < PF_TOKENS; r++) {
#pragma HLS PIPELINE II=16
		const uint32_t out = !(sieve->kept >> r / PF_TILE_ROWS & 1u);
tokens:
		for (uint32_t t = 0; t < PF_TOKENS; t++) {
			dz[t][r] = out ? 0.0f : dz[t][r];
			dzt[r][t] = out ? 0.0f : dzt[r][t];
		}
	}
count:
	for (uint32_t t = 0; t < PF_TOKENS; t++) {
#pragma HLS PIPELINE II=1
		uint64_t sum = 0;
ports:
		for (uint32_t p = 0; p < PF_WEIGHT_PORTS; p++)
			sum += sieve->kept >> p & 1u ? 0 : mass[p][t];
		filtered[t].mass_q40 += sum;
		filtered[t].words += token[t].live ? words : 0;
		filtered[t].saved += token[t].live ? saved : 0;
	}
}

static void pf_filtered_clear(struct pf_filtered filtered[PF_TOKENS])
{
	const struct pf_filtered none = { 0 };
clear:
	for (uint32_t t = 0; t < PF_TOKENS; t++) {
#pragma HLS PIPELINE II=1
		filtered[t] = none;
	}
}

/* Four tokens a beat */
static void pf_filtered_write(const struct pf_filtered filtered[PF_TOKENS], uint32_t n, struct pf_beat_f32 *to)
{
counts:
	for (uint32_t t = 0; t < n; t += 4) {
#pragma HLS PIPELINE II=2
#pragma HLS LOOP_TRIPCOUNT min=1 max=16
		struct pf_beat_f32 w;
lanes:
		for (uint32_t i = 0; i < 4; i++) {
			const struct pf_filtered f = filtered[t + i];
			w.lane[4 * i] = (uint32_t)f.mass_q40;
			w.lane[4 * i + 1] = (uint32_t)(f.mass_q40 >> 32);
			w.lane[4 * i + 2] = f.words;
			w.lane[4 * i + 3] = f.saved;
		}
		to[t / 4] = w;
	}
}
#endif
