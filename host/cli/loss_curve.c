/* Points of a loss, and two ways to draw them */
#include "loss_curve.h"
#include <math.h>
#include <string.h>
#include "host/report/svg.h"

enum { TOKENS = 20, WIDTH = 72, HEIGHT = 22 };

/* ---- points ---- */

static int64_t q32(double nats)
{
	return (int64_t)llrint(ldexp(nats, 32));
}

static struct pf_loss_item item(int kind, double policy, double reference)
{
	return (struct pf_loss_item){
		.policy = q32(policy), .reference = q32(reference), .n = TOKENS, .kind = kind, .weight = 1
	};
}

/* The group at margin x; every log-prob is negative. Returns its items */
static uint32_t place(enum pf_loss_form form, unsigned curve, double x, double far, struct pf_loss_item *to)
{
	const double base = -far - TOKENS;
	switch (form) {
	case PF_FORM_BINARY:
		to[0] = item(curve ? PF_KIND_REJECTED : PF_KIND_CHOSEN, base + x, base);
		return 1;
	case PF_FORM_ROLLOUT:
		to[0] = (struct pf_loss_item){ .policy = q32(base + x),
			                       .reference = q32(base),
			                       .old = q32(base),
			                       .n = 1,
			                       .kind = PF_KIND_CHOSEN,
			                       .weight = 1,
			                       .advantage = curve ? -1 : 1,
			                       .score = curve ? 0 : 1 };
		return 1;
	case PF_FORM_TOKENS:
		to[0] = item(PF_KIND_CHOSEN, x, base);
		to[0].n = 1;
		return 1;
	default:
		to[0] = item(PF_KIND_CHOSEN, base + x / 2, base);
		to[1] = item(form == PF_FORM_LIST ? PF_KIND_CHOSEN : PF_KIND_REJECTED, base - x / 2, base);
		to[2] = item(PF_KIND_EXTRA, base, base);
		to[0].score = 1;
		return form == PF_FORM_TRIPLE ? 3 : 2;
	}
}

static int find_point(const struct pf_loss *loss, unsigned curve, double x, double far, struct pf_device *device,
                      double *f, double *slope, struct pf_error *error)
{
	const enum pf_loss_form form = pf_loss_form(loss);
	const struct pf_loss_batch batch = { .divisor = 1,
		                             .tokens = form == PF_FORM_TOKENS || form == PF_FORM_ROLLOUT ? 1 : TOKENS };
	struct pf_loss_item items[3];
	struct pf_loss_result result[3];
	const uint32_t count = place(form, curve, x, far, items), group[] = { 0, count };
	int code = pf_loss_evaluate(device, loss, &batch, items, count, group, 1, result, error);
	if (code)
		return code;
	*f = result[0].status ? NAN : result[0].loss;
	*slope = result[0].status ? NAN : count == 1 ? result[0].grad : (result[0].grad - result[1].grad) / 2;
	return 0;
}

int pf_curves_find(const struct pf_loss *loss, double range, struct pf_device *device, struct pf_curves *c,
                   struct pf_error *error)
{
	static const char *const axes[] = { [PF_FORM_TOKENS] = "log-prob",
		                            [PF_FORM_PAIR] = "x = beta times log-ratio margin",
		                            [PF_FORM_TRIPLE] = "x = beta times log-ratio margin",
		                            [PF_FORM_LIST] = "x = beta times log-ratio margin",
		                            [PF_FORM_BINARY] = "x = beta times log-ratio",
		                            [PF_FORM_ROLLOUT] = "log-ratio to the sampling policy" };
	const enum pf_loss_form form = pf_loss_form(loss);
	double beta = 1.0;
	if (form == PF_FORM_ROLLOUT || form == PF_FORM_TOKENS || !pf_loss_param(loss, "beta", &beta) || !(beta > 0.0))
		beta = 1.0;
	c->axis = axes[form];
	c->count = form == PF_FORM_BINARY || form == PF_FORM_ROLLOUT ? 2 : 1;
	c->name[0] = form == PF_FORM_BINARY ? "desirable" : form == PF_FORM_ROLLOUT ? "advantage 1" : "loss";
	c->name[1] = form == PF_FORM_BINARY ? "undesirable" : "advantage -1";
	for (int i = 0; i < PF_CURVE_POINTS; i++) {
		const double t = (double)i / (PF_CURVE_POINTS - 1);
		c->x[i] = form == PF_FORM_TOKENS ? 2 * range * (t - 1) : range * (2 * t - 1);
		for (unsigned k = 0; k < c->count; k++) {
			int code = find_point(loss, k, c->x[i] / beta, range / beta, device, &c->f[k][i],
			                      &c->slope[k][i], error);
			if (code)
				return code;
			c->slope[k][i] /= beta;
		}
	}
	return 0;
}

/* ---- scales ---- */

/* Bounds of everything drawn; curves that shoot off are cut at ten times the middle half's reach */
static void find_bounds(const struct pf_curves *c, double *low, double *high)
{
	double reach = 0;
	*low = 0;
	*high = 0;
	for (unsigned k = 0; k < c->count; k++)
		for (int i = PF_CURVE_POINTS / 4; i < 3 * PF_CURVE_POINTS / 4; i++) {
			if (isfinite(c->f[k][i]))
				reach = fmax(reach, fabs(c->f[k][i]));
			if (isfinite(c->slope[k][i]))
				reach = fmax(reach, fabs(c->slope[k][i]));
		}
	for (unsigned k = 0; k < c->count; k++)
		for (int i = 0; i < PF_CURVE_POINTS; i++)
			for (int which = 0; which < 2; which++) {
				const double y = which ? c->slope[k][i] : c->f[k][i];
				if (isfinite(y) && fabs(y) <= 10 * reach) {
					*low = fmin(*low, y);
					*high = fmax(*high, y);
				}
			}
	if (!(*high > *low))
		*high = *low + 1;
}

/* ---- terminal ---- */

static void plot_points(const struct pf_curves *c, const double *y, double low, double high, char mark,
                        char grid[HEIGHT][WIDTH + 1])
{
	for (int i = 0; i < PF_CURVE_POINTS; i++) {
		if (!isfinite(y[i]) || y[i] < low || y[i] > high)
			continue;
		const int column = (int)lrint((double)i / (PF_CURVE_POINTS - 1) * (WIDTH - 1));
		grid[(int)lrint((high - y[i]) / (high - low) * (HEIGHT - 1))][column] = mark;
	}
	(void)c;
}

void pf_curves_text(const struct pf_curves *c, FILE *out)
{
	static const char marks[PF_CURVES][2] = { { '*', '.' }, { 'o', ',' } };
	char grid[HEIGHT][WIDTH + 1];
	double low, high;
	find_bounds(c, &low, &high);
	memset(grid, ' ', sizeof grid);
	for (int r = 0; r < HEIGHT; r++)
		grid[r][WIDTH] = '\0';
	memset(grid[(int)lrint(high / (high - low) * (HEIGHT - 1))], '-', WIDTH);
	for (unsigned k = 0; k < c->count; k++) {
		plot_points(c, c->slope[k], low, high, marks[k][1], grid);
		plot_points(c, c->f[k], low, high, marks[k][0], grid);
	}
	fprintf(out, "%s\n", c->title);
	for (int r = 0; r < HEIGHT; r++)
		fprintf(out, "%10.4g |%s\n", high - (high - low) * r / (HEIGHT - 1), grid[r]);
	fprintf(out, "%11s %-10.4g%*s%10.4g\n%11s %s\n", "", c->x[0], WIDTH - 20, "", c->x[PF_CURVE_POINTS - 1], "",
	        c->axis);
	for (unsigned k = 0; k < c->count; k++)
		fprintf(out, "%11s %c %s, %c its derivative\n", "", marks[k][0], c->name[k], marks[k][1]);
}

/* ---- SVG ---- */

enum { SVG_WIDTH = 720, SVG_HEIGHT = 440, LEFT = 70, RIGHT = 20, TOP = 40, BOTTOM = 60 };

struct frame { double left, right, low, high; };

static double across(const struct frame *f, double x)
{
	return LEFT + (x - f->left) / (f->right - f->left) * (SVG_WIDTH - LEFT - RIGHT);
}

static double down(const struct frame *f, double y)
{
	return TOP + (f->high - y) / (f->high - f->low) * (SVG_HEIGHT - TOP - BOTTOM);
}

static void svg_grid(const struct frame *f, FILE *out)
{
	const double sx = pf_svg_step(f->right - f->left), sy = pf_svg_step(f->high - f->low);
	for (double x = ceil(f->left / sx) * sx; x <= f->right + sx * 1e-6; x += sx)
		fprintf(out,
		        "<line x1=\"%.1f\" x2=\"%.1f\" y1=\"%d\" y2=\"%d\" stroke=\"#ddd\"/><text x=\"%.1f\" y=\"%d\" "
		        "text-anchor=\"middle\">%.4g</text>\n",
		        across(f, x), across(f, x), TOP, SVG_HEIGHT - BOTTOM, across(f, x), SVG_HEIGHT - BOTTOM + 18,
		        fabs(x) < sx * 1e-6 ? 0.0 : x);
	for (double y = ceil(f->low / sy) * sy; y <= f->high + sy * 1e-6; y += sy)
		fprintf(out,
		        "<line x1=\"%d\" x2=\"%d\" y1=\"%.1f\" y2=\"%.1f\" stroke=\"%s\"/><text x=\"%d\" y=\"%.1f\" "
		        "text-anchor=\"end\">%.4g</text>\n",
		        LEFT, SVG_WIDTH - RIGHT, down(f, y), down(f, y), fabs(y) < sy * 1e-6 ? "#888" : "#ddd",
		        LEFT - 8, down(f, y) + 4, fabs(y) < sy * 1e-6 ? 0.0 : y);
}

/* A line, interrupted where there is no value or it leaves the frame */
static void svg_line(const struct frame *f, const struct pf_curves *c, const double *y, const char *style, FILE *out)
{
	int open = 0;
	for (int i = 0; i < PF_CURVE_POINTS; i++) {
		const int inside = isfinite(y[i]) && y[i] >= f->low && y[i] <= f->high;
		if (inside && !open)
			fprintf(out, "<polyline fill=\"none\" stroke-width=\"2\" %s points=\"", style);
		if (inside)
			fprintf(out, "%.2f,%.2f ", across(f, c->x[i]), down(f, y[i]));
		if (!inside && open)
			fputs("\"/>\n", out);
		open = inside;
	}
	if (open)
		fputs("\"/>\n", out);
}

void pf_curves_svg(const struct pf_curves *c, FILE *out)
{
	static const char *const styles[PF_CURVES][2] = {
		{ "stroke=\"#1f5fa8\"", "stroke=\"#1f5fa8\" stroke-dasharray=\"6 4\"" },
		{ "stroke=\"#b5462f\"", "stroke=\"#b5462f\" stroke-dasharray=\"6 4\"" },
	};
	struct frame f = { c->x[0], c->x[PF_CURVE_POINTS - 1], 0, 0 };
	find_bounds(c, &f.low, &f.high);
	const double margin = (f.high - f.low) / 25;
	f.low -= margin;
	f.high += margin;
	pf_svg_begin(SVG_WIDTH, SVG_HEIGHT, out);
	fprintf(out, "<text x=\"%d\" y=\"24\" font-size=\"15\">", LEFT);
	pf_svg_escaped(c->title, out);
	fputs("</text>\n", out);
	svg_grid(&f, out);
	for (unsigned k = 0; k < c->count; k++) {
		svg_line(&f, c, c->slope[k], styles[k][1], out);
		svg_line(&f, c, c->f[k], styles[k][0], out);
		fprintf(out,
		        "<line x1=\"%d\" x2=\"%d\" y1=\"%d\" y2=\"%d\" stroke-width=\"2\" %s/><text x=\"%d\" "
		        "y=\"%d\">%s (dashed: "
		        "derivative)</text>\n",
		        SVG_WIDTH - 250, SVG_WIDTH - 222, TOP + 14 + 18 * (int)k, TOP + 14 + 18 * (int)k, styles[k][0],
		        SVG_WIDTH - 214, TOP + 18 + 18 * (int)k, c->name[k]);
	}
	fprintf(out, "<text x=\"%d\" y=\"%d\" text-anchor=\"middle\">%s</text>\n</svg>\n",
	        (LEFT + SVG_WIDTH - RIGHT) / 2, SVG_HEIGHT - 16, c->axis);
}
