#include <ctype.h>
#include <string.h>
#include "prefpga/internal/nearest.h"

enum { LONGEST = 63 };

static unsigned smaller(unsigned a, unsigned b)
{
	return a < b ? a : b;
}

static size_t lower(const char *name, char out[LONGEST + 1])
{
	size_t n = 0;
	for (; name[n] && n < LONGEST; n++)
		out[n] = (char)tolower((unsigned char)name[n]);
	out[n] = 0;
	return n;
}

unsigned pf_name_distance(const char *a, const char *b)
{
	char x[LONGEST + 1], y[LONGEST + 1];
	unsigned row[3][LONGEST + 1];          /* distances of prefixes: of the letter, the one before, two before */
	size_t n = lower(a, x), m = lower(b, y);
	for (size_t j = 0; j <= m; j++)
		row[0][j] = (unsigned)j;
	for (size_t i = 1; i <= n; i++) {
		unsigned *now = row[i % 3], *last = row[(i + 2) % 3], *before = row[(i + 1) % 3];
		now[0] = (unsigned)i;
		for (size_t j = 1; j <= m; j++) {
			now[j] = smaller(last[j - 1] + (x[i - 1] != y[j - 1]), 1 + smaller(last[j], now[j - 1]));
			if (i > 1 && j > 1 && x[i - 1] == y[j - 2] && x[i - 2] == y[j - 1])
				now[j] = smaller(now[j], before[j - 2] + 1);
		}
	}
	return row[n % 3][m];
}

void pf_name_nearest(const char *name, const char *candidate, const char **best)
{
	unsigned distance = pf_name_distance(name, candidate);
	size_t third = strlen(candidate) / 3;
	if (distance > (third > 1 ? third : 1))
		return;
	if (!*best || distance < pf_name_distance(name, *best))
		*best = candidate;
}
