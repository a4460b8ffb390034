/* linear_tile.h: what linear_logprob and linear_grad share: 64 x 64 tiles and their products, of fp32 or bf16.
 *
 * A block of PF_TOKENS tokens lies on chip transposed, ht[d][token] (2 MiB at D = 8192). W passes by in tiles of 64
 * rows, 16 from each port, cut along D into pieces of 64 x 64: one read of W serves the whole block. Pieces go through
 * three processes that work at the same time on different pieces (DATAFLOW): read, multiply, add. A product takes
 * 64 x 16 cycles, reading and adding less than half of it: 5 GB/s over four ports at 300 MHz, so that short bursts do
 * no harm.
 *
 * The array has PF_ARRAY_ROWS x 64 multipliers and adders (5 DSPs each: 1,280 with 4 rows). A cycle adds one product to
 * 4 rows of 64 sums; the same 4 rows come again after 16 cycles, longer than an fp32 adder takes, so II = 1 without a
 * carried addition (bitstreams/ii/ holds the DEPENDENCE pragma to that). The 4 rows are 16 apart: every buffer of 64 x
 * 64 is 4 x 64 memories, a column of 16 rows in each, so that the ports of W fill a buffer at the same time, too. A
 * card with few DSPs has an array of 2 rows (cards.def), which goes over the piece twice: twice the cycles, every sum
 * in the same order. A larger card has more compute units, not larger arrays. The order of every sum is fixed
 * (kernels.def): PF_RUN products are added in one visit of a row, 1 on a card, all 64 in the simulator, where sums then
 * stay in registers. What Vitis makes of it, only Vitis can confirm; tests/bench/results/loops.csv says what the
 * sources allow.
 *
 * bf16 is widened at the port: a piece takes 2 beats a row, half the bytes of everything that moves. The array is the
 * same; that a tool makes smaller multipliers of it, as the low 16 bits of both factors are 0, only Vitis can
 * confirm. */
#ifndef PF_HLS_LINEAR_TILE_H
#define PF_HLS_LINEAR_TILE_H
#include "linear_words.h"

#define PF_PIECE_BEATS (PF_TOKENS / PF_MATRIX_LANES)   /* beats of a row of a piece */
#define PF_TILE_BEATS (PF_TILE_ROWS * PF_PIECE_BEATS)
#define PF_SQUARE_BEATS (PF_TOKENS * PF_PIECE_BEATS)
#define PF_DEPTH_LANES (PF_DEPTH_MAX * 16)
#if PF_STEP == 1
#define PF_RUN 1
#else
#define PF_RUN PF_TOKENS
#endif
#ifndef PF_ARRAY_ROWS
#define PF_ARRAY_ROWS 4
#endif
#define PF_PASS_VISITS (PF_TILE_ROWS * (PF_TOKENS / PF_RUN))   /* of PF_ARRAY_ROWS rows, 16 apart */
#define PF_VISITS (4 / PF_ARRAY_ROWS * PF_PASS_VISITS)
_Static_assert(PF_ARRAY_ROWS == 4 || PF_ARRAY_ROWS == 2, "an array takes all rows that are 16 apart, or half of them");
_Static_assert(PF_TOKENS == PF_MATRIX_LANES * PF_PIECE_BEATS && PF_DEPTH_LANES % PF_TOKENS == 0, "the last piece fits");

#if PF_MATRIX_LANES == 32
static inline float pf_matrix_load(uint16_t lane) { return pf_from_bf16(lane); }
static inline uint16_t pf_matrix_store(float x) { return pf_bf16(x); }
#else
static inline float pf_matrix_load(uint32_t lane) { return pf_float(lane); }
static inline uint32_t pf_matrix_store(float x) { return pf_bits(x); }
#endif

/* ---- pieces ---- */

/* A beat of a row, 0 where it is not there */
static inline void pf_beat_read(const struct PF_MATRIX *from, uint64_t at, uint32_t there, float to[PF_MATRIX_LANES])
{
	struct PF_MATRIX w = { { 0 } };
	if (there)
		w = from[at];
lanes:
	for (uint32_t l = 0; l < PF_MATRIX_LANES; l++)
		to[l] = pf_matrix_load(w.lane[l]);
}

/* The piece of W at a tile and at beat k of its rows: a beat from every port at a time. Rows and beats that are not
 * there are 0 */
static void pf_weight_read(const struct PF_MATRIX *w0, const struct PF_MATRIX *w1, const struct PF_MATRIX *w2,
                           const struct PF_MATRIX *w3, uint32_t vocab, uint32_t tile, uint32_t depth, uint32_t k,
                           float piece[PF_TOKENS][PF_TOKENS])
{
	const uint64_t first = (uint64_t)tile * PF_TILE_ROWS * depth + k;
	const uint64_t n0 = pf_tile_rows(vocab, 0, tile), n1 = pf_tile_rows(vocab, 1, tile);
	const uint64_t n2 = pf_tile_rows(vocab, 2, tile), n3 = pf_tile_rows(vocab, 3, tile);
beats:
	for (uint32_t n = 0; n < PF_TILE_BEATS; n++) {
#pragma HLS PIPELINE II=1
		const uint32_t r = n / PF_PIECE_BEATS, b = n % PF_PIECE_BEATS, lane = b * PF_MATRIX_LANES;
		const uint32_t there = k + b < depth;
		const uint64_t at = first + (uint64_t)r * depth + b;
		pf_beat_read(w0, at, there && r < n0, &piece[r][lane]);
		pf_beat_read(w1, at, there && r < n1, &piece[PF_TILE_ROWS + r][lane]);
		pf_beat_read(w2, at, there && r < n2, &piece[2 * PF_TILE_ROWS + r][lane]);
		pf_beat_read(w3, at, there && r < n3, &piece[3 * PF_TILE_ROWS + r][lane]);
	}
}

/* Rows of ht that tokens beyond a block's end and beats beyond a row's do not fill */
static void pf_hidden_clear(uint32_t lanes, float ht[PF_DEPTH_LANES][PF_TOKENS])
{
absent:
	for (uint32_t d = 0; d < lanes; d++) {
#pragma HLS PIPELINE II=1
#pragma HLS LOOP_TRIPCOUNT min=64 max=8192
		float *own = ht[d];
tokens:
		for (uint32_t t = 0; t < PF_TOKENS; t++)
			own[t] = 0.0f;
	}
}

static inline void pf_hidden_put(const struct PF_MATRIX *hidden, uint32_t k, uint32_t t, uint32_t b,
                                 float ht[PF_DEPTH_LANES][PF_TOKENS])
{
	float row[PF_MATRIX_LANES];
#pragma HLS ARRAY_PARTITION variable=row complete
	pf_beat_read(hidden, k, 1, row);
lanes:
	for (uint32_t l = 0; l < PF_MATRIX_LANES; l++)
		ht[b * PF_MATRIX_LANES + l][t] = row[l];
}

/* ht[d][t] of tokens [0, n); other tokens, and what pads the last piece, 0. The rows of a block lie behind each other:
 * one loop, one burst. The values of a beat lie in two memories of two ports, hence II = 4, or 8 where a beat has 32 */
static void pf_hidden_read(const struct PF_MATRIX *hidden, uint32_t n, uint32_t depth,
                           float ht[PF_DEPTH_LANES][PF_TOKENS])
{
	const uint32_t padded = (depth + PF_PIECE_BEATS - 1) / PF_PIECE_BEATS * PF_PIECE_BEATS;
	uint32_t t = 0, b = 0;
	if (n < PF_TOKENS || depth < padded)
		pf_hidden_clear(padded * PF_MATRIX_LANES, ht);
#if PF_MATRIX_LANES == 32
hidden:
	for (uint32_t k = 0; k < n * depth; k++) {
#pragma HLS PIPELINE II=8
#pragma HLS LOOP_TRIPCOUNT min=1 max=16384
		pf_hidden_put(hidden, k, t, b, ht);
		t += b + 1 == depth;
		b = b + 1 == depth ? 0 : b + 1;
	}
#else
hidden:
	for (uint32_t k = 0; k < n * depth; k++) {
#pragma HLS PIPELINE II=4
#pragma HLS LOOP_TRIPCOUNT min=1 max=32768
		pf_hidden_put(hidden, k, t, b, ht);
		t += b + 1 == depth;
		b = b + 1 == depth ? 0 : b + 1;
	}
#endif
}

/* ---- products ---- */

/* out[i][j] = sum of a[i][k] b[k][j], k ascending from 0. (A run has a product at least: `do` says so, and gcc
 * then vectorises across the lanes.) */
static void pf_piece_multiply(const float a[restrict PF_TOKENS][PF_TOKENS], const float (*restrict b)[PF_TOKENS],
                              float out[restrict PF_TOKENS][PF_TOKENS])
{
visits:
	for (uint32_t n = 0; n < PF_VISITS; n++) {
#pragma HLS PIPELINE II=1
#pragma HLS DEPENDENCE variable=out inter RAW distance=16 true
		const uint32_t i = n % PF_TILE_ROWS + n / PF_PASS_VISITS * PF_ARRAY_ROWS * PF_TILE_ROWS;
		const uint32_t k0 = n % PF_PASS_VISITS / PF_TILE_ROWS * PF_RUN;
		const float (*from)[PF_TOKENS] = b + k0;
		const float *own0 = a[i], *own1 = a[i + PF_TILE_ROWS];
		float *out0 = out[i], *out1 = out[i + PF_TILE_ROWS];
#if PF_ARRAY_ROWS == 4
		const float *own2 = a[i + 2 * PF_TILE_ROWS], *own3 = a[i + 3 * PF_TILE_ROWS];
		float *out2 = out[i + 2 * PF_TILE_ROWS], *out3 = out[i + 3 * PF_TILE_ROWS];
#endif
lanes:
		for (uint32_t j = 0; j < PF_TOKENS; j++) {
			float s0 = k0 ? out0[j] : 0.0f, s1 = k0 ? out1[j] : 0.0f;
#if PF_ARRAY_ROWS == 4
			float s2 = k0 ? out2[j] : 0.0f, s3 = k0 ? out3[j] : 0.0f;
#endif
			uint32_t k = 0;
run:
			do {
				const float x = from[k][j];
				s0 += own0[k0 + k] * x;
				s1 += own1[k0 + k] * x;
#if PF_ARRAY_ROWS == 4
				s2 += own2[k0 + k] * x;
				s3 += own3[k0 + k] * x;
#endif
			} while (++k < PF_RUN);
			out0[j] = s0;
			out1[j] = s1;
#if PF_ARRAY_ROWS == 4
			out2[j] = s2;
			out3[j] = s3;
#endif
		}
	}
}

/* to[i][j] += from[i][j]; `start`: = */
static void pf_piece_add(const float from[PF_TOKENS][PF_TOKENS], uint32_t start, float to[PF_TOKENS][PF_TOKENS])
{
add:
	for (uint32_t i = 0; i < PF_TOKENS; i++) {
#pragma HLS PIPELINE II=1
		const float *own = from[i];
lanes:
		for (uint32_t j = 0; j < PF_TOKENS; j++)
			to[i][j] = (start ? 0.0f : to[i][j]) + own[j];
	}
}

#endif
