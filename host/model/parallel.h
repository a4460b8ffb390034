/* parallel.h: the one place where the host's numerics start threads, and what a checkpoint records about them.
 *
 * Work is cut into pieces by its shape alone, never by the number of threads, and BLAS calls inside a piece run on the
 * thread of the piece. So results do not depend on the number of threads; they do depend on the BLAS core, which is
 * chosen at run time and recorded. Without PREFPGA_OPENMP everything runs on the calling thread. */
#ifndef PF_MODEL_PARALLEL_H
#define PF_MODEL_PARALLEL_H
#include <stddef.h>

/* Runs piece(context, i, worker) for every i < count, in any order; worker < threads. Returns when all are done. May be
 * called inside a parallel region, and then runs serially. Two concurrent calls are safe with BLAS built for OpenMP;
 * BLAS built for pthreads or a build without OpenMP has one process-wide thread count, which is 1 during the call and
 * restored after it */
typedef void (*pf_piece_fn)(void *context, size_t index, unsigned worker);
void pf_parallel(unsigned threads, size_t count, pf_piece_fn piece, void *context);

/* What `threads` stands for: itself, or for 0 as many as there are processors; 1 in a build without OpenMP */
unsigned pf_threads(unsigned threads);

struct pf_blas_facts {
	char core[64];                 /* the kernel set chosen at run time: "SkylakeX", "Haswell", ... */
	char version[128];             /* OpenBLAS's own configuration line */
};
void pf_blas_facts(struct pf_blas_facts *facts);
#endif
