/* bench.h: what verb bench has found out, and how it is shown. */
#ifndef PF_CLI_BENCH_H
#define PF_CLI_BENCH_H
#include "cli.h"
#include "host/bench/table.h"

struct pf_bench_run {
	const struct pf_options *options;
	struct pf_bench_row *rows; /* [count] */
	size_t count, room;
	struct pf_bench_row *before; /* [befores] of --against */
	size_t befores;
	struct pf_comparison *compared; /* [count]; those of rows that `before` has */
	char machine[160];
	char refused[1024]; /* why energy was not measured; "" if it was */
};

/* "AMD EPYC, 2 processors" */
void pf_cli_machine(char *text, size_t room);
/* One row as text, with a line of names before the first */
void pf_bench_show(const struct pf_bench_run *run, size_t row);
/* What --against has shown; returns how many rows are slower */
unsigned pf_bench_show_compared(const struct pf_bench_run *run);
void pf_bench_print_json(const struct pf_bench_run *run);
/* --csv */
int pf_bench_save(const struct pf_bench_run *run, struct pf_error *error);
#endif
