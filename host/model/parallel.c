#include "parallel.h"
#include <cblas.h>
#include <stdio.h>
#ifdef _OPENMP
#include <omp.h>
#endif

enum { BLAS_PTHREADS = 1 };            /* openblas_get_parallel() */

static void run_serially(size_t count, pf_piece_fn piece, void *context)
{
	for (size_t i = 0; i < count; i++)
		piece(context, i, 0);
}

#ifdef _OPENMP
/* OpenBLAS for OpenMP is serial inside a parallel region, and otherwise asks for this thread's omp_get_max_threads();
 * a region of one thread does not count as parallel */
static void run_alone(size_t count, pf_piece_fn piece, void *context)
{
	int threads = omp_get_max_threads();
	omp_set_num_threads(1);
	run_serially(count, piece, context);
	omp_set_num_threads(threads);
}

static void run(unsigned threads, size_t count, pf_piece_fn piece, void *context)
{
	if (threads < 2 || count < 2 || omp_in_parallel()) {
		run_alone(count, piece, context);
		return;
	}
#pragma omp parallel for schedule(dynamic, 1) num_threads((int)threads)
	for (size_t i = 0; i < count; i++)
		piece(context, i, (unsigned)omp_get_thread_num());
}

unsigned pf_threads(unsigned threads)
{
	return threads > 0 ? threads : (unsigned)omp_get_num_procs();
}

static int blas_needs_hold(void)
{
	return openblas_get_parallel() == BLAS_PTHREADS;
}
#else
static void run(unsigned threads, size_t count, pf_piece_fn piece, void *context)
{
	(void)threads;
	run_serially(count, piece, context);
}

unsigned pf_threads(unsigned threads)
{
	(void)threads;
	return 1;
}

static int blas_needs_hold(void)
{
	return openblas_get_parallel() != 0;
}
#endif

void pf_parallel(unsigned threads, size_t count, pf_piece_fn piece, void *context)
{
	if (!blas_needs_hold()) {
		run(threads, count, piece, context);
		return;
	}
	int before = openblas_get_num_threads();
	openblas_set_num_threads(1);
	run(threads, count, piece, context);
	openblas_set_num_threads(before);
}

void pf_blas_facts(struct pf_blas_facts *facts)
{
	snprintf(facts->core, sizeof facts->core, "%s", openblas_get_corename());
	snprintf(facts->version, sizeof facts->version, "%s", openblas_get_config());
}
