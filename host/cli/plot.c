/* Verb plot: what runs have logged, over their steps, as a drawing and in short. */
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include "cli.h"
#include "host/report/panels.h"
#include "host/report/run_log.h"
#include "output.h"

enum { PATH_BYTES = 4096 };

struct plot {
	const struct pf_options *options;
	char *what;                            /* --what, cut into key[] */
	const char *key[PF_LOG_KEYS];
	unsigned keys, runs;
	struct pf_run_log log[PF_PANELS_RUNS];
};

static int parse_keys(struct plot *p, struct pf_error *error)
{
	p->what = strdup(p->options->plot_what);
	if (!p->what)
		return pf_fail(error, PF_E_ARGUMENT, "no memory for --what");
	char *rest = p->what;
	for (char *word; (word = strsep(&rest, ","));) {
		if (!*word)
			continue;
		if (p->keys == PF_LOG_KEYS)
			return pf_fail(error, PF_E_ARGUMENT, "--what: at most %d figures in one drawing", PF_LOG_KEYS);
		p->key[p->keys++] = word;
	}
	return p->keys ? 0 : pf_fail(error, PF_E_ARGUMENT, "--what names nothing");
}

static int read_run(struct plot *p, unsigned run, struct pf_error *error)
{
	const char *given = p->options->argument[run];
	char path[PATH_BYTES];
	struct stat facts;
	const int folder = stat(given, &facts) == 0 && S_ISDIR(facts.st_mode);
	if ((size_t)snprintf(path, sizeof path, "%s%s", given, folder ? "/metrics.jsonl" : "") >= sizeof path)
		return pf_fail(error, PF_E_ARGUMENT, "%.64s...: the name is too long", given);
	p->runs = run + 1;
	return pf_run_log_read(path, p->key, p->keys, &p->log[run], error);
}

static int has(const struct plot *p, unsigned key)
{
	for (unsigned r = 0; r < p->runs; r++)
		for (size_t i = 0; i < p->log[r].steps; i++)
			if (isfinite(p->log[r].value[key][i]))
				return 1;
	return 0;
}

/* A figure that was asked for by name must be there; of the usual ones those that are. shown[]: their numbers */
static int choose(const struct plot *p, unsigned shown[PF_LOG_KEYS], unsigned *count, struct pf_error *error)
{
	char known[PF_LOG_SEEN * PF_LOG_NAME] = "";
	*count = 0;
	for (unsigned k = 0; k < p->keys; k++) {
		if (has(p, k)) {
			shown[(*count)++] = k;
		} else if (p->options->source[PF_OPTION_plot_what] != PF_FROM_DEFAULT) {
			for (unsigned n = 0; n < p->log[0].names; n++)
				snprintf(known + strlen(known), sizeof known - strlen(known), "%s%s", n ? ", " : "",
				         p->log[0].seen[n]);
			return pf_fail(error, PF_E_UNKNOWN, "--what: no run has \"%s\"; the first has %s", p->key[k],
			               known);
		}
	}
	return *count ? 0 : pf_fail(error, PF_E_DATA, "the runs have none of %s; say which figures with --what",
	                            p->options->plot_what);
}

static int draw(const struct plot *p, const unsigned *shown, unsigned count, struct pf_error *error)
{
	struct pf_panels panels = { .panels = count, .runs = p->runs, .across = "step" };
	struct pf_output out;
	for (unsigned r = 0; r < p->runs; r++)
		panels.run[r] = p->options->argument[r];
	for (unsigned k = 0; k < count; k++) {
		panels.title[k] = p->key[shown[k]];
		for (unsigned r = 0; r < p->runs; r++)
			panels.series[k][r] = (struct pf_series){ p->log[r].step, p->log[r].value[shown[k]],
				                                  p->log[r].steps };
	}
	int code = pf_output_open(&out, p->options->plot_svg, error);
	if (code)
		return code;
	pf_panels_svg(&panels, out.stream);
	return pf_output_close(&out, error);
}

/* ---- in short ---- */
struct reach { double first, last, least, most; size_t points; };

static struct reach reach_of(const struct pf_run_log *log, unsigned key)
{
	struct reach s = { NAN, NAN, INFINITY, -INFINITY, 0 };
	for (size_t i = 0; i < log->steps; i++) {
		const double y = log->value[key][i];
		if (!isfinite(y))
			continue;
		s.first = s.points++ ? s.first : y;
		s.last = y;
		s.least = fmin(s.least, y);
		s.most = fmax(s.most, y);
	}
	return s;
}

static void print_text(const struct plot *p, const unsigned *shown, unsigned count)
{
	for (unsigned r = 0; r < p->runs; r++) {
		printf("%s: %zu steps, to step %.0f\n", p->options->argument[r], p->log[r].steps,
		       p->log[r].step[p->log[r].steps - 1]);
		for (unsigned k = 0; k < count; k++) {
			const struct reach s = reach_of(&p->log[r], shown[k]);
			if (s.points)
				printf("  %-22s first %.4g, last %.4g, least %.4g, most %.4g\n", p->key[shown[k]],
				       s.first, s.last, s.least, s.most);
		}
	}
}

static void print_json(const struct plot *p, const unsigned *shown, unsigned count)
{
	json_t *runs = json_array();
	for (unsigned r = 0; r < p->runs; r++) {
		json_t *figures = json_object();
		for (unsigned k = 0; k < count; k++) {
			const struct reach s = reach_of(&p->log[r], shown[k]);
			if (!s.points)
				continue;
			json_t *figure = json_pack("{sf sf sf sf}", "first", s.first, "last", s.last, "least", s.least,
			                           "most", s.most);
			json_object_set_new(figures, p->key[shown[k]], figure);
		}
		json_array_append_new(runs, json_pack("{ss sI so}", "run", p->options->argument[r], "steps",
		                                      (json_int_t)p->log[r].steps, "figures", figures));
	}
	json_t *all = json_pack("{ss so}", "svg", p->options->plot_svg, "runs", runs);
	json_dumpf(all, stdout, JSON_INDENT(1) | JSON_REAL_PRECISION(9));
	putchar('\n');
	json_decref(all);
}

int pf_verb_plot(const struct pf_options *o)
{
	struct plot *p = calloc(1, sizeof *p);
	struct pf_error error = { 0 };
	unsigned shown[PF_LOG_KEYS], count = 0;
	if (!p || !o->plot_svg) {
		free(p);
		return p ? pf_cli_usage(o, "--svg is missing: the file to draw into") : PF_EXIT_FAILED;
	}
	p->options = o;
	int code = pf_output_check(o->plot_svg, &error);
	if (!code)
		code = parse_keys(p, &error);
	for (unsigned r = 0; !code && r < (unsigned)o->arguments; r++)
		code = read_run(p, r, &error);
	if (!code)
		code = choose(p, shown, &count, &error);
	if (!code)
		code = draw(p, shown, count, &error);
	if (!code)
		(strcmp(o->format, "json") == 0 ? print_json : print_text)(p, shown, count);
	for (unsigned r = 0; r < p->runs; r++)
		pf_run_log_close(&p->log[r]);
	free(p->what);
	free(p);
	return code ? pf_cli_fail(o, &error) : PF_EXIT_OK;
}
