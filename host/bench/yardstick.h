/* yardstick.h: what this machine can do at most, measured now: bytes a second through a plain copy loop, operations a
 * second of single precision matrix products. Speed is judged against these, measured beside it in the same run.
 *
 * One thread calls; the work is spread over the threads of parallel.h. */
#ifndef PF_BENCH_YARDSTICK_H
#define PF_BENCH_YARDSTICK_H
#include <stddef.h>
#include "prefpga/error.h"

struct pf_yardstick;

/* threads: 0: all processors. copy_bytes: of the array that is copied; beyond the caches, or the rate is theirs */
int pf_yardstick_open(unsigned threads, size_t copy_bytes, struct pf_yardstick **yardstick, struct pf_error *error);
void pf_yardstick_close(struct pf_yardstick *yardstick); /* NULL is allowed */
/* Bytes/s, read and written together; one pass */
double pf_yardstick_copy(struct pf_yardstick *yardstick);
/* Operations/s (a multiplication and an addition are two): BLAS's SGEMM on 1024 x 1024 matrices, one per thread */
double pf_yardstick_sgemm(struct pf_yardstick *yardstick);
/* The same by processor time instead of wall time, best of `tries`: what a machine that is busy with other programs
 * could do. *free_part (may be NULL): wall rate of that measurement over it, 1 on a machine of one's own */
double pf_yardstick_sgemm_free(struct pf_yardstick *yardstick, unsigned tries, double *free_part);
/* Operations of one such measurement */
double pf_yardstick_operations(const struct pf_yardstick *yardstick);
#endif
