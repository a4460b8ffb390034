/* linear_words.h: the fused head between products and probabilities, whatever the products are of: the words of a tile,
 * their bias, raw logits to logits, and where raw logits lie.
 *
 * Only rows of hidden, W and dhidden have the lanes of a kernel's variant (PF_MATRIX); logits, their scan and dW are
 * fp32, so the variants of beat.h are not wanted here. */
#ifndef PF_HLS_LINEAR_WORDS_H
#define PF_HLS_LINEAR_WORDS_H
#ifdef PF_BF16
#undef PF_BF16
#define PF_MATRIX pf_beat_bf16
#define PF_MATRIX_LANES 32
#define PF_LINEAR(kernel) kernel##_bf16
#else
#define PF_MATRIX pf_beat_f32
#define PF_MATRIX_LANES 16
#define PF_LINEAR(kernel) kernel
#endif
#if defined(PF_STEP) && PF_STEP > 4
#undef PF_STEP
#define PF_STEP 4                      /* a tile's row of logits has four beats */
#endif
#include "row_scan.h"

#define PF_ROW_BEATS 4                 /* beats of 64 fp32: a tile's row of logits, a piece's row of dW */
#define PF_ROW_TILE (PF_TILE_ROWS * PF_ROW_BEATS)
#define PF_ROW_SQUARE (PF_TOKENS * PF_ROW_BEATS)
_Static_assert(PF_TOKENS == 4 * PF_TILE_ROWS && PF_TOKENS == PF_BEAT_LANES * PF_ROW_BEATS, "tiles are square");

/* ---- words of a tile ---- */

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

/* A raw logit with its bias; rows that are not there get -inf: raw logits without a probability */
static inline float pf_biased(float dot, float bias, uint32_t has)
{
	return has ? dot + bias : pf_float(PF_F32_SIGN | PF_F32_INF);
}

/* Bias of a tile's words, and which of them there are */
static inline void pf_words_read(const float *bias, uint32_t vocab, uint32_t tile, uint32_t given,
                                 float own[PF_TOKENS], uint32_t has[PF_TOKENS])
{
words:
	for (uint32_t r = 0; r < PF_TOKENS; r++) {
#pragma HLS PIPELINE II=1
		has[r] = pf_tile_has(vocab, tile, r);
		own[r] = has[r] && given ? bias[pf_tile_index(vocab, tile, r)] : 0.0f;
	}
}

/* Bias of a tile where it lies */
static inline void pf_tile_bias(const float *bias, uint32_t vocab, uint32_t tile, uint32_t given,
                                float raw[PF_TOKENS][PF_TOKENS])
{
bias:
	for (uint32_t r = 0; r < PF_TOKENS; r++) {
#pragma HLS PIPELINE II=1
		const uint32_t has = pf_tile_has(vocab, tile, r);
		const float b = has && given ? bias[pf_tile_index(vocab, tile, r)] : 0.0f;
lanes:
		for (uint32_t t = 0; t < PF_TOKENS; t++)
			raw[r][t] = pf_biased(raw[r][t], b, has);
	}
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

/* ---- raw logits in memory ---- */

/* A tile of raw logits as it lies in memory: 64 rows of 64 tokens */
static inline uint64_t pf_raw_at(uint32_t block, uint32_t vocab, uint32_t tile)
{
	return ((uint64_t)block * PF_TILES(vocab) + tile) * PF_TOKENS * PF_ROW_BEATS;
}
#endif
