/* linear_tile.h: what linear_logprob and linear_grad share: 64 x 64 tiles, their products, and raw logits to logits.
 *
 * A block of PF_TOKENS tokens lies on chip transposed, ht[d][token] (2 MiB at D = 8192: 64 URAMs of two floats a word).
 * W passes by in tiles of 64 rows, 16 from each port, cut along D into pieces of 64 x 64 that are multiplied while the
 * next one is read (two buffers of 16 KiB): one read of W serves the whole block. A read is 4 beats a row and 16 KiB a
 * piece, while its product takes 64 x 16 cycles: 5 GB/s over four ports at 300 MHz, so that short bursts do no harm.
 *
 * The array has 4 x 64 multipliers and adders (5 DSPs each: 1,280). A cycle adds one product to 4 rows of 64 sums; the
 * same 4 rows come again after 16 cycles, longer than an fp32 adder takes, so II = 1 without a carried addition. A
 * larger card has more compute units, not other arrays. The order of every sum is fixed (kernels.def): PF_RUN products
 * are added in one visit of a row, 1 on a card, all 64 in the simulator, where sums then stay in registers. That Vitis
 * reaches this II, the DSPs per operator and the overlap of reading with multiplying, only Vitis can confirm. */
#ifndef PF_HLS_LINEAR_TILE_H
#define PF_HLS_LINEAR_TILE_H
#if defined(PF_STEP) && PF_STEP > 4
#undef PF_STEP
#define PF_STEP 4                      /* a tile's row of logits has four beats */
#endif
#include "row_scan.h"

#define PF_PIECE_BEATS 4               /* beats of a row of a piece */
#define PF_DEPTH_LANES (PF_DEPTH_MAX * 16)
#if PF_STEP == 1
#define PF_RUN 1
#else
#define PF_RUN PF_TOKENS
#endif
_Static_assert(PF_TOKENS == 4 * PF_TILE_ROWS && PF_TOKENS == 16 * PF_PIECE_BEATS, "tiles are square");
_Static_assert(PF_DEPTH_MAX % PF_PIECE_BEATS == 0, "the last piece fits");

/* ---- pieces ---- */

/* Rows [first, first + PF_TILE_ROWS) of a piece from rows of `depth` beats; rows and beats that are not there are 0 */
static void pf_piece_read(const struct PF_BEAT *from, uint64_t rows, uint32_t depth, uint32_t beats, uint32_t first,
                          float piece[PF_TOKENS][PF_TOKENS])
{
rows:
	for (uint32_t r = 0; r < PF_TILE_ROWS; r++) {
#pragma HLS LOOP_TRIPCOUNT min=16 max=16
beats:
		for (uint32_t b = 0; b < PF_PIECE_BEATS; b++) {
#pragma HLS PIPELINE II=1
			struct PF_BEAT w = { { 0 } };
			if (r < rows && b < beats)
				w = from[(uint64_t)r * depth + b];
lanes:
			for (uint32_t l = 0; l < PF_BEAT_LANES; l++)
				piece[first + r][b * PF_BEAT_LANES + l] = pf_lane_load(w.lane[l]);
		}
	}
}

/* Rows of W behind one port that belong to a tile, of 16 */
static inline uint64_t pf_tile_rows(uint32_t vocab, uint32_t port, uint32_t tile)
{
	const uint64_t all = PF_PORT_ROWS(vocab, port), first = (uint64_t)tile * PF_TILE_ROWS;
	return all < first ? 0 : all - first < PF_TILE_ROWS ? all - first : PF_TILE_ROWS;
}

/* Vocabulary index of row r of a tile, in [0, 64), and whether there is one */
static inline uint32_t pf_tile_index(uint32_t vocab, uint32_t tile, uint32_t r)
{
	return r / PF_TILE_ROWS * PF_PORT_SHARE(vocab) + tile * PF_TILE_ROWS + r % PF_TILE_ROWS;
}
static inline uint32_t pf_tile_has(uint32_t vocab, uint32_t tile, uint32_t r)
{
	return tile * PF_TILE_ROWS + r % PF_TILE_ROWS < PF_PORT_ROWS(vocab, r / PF_TILE_ROWS);
}

/* The piece of W at a tile and at beat k of its rows */
static void pf_weight_read(const struct PF_BEAT *w0, const struct PF_BEAT *w1, const struct PF_BEAT *w2,
                           const struct PF_BEAT *w3, uint32_t vocab, uint32_t tile, uint32_t depth, uint32_t k,
                           float piece[PF_TOKENS][PF_TOKENS])
{
	const uint64_t at = (uint64_t)tile * PF_TILE_ROWS * depth + k;
	const uint32_t beats = depth - k;
	pf_piece_read(w0 + at, pf_tile_rows(vocab, 0, tile), depth, beats, 0, piece);
	pf_piece_read(w1 + at, pf_tile_rows(vocab, 1, tile), depth, beats, PF_TILE_ROWS, piece);
	pf_piece_read(w2 + at, pf_tile_rows(vocab, 2, tile), depth, beats, 2 * PF_TILE_ROWS, piece);
	pf_piece_read(w3 + at, pf_tile_rows(vocab, 3, tile), depth, beats, 3 * PF_TILE_ROWS, piece);
}

/* ht[d][t] of tokens [0, n); other tokens, and what pads the last piece, 0 */
static void pf_hidden_read(const struct PF_BEAT *hidden, uint32_t n, uint32_t depth,
                           float ht[PF_DEPTH_LANES][PF_TOKENS])
{
pieces:
	for (uint32_t k = 0; k < depth; k += PF_PIECE_BEATS) {
#pragma HLS LOOP_TRIPCOUNT min=1 max=128
tokens:
		for (uint32_t t = 0; t < PF_TOKENS; t++) {
#pragma HLS LOOP_TRIPCOUNT min=64 max=64
beats:
			for (uint32_t b = k; b < k + PF_PIECE_BEATS; b++) {
#pragma HLS PIPELINE II=1
#pragma HLS LOOP_TRIPCOUNT min=4 max=4
				struct PF_BEAT w = { { 0 } };
				if (t < n && b < depth)
					w = hidden[(uint64_t)t * depth + b];
lanes:
				for (uint32_t l = 0; l < PF_BEAT_LANES; l++)
					ht[b * PF_BEAT_LANES + l][t] = pf_lane_load(w.lane[l]);
			}
		}
	}
}

/* ---- products ---- */

/* out[i][j] = sum of a[i][k] b[k][j], k ascending from 0. (A run has a product at least: `do` says so, and gcc
 * then vectorises across the lanes.) */
static void pf_piece_multiply(const float a[restrict PF_TOKENS][PF_TOKENS],
                              const float b[restrict PF_TOKENS][PF_TOKENS],
                              float out[restrict PF_TOKENS][PF_TOKENS])
{
runs:
	for (uint32_t k0 = 0; k0 < PF_TOKENS; k0 += PF_RUN) {
#pragma HLS LOOP_TRIPCOUNT min=64 max=64
		const float (*from)[PF_TOKENS] = b + k0;
rows:
		for (uint32_t i = 0; i < PF_TOKENS; i += 4) {
#pragma HLS PIPELINE II=1
			const float (*own)[PF_TOKENS] = a + i;
lanes:
			for (uint32_t j = 0; j < PF_TOKENS; j++) {
				float s0 = k0 ? out[i][j] : 0.0f, s1 = k0 ? out[i + 1][j] : 0.0f;
				float s2 = k0 ? out[i + 2][j] : 0.0f, s3 = k0 ? out[i + 3][j] : 0.0f;
				uint32_t k = 0;
run:
				do {
					const float x = from[k][j];
					s0 += own[0][k0 + k] * x;
					s1 += own[1][k0 + k] * x;
					s2 += own[2][k0 + k] * x;
					s3 += own[3][k0 + k] * x;
				} while (++k < PF_RUN);
				out[i][j] = s0;
				out[i + 1][j] = s1;
				out[i + 2][j] = s2;
				out[i + 3][j] = s3;
			}
		}
	}
}

/* to[i][j] += from[i][j]; `start`: = */
static void pf_piece_add(const float from[PF_TOKENS][PF_TOKENS], uint32_t start, float to[PF_TOKENS][PF_TOKENS])
{
rows:
	for (uint32_t i = 0; i < PF_TOKENS; i++) {
#pragma HLS PIPELINE II=1
		const float *own = from[i];
lanes:
		for (uint32_t j = 0; j < PF_TOKENS; j++)
			to[i][j] = (start ? 0.0f : to[i][j]) + own[j];
	}
}

/* Bias of a tile; rows that are not there get -inf: raw logits without a probability */
static void pf_tile_bias(const float *bias, uint32_t vocab, uint32_t tile, uint32_t given,
                         float raw[PF_TOKENS][PF_TOKENS])
{
rows:
	for (uint32_t r = 0; r < PF_TOKENS; r++) {
#pragma HLS PIPELINE II=1
		const uint32_t has = pf_tile_has(vocab, tile, r);
		const float b = has && given ? bias[pf_tile_index(vocab, tile, r)] : 0.0f;
lanes:
		for (uint32_t t = 0; t < PF_TOKENS; t++)
			raw[r][t] = has ? raw[r][t] + b : pf_float(PF_F32_SIGN | PF_F32_INF);
	}
}

/* Raw logits of a tile for the block in ht: raw[row of the tile][token] */
static void pf_tile_raw(const struct PF_BEAT *w0, const struct PF_BEAT *w1, const struct PF_BEAT *w2,
                        const struct PF_BEAT *w3, const float *bias, uint32_t vocab, uint32_t tile, uint32_t depth,
                        uint32_t given, const float ht[PF_DEPTH_LANES][PF_TOKENS], float raw[PF_TOKENS][PF_TOKENS])
{
pieces:
	for (uint32_t k = 0; k < depth; k += PF_PIECE_BEATS) {
#pragma HLS LOOP_TRIPCOUNT min=1 max=128
		float piece[PF_TOKENS][PF_TOKENS], product[PF_TOKENS][PF_TOKENS];
#pragma HLS ARRAY_PARTITION variable=product complete dim=2
		pf_weight_read(w0, w1, w2, w3, vocab, tile, depth, k, piece);
		pf_piece_multiply(piece, ht + k * PF_BEAT_LANES, product);
		pf_piece_add(product, k == 0, raw);
	}
	pf_tile_bias(bias, vocab, tile, given, raw);
}

/* A tile of raw logits as it lies in memory: 64 rows of 64 tokens */
static inline uint64_t pf_raw_at(uint32_t block, uint32_t vocab, uint32_t tile)
{
	return ((uint64_t)block * PF_TILES(vocab) + tile) * PF_TOKENS * PF_PIECE_BEATS;
}

/* ---- raw logits to logits ---- */
struct pf_form { float scale, softcap, inverse_softcap, inverse_temperature; };

static inline struct pf_form pf_form_of(float scale, float softcap, float temperature)
{
	struct pf_form f = { scale, softcap, 0.0f, 1.0f / temperature };
	if (softcap > 0.0f)
		f.inverse_softcap = 1.0f / softcap;
	return f;
}

/* tanh x and 1 - tanh^2 x, both to a few ULP however near 1 the former is */
static inline float pf_tanh(float x, float *slope)
{
	const float a = pf_float(pf_bits(x) & PF_F32_ABS), q = pf_exp(-2.0f * a), s = 1.0f / (1.0f + q);
	const float t = -pf_expm1(-2.0f * a) * s;
	*slope = 4.0f * q * s * s;
	return x < 0.0f ? -t : t;
}

/* The logit; *slope: its derivative by the raw logit */
static inline float pf_form_logit(float raw, const struct pf_form *f, float *slope)
{
	float y = raw * f->scale, bend = 1.0f;
	if (f->softcap > 0.0f)
		y = f->softcap * pf_tanh(y * f->inverse_softcap, &bend);
	*slope = bend * f->scale * f->inverse_temperature;
	const float other = pf_bits(raw) == (PF_F32_SIGN | PF_F32_INF) ? raw : pf_float(PF_F32_NAN);
	return (pf_bits(raw) & PF_F32_ABS) < PF_F32_INF ? y * f->inverse_temperature : other;
}
#endif
