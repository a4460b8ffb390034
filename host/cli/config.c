/* Verb config: what a config file means to a verb, and a file with everything that a verb takes. */
#include <stdlib.h>
#include <string.h>
#include "cli.h"
#include "config_file.h"
#include "trl.h"

/* ---- check ---- */

struct section { enum pf_config_fate fate; const char *title; };

static void print_entry(const struct pf_mapping_entry *e, const struct pf_config_verdict *v)
{
	const char *flag = v->option >= 0 ? pf_option_rows[v->option].flag : "";

	printf("  %u:%u: %s", e->line, e->column, v->fate == PF_CONFIG_WRONG ? "" : e->key);
	if (v->fate == PF_CONFIG_TAKEN)
		printf(" -> --%s = %s\n", flag, v->text);
	else if (v->fate == PF_CONFIG_LOSS)
		printf(" = %s\n", v->text);
	else if (v->fate == PF_CONFIG_PASSED)
		printf("%s%s%s%s\n", *flag ? " (--" : "", flag, *flag ? "), verbs: " : "",
		       *flag ? pf_option_rows[v->option].verbs : "");
	else
		printf("%s%s\n", *v->text && v->fate != PF_CONFIG_WRONG ? ": " : "", v->text);
}

static void print_section(const struct pf_config_file *config, const struct section *section)
{
	const char *title = section->title;

	for (size_t i = 0; i < config->map.count; i++)
		if (config->verdict[i].fate == section->fate) {
			if (title)
				printf("%s:\n", title);
			title = NULL;
			print_entry(&config->map.entry[i], &config->verdict[i]);
		}
	if (section->fate == PF_CONFIG_LOSS && config->loss)
		printf("  together: --loss = %s\n", config->loss);
}

/* What a file for TRL leaves to a default that is another one here */
static void print_defaults(const struct pf_options *o)
{
	const char *flag, *theirs, *title = "left out, with another default than TRL's:\n";
	char ours[64];

	for (size_t i = 0; o->file->foreign && pf_trl_default(i, &flag, &theirs); i++) {
		const int option = pf_option_find(o->verb, flag);

		if (option < 0 || o->source[option] == PF_FROM_FILE)
			continue;
		if ((option == PF_OPTION_epochs && o->source[PF_OPTION_steps] == PF_FROM_FILE) ||
		    (option == PF_OPTION_warmup_ratio && o->source[PF_OPTION_warmup_steps] == PF_FROM_FILE))
			continue;
		pf_option_default(&pf_option_rows[option], o->verb, ours, sizeof ours);
		printf("%s  --%s: %s here, %s there\n", title, flag, ours, theirs);
		title = "";
	}
}

static int check(const struct pf_options *o, const char *path, const char *verb)
{
	static const struct section sections[] = {
		{ PF_CONFIG_TAKEN, "takes" }, { PF_CONFIG_LOSS, "takes as parts of the loss" },
		{ PF_CONFIG_PASSED, "passes over, because other verbs take it" },
		{ PF_CONFIG_EMPTY, "left out (null)" }, { PF_CONFIG_IGNORED, "ignores" }, { PF_CONFIG_WRONG, "wrong" },
	};
	struct pf_options other;
	struct pf_error error = { 0 };
	char *text = NULL;
	int code = pf_options_parse(&other, verb, 0, NULL, &error);

	if (!code)
		code = pf_config_file_read(path, &text, &error);
	if (!code)
		code = pf_config_file_apply(&other, path, text, strlen(text), &error);
	free(text);
	if (other.file && other.file->verdict) {
		printf("%s, as prefpga %s reads it\n", path, verb);
		for (size_t i = 0; i < sizeof sections / sizeof *sections; i++)
			print_section(other.file, &sections[i]);
		print_defaults(&other);
	}
	pf_options_free(&other);
	if (code)
		fprintf(stderr, "prefpga %s: %s\n", o->verb, error.text);
	return code ? PF_EXIT_USAGE : PF_EXIT_OK;
}

/* ---- show ---- */

/* Text behind "# ", broken at blanks */
static void print_comment(const char *text)
{
	enum { WIDTH = 96 };
	int at = 0;

	while (*text) {
		const int word = (int)strcspn(text, " \n");

		if (at == 0 || at + word + 1 > WIDTH)
			at = printf("%s# %.*s", at ? "\n" : "", word, text) - (at != 0);
		else
			at += printf(" %.*s", word, text);
		text += word + (text[word] != 0);
	}
	printf("\n");
}

static void show_option(const struct pf_option_row *row, const char *verb)
{
	const char *trl = pf_trl_name(row->flag), *value;
	char text[64], key[64];

	pf_option_default(row, verb, text, sizeof text);
	snprintf(key, sizeof key, "%s", row->flag);
	for (char *c = key; *c; c++)
		*c = *c == '-' ? '_' : *c;
	value = row->type == PF_TYPE_FLAG ? (*text == '1' ? "true" : "false") : text;
	printf("\n");
	print_comment(row->text);
	if (row->type == PF_TYPE_CHOICE)
		printf("# One of %s.\n", row->choices);
	if (row->type == PF_TYPE_INT || row->type == PF_TYPE_FLOAT)
		printf("# %.16g to %.16g.\n", row->low, row->high);
	if (trl)
		printf("# In TRL: %s.\n", trl);
	printf("%s%s: %s\n", *value ? "" : "#", key, *value ? value : row->meta);
}

static int show(const char *verb)
{
	printf("# Everything that `prefpga %s` takes, with its defaults. Keys behind # have none.\n", verb);
	for (int group = 0; group < PF_GROUP_COUNT; group++) {
		int shown = 0;

		for (int i = 0; i < PF_OPTION_COUNT; i++) {
			const struct pf_option_row *row = &pf_option_rows[i];

			if ((int)row->group != group || !pf_option_belongs(row, verb) || i == PF_OPTION_config ||
			    i == PF_OPTION_help)
				continue;
			if (!shown++)
				printf("\n# ---- %s ----\n", pf_option_group_titles[group]);
			show_option(row, verb);
		}
	}
	return PF_EXIT_OK;
}

/* ---- the verb ---- */

int pf_verb_config(const struct pf_options *o)
{
	const int checks = strcmp(o->argument[0], "check") == 0;
	const char *verb = o->argument[checks ? 2 : 1];

	if (!checks && strcmp(o->argument[0], "show") != 0)
		return pf_cli_usage(o, "\"%s\" is neither check nor show", o->argument[0]);
	if (!checks && o->arguments > 2)
		return pf_cli_usage(o, "\"%s\" is one argument too many", o->argument[2]);
	if (checks && !verb)
		verb = "train";
	if (!pf_verb_find(verb))
		return pf_cli_usage(o, "unknown verb %s; prefpga help lists them", verb);
	if (!pf_option_belongs(&pf_option_rows[PF_OPTION_config], verb))
		return pf_cli_usage(o, "%s reads no config file; %s do", verb, pf_option_rows[PF_OPTION_config].verbs);
	return checks ? check(o, o->argument[1], verb) : show(verb);
}
