#include "prefpga/internal/blas_threads.h"
#include <cblas.h>
#include <stdio.h>
#include "parallel.h"
#ifdef _OPENMP
#include <omp.h>
#endif

enum { BLAS_PTHREADS = 1, BLAS_OPENMP = 2 }; /* openblas_get_parallel() */

/* OpenBLAS built for OpenMP asks for the calling thread's omp_get_max_threads() at every call */
#ifdef _OPENMP
static void hold_openmp(struct pf_blas_hold *hold)
{
	hold->openmp = omp_get_max_threads();
	omp_set_num_threads(1);
}

static void release_openmp(const struct pf_blas_hold *hold)
{
	omp_set_num_threads(hold->openmp);
}
#else
/* Only OpenBLAS can set that count here, and what it was cannot be asked: this thread's BLAS stays
 * serial */
static void hold_openmp(struct pf_blas_hold *hold)
{
	(void)hold;
	if (openblas_get_parallel() == BLAS_OPENMP)
		openblas_set_num_threads(1);
}

static void release_openmp(const struct pf_blas_hold *hold)
{
	(void)hold;
}
#endif

void pf_blas_hold(struct pf_blas_hold *hold)
{
	*hold = (struct pf_blas_hold){ 0, 0 };
	hold_openmp(hold);
	if (openblas_get_parallel() != BLAS_PTHREADS)
		return;
	hold->pthreads = openblas_get_num_threads();
	openblas_set_num_threads(1);
}

void pf_blas_release(const struct pf_blas_hold *hold)
{
	release_openmp(hold);
	if (hold->pthreads > 0)
		openblas_set_num_threads(hold->pthreads);
}

void pf_blas_thread_alone(void)
{
	struct pf_blas_hold unused;
	hold_openmp(&unused);
}

void pf_blas_facts(struct pf_blas_facts *facts)
{
	snprintf(facts->core, sizeof facts->core, "%s", openblas_get_corename());
	snprintf(facts->version, sizeof facts->version, "%s", openblas_get_config());
}
