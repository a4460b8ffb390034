/* What the answers say, as text. */
#include "advise.h"
#include <math.h>
#include <string.h>
#include "prefpga/internal/abi.h"
#include "prefpga/internal/vitis.def"
#include "prefpga/power.h"

#define WORTH 0.05   /* of the step: less is not worth a card */

static const char *bound_text(enum pf_offload_bound bound)
{
	static const char *const text[] = { "the link (bytes over PCIe)",
		                            "the array (multiply-adds: DSP slices and clock)",
		                            "ports and banks of the card's memory", "the host's own products",
		                            "waiting (launches, set-ups of copies, one thing after the other)" };
	return text[bound];
}

/* Of the whole step, if the head moved and nothing overlapped */
static double step_gain(const struct pf_offload *x)
{
	return (x->host_s + x->body_s) / (x->head_s.value + x->body_s);
}

const char *pf_advise_verdict_name(enum pf_offload_verdict verdict)
{
	static const char *const names[] = { "do not offload", "offload", "open", "not placed" };
	return names[verdict];
}

/* "u55c", or "4 x u55c" */
static const char *where(const struct pf_advise_row *row, char text[64])
{
	if (row->cards > 1)
		snprintf(text, 64, "%u x %s", row->cards, row->card);
	else
		snprintf(text, 64, "%s", row->card);
	return text;
}

static void say_unplaced(const struct pf_advise_row *row, char *text, size_t room)
{
	char cards[64];
	const struct pf_offload *x = &row->answer;
	const struct pf_offload_image *i = &x->image;
	if (!i->name)
		snprintf(text, room, "do not offload: no image has kernels for %s",
		         pf_precision_name(row->shape.precision));
	else if (i->units > i->by_ports)
		snprintf(text, room,
		         "do not offload: %u units of image %s have no ports on %s, which has them for %u", i->units,
		         i->name, row->card, i->by_ports);
	else
		snprintf(text, room,
		         "do not offload: %.3g s [%.3g, %.3g] modelled on %s against %.3g s here, but image %s is not "
		         "expected to be placed: %.1f %% of the card's %s by estimate, where %.0f %% were placed",
		         x->head_s.value, x->head_s.low, x->head_s.high, where(row, cards), x->host_s, i->name,
		         100 * i->share, i->resource, 100 * PF_FULL_SHARE);
}

void pf_advise_verdict(const struct pf_advise *a, const struct pf_advise_row *row, char *text, size_t room)
{
	const struct pf_offload *x = &row->answer;
	char cards[64];
	(void)a;
	where(row, cards);
	if (x->verdict == PF_VERDICT_NO)
		snprintf(text, room,
		         "do not offload: even at the good end of its doubts %s takes %.3g s, modelled, for the head "
		         "that this host computes in %.3g s",
		         cards, x->head_s.low, x->host_s);
	else if (x->verdict == PF_VERDICT_UNPLACED)
		say_unplaced(row, text, room);
	else if (x->verdict == PF_VERDICT_OPEN)
		snprintf(text, room,
		         "no verdict: between %.3g and %.3g s modelled on %s, %.3g s on this host; a report of the "
		         "synthesis or a card would have to narrow that; until then do not offload",
		         x->head_s.low, x->head_s.high, cards, x->host_s);
	else if (step_gain(x) < 1 + WORTH)
		snprintf(text, room,
		         "do not offload: the head is faster on %s, %.3g s modelled instead of %.3g s, but the step "
		         "by %.1f %% only; the decoder layers take %.3g s",
		         cards, x->head_s.value, x->host_s, 100 * (step_gain(x) - 1), x->body_s);
	else
		snprintf(text, room,
		         "offload the head: %.3g s [%.3g, %.3g] modelled on %s instead of %.3g s, and the step is %.2f "
		         "times as fast",
		         x->head_s.value, x->head_s.low, x->head_s.high, cards, x->host_s, step_gain(x));
}

/* ---- text ---- */
static void show_host(const struct pf_advise *a, const struct pf_offload *x)
{
	const struct pf_advise_host *h = &a->host;
	printf("this host: %s: products at %.4g GFLOP/s (%s)", h->told ? "another one" : h->name, 1e-9 * h->flops,
	       h->told ? "told" : "measured now, by processor time");
	if (isfinite(h->copy))
		printf(", copies at %.3g GB/s (measured now)", 1e-9 * h->copy);
	printf("\n  the head takes %.4g s there at best (its products at that rate); the decoder layers at least %.4g "
	       "s, "
	       "wherever the "
	       "head is\n",
	       x->host_s, x->body_s);
	if (isfinite(h->joule_per_flop))
		printf("  energy of the head there, measured (%s, the idle machine's share included): %.4g J\n",
		       h->scope, h->joule_per_flop * x->operations);
	else
		printf("  energy there: not measured: %s\n", h->refused);
}

static void show_doubts(const struct pf_offload *x)
{
	for (unsigned i = 0; i < x->doubts; i++)
		if (fmax(-x->doubt[i].low, x->doubt[i].high) < 0.02)
			continue;
		else if (x->doubt[i].doubt == 0)
			printf("  every pipelined loop one cycle longer: %+.0f %% of the time\n",
			       100 * x->doubt[i].high);
		else
			printf("  %s off by %.0f %%: %+.0f to %+.0f %% of the time\n", x->doubt[i].figure,
			       100 * x->doubt[i].doubt, 100 * x->doubt[i].low, 100 * x->doubt[i].high);
}

static void show_image(const struct pf_offload_image *i)
{
	if (!i->name) {
		puts("  no image of vitis.def has its kernels");
		return;
	}
	printf("  image %s: ports for %u", i->name, i->by_ports);
	if (isfinite(i->share))
		printf(", logic for %u by estimate; %.1f %% of the card's %s%s", i->by_logic, 100 * i->share,
		       i->resource, i->placed ? "" : ": do not expect it to be placed");
	else
		printf("; what logic the card has is not known here");
	puts(i->units > i->by_ports ? ": more than a bitstream of these kernels can have" : "");
}

double pf_advise_window(const struct pf_advise_row *row)
{
	const double window = PF_ENERGY_REFRESHES * pf_card_figure(row->card, "sensor_refresh_s");
	return ceil(window / row->answer.head_s.value);
}

static void show_card(const struct pf_advise_row *row)
{
	const struct pf_offload *x = &row->answer;
	const struct pf_energy_modelled *e = &x->energy;
	char kind[64];
	printf("%u x %s (%s), %s, %u unit%s of the head's kernels each\n", row->cards, row->card,
	       pf_advise_kind(x, kind), pf_precision_name(row->shape.precision), x->units, x->units > 1 ? "s" : "");
	show_image(&x->image);
	printf("  the head takes %.4g s [%.4g, %.4g], way %s%s\n", x->head_s.value, x->head_s.low, x->head_s.high,
	       pf_cost_way_name(x->way), x->plan.shards > 1 ? ", words shared by the units" : "");
	printf("  link busy %.3g s, kernels %.3g s, host %.3g s of it; bound by %s\n", x->plan.link_s, x->plan.card_s,
	       x->plan.host_s, bound_text(x->bound));
	if (x->way == PF_COST_LOGITS)
		puts("  the fused head does not fit the card's memory: the host multiplies");
	show_doubts(x);
	printf("  with ready logits instead: %.4g s, modelled\n", x->logits_s);
	printf("  energy, modelled: %.4g J [%.4g, %.4g] a step, %.3g J of it the card at rest; %.3g J/token\n",
	       e->total.value, e->total.low, e->total.high, e->rest.value, e->total.value / row->shape.tokens);
	printf("  of it the kernels' operators: %.3g pJ [%.3g, %.3g] for a multiply-add of the head\n",
	       1e12 * x->joule_mac.value, 1e12 * x->joule_mac.low, 1e12 * x->joule_mac.high);
	printf("  measuring it there takes windows of %.0f steps or more: the board's sensor refreshes every %g s\n",
	       pf_advise_window(row), pf_card_figure(row->card, "sensor_refresh_s"));
}

double pf_advise_anchor_seconds(const struct pf_gpu_anchor *g, const struct pf_offload_shape *s)
{
	const int forward = strncmp(g->what, "forward,", 8) == 0;
	return (forward ? 2.0 : 8.0) * s->tokens * (double)s->vocab * s->dim / g->flops;
}

int pf_advise_anchor_fits(const struct pf_advise *a, const struct pf_gpu_anchor *g)
{
	return (strncmp(g->what, "forward,", 8) == 0) == (a->head == PF_OFFLOAD_REFERENCE);
}

static void show_anchors(const struct pf_advise *a)
{
	puts("elsewhere, quoted (others measured it, on other machines and in a narrower type):");
	for (unsigned i = 0; pf_gpu_anchor(i); i++) {
		const struct pf_gpu_anchor *g = pf_gpu_anchor(i);
		if (pf_advise_anchor_fits(a, g))
			printf("  %s, %s, %s: %.4g ms for T %u, V %u, D %u, %.0f TFLOP/s (%s); at that rate this head: "
			       "%.3g s\n",
			       g->gpu, g->what, g->type, 1e3 * g->seconds, g->tokens, g->vocab, g->dim,
			       1e-12 * g->flops, g->source, pf_advise_anchor_seconds(g, &a->shape));
	}
}

/* One line of the head in another place or form */
static void show_other(const struct pf_advise *a, const struct pf_advise_row *row, enum pf_offload_head head,
                       enum pf_precision precision)
{
	const struct pf_offload_place place =
		pf_advise_place(a, row->card, row->cards, (uint32_t)a->options->advise_cus);
	static const char *const says[] = { "", ": pays", ": open", ": its image is not expected to be placed" };
	struct pf_offload_shape shape = row->shape;
	struct pf_offload x;
	struct pf_error error;
	shape.precision = precision;
	printf("  head %s in %s: ", pf_offload_head_name(head), pf_precision_name(precision));
	if (pf_offload_ask(&place, &shape, head, &x, &error))
		printf("%s\n", error.text);
	else
		printf("%.3g s [%.3g, %.3g] modelled, %.3g s on this host%s\n", x.head_s.value, x.head_s.low,
		       x.head_s.high, x.host_s, says[x.verdict]);
}

/* Every head in the precisions asked for, then the one asked about in the others */
static void show_others(const struct pf_advise *a, const struct pf_advise_row *row)
{
	for (enum pf_offload_head h = 0; h < PF_OFFLOAD_HEADS; h++)
		show_other(a, row, h, pf_advise_shape(a, &row->shape, h).precision);
	for (enum pf_precision p = 0; p < PF_PRECISIONS; p++)
		if (p != row->shape.precision)
			show_other(a, row, a->head, p);
}

static void show_break_even(const struct pf_advise *a, const struct pf_advise_row *row)
{
	const struct pf_offload_place place =
		pf_advise_place(a, row->card, row->cards, (uint32_t)a->options->advise_cus);
	const struct pf_offload *x = &row->answer;
	uint32_t most;
	const uint32_t tokens = pf_offload_tokens(&place, &row->shape, a->head, &most);
	printf("break-even of %s:\n", row->card);
	if (tokens && most == PF_ROWS_MAX)
		printf("  tokens: from %u a step on the modelled time is the shorter one\n", tokens);
	else if (tokens)
		printf("  tokens: from %u to %u a step, in doublings, the modelled time is the shorter one\n", tokens,
		       most);
	else
		printf("  tokens: at none from 64 to 1048576 a step that fit the card\n");
	show_others(a, row);
	printf("  host: by the modelled time equal to one of %.3g GFLOP/s\n", 1e-9 * x->host_flops_equal);
	if (isinf(x->kernels_faster))
		puts("  faster kernels alone do not help: what is left without them takes longer than this "
		     "host");
	else if (x->kernels_faster > 1)
		printf("  kernels of %.3g times as many multiply-adds a second would equal this host\n",
		       x->kernels_faster);
}

void pf_advise_show(const struct pf_advise *a)
{
	const struct pf_offload_shape *s = &a->shape;
	char text[512];
	int hosted = 0;
	printf("a step of %u scored tokens, D %u, V %u, %u layers, head %s in %s\n", s->tokens, s->dim, s->vocab,
	       s->layers, pf_offload_head_name(a->head), pf_precision_name(s->precision));
	for (unsigned i = 0; i < a->rows; i++) {
		const struct pf_advise_row *row = &a->row[i];
		if (row->error.code) {
			printf("%s: %s\n", row->card, row->error.text);
			continue;
		}
		if (!hosted++) {
			show_host(a, &row->answer);
			show_anchors(a);
		}
		show_card(row);
		show_break_even(a, row);
		pf_advise_verdict(a, row, text, sizeof text);
		printf("%s: %s\n", row->card, text);
	}
}
