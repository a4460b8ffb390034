/* The products of the fused head on the host: BLAS on fp32; bf16 is widened some columns at a time, MXINT8 has its own
 * (linear_operand.c). */
#include <cblas.h>
#include <errno.h>
#include <stdlib.h>
#include "cpu.h"

enum {
	BLOCK = PF_CPU_TILE_TOKENS,
	WORDS = PF_CPU_TILE_WORDS,
	WIDE = 512,                    /* columns that are widened at a time */
};

static uint32_t smaller(uint64_t a, uint64_t b)
{
	return (uint32_t)(a < b ? a : b);
}

size_t pf_cpu_product_room(const struct pf_cpu_linear *h)
{
	return h->format == PF_CPU_BF16 ? (BLOCK + WORDS) * WIDE * sizeof(float)
	       : h->format == PF_CPU_MXINT8 ? sizeof(struct pf_cpu_mx_room) : 0;
}

const uint16_t *pf_cpu_half(const char *matrix, const struct pf_cpu_linear *h, size_t row, uint32_t column)
{
	return (const uint16_t *)(const void *)(matrix + row * h->row_bytes) + column;
}

static void product_bf16(const struct pf_cpu_level *level, const struct pf_cpu_linear *h, uint32_t token,
                         uint32_t tokens, const struct pf_cpu_words *t, float *raw, size_t ld, float *room)
{
	float *words = room + BLOCK * WIDE;
	for (uint32_t d = 0; d < h->depth; d += WIDE) {
		const uint32_t cols = smaller(WIDE, h->depth - d);
		level->widen(pf_cpu_half(h->hidden, h, token, d), h->depth, tokens, cols, room);
		level->widen(pf_cpu_half(h->weight[t->port], h, t->first, d), h->depth, t->words, cols, words);
		cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (int)tokens, (int)t->words, (int)cols, 1, room,
		            (int)cols, words, (int)cols, d ? 1 : 0, raw, (int)ld);
	}
}

void pf_cpu_product(const struct pf_cpu_level *level, const struct pf_cpu_linear *h, uint32_t token, uint32_t tokens,
                    const struct pf_cpu_words *t, float *raw, size_t ld, void *room)
{
	const char *hidden = h->hidden + token * h->row_bytes, *weight = h->weight[t->port] + t->first * h->row_bytes;
	const struct pf_cpu_mx mx = { (const uint8_t *)hidden, (const uint8_t *)weight, h->row_bytes, h->depth, tokens,
	                              t->words, raw, ld, room };
	if (h->format == PF_CPU_BF16)
		product_bf16(level, h, token, tokens, t, raw, ld, room);
	else if (h->format == PF_CPU_MXINT8)
		level->mx_product(&mx);
	else
		cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (int)tokens, (int)t->words, (int)h->depth, 1,
		            (const float *)(const void *)hidden, (int)h->depth, (const float *)(const void *)weight,
		            (int)h->depth, 0, raw, (int)ld);
}

/* dhidden[tokens, columns [d, d + cols)] += dz W, whose rows are ld elements apart */
static void add_columns(const struct pf_cpu_dz *dz, const float *weight, size_t ld, uint32_t words, uint32_t cols,
                        float beta, float *dhidden, uint32_t depth)
{
	cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, (int)dz->tokens, (int)cols, (int)words, 1, dz->dz,
	            (int)dz->ld, weight, (int)ld, beta, dhidden, (int)depth);
}

int pf_cpu_product_back(const struct pf_cpu_level *level, const struct pf_cpu_linear *h,
                        const struct pf_cpu_words *from, const struct pf_cpu_dz *dz, float beta, float *dhidden)
{
	const char *weight = h->weight[from->port] + from->first * h->row_bytes;
	void *memory;
	if (h->format == PF_CPU_F32) {
		add_columns(dz, (const float *)(const void *)weight, h->depth, from->words, h->depth, beta, dhidden,
		            h->depth);
		return 0;
	}
	if (posix_memalign(&memory, PF_BEAT_BYTES, (size_t)WORDS * WIDE * sizeof(float)))
		return -ENOMEM;
	for (uint32_t w = 0; w < from->words; w += WORDS)
		for (uint32_t d = 0; d < h->depth; d += WIDE) {
			const uint32_t words = smaller(WORDS, from->words - w), cols = smaller(WIDE, h->depth - d);
			const struct pf_cpu_dz part = { dz->dz + w, dz->ld, dz->tokens };
			level->widen(pf_cpu_half(weight, h, w, d), h->depth, words, cols, memory);
			add_columns(&part, memory, cols, words, cols, w ? 1 : beta, dhidden + d, h->depth);
		}
	free(memory);
	return 0;
}
