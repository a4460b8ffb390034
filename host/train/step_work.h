/* step_work.h: inner words of step.h: the numbers of one step while it is computed, from log-probs to items and back.
 *
 * Everything is indexed by the step's sequences, so that a loss can look at all of them. Losses per token have, beside
 * the sums of sequences, those of every scored place of the step. One thread. */
#ifndef PF_TRAIN_STEP_WORK_H
#define PF_TRAIN_STEP_WORK_H
#include "step.h"

struct pf_work {
	struct pf_seq *seq;            /* [sequences] */
	int64_t *reference;            /* [sequences] */
	struct pf_seq *token;          /* [scored places]; NULL unless the loss is per token, like the next */
	int64_t *token_reference;
	struct pf_seq *prompt;         /* [sequences] of chosen sequences' prompts; NULL unless the loss counts them */
	double *grad;                  /* [sequences], and behind them as many of prompts; or [scored places] */
	double *reward;                /* [sequences] scores, less the divergence from the reference where the loss says so */
	float *advantage;              /* [sequences] */
	struct pf_loss_item *item; /* [items]: one a sequence, one more a prompt and a group of a triple; or one a scored
	                            * place */
	struct pf_loss_result *result; /* [items] */
	uint32_t *group;               /* [groups of the loss + 1] */
	size_t *owner;                 /* [items] where in grad an item's gradient belongs */
};

/* Groups and sequences of a step as the loss sees them */
struct pf_stretch { size_t items, groups; };

int  pf_work_open(struct pf_work *work, const struct pf_objective *objective, const struct pf_pack *pack,
                  struct pf_error *error);
void pf_work_close(struct pf_work *work);
/* Number of the step's scored places before a sequence */
size_t pf_work_place(const struct pf_pack *pack, size_t sequence);
/* log-ratio of a sequence in nats; its own log-prob where there is no reference */
double pf_work_ratio(const struct pf_work *work, size_t sequence);
/* Rewards and advantages of groups [0, groups): from the data, or from scores. With pf_loss_reward_kl all of their
 * tokens have log-probs already */
void pf_work_advantages(struct pf_work *work, const struct pf_objective *objective, const struct pf_pack *pack,
                        size_t groups);
/* Items of the chunk's groups, and the loss's groups of them */
struct pf_stretch pf_work_items(struct pf_work *work, const struct pf_objective *objective, const struct pf_pack *pack,
                                const struct pf_chunk *chunk);
/* The items' gradients to where they belong in work->grad */
void pf_work_spread(struct pf_work *work, size_t items);
/* Adds the chunk's metrics, all but the loss */
void pf_work_tally(const struct pf_work *work, const struct pf_objective *objective, const struct pf_pack *pack,
                   const struct pf_chunk *chunk, struct pf_tally *tally);
/* beta of the loss, which turns log-ratios into rewards; 1 without one */
double pf_reward_scale(const struct pf_loss *loss);
#endif
