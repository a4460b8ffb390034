#include "train_view.h"
#include "cli.h"

void pf_train_view_step(void *context, const struct pf_step_report *r)
{
	struct pf_train_view *view = context;
	const struct pf_tally *t = r->tally;
	char note[160];
	if (!view->started++)
		pf_progress_start(&view->steps, stderr, view->options->verb, r->step - 1, r->steps);
	int n = snprintf(note, sizeof note, "loss %.4f, grad norm %.3g, %.0f tokens/s", t->loss, r->grad_norm,
	                 r->seconds > 0.0 ? (double)t->computed / r->seconds : 0.0);
	if (t->pairs && n > 0)
		snprintf(note + n, sizeof note - (size_t)n, ", accuracy %.2f", (double)t->accurate / (double)t->pairs);
	if (view->evaluation.width > view->steps.width)        /* that line is written over */
		view->steps.width = view->evaluation.width;
	view->evaluation.width = 0;
	if (r->step == r->steps)
		pf_progress_finish(&view->steps, r->step, note);
	else
		pf_progress_show(&view->steps, r->step, note);
}

void pf_train_view_evaluation(void *context, uint64_t done, uint64_t total)
{
	struct pf_train_view *view = context;
	if (done <= 1) {
		pf_progress_start(&view->evaluation, stderr, "evaluation", 0, total);
		view->evaluation.shown_ns = view->evaluation.started_ns;
		view->evaluation.width = view->steps.width;
	}
	pf_progress_show(&view->evaluation, done, "");
}

void pf_train_view_note(void *context, const char *text)
{
	struct pf_train_view *view = context;
	if (view->steps.terminal && view->steps.width)
		fputc('\n', stderr);
	view->steps.width = 0;
	pf_cli_note(view->options, "%s", text);
}
