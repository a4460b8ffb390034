#include "svg.h"
#include <math.h>
#include <string.h>

void pf_svg_begin(unsigned width, unsigned height, FILE *out)
{
	fprintf(out,
	        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%u\" height=\"%u\" viewBox=\"0 0 %u %u\" "
	        "font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"100%%\" height=\"100%%\" "
	        "fill=\"white\"/>\n",
	        width, height, width, height);
}

void pf_svg_escaped(const char *text, FILE *out)
{
	for (; *text; text++)
		if (strchr("<>&\"", *text) || (unsigned char)*text < ' ')
			fprintf(out, "&#%d;", (unsigned char)*text < ' ' ? ' ' : *text);
		else
			putc(*text, out);
}

void pf_svg_text(double x, double y, const char *anchor, const char *words, FILE *out)
{
	fprintf(out, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\">", x, y, anchor);
	pf_svg_escaped(words, out);
	fputs("</text>\n", out);
}

double pf_svg_step(double span)
{
	const double rough = span / 5, power = pow(10, floor(log10(rough))), part = rough / power;
	return power * (part < 1.5 ? 1 : part < 3.5 ? 2 : part < 7.5 ? 5 : 10);
}
