/* model_naive.h: the decoder's oracle: straight loops in double over one sequence, written from the
 * papers' formulas and from the names of the tensors alone. Calls nothing of ours. Slow. */
#ifndef PF_TESTS_MODEL_NAIVE_H
#define PF_TESTS_MODEL_NAIVE_H
#include "host/model/layout.h"

/* hidden[n, D] of one sequence ids[n], positions from 0; param: the flat array of the layout */
void naive_hidden(const struct pf_model_config *config, const struct pf_layout *layout,
                  const double *param, const int32_t *ids, int n, double *hidden);
/* Sum over t of coef[t] log softmax(hidden[t] head^T)[target[t]]; dhidden[n, D] and the head's
 * gradient are added to when not NULL */
double naive_loss(const struct pf_model_config *config, const struct pf_layout *layout,
                  const double *param, const double *hidden, const int32_t *target,
                  const double *coef, int n, double *dhidden, double *grad);

/* A batch for tests: packed sequences with targets and coefficients, from a small generator of its
 * own */
struct naive_batch {
	int seqs, tokens;
	uint32_t offsets[16];
	int32_t *ids, *target;
	double *coef;
};
void naive_batch_fill(struct naive_batch *batch, const int *lengths, int seqs, uint32_t vocab,
                      unsigned seed);
void naive_batch_free(struct naive_batch *batch);
/* Uniform in [-1, 1), a fixed sequence per state */
double naive_random(unsigned *state);
/* Parameters of a size that makes every path matter: norms around 1, the rest within +-scale */
void naive_params(const struct pf_layout *layout, double scale, unsigned seed, double *param);
#endif
