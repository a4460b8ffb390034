/* linear_grad: the way back of linear_logprob: dhidden[T, D], dW[V, D] and dbias[V] from a coefficient a token.
 *
 * Per block of 64 tokens and tile of 64 words: raw logits are read (PF_LINEAR_RAW) or formed again, in the same bits;
 * dz follows from them and the row's record; then, piece by piece along D, dz W is added to the block's dhidden, which
 * lies on chip, and dz^T h to the tile's rows of dW in memory. Coefficients are in dz, before the sum over tokens:
 * after it they could not be applied. kernels.def states the order of every sum and the terms of dz.
 *
 * Rows that do not count (ignored, without a valid log-probability) enter neither product: their dz and their copy of
 * h are 0. Values of dz below 2^-126 are 0. A tile that the filter leaves out as a whole costs neither products nor
 * the reading of W. A coefficient that is not finite, or 2^126 and more, makes its row NaN,
 * and dW with it: the host does not send such. */
#include "linear_tile.h"
PF_KERNELS(PF_PROTOTYPE)

/* What a token's record and coefficient say: dz = p (c + extra + entropy z), at the target -c rest + p (extra +
 * entropy z) */
struct pf_token { float inv, c, extra, at_target, rest; int32_t exp2; uint32_t live, target; };

static inline struct pf_token pf_token_of(float c, const struct pf_row *row, int32_t target, float zloss, float entropy)
{
	struct pf_token k = { 0 };
	if (target < 0 || row->status != 0)
		return k;
	const float lse = row->max + row->log_sum;
	k.live = 1;
	k.target = (uint32_t)target;
	k.inv = row->inv;
	k.exp2 = (int32_t)(0u - (uint32_t)row->exp2 - PF_BIAS);
	k.c = (pf_bits(c) & PF_F32_ABS) < 0x7e800000u ? pf_same(c) : pf_float(PF_F32_NAN);
	k.extra = 2.0f * zloss * lse + entropy * (row->entropy - lse);
	k.rest = row->rest;
	k.at_target = pf_same(-(k.c * row->rest));
	return k;
}

/* dz; *share: |p - onehot|, what the filter asks for */
static inline float pf_token_dz(const struct pf_token *k, float raw, const struct pf_form *form, float entropy,
                                uint32_t v, float *share)
{
	float slope, left;
	const float z = pf_form_logit(raw, form, &slope);
	const uint32_t at = pf_exp_at(z, &left);
	const float p = pf_scaled_power(left, at, k->inv, k->exp2);
	const float more = k->extra + entropy * (p > 0.0f ? z : 0.0f);
	const float dz = v == k->target ? k->at_target + p * more : p * (k->c + more);
	const float far = v == k->target ? k->rest : p;
	*share = k->live ? far : 0.0f;
	return k->live && (pf_bits(raw) & PF_F32_ABS) < PF_F32_INF ? pf_same(dz * slope) : 0.0f;
}

static void pf_tokens_read(const int32_t *target, const float *coef, const struct pf_row *row, uint32_t n, float zloss,
                           float entropy, struct pf_token token[PF_TOKENS], uint32_t live[PF_TOKENS])
{
tokens:
	for (uint32_t t = 0; t < PF_TOKENS; t++) {
#pragma HLS PIPELINE II=2
		const struct pf_row none = { .status = PF_ROW_IGNORED };
		const struct pf_row record = t < n ? row[t] : none;
		token[t] = pf_token_of(t < n ? coef[t] : 0.0f, &record, t < n ? target[t] : PF_IGNORE, zloss, entropy);
		live[t] = token[t].live;
	}
}

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

/* dz[t][v] and its transpose from raw[v][t]; mass: sums of shares, Q.40 */
static void pf_tile_dz(const float raw[PF_TOKENS][PF_TOKENS], const struct pf_token token[PF_TOKENS],
                       const struct pf_form *form, float entropy, uint32_t vocab, uint32_t tile,
                       float dz[PF_TOKENS][PF_TOKENS], float dzt[PF_TOKENS][PF_TOKENS], struct pf_sieve *sieve,
                       uint64_t mass[PF_WEIGHT_PORTS][PF_TOKENS])
{
	const uint32_t least = pf_bits(sieve->least);
	uint32_t kept = 0;
dz:
	for (uint32_t r = 0; r < PF_TOKENS; r++) {
#pragma HLS PIPELINE II=16
		const uint32_t v = pf_tile_index(vocab, tile, r), port = r / PF_TILE_ROWS;
		float share[PF_TOKENS];
#pragma HLS ARRAY_PARTITION variable=share complete
tokens:
		for (uint32_t t = 0; t < PF_TOKENS; t++) {
			const float d = pf_token_dz(&token[t], raw[r][t], form, entropy, v, &share[t]);
			dz[t][r] = d;
			dzt[r][t] = d;
		}
		if (least != 0) {
			kept |= (uint32_t)(pf_share_largest(share) >= least) << port;
			pf_sieve_add(share, r % PF_TILE_ROWS == 0, mass[port]);
		}
	}
	sieve->kept = least != 0 ? kept : (1u << PF_WEIGHT_PORTS) - 1;
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

static inline void pf_wide_read(const struct pf_beat_f32 *from, uint64_t at, uint32_t there, float to[PF_BEAT_LANES])
{
	struct pf_beat_f32 w = { { 0 } };
	if (there)
		w = from[at];
lanes:
	for (uint32_t l = 0; l < PF_BEAT_LANES; l++)
		to[l] = pf_float(w.lane[l]);
}

/* A tile of raw logits */
static void pf_raw_read(const struct pf_beat_f32 *from, float z[PF_TOKENS][PF_TOKENS])
{
raw:
	for (uint32_t n = 0; n < PF_ROW_SQUARE; n++) {
#pragma HLS PIPELINE II=1
		pf_wide_read(from, n, 1, &z[n / PF_ROW_BEATS][n % PF_ROW_BEATS * PF_BEAT_LANES]);
	}
}

/* ---- products: read, multiply, add ---- */

/* What a product is for: raw logits, W h; the gradient of h, dz W; that of W, dz^T h. One array serves all three */
enum pf_product { PF_PRODUCT_RAW, PF_PRODUCT_DHIDDEN, PF_PRODUCT_DWEIGHT };

static void pf_rows_copy(const float (*from)[PF_TOKENS], float to[PF_TOKENS][PF_TOKENS])
{
copy:
	for (uint32_t r = 0; r < PF_TOKENS; r++) {
#pragma HLS PIPELINE II=1
		const float *own = from[r];
lanes:
		for (uint32_t l = 0; l < PF_TOKENS; l++)
			to[r][l] = own[l];
	}
}

/* The piece of hidden at beat k, rows that do not count 0 */
static void pf_live_read(const struct PF_MATRIX *hidden, const uint32_t live[PF_TOKENS], uint32_t depth, uint32_t k,
                         float piece[PF_TOKENS][PF_TOKENS])
{
live:
	for (uint32_t n = 0; n < PF_SQUARE_BEATS; n++) {
#pragma HLS PIPELINE II=1
		const uint32_t t = n / PF_PIECE_BEATS, b = n % PF_PIECE_BEATS;
		pf_beat_read(hidden, (uint64_t)t * depth + k + b, live[t] && k + b < depth,
		             &piece[t][b * PF_MATRIX_LANES]);
	}
}

/* A piece of the gradient of W that is there, at beat k of W's rows: a beat from every port at a time */
static void pf_old_read(const struct pf_beat_f32 *d0, const struct pf_beat_f32 *d1, const struct pf_beat_f32 *d2,
                        const struct pf_beat_f32 *d3, uint32_t vocab, uint32_t tile, uint32_t depth, uint32_t k,
                        float piece[PF_TOKENS][PF_TOKENS])
{
	const uint32_t wide = PF_MATRIX_LANES / PF_BEAT_LANES, pitch = depth * wide;
	const uint64_t first = (uint64_t)tile * PF_TILE_ROWS * pitch + k * wide;
	const uint64_t n0 = pf_tile_rows(vocab, 0, tile), n1 = pf_tile_rows(vocab, 1, tile);
	const uint64_t n2 = pf_tile_rows(vocab, 2, tile), n3 = pf_tile_rows(vocab, 3, tile);
olds:
	for (uint32_t n = 0; n < PF_ROW_TILE; n++) {
#pragma HLS PIPELINE II=1
		const uint32_t r = n / PF_ROW_BEATS, b = n % PF_ROW_BEATS, l = b * PF_BEAT_LANES;
		const uint32_t there = k * wide + b < pitch;
		const uint64_t at = first + (uint64_t)r * pitch + b;
		pf_wide_read(d0, at, there && r < n0, &piece[r][l]);
		pf_wide_read(d1, at, there && r < n1, &piece[PF_TILE_ROWS + r][l]);
		pf_wide_read(d2, at, there && r < n2, &piece[2 * PF_TILE_ROWS + r][l]);
		pf_wide_read(d3, at, there && r < n3, &piece[3 * PF_TILE_ROWS + r][l]);
	}
}

/* The factors a and b of a product at beat k, and what the gradient of W is to be added to: all that is read from
 * memory, so that no port is read by two processes */
static void pf_product_read(enum pf_product what, const struct PF_MATRIX *hidden, const struct PF_MATRIX *w0,
                            const struct PF_MATRIX *w1, const struct PF_MATRIX *w2, const struct PF_MATRIX *w3,
                            const struct pf_beat_f32 *d0, const struct pf_beat_f32 *d1, const struct pf_beat_f32 *d2,
                            const struct pf_beat_f32 *d3, uint32_t vocab, uint32_t tile, uint32_t depth, uint32_t k,
                            uint32_t add, const uint32_t live[PF_TOKENS],
                            const float ht[PF_DEPTH_LANES][PF_TOKENS], const float dz[PF_TOKENS][PF_TOKENS],
                            const float dzt[PF_TOKENS][PF_TOKENS], float a[PF_TOKENS][PF_TOKENS],
                            float b[PF_TOKENS][PF_TOKENS], float old[PF_TOKENS][PF_TOKENS])
{
	if (what == PF_PRODUCT_RAW) {
		pf_weight_read(w0, w1, w2, w3, vocab, tile, depth, k, a);
		pf_rows_copy(ht + k * PF_MATRIX_LANES, b);
	} else if (what == PF_PRODUCT_DHIDDEN) {
		pf_rows_copy(dz, a);
		pf_weight_read(w0, w1, w2, w3, vocab, tile, depth, k, b);
	} else {
		pf_rows_copy(dzt, a);
		pf_live_read(hidden, live, depth, k, b);
		if (add)
			pf_old_read(d0, d1, d2, d3, vocab, tile, depth, k, old);
	}
}

static inline void pf_beat_write(struct pf_beat_f32 *to, uint64_t at, uint32_t there, uint32_t add,
                                 const float old[PF_BEAT_LANES], const float row[PF_BEAT_LANES])
{
	struct pf_beat_f32 w;
lanes:
	for (uint32_t l = 0; l < PF_BEAT_LANES; l++)
		w.lane[l] = pf_bits((add ? old[l] : 0.0f) + row[l]);
	if (there)
		to[at] = w;
}

/* A piece of the gradient of W into memory, a beat to every port at a time */
static void pf_weight_write(const float piece[PF_TOKENS][PF_TOKENS], const float old[PF_TOKENS][PF_TOKENS],
                            uint32_t vocab, uint32_t tile, uint32_t depth, uint32_t k, uint32_t add,
                            struct pf_beat_f32 *d0, struct pf_beat_f32 *d1, struct pf_beat_f32 *d2,
                            struct pf_beat_f32 *d3)
{
	const uint32_t wide = PF_MATRIX_LANES / PF_BEAT_LANES, pitch = depth * wide;
	const uint64_t first = (uint64_t)tile * PF_TILE_ROWS * pitch + k * wide;
	const uint64_t n0 = pf_tile_rows(vocab, 0, tile), n1 = pf_tile_rows(vocab, 1, tile);
	const uint64_t n2 = pf_tile_rows(vocab, 2, tile), n3 = pf_tile_rows(vocab, 3, tile);
write:
	for (uint32_t n = 0; n < PF_ROW_TILE; n++) {
#pragma HLS PIPELINE II=1
		const uint32_t r0 = n / PF_ROW_BEATS, b = n % PF_ROW_BEATS, l = b * PF_BEAT_LANES;
		const uint32_t r1 = r0 + PF_TILE_ROWS, r2 = r1 + PF_TILE_ROWS, r3 = r2 + PF_TILE_ROWS;
		const uint32_t there = k * wide + b < pitch;
		const uint64_t at = first + (uint64_t)r0 * pitch + b;
		pf_beat_write(d0, at, there && r0 < n0, add, &old[r0][l], &piece[r0][l]);
		pf_beat_write(d1, at, there && r0 < n1, add, &old[r1][l], &piece[r1][l]);
		pf_beat_write(d2, at, there && r0 < n2, add, &old[r2][l], &piece[r2][l]);
		pf_beat_write(d3, at, there && r0 < n3, add, &old[r3][l], &piece[r3][l]);
	}
}

static void pf_product_add(enum pf_product what, const float product[PF_TOKENS][PF_TOKENS],
                           const float old[PF_TOKENS][PF_TOKENS], uint32_t vocab, uint32_t tile, uint32_t depth,
                           uint32_t k, uint32_t add, float z[PF_TOKENS][PF_TOKENS],
                           float dh[PF_DEPTH_LANES / PF_TOKENS][PF_TOKENS][PF_TOKENS], struct pf_beat_f32 *d0,
                           struct pf_beat_f32 *d1, struct pf_beat_f32 *d2, struct pf_beat_f32 *d3)
{
	if (what == PF_PRODUCT_RAW)
		pf_piece_add(product, k == 0, z);
	else if (what == PF_PRODUCT_DHIDDEN)
		pf_piece_add(product, 0, dh[k / PF_PIECE_BEATS]);
	else
		pf_weight_write(product, old, vocab, tile, depth, k, add, d0, d1, d2, d3);
}

/* All pieces of one kind of product of a tile */
static void pf_products(enum pf_product what, const struct PF_MATRIX *hidden, const struct PF_MATRIX *w0,
                        const struct PF_MATRIX *w1, const struct PF_MATRIX *w2, const struct PF_MATRIX *w3,
                        struct pf_beat_f32 *d0, struct pf_beat_f32 *d1, struct pf_beat_f32 *d2,
                        struct pf_beat_f32 *d3, uint32_t vocab, uint32_t tile, uint32_t depth, uint32_t add,
                        const uint32_t live[PF_TOKENS],
                        const float ht[PF_DEPTH_LANES][PF_TOKENS], const float dz[PF_TOKENS][PF_TOKENS],
                        const float dzt[PF_TOKENS][PF_TOKENS], float z[PF_TOKENS][PF_TOKENS],
                        float dh[PF_DEPTH_LANES / PF_TOKENS][PF_TOKENS][PF_TOKENS])
{
pieces:
	for (uint32_t k = 0; k < depth; k += PF_PIECE_BEATS) {
#pragma HLS DATAFLOW
#pragma HLS LOOP_TRIPCOUNT min=1 max=128
		float a[PF_TOKENS][PF_TOKENS], b[PF_TOKENS][PF_TOKENS];
		float old[PF_TOKENS][PF_TOKENS], product[PF_TOKENS][PF_TOKENS];
#pragma HLS ARRAY_PARTITION variable=a block factor=4 dim=1
#pragma HLS ARRAY_PARTITION variable=a complete dim=2
#pragma HLS ARRAY_PARTITION variable=b block factor=4 dim=1
#pragma HLS ARRAY_PARTITION variable=b complete dim=2
#pragma HLS ARRAY_PARTITION variable=old block factor=4 dim=1
#pragma HLS ARRAY_PARTITION variable=old complete dim=2
#pragma HLS ARRAY_PARTITION variable=product block factor=4 dim=1
#pragma HLS ARRAY_PARTITION variable=product complete dim=2
		pf_product_read(what, hidden, w0, w1, w2, w3, d0, d1, d2, d3, vocab, tile, depth, k, add, live, ht, dz,
		                dzt, a, b, old);
		pf_piece_multiply(a, b, product);
		pf_product_add(what, product, old, vocab, tile, depth, k, add, z, dh, d0, d1, d2, d3);
	}
}

/* dh[piece][t][d] of the block; a piece at a time is added to */
static void pf_block_zero(uint32_t depth, float dh[PF_DEPTH_LANES / PF_TOKENS][PF_TOKENS][PF_TOKENS])
{
pieces:
	for (uint32_t k = 0; k < depth; k += PF_PIECE_BEATS) {
#pragma HLS LOOP_TRIPCOUNT min=1 max=128
zero:
		for (uint32_t t = 0; t < PF_TOKENS; t++) {
#pragma HLS PIPELINE II=1
			float *own = dh[k / PF_PIECE_BEATS][t];
lanes:
			for (uint32_t l = 0; l < PF_TOKENS; l++)
				own[l] = 0.0f;
		}
	}
}

static void pf_block_write(const float dh[PF_DEPTH_LANES / PF_TOKENS][PF_TOKENS][PF_TOKENS],
                           const struct pf_token token[PF_TOKENS], uint32_t n, uint32_t depth, struct PF_MATRIX *to)
{
tokens:
	for (uint32_t t = 0; t < n; t++) {
#pragma HLS LOOP_TRIPCOUNT min=1 max=64
out:
		for (uint32_t b = 0; b < depth; b++) {
#pragma HLS PIPELINE II=1
#pragma HLS LOOP_TRIPCOUNT min=1 max=512
			struct PF_MATRIX w;
lanes:
			for (uint32_t l = 0; l < PF_MATRIX_LANES; l++) {
				const float d = dh[b / PF_PIECE_BEATS][t][b % PF_PIECE_BEATS * PF_MATRIX_LANES + l];
				w.lane[l] = pf_matrix_store(token[t].live ? d : 0.0f);
			}
			to[(uint64_t)t * depth + b] = w;
		}
	}
}

static inline void pf_column_add(const float from[PF_TOKENS][PF_TOKENS], uint32_t t, float sum[PF_TOKENS])
{
rows:
	for (uint32_t r = 0; r < PF_TOKENS; r++)
		sum[r] += from[r][t];
}

/* Sums over tokens in ascending order, all rows of the tile at a time; a carried addition fits in the eight cycles that
 * 16 values of a column need from their memory */
static void pf_bias_add(const float dzt[PF_TOKENS][PF_TOKENS], uint32_t vocab, uint32_t tile, uint32_t add,
                        float *dbias)
{
	float sum[PF_TOKENS] = { 0 };
#pragma HLS ARRAY_PARTITION variable=sum complete
sums:
	for (uint32_t t = 0; t < PF_TOKENS; t++) {
#pragma HLS PIPELINE II=8
		pf_column_add(dzt, t, sum);
	}
old:
	for (uint32_t r = 0; r < PF_TOKENS; r++) {
#pragma HLS PIPELINE II=1
		const float there = add && pf_tile_has(vocab, tile, r) ? dbias[pf_tile_index(vocab, tile, r)] : 0.0f;
		sum[r] = there + sum[r];
	}
dbias:
	for (uint32_t r = 0; r < PF_TOKENS; r++) {
#pragma HLS PIPELINE II=1
		if (pf_tile_has(vocab, tile, r))
			dbias[pf_tile_index(vocab, tile, r)] = sum[r];
	}
}

void PF_KERNEL_NAME(PF_LINEAR(linear_grad))(const struct PF_MATRIX *hidden, const struct PF_MATRIX *weight0,
                                             const struct PF_MATRIX *weight1, const struct PF_MATRIX *weight2,
                                             const struct PF_MATRIX *weight3, const float *bias, const int32_t *target,
                                             const float *coef, const struct pf_row *row,
                                             const struct pf_beat_f32 *raw, struct PF_MATRIX *dhidden,
                                             struct pf_beat_f32 *dweight0, struct pf_beat_f32 *dweight1,
                                             struct pf_beat_f32 *dweight2, struct pf_beat_f32 *dweight3, float *dbias,
                                             uint32_t rows, uint32_t depth, uint32_t vocab, uint32_t mode, float scale,
                                             float softcap, float temperature, float zloss, float entropy,
                                             struct pf_beat_f32 *filtered, float filter)
{
#pragma HLS INTERFACE mode=m_axi port=hidden bundle=gmem0 offset=slave
#pragma HLS INTERFACE mode=m_axi port=weight0 bundle=gmem1 offset=slave
#pragma HLS INTERFACE mode=m_axi port=weight1 bundle=gmem2 offset=slave
#pragma HLS INTERFACE mode=m_axi port=weight2 bundle=gmem3 offset=slave
#pragma HLS INTERFACE mode=m_axi port=weight3 bundle=gmem4 offset=slave
#pragma HLS INTERFACE mode=m_axi port=bias bundle=gmem5 offset=slave
#pragma HLS INTERFACE mode=m_axi port=target bundle=gmem5 offset=slave
#pragma HLS INTERFACE mode=m_axi port=coef bundle=gmem5 offset=slave
#pragma HLS INTERFACE mode=m_axi port=row bundle=gmem6 offset=slave
#pragma HLS INTERFACE mode=m_axi port=raw bundle=gmem0 offset=slave
#pragma HLS INTERFACE mode=m_axi port=dhidden bundle=gmem0 offset=slave
#pragma HLS INTERFACE mode=m_axi port=dweight0 bundle=gmem1 offset=slave
#pragma HLS INTERFACE mode=m_axi port=dweight1 bundle=gmem2 offset=slave
#pragma HLS INTERFACE mode=m_axi port=dweight2 bundle=gmem3 offset=slave
#pragma HLS INTERFACE mode=m_axi port=dweight3 bundle=gmem4 offset=slave
#pragma HLS INTERFACE mode=m_axi port=dbias bundle=gmem5 offset=slave
#pragma HLS INTERFACE mode=m_axi port=filtered bundle=gmem0 offset=slave
#pragma HLS INTERFACE mode=s_axilite port=hidden bundle=control
#pragma HLS INTERFACE mode=s_axilite port=weight0 bundle=control
#pragma HLS INTERFACE mode=s_axilite port=weight1 bundle=control
#pragma HLS INTERFACE mode=s_axilite port=weight2 bundle=control
#pragma HLS INTERFACE mode=s_axilite port=weight3 bundle=control
#pragma HLS INTERFACE mode=s_axilite port=bias bundle=control
#pragma HLS INTERFACE mode=s_axilite port=target bundle=control
#pragma HLS INTERFACE mode=s_axilite port=coef bundle=control
#pragma HLS INTERFACE mode=s_axilite port=row bundle=control
#pragma HLS INTERFACE mode=s_axilite port=raw bundle=control
#pragma HLS INTERFACE mode=s_axilite port=dhidden bundle=control
#pragma HLS INTERFACE mode=s_axilite port=dweight0 bundle=control
#pragma HLS INTERFACE mode=s_axilite port=dweight1 bundle=control
#pragma HLS INTERFACE mode=s_axilite port=dweight2 bundle=control
#pragma HLS INTERFACE mode=s_axilite port=dweight3 bundle=control
#pragma HLS INTERFACE mode=s_axilite port=dbias bundle=control
#pragma HLS INTERFACE mode=s_axilite port=rows bundle=control
#pragma HLS INTERFACE mode=s_axilite port=depth bundle=control
#pragma HLS INTERFACE mode=s_axilite port=vocab bundle=control
#pragma HLS INTERFACE mode=s_axilite port=mode bundle=control
#pragma HLS INTERFACE mode=s_axilite port=scale bundle=control
#pragma HLS INTERFACE mode=s_axilite port=softcap bundle=control
#pragma HLS INTERFACE mode=s_axilite port=temperature bundle=control
#pragma HLS INTERFACE mode=s_axilite port=zloss bundle=control
#pragma HLS INTERFACE mode=s_axilite port=entropy bundle=control
#pragma HLS INTERFACE mode=s_axilite port=filtered bundle=control
#pragma HLS INTERFACE mode=s_axilite port=filter bundle=control
#pragma HLS INTERFACE mode=s_axilite port=return bundle=control
	const struct pf_form form = pf_form_of(scale, softcap, temperature);
	const uint32_t tiles = PF_TILES(vocab);
	float ht[PF_DEPTH_LANES][PF_TOKENS];
	float dh[PF_DEPTH_LANES / PF_TOKENS][PF_TOKENS][PF_TOKENS];
	struct pf_token token[PF_TOKENS];
	uint32_t live[PF_TOKENS];
	struct pf_sieve sieve = { .least = mode & PF_LINEAR_FILTER && filter > 0.0f ? filter : 0.0f };
	struct pf_filtered out[PF_TOKENS];
	uint64_t mass[PF_WEIGHT_PORTS][PF_TOKENS];
#pragma HLS ARRAY_PARTITION variable=mass complete dim=0
#pragma HLS ARRAY_PARTITION variable=token complete
#pragma HLS ARRAY_PARTITION variable=ht cyclic factor=2 dim=1
#pragma HLS ARRAY_PARTITION variable=ht complete dim=2
#pragma HLS ARRAY_PARTITION variable=dh complete dim=3
blocks:
	for (uint32_t first = 0; first < rows; first += PF_TOKENS) {
#pragma HLS LOOP_TRIPCOUNT min=1 max=16384
		const uint32_t n = rows - first < PF_TOKENS ? rows - first : PF_TOKENS;
		const uint32_t add = first > 0 || mode & PF_LINEAR_ADD;
		const struct PF_MATRIX *h = hidden + (uint64_t)first * depth;
		if (!(mode & PF_LINEAR_RAW))
			pf_hidden_read(h, n, depth, ht);
		pf_tokens_read(target + first, coef + first, row + first, n, zloss, entropy, token, live);
		pf_block_zero(depth, dh);
		if (mode & PF_LINEAR_FILTER)
			pf_filtered_clear(out);
tiles:
		for (uint32_t tile = 0; tile < tiles; tile++) {
#pragma HLS LOOP_TRIPCOUNT min=1 max=4096
			float z[PF_TOKENS][PF_TOKENS], dz[PF_TOKENS][PF_TOKENS], dzt[PF_TOKENS][PF_TOKENS];
#pragma HLS ARRAY_PARTITION variable=z complete dim=2
#pragma HLS ARRAY_PARTITION variable=dz block factor=4 dim=1
#pragma HLS ARRAY_PARTITION variable=dz complete dim=2
#pragma HLS ARRAY_PARTITION variable=dzt block factor=4 dim=1
#pragma HLS ARRAY_PARTITION variable=dzt complete dim=2
			if (mode & PF_LINEAR_RAW) {
				pf_raw_read(raw + pf_raw_at(first / PF_TOKENS, vocab, tile), z);
			} else {
				pf_products(PF_PRODUCT_RAW, h, weight0, weight1, weight2, weight3, dweight0, dweight1,
				            dweight2, dweight3, vocab, tile, depth, add, live, ht, dz, dzt, z, dh);
				pf_tile_bias(bias, vocab, tile, mode & PF_LINEAR_BIAS, z);
			}
			pf_tile_dz(z, token, &form, entropy, vocab, tile, dz, dzt, &sieve, mass);
			const uint32_t words = pf_sieve_words(&sieve, vocab, tile);
			/* the first block stores its sums of dW, be they 0 */
			const uint32_t idle = sieve.kept == 0 && (add || !(mode & PF_LINEAR_DWEIGHT));
			if (mode & PF_LINEAR_FILTER)
				pf_tile_drop(&sieve, mass, token, words, idle ? words : 0, dz, dzt, out);
			if (!idle)
				pf_products(PF_PRODUCT_DHIDDEN, h, weight0, weight1, weight2, weight3, dweight0,
				            dweight1, dweight2, dweight3, vocab, tile, depth, add, live, ht, dz, dzt, z,
				            dh);
			if (!idle && mode & PF_LINEAR_DWEIGHT)
				pf_products(PF_PRODUCT_DWEIGHT, h, weight0, weight1, weight2, weight3, dweight0,
				            dweight1, dweight2, dweight3, vocab, tile, depth, add, live, ht, dz, dzt, z,
				            dh);
			if (mode & PF_LINEAR_BIAS)
				pf_bias_add(dzt, vocab, tile, add, dbias);
		}
		pf_block_write(dh, token, n, depth, dhidden + (uint64_t)first * depth);
		if (mode & PF_LINEAR_FILTER)
			pf_filtered_write(out, n, filtered + first / 4);
	}
}
