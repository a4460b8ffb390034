/* grad_row.h: one row of c (softmax - onehot) from its logits and record, for logit_grad.c and linear_dz.c; included
 * once per instruction set.
 *
 * exp(z) comes relative to the row's own power of two (vexp.h), so no large logits are subtracted; the target's entry
 * is -c (1 - p), which the record carries. Probabilities below 2^-126 are 0. Blocks with the target or the end of the
 * row are put together in a small copy, so that every store to dz is a whole vector. */
#ifndef PF_CPU_GRAD_ROW_H
#define PF_CPU_GRAD_ROW_H
#include "cpu.h"
#include "vexp.h"

enum { BLOCK = 64 };                   /* lanes; whole beats of either type */
#define NEAR_LIMIT (-15600)            /* of exp2: below it, logits that count as -inf could weigh in */

struct row {
	const char *z;
	char       *dz;
	uint32_t    vocab, target, room;       /* room: lanes of the stride; those beyond vocab become 0 */
	int32_t     exp2;
	float       scale, at_target;  /* c / sum, -c (1 - p) */
	int         bf16, stream;
};

PF_INLINE pf_vec load(const char *z, uint32_t lane, int bf16)
{
	return bf16 ? vec_load_bf16((const uint16_t *)z + lane) : vec_load((const float *)z + lane);
}

/* Writes one 64-byte line: streamed lines go to memory whole, or slowly */
PF_INLINE void store_line(char *dz, const pf_vec *g, int bf16, int stream)
{
	for (uint32_t i = 0; i < PF_BEAT_BYTES / sizeof(pf_vec); i++) {
		char *to = dz + i * sizeof(pf_vec);
		if (bf16 && stream)
			vec_stream_pair((uint16_t *)to, vec_pair_bf16(g[2 * i], g[2 * i + 1]));
		else if (bf16)
			vec_store_pair((uint16_t *)to, vec_pair_bf16(g[2 * i], g[2 * i + 1]));
		else if (stream)
			vec_stream((float *)to, g[i]);
		else
			vec_store((float *)to, g[i]);
	}
}

PF_INLINE pf_vec gradient(const struct vexp *e, pf_vec scale, pf_vec z)
{
	return vec_above(z, e->low, vec_mul(vexp(e, z), scale));
}

/* Lanes [begin, end), whole lines */
PF_INLINE void lines(const struct row *row, uint32_t begin, uint32_t end, int bf16, int stream)
{
	const struct vexp e = vexp_base(row->exp2);
	const pf_vec scale = vec_set(row->scale);
	const char *z = row->z;
	char *dz = row->dz;
	const uint32_t lanes = bf16 ? 32 : 16, size = bf16 ? 2 : 4;
	for (uint32_t i = begin; i < end; i += lanes) {
		pf_vec g[32 / PF_VEC];
		vec_fetch(z + (size_t)i * size);
		for (uint32_t j = 0; j < lanes / PF_VEC; j++)
			g[j] = gradient(&e, scale, load(z, i + j * PF_VEC, bf16));
		store_line(dz + (size_t)i * size, g, bf16, stream);
	}
}

static void stretch(const struct row *row, uint32_t begin, uint32_t end)
{
	if (row->bf16 && row->stream)
		lines(row, begin, end, 1, 1);
	else if (row->bf16)
		lines(row, begin, end, 1, 0);
	else if (row->stream)
		lines(row, begin, end, 0, 1);
	else
		lines(row, begin, end, 0, 0);
}

static void store_copy(const struct row *row, uint32_t first, const float *copy)
{
	pf_vec g[32 / PF_VEC];
	char *dz = row->dz + (size_t)first * (row->bf16 ? 2 : 4);
	for (uint32_t j = 0; j < (row->bf16 ? 32u : 16u) / PF_VEC; j++)
		g[j] = vec_load(copy + j * PF_VEC);
	store_line(dz, g, row->bf16, row->stream);
}

static void odd_block(const struct row *row, uint32_t first)
{
	_Alignas(64) float copy[BLOCK];
	const uint32_t end = row->room - first < BLOCK ? row->room - first : BLOCK;
	for (uint32_t i = 0; i < BLOCK; i++) {
		float x = first + i < row->vocab ? vec_logit(row->z, row->bf16, first + i) : -INFINITY;
		copy[i] = x > -PF_LOGIT_LIMIT ? x : -INFINITY;
	}
	const struct row flat = { .z = (const char *)copy, .dz = (char *)copy, .exp2 = row->exp2, .scale = row->scale };
	lines(&flat, 0, BLOCK, 0, 0);
	if (row->target - first < BLOCK)
		copy[row->target - first] = row->at_target;
	for (uint32_t i = 0; i < end; i += row->bf16 ? 32 : 16)
		store_copy(row, first + i, copy + i);
}

static void write_row(const struct row *row)
{
	const uint32_t whole = row->vocab / BLOCK * BLOCK, odd = row->target / BLOCK * BLOCK;
	if (row->exp2 < NEAR_LIMIT) {
		for (uint32_t first = 0; first < row->room; first += BLOCK)
			odd_block(row, first);
		return;
	}
	stretch(row, 0, odd < whole ? odd : whole);
	if (odd < whole)
		odd_block(row, odd);
	if (odd + BLOCK < whole)
		stretch(row, odd + BLOCK, whole);
	for (uint32_t first = whole; first < row->room; first += BLOCK)
		odd_block(row, first);
}
#endif
