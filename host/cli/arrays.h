/* arrays.h: what the verbs over NumPy files share: logprob, head. */
#ifndef PF_CLI_ARRAYS_H
#define PF_CLI_ARRAYS_H
#include <jansson.h>
#include "host/corpus/npy.h"
#include "prefpga/device.h"
#include "prefpga/internal/abi.h"
#include "options.h"

/* Opens a file whose elements must be of `type`; messages name path and remedy */
int pf_arrays_open(const char *path, enum pf_dtype type, struct pf_npy *npy, struct pf_error *error);
/* "(3, 4)" */
const char *pf_arrays_shape(const struct pf_npy_shape *shape, char text[256]);
/* Puts *out in its place and makes it NULL; NULL is allowed */
int pf_arrays_commit(struct pf_npy_out **out, struct pf_error *error);

/* What a flag names; path NULL: nothing */
struct pf_arrays_file { const char *flag, *path; int output; };
/* Inputs first. 0 if no output has the file of another flag, else what pf_cli_usage returns after naming both flags */
int pf_arrays_apart(const struct pf_options *options, const struct pf_arrays_file *file, unsigned count);

/* Scored rows; those with a finite logp; target likeliest; logits not usable */
struct pf_arrays_totals { uint64_t tokens, finite, hits, bad; double logp; };
void pf_arrays_count(struct pf_arrays_totals *totals, const struct pf_row *row);
/* Notes how many rows were bad, if any was */
void pf_arrays_note(const struct pf_options *options, const struct pf_arrays_totals *totals);

/* Opens --device; kernels: what the verb runs, "logprob logit_grad" */
int pf_arrays_device(const struct pf_options *options, const char *kernels, struct pf_device **device,
                     struct pf_error *error);
json_t *pf_arrays_number(double value);                        /* null where it is not finite */
/* Prints and frees: one line of JSON, or `key value` lines, as --format says */
void pf_arrays_print(const struct pf_options *options, json_t *summary);
#endif
