#include "config_inside.h"
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "prefpga/internal/nearest.h"

int pf_config_file_read(const char *path, char **text, struct pf_error *error)
{
	FILE *file = fopen(path, "rb");
	size_t length;

	*text = NULL;
	if (!file)
		return pf_fail(error, -errno, "config file %s: %s", path, strerror(errno));
	*text = malloc(PF_MAPPING_BYTES_MAX + 1);
	errno = 0;
	length = *text ? fread(*text, 1, PF_MAPPING_BYTES_MAX + 1, file) : 0;
	const int failed = ferror(file) ? errno : 0;           /* of a folder too */
	fclose(file);
	if (!*text)
		return pf_fail(error, -ENOMEM, "config file %s: out of memory", path);
	if (failed)
		return pf_fail(error, -failed, "config file %s: %s", path, strerror(failed));
	if (length > PF_MAPPING_BYTES_MAX)
		return pf_fail(error, PF_E_FORMAT, "config file %s: larger than 1 MiB; is it really one?", path);
	(*text)[length] = 0;
	if (strlen(*text) != length)
		return pf_fail(error, PF_E_FORMAT, "config file %s: holds a NUL byte; is it really text?", path);
	return 0;
}

/* ---- verdicts ---- */

struct pf_config_verdict *pf_config_judged(struct pf_config_state *s, size_t i, enum pf_config_fate fate,
                                           const char *text)
{
	struct pf_config_verdict *v = &s->config->verdict[i];

	v->fate = fate;
	snprintf(v->text, sizeof v->text, "%s", text);
	return v;
}

void pf_config_wrong(struct pf_config_state *s, size_t i, const char *format, ...)
{
	char text[320];
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(text, sizeof text, format, arguments);
	va_end(arguments);
	pf_config_judged(s, i, PF_CONFIG_WRONG, text);
}

int pf_config_has_key(const struct pf_config_state *s, const char *key)
{
	for (size_t i = 0; i < s->config->map.count; i++)
		if (strcmp(s->config->map.entry[i].key, key) == 0 && s->config->map.entry[i].kind != PF_MAPPING_NULL)
			return 1;
	return 0;
}

/* ---- options ---- */

int pf_config_has_flag(const struct pf_options *o, int option)
{
	static const int instead[][2] = { { PF_OPTION_steps, PF_OPTION_epochs },
		                          { PF_OPTION_warmup_steps, PF_OPTION_warmup_ratio } };

	for (size_t i = 0; i < sizeof instead / sizeof *instead; i++)
		if (option == instead[i][0] && o->source[instead[i][1]] == PF_FROM_FLAG)
			return 1;
	return o->source[option] == PF_FROM_FLAG;
}

void pf_config_take(struct pf_config_state *s, size_t i, int option, const char *value)
{
	const struct pf_option_row *row = &pf_option_rows[option];
	const struct pf_mapping_entry *e = &s->config->map.entry[i];
	struct pf_options other = *s->options, *into = s->options;
	struct pf_error error;
	enum pf_config_fate fate = PF_CONFIG_TAKEN;

	if (option == PF_OPTION_config || option == PF_OPTION_help) {
		pf_config_wrong(s, i, "key %s has no place in a config file", e->key);
		return;
	}
	if (e->kind == PF_MAPPING_LIST && row->type != PF_TYPE_LIST) {
		pf_config_wrong(s, i, "%.60s: a list, where one value belongs", e->key);
		return;
	}
	if (s->seen[option]) {
		const struct pf_mapping_entry *first = &s->config->map.entry[s->seen[option] - 1];

		pf_config_wrong(s, i, "%.60s says %s again, after %.60s in line %u", e->key, row->flag,
		                first->key, first->line);
		return;
	}
	s->seen[option] = i + 1;
	if (!pf_option_belongs(row, s->options->verb) || pf_config_has_flag(s->options, option)) {
		fate = pf_option_belongs(row, s->options->verb) ? PF_CONFIG_FLAG : PF_CONFIG_PASSED;
		into = &other;
	}
	if (pf_options_take(into, (enum pf_option)option, value, PF_FROM_FILE, &error))
		pf_config_wrong(s, i, "%.60s%s%s", pf_trl_find(e->key) ? e->key : "", pf_trl_find(e->key) ? ": " : "",
		      error.text);
	else
		pf_config_judged(s, i, fate, value)->option = option;
}

int pf_config_option(const struct pf_config_state *s, const char *name)
{
	const int option = pf_option_find(s->options->verb, name);

	return option < 0 ? pf_option_find(NULL, name) : option;
}

static void unknown(struct pf_config_state *s, size_t i)
{
	const char *key = s->config->map.entry[i].key, *nearest = pf_option_nearest(s->options->verb, key);
	const struct pf_trl_row *row;

	for (size_t k = 0; (row = pf_trl_row(k)); k++)
		if (!strchr(row->key, '*'))
			pf_name_nearest(key, row->key, &nearest);
	if (nearest)
		pf_config_wrong(s, i, "unknown key %.80s; did you mean %s?", key, nearest);
	else
		pf_config_wrong(s, i, "unknown key %.80s; prefpga %s --help lists them", key, s->options->verb);
}

static void judge(struct pf_config_state *s, size_t i)
{
	const struct pf_mapping_entry *e = &s->config->map.entry[i];
	const struct pf_trl_row *row = pf_trl_find(e->key);
	const int option = row ? -1 : pf_config_option(s, e->key);
	const int lists = row && (row->action == PF_TRL_LOSSES || row->action == PF_TRL_WEIGHTS ||
	                          row->action == PF_TRL_DATASET || row->action == PF_TRL_TAKE ||
	                          row->action == PF_TRL_ADAPTER);
	const int anything = row && (row->action == PF_TRL_IGNORE || row->action == PF_TRL_ONLY);

	s->config->verdict[i].option = -1;
	s->config->foreign += row && pf_option_find(NULL, e->key) < 0;
	if (!row && option < 0)
		unknown(s, i);
	else if (e->kind == PF_MAPPING_NULL)
		pf_config_judged(s, i, PF_CONFIG_EMPTY, "");
	else if (e->kind == PF_MAPPING_NESTED && !anything)
		pf_config_wrong(s, i, "%.60s: nested values are not understood; a value is a word or a flat list",
		                e->key);
	else if (e->kind == PF_MAPPING_LIST && row && !lists && !anything)
		pf_config_wrong(s, i, "%.60s: a list, where one value belongs", e->key);
	else if (row)
		pf_config_trl(s, i, row);
	else
		pf_config_take(s, i, option, e->value);
}

/* ---- what several keys say together ---- */

/* TRL's constant schedule knows no warm-up, whatever else is in the file */
static void finish_schedule(struct pf_config_state *s)
{
	static const int warmup[] = { PF_OPTION_warmup_steps, PF_OPTION_warmup_ratio };
	struct pf_options *o = s->options;

	if (!s->constant || s->config->verdict[s->constant - 1].fate != PF_CONFIG_TAKEN ||
	    pf_config_has_flag(o, PF_OPTION_warmup_steps))
		return;
	for (size_t k = 0; k < 2; k++)
		if (s->seen[warmup[k]] && s->config->verdict[s->seen[warmup[k]] - 1].fate == PF_CONFIG_TAKEN)
			pf_config_judged(s, s->seen[warmup[k]] - 1, PF_CONFIG_IGNORED,
				"lr_scheduler_type constant has no warm-up");
	pf_options_take(o, PF_OPTION_warmup_steps, "0", PF_FROM_FILE, NULL);
}

static void finish_saving(struct pf_config_state *s)
{
	const size_t steps = s->seen[PF_OPTION_save_every];

	if (!s->never)
		return;
	if (steps && s->config->verdict[steps - 1].fate == PF_CONFIG_TAKEN)
		pf_config_judged(s, steps - 1, PF_CONFIG_IGNORED, "save_strategy is no");
	s->seen[PF_OPTION_save_every] = 0;
	pf_config_take(s, s->never - 1, PF_OPTION_save_every, "0");
}

/* Keys that say which loss it is, beside one that says it whole */
static int clash(struct pf_config_state *s)
{
	const int flag = s->options->source[PF_OPTION_loss] == PF_FROM_FLAG;
	int clashes = 0;

	for (unsigned k = 0; k < s->parts; k++) {
		const char *key = s->config->map.entry[s->part[k]].key;

		if (pf_trl_find(key)->action == PF_TRL_PARAM)
			continue;
		if (flag)
			pf_config_judged(s, s->part[k], PF_CONFIG_FLAG, "")->option = PF_OPTION_loss;
		else
			pf_config_wrong(s, s->part[k], "%s and loss say the same; leave one of them out", key);
		clashes += !flag;
	}
	return clashes;
}

static size_t entry_of(const struct pf_config_state *s, const char *key)
{
	for (unsigned k = 0; k < s->parts; k++)
		if (pf_trl_find(s->config->map.entry[s->part[k]].key) == pf_trl_find(key))
			return s->part[k];
	return s->part[0];
}

static void finish_loss(struct pf_config_state *s)
{
	struct pf_options *o = s->options;
	struct pf_error error;
	const char *part, *fallback = "sigmoid";
	const enum pf_option_source source = o->source[PF_OPTION_loss];

	if (!s->parts)
		return;
	if (source == PF_FROM_FLAG || source == PF_FROM_FILE)
		s->loss.base = o->loss;
	if (s->loss.base && clash(s))
		return;
	for (unsigned i = 0; i < s->loss.params; i++)
		if (strstr(s->loss.param[i].key, "desirable_weight"))
			fallback = "kto";
	if (pf_trl_compose(&s->loss, fallback, &s->config->loss, &part, &error)) {
		const size_t i = entry_of(s, part);

		pf_config_wrong(s, i, "%.60s: %s", s->config->map.entry[i].key, error.text);
		return;
	}
	o->loss = s->config->loss;
	o->source[PF_OPTION_loss] = source == PF_FROM_FLAG ? source : PF_FROM_FILE;
	for (unsigned i = 0; i < s->loss.params; i++)
		if (!s->loss.param[i].used)
			pf_config_judged(s, entry_of(s, s->loss.param[i].key), PF_CONFIG_IGNORED,
				"the loss has no such parameter, or states it");
}

/* ---- the whole ---- */

static int first_wrong(const struct pf_config_file *config, struct pf_error *error)
{
	for (size_t i = 0; i < config->map.count; i++) {
		const struct pf_mapping_entry *e = &config->map.entry[i];
		const struct pf_config_verdict *v = &config->verdict[i];

		if (v->fate == PF_CONFIG_WRONG)
			return pf_fail(error, PF_E_ARGUMENT, "%s:%u:%u: %s", config->path, e->line, e->column, v->text);
	}
	return 0;
}

static int prepare(struct pf_config_file *config, const char *path, const char *text, size_t length,
		   struct pf_error *error)
{
	int code = pf_mapping_parse(path, text, length, &config->map, error);

	if (code)
		return code;
	config->path = strdup(path);
	config->verdict = calloc(config->map.count + 1, sizeof *config->verdict);
	return config->path && config->verdict ? 0 : pf_fail(error, -ENOMEM, "%s:1:1: out of memory", path);
}

int pf_config_file_apply(struct pf_options *options, const char *path, const char *text, size_t length,
			 struct pf_error *error)
{
	struct pf_config_state s = { .options = options, .config = calloc(1, sizeof *s.config) };
	int code;

	if (!s.config)
		return pf_fail(error, -ENOMEM, "%s:1:1: out of memory", path);
	options->file = s.config;
	code = prepare(s.config, path, text, length, error);
	if (code)
		return code;
	for (size_t i = 0; i < s.config->map.count; i++)
		judge(&s, i);
	finish_schedule(&s);
	finish_saving(&s);
	finish_loss(&s);
	return first_wrong(s.config, error);
}

void pf_config_file_free(struct pf_config_file *config)
{
	if (!config)
		return;
	pf_mapping_free(&config->map);
	free(config->path);
	free(config->loss);
	free(config->verdict);
	free(config);
}

size_t pf_config_file_names(const struct pf_config_file *config, enum pf_config_fate fate, char *out, size_t size)
{
	enum { SHOWN = 6 };
	size_t count = 0, used = 0;

	*out = 0;
	for (size_t i = 0; i < config->map.count; i++) {
		if (config->verdict[i].fate != fate)
			continue;
		if (++count <= SHOWN && used < size)
			used += (size_t)snprintf(out + used, size - used, "%s%.40s", count > 1 ? ", " : "",
						 config->map.entry[i].key);
	}
	if (count > SHOWN && used < size)
		snprintf(out + used, size - used, " and %zu more", count - SHOWN);
	return count;
}
