/* reference.h: log-probs of the frozen reference policy, computed once, kept on disk.
 *
 * A file is a safetensors file with one tensor, "logp_q32" I64 [records, sides, 2]: for every record of a dataset and
 * every side of it (chosen, rejected; the completions of a ranking, of which there are PF_COMPLETIONS_MAX; else one)
 * the sum of log-probs in units of 2^-32 nat, and a check word. Its header is padded to 512 bytes; its metadata are
 * "writer", "key" and "origin". In Python: safe_open(FILE, "numpy").get_tensor("logp_q32")[:, :, 0] / 2**32; where the
 * check word is 0 the entry is not there yet. reference_file.h has forms that are easier to make. The key covers
 * everything the numbers depend on: weights, tokens, truncation, numerics version and device kind. An entry counts only
 * if its check word fits key, origin, place and value, so a torn or foreign file gives recomputation, never a wrong
 * number. Numbers of another program are there only after an import that says so: the origin is then a hash of them,
 * and nothing is ever computed into such a file.
 * Memory does not grow with the dataset. Several processes may share a file: whoever computes an entry writes the same.
 * One thread per object. */
#ifndef PF_TRAIN_REFERENCE_H
#define PF_TRAIN_REFERENCE_H
#include <stdint.h>
#include "prefpga/error.h"

struct pf_reference;

/* Opens or makes <folder>/reference-<key>.safetensors; the folder is made if missing */
int pf_reference_open(const char *folder, uint64_t key, uint64_t records, unsigned sides,
		      struct pf_reference **reference, struct pf_error *error);
void pf_reference_close(struct pf_reference *reference);        /* NULL is allowed */
/* Begins an empty file for numbers from elsewhere; origin: a hash of them, below 2^53, or 0: they are what would be
 * computed. pf_reference_put fills it, nothing is read meanwhile, and commit puts it in the place of the one that was
 * there: who has that open goes on with it. Closed without commit, nothing has changed. -EBUSY: another one fills it */
int pf_reference_restart(struct pf_reference *reference, uint64_t origin, struct pf_error *error);
int pf_reference_commit(struct pf_reference *reference, struct pf_error *error);
uint64_t pf_reference_origin(const struct pf_reference *reference);    /* 0, also for NULL: computed */
uint64_t pf_reference_key(const struct pf_reference *reference);
const char *pf_reference_path(const struct pf_reference *reference);
/* 1 and *sum if the entry is there, 0 if not, or an error; numbers from elsewhere must be there */
int pf_reference_get(const struct pf_reference *reference, uint64_t record, unsigned side, int64_t *sum,
                     struct pf_error *error);
int pf_reference_put(struct pf_reference *reference, uint64_t record, unsigned side, int64_t sum,
		     struct pf_error *error);
#endif
