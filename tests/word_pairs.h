/* word_pairs.h: pairs of a few words, bytes as tokens, the loss of DPO: what small trainings read. One at a time; a
 * failure fails the test. */
#ifndef PF_TESTS_WORD_PAIRS_H
#define PF_TESTS_WORD_PAIRS_H
#include "host/train/trainer.h"

struct word_pairs {
	const struct pf_tokenizer *tokenizer;
	struct pf_corpus *corpus;
	struct pf_loss loss;
};
extern struct word_pairs word_pairs;

/* So many pairs, 16 at most, in the scratch folder of the test, sequences of at most `length` tokens. 0. Pair with
 * word_pairs_close */
int word_pairs_open(const char *test, int pairs, uint32_t length);
int word_pairs_close(void **state);
#endif
