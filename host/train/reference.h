/* reference.h: log-probs of the frozen reference policy, computed once, kept on disk.
 *
 * A file holds, for every record of a dataset and every side of a record, the Q31.32 sum of log-probs and a check word,
 * as one safetensors tensor "logp_q32" I64 [records, sides, 2]; other tools can read it. The key covers everything the
 * numbers depend on: weights, tokens, truncation, numerics version and device kind. An entry counts only if its check
 * word fits key, place and value, so a torn or foreign file gives recomputation, never a wrong number.
 * Memory does not grow with the dataset. Several processes may share a file: whoever computes an entry writes the same.
 * One thread per object. */
#ifndef PF_TRAIN_REFERENCE_H
#define PF_TRAIN_REFERENCE_H
#include <stdint.h>
#include "prefpga/error.h"

struct pf_reference;

/* Opens or makes <folder>/reference-<key>.safetensors; the folder is made if missing */
int pf_reference_open(const char *folder, uint64_t key, uint64_t records, unsigned sides, struct pf_reference **reference,
                      struct pf_error *error);
void pf_reference_close(struct pf_reference *reference);        /* NULL is allowed */
/* 1 and *sum if the entry is there, 0 if not, or an error */
int pf_reference_get(const struct pf_reference *reference, uint64_t record, unsigned side, int64_t *sum,
                     struct pf_error *error);
int pf_reference_put(struct pf_reference *reference, uint64_t record, unsigned side, int64_t sum, struct pf_error *error);
#endif
