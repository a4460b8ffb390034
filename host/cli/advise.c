/* Verb advise: a step's head on a card that nobody has to own, on this host, and elsewhere; and whether to offload
 * it. */
#include "advise.h"
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "bench.h"
#include "host/bench/joules.h"
#include "host/model/config.h"
#include "meters.h"
#include "output.h"
#include "setup.h"

#define COPY_BYTES ((size_t)64 << 20)
#define BUSY       0.85 /* of the processors: with less there is a note */
enum { TRIES = 7 };

/* ---- what is asked for ---- */
static int bad_shape(const char *text, struct pf_error *error)
{
	return pf_fail(
		error, PF_E_ARGUMENT,
		"--model-shape \"%s\": give width,vocabulary,layers such as 768,50257,12; 1 to %u, %u and 256 are "
		"possible",
		text, PF_DEPTH_MAX * 16, PF_VOCAB_MAX);
}

static int parse_shape(const char *text, uint32_t tokens, struct pf_offload_shape *shape, struct pf_error *error)
{
	static const unsigned long long most[3] = { PF_DEPTH_MAX * 16, PF_VOCAB_MAX, 256 };
	unsigned long long value[3];
	const char *at = text;
	for (int i = 0; i < 3; i++) {
		char *end;
		if (*at < '0' || *at > '9')
			return bad_shape(text, error);
		value[i] = strtoull(at, &end, 10);
		if (value[i] < 1 || value[i] > most[i] || *end != (i < 2 ? ',' : '\0'))
			return bad_shape(text, error);
		at = end + 1;
	}
	*shape = pf_offload_plain((uint32_t)value[0], (uint32_t)value[1], (uint32_t)value[2], tokens);
	return 0;
}

static int find_shape(struct pf_advise *a, struct pf_error *error)
{
	const struct pf_options *o = a->options;
	struct pf_model_config config;
	char path[4096];
	if (!o->model == !o->model_shape)
		return pf_fail(error, PF_E_ARGUMENT, "give either --model-shape D,V,LAYERS or --model DIR");
	if (o->model_shape)
		return parse_shape(o->model_shape, (uint32_t)o->tokens, &a->shape, error);
	snprintf(path, sizeof path, "%s/config.json", o->model);
	int code = pf_config_read(path, &config, error);
	if (!code)
		a->shape = pf_offload_of(&config, (uint32_t)o->tokens);
	return code;
}

static int find_cards(struct pf_advise *a, struct pf_error *error)
{
	char *rest = a->cards = strdup(a->options->card);
	if (!rest)
		return pf_fail(error, -ENOMEM, "no memory for --card");
	for (char *name; (name = strsep(&rest, ","));) {
		if (a->card_count == PF_ADVISE_CARDS)
			return pf_fail(error, PF_E_RANGE, "--card names more than %d cards", PF_ADVISE_CARDS);
		a->card[a->card_count++] = name;
	}
	return 0;
}

static enum pf_offload_head find_head(const char *name)
{
	enum pf_offload_head head = PF_OFFLOAD_TRAINED;
	while (head + 1 < PF_OFFLOAD_HEADS && strcmp(pf_offload_head_name(head), name) != 0)
		head++;
	return head;
}

struct pf_offload_shape pf_advise_shape(const struct pf_advise *a, const struct pf_offload_shape *shape,
                                        enum pf_offload_head head)
{
	struct pf_offload_shape own = *shape;
	own.precision = head == PF_OFFLOAD_REFERENCE ? a->reference_precision : a->precision;
	return own;
}

static void find_precisions(struct pf_advise *a)
{
	const int reference = pf_precision_find(a->options->reference_precision);    /* auto: none */
	a->precision = (enum pf_precision)pf_precision_find(a->options->head_precision);
	a->reference_precision = reference < 0 ? a->precision : (enum pf_precision)reference;
}

/* ---- this host ---- */
static int multiply(void *state, struct pf_error *error)
{
	(void)error;
	pf_yardstick_sgemm(state);
	return 0;
}

/* J an operation while products run, as the machine's sensor shows it; the idle machine's share is in it */
static int measure_joules(struct pf_advise *a, struct pf_yardstick *y, struct pf_error *error)
{
	static const struct pf_bench_work products = { .name = "products", .run = multiply };
	struct pf_advise_host *h = &a->host;
	struct pf_bench_joules joules;
	struct pf_bench_meter meter;
	struct pf_sensor *sensors;
	struct pf_error why;
	size_t count;
	if (pf_cli_sensors(a->options, &sensors, &count, &why)) {
		snprintf(h->refused, sizeof h->refused, "%s", why.text);
		return 0;
	}
	int code = pf_bench_meter_open(&meter, sensors, count, pf_setup_stop(), error);
	if (!code)
		code = pf_bench_meter_run(&meter, "cpu", &products, y, pf_setup_stop(), &joules, error);
	if (!code) {
		h->joule_per_flop = joules.joule / pf_yardstick_operations(y);
		h->scope = joules.scope;
	}
	pf_bench_meter_close(&meter);
	free(sensors);
	return code;
}

static int measure_host(struct pf_advise *a, struct pf_error *error)
{
	struct pf_advise_host *h = &a->host;
	const unsigned threads = (unsigned)a->options->threads;
	struct pf_yardstick *y;
	pf_cli_machine(h->name, sizeof h->name);
	h->copy = h->joule_per_flop = NAN;
	h->told = a->options->host_gflops > 0;
	if (h->told) {
		h->flops = 1e9 * a->options->host_gflops;
		snprintf(h->refused, sizeof h->refused, "another host is asked about (--host-gflops)");
		return 0;
	}
	int code = pf_yardstick_open(threads, COPY_BYTES, &y, error);
	if (code)
		return code;
	h->flops = pf_yardstick_sgemm_free(y, TRIES, &h->free_part);
	h->copy = pf_yardstick_copy(y);
	if (h->free_part < BUSY)
		pf_cli_note(a->options,
		            "other programs are busy on this machine: products got %.0f %% of the processors; their "
		            "rate is by "
		            "processor time",
		            100 * h->free_part);
	code = measure_joules(a, y, error);
	pf_yardstick_close(y);
	return code;
}

/* ---- answers ---- */
struct pf_offload_place pf_advise_place(const struct pf_advise *a, const char *card, uint32_t cards, uint32_t units)
{
	return (struct pf_offload_place){ card, cards, units, a->host.flops, a->reports };
}

const char *pf_advise_kind(const struct pf_offload *x, char text[64])
{
	if (x->reported > 0)
		snprintf(text, 64, "modelled, %.0f %% of the cycles by reports", 100 * x->reported);
	else
		snprintf(text, 64, "modelled, uncalibrated");
	return text;
}

const struct pf_advise_row *pf_advise_ask(struct pf_advise *a, const char *card, uint32_t cards, uint32_t units,
                                          const struct pf_offload_shape *shape)
{
	const struct pf_offload_place place = pf_advise_place(a, card, cards, units);
	if (a->rows == PF_ADVISE_ROWS)
		return NULL;
	struct pf_advise_row *row = &a->row[a->rows++];
	*row = (struct pf_advise_row){ .card = card, .cards = cards, .shape = *shape };
	row->error.code = pf_offload_ask(&place, shape, a->head, &row->answer, &row->error);
	return row;
}

static int advise(struct pf_advise *a, struct pf_error *error)
{
	const struct pf_options *o = a->options;
	int code = o->reports ? pf_reports_open(o->reports, &a->reports, error) : 0;
	if (!code)
		code = find_shape(a, error);
	find_precisions(a);
	a->shape = pf_advise_shape(a, &a->shape, a->head);
	if (!code)
		code = find_cards(a, error);
	for (unsigned i = 0; !code && i < a->card_count; i++) { /* before anything is measured */
		const struct pf_offload_place place = { a->card[i], 1, 1, 1, a->reports };
		struct pf_offload ignored;
		const struct pf_offload_shape plain = pf_offload_plain(16, 16, 1, 1),
					      tiny = pf_advise_shape(a, &plain, a->head);
		code = pf_offload_ask(&place, &tiny, a->head, &ignored, error);
	}
	if (!code)
		code = measure_host(a, error);
	if (!code && o->sweep)
		return pf_advise_sweep(a, error);
	for (unsigned i = 0; !code && i < a->card_count; i++)
		pf_advise_ask(a, a->card[i], (uint32_t)o->advise_cards, (uint32_t)o->advise_cus, &a->shape);
	if (!code)
		(strcmp(o->format, "json") == 0 ? pf_advise_print_json : pf_advise_show)(a);
	return code;
}

int pf_verb_advise(const struct pf_options *options)
{
	struct pf_advise a = { .options = options, .head = find_head(options->advise_head) };
	struct pf_error error = { 0 };
	pf_setup_stop();
	if (options->advise_svg && !options->sweep)
		return pf_cli_usage(options, "--svg draws a --sweep, which is not given");
	a.row = calloc(PF_ADVISE_ROWS, sizeof *a.row);
	int code = a.row ? 0 : pf_fail(&error, -ENOMEM, "no memory for the answers");
	if (!code)
		code = pf_output_check(options->advise_csv, &error);
	if (!code)
		code = pf_output_check(options->advise_svg, &error);
	if (!code)
		code = advise(&a, &error);
	if (!code)
		code = pf_advise_save(&a, &error);
	pf_reports_close(a.reports);
	free(a.row);
	free(a.cards);
	return code ? pf_setup_exit(options, &error) : PF_EXIT_OK;
}
