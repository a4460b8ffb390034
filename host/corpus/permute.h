/* permute.h: a pseudo-random order of 0 .. count - 1, computed place by place: no table, any count. Thread-safe.
 *
 * A Feistel network over the next power of four, walked until the value is below count (at most four rounds of it on
 * average). The order is a function of (count, seed, epoch) alone and must never change: resumed runs rely on it. */
#ifndef PF_CORPUS_PERMUTE_H
#define PF_CORPUS_PERMUTE_H
#include <stdint.h>

struct pf_permutation { uint64_t count, key; unsigned half; /* bits of each half */ };

struct pf_permutation pf_permutation_make(uint64_t count, uint64_t seed, uint64_t epoch);
/* What stands at place i < count */
uint64_t pf_permutation_at(const struct pf_permutation *permutation, uint64_t i);
#endif
