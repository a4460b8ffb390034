/* The answers as JSON, and as a table of commas. */
#include "advise.h"
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "output.h"
#include "replay.h"

enum { EMPTY = 28 }; /* columns of a row without an answer, from units to verdict */

/* ---- JSON ---- */
static json_t *number(double value)
{
	return isfinite(value) ? json_real(value) : json_null();
}

static json_t *image_json(const struct pf_offload_image *i)
{
	return json_pack("{ss? si si so ss sb}", "name", i->name, "units_by_ports", (int)i->by_ports, "units_by_logic",
	                 (int)i->by_logic, "share_estimate", number(i->share), "scarcest", i->resource,
	                 "expected_to_be_placed", i->placed);
}

static json_t *row_json(const struct pf_advise *a, const struct pf_advise_row *row)
{
	const struct pf_offload_place place =
		pf_advise_place(a, row->card, row->cards, (uint32_t)a->options->advise_cus);
	const struct pf_offload *x = &row->answer;
	char text[512], kind[64];
	uint32_t most = 0;
	if (row->error.code)
		return json_pack("{ss ss}", "card", row->card, "error", row->error.text);
	pf_advise_verdict(a, row, text, sizeof text);
	json_t *modelled =
		json_pack("{ss ss si so so so so ss so so so}", "kind", pf_advise_kind(x, kind), "way",
	                  pf_cost_way_name(x->way), "shards", (int)x->plan.shards, "head_s",
	                  pf_cli_interval_json(x->head_s), "link_s", number(x->plan.link_s), "kernels_s",
	                  number(x->plan.card_s), "host_s", number(x->plan.host_s), "bound",
	                  pf_offload_bound_name(x->bound), "joule", pf_cli_interval_json(x->energy.total),
	                  "rest_joule", pf_cli_interval_json(x->energy.rest), "doubts",
	                  pf_cli_doubts_json(x->doubt, x->doubts));
	json_object_set_new(modelled, "joule_per_multiply_add", pf_cli_interval_json(x->joule_mac));
	json_object_set_new(modelled, "heads_per_sensor_window_at_least", number(pf_advise_window(row)));
	const uint32_t least = pf_offload_tokens(&place, &row->shape, a->head, &most);
	return json_pack("{ss si si ss so so sf sf so so sI sI ss ss}", "card", row->card, "cards", (int)row->cards,
	                 "units", (int)x->units, "precision", pf_precision_name(row->shape.precision), "image",
	                 image_json(&x->image), "modelled", modelled, "host_head_s", x->host_s, "host_flops_equal",
	                 x->host_flops_equal, "kernels_faster", number(x->kernels_faster), "host_joule",
	                 number(a->host.joule_per_flop * x->operations), "break_even_tokens",
	                 (json_int_t)least, "break_even_tokens_most", (json_int_t)most, "verdict",
	                 pf_advise_verdict_name(x->verdict), "because", text);
}

static json_t *anchors_json(const struct pf_advise *a)
{
	json_t *list = json_array();
	for (unsigned i = 0; pf_gpu_anchor(i); i++) {
		const struct pf_gpu_anchor *g = pf_gpu_anchor(i);
		if (pf_advise_anchor_fits(a, g))
			json_array_append_new(list, json_pack("{ss ss ss ss sf sf sf ss}", "kind", "quoted", "gpu",
			                                      g->gpu, "what", g->what, "type", g->type, "seconds",
			                                      g->seconds, "flops", g->flops, "this_head_at_that_rate_s",
			                                      pf_advise_anchor_seconds(g, &a->shape), "source",
			                                      g->source));
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
	fprintf(out, "%u,%u,%u,%u,%s,%s,%s,%u", s->tokens, s->vocab, s->dim, s->layers, pf_offload_head_name(a->head),
	        pf_precision_name(s->precision), row->card, row->cards);
	if (row->error.code) {
		for (int empty = 0; empty < EMPTY; empty++)
			putc(',', out);
		fprintf(out, "\"%s\",%s,%s\n", row->error.text, PREFPGA_VERSION, day);
		return;
	}
	fprintf(out, ",%u,%s,%u,%u", x->units, x->image.name ? x->image.name : "none", x->image.by_ports,
	        x->image.by_logic);
	put(out, 100 * x->image.share);
	fprintf(out, ",%s,%s,%u", x->image.resource, pf_cost_way_name(x->way), x->plan.shards);
	put_interval(out, x->head_s);
	put(out, x->plan.link_s);
	put(out, x->plan.card_s);
	put(out, x->plan.host_s);
	fprintf(out, ",%s", pf_offload_bound_name(x->bound));
	put_interval(out, x->energy.total);
	put(out, x->energy.rest.value);
	put(out, x->energy.total.value / s->tokens);
	put(out, 1e12 * x->joule_mac.value);
	put(out, 1e-9 * h->flops);
	fprintf(out, ",%s", h->told ? "told" : "measured");
	put(out, x->host_s);
	put(out, x->body_s);
	put(out, h->joule_per_flop * x->operations);
	fprintf(out, ",\"%s\",%s,%s,%s\n", isfinite(h->joule_per_flop) ? h->scope : h->refused,
	        pf_advise_verdict_name(x->verdict), PREFPGA_VERSION, day);
}

int pf_advise_save(const struct pf_advise *a, struct pf_error *error)
{
	const char *path = a->options->advise_csv;
	const time_t now = time(NULL);
	struct tm parts;
	char day[16];
	struct pf_output out;
	if (!path)
		return 0;
	int code = pf_output_open(&out, path, error);
	if (code)
		return code;
	strftime(day, sizeof day, "%Y-%m-%d", gmtime_r(&now, &parts));
	fputs("tokens,vocabulary,dim,layers,head,precision,card,cards,units,image,units_by_ports,"
	      "units_by_logic_estimate,image_percent_estimate,scarcest,way,shards,modelled_head_s,modelled_head_s_low,"
	      "modelled_head_s_high,modelled_link_s,modelled_kernels_s,modelled_host_s,modelled_bound,modelled_joule,"
	      "modelled_joule_low,modelled_joule_high,modelled_joule_rest,modelled_joule_per_token,"
	      "modelled_pj_per_multiply_add,host_gflops,host_rate_is,host_head_s,host_body_s_at_least,"
	      "host_head_joule_measured,host_energy,verdict,version,date\n",
	      out.stream);
	for (unsigned i = 0; i < a->rows; i++)
		save_row(a, &a->row[i], day, out.stream);
	return pf_output_close(&out, error);
}
