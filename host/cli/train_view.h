/* train_view.h: what a person sees while a training runs: its steps, its evaluations, and what is worth a word. One
 * thread; callbacks of struct pf_training, whose context is the view. */
#ifndef PF_TRAIN_VIEW_H
#define PF_TRAIN_VIEW_H
#include "host/train/trainer.h"
#include "options.h"
#include "progress.h"

struct pf_train_view {
	const struct pf_options *options;      /* set this, the rest is 0 */
	struct pf_progress       steps, evaluation;
	int                      started;
};

void pf_train_view_step(void *context, const struct pf_step_report *report);
/* Only of evaluations that last: shorter ones are over before the line of the next step */
void pf_train_view_evaluation(void *context, uint64_t done, uint64_t total);
void pf_train_view_note(void *context, const char *text);
#endif
