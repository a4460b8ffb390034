/* sample.h: one token from logits. Thread-safe; `order` is the caller's. */
#ifndef PF_MODEL_SAMPLE_H
#define PF_MODEL_SAMPLE_H
#include "prefpga/model.h"
#include "random.h"

/* A token with its probability */
struct pf_choice {
	double p;
	int32_t token;
};

/* Draws from softmax(logits[vocab] / temperature), cut to the fewest most probable tokens whose sum
 * is at least top_p; temperature 0: the first of the largest. choice[vocab] is scratch.
 * PF_E_NOT_FINITE when there is no distribution */
int pf_sample(const struct pf_sampling *sampling, const float *logits, uint32_t vocab,
              struct pf_random *random, struct pf_choice *choice, int32_t *token);
#endif
