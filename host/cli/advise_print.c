#include "advise.h"
#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { EMPTY = 24 }; /* columns of a row without an answer, from units to verdict */
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

void pf_advise_verdict(const struct pf_advise *a, const struct pf_advise_row *row, char *text, size_t room)
{
	const struct pf_offload *x = &row->answer;
	(void)a;
	if (x->verdict == PF_VERDICT_NO)
		snprintf(text, room,
		         "do not offload: even at the good end of its doubts %s takes %.3g s for the head that this "
		         "host computes in %.3g s",
		         row->card, x->head_s.low, x->host_s);
	else if (x->verdict == PF_VERDICT_OPEN)
		snprintf(text, room,
		         "no verdict: between %.3g and %.3g s on %s, %.3g s on this host; a report of the synthesis "
		         "or a card would have to narrow that; until then do not offload",
		         x->head_s.low, x->head_s.high, row->card, x->host_s);
	else if (step_gain(x) < 1 + WORTH)
		snprintf(text, room,
		         "do not offload: the head is faster on %s, %.3g s instead of %.3g s, but the step by %.1f %% "
		         "only; the decoder layers take %.3g s",
		         row->card, x->head_s.value, x->host_s, 100 * (step_gain(x) - 1), x->body_s);
	else
		snprintf(text, room,
		         "offload the head: %.3g s [%.3g, %.3g] on %s instead of %.3g s, and the step is %.2f times as "
		         "fast",
		         x->head_s.value, x->head_s.low, x->head_s.high, row->card, x->host_s, step_gain(x));
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

static void show_card(const struct pf_advise *a, const struct pf_advise_row *row)
{
	const struct pf_offload *x = &row->answer;
	const struct pf_energy_modelled *e = &x->energy;
	const uint32_t ports = pf_offload_units(row->card), dsps = pf_cost_units(row->card);
	printf("%u x %s (%s), %u unit%s of the fused head each; its ports are enough for %u, its "
	       "DSP slices "
	       "for %u%s\n",
	       row->cards, row->card, pf_advise_kind(a), x->units, x->units > 1 ? "s" : "", ports, dsps,
	       x->units > ports || x->units > dsps ? ": more than a bitstream of these kernels can have" : "");
	printf("  the head takes %.4g s [%.4g, %.4g], way %s%s\n", x->head_s.value, x->head_s.low, x->head_s.high,
	       pf_cost_way_name(x->way), x->plan.shards > 1 ? ", words shared by the units" : "");
	printf("  link busy %.3g s, kernels %.3g s, host %.3g s of it; bound by %s\n", x->plan.link_s, x->plan.card_s,
	       x->plan.host_s, bound_text(x->bound));
	if (x->way == PF_COST_LOGITS)
		puts("  the fused head does not fit the card's memory: the host multiplies");
	show_doubts(x);
	printf("  with ready logits instead: %.4g s\n", x->logits_s);
	printf("  energy, modelled: %.4g J [%.4g, %.4g] a step, %.3g J of it the card at rest; %.3g J/token\n",
	       e->total.value, e->total.low, e->total.high, e->rest.value, e->total.value / row->shape.tokens);
}

static double anchor_seconds(const struct pf_gpu_anchor *g, const struct pf_offload_shape *s)
{
	const int forward = strncmp(g->what, "forward,", 8) == 0;
	return (forward ? 2.0 : 8.0) * s->tokens * (double)s->vocab * s->dim / g->flops;
}

static int anchor_fits(const struct pf_advise *a, const struct pf_gpu_anchor *g)
{
	return (strncmp(g->what, "forward,", 8) == 0) == (a->head == PF_OFFLOAD_REFERENCE);
}

static void show_anchors(const struct pf_advise *a)
{
	puts("elsewhere, quoted (others measured it, on other machines and in a narrower type):");
	for (unsigned i = 0; pf_gpu_anchor(i); i++) {
		const struct pf_gpu_anchor *g = pf_gpu_anchor(i);
		if (anchor_fits(a, g))
			printf("  %s, %s, %s: %.4g ms for T %u, V %u, D %u, %.0f TFLOP/s (%s); at that rate this head: "
			       "%.3g s\n",
			       g->gpu, g->what, g->type, 1e3 * g->seconds, g->tokens, g->vocab, g->dim,
			       1e-12 * g->flops, g->source, anchor_seconds(g, &a->shape));
	}
}

static void show_residency(const struct pf_advise *a, const struct pf_advise_row *row)
{
	const struct pf_offload_place place =
		pf_advise_place(a, row->card, row->cards, (uint32_t)a->options->advise_cus);
	for (enum pf_offload_head h = 0; h < PF_OFFLOAD_HEADS; h++) {
		struct pf_offload x;
		struct pf_error error;
		if (pf_offload_ask(&place, &row->shape, h, &x, &error))
			printf("  head %s: %s\n", pf_offload_head_name(h), error.text);
		else
			printf("  head %s: %.3g s [%.3g, %.3g] modelled, %.3g s on this host%s\n",
			       pf_offload_head_name(h), x.head_s.value, x.head_s.low, x.head_s.high, x.host_s,
			       x.verdict == PF_VERDICT_YES    ? ": pays"
			       : x.verdict == PF_VERDICT_OPEN ? ": open"
			                                      : "");
	}
}

static void show_break_even(const struct pf_advise *a, const struct pf_advise_row *row)
{
	const struct pf_offload_place place =
		pf_advise_place(a, row->card, row->cards, (uint32_t)a->options->advise_cus);
	const struct pf_offload *x = &row->answer;
	const uint32_t tokens = pf_offload_tokens(&place, &row->shape, a->head);
	printf("break-even of %s:\n", row->card);
	if (tokens)
		printf("  tokens: from %u a step on the modelled time is the shorter one\n", tokens);
	else
		printf("  tokens: at none from 64 to 1048576 a step that fit the card\n");
	show_residency(a, row);
	printf("  host: equal to one of %.3g GFLOP/s\n", 1e-9 * x->host_flops_equal);
	if (isinf(x->kernels_faster))
		puts("  precision: faster kernels alone do not help: what is left without them takes longer than this "
		     "host");
	else if (x->kernels_faster > 1)
		printf("  precision: kernels of %.3g times as many multiply-adds a second, such as a narrower type "
		       "could have, "
		       "would equal this host\n",
		       x->kernels_faster);
}

void pf_advise_show(const struct pf_advise *a)
{
	const struct pf_offload_shape *s = &a->shape;
	char text[512];
	printf("a step of %u scored tokens, D %u, V %u, %u layers, head %s\n", s->tokens, s->dim, s->vocab, s->layers,
	       pf_offload_head_name(a->head));
	for (unsigned i = 0; i < a->rows; i++) {
		const struct pf_advise_row *row = &a->row[i];
		if (row->error.code) {
			printf("%s: %s\n", row->card, row->error.text);
			continue;
		}
		if (i == 0)
			show_host(a, &row->answer);
		show_card(a, row);
		show_break_even(a, row);
		pf_advise_verdict(a, row, text, sizeof text);
		printf("%s: %s\n", row->card, text);
	}
	show_anchors(a);
}

/* ---- JSON ---- */
static json_t *number(double value)
{
	return isfinite(value) ? json_real(value) : json_null();
}

static json_t *interval(struct pf_interval x)
{
	return json_pack("[f,f,f]", x.value, x.low, x.high);
}

static json_t *doubts_json(const struct pf_offload *x)
{
	json_t *doubts = json_object();
	for (unsigned i = 0; i < x->doubts; i++)
		json_object_set_new(doubts, x->doubt[i].figure,
		                    json_pack("[f,f,f]", x->doubt[i].doubt, x->doubt[i].low, x->doubt[i].high));
	return doubts;
}

static json_t *row_json(const struct pf_advise *a, const struct pf_advise_row *row)
{
	const struct pf_offload_place place =
		pf_advise_place(a, row->card, row->cards, (uint32_t)a->options->advise_cus);
	const struct pf_offload *x = &row->answer;
	static const char *const verdicts[] = { "do not offload", "offload", "open" };
	char text[512];
	if (row->error.code)
		return json_pack("{ss ss}", "card", row->card, "error", row->error.text);
	pf_advise_verdict(a, row, text, sizeof text);
	json_t *modelled =
		json_pack("{ss ss si so so so so ss so so so}", "kind", pf_advise_kind(a), "way",
	                  pf_cost_way_name(x->way), "shards", (int)x->plan.shards, "head_s", interval(x->head_s),
	                  "link_s", number(x->plan.link_s), "kernels_s", number(x->plan.card_s), "host_s",
	                  number(x->plan.host_s), "bound", pf_offload_bound_name(x->bound), "joule",
	                  interval(x->energy.total), "rest_joule", interval(x->energy.rest), "doubts", doubts_json(x));
	return json_pack("{ss si si so sf sf so so sI ss ss}", "card", row->card, "cards", (int)row->cards, "units",
	                 (int)x->units, "modelled", modelled, "host_head_s", x->host_s, "host_flops_equal",
	                 x->host_flops_equal, "kernels_faster", number(x->kernels_faster), "host_joule",
	                 number(a->host.joule_per_flop * x->operations), "break_even_tokens",
	                 (json_int_t)pf_offload_tokens(&place, &row->shape, a->head), "verdict", verdicts[x->verdict],
	                 "because", text);
}

static json_t *anchors_json(const struct pf_advise *a)
{
	json_t *list = json_array();
	for (unsigned i = 0; pf_gpu_anchor(i); i++) {
		const struct pf_gpu_anchor *g = pf_gpu_anchor(i);
		if (anchor_fits(a, g))
			json_array_append_new(list, json_pack("{ss ss ss ss sf sf sf ss}", "kind", "quoted", "gpu",
			                                      g->gpu, "what", g->what, "type", g->type, "seconds",
			                                      g->seconds, "flops", g->flops, "this_head_at_that_rate_s",
			                                      anchor_seconds(g, &a->shape), "source", g->source));
	}
	return list;
}

void pf_advise_print_json(const struct pf_advise *a)
{
	const struct pf_offload_shape *s = &a->shape;
	const struct pf_advise_host *h = &a->host;
	json_t *cards = json_array();
	for (unsigned i = 0; i < a->rows; i++)
		json_array_append_new(cards, row_json(a, &a->row[i]));
	json_t *host =
		json_pack("{ss ss so so so so}", "name", h->told ? "another one" : h->name, "kind",
	                  h->told ? "told" : "measured", "flops", number(h->flops), "copy_bytes_per_s", number(h->copy),
	                  "body_s_at_least", number(6.0 * s->tokens * s->body_weights / h->flops), "energy_refused",
	                  isfinite(h->joule_per_flop) ? json_null() : json_string(h->refused));
	json_t *all = json_pack("{si si si si ss so so so}", "tokens", (int)s->tokens, "dim", (int)s->dim, "vocabulary",
	                        (int)s->vocab, "layers", (int)s->layers, "head", pf_offload_head_name(a->head), "host",
	                        host, "cards", cards, "elsewhere", anchors_json(a));
	json_dumpf(all, stdout, JSON_INDENT(1) | JSON_REAL_PRECISION(7));
	putchar('\n');
	json_decref(all);
}

/* ---- CSV ---- */
static void put(FILE *out, double value)
{
	if (isfinite(value))
		fprintf(out, ",%.5g", value);
	else
		putc(',', out);
}

static void put_interval(FILE *out, struct pf_interval x)
{
	put(out, x.value);
	put(out, x.low);
	put(out, x.high);
}

static void save_row(const struct pf_advise *a, const struct pf_advise_row *row, const char *day, FILE *out)
{
	const struct pf_offload_shape *s = &row->shape;
	const struct pf_offload *x = &row->answer;
	const struct pf_advise_host *h = &a->host;
	static const char *const verdicts[] = { "do not offload", "offload", "open" };
	fprintf(out, "%u,%u,%u,%u,%s,%s,%u", s->tokens, s->vocab, s->dim, s->layers, pf_offload_head_name(a->head),
	        row->card, row->cards);
	if (row->error.code) {
		for (int empty = 0; empty < EMPTY; empty++)
			putc(',', out);
		fprintf(out, "\"%s\",%s,%s\n", row->error.text, PREFPGA_VERSION, day);
		return;
	}
	fprintf(out, ",%u,%u,%u,%s,%u", x->units, pf_offload_units(row->card), pf_cost_units(row->card),
	        pf_cost_way_name(x->way), x->plan.shards);
	put_interval(out, x->head_s);
	put(out, x->plan.link_s);
	put(out, x->plan.card_s);
	put(out, x->plan.host_s);
	fprintf(out, ",%s", pf_offload_bound_name(x->bound));
	put_interval(out, x->energy.total);
	put(out, x->energy.rest.value);
	put(out, x->energy.total.value / s->tokens);
	put(out, 1e-9 * h->flops);
	fprintf(out, ",%s", h->told ? "told" : "measured");
	put(out, x->host_s);
	put(out, x->body_s);
	put(out, h->joule_per_flop * x->operations);
	fprintf(out, ",\"%s\",%s,%s,%s\n", isfinite(h->joule_per_flop) ? h->scope : h->refused, verdicts[x->verdict],
	        PREFPGA_VERSION, day);
}

int pf_advise_save(const struct pf_advise *a, struct pf_error *error)
{
	const char *path = a->options->advise_csv;
	const time_t now = time(NULL);
	struct tm parts;
	char day[16];
	FILE *out = path ? fopen(path, "we") : NULL;
	if (!path)
		return 0;
	if (!out)
		return pf_fail(error, -errno, "%s: %s", path, strerror(errno));
	strftime(day, sizeof day, "%Y-%m-%d", gmtime_r(&now, &parts));
	fputs("tokens,vocabulary,dim,layers,head,card,cards,units,units_by_ports,units_by_dsp,way,shards,modelled_head_"
	      "s,modelled_head_s_low,"
	      "modelled_head_s_high,modelled_link_s,modelled_kernels_s,modelled_host_s,modelled_bound,modelled_joule,"
	      "modelled_joule_low,modelled_joule_high,modelled_joule_rest,modelled_joule_per_token,host_gflops,host_"
	      "rate_is,"
	      "host_head_s,host_body_s_at_least,host_head_joule_measured,host_energy,verdict,version,date\n",
	      out);
	for (unsigned i = 0; i < a->rows; i++)
		save_row(a, &a->row[i], day, out);
	const int failed = ferror(out);
	if (fclose(out) || failed)
		return pf_fail(error, -EIO, "%s: could not be written whole", path);
	return 0;
}
