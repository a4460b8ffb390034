/* blas_threads.h: keeps BLAS calls on the thread that makes them, for the threads of the body (host/model/parallel.c)
 * and of backend cpu. */
#ifndef PF_INTERNAL_BLAS_THREADS_H
#define PF_INTERNAL_BLAS_THREADS_H

struct pf_blas_hold {
	int openmp, pthreads; /* thread counts to restore; 0: none */
};

/* From hold to release, BLAS calls of this thread are serial. The threads of the pool call
 * thread_alone once instead */
void pf_blas_hold(struct pf_blas_hold *hold);
void pf_blas_release(const struct pf_blas_hold *hold);
void pf_blas_thread_alone(void);

/* A short pause in a loop that polls */
static inline void pf_spin_pause(void)
{
#if defined(__x86_64__)
	__builtin_ia32_pause();
#endif
}
#endif
