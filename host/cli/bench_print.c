#include "bench.h"
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "host/model/parallel.h"
#include "output.h"

void pf_cli_machine(char *text, size_t room)
{
	char line[256], model[128] = "unknown processor";
	FILE *file = fopen("/proc/cpuinfo", "re");
	while (file && fgets(line, sizeof line, file)) {
		const char *colon = strchr(line, ':');
		if (strncmp(line, "model name", 10) != 0 || !colon)
			continue;
		snprintf(model, sizeof model, "%.*s", (int)strcspn(colon + 2, ",\"\n"), colon + 2);
		break;
	}
	if (file)
		fclose(file);
	snprintf(text, room, "%s, %u processors", model, pf_threads(0));
}

/* ---- text ---- */
static void show_measured(const struct pf_bench_row *row)
{
	const struct pf_bench_times *t = &row->times;
	const double median = pf_compare_quantile(t->second, t->repeats, 0.5);
	printf("  median %.4g s [quartiles %.4g, %.4g], %.3g of %s's rate, %.4g tokens/s", median,
	       pf_compare_quantile(t->second, t->repeats, 0.25), pf_compare_quantile(t->second, t->repeats, 0.75),
	       pf_bench_part(row), row->limit, row->shape.tokens / median);
	if (row->pairs > 0)
		printf(", %.4g pairs/s", row->pairs / median);
	if (row->joules.scope) {
		printf(", %.3g J/token (%s; idle %.3g of it)", row->joules.joule / row->shape.tokens, row->joules.scope,
		       row->joules.idle / row->shape.tokens);
		if (row->pairs > 0)
			printf(", %.3g J/pair", row->joules.joule / row->pairs);
	}
	putchar('\n');
}

void pf_bench_show(const struct pf_bench_run *run, size_t i)
{
	const struct pf_bench_row *row = &run->rows[i];
	const struct pf_bench_shape *s = &row->shape;
	printf("%s %s on %s, T %u, V %u", row->work, row->type, row->device, s->tokens, s->vocab);
	if (s->dim)
		printf(", D %u", s->dim);
	if (strcmp(row->work, "step") == 0)
		printf(", %u layers", s->layers);
	putchar('\n');
	if (row->times.repeats)
		show_measured(row);
	if (isfinite(row->modelled_s))
		printf("  %s: %.4g s, %.3g of the port's line rate, %.4g tokens/s", row->variant, row->modelled_s,
		       row->modelled_line_s / row->modelled_s, s->tokens / row->modelled_s);
	if (isfinite(row->modelled_joule))
		printf(", %.3g J/token [%.3g, %.3g]", row->modelled_joule / s->tokens, row->modelled_low / s->tokens,
		       row->modelled_high / s->tokens);
	if (isfinite(row->modelled_s))
		putchar('\n');
	fflush(stdout);
}

static const char *verdict(const struct pf_comparison *c)
{
	return c->verdict > 0 ? "slower" : c->verdict < 0 ? "faster" : "no difference that counts";
}

/* Yardsticks differ between machines too, so that a difference says little of the program */
static void note_machine(const struct pf_bench_run *run, const struct pf_bench_row *before)
{
	if (before->machine[0] && strcmp(before->machine, run->machine) != 0)
		pf_cli_note(run->options, "%s is of another machine (%s, this is %s): each beside its own yardstick, a "
		            "difference is the machines' as well as the program's", run->options->against,
		            before->machine, run->machine);
}

unsigned pf_bench_show_compared(const struct pf_bench_run *run)
{
	const int text = strcmp(run->options->format, "text") == 0;
	unsigned slower = 0, k = 0;
	for (size_t i = 0; i < run->count; i++) {
		const struct pf_bench_row *row = &run->rows[i];
		const struct pf_bench_row *before = pf_bench_same(run->before, run->befores, row);
		if (!row->times.repeats || !before)
			continue;
		if (k == 0)
			note_machine(run, before);
		const struct pf_comparison *c = &run->compared[k++];
		slower += c->verdict > 0;
		if (text)
			printf("against %s: %s %s on %s, T %u, V %u, D %u: %+.1f %% beside its yardstick, p %.2g (Holm "
			       "%.2g): %s\n",
			       run->options->against, row->work, row->type, row->device, row->shape.tokens,
			       row->shape.vocab, row->shape.dim, 100 * c->change, c->p, c->adjusted, verdict(c));
	}
	if (k == 0)
		pf_cli_note(run->options, "%s has no row of the same work, device, shape and threads",
		            run->options->against);
	return slower;
}

/* ---- JSON ---- */
static json_t *number(double value)
{
	return isfinite(value) ? json_real(value) : json_null();
}

static json_t *numbers(const double *value, unsigned count)
{
	json_t *list = json_array();
	for (unsigned i = 0; i < count; i++)
		json_array_append_new(list, json_real(value[i]));
	return list;
}

static json_t *measured_json(const struct pf_bench_row *row)
{
	const struct pf_bench_times *t = &row->times;
	const double median = pf_compare_quantile(t->second, t->repeats, 0.5);
	if (!t->repeats)
		return json_null();
	return json_pack("{so so so ss so so so so so so}", "median_s", number(median), "q25_s",
	                 number(pf_compare_quantile(t->second, t->repeats, 0.25)), "q75_s",
	                 number(pf_compare_quantile(t->second, t->repeats, 0.75)), "limit", row->limit, "limit_per_s",
	                 number(row->amount / pf_compare_quantile(t->limit, t->repeats, 0.5)), "part_of_limit",
	                 number(pf_bench_part(row)), "tokens_per_s", number(row->shape.tokens / median), "pairs_per_s",
	                 number(row->pairs > 0 ? row->pairs / median : NAN), "samples_s",
	                 numbers(t->second, t->repeats), "limits_s", numbers(t->limit, t->repeats));
}

static json_t *energy_json(const struct pf_bench_run *run, const struct pf_bench_row *row)
{
	const struct pf_bench_joules *j = &row->joules;
	const double tokens = row->shape.tokens;
	if (!j->scope)
		return json_pack("{ss}", "refused", row->times.repeats ? run->refused : "nothing was run");
	return json_pack("{ss ss so so so so so}", "kind", "measured", "scope", j->scope, "joule_per_token",
	                 number(j->joule / tokens), "low", number(j->low / tokens), "high", number(j->high / tokens),
	                 "idle_joule_per_token", number(j->idle / tokens), "joule_per_pair",
	                 number(row->pairs > 0 ? j->joule / row->pairs : NAN));
}

static json_t *modelled_json(const struct pf_bench_row *row)
{
	const double tokens = row->shape.tokens;
	if (!isfinite(row->modelled_s))
		return json_null();
	return json_pack("{ss so so so so so so}", "kind", row->variant, "seconds", number(row->modelled_s),
	                 "part_of_line_rate", number(row->modelled_line_s / row->modelled_s), "tokens_per_s",
	                 number(tokens / row->modelled_s), "joule_per_token", number(row->modelled_joule / tokens),
	                 "joule_per_token_low", number(row->modelled_low / tokens), "joule_per_token_high",
	                 number(row->modelled_high / tokens));
}

static json_t *compared_json(const struct pf_bench_run *run, const struct pf_bench_row *row, unsigned *k)
{
	if (!row->times.repeats || !pf_bench_same(run->before, run->befores, row))
		return json_null();
	const struct pf_comparison *c = &run->compared[(*k)++];
	return json_pack("{sf sf sf ss}", "change", c->change, "p", c->p, "p_holm", c->adjusted, "verdict", verdict(c));
}

void pf_bench_print_json(const struct pf_bench_run *run)
{
	json_t *rows = json_array();
	unsigned k = 0;
	for (size_t i = 0; i < run->count; i++) {
		const struct pf_bench_row *row = &run->rows[i];
		const struct pf_bench_shape *s = &row->shape;
		json_array_append_new(rows,
		                      json_pack("{ss ss ss ss si si si si si so so so so}", "work", row->work, "type",
		                                row->type, "device", row->device, "variant", row->variant, "tokens",
		                                (int)s->tokens, "vocabulary", (int)s->vocab, "dim", (int)s->dim,
		                                "layers", (int)s->layers, "threads", (int)row->threads, "measured",
		                                measured_json(row), "energy", energy_json(run, row), "modelled",
		                                modelled_json(row), "against", compared_json(run, row, &k)));
	}
	json_t *all = json_pack("{ss ss so}", "machine", run->machine, "version", PREFPGA_VERSION, "rows", rows);
	json_dumpf(all, stdout, JSON_INDENT(1) | JSON_REAL_PRECISION(7));
	putchar('\n');
	json_decref(all);
}

/* ---- CSV ---- */
int pf_bench_save(const struct pf_bench_run *run, struct pf_error *error)
{
	const char *path = run->options->bench_csv;
	char tail[320], day[16];
	const time_t now = time(NULL);
	struct tm parts;
	struct pf_output out;
	if (!path)
		return 0;
	int code = pf_output_open(&out, path, error);
	if (code)
		return code;
	strftime(day, sizeof day, "%Y-%m-%d", gmtime_r(&now, &parts));
	snprintf(tail, sizeof tail, ",\"%s\",%s,%s", run->machine, PREFPGA_VERSION, day);
	pf_bench_write_head(out.stream, ",machine,version,date");
	for (size_t i = 0; i < run->count; i++)
		pf_bench_write_row(out.stream, &run->rows[i], tail);
	return pf_output_close(&out, error);
}
