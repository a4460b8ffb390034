#include "chart.h"
#include <math.h>
#include <string.h>
#include "svg.h"

enum { WIDTH = 760, HEIGHT = 476, LEFT = 80, RIGHT = 20, TOP = 44, BOTTOM = 100, NOTE = 104 };

/* Decimal logarithms of what the frame shows */
struct frame {
	double left, right, low, high;
};

static int shown(double value)
{
	return value > 0 && isfinite(value);
}

static double across(const struct frame *f, double x)
{
	return LEFT + (log10(x) - f->left) / (f->right - f->left) * (WIDTH - LEFT - RIGHT);
}

static double down(const struct frame *f, double y)
{
	return TOP + (f->high - log10(y)) / (f->high - f->low) * (HEIGHT - TOP - BOTTOM);
}

static struct frame frame_of(const struct pf_chart *c)
{
	struct frame f = { log10(c->x[0]), log10(c->x[c->points - 1]), INFINITY, -INFINITY };
	for (unsigned k = 0; k < c->lines; k++)
		for (unsigned i = 0; i < c->points; i++)
			if (shown(c->y[k][i])) {
				f.low = fmin(f.low, log10(c->y[k][i]));
				f.high = fmax(f.high, log10(c->y[k][i]));
			}
	if (!(f.high >= f.low))
		f.low = f.high = 0;
	f.low -= 0.1;
	f.high += 0.1;
	f.right += f.right > f.left ? 0 : 1;
	return f;
}

/* On two lines of NOTE letters; what is longer goes beyond the second */
static void note(const char *words, FILE *out)
{
	char first[NOTE + 1];
	size_t length = strlen(words);
	if (length > NOTE)
		for (length = NOTE; length > 0 && words[length] != ' '; length--)
			;
	snprintf(first, sizeof first, "%.*s", (int)length, words);
	pf_svg_text(LEFT, HEIGHT - 26, "start", first, out);
	pf_svg_text(LEFT, HEIGHT - 10, "start", words + length + (words[length] == ' '), out);
}

/* Every point has a mark below; of the axis upwards 1, 2 and 5 of each decade */
static void grid(const struct pf_chart *c, const struct frame *f, FILE *out)
{
	char words[32];
	double last = -1e9;
	for (unsigned i = 0; i < c->points; i++) {
		const double x = across(f, c->x[i]);
		fprintf(out, "<line x1=\"%.1f\" x2=\"%.1f\" y1=\"%d\" y2=\"%d\" stroke=\"#ddd\"/>\n", x, x, TOP,
		        HEIGHT - BOTTOM);
		snprintf(words, sizeof words, "%.6g", c->x[i]);
		if (x - last > 48)
			pf_svg_text(last = x, HEIGHT - BOTTOM + 18, "middle", words, out);
	}
	for (int decade = (int)floor(f->low); decade <= (int)ceil(f->high); decade++)
		for (int step = 0; step < 3; step++) {
			const double y = (const double[]){ 1, 2, 5 }[step] * pow(10, decade);
			if (log10(y) < f->low || log10(y) > f->high)
				continue;
			fprintf(out, "<line x1=\"%d\" x2=\"%d\" y1=\"%.1f\" y2=\"%.1f\" stroke=\"#ddd\"/>\n", LEFT,
			        WIDTH - RIGHT, down(f, y), down(f, y));
			snprintf(words, sizeof words, "%.4g", y);
			pf_svg_text(LEFT - 8, down(f, y) + 4, "end", words, out);
		}
}

/* A line with a dot at each point, interrupted at gaps */
static void line(const struct pf_chart *c, const struct frame *f, unsigned k, const char *color, FILE *out)
{
	for (unsigned i = 0; i < c->points; i++) {
		const double x = across(f, c->x[i]), y = down(f, c->y[k][i]);
		if (!shown(c->y[k][i]))
			continue;
		fprintf(out, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"3\" fill=\"%s\"/>\n", x, y, color);
		if (i > 0 && shown(c->y[k][i - 1]))
			fprintf(out,
			        "<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" stroke=\"%s\" "
			        "stroke-width=\"2\"/>\n",
			        across(f, c->x[i - 1]), down(f, c->y[k][i - 1]), x, y, color);
	}
}

void pf_chart_svg(const struct pf_chart *c, FILE *out)
{
	static const char *const colors[PF_CHART_LINES] = { "#1f5fa8", "#b5462f", "#3c7d3c", "#7a4a9c" };
	const struct frame f = frame_of(c);
	pf_svg_begin(WIDTH, HEIGHT, out);
	pf_svg_text(LEFT, 20, "start", c->title, out);
	pf_svg_text(LEFT, 36, "start", c->up, out);
	grid(c, &f, out);
	for (unsigned k = 0; k < c->lines; k++) {
		const double x = LEFT + 175.0 * k;
		line(c, &f, k, colors[k], out);
		fprintf(out, "<circle cx=\"%.1f\" cy=\"%d\" r=\"4\" fill=\"%s\"/>\n", x, HEIGHT - 50, colors[k]);
		pf_svg_text(x + 8, HEIGHT - 46, "start", c->name[k], out);
	}
	pf_svg_text((LEFT + WIDTH - RIGHT) / 2.0, HEIGHT - BOTTOM + 36, "middle", c->across, out);
	if (c->note)
		note(c->note, out);
	fputs("</svg>\n", out);
}
