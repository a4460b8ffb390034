#include "options.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include "config_file.h"
#include "prefpga/internal/nearest.h"
#include "trl.h"

const struct pf_option_row pf_option_rows[PF_OPTION_COUNT] = {
#define PF_OPTION_ROW(type, field, flag, value, low, high, choices, group, verbs, meta, text) \
	{ PF_TYPE_##type, PF_GROUP_##group, flag, value, choices, verbs, meta, text, low, high, \
	  offsetof(struct pf_options, field) },
	PF_OPTIONS(PF_OPTION_ROW)
};
const char *const pf_option_group_titles[PF_GROUP_COUNT] = {
#define PF_GROUP_TITLE(name, title) title,
	PF_OPTION_GROUPS(PF_GROUP_TITLE)
};

/* ---- the table ---- */

static int same_word(const char *list, size_t length, const char *word)
{
	return strlen(word) == length && strncmp(list, word, length) == 0;
}

static int has_word(const char *list, const char *word, const char *separators)
{
	while (*list) {
		size_t length = strcspn(list, separators);

		if (same_word(list, length, word))
			return 1;
		list += length + (list[length] != 0);
	}
	return 0;
}

int pf_option_belongs(const struct pf_option_row *row, const char *verb)
{
	return !verb || strcmp(row->verbs, "*") == 0 || has_word(row->verbs, verb, " ");
}

/* "general verb=special": the special value of the verb, else the general one */
void pf_option_default(const struct pf_option_row *row, const char *verb, char *out, size_t size)
{
	const char *value = row->value, *word = strchr(row->value, ' ');
	size_t name = verb ? strlen(verb) : 0;

	for (; name && word; word = strchr(word + 1, ' '))
		if (strncmp(word + 1, verb, name) == 0 && word[1 + name] == '=')
			value = word + 2 + name;
	snprintf(out, size, "%.*s", (int)strcspn(value, " "), value);
}

static int same_name(const char *flag, const char *name)
{
	for (; *flag && *name; flag++, name++)
		if (*flag != *name && !(*flag == '-' && *name == '_'))
			return 0;
	return *flag == *name;
}

int pf_option_find(const char *verb, const char *name)
{
	for (int i = 0; i < PF_OPTION_COUNT; i++)
		if (pf_option_belongs(&pf_option_rows[i], verb) && same_name(pf_option_rows[i].flag, name))
			return i;
	return -1;
}

const char *pf_option_nearest(const char *verb, const char *name)
{
	const char *nearest = NULL;

	for (int i = 0; i < PF_OPTION_COUNT; i++)
		if (pf_option_belongs(&pf_option_rows[i], verb))
			pf_name_nearest(name, pf_option_rows[i].flag, &nearest);
	return nearest;
}

/* ---- values ---- */

static const char *dashes(enum pf_option_source source)
{
	return source == PF_FROM_FLAG ? "--" : "";
}

static int fail_value(const struct pf_options *options, int option, const char *text, const char *want,
                      struct pf_error *error)
{
	return pf_fail(error, PF_E_ARGUMENT, "%s%s: \"%.80s\" is not %s", dashes(options->source[option]),
	               pf_option_rows[option].flag, text, want);
}

static int fail_range(const struct pf_options *options, int option, const char *text, struct pf_error *error)
{
	const struct pf_option_row *row = &pf_option_rows[option];

	return pf_fail(error, PF_E_RANGE, "%s%s: %.80s is out of range; allowed is %.16g to %.16g",
	               dashes(options->source[option]), row->flag, text, row->low, row->high);
}

static int check_range(const struct pf_options *options, int option, double value, const char *text,
                       struct pf_error *error)
{
	const struct pf_option_row *row = &pf_option_rows[option];

	return value >= row->low && value <= row->high ? 0 : fail_range(options, option, text, error);
}

/* Bounds of whole numbers are whole and within 2^53 (the tests see to it), values need not be: no double may hold
 * them */
static int set_int(struct pf_options *options, int option, const char *text, int64_t *field, struct pf_error *error)
{
	const struct pf_option_row *row = &pf_option_rows[option];
	char *end;
	long long value;

	errno = 0;
	value = strtoll(text, &end, 10);
	if (end == text || *end)
		return fail_value(options, option, text, "a whole number", error);
	if (errno || value < (int64_t)row->low || value > (int64_t)row->high)
		return fail_range(options, option, text, error);
	*field = value;
	return 0;
}

static int set_float(struct pf_options *options, int option, const char *text, double *field, struct pf_error *error)
{
	char *end;
	double value = strtod(text, &end);

	if (end == text || *end || value != value)
		return fail_value(options, option, text, "a number", error);
	*field = value;
	return check_range(options, option, value, text, error);
}

static int set_size(struct pf_options *options, int option, const char *text, uint64_t *field, struct pf_error *error)
{
	static const char units[] = "KMGT";
	char *end;
	double value = strtod(text, &end);
	const char *unit = end == text || *end < 'A' ? NULL : strchr(units, *end & ~0x20);

	if (unit) {
		value *= (double)(1ull << 10 * (unit - units + 1));
		end++;
		end += strncasecmp(end, "iB", 2) == 0 ? 2 : (*end & ~0x20) == 'B';
	}
	if (end == text || *end || value != value)
		return fail_value(options, option, text, "a size such as 512M or 8G", error);
	if (check_range(options, option, value, text, error))
		return PF_E_RANGE;
	*field = (uint64_t)value;
	return 0;
}

static int set_flag(struct pf_options *options, int option, const char *text, int *field, struct pf_error *error)
{
	if (has_word("1 true yes on True Yes On TRUE YES ON", text, " "))
		*field = 1;
	else if (has_word("0 false no off False No Off FALSE NO OFF", text, " "))
		*field = 0;
	else
		return fail_value(options, option, text, "true or false", error);
	return 0;
}

static int set_choice(struct pf_options *options, int option, const char *text, const char **field,
                      struct pf_error *error)
{
	const struct pf_option_row *row = &pf_option_rows[option];
	char want[256];

	if (*text && has_word(row->choices, text, "|")) {
		*field = text;
		return 0;
	}
	snprintf(want, sizeof want, "one of %s", row->choices);
	return fail_value(options, option, text, want, error);
}

static int set_text(struct pf_options *options, int option, const char *text, const char **field,
                    struct pf_error *error)
{
	if (!*text)
		return fail_value(options, option, text, "a value; leave the option out instead", error);
	*field = text;
	return 0;
}

static int set_value(struct pf_options *options, int option, const char *text, struct pf_error *error)
{
	void *field = (char *)options + pf_option_rows[option].at;

	switch (pf_option_rows[option].type) {
	case PF_TYPE_INT:
		return set_int(options, option, text, field, error);
	case PF_TYPE_FLOAT:
		return set_float(options, option, text, field, error);
	case PF_TYPE_SIZE:
		return set_size(options, option, text, field, error);
	case PF_TYPE_FLAG:
		return set_flag(options, option, text, field, error);
	case PF_TYPE_CHOICE:
		return set_choice(options, option, text, field, error);
	default:
		return set_text(options, option, text, field, error);
	}
}

int pf_options_take(struct pf_options *options, enum pf_option option, const char *text, enum pf_option_source source,
                    struct pf_error *error)
{
	options->source[option] = source;
	return set_value(options, option, text, error);
}

uint32_t pf_option_milliseconds(double seconds)
{
	return seconds > 0 && seconds < 1e-3 ? 1 : (uint32_t)(seconds * 1000.0);
}

/* ---- defaults: numbers are parsed like any other value, words point into the table ---- */

static int set_default(struct pf_options *options, int option, struct pf_error *error)
{
	const struct pf_option_row *row = &pf_option_rows[option];
	char text[64];

	pf_option_default(row, options->verb, text, sizeof text);
	if (!*text)
		return 0;
	return pf_options_take(options, option, row->type <= PF_TYPE_CHOICE ? row->value : text, PF_FROM_DEFAULT,
	                       error);
}

static int set_defaults(struct pf_options *options, struct pf_error *error)
{
	for (int i = 0; i < PF_OPTION_COUNT; i++) {
		int status = pf_option_belongs(&pf_option_rows[i], options->verb) ? set_default(options, i, error) : 0;

		if (status)
			return status;
	}
	return 0;
}

/* ---- flags ---- */

static int fail_unknown(const char *verb, const char *name, struct pf_error *error)
{
	const char *nearest = pf_option_nearest(verb, name);
	const struct pf_trl_row *row = pf_trl_find(name);
	int other = pf_option_find(NULL, name);

	if (row && row->action >= PF_TRL_LOSSES && row->action <= PF_TRL_RPO)
		return pf_fail(error, PF_E_UNKNOWN,
		               "--%s is a part of --loss on the command line, such as --loss sigmoid:beta=0.1; "
		               "it can stand alone in a config file",
		               name);
	if (row && *row->text && other < 0)
		return pf_fail(error, PF_E_UNKNOWN, "--%s, known from TRL, is no option here: %s", name, row->text);
	if (other >= 0)
		return pf_fail(error, PF_E_UNKNOWN, "--%s is not an option of %s, but of: %s", name, verb,
		               pf_option_rows[other].verbs);
	if (row && *row->target && pf_option_find(verb, row->target) >= 0)
		return pf_fail(error, PF_E_UNKNOWN, "--%s, known from TRL, is --%s here", name, row->target);
	if (strcmp(name, "json") == 0 && pf_option_find(verb, "format") >= 0)
		nearest = "format json";
	if (nearest)
		return pf_fail(error, PF_E_UNKNOWN, "unknown option --%.80s; did you mean --%s?", name, nearest);
	return pf_fail(error, PF_E_UNKNOWN, "unknown option --%.80s", name);
}

/* One flag at argv[0], "--key value" or "--key=value" or "--flag"; *used is the number of words it takes */
static int read_flag(const char *verb, int argc, char *const *argv, int *option, const char **value, int *used,
                     struct pf_error *error)
{
	const char *equals = strchr(argv[0], '=');
	char name[64];

	snprintf(name, sizeof name, "%.*s", equals ? (int)(equals - argv[0] - 2) : 63, argv[0] + 2);
	*option = pf_option_find(verb, name);
	if (*option < 0)
		*option = pf_option_find(verb, pf_trl_flag(name));
	*used = 1;
	if (*option < 0)
		return fail_unknown(verb, name, error);
	if (equals)
		*value = equals + 1;
	else if (pf_option_rows[*option].type == PF_TYPE_FLAG)
		*value = "1";
	else if (argc < 2)
		return pf_fail(error, PF_E_ARGUMENT, "--%s needs a value: --%s %s", name, name,
		               pf_option_rows[*option].meta);
	else
		*value = argv[(*used)++];
	return 0;
}

static int add_argument(struct pf_options *options, const char *text, struct pf_error *error)
{
	if (options->arguments == PF_OPTION_ARGUMENTS_MAX)
		return pf_fail(error, PF_E_ARGUMENT, "more than %d arguments", PF_OPTION_ARGUMENTS_MAX);
	options->argument[options->arguments++] = text;
	return 0;
}

static int read_flags(struct pf_options *options, int argc, char *const *argv, struct pf_error *error)
{
	int used, option, status, plain = 0;
	const char *value = NULL;

	for (int i = 0; i < argc; i += used) {
		used = 1;
		if (!plain && strcmp(argv[i], "--") == 0) {
			plain = 1;
			continue;
		}
		if (!plain && strcmp(argv[i], "-h") == 0) {
			options->help = 1;
			continue;
		}
		if (plain || strncmp(argv[i], "--", 2) != 0) {
			status = add_argument(options, argv[i], error);
		} else {
			status = read_flag(options->verb, argc - i, argv + i, &option, &value, &used, error);
			if (!status)
				status = pf_options_take(options, option, value, PF_FROM_FLAG, error);
		}
		if (status)
			return status;
	}
	return 0;
}

int pf_options_parse(struct pf_options *options, const char *verb, int argc, char *const *argv, struct pf_error *error)
{
	char *text = NULL;
	int status;

	memset(options, 0, sizeof *options);
	options->verb = verb;
	status = set_defaults(options, error);
	if (!status)
		status = read_flags(options, argc, argv, error);
	if (status || !options->config || options->help)
		return status;
	status = pf_config_file_read(options->config, &text, error);
	if (!status)
		status = pf_config_file_apply(options, options->config, text, strlen(text), error);
	free(text);
	return status;
}

void pf_options_free(struct pf_options *options)
{
	pf_config_file_free(options->file);
	options->file = NULL;
}
