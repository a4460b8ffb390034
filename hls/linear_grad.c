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
#include "linear_filter.h"
#include "linear_products.h"
PF_KERNELS(PF_PROTOTYPE)

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

/* A tile of raw logits */
static void pf_raw_read(const struct pf_beat_f32 *from, float z[PF_TOKENS][PF_TOKENS])
{
raw:
	for (uint32_t n = 0; n < PF_ROW_SQUARE; n++) {
#pragma HLS PIPELINE II=1
		pf_wide_read(from, n, 1, &z[n / PF_ROW_BEATS][n % PF_ROW_BEATS * PF_BEAT_LANES]);
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
