/* loss_modifier.h: what changes a loss of pairs, whichever it is: another divergence than the reverse KL
 * (f_divergence_type), WPO's weights (use_weighting), LD-DPO's lighter tails (ld_alpha). TRL's names and meanings.
 *
 * A divergence puts S(u) in the place of every log-ratio u of a program and its slope behind the gradient; weights
 * multiply both programs; tails are a matter of the sums (step.c). Thread-safe. */
#ifndef PF_TRAIN_LOSS_MODIFIER_H
#define PF_TRAIN_LOSS_MODIFIER_H
#include "prefpga/loss.h"

enum { PF_LOSS_TEXT = 4096 };
/* Index of the modifier of that name, or PF_LOSS_MODIFIERS */
unsigned pf_loss_modifier_find(const char *name);
/* Its value in this component, the default if it was not set */
double pf_loss_modifier_of(const struct pf_loss_component *component, enum pf_loss_modifier modifier);
/* 1: the value that was set differs from what changes nothing */
int pf_loss_modifies(const struct pf_loss_component *component, enum pf_loss_modifier modifier);
/* An error that says why the component's loss does not go with what was set */
int pf_loss_modifiers_check(const struct pf_loss_component *component, struct pf_error *error);
/* The value program (gradient: 0) or the gradient's, as modified, into text[PF_LOSS_TEXT] */
int pf_loss_modified(const struct pf_loss_component *component, int gradient, char *text, struct pf_error *error);
#endif
