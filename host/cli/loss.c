/* Verbs `losses` (what there is) and `loss` (values and gradients of cases from stdin) */
#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "cli.h"
#include "loss_case.h"
#include "loss_curve.h"
#include "output.h"

enum { CASES_MOST = 16384, ITEMS_MOST = 65536, READ_BYTES = 1 << 16 };

/* ---- losses ---- */

static json_t *json_limit(double value)
{
	return isfinite(value) ? json_real(value) : json_null();
}

/* A name in test vectors that differs from the parameter's own */
static const char *vectors_name(const struct pf_loss_param *param)
{
	return *param->oracle && strcmp(param->oracle, "!") != 0 ? param->oracle : NULL;
}

static json_t *json_param(const struct pf_loss_param *param)
{
	return json_pack("{ss, ss, so, so, so, sb, sb, ss}", "name", param->name, "oracle",
	                 vectors_name(param) ? vectors_name(param) : param->name, "default", json_limit(param->value),
	                 "low", json_limit(param->low), "high", json_limit(param->high), "low_open",
	                 param->low_open, "high_open", param->high_open, "text", param->text);
}

static json_t *json_words(const char *words)
{
	json_t *list = json_array();

	for (size_t length; (length = strcspn(words += strspn(words, " "), " ")) > 0;
	     words += length)
		json_array_append_new(list, json_stringn(words, length));
	return list;
}

/* What of a loss is per what */
static const char *level_name(const struct pf_loss_row *row)
{
	static const char *const names[2][2] = { { "group", "item" }, { "sequence", "token" } };

	return names[row->per_token][row->per_item];
}

static int is_coupled(const struct pf_loss_row *row)
{
	struct pf_loss loss;

	return pf_loss_parse(row->name, &loss, NULL) == 0 && pf_loss_coupled(&loss);
}

/* At other groups' items, or at z0 or delta, which come from them */
static int looks_around(const struct pf_loss_row *row)
{
	struct pf_loss loss;

	return is_coupled(row) || (pf_loss_parse(row->name, &loss, NULL) == 0 &&
	                           (pf_loss_uses(&loss, PF_LOSS_Z0) || pf_loss_uses(&loss, PF_LOSS_DELTA)));
}

static const char *computed_by(const struct pf_loss_row *row)
{
	if (is_coupled(row))
		return "kernel pref; steps of more than 8192 sequences by the host, in its bits";
	if (row->reference == PF_LOSS_REF_TAIL)
		return "kernel pref; sums with ld_alpha by the host, their gradient by kernel coef";
	if (row->reference == PF_LOSS_REF_OWN)
		return "kernel pref; weights by the host from kernel seq_sum";
	return row->form == PF_FORM_ROLLOUT
	               ? "kernel pref; advantages, and completions of more than 8192 tokens, by the host"
	               : "kernel pref";
}

static json_t *json_loss(const struct pf_loss_row *row)
{
	json_t *params = json_array();

	for (unsigned i = 0; i < row->params; i++)
		json_array_append_new(params, json_param(&row->param[i]));
	return json_pack("{ss, so, ss, ss, ss, sb, ss, sb, ss, so, ss, ss}", "name", row->name,
	                 "aliases", json_words(row->aliases), "title", row->title, "source",
	                 row->source, "form", pf_loss_form_name(row->form), "reference",
	                 row->reference != PF_LOSS_FREE, "per", level_name(row), "looks_at_step", looks_around(row),
	                 "computed_by", computed_by(row), "parameters", params, "value", row->value,
	                 "gradient", row->grad);
}

/* Rows in order: the named ones, or all */
static const struct pf_loss_row *next_row(const struct pf_options *options, unsigned i)
{
	if (options->arguments == 0)
		return pf_loss_row(i);
	return i < (unsigned)options->arguments ? pf_loss_find(options->argument[i]) : NULL;
}

static int print_json(const struct pf_options *options)
{
	json_t *list = json_array();
	const struct pf_loss_row *row;

	for (unsigned i = 0; (row = next_row(options, i)) != NULL; i++)
		json_array_append_new(list, json_loss(row));
	json_dumpf(list, stdout, JSON_INDENT(1) | JSON_REAL_PRECISION(17));
	putchar('\n');
	json_decref(list);
	return PF_EXIT_OK;
}

static void print_param(const struct pf_loss_param *param)
{
	printf("    %s = %g in %c%g, %g%c: %s%s%s%s\n", param->name, param->value,
	       param->low_open ? '(' : '[', param->low, param->high, param->high_open ? ')' : ']',
	       param->text, vectors_name(param) ? " (in test vectors: " : "",
	       vectors_name(param) ? vectors_name(param) : "", vectors_name(param) ? ")" : "");
}

/* Other names of a loss, but for those that it has in our test vectors (oracle:...) */
static void print_aliases(const char *aliases)
{
	const char *intro = "    also:";
	for (size_t length; *aliases; aliases += length) {
		aliases += strspn(aliases, " ");
		length = strcspn(aliases, " ");
		if (!length || strncmp(aliases, "oracle:", 7) == 0)
			continue;
		printf("%s %.*s", intro, (int)length, aliases);
		intro = "";
	}
	if (!*intro)
		putchar('\n');
}

static void print_row(const struct pf_loss_row *row)
{
	static const char *const wants[] = {
		[PF_LOSS_FREE] = "-", [PF_LOSS_REF] = "reference", [PF_LOSS_REF_BETA] = "(reference)",
		[PF_LOSS_REF_REWARD] = "(reference)",
		[PF_LOSS_REF_FIXED] = "reference", [PF_LOSS_REF_OWN] = "reference", [PF_LOSS_REF_TAIL] = "reference",
	};

	printf("%-22s %-7s %-11s %s, per %s\n", row->name, pf_loss_form_name(row->form), wants[row->reference],
	       computed_by(row), level_name(row));
	printf("    %s. %s\n", row->title, row->source);
	print_aliases(row->aliases);
	if (looks_around(row))
		printf("    looks at the whole step; with --coupled micro, as TRL under accumulation, at each batch\n");
	for (unsigned i = 0; i < row->params; i++)
		print_param(&row->param[i]);
}

static void print_modifier(unsigned i)
{
	if (i != PF_LOSS_DIVERGENCE) {
		print_param(pf_loss_modifier(i));
		return;
	}
	printf("    %s = %s", pf_loss_modifier(i)->name, pf_loss_divergence_name(0));
	for (unsigned d = 1; pf_loss_divergence_name(d); d++)
		printf("%s%s", d > 1 ? ", " : ", or ", pf_loss_divergence_name(d));
	printf(": %s\n", pf_loss_modifier(i)->text);
}

int pf_verb_losses(const struct pf_options *options)
{
	const struct pf_loss_row *row;
	struct pf_error error = { 0 };
	struct pf_loss loss;

	for (int i = 0; i < options->arguments; i++)
		if (!pf_loss_find(options->argument[i]))
			return pf_cli_usage(options, "%s", pf_loss_parse(options->argument[i], &loss, &error)
			                                           ? error.text
			                                           : "give names alone, without parameters");
	if (strcmp(options->format, "json") == 0)
		return print_json(options);
	printf("%-22s %-7s %-11s %s\n", "NAME", "DATA", "NEEDS", "COMPUTED BY");
	for (unsigned i = 0; (row = next_row(options, i)) != NULL; i++)
		print_row(row);
	printf("Losses of pairs also take, as keys like parameters (TRL's modifiers of any loss_type):\n");
	for (unsigned i = 0; pf_loss_modifier(i); i++)
		print_modifier(i);
	printf("Use: --loss NAME[:key=value,...]; mixtures: NAME[:weight=0.8,...]+NAME...\n");
	return PF_EXIT_OK;
}

/* ---- loss: lines in ---- */

/* Lines of a file descriptor. `ready` tells whether the next one can be had without waiting */
struct lines {
	int    fd, ended;
	char  *text;
	size_t begin, end, room, number;
};

/* Makes room for READ_BYTES behind the unread text */
static int lines_room(struct lines *l)
{
	char *larger;

	if (l->begin > 0)
		memmove(l->text, l->text + l->begin, l->end - l->begin);
	l->end -= l->begin;
	l->begin = 0;
	if (l->room - l->end >= READ_BYTES)
		return 0;
	larger = realloc(l->text, 2 * l->room + READ_BYTES);
	if (!larger)
		return -ENOMEM;
	l->text = larger;
	l->room = 2 * l->room + READ_BYTES;
	return 0;
}

static int lines_read(struct lines *l)
{
	ssize_t got;
	int status = lines_room(l);

	if (status)
		return status;
	do
		got = read(l->fd, l->text + l->end, READ_BYTES);
	while (got < 0 && errno == EINTR);
	if (got < 0)
		return -errno;
	l->ended = got == 0;
	l->end += (size_t)got;
	return 0;
}

static int lines_ready(const struct lines *l)
{
	struct pollfd wait = { .fd = l->fd, .events = POLLIN };

	return memchr(l->text + l->begin, '\n', l->end - l->begin) || l->ended ||
	       poll(&wait, 1, 0) > 0;
}

/* 1: the next line, without its end, in line[length]; 0: no more; negative: an error */
static int lines_next(struct lines *l, const char **line, size_t *length)
{
	const char *newline;
	size_t searched = 0;

	for (;;) {
		int status;
		newline = memchr(l->text + l->begin + searched, '\n', l->end - l->begin - searched);
		if (newline || l->ended)
			break;
		searched = l->end - l->begin;
		status = lines_read(l);
		if (status)
			return status;
	}
	*line = l->text + l->begin;
	*length = newline ? (size_t)(newline - *line) : l->end - l->begin;
	l->begin += *length + (newline != NULL);
	l->number++;
	return newline || *length > 0;
}

/* ---- loss: results out ---- */

/* Evaluates and prints what has gathered. A case without a finite value stops there */
static int flush_cases(struct pf_cases *cases, struct pf_device *device, struct pf_error *error)
{
	int status = pf_cases_evaluate(cases, device, error);

	for (size_t i = 0; i < cases->count && !status; i++) {
		status = pf_cases_print(cases, i, stdout, error);
		if (status)
			pf_fail_in(error, "line %zu", cases->list[i].line);
	}
	pf_cases_clear(cases);
	if (!status && fflush(stdout))
		return pf_fail(error, -errno, "standard output: %s", strerror(errno));
	return status;
}

static int is_blank(const char *line, size_t length)
{
	size_t i = 0;

	while (i < length && memchr(" \t\r", line[i], 3))
		i++;
	return i == length;
}

/* Cases before a broken line are still answered */
static int run_lines(struct lines *lines, struct pf_cases *cases, struct pf_device *device,
                     struct pf_error *error)
{
	const char *line = NULL;
	size_t length = 0;
	int got = 0, status = 0;

	while (!status && (got = lines_next(lines, &line, &length)) > 0) {
		struct pf_error broken = { 0 };
		int added = is_blank(line, length)
		                    ? 0
		                    : pf_cases_add(cases, line, length, lines->number, &broken);
		if (added || cases->count >= CASES_MOST || cases->items >= ITEMS_MOST ||
		    !lines_ready(lines))
			status = flush_cases(cases, device, error);
		if (added && !status)
			return pf_fail(error, added, "line %zu: %s", lines->number, broken.text);
	}
	if (got < 0)
		return pf_fail(error, got, "standard input: %s", pf_error_text(got));
	return status ? status : flush_cases(cases, device, error);
}

static int run_cases(const struct pf_loss *loss, struct pf_device *device, struct pf_error *error)
{
	struct lines lines = { .fd = STDIN_FILENO };
	struct pf_cases cases;
	int status = pf_cases_init(&cases, loss, error);

	if (!status)
		status = lines_room(&lines) ? pf_fail(error, -ENOMEM, "no memory for a line") : 0;
	if (!status)
		status = run_lines(&lines, &cases, device, error);
	pf_cases_free(&cases);
	free(lines.text);
	return status;
}

/* ---- loss plot ---- */

static int plot(const struct pf_options *options, const struct pf_loss *loss, struct pf_device *device,
                struct pf_error *error)
{
	struct pf_curves curves;
	struct pf_output out;
	int status;

	snprintf(curves.title, sizeof curves.title, "%s", options->argument[1]);
	status = pf_curves_find(loss, options->plot_range, device, &curves, error);
	if (status)
		return status;
	pf_curves_text(&curves, stdout);
	if (!options->svg)
		return 0;
	status = pf_output_open(&out, options->svg, error);
	if (status)
		return status;
	pf_curves_svg(&curves, out.stream);
	return pf_output_close(&out, error);
}

int pf_verb_loss(const struct pf_options *options)
{
	const int plots = options->arguments == 2 && strcmp(options->argument[0], "plot") == 0;
	const struct pf_device_options wanted = {
		.image = options->image,
		.kernels = pf_kernel_set("pref"),
		.threads = (uint32_t)options->threads,
		.watchdog_ms = pf_option_milliseconds(options->timeout),
	};
	struct pf_error error = { 0 };
	struct pf_device *device;
	struct pf_loss loss;
	int status;

	if (options->arguments == 2 && !plots)
		return pf_cli_usage(options, "\"%s\" is not known; there is `loss NAME` and `loss plot NAME`",
		                    options->argument[0]);
	if (pf_loss_parse(options->argument[plots], &loss, &error))
		return pf_cli_usage(options, "%s", error.text);
	if (pf_device_open(options->device, &wanted, &device, &error))
		return pf_cli_fail(options, &error);
	status = plots ? plot(options, &loss, device, &error) : run_cases(&loss, device, &error);
	pf_device_close(device);
	return status ? pf_cli_fail(options, &error) : PF_EXIT_OK;
}
