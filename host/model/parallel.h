/* parallel.h: the threads of the host's numerics, and what a checkpoint records about them.
 *
 * Work is cut into pieces by its shape alone, never by the number of threads, and BLAS calls inside
 * a piece run on the thread of the piece. So results do not depend on the number of threads; they
 * do depend on the BLAS core, which is chosen at run time and recorded.
 *
 * The threads are the library's own and not OpenMP's: an idle OpenMP thread spins for milliseconds
 * and takes the processor from a device's threads that work meanwhile, an idle thread of this pool
 * sleeps after microseconds; and ThreadSanitizer understands these. They start when first needed,
 * are shared by all callers, and end with the process or the library. */
#ifndef PF_MODEL_PARALLEL_H
#define PF_MODEL_PARALLEL_H
#include <stddef.h>

typedef void (*pf_piece_fn)(void *context, size_t index, unsigned worker);
/* Runs piece(context, i, worker) for every i < count, in any order, on up to `threads` threads, the
 * caller's among them; worker < threads, and no two pieces run with the same worker at a time.
 * Returns when all are done. Calls from inside a piece, and calls while another thread's is
 * running, work on the calling thread alone. BLAS built for pthreads has one thread count for the
 * process: it is 1 during the call and restored after it */
void pf_parallel(unsigned threads, size_t count, pf_piece_fn piece, void *context);

/* What `threads` stands for: itself, or for 0 as many as this process may run on */
unsigned pf_threads(unsigned threads);

struct pf_blas_facts {
	char core[64];     /* the kernel set chosen at run time: "SkylakeX", "Haswell", ... */
	char version[128]; /* OpenBLAS's own configuration line */
};
void pf_blas_facts(struct pf_blas_facts *facts);
#endif
