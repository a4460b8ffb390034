#include <fcntl.h>
#include <stdarg.h>
#include <string.h>
#include <unistd.h>
#include "cli.h"
#include "config_file.h"
#include "prefpga/internal/abi.h"
#include "prefpga/internal/nearest.h"

const struct pf_verb pf_verbs[] = {
#define PF_VERB_ROW(name, arguments, low, high, brief, text) { #name, arguments, low, high, brief, text, pf_verb_##name },
	PF_VERBS(PF_VERB_ROW)
#undef PF_VERB_ROW
	{ 0 }
};

const struct pf_verb *pf_verb_find(const char *name)
{
	for (const struct pf_verb *verb = pf_verbs; verb->name; verb++)
		if (strcmp(verb->name, name) == 0)
			return verb;
	return NULL;
}

const struct pf_verb *pf_verb_nearest(const char *name)
{
	const char *nearest = NULL;

	for (const struct pf_verb *verb = pf_verbs; verb->name; verb++)
		pf_name_nearest(name, verb->name, &nearest);
	return nearest ? pf_verb_find(nearest) : NULL;
}

/* ---- what verbs say ---- */

int pf_cli_fail(const struct pf_options *options, const struct pf_error *error)
{
	const char *text = *error->text ? error->text : pf_error_text(error->code);

	fprintf(stderr, "prefpga %s: %s\n", options->verb, text);
	return PF_EXIT_FAILED;
}

int pf_cli_usage(const struct pf_options *options, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	fprintf(stderr, "prefpga %s: ", options->verb);
	vfprintf(stderr, format, arguments);
	fprintf(stderr, "\nprefpga %s --help explains the options\n", options->verb);
	va_end(arguments);
	return PF_EXIT_USAGE;
}

void pf_cli_note(const struct pf_options *options, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	fprintf(stderr, "prefpga %s: ", options->verb);
	vfprintf(stderr, format, arguments);
	fputc('\n', stderr);
	va_end(arguments);
}

/* ---- verbs of the program itself ---- */

int pf_verb_version(const struct pf_options *options)
{
	(void)options;
	printf("prefpga %s, numerics version %u\n", PREFPGA_VERSION, PF_NUMERICS);
	return PF_EXIT_OK;
}

static int unknown_verb(const char *name)
{
	const struct pf_verb *nearest = pf_verb_nearest(name);

	if (nearest)
		fprintf(stderr, "prefpga: unknown verb %s; did you mean %s?\n", name, nearest->name);
	else
		fprintf(stderr, "prefpga: unknown verb %s; prefpga help lists them\n", name);
	return PF_EXIT_USAGE;
}

int pf_verb_help(const struct pf_options *options)
{
	const struct pf_verb *verb;

	if (options->man) {
		pf_help_man(stdout);
		return PF_EXIT_OK;
	}
	if (!options->arguments) {
		pf_help_program(stdout);
		return PF_EXIT_OK;
	}
	verb = pf_verb_find(options->argument[0]);
	if (!verb)
		return unknown_verb(options->argument[0]);
	pf_help_verb(stdout, verb);
	return PF_EXIT_OK;
}

/* ---- start ---- */

/* A file opened while 0, 1 or 2 is closed would get that number, and messages would land in it. What takes the place
 * refuses the direction that is used, so a result that nobody gets is still a failure */
static void occupy_standard_files(void)
{
	for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
		if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY) < 0)
			_exit(PF_EXIT_FAILED);
}

static void note_ignored(const struct pf_options *options)
{
	char names[512];

	if (options->file && pf_config_file_names(options->file, PF_CONFIG_IGNORED, names, sizeof names))
		pf_cli_note(options, "%s: ignored: %s; `prefpga config check %s %s` says why", options->config, names,
		            options->config, options->verb);
}

static int run(const struct pf_verb *verb, const struct pf_options *options)
{
	note_ignored(options);
	if (options->help) {
		pf_help_verb(stdout, verb);
		return PF_EXIT_OK;
	}
	if (options->arguments < verb->low)
		return pf_cli_usage(options, "%s is missing", verb->arguments);
	if (options->arguments > verb->high)
		return pf_cli_usage(options, "\"%s\" is one argument too many", options->argument[verb->high]);
	return verb->run(options);
}

static int finish(int code)
{
	if (fflush(stdout) || ferror(stdout)) {
		perror("prefpga: standard output");
		return code ? code : PF_EXIT_FAILED;
	}
	return code;
}

static const char *verb_name(const char *word)
{
	if (strcmp(word, "--version") == 0)
		return "version";
	return strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0 ? "help" : word;
}

int main(int argc, char **argv)
{
	struct pf_options options;
	struct pf_error error = { 0 };
	const struct pf_verb *verb;
	int code;

	occupy_standard_files();
	if (argc < 2) {
		pf_help_program(stderr);
		return PF_EXIT_USAGE;
	}
	verb = pf_verb_find(verb_name(argv[1]));
	if (!verb)
		return unknown_verb(argv[1]);
	if (pf_options_parse(&options, verb->name, argc - 2, argv + 2, &error))
		code = pf_cli_usage(&options, "%s", error.text);
	else
		code = run(verb, &options);
	pf_options_free(&options);
	return finish(code);
}
