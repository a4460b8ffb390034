/* linear_products.h: the three kinds of products of linear_grad, piece by piece along D on the array of linear_tile.h:
 * read, multiply, add at the same time on different pieces. */
#ifndef PF_HLS_LINEAR_PRODUCTS_H
#define PF_HLS_LINEAR_PRODUCTS_H
#include "linear_tile.h"

static inline void pf_wide_read(const struct pf_beat_f32 *from, uint64_t at, uint32_t there, float to[PF_BEAT_LANES])
{
	struct pf_beat_f32 w = { { 0 } };
	if (there)
		w = from[at];
lanes:
	for (uint32_t l = 0; l < PF_BEAT_LANES; l++)
		to[l] = pf_float(w.lane[l]);
}

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
#endif
