/* conformance_make.h: what the files that make conformance cases share. One thread; all values follow from the seed
 * that conf_cases was given, in the order of the calls. Failures of memory end the test. */
#ifndef PF_TESTS_CONFORMANCE_MAKE_H
#define PF_TESTS_CONFORMANCE_MAKE_H
#include "tests/conformance.h"

uint64_t conf_draw(void);
uint32_t conf_below(uint32_t n);                       /* [0, n) */
double   conf_uniform(double low, double high);
double   conf_normal(double sigma);

/* A case at the end of the list, without arguments; valid until the next one. Its scalars by name, then conf_fit: room,
 * zeroed, for what the kernel reads */
struct conf_case *conf_add(enum pf_kernel kernel, const char *name);
uint32_t *conf_scalar(struct conf_case *c, const char *name);
void conf_fit(struct conf_case *c);

/* target[rows]: ids, ids out of range, ignored ones */
void conf_targets(int32_t *target, uint32_t rows, uint32_t vocab);

/* What logprob hands on of the row z[vocab], from the reference, so that every device gets the same bits */
struct pf_row conf_record(const double *z, uint32_t vocab, int32_t target);

/* ---- the cases of a subject ---- */
void conf_logits_cases(void);
void conf_pref_cases(void);
void conf_head_cases(void);
#endif
