#include <math.h>
#include <string.h>
#include "cli.h"

#define MARGIN 26                      /* column where explanations start */
#define WIDTH  80

/* Prints text from column `at` on, broken at blanks and line feeds, continued at column `indent` */
static void print_wrapped(FILE *out, const char *text, int at, int indent)
{
	int fresh = 0;

	while (*text) {
		int word = (int)strcspn(text, " \n");

		if (fresh || (at > indent && at + 1 + word > WIDTH)) {
			fprintf(out, "\n%*s", indent, "");
			at = indent;
		}
		at += fprintf(out, "%s%.*s", at > indent ? " " : "", word, text);
		fresh = text[word] == '\n';
		text += word + (text[word] != 0);
	}
	fputc('\n', out);
}

static void number_text(double value, char *out, size_t size)
{
	snprintf(out, size, fabs(value) < 1e15 && value == floor(value) ? "%.0f" : "%g", value);
}

/* " [default 8, 1 to 65536]" */
static void facts_text(const struct pf_option_row *row, const char *verb, char *out, size_t size)
{
	char value[64], low[32], high[32];
	int numeric = row->type == PF_TYPE_INT || row->type == PF_TYPE_FLOAT;

	pf_option_default(row, verb, value, sizeof value);
	number_text(row->low, low, sizeof low);
	number_text(row->high, high, sizeof high);
	*out = 0;
	if (row->type == PF_TYPE_FLAG && *value == '1')
		snprintf(out, size, " [on; --%s=0 switches it off]", row->flag);
	else if (numeric)
		snprintf(out, size, " [%s%s%s%s to %s]", *value ? "default " : "", value, *value ? ", " : "", low,
		         high);
	else if (row->type == PF_TYPE_CHOICE)
		snprintf(out, size, " [%s%s%s]", row->choices, *value ? "; default " : "", value);
	else if (*value && row->type != PF_TYPE_FLAG)
		snprintf(out, size, " [default %s]", value);
}

static void print_option(FILE *out, const struct pf_option_row *row, const char *verb)
{
	char text[1024], facts[256];
	int at = fprintf(out, "  --%s%s%s", row->flag, *row->meta ? " " : "", row->meta);

	facts_text(row, verb, facts, sizeof facts);
	snprintf(text, sizeof text, "%s%s", row->text, facts);
	if (at < MARGIN - 1)
		fprintf(out, "%*s", MARGIN - at, "");
	else
		fprintf(out, "\n%*s", MARGIN, "");
	print_wrapped(out, text, MARGIN, MARGIN);
}

static int group_is_empty(const char *verb, int group)
{
	for (int i = 0; i < PF_OPTION_COUNT; i++)
		if ((int)pf_option_rows[i].group == group && pf_option_belongs(&pf_option_rows[i], verb))
			return 0;
	return 1;
}

static void print_group(FILE *out, const char *verb, int group)
{
	if (group_is_empty(verb, group))
		return;
	fprintf(out, "\n%s:\n", pf_option_group_titles[group]);
	for (int i = 0; i < PF_OPTION_COUNT; i++)
		if ((int)pf_option_rows[i].group == group && pf_option_belongs(&pf_option_rows[i], verb))
			print_option(out, &pf_option_rows[i], verb);
}

void pf_help_verb(FILE *out, const struct pf_verb *verb)
{
	fprintf(out, "prefpga %s%s%s [OPTION...]\n", verb->name, *verb->arguments ? " " : "", verb->arguments);
	print_wrapped(out, verb->brief, 0, 0);
	fputc('\n', out);
	print_wrapped(out, verb->text, 0, 0);
	for (int group = 0; group < PF_GROUP_COUNT; group++)
		print_group(out, verb->name, group);
}

void pf_help_program(FILE *out)
{
	fprintf(out, "prefpga VERB [OPTION...]\n"
	             "Train language models on human preferences with the heavy end on an FPGA card.\n\n");
	for (const struct pf_verb *verb = pf_verbs; verb->name; verb++)
		fprintf(out, "  %-10s %s\n", verb->name, verb->brief);
	fprintf(out, "\nprefpga VERB --help explains a verb and every option it takes.\n");
}

/* ---- man page ---- */

/* Text as roff: no macro by accident at the start of a line, backslashes and dashes as themselves */
static void print_roff(FILE *out, const char *text)
{
	if (*text == '.' || *text == '\'')
		fputs("\\&", out);
	for (; *text; text++) {
		if (*text == '\\')
			fputs("\\e", out);
		else if (*text == '-')
			fputs("\\-", out);
		else if (*text == '\n')
			fputs("\n.br\n", out);
		else
			fputc(*text, out);
	}
}

static void man_option(FILE *out, const struct pf_option_row *row)
{
	char facts[256];

	facts_text(row, NULL, facts, sizeof facts);
	fputs(".TP\n.BI \\-\\-", out);
	print_roff(out, row->flag);
	if (*row->meta)
		fprintf(out, " \" %s\"", row->meta);
	fputc('\n', out);
	print_roff(out, row->text);
	print_roff(out, facts);
	if (strcmp(row->verbs, "*") != 0)
		fprintf(out, "\n.br\nVerbs: %s.", row->verbs);
	fputc('\n', out);
}

static void man_verbs(FILE *out)
{
	for (const struct pf_verb *verb = pf_verbs; verb->name; verb++) {
		fprintf(out, ".TP\n.B prefpga %s %s\n", verb->name, verb->arguments);
		print_roff(out, verb->brief);
		fputs(".\n", out);
		print_roff(out, verb->text);
		fputc('\n', out);
	}
}

void pf_help_man(FILE *out)
{
	fprintf(out, ".TH PREFPGA 1 \"\" \"prefpga " PREFPGA_VERSION "\"\n.SH NAME\n"
	             "prefpga \\- train language models on human preferences with an FPGA card\n"
	             ".SH SYNOPSIS\n.B prefpga\n.I VERB\n[\\fIOPTION\\fR...]\n.SH VERBS\n");
	man_verbs(out);
	fputs(".SH OPTIONS\n", out);
	for (int group = 0; group < PF_GROUP_COUNT; group++) {
		fprintf(out, ".SS %s\n", pf_option_group_titles[group]);
		for (int i = 0; i < PF_OPTION_COUNT; i++)
			if ((int)pf_option_rows[i].group == group)
				man_option(out, &pf_option_rows[i]);
	}
	fputs(".SH EXIT STATUS\n0 success, 1 the work failed, 2 a mistake on the command line or in the config file.\n"
	      ".SH FILES\nA config file is YAML: one flat mapping of \\fIkey: value\\fR; a value is a word or a flat "
	      "list. "
	      "Keys are the flags without dashes, or the names that TRL and transformers have for them. Nested values, "
	      "anchors, "
	      "aliases, further documents and unknown keys are refused with file, line and column; null is as good as "
	      "leaving "
	      "a key out. A flag goes before the file, the file before a default.\n"
	      ".PP\nThe folder of \\-\\-cache holds plain copies of compressed data and, in "
	      "reference\\-KEY.safetensors, the "
	      "reference's log\\-probs: tensor logp_q32 of type I64 and shape [samples, sides, 2], each entry a sum in "
	      "units of "
	      "2^\\-32 nat and a check word, which is 0 where nothing was computed yet. It may be "
	      "removed at any time; log\\-probs that were imported are to be imported again then.\n",
	      out);
}
