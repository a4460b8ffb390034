/* trl.h: rows of trl.def, and the loss that is said in several keys. Thread-safe. */
#ifndef PF_CLI_TRL_H
#define PF_CLI_TRL_H
#include "config_file.h"

enum pf_trl_action {
	PF_TRL_TAKE, PF_TRL_COUNT, PF_TRL_WARMUP, PF_TRL_SCHEDULE, PF_TRL_DATASET, PF_TRL_LOSSES, PF_TRL_WEIGHTS,
	PF_TRL_PARAM, PF_TRL_DIVERGENCE, PF_TRL_WEIGHTING, PF_TRL_RPO, PF_TRL_SWITCH, PF_TRL_PEFT, PF_TRL_ADAPTER,
	PF_TRL_NEVER, PF_TRL_RESUME,
	PF_TRL_ONLY, PF_TRL_IGNORE,
};

struct pf_trl_row { const char *key; enum pf_trl_action action; const char *target, *verbs, *text; };

/* The row of a key, or NULL. Row i: NULL past the last */
const struct pf_trl_row *pf_trl_find(const char *key);
const struct pf_trl_row *pf_trl_row(size_t i);
/* Where TRL's default differs: row i as option's flag and default; 0 past the last */
int pf_trl_default(size_t i, const char **flag, const char **value);
/* TRL's name of an option, or NULL */
const char *pf_trl_name(const char *flag);
/* Flag of the option that TRL calls `name`, "" if it takes the value as it is in no option */
const char *pf_trl_flag(const char *name);
/* Whether `text` is one of the row's list ("a|b*") */
int pf_trl_allows(const char *list, const char *text);

/* What the keys of a file say about the loss; texts are the file's, NULL where it says nothing */
enum { PF_TRL_PARAMS = 16 };
struct pf_trl_loss {
	const char *base;              /* --loss, when a flag or a key of the file gives it whole; else NULL */
	const char *types, *weights;   /* comma separated */
	const char *divergence, *rpo;
	int         weighting;
	unsigned    params;
	struct { const char *key, *value; int used; } param[PF_TRL_PARAMS];
};
/* Puts together the text for --loss, malloc'd: components of base or types (`fallback` if neither is there), each with
 * the parameters that it has and does not state itself, TRL's defaults for types. *used of a parameter that no
 * component has stays 0. The error names what is wrong; *part (may be NULL) is the key that it is about */
int pf_trl_compose(struct pf_trl_loss *loss, const char *fallback, char **text, const char **part,
		   struct pf_error *error);
#endif
