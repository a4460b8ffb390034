/* loss.h: preference losses by name: what there is, one loss with its parameters, its value.
 *
 * A loss is a row of losses.def: parameters with ranges, what data it needs, and two programs for
 * kernel `pref`. This header turns names into losses; pf_loss_evaluate runs them on a device.
 * Thread-safe: rows are constant; a struct pf_loss is plain data owned by the caller. */
#ifndef PREFPGA_LOSS_H
#define PREFPGA_LOSS_H
#include <stddef.h>
#include <stdint.h>
#include "device.h"
#ifdef __cplusplus
extern "C" {
#endif

enum pf_loss_form {
	PF_FORM_TOKENS, PF_FORM_PAIR, PF_FORM_BINARY, PF_FORM_TRIPLE, PF_FORM_LIST, PF_FORM_ROLLOUT
};
/* What a loss wants of a reference policy */
enum pf_loss_reference {
	PF_LOSS_FREE,                  /* nothing */
	PF_LOSS_REF,                   /* its log-probs */
	PF_LOSS_REF_BETA,              /* them, if parameter beta is above 0 */
	PF_LOSS_REF_FIXED,             /* them, and another divergence than the reverse KL has no meaning */
	PF_LOSS_REF_REWARD,            /* the same, taken from rewards before they become advantages */
	PF_LOSS_REF_OWN,               /* them, and the policy's own likelihood as the items' weights */
	PF_LOSS_REF_TAIL,              /* them, summed with smaller weights of long tails (LD-DPO) */
};

struct pf_loss_param {
	const char *name, *oracle;     /* TRL's name; test vectors' where it differs, else ""; "!": none */
	double      value, low, high;  /* default; allowed range, both ends included */
	int         low_open, high_open;       /* 1: that end itself is excluded */
	const char *text;
};

struct pf_loss_row {
	const char   *name;            /* as in TRL where TRL has it */
	const char   *aliases;         /* other names, blank separated: "dpo oracle:dpo_sigmoid" */
	const char   *title, *source;  /* for people; paper */
	enum pf_loss_form form;
	enum pf_loss_reference reference;
	int           per_item;        /* 1: every item has its own loss; 0: one per group */
	int           per_token;       /* 1: items are single tokens, groups are sequences */
	const char   *inputs;          /* key:field[/member] of cases beyond the form's own */
	unsigned      params;
	const struct pf_loss_param *param;
	const char   *value, *grad;    /* programs; losses.def has the language */
};
/* Row i, NULL past the last */
PF_API const struct pf_loss_row *pf_loss_row(unsigned i);
/* The row that answers to `name` ("sigmoid", "dpo", "oracle:dpo_sigmoid"), or NULL */
PF_API const struct pf_loss_row *pf_loss_find(const char *name);
/* Name of a form for people: "pair", ... */
PF_API const char *pf_loss_form_name(enum pf_loss_form form);

/* What changes losses of pairs, whichever they are (loss_modifier.c) */
enum pf_loss_modifier {
	PF_LOSS_DIVERGENCE, PF_LOSS_DIVERGENCE_COEF, PF_LOSS_WEIGHTING, PF_LOSS_MAX_WEIGHT,
	PF_LOSS_LD_ALPHA, PF_LOSS_LD_REFERENCE, PF_LOSS_MODIFIERS
};
/* Modifier i, NULL past the last; f_divergence_type's values are pf_loss_divergence_name(0 to 3) */
PF_API const struct pf_loss_param *pf_loss_modifier(unsigned i);
PF_API const char *pf_loss_divergence_name(unsigned i);

/* A configured loss: up to four weighted components. Plain likelihood mixes with every form, pairs
 * mix with triples, otherwise all components have one form */
enum { PF_LOSS_COMPONENTS = 4, PF_LOSS_PARAMS = 9 };   /* beta and p0 to p7 of a formula */
struct pf_loss_component {
	const struct pf_loss_row *row;
	double weight, param[PF_LOSS_PARAMS];
	unsigned modified;             /* bit i: modifier[i] was set */
	double modifier[PF_LOSS_MODIFIERS];
};
struct pf_loss {
	unsigned components;
	struct pf_loss_component component[PF_LOSS_COMPONENTS];
};
/* Parses "NAME[:key=value,...][+NAME...]"; keys are parameters, modifiers, and `weight` (default 1). A NAME may be a
 * formula, "expr:softplus(-x)", in braces where something follows: "expr:{softplus(-x)}+sft"; its row
 * stays for the life of the process, of which at most 64 fit. Errors name the nearest known name or
 * key, the range of a value outside it, and the column in a formula */
PF_API int pf_loss_parse(const char *text, struct pf_loss *loss, struct pf_error *error);
/* Sets one parameter (TRL's name, the test vectors' name, a modifier's, or "weight") of one component */
PF_API int pf_loss_set(struct pf_loss *loss, unsigned component, const char *key, double value,
                       struct pf_error *error);
/* The form of the items that the loss as a whole wants */
PF_API enum pf_loss_form pf_loss_form(const struct pf_loss *loss);
/* 1: every item has its own loss; 0: one loss per group */
PF_API int pf_loss_per_item(const struct pf_loss *loss);
/* 1: items are single tokens and groups sequences */
PF_API int pf_loss_per_token(const struct pf_loss *loss);
/* 1: some component looks at the reference */
PF_API int pf_loss_needs_reference(const struct pf_loss *loss);
/* Weight of sum over tokens of old - reference log-probs that each reward loses before advantages are made; 0: none */
PF_API double pf_loss_reward_kl(const struct pf_loss *loss);
/* 1: items' weights must be e^(mean over tokens of logp - log sum p^2) of the policy */
PF_API int pf_loss_own_weights(const struct pf_loss *loss);
/* 1: sums must be those of LD-DPO, see PF_LOSS_REF_TAIL */
PF_API int pf_loss_tail(const struct pf_loss *loss);
/* 1: the loss of a group depends on the others: a step is evaluated in one call */
PF_API int pf_loss_coupled(const struct pf_loss *loss);
/* 1: the likelihood of chosen sides' prompts is part of the loss: a group may have an item of kind PF_KIND_PROMPT */
PF_API int pf_loss_prompts(const struct pf_loss *loss);
/* 1 and the value of the first parameter or set modifier of that name, or 0 */
PF_API int pf_loss_param(const struct pf_loss *loss, const char *name, double *value);
/* 1: some component's program reads this scalar of the step */
enum pf_loss_scalar { PF_LOSS_Z0 = 1, PF_LOSS_DELTA = 2, PF_LOSS_TOKENS = 3, PF_LOSS_PROMPT_TOKENS = 4 };
PF_API int pf_loss_uses(const struct pf_loss *loss, enum pf_loss_scalar scalar);

/* One scored sequence as the loss sees it. Sums are nats as Q31.32 integers. A pair is one chosen and
 * one rejected item, a triple one item more (extra); binary samples are chosen (desirable) or
 * rejected; likelihood counts chosen items; a ranking's items come best first; a rollout's items are
 * the tokens of one sequence, all chosen, with n = 1 and the sequence's advantage. Groups of pairs, triples and
 * likelihood may have one item more, the chosen side's prompt, unless it has no tokens that anything predicts; losses
 * without pf_loss_prompts do not look at it. weight is 1 unless the loss says what it means */
struct pf_loss_item {
	int64_t  policy, reference;
	int64_t  old;                  /* under the policy that sampled it: rollouts only; of a pair's side the
	                                * number of its unscored tokens, which unshifted_length counts */
	uint32_t n;                    /* scored tokens */
	int      kind;                 /* PF_KIND_... */
	float    score, margin, weight, advantage;
	uint32_t status;               /* of the sequence's rows; bad ones make the group invalid */
};
enum { PF_KIND_CHOSEN = 1, PF_KIND_REJECTED = 2, PF_KIND_EXTRA = 4, PF_KIND_PROMPT = 8 };
/* Scalars of the whole optimizer step, known before the first gradient. Those that no component uses
 * may be 0 */
struct pf_loss_batch {
	double divisor;                /* pairs, samples or lists of the step, > 0 */
	double z0;                     /* KTO: max(0, mean log-ratio of mismatched completions) */
	double delta;                  /* BCO: running mean of the rewards */
	double tokens;                 /* likelihood: scored tokens of chosen items, > 0 if any */
	double prompt_tokens;          /* likelihood with prompts: tokens of their items */
};
struct pf_loss_result { double loss, grad; uint32_t status, group; };

/* Evaluates items[count] in groups[group_count + 1] (first item of each group, then count) on kernel
 * pref of the device. result[i].loss: of the group or item before the division, NaN where status is
 * set; result[i].grad: dL/dlogp, divisor and weights applied, 0 where status is set. Any count:
 * launches are split between groups. Returns 0, or an error that names the item or group: wrong
 * members, a log-ratio outside Q31.32, a list beyond 8192 items, a missing batch scalar. Steps of a
 * coupled loss and sequences beyond 8192 items fit no launch: the host computes them, in the kernel's bits */
PF_API int pf_loss_evaluate(struct pf_device *device, const struct pf_loss *loss,
                            const struct pf_loss_batch *batch, const struct pf_loss_item *items,
                            size_t count, const uint32_t *groups, size_t group_count,
                            struct pf_loss_result *result, struct pf_error *error);
/* The total: sum over groups (or items) of finite losses, in order, / divisor; *invalid (may be NULL):
 * how many were not finite */
PF_API double pf_loss_total(const struct pf_loss *loss, const struct pf_loss_batch *batch,
                            const struct pf_loss_result *result, size_t count, size_t *invalid);
#ifdef __cplusplus
}
#endif
#endif
