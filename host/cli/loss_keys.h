/* loss_keys.h: which keys a case of a loss may have (loss_case.h). Thread-safe. */
#ifndef PF_CLI_LOSS_KEYS_H
#define PF_CLI_LOSS_KEYS_H
#include "loss_case.h"

/* Works out cases->key[] from cases->loss: the form's keys, then those of the rows */
int pf_case_keys(struct pf_cases *cases, struct pf_error *error);
/* Whether `name` is a parameter under its own name or that of the test vectors */
int pf_case_param_is(const struct pf_loss_param *param, const char *name);
/* Whether some loss knows the key, this one or another: shared test vectors carry many */
int pf_case_key_known(const char *name);
/* The error of a key that no loss knows */
int pf_case_key_unknown(const struct pf_cases *cases, const char *name, struct pf_error *error);
#endif
