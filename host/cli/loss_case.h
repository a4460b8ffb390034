/* loss_case.h: test cases of a loss, one JSON object each, into preference items and results.
 *
 * A case holds the inputs of one evaluation under the keys of the loss (losses.def: the form's own
 * and the row's), as numbers or numeric strings; lists of equal length are a batch, whose loss is
 * the mean. Parameters of the loss may stand beside them and override what the loss came with.
 * Cases gather and are evaluated many to a launch: those with equal parameters and batch scalars
 * together.
 * One thread per struct pf_cases. */
#ifndef PF_CLI_LOSS_CASE_H
#define PF_CLI_LOSS_CASE_H
#include <stdio.h>
#include "prefpga/loss.h"

enum { PF_CASE_KEYS = 24, PF_CASE_KEY_BYTES = 32 };

enum pf_case_field {
	PF_CASE_POLICY, PF_CASE_REFERENCE, PF_CASE_OLD, PF_CASE_N, PF_CASE_SCORE, PF_CASE_MARGIN,
	PF_CASE_WEIGHT, PF_CASE_ADVANTAGE, PF_CASE_LABEL, PF_CASE_Z0, PF_CASE_DELTA,
	PF_CASE_FIELDS
};
/* One key of a case: what it means, for which member of a group (PF_KIND_..., 0: every item) */
struct pf_case_key {
	char               name[PF_CASE_KEY_BYTES];
	enum pf_case_field field;
	int                member, required;
};

/* What must be equal for two cases to share a launch: parameters, weights, scalars */
struct pf_case_setting { struct pf_loss loss; struct pf_loss_batch batch; };

/* LD-DPO: tokens of both sides; the gradient by those from `shared` on is `weight` times the side's */
struct pf_case_tail { uint32_t n[2], shared; double weight; };

struct pf_case {
	struct pf_case_setting setting;
	size_t   line;                 /* where it came from, for messages */
	size_t   item, group;          /* first of each in struct pf_cases */
	uint32_t items, groups;
	uint32_t lists;                /* bit i: key i was a list */
	struct pf_case_tail tail;      /* n[0] = 0: none */
};

struct pf_cases {
	struct pf_loss         loss;   /* what cases start from */
	struct pf_case_key     key[PF_CASE_KEYS];
	unsigned               keys;
	uint32_t               each;   /* items of one element of a batch, */
	int                    prompts;        /* 1: the last of which is a prompt */
	struct pf_case        *list;
	struct pf_loss_item   *item;
	struct pf_loss_result *result; /* [items], after pf_cases_evaluate */
	uint32_t              *group;  /* [groups] items of each group */
	size_t                 count, items, groups, list_room, item_room, group_room;
};

/* Works out the keys of `loss`. Pair with pf_cases_free */
int pf_cases_init(struct pf_cases *cases, const struct pf_loss *loss, struct pf_error *error);
void pf_cases_free(struct pf_cases *cases);
/* Forgets the cases, keeps the memory */
void pf_cases_clear(struct pf_cases *cases);
/* Adds the JSON object in text[length], found on `line`. On an error nothing is added, and its text
 * says what to mend */
int pf_cases_add(struct pf_cases *cases, const char *text, size_t length, size_t line,
                 struct pf_error *error);
int pf_cases_evaluate(struct pf_cases *cases, struct pf_device *device, struct pf_error *error);
/* Loss of case i (mean over its groups or items); an error when it has none */
int pf_cases_loss(const struct pf_cases *cases, size_t i, double *loss, struct pf_error *error);
/* Gradient by key number `key` (a policy key), element `at` of the batch */
double pf_cases_grad(const struct pf_cases *cases, size_t i, unsigned key, uint32_t at);
/* Elements that a key of case i has in a batch */
uint32_t pf_cases_length(const struct pf_cases *cases, size_t i, unsigned key);
/* {"loss":..,"grad":{..}} and a newline */
int pf_cases_print(const struct pf_cases *cases, size_t i, FILE *out, struct pf_error *error);
#endif
