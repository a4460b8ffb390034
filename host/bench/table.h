/* table.h: rows of the bench, to CSV and from it.
 *
 * The first line has the names of the columns. What was measured, counted and modelled has columns of its own; an empty
 * field is a figure that there is not. samples_s and limits_s hold all samples, with ; between them, so that two tables
 * can be compared (compare.h). A reader goes by the names, in any order, and passes over columns it does not know. */
#ifndef PF_BENCH_TABLE_H
#define PF_BENCH_TABLE_H
#include <stdio.h>
#include "bench.h"
#include "compare.h"

/* J a run, with the interval that the sensor leaves; scope NULL: not measured */
struct pf_bench_joules {
	const char *scope;
	double joule, low, high, idle;
};

struct pf_bench_row {
	char work[32], type[8], device[64], variant[64];
	struct pf_bench_shape shape;
	unsigned threads;
	struct pf_bench_times times; /* repeats 0: not measured */
	const char *limit;           /* "copy", "sgemm" */
	double amount, pairs;        /* of a run: bytes or operations; pairs or 0 */
	struct pf_bench_joules joules;
	double modelled_s, modelled_line_s; /* NaN: not modelled */
	double modelled_joule, modelled_low, modelled_high;
	char machine[160]; /* of a table that was read, "" if it does not say */
};

/* tail: further columns, alike in all rows: names and values, "" and "" for none, with their commas in front */
void pf_bench_write_head(FILE *out, const char *tail);
void pf_bench_write_row(FILE *out, const struct pf_bench_row *row, const char *tail);

/* Work, type, device, shape, threads, times and machine of each row that has samples. *rows: malloc, the caller frees.
 * Errors name file and line */
int pf_bench_read(const char *path, struct pf_bench_row **rows, size_t *count, struct pf_error *error);
/* The first row of `rows` that did the same as `row`, or NULL */
const struct pf_bench_row *pf_bench_same(const struct pf_bench_row *rows, size_t count, const struct pf_bench_row *row);
/* change and p of `now` against `before`; the rest by pf_compare_holm */
struct pf_comparison pf_bench_compare(const struct pf_bench_row *before, const struct pf_bench_row *now);
/* Median over samples of yardstick / sample: the part of the limit that was reached */
double pf_bench_part(const struct pf_bench_row *row);
#endif
