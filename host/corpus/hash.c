#include "hash.h"

uint64_t pf_hash_mix(uint64_t word)
{
	word ^= word >> 32;
	word *= UINT64_C(0xd6e8feb86659fd93);
	word ^= word >> 32;
	word *= UINT64_C(0xd6e8feb86659fd93);
	return word ^ word >> 32;
}

uint64_t pf_hash_word(uint64_t hash, uint64_t word)
{
	return pf_hash_mix((hash ^ word) + UINT64_C(0x9e3779b97f4a7c15));
}

static uint64_t load(const unsigned char *bytes, size_t count)
{
	uint64_t word = 0;

	for (size_t i = 0; i < count; i++)
		word |= (uint64_t)bytes[i] << 8 * i;
	return word;
}

uint64_t pf_hash_bytes(uint64_t hash, const void *bytes, size_t length)
{
	const unsigned char *at = bytes;
	size_t left = length;

	for (; left >= 8; left -= 8, at += 8)
		hash = pf_hash_word(hash, load(at, 8));
	if (left)
		hash = pf_hash_word(hash, load(at, left));
	return pf_hash_word(hash, length);
}
