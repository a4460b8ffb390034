/* pool.h: the threads of an opened `cpu` device.
 *
 * Work is cut into turns by its shape, never by the number of threads. The caller of pf_cpu_pool_run takes turns too,
 * and several callers may run at a time: kernels of one device share the helpers. Not OpenMP's threads: those spin for
 * milliseconds when idle, while the host's own numerics want the processors; these sleep. */
#ifndef PF_CPU_POOL_H
#define PF_CPU_POOL_H
#include <stdint.h>

struct pf_cpu_pool;
typedef void (*pf_cpu_turn_fn)(const void *context, uint32_t turn);

/* `threads` in all, the caller's among them (>= 1). Returns 0 or -errno */
int pf_cpu_pool_open(unsigned threads, struct pf_cpu_pool **pool);
void pf_cpu_pool_close(struct pf_cpu_pool *pool);              /* NULL is allowed; nothing may run */
/* Runs turn(context, i) for every i < count, in any order; returns when all are done */
void pf_cpu_pool_run(struct pf_cpu_pool *pool, uint32_t count, pf_cpu_turn_fn turn, const void *context);
#endif
