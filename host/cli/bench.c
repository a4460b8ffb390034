/* Verb bench: kernels and whole steps over shapes and devices, beside what this machine can do at most. */
#include "bench.h"
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "host/bench/joules.h"
#include "host/model/parallel.h"
#include "meters.h"
#include "output.h"
#include "progress.h"
#include "setup.h"

enum { WORKS = 16, SHAPES = 64, DEVICES = 16 };
#define COPY_LEAST ((uint64_t)16 << 20)  /* bytes of the yardstick's array: beyond the caches, */
#define COPY_MOST  ((uint64_t)256 << 20) /* and no larger than it takes */
static const char modelled[] = "model:";

struct bench {
	struct pf_bench_run run;
	char *lists; /* the three options, cut up */
	const struct pf_bench_work *work[WORKS];
	struct pf_bench_shape shape[SHAPES];
	const char *device[DEVICES];
	unsigned works, shapes, devices, threads;
	struct pf_yardstick *yardstick;
	struct pf_reports *reports;    /* --reports, or NULL */
	struct pf_sensor *sensors;
	struct pf_bench_meter meter;
	struct pf_progress progress;
	uint64_t done;
};

/* ---- what is asked for ---- */
static int too_many(const char *what, unsigned most, struct pf_error *error)
{
	return pf_fail(error, PF_E_RANGE, "more than %u %s", most, what);
}

/* The next word of a list, or NULL. Shapes have commas inside, so theirs are ; and blanks */
static char *next_word(char **rest, const char *between)
{
	char *word;
	while ((word = strsep(rest, between)) && !*word)
		;
	return word;
}

static int parse_lists(struct bench *b, struct pf_error *error)
{
	const struct pf_options *o = b->run.options;
	const size_t works = strlen(o->work) + 1, shapes = strlen(o->shapes) + 1;
	int code = 0;
	b->lists = malloc(works + shapes + strlen(o->device) + 1);
	if (!b->lists)
		return pf_fail(error, -ENOMEM, "no memory for the lists");
	char *work = strcpy(b->lists, o->work), *shape = strcpy(b->lists + works, o->shapes);
	char *device = strcpy(b->lists + works + shapes, o->device);
	for (char *word; !code && (word = next_word(&work, ",")); b->works++)
		code = b->works == WORKS ? too_many("works", WORKS, error)
		                         : pf_bench_find(word, &b->work[b->works], error);
	for (char *word; !code && (word = next_word(&shape, "; ")); b->shapes++)
		code = b->shapes == SHAPES ? too_many("shapes", SHAPES, error)
		                           : pf_bench_shape(word, &b->shape[b->shapes], error);
	for (char *word; !code && (word = next_word(&device, ",")); b->devices++)
		code = b->devices == DEVICES ? too_many("devices", DEVICES, error) : (b->device[b->devices] = word, 0);
	if (!code && (!b->works || !b->shapes || !b->devices))
		code = pf_fail(error, PF_E_ARGUMENT, "--work, --shapes and --device name at least one each");
	for (unsigned i = 0; !code && o->bench_layers && i < b->shapes; i++)
		b->shape[i].layers = (uint32_t)o->bench_layers;
	return code;
}

/* Logits and their gradient, twice the head's matrix, the parameters of a step with moments: what the largest work may
 * take, so that a machine is not brought down */
static int check_memory(const struct bench *b, struct pf_error *error)
{
	const double have = (double)sysconf(_SC_PHYS_PAGES) * (double)sysconf(_SC_PAGESIZE);
	for (unsigned i = 0; i < b->shapes; i++) {
		const struct pf_bench_shape *s = &b->shape[i];
		const double matrix = (double)s->vocab * s->dim, body = 12.0 * s->layers * s->dim * s->dim;
		double need = 0;
		for (unsigned k = 0; k < b->works; k++)
			need = fmax(need, strcmp(b->work[k]->name, "step") == 0 ? 24 * (matrix + body)
			                  : b->work[k]->needs_dim ? 12 * matrix + 4.0 * s->tokens * s->vocab
			                                          : 12.0 * s->tokens * s->vocab);
		if (need > 0.9 * have)
			return pf_fail(
				error, PF_E_MEMORY,
				"shape %u,%u,%u with %u layers takes about %.3g GB, this machine has %.3g; give fewer "
				"tokens, or leave works out with --work",
				s->tokens, s->vocab, s->dim, s->layers, 1e-9 * need, 1e-9 * have);
	}
	return 0;
}

static int is_modelled(const char *device)
{
	return strncmp(device, modelled, sizeof modelled - 1) == 0;
}

/* model:CARD[*units] */
static int parse_card(const char *device, char name[32], uint32_t *cus, struct pf_error *error)
{
	const char *card = device + sizeof modelled - 1, *star = strchr(card, '*');
	struct pf_cycles_card known;
	char *end = NULL;
	snprintf(name, 32, "%.*s", star ? (int)(star - card) : 31, card);
	const unsigned long units = star ? strtoul(star + 1, &end, 10) : 1;
	if (star && (*end || units < 1 || units > 64))
		return pf_fail(error, PF_E_RANGE, "%s: 1 to 64 compute units are possible", device);
	*cus = (uint32_t)units;
	return pf_cycles_card(name, &known, error);
}

static int suits(const struct bench *b, const struct pf_bench_work *w, const struct pf_bench_shape *s,
                 const char *device)
{
	(void)b;
	return (!w->needs_dim || s->dim) && (!is_modelled(device) || w->kernel >= 0);
}

/* ---- rows ---- */
static struct pf_bench_row *add_row(struct bench *b, const struct pf_bench_work *w, const struct pf_bench_shape *s,
                                    const char *device)
{
	struct pf_bench_run *r = &b->run;
	if (r->count == r->room) {
		const size_t room = r->room ? 2 * r->room : 32;
		struct pf_bench_row *rows = realloc(r->rows, room * sizeof *rows);
		if (!rows)
			return NULL;
		r->rows = rows;
		r->room = room;
	}
	struct pf_bench_row *row = &r->rows[r->count];
	*row = (struct pf_bench_row){ .shape = *s,
		                      .limit = w->limit == PF_BENCH_COPY ? "copy" : "sgemm",
		                      .amount = w->amount(s),
		                      .pairs = w->pairs ? w->pairs(s) : 0,
		                      .modelled_s = NAN,
		                      .modelled_line_s = NAN,
		                      .modelled_joule = NAN,
		                      .modelled_low = NAN,
		                      .modelled_high = NAN };
	if (!w->needs_dim)
		row->shape.dim = 0;
	if (strcmp(w->name, "step") != 0)
		row->shape.layers = 0;
	snprintf(row->work, sizeof row->work, "%s", w->name);
	snprintf(row->type, sizeof row->type, "%s", w->type);
	snprintf(row->device, sizeof row->device, "%s", device);
	return row;
}

static void one_done(void *context)
{
	struct bench *b = context;
	pf_progress_show(&b->progress, ++b->done, "");
}

static int measure_open(struct bench *b, const struct pf_bench_work *w, void *state, const char *backend,
                        struct pf_bench_row *row, struct pf_error *error)
{
	const volatile sig_atomic_t *stop = pf_setup_stop();
	row->times.repeats = (unsigned)b->run.options->repeats;
	int code = pf_bench_measure(w, state, &row->shape, b->yardstick, &row->times, one_done, b, stop, error);
	if (!code && b->meter.ledger)
		code = pf_bench_meter_run(&b->meter, backend, w, state, stop, &row->joules, error);
	return code;
}

static int measure(struct bench *b, const struct pf_bench_work *w, const struct pf_bench_shape *s, const char *spec,
                   struct pf_device *device, struct pf_error *error)
{
	const struct pf_bench_task task = { device, *s, b->threads, b->run.options->card_memory };
	struct pf_bench_row *row = add_row(b, w, s, spec);
	void *state = NULL;
	if (!row)
		return pf_fail(error, -ENOMEM, "no memory for the rows");
	snprintf(row->variant, sizeof row->variant, "%s", pf_device_facts(device)->variant);
	row->threads = b->threads;
	int code = w->open(&task, &state, error);
	if (!code)
		code = measure_open(b, w, state, pf_device_facts(device)->backend, row, error);
	w->close(state);
	if (code)
		return pf_fail_in(error, "%s %s on %s, T %u, V %u, D %u", row->work, row->type, spec, s->tokens,
		                  s->vocab, s->dim),
		       code;
	b->run.count++;
	return 0;
}

static int model(struct bench *b, const struct pf_bench_work *w, const struct pf_bench_shape *s, const char *device,
                 struct pf_error *error)
{
	struct pf_bench_row *row = add_row(b, w, s, device);
	struct pf_bench_modelled m;
	char card[32];
	uint32_t cus;
	int code = row ? parse_card(device, card, &cus, error) : pf_fail(error, -ENOMEM, "no memory for the rows");
	if (!code)
		code = pf_bench_model(w, s, card, cus, b->reports, &m, error);
	if (code)
		return code;
	if (m.reported > 0)
		snprintf(row->variant, sizeof row->variant, "modelled, %.0f %% of the cycles by reports",
		         100 * m.reported);
	else
		snprintf(row->variant, sizeof row->variant, "modelled, uncalibrated");
	row->modelled_s = m.seconds;
	row->modelled_line_s = m.line_s;
	row->modelled_joule = m.joule.value;
	row->modelled_low = m.joule.low;
	row->modelled_high = m.joule.high;
	b->run.count++;
	return 0;
}

static void show_last(struct bench *b)
{
	if (strcmp(b->run.options->format, "text") != 0)
		return;
	if (b->progress.terminal)
		pf_progress_finish(&b->progress, b->done, "");
	pf_bench_show(&b->run, b->run.count - 1);
}

static int bench_device(struct bench *b, const char *spec, struct pf_error *error)
{
	const struct pf_options *o = b->run.options;
	uint64_t kernels = 0;
	for (unsigned k = 0; k < b->works; k++)
		kernels |= pf_kernel_set(b->work[k]->kernels);
	const struct pf_device_options options = { .threads = b->threads,
		                                   .kernels = kernels,
		                                   .image = o->image,
		                                   .watchdog_ms = pf_option_milliseconds(o->timeout) };
	struct pf_device *device = NULL;
	int code = is_modelled(spec) ? 0 : pf_device_open(spec, &options, &device, error);
	for (unsigned i = 0; !code && i < b->shapes; i++)
		for (unsigned k = 0; !code && k < b->works; k++) {
			if (!suits(b, b->work[k], &b->shape[i], spec))
				continue;
			code = device ? measure(b, b->work[k], &b->shape[i], spec, device, error)
			              : model(b, b->work[k], &b->shape[i], spec, error);
			if (code == PF_E_UNSUPPORTED) { /* an image need not have every kernel */
				pf_cli_note(b->run.options, "left out: %s", error->text);
				code = 0;
				continue;
			}
			if (!code)
				show_last(b);
		}
	pf_device_close(device);
	return code;
}

/* ---- all of it ---- */
static uint64_t count_samples(const struct bench *b)
{
	uint64_t samples = 0;
	for (unsigned d = 0; d < b->devices; d++)
		for (unsigned i = 0; i < b->shapes; i++)
			for (unsigned k = 0; k < b->works; k++)
				if (!is_modelled(b->device[d]) && suits(b, b->work[k], &b->shape[i], b->device[d]))
					samples += (uint64_t)b->run.options->repeats;
	return samples;
}

static int open_yardstick(struct bench *b, struct pf_error *error)
{
	double bytes = 0;
	for (unsigned i = 0; i < b->shapes; i++)
		for (unsigned k = 0; k < b->works; k++)
			bytes = fmax(bytes, b->work[k]->limit == PF_BENCH_COPY ? b->work[k]->amount(&b->shape[i]) : 0);
	const uint64_t size = bytes < (double)COPY_LEAST  ? COPY_LEAST
	                      : bytes > (double)COPY_MOST ? COPY_MOST
	                                                  : (uint64_t)bytes;
	return pf_yardstick_open(b->threads, size, &b->yardstick, error);
}

/* Without a sensor there are no joules, and it is said why */
static int open_meter(struct bench *b, struct pf_error *error)
{
	struct pf_error why;
	size_t sensors;
	if (pf_cli_sensors(b->run.options, &b->sensors, &sensors, &why) != 0) {
		snprintf(b->run.refused, sizeof b->run.refused, "%s", why.text);
		pf_cli_note(b->run.options, "energy is not measured: %s", why.text);
		return 0;
	}
	return pf_bench_meter_open(&b->meter, b->sensors, sensors, pf_setup_stop(), error);
}

static int compare(struct bench *b, struct pf_error *error)
{
	struct pf_bench_run *r = &b->run;
	unsigned count = 0;
	r->compared = calloc(r->count + 1, sizeof *r->compared);
	if (!r->compared)
		return pf_fail(error, -ENOMEM, "no memory for the comparison");
	for (size_t i = 0; i < r->count; i++) {
		const struct pf_bench_row *before = pf_bench_same(r->before, r->befores, &r->rows[i]);
		if (before && r->rows[i].times.repeats)
			r->compared[count++] = pf_bench_compare(before, &r->rows[i]);
	}
	pf_compare_holm(r->compared, count);
	return 0;
}

static int open_all(struct bench *b, struct pf_error *error)
{
	const struct pf_options *o = b->run.options;
	int code = parse_lists(b, error);
	for (unsigned d = 0; !code && d < b->devices; d++) {
		char card[32];
		uint32_t cus;
		if (is_modelled(b->device[d]))
			code = parse_card(b->device[d], card, &cus, error);
	}
	if (!code)
		code = pf_output_check(o->bench_csv, error);
	if (!code && o->against)
		code = pf_bench_read(o->against, &b->run.before, &b->run.befores, error);
	if (!code && o->reports)
		code = pf_reports_open(o->reports, &b->reports, error);
	if (!code)
		code = check_memory(b, error);
	if (code || !count_samples(b))
		return code;
	code = open_yardstick(b, error);
	return code ? code : open_meter(b, error);
}

static void close_all(struct bench *b)
{
	pf_yardstick_close(b->yardstick);
	pf_reports_close(b->reports);
	if (b->meter.ledger)
		pf_bench_meter_close(&b->meter);
	free(b->sensors);
	free(b->lists);
	free(b->run.rows);
	free(b->run.before);
	free(b->run.compared);
}

int pf_verb_bench(const struct pf_options *options)
{
	struct bench b = { .run.options = options, .threads = pf_threads((unsigned)options->threads) };
	struct pf_error error = { 0 };
	unsigned slower = 0;
	pf_cli_machine(b.run.machine, sizeof b.run.machine);
	pf_setup_stop();
	int code = open_all(&b, &error);
	if (!code)
		pf_progress_start(&b.progress, stderr, "bench", 0, count_samples(&b));
	for (unsigned d = 0; !code && d < b.devices; d++)
		code = bench_device(&b, b.device[d], &error);
	if (!code && !b.run.count)
		code = pf_fail(&error, PF_E_ARGUMENT,
		               "nothing to do: these works need a width in their shapes (T,V,D), or a "
		               "device that is not modelled");
	if (!code && options->against)
		code = compare(&b, &error);
	if (!code)
		code = pf_bench_save(&b.run, &error);
	else if (b.run.count && options->bench_csv && !pf_bench_save(&b.run, NULL))
		pf_cli_note(options, "%s: the %zu rows that were measured before that", options->bench_csv,
		            b.run.count);
	if (!code && strcmp(options->format, "json") == 0)
		pf_bench_print_json(&b.run);
	if (!code && options->against)
		slower = pf_bench_show_compared(&b.run);
	close_all(&b);
	if (code)
		return pf_setup_exit(options, &error);
	return slower && options->fail_slower ? PF_EXIT_FAILED : PF_EXIT_OK;
}
