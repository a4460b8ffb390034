/* bench_numbers.h: what benches of the fused head share: memory, numbers that are the same in every run, an end with a
 * reason. */
#ifndef PF_TESTS_BENCH_NUMBERS_H
#define PF_TESTS_BENCH_NUMBERS_H
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "prefpga/error.h"

static inline void must(int code, const struct pf_error *error)
{
	if (!code)
		return;
	fprintf(stderr, "bench: %s\n", error->text[0] ? error->text : pf_error_text(code));
	exit(1);
}

/* All 0, at a page */
static inline void *array(size_t bytes)
{
	void *memory = NULL;
	if (posix_memalign(&memory, 4096, bytes)) {
		fprintf(stderr, "bench: no memory for %zu bytes\n", bytes);
		exit(1);
	}
	memset(memory, 0, bytes);
	return memory;
}

/* In [0, 1) */
static inline double uniform(void)
{
	static uint64_t state = 88172645463325252u;
	state = state * 6364136223846793005u + 1442695040888963407u;
	return (double)(state >> 11) * 0x1p-53;
}

static inline float normal(double sigma)
{
	return (float)(sigma * sqrt(-2 * log(uniform() + 0x1p-60)) * cos(6.283185307179586 * uniform()));
}
#endif
