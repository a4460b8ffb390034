/* loss.h: preference losses by name: what there is, one loss with its parameters, its program, its value.
 *
 * A loss is a row of losses.def: parameters with ranges, what data it needs, and two programs for kernel `pref`. This
 * header turns names into programs; pf_loss_evaluate runs them on a device.
 * Thread-safe: rows are constant; a struct pf_loss is plain data owned by the caller. */
#ifndef PREFPGA_LOSS_H
#define PREFPGA_LOSS_H
#include <stddef.h>
#include <stdint.h>
#include "device.h"
#ifdef __cplusplus
extern "C" {
#endif

enum pf_loss_form { PF_FORM_TOKENS, PF_FORM_PAIR, PF_FORM_BINARY, PF_FORM_TRIPLE, PF_FORM_LIST };

struct pf_loss_param {
	const char *name, *oracle;     /* TRL's name and, where it differs, the one in the test vectors ("" = same) */
	double      value, low, high;  /* default; allowed range, both ends included */
	int         low_open, high_open;       /* 1: that end itself is excluded */
	const char *text;
};

struct pf_loss_row {
	const char   *name;            /* as in TRL where TRL has it */
	const char   *oracle;          /* answers to "oracle:<this>" too */
	const char   *title, *source;  /* for people; paper */
	enum pf_loss_form form;
	int           needs_reference; /* 1: log-probs of a reference policy are part of the loss */
	int           per_item;        /* 1: every item has its own loss; 0: one per group */
	unsigned      params;
	const struct pf_loss_param *param;
	const char   *value, *grad;    /* programs, in the mnemonics of PF_OPS */
};
/* Row i, NULL past the last */
PF_API const struct pf_loss_row *pf_loss_row(unsigned i);
/* The row that answers to `name` ("sigmoid", "dpo", "oracle:dpo_sigmoid"), or NULL */
PF_API const struct pf_loss_row *pf_loss_find(const char *name);

/* A configured loss: up to four weighted components */
struct pf_loss {
	unsigned components;
	struct { const struct pf_loss_row *row; double weight; double param[8]; } component[4];
};
/* Parses "NAME[:key=value,...][+NAME...]". Errors name the nearest known key, and the range of a value outside it */
PF_API int pf_loss_parse(const char *text, struct pf_loss *loss, struct pf_error *error);
PF_API int pf_loss_set(struct pf_loss *loss, unsigned component, const char *key, double value, struct pf_error *error);

/* One scored sequence as the loss sees it. Sums are nats as Q31.32 integers */
struct pf_loss_item { int64_t policy, reference; uint32_t n; int kind; float score, margin, weight, advantage; uint32_t status; };
enum { PF_KIND_CHOSEN = 1, PF_KIND_REJECTED = 2, PF_KIND_EXTRA = 4 };
/* Scalars of the whole optimizer step, known before the first gradient */
struct pf_loss_batch { double divisor, z0, delta, tokens; };
struct pf_loss_result { double loss, grad; uint32_t status, group; };

/* Evaluates items[count] in groups[group_count + 1] (first item of each group, then count) on kernel pref of the device.
 * result[i].loss: of the group or item before the division; result[i].grad: dL/dlogp, divisor applied. Any count:
 * launches are split between groups. Returns 0, or an error with text */
PF_API int pf_loss_evaluate(struct pf_device *device, const struct pf_loss *loss, const struct pf_loss_batch *batch,
                            const struct pf_loss_item *items, size_t count, const uint32_t *groups, size_t group_count,
                            struct pf_loss_result *result, struct pf_error *error);
/* The total: sum over groups (or items) of finite losses / divisor, and how many were invalid */
PF_API double pf_loss_total(const struct pf_loss *loss, const struct pf_loss_batch *batch,
                            const struct pf_loss_result *result, size_t count, size_t *invalid);
#ifdef __cplusplus
}
#endif
#endif
