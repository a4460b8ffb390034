/* batch.h: which samples each optimizer step sees, packed.
 *
 * The order is a function of (samples, seed, epoch): step number s can be made at any time, so a resumed run continues
 * exactly. A step is whole before its first gradient: every divisor of it (groups, scored tokens) is known. Steps do
 * not cross epochs; an epoch's last step may be smaller. One thread per corpus. */
#ifndef PF_CORPUS_BATCH_H
#define PF_CORPUS_BATCH_H
#include "corpus.h"

struct pf_sampler_options {
	uint64_t seed;
	uint32_t batch, accumulate;    /* a step is batch * accumulate samples */
	int      shuffle;              /* 0: the files' order in every epoch */
	int      mismatched;           /* singles with a mismatched partner each, for KTO's z0: 1 the sample before, -1 the
	                                * one behind; 0: none, */
	int      within;               /* 1: of the same batch, 0: of the step */
};

struct pf_sampler {
	struct pf_corpus         *corpus;
	enum pf_split             split;
	struct pf_sampler_options options;
	uint64_t samples, per_step, steps; /* of an epoch: samples, steps; samples of a full step */
};

/* What a step consists of. Mismatched sequences, if wanted, are groups behind the first `groups` ones: one each, prompt
 * of the step's sample i with the completion of sample i - 1 (or i + 1) around the step or its batch; where that is one
 * sample, it takes the completion of its neighbour in the epoch's order. Only datasets of one sample have none */
struct pf_step {
	uint64_t epoch, position;      /* place of its first sample in the epoch */
	size_t groups, sequences; /* those that the loss sees: the divisor of a mean over pairs, singles, rankings */
	size_t   mismatched;           /* further groups of one sequence each */
	uint64_t scored;               /* scored tokens of the loss's sequences: the divisor of a mean over tokens */
};

/* Checks and computes the rest of *sampler. The corpus must outlive it */
int pf_sampler_open(struct pf_sampler *sampler, struct pf_corpus *corpus, enum pf_split split,
                    const struct pf_sampler_options *options, struct pf_error *error);
/* Steps in `epochs` passes, at least 1 */
uint64_t pf_sampler_steps(const struct pf_sampler *sampler, double epochs);
/* Number of the sample at a place of an epoch */
uint64_t pf_sampler_sample(const struct pf_sampler *sampler, uint64_t epoch, uint64_t position);
/* Clears the pack and fills it with step number `step` (0, 1, ... on through all epochs) */
int pf_sampler_step(const struct pf_sampler *sampler, uint64_t step, struct pf_pack *pack, struct pf_step *facts,
                    struct pf_error *error);
#endif
