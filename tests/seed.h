/* seed.h: `--seed N` or `--seed clock` on a test's command line: other random points than the fixed ones, and which. */
#ifndef PF_TESTS_SEED_H
#define PF_TESTS_SEED_H
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static uint64_t seed_chosen;           /* 0: the fixed points */

/* Where a generator starts: at `fixed`, or at a place that depends on it and on the chosen seed */
static inline uint64_t seed_of(uint64_t fixed)
{
	uint64_t z = seed_chosen + fixed * 0x9e3779b97f4a7c15u;
	if (seed_chosen == 0)
		return fixed;
	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
	z = (z ^ z >> 27) * 0x94d049bb133111ebu;
	return z ^ z >> 31;
}

static inline uint64_t seed_from_clock(void)
{
	struct timespec now;
	clock_gettime(CLOCK_REALTIME, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* Takes the option from the end of the arguments; 0, or -1: no number */
static inline int seed_take(int *argc, char **argv)
{
	char *end = "";
	if (*argc < 3 || strcmp(argv[*argc - 2], "--seed") != 0)
		return *argc > 1 && strcmp(argv[*argc - 1], "--seed") == 0 ? -1 : 0;
	const char *text = argv[*argc - 1];
	seed_chosen = strcmp(text, "clock") == 0 ? seed_from_clock() : strtoull(text, &end, 10);
	if (*end || !*text)
		return -1;
	*argc -= 2;
	argv[*argc] = NULL;
	printf("these points again: --seed %llu\n", (unsigned long long)seed_chosen);
	fflush(stdout);
	return 0;
}
#endif
