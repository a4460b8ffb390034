/* linear_tile.h: what linear_logprob and linear_grad share: 64 x 64 tiles, their products, and raw logits to logits.
 *
 * A block of PF_TOKENS tokens lies on chip transposed, ht[d][token] (2 MiB at D = 8192). W passes by in tiles of 64
 * rows, 16 from each port, cut along D into pieces of 64 x 64: one read of W serves the whole block. Pieces go through
 * three processes that work at the same time on different pieces (DATAFLOW): read, multiply, add. A product takes
 * 64 x 16 cycles, reading and adding less than half of it: 5 GB/s over four ports at 300 MHz, so that short bursts do
 * no harm.
 *
 * The array has 4 x 64 multipliers and adders (5 DSPs each: 1,280). A cycle adds one product to 4 rows of 64 sums; the
 * same 4 rows come again after 16 cycles, longer than an fp32 adder takes, so II = 1 without a carried addition
 * (bitstreams/ii/ holds the DEPENDENCE pragma to that). The 4 rows are 16 apart: every buffer of 64 x 64 is 4 x 64
 * memories, a column of 16 rows in each, so that the ports of W fill a buffer at the same time, too. A larger card has
 * more compute units, not other arrays. The order of every sum is fixed (kernels.def): PF_RUN products are added in one
 * visit of a row, 1 on a card, all 64 in the simulator, where sums then stay in registers. What Vitis makes of it, only
 * Vitis can confirm; tests/bench/results/loops.csv says what the sources allow. */
#ifndef PF_HLS_LINEAR_TILE_H
#define PF_HLS_LINEAR_TILE_H
#if defined(PF_STEP) && PF_STEP > 4
#undef PF_STEP
#define PF_STEP 4                      /* a tile's row of logits has four beats */
#endif
#include "row_scan.h"

#define PF_PIECE_BEATS 4               /* beats of a row of a piece */
#define PF_TILE_BEATS (PF_TILE_ROWS * PF_PIECE_BEATS)
#define PF_SQUARE_BEATS (PF_TOKENS * PF_PIECE_BEATS)
#define PF_DEPTH_LANES (PF_DEPTH_MAX * 16)
#if PF_STEP == 1
#define PF_RUN 1
#else
#define PF_RUN PF_TOKENS
#endif
#define PF_VISITS (PF_TILE_ROWS * (PF_TOKENS / PF_RUN))
_Static_assert(PF_TOKENS == 4 * PF_TILE_ROWS && PF_TOKENS == 16 * PF_PIECE_BEATS, "tiles are square");
_Static_assert(PF_DEPTH_MAX % PF_PIECE_BEATS == 0, "the last piece fits");

/* ---- pieces ---- */

/* A beat of a row, 0 where it is not there */
static inline void pf_beat_read(const struct PF_BEAT *from, uint64_t at, uint32_t there, float to[PF_BEAT_LANES])
{
	struct PF_BEAT w = { { 0 } };
	if (there)
		w = from[at];
lanes:
	for (uint32_t l = 0; l < PF_BEAT_LANES; l++)
		to[l] = pf_lane_load(w.lane[l]);
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

/* The piece of W at a tile and at beat k of its rows: a beat from every port at a time. Rows and beats that are not
 * there are 0 */
static void pf_weight_read(const struct PF_BEAT *w0, const struct PF_BEAT *w1, const struct PF_BEAT *w2,
                           const struct PF_BEAT *w3, uint32_t vocab, uint32_t tile, uint32_t depth, uint32_t k,
                           float piece[PF_TOKENS][PF_TOKENS])
{
	const uint64_t first = (uint64_t)tile * PF_TILE_ROWS * depth + k;
	const uint64_t n0 = pf_tile_rows(vocab, 0, tile), n1 = pf_tile_rows(vocab, 1, tile);
	const uint64_t n2 = pf_tile_rows(vocab, 2, tile), n3 = pf_tile_rows(vocab, 3, tile);
beats:
	for (uint32_t n = 0; n < PF_TILE_BEATS; n++) {
#pragma HLS PIPELINE II=1
		const uint32_t r = n / PF_PIECE_BEATS, b = n % PF_PIECE_BEATS, lane = b * PF_BEAT_LANES;
		const uint32_t there = k + b < depth;
		const uint64_t at = first + (uint64_t)r * depth + b;
		pf_beat_read(w0, at, there && r < n0, &piece[r][lane]);
		pf_beat_read(w1, at, there && r < n1, &piece[PF_TILE_ROWS + r][lane]);
		pf_beat_read(w2, at, there && r < n2, &piece[2 * PF_TILE_ROWS + r][lane]);
		pf_beat_read(w3, at, there && r < n3, &piece[3 * PF_TILE_ROWS + r][lane]);
	}
}

/* ht[d][t] of tokens [0, n); other tokens, and what pads the last piece, 0. The 16 values of a beat lie in one memory
 * of two ports, hence II = 8: once a block, while W passes by for thousands of tiles */
static void pf_hidden_read(const struct PF_BEAT *hidden, uint32_t n, uint32_t depth,
                           float ht[PF_DEPTH_LANES][PF_TOKENS])
{
	const uint32_t padded = (depth + PF_PIECE_BEATS - 1) / PF_PIECE_BEATS * PF_PIECE_BEATS;
tokens:
	for (uint32_t t = 0; t < PF_TOKENS; t++) {
#pragma HLS LOOP_TRIPCOUNT min=64 max=64
hidden:
		for (uint32_t b = 0; b < padded; b++) {
#pragma HLS PIPELINE II=8
#pragma HLS LOOP_TRIPCOUNT min=4 max=512
			float row[PF_BEAT_LANES];
#pragma HLS ARRAY_PARTITION variable=row complete
			pf_beat_read(hidden, (uint64_t)t * depth + b, t < n && b < depth, row);
lanes:
			for (uint32_t l = 0; l < PF_BEAT_LANES; l++)
				ht[b * PF_BEAT_LANES + l][t] = row[l];
		}
	}
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
		const uint32_t i = n % PF_TILE_ROWS, k0 = n / PF_TILE_ROWS * PF_RUN;
		const float (*from)[PF_TOKENS] = b + k0;
		const float *own0 = a[i], *own1 = a[i + PF_TILE_ROWS];
		const float *own2 = a[i + 2 * PF_TILE_ROWS], *own3 = a[i + 3 * PF_TILE_ROWS];
		float *out0 = out[i], *out1 = out[i + PF_TILE_ROWS];
		float *out2 = out[i + 2 * PF_TILE_ROWS], *out3 = out[i + 3 * PF_TILE_ROWS];
lanes:
		for (uint32_t j = 0; j < PF_TOKENS; j++) {
			float s0 = k0 ? out0[j] : 0.0f, s1 = k0 ? out1[j] : 0.0f;
			float s2 = k0 ? out2[j] : 0.0f, s3 = k0 ? out3[j] : 0.0f;
			uint32_t k = 0;
run:
			do {
				const float x = from[k][j];
				s0 += own0[k0 + k] * x;
				s1 += own1[k0 + k] * x;
				s2 += own2[k0 + k] * x;
				s3 += own3[k0 + k] * x;
			} while (++k < PF_RUN);
			out0[j] = s0;
			out1[j] = s1;
			out2[j] = s2;
			out3[j] = s3;
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

/* Bias of a tile; rows that are not there get -inf: raw logits without a probability */
static void pf_tile_bias(const float *bias, uint32_t vocab, uint32_t tile, uint32_t given,
                         float raw[PF_TOKENS][PF_TOKENS])
{
bias:
	for (uint32_t r = 0; r < PF_TOKENS; r++) {
#pragma HLS PIPELINE II=1
		const uint32_t has = pf_tile_has(vocab, tile, r);
		const float b = has && given ? bias[pf_tile_index(vocab, tile, r)] : 0.0f;
lanes:
		for (uint32_t t = 0; t < PF_TOKENS; t++)
			raw[r][t] = has ? raw[r][t] + b : pf_float(PF_F32_SIGN | PF_F32_INF);
	}
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
