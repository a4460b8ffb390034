/* random.h: reproducible random numbers: the same seed gives the same values on every machine and
 * compiler.
 *
 * xoshiro256** (Blackman and Vigna, "Scrambled linear pseudorandom number generators", 2021),
 * seeded by SplitMix64. The state is plain data: copy it, save it, compare it. Threads: a state
 * belongs to one thread at a time. */
#ifndef PF_MODEL_RANDOM_H
#define PF_MODEL_RANDOM_H
#include <stdint.h>

struct pf_random {
	uint64_t word[4];
};

/* Streams of one seed are independent for all practical purposes */
void pf_random_seed(struct pf_random *random, uint64_t seed, uint64_t stream);
uint64_t pf_random_word(struct pf_random *random);
/* Uniform in [0, below), without bias; below > 0 */
uint64_t pf_random_below(struct pf_random *random, uint64_t below);
/* Uniform in [0, 1), a multiple of 2^-53 */
double pf_random_unit(struct pf_random *random);
/* Standard normal (Marsaglia's polar method; its second value is dropped so that the state stays
 * four words) */
double pf_random_normal(struct pf_random *random);
#endif
