#include "random.h"
#include <math.h>
#include "prefpga/internal/kmath64.h"

static uint64_t rotate(uint64_t x, int by)
{
	return x << by | x >> (64 - by);
}

static uint64_t splitmix(uint64_t *state)
{
	uint64_t z = *state += 0x9e3779b97f4a7c15u;
	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
	z = (z ^ z >> 27) * 0x94d049bb133111ebu;
	return z ^ z >> 31;
}

void pf_random_seed(struct pf_random *random, uint64_t seed, uint64_t stream)
{
	uint64_t state = stream;
	state = splitmix(&state) ^ seed;
	for (int i = 0; i < 4; i++)
		random->word[i] = splitmix(&state);
}

uint64_t pf_random_word(struct pf_random *random)
{
	uint64_t *s = random->word;
	uint64_t result = rotate(s[1] * 5, 7) * 9, t = s[1] << 17;
	s[2] ^= s[0];
	s[3] ^= s[1];
	s[1] ^= s[2];
	s[0] ^= s[3];
	s[2] ^= t;
	s[3] = rotate(s[3], 45);
	return result;
}

uint64_t pf_random_below(struct pf_random *random, uint64_t below)
{
	uint64_t refuse = (0 - below) %
	                  below; /* 2^64 mod below: what would be drawn once too often */
	uint64_t word;
	do
		word = pf_random_word(random);
	while (word < refuse);
	return word % below;
}

double pf_random_unit(struct pf_random *random)
{
	return (double)(pf_random_word(random) >> 11) * 0x1p-53;
}

double pf_random_normal(struct pf_random *random)
{
	double u, v, s;
	do {
		u = 2.0 * pf_random_unit(random) - 1.0;
		v = 2.0 * pf_random_unit(random) - 1.0;
		s = u * u + v * v;
	} while (s >= 1.0 || s == 0.0);
	return u * sqrt(-2.0 * pf_log64(s) / s);
}
