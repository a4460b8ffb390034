#include "panels.h"
#include <float.h>
#include <math.h>
#include "svg.h"

enum { WIDE = 460, HIGH = 250, ACROSS = 2, LEFT = 70, RIGHT = 16, TOP = 30, BOTTOM = 40, LEGEND = 24 };
enum { COLUMNS = WIDE - LEFT - RIGHT, MARKS = 12 };
enum { FEW = 40 };                     /* points that get a dot each: a line of one cannot be seen */

/* A panel's corner, and the numbers that its frame shows */
struct frame { double x0, y0, left, right, low, high; };

/* Of the points in one column */
struct column { double x, mean, low, high; size_t points; };

/* What an axis can span */
static int shown(double y)
{
	return fabs(y) < 1e300;
}

static double across(const struct frame *f, double x)
{
	return f->x0 + LEFT + (x - f->left) / (f->right - f->left) * COLUMNS;
}

static double down(const struct frame *f, double y)
{
	return f->y0 + TOP + (f->high - y) / (f->high - f->low) * (HIGH - TOP - BOTTOM);
}

/* Wide enough for a line in the middle, also if all values are one */
static void widen(double *low, double *high)
{
	if (!(*high >= *low))
		*low = *high = 0;
	const double one = *low != 0 ? fmax(fabs(*low) / 10, DBL_MIN) : 1;
	const double margin = *high > *low ? (*high - *low) / 20 : one;
	*low -= margin;
	*high += margin;
}

static struct frame frame_of(const struct pf_panels *p, unsigned panel)
{
	struct frame f = { .x0 = panel % ACROSS * WIDE, .y0 = LEGEND + panel / ACROSS * HIGH,
		           .left = INFINITY, .right = -INFINITY, .low = INFINITY, .high = -INFINITY };
	for (unsigned r = 0; r < p->runs; r++) {
		const struct pf_series *s = &p->series[panel][r];
		for (size_t i = 0; i < s->points; i++) {
			f.left = fmin(f.left, s->x[i]);        /* steps of all, so that panels can be compared */
			f.right = fmax(f.right, s->x[i]);
			if (shown(s->y[i])) {
				f.low = fmin(f.low, s->y[i]);
				f.high = fmax(f.high, s->y[i]);
			}
		}
	}
	if (!(f.right > f.left)) {
		const double x = isfinite(f.left) ? f.left : 0, half = fmax(1, x / 1e6);
		f.left = x - half;
		f.right = x + half;
	}
	widen(&f.low, &f.high);
	return f;
}

static void grid(const struct frame *f, FILE *out)
{
	const double sx = pf_svg_step(f->right - f->left), sy = pf_svg_step(f->high - f->low);
	const double kx = ceil(f->left / sx), ky = ceil(f->low / sy);
	char words[32];
	for (unsigned i = 0; i < MARKS && (kx + i) * sx <= f->right; i++) {
		const double x = across(f, (kx + i) * sx);
		fprintf(out, "<line x1=\"%.1f\" x2=\"%.1f\" y1=\"%.1f\" y2=\"%.1f\" stroke=\"#ddd\"/>\n", x, x,
		        down(f, f->low), down(f, f->high));
		snprintf(words, sizeof words, "%.6g", (kx + i) * sx);
		pf_svg_text(x, down(f, f->low) + 16, "middle", words, out);
	}
	for (unsigned i = 0; i < MARKS && (ky + i) * sy <= f->high; i++) {
		const double y = down(f, (ky + i) * sy);
		fprintf(out, "<line x1=\"%.1f\" x2=\"%.1f\" y1=\"%.1f\" y2=\"%.1f\" stroke=\"#ddd\"/>\n",
		        across(f, f->left), across(f, f->right), y, y);
		snprintf(words, sizeof words, "%.4g", (ky + i) * sy);
		pf_svg_text(across(f, f->left) - 6, y + 4, "end", words, out);
	}
}

static void take(struct column *c, double x, double y)
{
	c->x = c->points ? c->x + (x - c->x) / (double)(c->points + 1) : x;
	c->mean = c->points ? c->mean + (y - c->mean) / (double)(c->points + 1) : y;
	c->low = c->points ? fmin(c->low, y) : y;
	c->high = c->points ? fmax(c->high, y) : y;
	c->points++;
}

static void line(const struct frame *f, const struct pf_series *s, const char *color, FILE *out)
{
	struct column column[COLUMNS + 1] = { 0 };
	size_t points = 0;
	for (size_t i = 0; i < s->points; i++) {
		const long at = lrint((s->x[i] - f->left) / (f->right - f->left) * COLUMNS);
		if (shown(s->y[i])) {
			take(&column[at], s->x[i], s->y[i]);
			points++;
		}
	}
	for (unsigned c = 0; c <= COLUMNS; c++)
		if (column[c].points > 1)
			fprintf(out, "<line x1=\"%.1f\" x2=\"%.1f\" y1=\"%.1f\" y2=\"%.1f\" stroke=\"%s\" "
			             "stroke-opacity=\"0.25\"/>\n", across(f, column[c].x), across(f, column[c].x),
			        down(f, column[c].low), down(f, column[c].high), color);
	fprintf(out, "<polyline fill=\"none\" stroke=\"%s\" stroke-width=\"1.5\" points=\"", color);
	for (unsigned c = 0; c <= COLUMNS; c++)
		if (column[c].points)
			fprintf(out, "%.1f,%.1f ", across(f, column[c].x), down(f, column[c].mean));
	fputs("\"/>\n", out);
	for (unsigned c = 0; c <= COLUMNS && points <= FEW; c++)
		if (column[c].points)
			fprintf(out, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"2.5\" fill=\"%s\"/>\n",
			        across(f, column[c].x), down(f, column[c].mean), color);
}

void pf_panels_svg(const struct pf_panels *p, FILE *out)
{
	static const char *const colors[PF_PANELS_RUNS] = { "#1f5fa8", "#b5462f", "#3c7d3c",
		                                            "#7a4a9c", "#b8860b", "#4a4a4a" };
	const unsigned rows = (p->panels + ACROSS - 1) / ACROSS;
	pf_svg_begin(ACROSS * WIDE, LEGEND + rows * HIGH, out);
	for (unsigned r = 0; r < p->runs; r++) {
		const double x = LEFT + (double)r * (ACROSS * WIDE - LEFT) / p->runs;
		fprintf(out, "<circle cx=\"%.1f\" cy=\"14\" r=\"4\" fill=\"%s\"/>\n", x, colors[r]);
		pf_svg_text(x + 8, 18, "start", p->run[r], out);
	}
	for (unsigned k = 0; k < p->panels; k++) {
		const struct frame f = frame_of(p, k);
		grid(&f, out);
		for (unsigned r = 0; r < p->runs; r++)
			line(&f, &p->series[k][r], colors[r], out);
		pf_svg_text(f.x0 + LEFT, f.y0 + TOP - 8, "start", p->title[k], out);
		pf_svg_text(f.x0 + LEFT + COLUMNS / 2.0, f.y0 + HIGH - 6, "middle", p->across, out);
	}
	fputs("</svg>\n", out);
}
