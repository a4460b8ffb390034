/* linear_logprob_mxint8: linear_logprob of MXINT8 rows (OCP Microscaling v1.0): hidden states and W as int8 that share
 * a power of two per 32 along D.
 *
 * Memory: kernels.def. A block of 64 tokens lies on chip transposed, ht[d][token] (512 KiB at D = 8192), with its
 * exponents; W passes by in tiles of 64 rows. Three processes work at the same time on different tiles (DATAFLOW): one
 * is read, in the order in which it lies in memory; one is multiplied; one is scanned, as in linear_logprob. A cycle
 * takes one block of one row of W with that of all 64 tokens: 2,048 products of int8, 64 trees of 31 integer additions,
 * 64 fp32 products by a power of two and 64 fp32 additions, each to a sum that is met again after 64 cycles: II = 1
 * without a carried addition, 8 times linear_logprob's products a cycle. The tokens' 2,048 elements stand in registers;
 * in the 64 cycles that the rows of W take with them those of the next block are fetched, so that a tile is one loop,
 * which fills and empties once: 2 D cycles and some 60. In these a port delivers D / 4 beats and the exponents: some
 * 10 GB/s over four ports at 300 MHz. DSPs by arithmetic: 2,048 at a product each, 1,024 where the tool puts two on
 * one, and 64 x 5 for fp32; which of them Vitis makes, only Vitis can confirm.
 *
 * The products of a block are integers of at most 2^14, their sum is at most 2^19: exact, in any order. Only the sums
 * over blocks round, in a fixed order. */
#include "linear_scan.h"
PF_KERNELS(PF_PROTOTYPE)

#define PF_MX_LANES 64                 /* elements of a beat, and exponents of one */
#define PF_MX_LONGEST (PF_DEPTH_MAX * 16)
#define PF_MX_MOST (PF_MX_LONGEST / PF_MX_BLOCK)       /* blocks of a row */
#define PF_MX_HALVES 2                 /* blocks of a beat */
#define PF_MX_PITCH PF_MX_BEATS(PF_MX_LONGEST / PF_MX_LANES)   /* beats of the longest row, exponents among them */
#define PF_MX_PACK 8                   /* elements of a word of W on chip: memories are wider than an int8 */
#define PF_MX_WORDS (PF_MX_LANES / PF_MX_PACK)
#define PF_MX_RUN 8                    /* elements that are added up at a time: as far as gcc unrolls */
#define PF_MX_NAN 1024                 /* in place of exponent 255: no sum with another one is in range */

static inline int16_t pf_mx_exponent(int8_t code)
{
	const uint32_t e = (uint8_t)code;
	return e == 255 ? PF_MX_NAN : (int16_t)e;
}

/* 2^(e - 266): 0 below 2^-126, NaN above 2^127 */
static inline float pf_mx_power(int32_t e)
{
	const int32_t at = e - 266 + 127;
	return pf_float(at < 1 ? 0u : at > 254 ? PF_F32_NAN : (uint32_t)at << 23);
}

/* ---- reading ---- */
static inline void pf_mx_beat_read(const struct pf_beat_mxint8 *from, uint64_t at, uint32_t there,
                                   int8_t to[PF_MX_LANES])
{
	struct pf_beat_mxint8 w = { { 0 } };
	if (there)
		w = from[at];
lanes:
	for (uint32_t l = 0; l < PF_MX_LANES; l++)
		to[l] = w.lane[l];
}

/* Tokens [0, n) transposed, other tokens and what pads the last beat 0, and their exponents. The 64 values of a beat
 * lie in one memory of two ports: once a block, while W passes by for thousands of tiles */
static void pf_mx_hidden_read(const struct pf_beat_mxint8 *hidden, uint32_t n, uint32_t depth,
                              int8_t ht[PF_MX_LONGEST][PF_TOKENS], int16_t exponent[PF_MX_MOST][PF_TOKENS])
{
	const uint32_t pitch = PF_MX_BEATS(depth);
tokens:
	for (uint32_t t = 0; t < PF_TOKENS; t++) {
#pragma HLS LOOP_TRIPCOUNT min=64 max=64
elements:
		for (uint32_t b = 0; b < depth; b++) {
#pragma HLS PIPELINE II=32
#pragma HLS LOOP_TRIPCOUNT min=1 max=128
			int8_t row[PF_MX_LANES];
#pragma HLS ARRAY_PARTITION variable=row complete
			pf_mx_beat_read(hidden, (uint64_t)t * pitch + b, t < n, row);
lanes:
			for (uint32_t l = 0; l < PF_MX_LANES; l++)
				ht[b * PF_MX_LANES + l][t] = row[l];
		}
exponents:
		for (uint32_t b = depth; b < pitch; b++) {
#pragma HLS PIPELINE II=32
#pragma HLS LOOP_TRIPCOUNT min=1 max=4
			int8_t code[PF_MX_LANES];
#pragma HLS ARRAY_PARTITION variable=code complete
			pf_mx_beat_read(hidden, (uint64_t)t * pitch + b, t < n, code);
codes:
			for (uint32_t l = 0; l < PF_MX_LANES; l++)
				exponent[(b - depth) * PF_MX_LANES + l][t] = pf_mx_exponent(code[l]);
		}
	}
}

static inline void pf_mx_words_read(const struct pf_beat_mxint8 *from, uint64_t at, uint32_t there,
                                    uint64_t to[PF_MX_WORDS])
{
	int8_t lane[PF_MX_LANES];
#pragma HLS ARRAY_PARTITION variable=lane complete
	pf_mx_beat_read(from, at, there, lane);
words:
	for (uint32_t w = 0; w < PF_MX_WORDS; w++) {
		uint64_t word = 0;
pack:
		for (uint32_t l = 0; l < PF_MX_PACK; l++)
			word |= (uint64_t)(uint8_t)lane[w * PF_MX_PACK + l] << 8 * l;
		to[w] = word;
	}
}

static inline int8_t pf_mx_element(const uint64_t word[PF_MX_WORDS], uint32_t l)
{
	return (int8_t)(uint8_t)(word[l / PF_MX_PACK] >> 8 * (l % PF_MX_PACK));
}

/* The rows of a tile as they lie in memory, a beat from every port at a time; rows that are not there are 0. Whether a
 * row is there is asked at every beat, so that a tool may make a transaction of each: 16 under way (m_axi's default,
 * UG1399) bring one in 5 cycles at the U200's latency of 76, and a tile asks for one in 7 or 8 */
static void pf_mx_tile_read(const struct pf_beat_mxint8 *w0, const struct pf_beat_mxint8 *w1,
                            const struct pf_beat_mxint8 *w2, const struct pf_beat_mxint8 *w3, uint32_t vocab,
                            uint32_t tile, uint32_t pitch, uint64_t weight[PF_TOKENS][PF_MX_PITCH][PF_MX_WORDS])
{
	const uint64_t first = (uint64_t)tile * PF_TILE_ROWS * pitch;
	const uint64_t n0 = pf_tile_rows(vocab, 0, tile), n1 = pf_tile_rows(vocab, 1, tile);
	const uint64_t n2 = pf_tile_rows(vocab, 2, tile), n3 = pf_tile_rows(vocab, 3, tile);
	uint32_t r = 0, b = 0;
beats:
	for (uint32_t n = 0; n < PF_TILE_ROWS * pitch; n++) {
#pragma HLS PIPELINE II=1
#pragma HLS LOOP_TRIPCOUNT min=32 max=2112
		pf_mx_words_read(w0, first + n, r < n0, weight[r][b]);
		pf_mx_words_read(w1, first + n, r < n1, weight[PF_TILE_ROWS + r][b]);
		pf_mx_words_read(w2, first + n, r < n2, weight[2 * PF_TILE_ROWS + r][b]);
		pf_mx_words_read(w3, first + n, r < n3, weight[3 * PF_TILE_ROWS + r][b]);
		r += b + 1 == pitch;
		b = b + 1 == pitch ? 0 : b + 1;
	}
}

/* ---- products ---- */

/* Elements d of a block of all tokens to where they can be had in a cycle */
static inline void pf_mx_fetch(const int8_t ht[PF_MX_LONGEST][PF_TOKENS], uint32_t block, uint32_t d,
                               int8_t next[PF_MX_BLOCK][PF_TOKENS])
{
	const int8_t *own = ht[block * PF_MX_BLOCK + d];
tokens:
	for (uint32_t t = 0; t < PF_TOKENS; t++)
		next[d][t] = own[t];
}

static inline void pf_mx_turn(const int8_t next[PF_MX_BLOCK][PF_TOKENS], int8_t held[PF_MX_BLOCK][PF_TOKENS])
{
elements:
	for (uint32_t d = 0; d < PF_MX_BLOCK; d++)
tokens:
		for (uint32_t t = 0; t < PF_TOKENS; t++)
			held[d][t] = next[d][t];
}

/* Products of a block of a row of W with those of all tokens. (In runs, so that gcc vectorises across the tokens.) */
static inline void pf_mx_block_dots(const uint64_t word[PF_MX_WORDS], uint32_t half,
                                    const int8_t held[PF_MX_BLOCK][PF_TOKENS], int32_t sum[PF_TOKENS])
{
begin:
	for (uint32_t t = 0; t < PF_TOKENS; t++)
		sum[t] = 0;
runs:
	for (uint32_t k = 0; k < PF_MX_BLOCK; k += PF_MX_RUN) {
		int16_t row[PF_MX_RUN];
#pragma HLS ARRAY_PARTITION variable=row complete
unpack:
		for (uint32_t d = 0; d < PF_MX_RUN; d++)
			row[d] = pf_mx_element(word, half * PF_MX_BLOCK + k + d);
tokens:
		for (uint32_t t = 0; t < PF_TOKENS; t++) {
			int32_t s = sum[t];
along:
			for (uint32_t d = 0; d < PF_MX_RUN; d++)
				s += (int16_t)(row[d] * held[k + d][t]);
			sum[t] = s;
		}
	}
}

/* dot[t] += sum[t] 2^(e + power[t] - 266); `start`: = */
static inline void pf_mx_block_add(const int32_t sum[PF_TOKENS], int32_t e, const int16_t power[PF_TOKENS],
                                   uint32_t start, float dot[PF_TOKENS])
{
tokens:
	for (uint32_t t = 0; t < PF_TOKENS; t++)
		dot[t] = (start ? 0.0f : dot[t]) + (float)sum[t] * pf_mx_power(e + power[t]);
}

/* Products of a tile with the tokens in ht: dot[row of the tile][token] */
static void pf_mx_tile_dots(const uint64_t weight[PF_TOKENS][PF_MX_PITCH][PF_MX_WORDS], uint32_t depth,
                            const int8_t ht[PF_MX_LONGEST][PF_TOKENS], const int16_t exponent[PF_MX_MOST][PF_TOKENS],
                            float dot[PF_TOKENS][PF_TOKENS])
{
	const uint32_t blocks = PF_MX_HALVES * depth;
	int8_t next[PF_MX_BLOCK][PF_TOKENS], held[PF_MX_BLOCK][PF_TOKENS];
#pragma HLS ARRAY_PARTITION variable=next complete dim=0
#pragma HLS ARRAY_PARTITION variable=held complete dim=0
fetch:
	for (uint32_t d = 0; d < PF_MX_BLOCK; d++) {
#pragma HLS PIPELINE II=1
		pf_mx_fetch(ht, 0, d, next);
	}
products:
	for (uint32_t n = 0; n < blocks * PF_TOKENS; n++) {
#pragma HLS PIPELINE II=1
#pragma HLS LOOP_TRIPCOUNT min=128 max=16384
#pragma HLS DEPENDENCE variable=dot inter RAW distance=64 true
		const uint32_t r = n % PF_TOKENS, block = n / PF_TOKENS;
		const uint64_t *codes = weight[r][depth + block / PF_MX_LANES];
		int32_t sum[PF_TOKENS];
#pragma HLS ARRAY_PARTITION variable=sum complete
		if (r == 0)
			pf_mx_turn(next, held);
		if (r < PF_MX_BLOCK && block + 1 < blocks)
			pf_mx_fetch(ht, block + 1, r, next);
		pf_mx_block_dots(weight[r][block / PF_MX_HALVES], block % PF_MX_HALVES, held, sum);
		pf_mx_block_add(sum, pf_mx_exponent(pf_mx_element(codes, block % PF_MX_LANES)), exponent[block],
		                block == 0, dot[r]);
	}
}

void PF_KERNEL_NAME(linear_logprob_mxint8)(const struct pf_beat_mxint8 *hidden, const struct pf_beat_mxint8 *weight0,
                                           const struct pf_beat_mxint8 *weight1, const struct pf_beat_mxint8 *weight2,
                                           const struct pf_beat_mxint8 *weight3, const float *bias,
                                           const int32_t *target, struct pf_row *out, struct pf_beat_f32 *raw,
                                           uint32_t rows, uint32_t depth, uint32_t vocab, uint32_t mode, float scale,
                                           float softcap, float temperature, struct pf_beat_f32 *shard)
{
#pragma HLS INTERFACE mode=m_axi port=hidden bundle=gmem0 offset=slave
#pragma HLS INTERFACE mode=m_axi port=weight0 bundle=gmem1 offset=slave
#pragma HLS INTERFACE mode=m_axi port=weight1 bundle=gmem2 offset=slave
#pragma HLS INTERFACE mode=m_axi port=weight2 bundle=gmem3 offset=slave
#pragma HLS INTERFACE mode=m_axi port=weight3 bundle=gmem4 offset=slave
#pragma HLS INTERFACE mode=m_axi port=bias bundle=gmem5 offset=slave
#pragma HLS INTERFACE mode=m_axi port=target bundle=gmem5 offset=slave
#pragma HLS INTERFACE mode=m_axi port=out bundle=gmem6 offset=slave
#pragma HLS INTERFACE mode=m_axi port=raw bundle=gmem0 offset=slave
#pragma HLS INTERFACE mode=m_axi port=shard bundle=gmem0 offset=slave
#pragma HLS INTERFACE mode=s_axilite port=hidden bundle=control
#pragma HLS INTERFACE mode=s_axilite port=weight0 bundle=control
#pragma HLS INTERFACE mode=s_axilite port=weight1 bundle=control
#pragma HLS INTERFACE mode=s_axilite port=weight2 bundle=control
#pragma HLS INTERFACE mode=s_axilite port=weight3 bundle=control
#pragma HLS INTERFACE mode=s_axilite port=bias bundle=control
#pragma HLS INTERFACE mode=s_axilite port=target bundle=control
#pragma HLS INTERFACE mode=s_axilite port=out bundle=control
#pragma HLS INTERFACE mode=s_axilite port=raw bundle=control
#pragma HLS INTERFACE mode=s_axilite port=rows bundle=control
#pragma HLS INTERFACE mode=s_axilite port=depth bundle=control
#pragma HLS INTERFACE mode=s_axilite port=vocab bundle=control
#pragma HLS INTERFACE mode=s_axilite port=mode bundle=control
#pragma HLS INTERFACE mode=s_axilite port=scale bundle=control
#pragma HLS INTERFACE mode=s_axilite port=softcap bundle=control
#pragma HLS INTERFACE mode=s_axilite port=temperature bundle=control
#pragma HLS INTERFACE mode=s_axilite port=shard bundle=control
#pragma HLS INTERFACE mode=s_axilite port=return bundle=control
	const struct pf_form form = pf_form_of(scale, softcap, temperature);
	const uint32_t tiles = PF_TILES(vocab), flags = mode & PF_LINEAR_STATS ? PF_WANT_STATS : 0;
	int8_t ht[PF_MX_LONGEST][PF_TOKENS];
	int16_t exponent[PF_MX_MOST][PF_TOKENS];
	struct pf_scan scan[PF_TOKENS];
	int64_t sum[PF_TOKENS][PF_BINS], moment[PF_TOKENS][PF_BINS], square[PF_TOKENS][PF_BINS];
	int32_t own[PF_TOKENS];
#pragma HLS ARRAY_PARTITION variable=ht complete dim=2
#pragma HLS ARRAY_PARTITION variable=exponent complete dim=2
#pragma HLS ARRAY_PARTITION variable=sum complete dim=2
#pragma HLS ARRAY_PARTITION variable=moment complete dim=2
#pragma HLS ARRAY_PARTITION variable=square complete dim=2
blocks:
	for (uint32_t first = 0; first < rows; first += PF_TOKENS) {
#pragma HLS LOOP_TRIPCOUNT min=1 max=16384
		const uint32_t n = rows - first < PF_TOKENS ? rows - first : PF_TOKENS;
		pf_mx_hidden_read(hidden + (uint64_t)first * PF_MX_BEATS(depth), n, depth, ht, exponent);
		pf_block_begin(target + first, n, scan, own, sum, moment, square);
tiles:
		for (uint32_t tile = 0; tile < tiles; tile++) {
#pragma HLS DATAFLOW
#pragma HLS LOOP_TRIPCOUNT min=1 max=4096
			uint64_t w[PF_TOKENS][PF_MX_PITCH][PF_MX_WORDS];
			float z[PF_TOKENS][PF_TOKENS];
#pragma HLS ARRAY_PARTITION variable=w block factor=4 dim=1
#pragma HLS ARRAY_PARTITION variable=w complete dim=3
#pragma HLS ARRAY_PARTITION variable=z cyclic factor=2 dim=1
#pragma HLS ARRAY_PARTITION variable=z complete dim=2
			pf_mx_tile_read(weight0, weight1, weight2, weight3, vocab, tile, PF_MX_BEATS(depth), w);
			pf_mx_tile_dots(w, depth, ht, exponent, z);
			pf_tile_scan(z, bias, &form, vocab, tile, mode, raw + pf_raw_at(first / PF_TOKENS, vocab, tile),
			             own, scan, sum, moment, square);
		}
		pf_block_finish(scan, own, sum, moment, square, n, vocab, flags, mode & PF_LINEAR_SHARD, out + first,
		                shard + (uint64_t)2 * first);
	}
}
