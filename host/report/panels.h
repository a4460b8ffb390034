/* panels.h: figures of one or several runs over their steps, a panel each, as SVG with linear axes. Where a run has
 * more steps than a panel has columns, the line is the mean of a column's, before a band from the least to the most. */
#ifndef PF_REPORT_PANELS_H
#define PF_REPORT_PANELS_H
#include <stddef.h>
#include <stdio.h>

enum { PF_PANELS_MOST = 12, PF_PANELS_RUNS = 6 };

/* Ascending x; y not finite: absent */
struct pf_series { const double *x, *y; size_t points; };

struct pf_panels {
	unsigned         panels, runs;
	const char      *title[PF_PANELS_MOST], *run[PF_PANELS_RUNS], *across;
	struct pf_series series[PF_PANELS_MOST][PF_PANELS_RUNS];
};

void pf_panels_svg(const struct pf_panels *panels, FILE *out);
#endif
