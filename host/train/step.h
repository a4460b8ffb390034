/* step.h: one optimizer step's loss, gradient and metrics; with no gradient asked for, one step of evaluation.
 *
 * A step is a pack of groups (pairs, samples, rankings). It is computed chunk by chunk, a chunk being whole groups; the
 * divisors are those of the step, so chunks and accumulation do not change the result. Losses with a scalar over the
 * step get it before the first gradient: KTO's z0 from a pass of its own, BCO's running mean like losses that look at
 * the whole step when all its sums are there; or all of these see parts of a step alone, as if these were steps,
 * but for the divisors. One thread. */
#ifndef PF_TRAIN_STEP_H
#define PF_TRAIN_STEP_H
#include "../corpus/batch.h"
#include "prefpga/loss.h"
#include "reference.h"
#include "scorer.h"

/* State of a loss that outlives a step, kept with checkpoints: BCO's running mean of rewards (TRL's RunningMoments) */
struct pf_loss_state { double mean, count; };

/* What rewards of a prompt's completions become when the data has no advantages: (reward - mean) over the group's
 * deviation (+ 1e-4), over the step's, over nothing; the reward minus the mean of the others; or all against the step:
 * (reward - its mean) over its deviation (REINFORCE++) */
enum pf_advantages {
	PF_ADVANTAGES_GROUP, PF_ADVANTAGES_BATCH, PF_ADVANTAGES_NONE, PF_ADVANTAGES_OTHERS, PF_ADVANTAGES_STEP
};

struct pf_objective {
	const struct pf_loss    *loss;
	struct pf_device        *device;       /* computes the loss itself */
	struct pf_scorer        *scorer;
	const struct pf_model   *policy;
	const struct pf_model   *reference;    /* NULL: reference-free */
	struct pf_reference     *cache;        /* of the split the packs come from; NULL: nothing is kept */
	struct pf_chunk_limit    limit;
	size_t                   micro;        /* groups of a part that losses which look beyond a group see; 0: the step */
	struct pf_loss_state     state;
	int                      training;     /* 1: the loss's state moves */
	int                      remote;       /* 1: the devices cannot compute the reference, the cache has it all */
	uint64_t                 referenced;   /* forwards of the reference so far */
	enum pf_advantages       advantages;
};

/* Sums and counts, so that chunks, steps and runs combine exactly. [0] chosen or desirable, [1] rejected or not */
struct pf_tally {
	double   loss;                 /* the step's loss */
	double   logp[2], reward[2];   /* sums over sequences; reward = beta x log-ratio */
	double   margin;               /* sum over pairs of reward chosen - rejected */
	uint64_t sequences[2], pairs;
	uint64_t accurate;             /* pairs whose reward is larger on the chosen side; ties are not, nor differences below
	                                * 1e-6 nat a token, which is what log-probs promise: policy = reference gives
	                                * 0 */
	uint64_t likelier;             /* pairs whose mean logp is larger on the chosen side */
	int      referenced;           /* 1: there was a reference to compare with */
	double   drift[2];             /* sums over sequences of log-ratio a token; these three only with a reference */
	uint64_t below;                /* chosen sequences less likely than under the reference */
	double   kl;                   /* sum over sequences of n (e^d - 1 - d), d the mean of log reference - log policy a
	                                * token: an estimate of the KL divergence that is never negative */
	double   length, length2;      /* sums over pairs: tokens chosen - rejected, its square, */
	double   margin2, length_margin;       /* the margin's square, their product */
	uint64_t longer;               /* pairs whose chosen side is longer */
	double   sure;                 /* sum over pairs of sigmoid |margin|: how often the rewards say they are right */
	double   score, score2;        /* rollouts: sums of rewards and their squares */
	uint64_t scored, groups, flat; /* rollouts: rewards, prompts, prompts whose rewards are all equal */
	uint64_t tokens, hits;         /* scored; argmax == target */
	uint64_t computed;             /* tokens through the policy's body, prompts included */
	struct pf_left_out left_out;   /* what the gradient's filter left out */
	double   z0;                   /* KTO's reference point; NaN for other losses */
	uint64_t origin;               /* of the reference's log-probs: 0 computed, else a hash of what was imported */
};
void pf_tally_clear(struct pf_tally *tally);
void pf_tally_add(struct pf_tally *tally, const struct pf_tally *more);

/* gradient: the flat array, added to; NULL: evaluation. Errors name the sample whose numbers are not finite */
int pf_step_run(struct pf_objective *objective, const struct pf_pack *pack, const struct pf_step *facts,
                float *gradient, struct pf_tally *tally, struct pf_error *error);
/* sum[pack->sequences], or NULL: the reference's, from the objective's cache or computed and kept there */
int pf_step_reference(struct pf_objective *objective, const struct pf_pack *pack, int64_t *sum, struct pf_error *error);
/* 1 if the cache has all of the pack, 0 if not, or an error */
int pf_step_cached(const struct pf_objective *objective, const struct pf_pack *pack, struct pf_error *error);
/* The largest |logp policy - logp reference| of a token of the pack's first chunk, both computed now; NaN where the
 * devices cannot */
int pf_step_check(struct pf_objective *objective, const struct pf_pack *pack, double *largest, struct pf_error *error);
#endif
