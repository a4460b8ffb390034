/* logits_body.h: the functions of logits.h for one element type, chosen by BODY_BITS (32 or 64).
 * Deliberately without a guard. */
#include <cblas.h>
#include <string.h>
#include "logits.h"
#include "parallel.h"
#include "rows.h"
#define REAL_BITS BODY_BITS
#include "real.h"

/* Large enough that packing the operands is a small part of a tile's work
 * (tests/bench/bench_body.c) */
enum { TILE_ROWS = 256, TILE_COLS = 512 };

static void tile(void *context, size_t index, unsigned worker)
{
	const struct PF_T(product) *p = context;
	const size_t across = (p->n + TILE_COLS - 1) / TILE_COLS;
	const size_t i = index / across * TILE_ROWS, j = index % across * TILE_COLS;
	const size_t m = p->m - i < TILE_ROWS ? p->m - i : TILE_ROWS,
	             n = p->n - j < TILE_COLS ? p->n - j : TILE_COLS;
	const REAL *a = p->a + (p->transpose_a ? i : i * p->lda),
	           *b = p->b + (p->transpose_b ? j * p->ldb : j);
	(void)worker;
	GEMM(CblasRowMajor, p->transpose_a ? CblasTrans : CblasNoTrans,
	     p->transpose_b ? CblasTrans : CblasNoTrans, (int)m, (int)n, (int)p->k, p->alpha, a,
	     (int)p->lda, b, (int)p->ldb, p->beta, p->c + i * p->ldc + j, (int)p->ldc);
}

void PF_T(matmul)(unsigned threads, const struct PF_T(product) *product)
{
	struct PF_T(product) p = *product;
	const size_t down = (p.m + TILE_ROWS - 1) / TILE_ROWS,
	             across = (p.n + TILE_COLS - 1) / TILE_COLS;
	pf_parallel(pf_threads(threads), down * across, tile, &p);
}

void PF_T(logits)(unsigned threads, const struct PF_T(head_shape) *s, const REAL *hidden,
                  const REAL *weight, REAL *z)
{
	const struct PF_T(product) p = {
		.transpose_b = 1, .m = s->tokens, .n = s->vocab, .k = s->dim, .alpha = 1,
		.a = hidden, .lda = s->dim, .b = weight, .ldb = s->dim, .c = z, .ldc = s->stride,
	};
	PF_T(matmul)(threads, &p);
}

void PF_T(logits_grad)(unsigned threads, const struct PF_T(head_shape) *s, const REAL *dz,
                       const REAL *hidden, const REAL *weight, REAL *dhidden, REAL *dweight)
{
	const struct PF_T(product) back = {
		.m = s->tokens, .n = s->dim, .k = s->vocab, .alpha = 1,
		.a = dz, .lda = s->stride, .b = weight, .ldb = s->dim, .c = dhidden, .ldc = s->dim,
	};
	const struct PF_T(product) outer = {
		.transpose_a = 1, .m = s->vocab, .n = s->dim, .k = s->tokens, .alpha = 1, .beta = 1,
		.a = dz, .lda = s->stride, .b = hidden, .ldb = s->dim, .c = dweight, .ldc = s->dim,
	};
	PF_T(matmul)(threads, &back);
	if (dweight && s->tokens > 0)
		PF_T(matmul)(threads, &outer);
}

struct capping {
	const struct PF_T(head_shape) *shape;
	REAL cap, *z, *dz; /* dz NULL: only z */
};

static void cap_row(void *context, size_t index, unsigned worker)
{
	const struct capping *c = context;
	const struct PF_T(rows) *rows = ROWS_BEST;
	REAL *z = c->z + index * c->shape->stride;
	(void)worker;
	rows->softcap(c->shape->vocab, c->cap, z, c->dz ? z : NULL);
	if (c->dz)
		rows->multiply(c->shape->vocab, z, c->dz + index * c->shape->stride);
}

void PF_T(logits_cap)(unsigned threads, const struct PF_T(head_shape) *s, double cap, REAL *z)
{
	struct capping c = { s, (REAL)cap, z, NULL };
	pf_parallel(pf_threads(threads), s->tokens, cap_row, &c);
}

void PF_T(logits_cap_grad)(unsigned threads, const struct PF_T(head_shape) *s, double cap, REAL *z, REAL *dz)
{
	struct capping c = { s, (REAL)cap, z, dz };
	pf_parallel(pf_threads(threads), s->tokens, cap_row, &c);
}

void PF_T(rows_gather)(const REAL *from, size_t dim, const uint32_t *row, size_t count, REAL *to)
{
	for (size_t i = 0; i < count; i++)
		memcpy(to + i * dim, from + row[i] * dim, dim * sizeof *to);
}

void PF_T(rows_scatter)(const REAL *from, size_t dim, const uint32_t *row, size_t count, REAL *to)
{
	for (size_t i = 0; i < count; i++)
		for (size_t j = 0; j < dim; j++)
			to[row[i] * dim + j] += from[i * dim + j];
}
