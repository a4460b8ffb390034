#include "permute.h"
#include "hash.h"

#define ROUNDS 12                      /* fewer leave orders of a handful of records uneven: see tests/corpus_pack.c */

struct pf_permutation pf_permutation_make(uint64_t count, uint64_t seed, uint64_t epoch)
{
	struct pf_permutation permutation = { .count = count, .half = 1 };

	while (permutation.half < 31 && UINT64_C(1) << 2 * permutation.half < count)
		permutation.half++;
	permutation.key = pf_hash_word(pf_hash_word(PF_HASH_START, seed), epoch);
	return permutation;
}

static uint64_t scramble(const struct pf_permutation *permutation, uint64_t value)
{
	uint64_t mask = (UINT64_C(1) << permutation->half) - 1;
	uint64_t left = value >> permutation->half, right = value & mask;

	for (unsigned round = 0; round < ROUNDS; round++) {
		uint64_t next = left ^ (pf_hash_word(pf_hash_word(permutation->key, round), right) & mask);

		left = right;
		right = next;
	}
	return left << permutation->half | right;
}

uint64_t pf_permutation_at(const struct pf_permutation *permutation, uint64_t i)
{
	uint64_t value = scramble(permutation, i);

	while (value >= permutation->count)
		value = scramble(permutation, value);
	return value;
}
