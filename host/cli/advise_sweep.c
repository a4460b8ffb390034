/* --sweep: one thing grown in doublings, on each card. */
#include "advise.h"
#include <jansson.h>
#include <math.h>
#include <string.h>
#include "host/report/chart.h"
#include "output.h"
#include "prefpga/internal/abi.h"

enum { POINTS = 16 };
#define HELPS 1.25 /* twice as much of it has to bring at least so much */

/* A sweep: its points, and what a point changes */
struct sweep {
	const char *what, *across;
	double point[POINTS];
	unsigned points;
	int parallel; /* 1: more of it does the same work; 0: more of it is more work */
};

static void doublings(struct sweep *s, double from, double to)
{
	for (double x = from; x <= to && s->points < POINTS; x *= 2)
		s->point[s->points++] = x;
}

/* Around a value: three doublings less, four more, within what is possible */
static void around(struct sweep *s, double value, double least, double most)
{
	double from = value;
	for (int i = 0; i < 3 && from / 2 >= least; i++)
		from = floor(from / 2);
	doublings(s, from, fmin(most, value * 16));
}

static struct sweep plan(const struct pf_advise *a)
{
	struct sweep s = { .what = a->options->sweep };
	if (strcmp(s.what, "cards") == 0 || strcmp(s.what, "cus") == 0) {
		s.parallel = 1;
		s.across = strcmp(s.what, "cus") == 0 ? "compute units of each kernel on a card" : "cards";
		doublings(&s, 1, 64);
	} else if (strcmp(s.what, "tokens") == 0) {
		s.across = "scored tokens of a step";
		around(&s, a->shape.tokens, 1, PF_ROWS_MAX);
	} else if (strcmp(s.what, "vocab") == 0) {
		s.across = "words of the vocabulary";
		around(&s, a->shape.vocab, 1, PF_VOCAB_MAX);
	} else {
		s.across = "width of the hidden states";
		around(&s, a->shape.dim, 1, PF_DEPTH_MAX * 16);
	}
	return s;
}

static const struct pf_advise_row *ask(struct pf_advise *a, const struct sweep *s, const char *card, double x)
{
	const struct pf_options *o = a->options;
	const uint32_t value = (uint32_t)x;
	struct pf_offload_shape shape = a->shape;
	uint32_t cards = (uint32_t)o->advise_cards, units = (uint32_t)o->advise_cus;
	if (strcmp(s->what, "cards") == 0)
		cards = value;
	else if (strcmp(s->what, "cus") == 0)
		units = value;
	else if (strcmp(s->what, "tokens") == 0)
		shape.tokens = value;
	else if (strcmp(s->what, "vocab") == 0)
		shape.vocab = value;
	else
		shape.dim = value;
	return pf_advise_ask(a, card, cards, units, &shape);
}

/* ---- what the points say ---- */

/* The point from which doublings bring less than HELPS, 0 if there is none. Brings: less time, or, where there
 * is more work, more of it a second */
static unsigned stops(const struct sweep *s, const struct pf_advise_row *row)
{
	for (unsigned i = 1; i < s->points; i++) {
		const struct pf_offload *x = &row[i - 1].answer, *y = &row[i].answer;
		if (row[i - 1].error.code || row[i].error.code)
			continue;
		const double gain = s->parallel ? x->head_s.value / y->head_s.value
		                                : y->operations / y->head_s.value / (x->operations / x->head_s.value);
		if (s->parallel ? gain < HELPS : gain < 1 / HELPS)
			return i;
	}
	return 0;
}

/* What keeps a doubling from helping: the same time to the last digit is work that cannot be shared any further */
static const char *why_not(const struct pf_offload *before, const struct pf_offload *after)
{
	return after->head_s.value >= before->head_s.value * (1 - 1e-9) && after->bound != PF_BOUND_PORT
	               ? "nothing is left to share, the work has no more blocks of 64 tokens or words"
	               : pf_offload_bound_name(after->bound);
}

static int say_growth(const struct sweep *s, const struct pf_advise_row *row, char *text, size_t room)
{
	const unsigned at = stops(s, row);
	if (!at)
		return snprintf(text, room, "%s: every doubling of %s %s, to %.0f", row->card, s->across,
		                s->parallel ? "brings a quarter or more" : "costs in proportion or less",
		                s->point[s->points - 1]);
	const struct pf_offload *x = &row[at].answer;
	if (s->parallel)
		return snprintf(text, room, "%s: doubling %s from %.0f on brings less than a quarter: %s", row->card,
		                s->across, s->point[at - 1], why_not(&row[at - 1].answer, x));
	return snprintf(text, room, "%s: %s beyond %.0f cost more than in proportion: bound by %s (way %s)", row->card,
	                s->across, s->point[at - 1], pf_offload_bound_name(x->bound), pf_cost_way_name(x->way));
}

static void say(const struct sweep *s, const struct pf_advise_row *row, char *text, size_t room)
{
	const int n = say_growth(s, row, text, room);
	unsigned pays = s->points;
	for (unsigned i = s->points; i-- > 0;)
		pays = !row[i].error.code && row[i].answer.head_s.value < row[i].answer.host_s ? i : pays;
	if (n < 0 || (size_t)n >= room)
		return;
	if (pays < s->points)
		snprintf(text + n, room - (size_t)n, "; modelled below this host's time from %.0f on", s->point[pays]);
	else
		snprintf(text + n, room - (size_t)n, "; nowhere modelled below this host's time");
}

/* Every card's link is its own in the model, and what feeds them all is not in it */
static void say_links(const struct sweep *s, const struct pf_advise_row *row)
{
	const struct pf_offload *last = &row[s->points - 1].answer;
	if (strcmp(s->what, "cards") == 0 && !row[s->points - 1].error.code)
		printf("not modelled: the host's memory and PCIe roots, which would have to feed all links: %.3g GB/s "
		       "on average at "
		       "%.0f cards\n",
		       1e-9 * (last->plan.bytes_in + last->plan.bytes_out) / last->head_s.value,
		       s->point[s->points - 1]);
}

static void show(const struct sweep *s, const struct pf_advise_row *row)
{
	printf("%-8s %12s %36s %13s %12s %9s %30s %12s\n", s->what, "card", "modelled head s [low, high]",
	       "modelled link", "its kernels", "bound", "modelled J [low, high]", "this host s");
	for (unsigned i = 0; i < s->points; i++) {
		const struct pf_offload *x = &row[i].answer;
		char seconds[64], joules[64];
		snprintf(seconds, sizeof seconds, "%.4g [%.4g, %.4g]", x->head_s.value, x->head_s.low, x->head_s.high);
		snprintf(joules, sizeof joules, "%.4g [%.4g, %.4g]", x->energy.total.value, x->energy.total.low,
		         x->energy.total.high);
		if (row[i].error.code)
			printf("%-8.0f %12s %s\n", s->point[i], row[i].card, row[i].error.text);
		else
			printf("%-8.0f %12s %36s %13.4g %12.4g %9s %30s %12.4g\n", s->point[i], row[i].card, seconds,
			       x->plan.link_s, x->plan.card_s, pf_offload_bound_name(x->bound), joules, x->host_s);
	}
}

static int draw(const struct pf_advise *a, const struct sweep *s, const struct pf_advise_row *row,
                struct pf_error *error)
{
	char title[256], note[512], up[256];
	struct pf_chart c = { .title = title,
		              .across = s->across,
		              .up = up,
		              .note = note,
		              .points = s->points,
		              .lines = 4,
		              .name = { "modelled", "modelled, good end", "modelled, bad end", "this host" } };
	snprintf(title, sizeof title, "head %s in %s on %s: T %u, V %u, D %u", pf_offload_head_name(a->head),
	         pf_precision_name(a->shape.precision), row->card, a->shape.tokens, a->shape.vocab, a->shape.dim);
	snprintf(up, sizeof up, "seconds a step; host: %s at %.0f GFLOP/s (%s)",
	         a->host.told ? "another one" : a->host.name, 1e-9 * a->host.flops, a->host.told ? "told" : "measured");
	say(s, row, note, sizeof note);
	for (unsigned i = 0; i < s->points; i++) {
		const struct pf_offload *x = &row[i].answer;
		const double y[] = { x->head_s.value, x->head_s.low, x->head_s.high, x->host_s };
		c.x[i] = s->point[i];
		for (unsigned k = 0; k < c.lines; k++)
			c.y[k][i] = row[i].error.code ? NAN : y[k];
	}
	struct pf_output out;
	int code = pf_output_open(&out, a->options->advise_svg, error);
	if (code)
		return code;
	pf_chart_svg(&c, out.stream);
	return pf_output_close(&out, error);
}

static void sweep_json(const struct pf_advise *a, const struct sweep *s, const struct pf_advise_row *row)
{
	json_t *points = json_array();
	char text[256], kind[64];
	say(s, row, text, sizeof text);
	for (unsigned i = 0; i < s->points; i++) {
		const struct pf_offload *x = &row[i].answer;
		json_array_append_new(
			points, row[i].error.code
					? json_pack("{sf ss}", "at", s->point[i], "error", row[i].error.text)
					: json_pack("{sf sf sf sf ss sf sf}", "at", s->point[i], "modelled_head_s",
		                                    x->head_s.value, "modelled_head_s_low", x->head_s.low,
		                                    "modelled_head_s_high", x->head_s.high, "modelled_bound",
		                                    pf_offload_bound_name(x->bound), "modelled_joule",
		                                    x->energy.total.value, "host_head_s", x->host_s));
	}
	json_t *all = json_pack("{ss ss ss ss ss so}", "sweep", s->what, "card", row->card, "precision",
	                        pf_precision_name(a->shape.precision), "kind", pf_advise_kind(&row->answer, kind),
	                        "because", text, "points", points);
	json_dumpf(all, stdout, JSON_COMPACT | JSON_REAL_PRECISION(7));
	putchar('\n');
	json_decref(all);
}

int pf_advise_sweep(struct pf_advise *a, struct pf_error *error)
{
	const struct sweep s = plan(a);
	int code = 0;
	for (unsigned k = 0; !code && k < a->card_count; k++) {
		const struct pf_advise_row *row = &a->row[a->rows];
		char text[256];
		for (unsigned i = 0; i < s.points; i++)
			if (!ask(a, &s, a->card[k], s.point[i]))
				return pf_fail(error, PF_E_RANGE, "more than %d points", PF_ADVISE_ROWS);
		if (strcmp(a->options->format, "json") == 0) {
			sweep_json(a, &s, row);
		} else {
			show(&s, row);
			say(&s, row, text, sizeof text);
			puts(text);
			say_links(&s, row);
		}
		if (k == 0 && a->options->advise_svg)
			code = draw(a, &s, row, error);
	}
	return code;
}
