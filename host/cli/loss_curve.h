/* loss_curve.h: a loss as a curve: f and f' along its margin, drawn as SVG or in the terminal. Thread-safe. */
#ifndef PF_CLI_LOSS_CURVE_H
#define PF_CLI_LOSS_CURVE_H
#include <stdio.h>
#include "prefpga/loss.h"

enum { PF_CURVE_POINTS = 401, PF_CURVES = 2 };

struct pf_curves {
	char     title[256];
	const char *axis;              /* what the abscissa is */
	const char *name[PF_CURVES];   /* of each curve; one of two may be missing */
	unsigned count;
	double   x[PF_CURVE_POINTS];
	double f[PF_CURVES][PF_CURVE_POINTS], slope[PF_CURVES][PF_CURVE_POINTS]; /* NaN where the loss has no value */
};

/* From -range to range, on a device. pairs, triples, lists of two: x = beta times the log-ratio margin, moved from both
 * sides; binary: x = beta times the log-ratio, one curve a label; rollouts: the log-ratio to the sampling policy, one
 * curve a sign of the advantage; likelihood: the log-prob, from -2 range to 0 */
int  pf_curves_find(const struct pf_loss *loss, double range, struct pf_device *device, struct pf_curves *curves,
                    struct pf_error *error);
void pf_curves_svg(const struct pf_curves *curves, FILE *out);
void pf_curves_text(const struct pf_curves *curves, FILE *out);
#endif
