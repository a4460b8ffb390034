/* corpus_scratch.h: datasets in the scratch folder, for tests of what is read of them. One thread; a failure fails the
 * test. */
#ifndef PF_TESTS_CORPUS_SCRATCH_H
#define PF_TESTS_CORPUS_SCRATCH_H
#include "host/corpus/batch.h"

extern const struct pf_tokenizer *corpus_tokenizer;    /* of bytes */
extern struct pf_error corpus_error;
extern char corpus_text[1 << 20];                      /* what was written last, 0-terminated */
extern size_t corpus_used;

/* Opens the scratch folder and the tokenizer; 0 or an error. Call first */
int  corpus_prepare(const char *test);
void corpus_text_start(void);
PF_PRINTF(1, 2) void corpus_text_add(const char *format, ...);

/* Pairs [from, to): prompt "p<i>", chosen "yes <i * i>", rejected "n<i>". The path */
const char *write_pairs(const char *name, unsigned from, unsigned to);
/* Single completions of one letter, every third undesirable */
const char *write_singles(const char *name, unsigned count);

/* Sequences of 64 tokens at most, a cache in the scratch folder */
struct pf_corpus_options corpus_options(void);
struct pf_corpus *corpus_open(const char *path, const struct pf_corpus_options *options);
#endif
