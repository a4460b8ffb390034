/* quality.h: how well the kernels use what they have, as far as their sources say it. */
#ifndef PF_BITSTREAMS_QUALITY_H
#define PF_BITSTREAMS_QUALITY_H
#include <stdio.h>
#include "describe.h"

/* Every kernel at shapes that matter: interval and what sets it, depth, cycles and bytes a token, share of its port's
 * line rate and of its array's peak, operators and memories against the card's. Markdown of one card, with sums over
 * its images; card NULL: CSV of all cards. Everything is an estimate from cycles.def and operations.def */
int pf_quality(FILE *out, const char *card, struct pf_error *error);
/* Share of the card that the kernels of a layout take by the same estimate, of the resource that they take most of;
 * NAN where the card's are not known. A share that is too much has a verdict, else "" */
double pf_quality_share(const struct pf_layout *layout, const char *card, const char **resource);
const char *pf_quality_verdict(double share);
#endif
