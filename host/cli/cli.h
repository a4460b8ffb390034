/* cli.h: the program `prefpga`. The only room that prints and exits.
 *
 * A verb is one function in its own file host/cli/<verb>.c,
 *
 *	int pf_verb_<verb>(const struct pf_options *options);
 *
 * which returns an exit code: PF_EXIT_OK, or what pf_cli_fail / pf_cli_usage return after saying what went wrong.
 * To add a verb: the file, a row in verbs.def, a line in host/CMakeLists.txt, its options in options.def. Options are
 * already parsed, bounded and typed: options->max_length is an int64_t; see options.h for what was given and what not.
 * Results go to stdout, everything else (progress, notes, errors) to stderr. */
#ifndef PF_CLI_H
#define PF_CLI_H
#include <stdio.h>
#include "prefpga/error.h"
#include "options.h"
#include "verbs.def"

enum pf_exit { PF_EXIT_OK = 0, PF_EXIT_FAILED = 1, PF_EXIT_USAGE = 2 };

#define PF_VERB_PROTOTYPE(name, arguments, low, high, brief, text) int pf_verb_##name(const struct pf_options *options);
PF_VERBS(PF_VERB_PROTOTYPE)
#undef PF_VERB_PROTOTYPE

struct pf_verb {
	const char *name;
	const char *arguments;         /* "NAME[:key=value,...]", as the synopsis shows them; "" if none */
	int         low, high;         /* how many plain arguments are allowed */
	const char *brief, *text;
	int       (*run)(const struct pf_options *options);
};
extern const struct pf_verb pf_verbs[];         /* ends with name NULL */
const struct pf_verb *pf_verb_find(const char *name);
/* Verb whose name is closest to `name`, or NULL if none resembles it */
const struct pf_verb *pf_verb_nearest(const char *name);

/* Prints "prefpga <verb>: <text of the error>" and returns PF_EXIT_FAILED */
int pf_cli_fail(const struct pf_options *options, const struct pf_error *error);
/* The same for a mistake on the command line; points to --help and returns PF_EXIT_USAGE */
int pf_cli_usage(const struct pf_options *options, const char *format, ...) PF_PRINTF(2, 3);
/* "prefpga <verb>: <text>" on stderr: something worth knowing that is no error */
void pf_cli_note(const struct pf_options *options, const char *format, ...) PF_PRINTF(2, 3);

/* help.c: what --help, `prefpga help` and the man page show; made of the same tables as the parser */
void pf_help_program(FILE *out);
void pf_help_verb(FILE *out, const struct pf_verb *verb);
void pf_help_man(FILE *out);
#endif
