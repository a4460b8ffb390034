/* linear_logprob: log-probability of one target per row of hidden[T, D] W[V, D]^T, in one pass over W per 64 tokens.
 *
 * Logits live for one tile: formed (linear_tile.h), then scanned into the integers of row_scan.h while the next tile is
 * formed (DATAFLOW), a beat of one token after that of another: the order of tiles and beats is no part of the result,
 * and a token's state has time to be written before it is read again. On their way they get their bias and are bent
 * (scale, softcap, temperature), 16 in four cycles, as many as the scan takes. A block's states are finished together,
 * as in logprob. With PF_LINEAR_RAW the raw logits are also written, for linear_grad to read instead of forming them.
 *
 * Cycles of a tile: 1,037 a piece of 64 numbers, and some 200 to fill and empty the three processes of the products;
 * the scan's 1,400 go by beside them from D = 128 on. A block begins with 4 D / 16 cycles a token for its hidden
 * states, and ends with the last scan and 16 cycles a token for the records.
 *
 * Errors: those of logprob at the logits that fp32 products give; kernels.def states the order of the sums and
 * tests/kernels_linear.c the bound. */
#include "linear_scan.h"
#include "linear_tile.h"
PF_KERNELS(PF_PROTOTYPE)

/* Products of a tile with the block in ht: dot[row of the tile][token] */
static void pf_tile_dots(const struct PF_MATRIX *w0, const struct PF_MATRIX *w1, const struct PF_MATRIX *w2,
                         const struct PF_MATRIX *w3, uint32_t vocab, uint32_t tile, uint32_t depth,
                         const float ht[PF_DEPTH_LANES][PF_TOKENS], float dot[PF_TOKENS][PF_TOKENS])
{
pieces:
	for (uint32_t k = 0; k < depth; k += PF_PIECE_BEATS) {
#pragma HLS DATAFLOW
#pragma HLS LOOP_TRIPCOUNT min=1 max=128
		float piece[PF_TOKENS][PF_TOKENS], product[PF_TOKENS][PF_TOKENS];
#pragma HLS ARRAY_PARTITION variable=piece block factor=4 dim=1
#pragma HLS ARRAY_PARTITION variable=piece complete dim=2
#pragma HLS ARRAY_PARTITION variable=product block factor=4 dim=1
#pragma HLS ARRAY_PARTITION variable=product complete dim=2
		pf_weight_read(w0, w1, w2, w3, vocab, tile, depth, k, piece);
		pf_piece_multiply(piece, ht + k * PF_MATRIX_LANES, product);
		pf_piece_add(product, k == 0, dot);
	}
}

void PF_KERNEL_NAME(PF_LINEAR(linear_logprob))(const struct PF_MATRIX *hidden, const struct PF_MATRIX *weight0,
                                                const struct PF_MATRIX *weight1, const struct PF_MATRIX *weight2,
                                                const struct PF_MATRIX *weight3, const float *bias,
                                                const int32_t *target, struct pf_row *out, struct pf_beat_f32 *raw,
                                                uint32_t rows, uint32_t depth, uint32_t vocab, uint32_t mode,
                                                float scale, float softcap, float temperature,
                                                struct pf_beat_f32 *shard)
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
	float ht[PF_DEPTH_LANES][PF_TOKENS];
#pragma HLS ARRAY_PARTITION variable=ht cyclic factor=2 dim=1
#pragma HLS ARRAY_PARTITION variable=ht complete dim=2
	struct pf_scan scan[PF_TOKENS];
	int64_t sum[PF_TOKENS][PF_BINS], moment[PF_TOKENS][PF_BINS], square[PF_TOKENS][PF_BINS];
	int32_t own[PF_TOKENS];
#pragma HLS ARRAY_PARTITION variable=sum complete dim=2
#pragma HLS ARRAY_PARTITION variable=moment complete dim=2
#pragma HLS ARRAY_PARTITION variable=square complete dim=2
blocks:
	for (uint32_t first = 0; first < rows; first += PF_TOKENS) {
#pragma HLS LOOP_TRIPCOUNT min=1 max=16384
		const uint32_t n = rows - first < PF_TOKENS ? rows - first : PF_TOKENS;
		pf_hidden_read(hidden + (uint64_t)first * depth, n, depth, ht);
		pf_block_begin(target + first, n, scan, own, sum, moment, square);
tiles:
		for (uint32_t tile = 0; tile < tiles; tile++) {
#pragma HLS DATAFLOW
#pragma HLS LOOP_TRIPCOUNT min=1 max=4096
			float z[PF_TOKENS][PF_TOKENS];
#pragma HLS ARRAY_PARTITION variable=z cyclic factor=2 dim=1
#pragma HLS ARRAY_PARTITION variable=z complete dim=2
			pf_tile_dots(weight0, weight1, weight2, weight3, vocab, tile, depth, ht, z);
			pf_tile_scan(z, bias, &form, vocab, tile, mode, raw + pf_raw_at(first / PF_TOKENS, vocab, tile),
			             own, scan, sum, moment, square);
		}
		pf_block_finish(scan, own, sum, moment, square, n, vocab, flags, mode & PF_LINEAR_SHARD, out + first,
		                shard + (uint64_t)2 * first);
	}
}
