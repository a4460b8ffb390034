/* Tables of the bench: what is taken has positive samples, as many yardsticks, and can be compared with itself. */
#define _GNU_SOURCE
#include <math.h>
#include "host/bench/table.h"
#include "tests/fuzz/fuzz_file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct pf_bench_row *rows;
	struct pf_error error = { 0 };
	size_t count;
	char path[64];
	const int file = fuzz_file(data, size, path);
	const int code = pf_bench_read(path, &rows, &count, &error);
	if (code && (!error.text[0] || rows || count))
		abort();
	for (size_t i = 0; i < count; i++) {
		const struct pf_bench_times *t = &rows[i].times;
		if (t->repeats < 1 || t->repeats > PF_BENCH_REPEATS_MOST || !pf_bench_same(rows, count, &rows[i]))
			abort();
		for (unsigned k = 0; k < t->repeats; k++)
			if (!(t->second[k] > 0) || !isfinite(t->second[k]) || !(t->limit[k] > 0) ||
			    !isfinite(t->limit[k]))
				abort();
		if (i == 0 && !(pf_bench_compare(&rows[i], &rows[i]).p > 0.9))
			abort();
	}
	free(rows);
	close(file);
	return 0;
}
