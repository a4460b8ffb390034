/* svg.h: what drawings as SVG share: head, text, round steps of an axis. */
#ifndef PF_REPORT_SVG_H
#define PF_REPORT_SVG_H
#include <stdio.h>

/* <svg> of that size with a white ground; whoever draws ends it with </svg> */
void pf_svg_begin(unsigned width, unsigned height, FILE *out);
void pf_svg_escaped(const char *text, FILE *out);
/* anchor: "start", "middle" or "end" */
void pf_svg_text(double x, double y, const char *anchor, const char *text, FILE *out);
/* A round step that cuts span > 0 into four to ten */
double pf_svg_step(double span);
#endif
