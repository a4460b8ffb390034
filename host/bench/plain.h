/* plain.h: what the kernels are to compute, as a schoolbook would: one row at a time, in double, by libm. The bench
 * looks at some rows of what it is about to time with these.
 *
 * Each returns what was computed and, where products of floats come first, how far those of single precision may lead
 * away from it. Thread-safe. */
#ifndef PF_BENCH_PLAIN_H
#define PF_BENCH_PLAIN_H
#include <stdint.h>

/* Log of the sum of e^z[v], v < vocab */
double pf_plain_lse(const double *z, uint32_t vocab);
/* z[vocab] = weight[vocab, dim] h. Returns how far a logit in single precision may be off: 64 roundings and one more
 * for each 64 products, of the largest sum of |w h| */
double pf_plain_logits(const float *h, const float *weight, uint32_t vocab, uint32_t dim, double *z);
/* DPO (Rafailov et al. 2023): -log sigmoid(beta d), and its derivative by d */
double pf_plain_dpo(double beta, double d, double *slope);
#endif
