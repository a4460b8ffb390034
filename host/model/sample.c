#include "sample.h"
#include <math.h>
#include <stdlib.h>
#include "prefpga/internal/kmath64.h"

/* The first of the largest, or -1 if one is NaN */
static int32_t largest(const float *logits, uint32_t vocab)
{
	uint32_t best = 0;
	for (uint32_t i = 0; i < vocab; i++) {
		if (isnan(logits[i]))
			return -1;
		if (logits[i] > logits[best])
			best = i;
	}
	return (int32_t)best;
}

static int order_choice(const void *a, const void *b)
{
	const struct pf_choice *x = a, *y = b;
	if (x->p != y->p)
		return x->p > y->p ? -1 : 1;
	return x->token < y->token ? -1 : 1;
}

/* Unnormalised probabilities; returns their sum */
static double weigh(const float *logits, uint32_t vocab, double temperature, double high,
                    struct pf_choice *choice)
{
	double sum = 0.0;
	for (uint32_t i = 0; i < vocab; i++) {
		choice[i].token = (int32_t)i;
		choice[i].p = pf_exp64((logits[i] - high) / temperature);
		sum += choice[i].p;
	}
	return sum;
}

/* Keeps the head of the distribution; returns its sum and how many there are */
static double cut(double top_p, double sum, uint32_t vocab, struct pf_choice *choice,
                  uint32_t *count)
{
	double kept = 0.0;
	qsort(choice, vocab, sizeof *choice, order_choice);
	for (*count = 0; *count < vocab && kept < top_p * sum; ++*count)
		kept += choice[*count].p;
	return kept;
}

int pf_sample(const struct pf_sampling *sampling, const float *logits, uint32_t vocab,
              struct pf_random *random, struct pf_choice *choice, int32_t *token)
{
	uint32_t count = vocab, i = 0;
	*token = largest(logits, vocab);
	if (*token < 0 || !isfinite(logits[*token]))
		return PF_E_NOT_FINITE;
	if (sampling->temperature == 0.0)
		return 0;
	double sum = weigh(logits, vocab, sampling->temperature, logits[*token], choice);
	if (sampling->top_p < 1.0)
		sum = cut(sampling->top_p, sum, vocab, choice, &count);
	double left = pf_random_unit(random) * sum;
	while (i + 1 < count && left >= choice[i].p)
		left -= choice[i++].p;
	*token = choice[i].token;
	return 0;
}
