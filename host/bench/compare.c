#include "compare.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "bench.h"

enum { MOST = PF_BENCH_REPEATS_MOST };

static int ascending(const void *a, const void *b)
{
	const double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

double pf_compare_quantile(const double *value, unsigned count, double q)
{
	double sorted[MOST];
	if (count == 0 || count > MOST)
		return NAN;
	memcpy(sorted, value, count * sizeof *sorted);
	qsort(sorted, count, sizeof *sorted, ascending);
	const double place = q * (count - 1);
	const unsigned below = (unsigned)place;
	return below + 1 < count ? sorted[below] + (place - below) * (sorted[below + 1] - sorted[below])
	                         : sorted[below];
}

/* Twice the midranks of all[count], which are whole numbers; returns twice the rank sum of the first `as` */
static unsigned double_ranks(const double *all, unsigned count, unsigned as, unsigned *rank)
{
	unsigned sum = 0;
	for (unsigned i = 0; i < count; i++) {
		unsigned below = 0, equal = 0;
		for (unsigned k = 0; k < count; k++) {
			below += all[k] < all[i];
			equal += all[k] == all[i];
		}
		rank[i] = 2 * below + equal + 1;
		sum += i < as ? rank[i] : 0;
	}
	return sum;
}

/* ways[n][s]: in how many ways n of the ranks add up to s, as a share of all choices of n */
static double tail(const unsigned *rank, unsigned count, unsigned as, unsigned sum, double *ways)
{
	const unsigned width = 2 * count * as + 1;
	double total = 0, low = 0, high = 0;
	memset(ways, 0, (size_t)(as + 1) * width * sizeof *ways);
	ways[0] = 1;
	for (unsigned i = 0; i < count; i++)
		for (unsigned n = i + 1 < as ? i + 1 : as; n > 0; n--)
			for (unsigned s = width; s-- > rank[i];)
				ways[n * width + s] += ways[(n - 1) * width + s - rank[i]];
	for (unsigned s = 0; s < width; s++) {
		const double w = ways[as * width + s];
		total += w;
		low += s <= sum ? w : 0;
		high += s >= sum ? w : 0;
	}
	return fmin(1, 2 * fmin(low, high) / total);
}

double pf_compare_ranks(const double *a, unsigned as, const double *b, unsigned bs)
{
	double all[2 * MOST];
	unsigned rank[2 * MOST];
	if (as == 0 || bs == 0 || as > MOST || bs > MOST)
		return 1;
	memcpy(all, a, as * sizeof *all);
	memcpy(all + as, b, bs * sizeof *all);
	const unsigned count = as + bs, sum = double_ranks(all, count, as, rank);
	double *ways = malloc((size_t)(as + 1) * (2 * count * as + 1) * sizeof *ways);
	if (!ways)
		return NAN;
	const double p = tail(rank, count, as, sum, ways);
	free(ways);
	return p;
}

void pf_compare_holm(struct pf_comparison *row, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		row[i].adjusted = 0;
		for (unsigned k = 0; k < count; k++) { /* the largest of p (rows left) up to this one */
			unsigned before = 0;
			for (unsigned j = 0; j < count; j++)
				before += row[j].p < row[k].p || (row[j].p == row[k].p && j < k);
			const int upto = row[k].p < row[i].p || (row[k].p == row[i].p && k <= i);
			if (upto)
				row[i].adjusted = fmax(row[i].adjusted, fmin(1, row[k].p * (count - before)));
		}
		const int differs = row[i].adjusted <= PF_COMPARE_LEVEL && fabs(row[i].change) >= PF_COMPARE_CHANGE;
		row[i].verdict = !differs ? 0 : row[i].change > 0 ? 1 : -1;
	}
}
