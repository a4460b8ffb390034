/* config_inside.h: the inside of config_file.h, shared by host/cli/config_*.c only. Entries are numbered as in the
 * file. */
#ifndef PF_CLI_CONFIG_INSIDE_H
#define PF_CLI_CONFIG_INSIDE_H
#include "config_file.h"
#include "trl.h"

struct pf_config_state {
	struct pf_options *options;
	struct pf_config_file *config;
	size_t             seen[PF_OPTION_COUNT];      /* 1 + entry that sets it; 0: none */
	size_t             constant, never;            /* 1 + entry: TRL's schedule without warm-up; no checkpoints */
	size_t             part[PF_TRL_PARAMS + 8];    /* entries that are part of the loss */
	unsigned           parts;
	struct pf_trl_loss loss;
};

/* Gives entry i its verdict, which the caller may add to */
struct pf_config_verdict *pf_config_judged(struct pf_config_state *s, size_t i, enum pf_config_fate fate,
                                           const char *text);
void pf_config_wrong(struct pf_config_state *s, size_t i, const char *format, ...) PF_PRINTF(3, 4);
/* Entry i sets an option, if nothing speaks against it */
void pf_config_take(struct pf_config_state *s, size_t i, int option, const char *value);
/* Does the file have the key, with a value? */
int  pf_config_has_key(const struct pf_config_state *s, const char *key);
/* A flag goes before the file, also one that says the same in another way */
int  pf_config_has_flag(const struct pf_options *o, int option);
/* The option of that name: the verb's own, else another verb's */
int  pf_config_option(const struct pf_config_state *s, const char *name);

/* ---- config_trl.c: entry i is TRL's ---- */
void pf_config_trl(struct pf_config_state *s, size_t i, const struct pf_trl_row *row);
#endif
