#include "rows.h"

extern const struct pf_rows pf_rows_table_plain;

#if defined(__x86_64__)
extern const struct pf_rows pf_rows_table_v3, pf_rows_table_v4;

static unsigned levels(const struct pf_rows *table[3])
{
	unsigned count = 0;
	__builtin_cpu_init();
	table[count++] = &pf_rows_table_plain;
	if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi2") &&
	    __builtin_cpu_supports("fma"))
		table[count++] = &pf_rows_table_v3;
	if (count == 2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
	    __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
	    __builtin_cpu_supports("avx512vl"))
		table[count++] = &pf_rows_table_v4;
	return count;
}
#else
static unsigned levels(const struct pf_rows *table[3])
{
	table[0] = &pf_rows_table_plain;
	return 1;
}
#endif

const struct pf_rows *pf_rows_level(unsigned i)
{
	const struct pf_rows *table[3];
	return i < levels(table) ? table[i] : 0;
}

const struct pf_rows *pf_rows_best(void)
{
	const struct pf_rows *table[3];
	return table[levels(table) - 1];
}
