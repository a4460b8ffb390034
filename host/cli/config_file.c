#include "config_file.h"
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "prefpga/internal/nearest.h"
#include "prefpga/loss.h"
#include "trl.h"

struct state {
	struct pf_options *options;
	struct pf_config_file  *config;
	size_t             seen[PF_OPTION_COUNT];      /* 1 + entry that sets it; 0: none */
	size_t             constant, never;            /* 1 + entry: TRL's schedule without warm-up; no checkpoints */
	size_t             part[PF_TRL_PARAMS + 8];    /* entries that are part of the loss */
	unsigned           parts;
	struct pf_trl_loss loss;
};

int pf_config_file_read(const char *path, char **text, struct pf_error *error)
{
	FILE *file = fopen(path, "rb");
	size_t length;

	*text = NULL;
	if (!file)
		return pf_fail(error, -errno, "config file %s: %s", path, strerror(errno));
	*text = malloc(PF_MAPPING_BYTES_MAX + 1);
	length = *text ? fread(*text, 1, PF_MAPPING_BYTES_MAX + 1, file) : 0;
	fclose(file);
	if (!*text)
		return pf_fail(error, -ENOMEM, "config file %s: out of memory", path);
	if (length > PF_MAPPING_BYTES_MAX)
		return pf_fail(error, PF_E_FORMAT, "config file %s: larger than 1 MiB; is it really one?", path);
	(*text)[length] = 0;
	if (strlen(*text) != length)
		return pf_fail(error, PF_E_FORMAT, "config file %s: holds a NUL byte; is it really text?", path);
	return 0;
}

/* ---- verdicts ---- */

static struct pf_config_verdict *verdict(struct state *s, size_t i, enum pf_config_fate fate, const char *text)
{
	struct pf_config_verdict *v = &s->config->verdict[i];

	v->fate = fate;
	snprintf(v->text, sizeof v->text, "%s", text);
	return v;
}

PF_PRINTF(3, 4) static void wrong(struct state *s, size_t i, const char *format, ...)
{
	char text[320];
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(text, sizeof text, format, arguments);
	va_end(arguments);
	verdict(s, i, PF_CONFIG_WRONG, text);
}

static const char yes[] = "true|1|yes|on", no[] = "false|0|no|off";

static int has_key(const struct state *s, const char *key)
{
	for (size_t i = 0; i < s->config->map.count; i++)
		if (strcmp(s->config->map.entry[i].key, key) == 0 && s->config->map.entry[i].kind != PF_MAPPING_NULL)
			return 1;
	return 0;
}

/* ---- options ---- */

/* A flag goes before the file, also one that says the same in another way */
static int has_flag(const struct pf_options *o, int option)
{
	static const int instead[][2] = { { PF_OPTION_steps, PF_OPTION_epochs },
		                          { PF_OPTION_warmup_steps, PF_OPTION_warmup_ratio } };

	for (size_t i = 0; i < sizeof instead / sizeof *instead; i++)
		if (option == instead[i][0] && o->source[instead[i][1]] == PF_FROM_FLAG)
			return 1;
	return o->source[option] == PF_FROM_FLAG;
}

static void take(struct state *s, size_t i, int option, const char *value)
{
	const struct pf_option_row *row = &pf_option_rows[option];
	const struct pf_mapping_entry *e = &s->config->map.entry[i];
	struct pf_options other = *s->options, *into = s->options;
	struct pf_error error;
	enum pf_config_fate fate = PF_CONFIG_TAKEN;

	if (option == PF_OPTION_config || option == PF_OPTION_help) {
		wrong(s, i, "key %s has no place in a config file", e->key);
		return;
	}
	if (e->kind == PF_MAPPING_LIST && row->type != PF_TYPE_LIST) {
		wrong(s, i, "%.60s: a list, where one value belongs", e->key);
		return;
	}
	if (s->seen[option]) {
		const struct pf_mapping_entry *first = &s->config->map.entry[s->seen[option] - 1];

		wrong(s, i, "%.60s says %s again, after %.60s in line %u", e->key, row->flag, first->key, first->line);
		return;
	}
	s->seen[option] = i + 1;
	if (!pf_option_belongs(row, s->options->verb) || has_flag(s->options, option)) {
		fate = pf_option_belongs(row, s->options->verb) ? PF_CONFIG_FLAG : PF_CONFIG_PASSED;
		into = &other;
	}
	if (pf_options_take(into, (enum pf_option)option, value, PF_FROM_FILE, &error))
		wrong(s, i, "%.60s%s%s", pf_trl_find(e->key) ? e->key : "", pf_trl_find(e->key) ? ": " : "",
		      error.text);
	else
		verdict(s, i, fate, value)->option = option;
}

/* The option of that name: the verb's own, else another verb's */
static int find_option(const struct state *s, const char *name)
{
	const int option = pf_option_find(s->options->verb, name);

	return option < 0 ? pf_option_find(NULL, name) : option;
}

static void unknown(struct state *s, size_t i)
{
	const char *key = s->config->map.entry[i].key, *nearest = pf_option_nearest(s->options->verb, key);
	const struct pf_trl_row *row;

	for (size_t k = 0; (row = pf_trl_row(k)); k++)
		if (!strchr(row->key, '*'))
			pf_name_nearest(key, row->key, &nearest);
	if (nearest)
		wrong(s, i, "unknown key %.80s; did you mean %s?", key, nearest);
	else
		wrong(s, i, "unknown key %.80s; prefpga %s --help lists them", key, s->options->verb);
}

/* ---- TRL's keys ---- */

static void take_warmup(struct state *s, size_t i, const char *value)
{
	const double number = strtod(value, NULL);

	if (number > 0.0 && number < 1.0)
		take(s, i, PF_OPTION_warmup_ratio, value);
	else if (number == 0.0 && has_key(s, "warmup_ratio"))
		verdict(s, i, PF_CONFIG_IGNORED, "0: warmup_ratio decides");
	else
		take(s, i, PF_OPTION_warmup_steps, value);
}

static void take_schedule(struct state *s, size_t i, const char *value)
{
	static const char *const known[] = { "linear", "cosine", "constant" };

	for (size_t k = 0; k < sizeof known / sizeof *known; k++)
		if (strcmp(value, known[k]) == 0) {
			take(s, i, PF_OPTION_schedule, known[k]);
			s->constant = k == 2 ? i + 1 : 0;
			return;
		}
	if (strcmp(value, "constant_with_warmup") == 0)
		take(s, i, PF_OPTION_schedule, known[2]);
	else
		wrong(
		    s, i,
		    "lr_scheduler_type: %.60s is not supported; linear, cosine, constant and constant_with_warmup are",
		    value);
}

static void take_dataset(struct state *s, size_t i, const struct pf_trl_row *row, const struct pf_mapping_entry *e)
{
	if (e->kind == PF_MAPPING_SCALAR && !strchr(e->value, ',') && access(e->value, R_OK) != 0)
		verdict(s, i, PF_CONFIG_IGNORED, row->text);
	else
		take(s, i, find_option(s, row->target), e->value);
}

/* 1: true, 0: false, -1: neither, which is then wrong */
static int on_or_off(struct state *s, size_t i, const struct pf_trl_row *row, const char *value)
{
	if (pf_trl_allows(yes, value))
		return 1;
	if (pf_trl_allows(no, value))
		return 0;
	wrong(s, i, "%s: \"%.60s\" is not true or false%s%s", row->key, value, row->action == PF_TRL_RESUME ? ": " : "",
	      row->action == PF_TRL_RESUME ? row->text : "");
	return -1;
}

static void take_switch(struct state *s, size_t i, const struct pf_trl_row *row, const char *value)
{
	const int on = on_or_off(s, i, row, value);
	char flag[32];

	snprintf(flag, sizeof flag, "%.*s", (int)strcspn(row->target, "="), row->target);
	if (on >= 0 && row->action == PF_TRL_RESUME)
		take(s, i, find_option(s, flag), on ? "1" : "0");
	else if (on > 0)
		take(s, i, find_option(s, flag), strchr(row->target, '=') + 1);
	else if (on == 0)
		verdict(s, i, PF_CONFIG_IGNORED, row->text);
}

static const struct pf_mapping_entry *entry_with(const struct state *s, const char *key)
{
	for (size_t i = 0; i < s->config->map.count; i++)
		if (strcmp(s->config->map.entry[i].key, key) == 0 && s->config->map.entry[i].kind == PF_MAPPING_SCALAR)
			return &s->config->map.entry[i];
	return NULL;
}

/* Whether an adapter is trained, so that what the file says of it counts */
static int has_adapter(const struct state *s)
{
	const struct pf_mapping_entry *peft = entry_with(s, "use_peft"), *rank = entry_with(s, "lora");

	return (peft && pf_trl_allows(yes, peft->value)) || (rank && strcmp(rank->value, "0") != 0) ||
	       s->options->source[PF_OPTION_lora] == PF_FROM_FLAG;
}

/* TRL's own rank and alpha stand for those that the file does not give */
static void take_peft(struct state *s, size_t i, const struct pf_trl_row *row, const char *value)
{
	const int on = on_or_off(s, i, row, value);

	if (on == 0)
		verdict(s, i, PF_CONFIG_IGNORED, row->text);
	if (on != 1)
		return;
	if (entry_with(s, "lora_r") || entry_with(s, "lora"))
		verdict(s, i, PF_CONFIG_IGNORED, "true: the file gives the rank");
	else
		take(s, i, PF_OPTION_lora, "16");
	if (!entry_with(s, "lora_alpha") && !entry_with(s, "lora-alpha") && !has_flag(s->options, PF_OPTION_lora_alpha))
		pf_options_take(s->options, PF_OPTION_lora_alpha, "32", PF_FROM_FILE, NULL);
}

static void take_part(struct state *s, size_t i, const struct pf_trl_row *row, const char *value)
{
	struct pf_trl_loss *l = &s->loss;
	const int likelihood = row->action == PF_TRL_LOSSES && strcmp(s->options->verb, "sft") == 0;

	if (likelihood && strcmp(value, "dft") == 0) {
		take(s, i, PF_OPTION_sft_loss, value);
		return;
	}
	if (likelihood && !pf_trl_allows("nll|chunked_nll", value) && !pf_loss_find(value) && !strchr(value, ',')) {
		wrong(s, i, "loss_type: %.60s is not supported; sft is plain likelihood", value);
		return;
	}
	if (!pf_option_belongs(&pf_option_rows[PF_OPTION_loss], s->options->verb)) {
		verdict(s, i, PF_CONFIG_PASSED, value)->option = PF_OPTION_loss;
		return;
	}
	verdict(s, i, PF_CONFIG_LOSS, value)->option = PF_OPTION_loss;
	s->part[s->parts++] = i;
	switch (row->action) {
	case PF_TRL_LOSSES:
		l->types = value;
		break;
	case PF_TRL_WEIGHTS:
		l->weights = value;
		break;
	case PF_TRL_DIVERGENCE:
		l->divergence = value;
		break;
	case PF_TRL_WEIGHTING:
		l->weighting = pf_trl_allows(yes, value);
		break;
	case PF_TRL_RPO:
		l->rpo = value;
		break;
	default:
		l->param[l->params].key = row->key;
		l->param[l->params++].value = value;
	}
}

static void take_trl(struct state *s, size_t i, const struct pf_trl_row *row)
{
	const struct pf_mapping_entry *e = &s->config->map.entry[i];

	if (*row->verbs && !strstr(row->verbs, s->options->verb)) {
		verdict(s, i, PF_CONFIG_PASSED, e->value);
		return;
	}
	switch (row->action) {
	case PF_TRL_TAKE:
		take(s, i, find_option(s, row->target), e->value);
		break;
	case PF_TRL_COUNT:
		if (pf_trl_allows("-1|0", e->value))
			verdict(s, i, PF_CONFIG_EMPTY, "");
		else
			take(s, i, find_option(s, row->target), e->value);
		break;
	case PF_TRL_WARMUP:
		take_warmup(s, i, e->value);
		break;
	case PF_TRL_SCHEDULE:
		take_schedule(s, i, e->value);
		break;
	case PF_TRL_DATASET:
		take_dataset(s, i, row, e);
		break;
	case PF_TRL_SWITCH:
	case PF_TRL_RESUME:
		take_switch(s, i, row, e->value);
		break;
	case PF_TRL_PEFT:
		take_peft(s, i, row, e->value);
		break;
	case PF_TRL_ADAPTER:
		if (has_adapter(s))
			take(s, i, find_option(s, row->target), e->value);
		else
			verdict(s, i, PF_CONFIG_IGNORED, row->text);
		break;
	case PF_TRL_NEVER:
		s->never = pf_trl_allows("no|false", e->value) ? i + 1 : 0;
		verdict(s, i, PF_CONFIG_IGNORED, row->text);
		break;
	case PF_TRL_ONLY:
		if (e->kind == PF_MAPPING_NESTED || !pf_trl_allows(row->target, e->value))
			wrong(s, i, "%s: %.60s is not supported: %s", e->key, *e->value ? e->value : "this", row->text);
		else
			verdict(s, i, PF_CONFIG_IGNORED, "as it is here anyway");
		break;
	case PF_TRL_IGNORE:
		verdict(s, i, PF_CONFIG_IGNORED, row->text);
		break;
	default:
		take_part(s, i, row, e->value);
	}
}

static void judge(struct state *s, size_t i)
{
	const struct pf_mapping_entry *e = &s->config->map.entry[i];
	const struct pf_trl_row *row = pf_trl_find(e->key);
	const int option = row ? -1 : find_option(s, e->key);
	const int lists = row && (row->action == PF_TRL_LOSSES || row->action == PF_TRL_WEIGHTS ||
	                          row->action == PF_TRL_DATASET || row->action == PF_TRL_TAKE ||
	                          row->action == PF_TRL_ADAPTER);
	const int anything = row && (row->action == PF_TRL_IGNORE || row->action == PF_TRL_ONLY);

	s->config->verdict[i].option = -1;
	s->config->foreign += row && pf_option_find(NULL, e->key) < 0;
	if (!row && option < 0)
		unknown(s, i);
	else if (e->kind == PF_MAPPING_NULL)
		verdict(s, i, PF_CONFIG_EMPTY, "");
	else if (e->kind == PF_MAPPING_NESTED && !anything)
		wrong(s, i, "%.60s: nested values are not understood; a value is a word or a flat list", e->key);
	else if (e->kind == PF_MAPPING_LIST && row && !lists && !anything)
		wrong(s, i, "%.60s: a list, where one value belongs", e->key);
	else if (row)
		take_trl(s, i, row);
	else
		take(s, i, option, e->value);
}

/* ---- what several keys say together ---- */

/* TRL's constant schedule knows no warm-up, whatever else is in the file */
static void finish_schedule(struct state *s)
{
	static const int warmup[] = { PF_OPTION_warmup_steps, PF_OPTION_warmup_ratio };
	struct pf_options *o = s->options;

	if (!s->constant || s->config->verdict[s->constant - 1].fate != PF_CONFIG_TAKEN ||
	    has_flag(o, PF_OPTION_warmup_steps))
		return;
	for (size_t k = 0; k < 2; k++)
		if (s->seen[warmup[k]] && s->config->verdict[s->seen[warmup[k]] - 1].fate == PF_CONFIG_TAKEN)
			verdict(s, s->seen[warmup[k]] - 1, PF_CONFIG_IGNORED,
				"lr_scheduler_type constant has no warm-up");
	pf_options_take(o, PF_OPTION_warmup_steps, "0", PF_FROM_FILE, NULL);
}

static void finish_saving(struct state *s)
{
	const size_t steps = s->seen[PF_OPTION_save_every];

	if (!s->never)
		return;
	if (steps && s->config->verdict[steps - 1].fate == PF_CONFIG_TAKEN)
		verdict(s, steps - 1, PF_CONFIG_IGNORED, "save_strategy is no");
	s->seen[PF_OPTION_save_every] = 0;
	take(s, s->never - 1, PF_OPTION_save_every, "0");
}

/* Keys that say which loss it is, beside one that says it whole */
static int clash(struct state *s)
{
	const int flag = s->options->source[PF_OPTION_loss] == PF_FROM_FLAG;
	int clashes = 0;

	for (unsigned k = 0; k < s->parts; k++) {
		const char *key = s->config->map.entry[s->part[k]].key;

		if (pf_trl_find(key)->action == PF_TRL_PARAM)
			continue;
		if (flag)
			verdict(s, s->part[k], PF_CONFIG_FLAG, "")->option = PF_OPTION_loss;
		else
			wrong(s, s->part[k], "%s and loss say the same; leave one of them out", key);
		clashes += !flag;
	}
	return clashes;
}

static size_t entry_of(const struct state *s, const char *key)
{
	for (unsigned k = 0; k < s->parts; k++)
		if (pf_trl_find(s->config->map.entry[s->part[k]].key) == pf_trl_find(key))
			return s->part[k];
	return s->part[0];
}

static void finish_loss(struct state *s)
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

		wrong(s, i, "%.60s: %s", s->config->map.entry[i].key, error.text);
		return;
	}
	o->loss = s->config->loss;
	o->source[PF_OPTION_loss] = source == PF_FROM_FLAG ? source : PF_FROM_FILE;
	for (unsigned i = 0; i < s->loss.params; i++)
		if (!s->loss.param[i].used)
			verdict(s, entry_of(s, s->loss.param[i].key), PF_CONFIG_IGNORED,
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
	struct state s = { .options = options, .config = calloc(1, sizeof *s.config) };
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
