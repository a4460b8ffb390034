/* chart.h: lines over two logarithmic axes, as SVG: how a figure grows with another. */
#ifndef PF_REPORT_CHART_H
#define PF_REPORT_CHART_H
#include <stdio.h>

enum { PF_CHART_LINES = 4, PF_CHART_POINTS = 64 };

struct pf_chart {
	const char *title, *across, *up;
	const char *note; /* below; NULL: none */
	double x[PF_CHART_POINTS];
	unsigned points, lines;
	const char *name[PF_CHART_LINES];
	double y[PF_CHART_LINES][PF_CHART_POINTS]; /* not positive or not finite: the line has a gap there */
};

void pf_chart_svg(const struct pf_chart *chart, FILE *out);
#endif
