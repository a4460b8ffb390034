/* linear_logprob: log-probability of one target per row of hidden[T, D] W[V, D]^T, in one pass over W per 64 tokens.
 *
 * Logits live for one tile: formed (linear_tile.h), then scanned into the integers of row_scan.h, a beat of one token
 * after that of another: the order of tiles and beats is no part of the result, and a token's state has time to be
 * written before it is read again. On their way they are bent (scale, softcap, temperature), 16 in four cycles, as
 * many as the scan takes. A block's states are finished together, as in logprob. With PF_LINEAR_RAW the raw logits are
 * also written, for linear_grad to read instead of forming them.
 *
 * Errors: those of logprob at the logits that fp32 products give; kernels.def states the order of the sums and
 * tests/kernels_linear.c the bound. */
#include "linear_tile.h"
#include "prefpga/internal/row_finish.h"
PF_KERNELS(PF_PROTOTYPE)

#define PF_TILE_STEPS (PF_TOKENS * ((PF_PIECE_BEATS + PF_STEP - 1) / PF_STEP))

/* Raw logits of a tile for the block in ht: raw[row of the tile][token] */
static void pf_tile_raw(const struct PF_BEAT *w0, const struct PF_BEAT *w1, const struct PF_BEAT *w2,
                        const struct PF_BEAT *w3, const float *bias, uint32_t vocab, uint32_t tile, uint32_t depth,
                        uint32_t given, const float ht[PF_DEPTH_LANES][PF_TOKENS], float raw[PF_TOKENS][PF_TOKENS])
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
		pf_piece_multiply(piece, ht + k * PF_BEAT_LANES, product);
		pf_piece_add(product, k == 0, raw);
	}
	pf_tile_bias(bias, vocab, tile, given, raw);
}

/* ---- the scan ---- */

static void pf_block_begin(const int32_t *from, uint32_t n, struct pf_scan scan[PF_TOKENS], int32_t target[PF_TOKENS],
                           int64_t sum[PF_TOKENS][PF_BINS], int64_t moment[PF_TOKENS][PF_BINS],
                           int64_t square[PF_TOKENS][PF_BINS])
{
begin:
	for (uint32_t t = 0; t < PF_TOKENS; t++) {
#pragma HLS PIPELINE II=1
		const struct pf_scan none = { .top = PF_TOP_NONE, .top_p2 = PF_TOP_NONE };
		scan[t] = none;
		target[t] = t < n ? from[t] : PF_IGNORE;
bins:
		for (uint32_t j = 0; j < PF_BINS; j++)
			sum[t][j] = moment[t][j] = square[t][j] = 0;
	}
}

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

/* raw[row of the tile][token]: beat by beat, and within it token by token */
static void pf_block_scan(const float raw[PF_TOKENS][PF_TOKENS], const struct pf_form *form, uint32_t vocab,
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
		const uint32_t beats = pf_step_beats(PF_PIECE_BEATS - b);
		float x[PF_LANES], unused;
#pragma HLS ARRAY_PARTITION variable=x complete
		if (target[t] < 0)
			continue;
logits:
		for (uint32_t l = 0; l < beats * PF_BEAT_LANES; l++)
			x[l] = pf_form_logit(raw[first + l][t], form, &unused);
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

static void pf_raw_write(const float raw[PF_TOKENS][PF_TOKENS], struct PF_BEAT *to)
{
rows:
	for (uint32_t r = 0; r < PF_TOKENS; r++) {
#pragma HLS LOOP_TRIPCOUNT min=64 max=64
raw:
		for (uint32_t b = 0; b < PF_PIECE_BEATS; b++) {
#pragma HLS PIPELINE II=1
			struct PF_BEAT w;
lanes:
			for (uint32_t l = 0; l < PF_BEAT_LANES; l++)
				w.lane[l] = pf_lane_store(raw[r][b * PF_BEAT_LANES + l]);
			to[r * PF_PIECE_BEATS + b] = w;
		}
	}
}

void PF_KERNEL_NAME(linear_logprob)(const struct PF_BEAT *hidden, const struct PF_BEAT *weight0,
                                    const struct PF_BEAT *weight1, const struct PF_BEAT *weight2,
                                    const struct PF_BEAT *weight3, const float *bias, const int32_t *target,
                                    struct pf_row *out, struct PF_BEAT *raw, uint32_t rows, uint32_t depth,
                                    uint32_t vocab, uint32_t mode, float scale, float softcap, float temperature,
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
#pragma HLS LOOP_TRIPCOUNT min=1 max=4096
			float z[PF_TOKENS][PF_TOKENS];
#pragma HLS ARRAY_PARTITION variable=z cyclic factor=2 dim=1
#pragma HLS ARRAY_PARTITION variable=z complete dim=2
			pf_tile_raw(weight0, weight1, weight2, weight3, bias, vocab, tile, depth, mode & PF_LINEAR_BIAS,
			            ht, z);
			if (mode & PF_LINEAR_RAW)
				pf_raw_write(z, raw + pf_raw_at(first / PF_TOKENS, vocab, tile));
			pf_block_scan(z, &form, vocab, tile, flags, own, scan, sum, moment, square);
		}
		pf_block_finish(scan, own, sum, moment, square, n, vocab, flags, mode & PF_LINEAR_SHARD, out + first,
		                shard + (uint64_t)2 * first);
	}
}
