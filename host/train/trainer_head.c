/* The head's optimizer where it is on the device */
#include "trainer_inside.h"
#include <string.h>

static const struct pf_tensor *head_tensor(const struct pf_layout *layout)
{
	for (unsigned i = 0; i < layout->tensors; i++)
		if (layout->tensor[i].offset == layout->head)
			return &layout->tensor[i];
	return NULL;
}

int pf_trainer_keep(struct pf_trainer *r, struct pf_error *error)
{
	const enum pf_head_optimizer where = r->t->head_optimizer;
	const struct pf_renewal *renewal = r->t->run.renewal;
	const int may_fail = where == PF_HEAD_OPTIMIZER_AUTO;
	r->adamw.away = NULL;
	if (where == PF_HEAD_OPTIMIZER_HOST || (may_fail && renewal && renewal->on_fault != PF_FAULT_STOP))
		return 0;
	int code = pf_scorer_keep(r->running.scorer, r->model, r->adamw.m, r->adamw.v, error);
	if (code == PF_E_UNSUPPORTED && may_fail)
		return 0;
	if (!code) {
		r->adamw.away = head_tensor(&r->model->layout);
		pf_trainer_say(r, "the head's weights and optimizer stay on the device; they are brought back to be "
		                  "saved");
	}
	return code;
}

int pf_trainer_bring(struct pf_trainer *r, struct pf_error *error)
{
	if (!r->away)
		return 0;
	int code = pf_scorer_bring(r->running.scorer, r->model->param, r->adamw.m, r->adamw.v, error);
	r->away = code ? r->away : 0;
	return code;
}

int pf_trainer_lost(const struct pf_trainer *r, int code, struct pf_error *error)
{
	char text[sizeof error->text];
	memcpy(text, error->text, sizeof text);
	return pf_fail(error, code,
	               "%.300s. The head's optimizer was on that device, %llu steps beyond the last checkpoint: "
	               "--resume goes on from there; --head-optimizer host loses nothing",
	               text, (unsigned long long)r->away);
}
