/* config_file.h: from a config file to options. Keys are the flags without dashes, or TRL's names for them (trl.def).
 *
 * What becomes of a key is its fate. A run refuses the first key that is wrong; `prefpga config check` shows all.
 * Not thread-safe for one pf_options. */
#ifndef PF_CLI_CONFIG_FILE_H
#define PF_CLI_CONFIG_FILE_H
#include "options.h"
#include "mapping.h"

enum pf_config_fate {
	PF_CONFIG_TAKEN,               /* it sets an option */
	PF_CONFIG_LOSS,                /* it is part of --loss */
	PF_CONFIG_FLAG,                /* a flag of the command line goes before */
	PF_CONFIG_PASSED,              /* it concerns other verbs */
	PF_CONFIG_EMPTY,               /* null: as if it were not there */
	PF_CONFIG_IGNORED,             /* TRL's, of no meaning here */
	PF_CONFIG_WRONG,
};

struct pf_config_verdict {
	enum pf_config_fate fate;
	int         option;            /* the one it sets, or -1 */
	char        text[320];         /* IGNORED: why; WRONG: the error, without the place */
};

struct pf_config_file {
	struct pf_mapping map;
	char          *path;
	char          *loss;           /* made of loss_type, beta, ...; NULL if the file says nothing of it */
	struct pf_config_verdict *verdict;     /* [yaml.count] */
	int            foreign;        /* keys that only TRL knows */
};

/* Reads a text file of at most 1 MiB into malloc'd, 0-terminated memory that the caller frees. NUL bytes are an error
 */
int pf_config_file_read(const char *path, char **text, struct pf_error *error);
/* Parses text[length] and sets the options of options->verb that no flag has set. Their strings live in the config,
 * which options own from now on (options->file). All keys are judged, verdicts tell. Returns the first error in the
 * order of the file, with file, line and column */
int pf_config_file_apply(struct pf_options *options, const char *path, const char *text, size_t length,
			 struct pf_error *error);
void pf_config_file_free(struct pf_config_file *config);                  /* NULL is allowed */
/* "a, b and 3 more": keys of that fate, in out[size]; returns how many */
size_t pf_config_file_names(const struct pf_config_file *config, enum pf_config_fate fate, char *out, size_t size);
#endif
