#include "yardstick.h"
#include <cblas.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "../model/model.h"
#include "../model/parallel.h"
#include "../train/seconds.h"
#include "copy_loop.h"

enum { SIZE = 1024, PIECE = 1 << 18 /* floats */ };

struct pf_yardstick {
	unsigned threads;
	size_t floats;
	float *from, *to; /* [floats] */
	float *square;    /* [threads, 3, SIZE, SIZE] */
};

static void fill(void *context, size_t i, unsigned worker)
{
	const struct pf_yardstick *y = context;
	(void)worker;
	for (size_t k = i * PIECE; k < y->floats && k < (i + 1) * PIECE; k++)
		y->from[k] = (float)(k % 1000);
}

static size_t pieces(const struct pf_yardstick *y)
{
	return (y->floats + PIECE - 1) / PIECE;
}

int pf_yardstick_open(unsigned threads, size_t copy_bytes, struct pf_yardstick **yardstick, struct pf_error *error)
{
	struct pf_yardstick *y = calloc(1, sizeof *y);
	*yardstick = y;
	if (!y)
		return pf_fail(error, -ENOMEM, "no memory for the yardstick");
	y->threads = pf_threads(threads);
	y->floats = copy_bytes / sizeof(float) + 1;
	y->from = pf_floats_alloc(y->floats);
	y->to = pf_floats_alloc(y->floats);
	y->square = pf_floats_alloc((uint64_t)y->threads * 3 * SIZE * SIZE);
	if (!y->from || !y->to || !y->square) {
		pf_yardstick_close(y);
		*yardstick = NULL;
		return pf_fail(error, -ENOMEM, "no memory for the yardstick: two arrays of %zu bytes", copy_bytes);
	}
	pf_parallel(y->threads, pieces(y), fill, y);
	for (size_t i = 0; i < (size_t)y->threads * 3 * SIZE * SIZE; i++)
		y->square[i] = (float)(i % 7) - 3;
	pf_yardstick_copy(y); /* pages are there, BLAS has chosen its kernels */
	pf_yardstick_sgemm(y);
	return 0;
}

void pf_yardstick_close(struct pf_yardstick *y)
{
	if (!y)
		return;
	free(y->from);
	free(y->to);
	free(y->square);
	free(y);
}

static void copy_piece(void *context, size_t i, unsigned worker)
{
	const struct pf_yardstick *y = context;
	const size_t at = i * PIECE, left = y->floats - at;
	(void)worker;
	copy_loop(y->to + at, y->from + at, left < PIECE ? left : PIECE);
}

double pf_yardstick_copy(struct pf_yardstick *y)
{
	const double began = pf_seconds();
	pf_parallel(y->threads, pieces(y), copy_piece, y);
	return 2.0 * (double)y->floats * sizeof(float) / (pf_seconds() - began);
}

static void square_piece(void *context, size_t i, unsigned worker)
{
	float *m = ((const struct pf_yardstick *)context)->square + (size_t)worker * 3 * SIZE * SIZE;
	(void)i;
	cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, SIZE, SIZE, SIZE, 1, m, SIZE, m + SIZE * SIZE, SIZE, 0,
	            m + 2 * SIZE * SIZE, SIZE);
}

double pf_yardstick_operations(const struct pf_yardstick *y)
{
	return 2.0 * y->threads * SIZE * SIZE * (double)SIZE;
}

double pf_yardstick_sgemm(struct pf_yardstick *y)
{
	const double began = pf_seconds();
	pf_parallel(y->threads, y->threads, square_piece, y);
	return pf_yardstick_operations(y) / (pf_seconds() - began);
}

static double processor_seconds(void)
{
	struct timespec t;
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

double pf_yardstick_sgemm_free(struct pf_yardstick *y, unsigned tries, double *free_part)
{
	double best = 0;
	for (unsigned i = 0; i < tries; i++) {
		const double began = processor_seconds(), wall = pf_yardstick_sgemm(y);
		const double rate = pf_yardstick_operations(y) / (processor_seconds() - began) * y->threads;
		if (rate > best && free_part)
			*free_part = fmin(1, wall / rate);
		best = fmax(best, rate);
	}
	return best;
}
