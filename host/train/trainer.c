#include "trainer_inside.h"
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include "seconds.h"

enum { KEEP = 2 };                     /* complete checkpoints that stay */

void pf_trainer_say(const struct pf_trainer *r, const char *text)
{
	if (r->t->note)
		r->t->note(r->t->context, text);
}

static void count_time(struct pf_trainer *r, double *seconds, const char *phase, double began)
{
	const double now = pf_seconds();
	*seconds += now - began;
	pf_trace_phase(r->t->run.trace, phase, began, now);
}

/* ---- saving ---- */

static int save(struct pf_trainer *r, struct pf_error *error)
{
	const double began = pf_seconds();
	const struct pf_checkpoint c = { r->step, pf_metrics_position(r->metrics), r->running.objective.state, r->fact,
	                                 r->facts, r->t->tokenizer, r->t->synced };
	if (!r->t->out || r->saved == r->step)
		return 0;
	int code = pf_trainer_bring(r, error);
	if (!code)
		code = pf_checkpoint_save(r->t->out, r->model, &r->adamw, &c, KEEP, error);
	r->saved = code ? r->saved : r->step;
	count_time(r, &r->result->times.saving, "saving", began);
	return code;
}

/* ---- failed devices ---- */

static void count_times(struct pf_trainer *r)
{
	const struct pf_scorer_times times = pf_scorer_times(r->running.scorer);
	r->result->times.body += times.body;
	r->result->times.head += times.head;
}

/* 0: the devices were replaced and what failed may begin anew, with the loss's state as it was before. Otherwise
 * `code`, or why they could not be replaced */
static int renew(struct pf_trainer *r, int code, const struct pf_loss_state *before, struct pf_error *error)
{
	const struct pf_run *run = &r->t->run;
	const struct pf_error why = *error;
	if (!run->renewal || !pf_device_lost(code) || (run->stop && *run->stop))
		return code;
	count_times(r);
	if (r->away)
		return pf_trainer_lost(r, code, error);
	pf_running_close(&r->running);
	memset(&r->running, 0, sizeof r->running);
	code = pf_renew(run->renewal, &why, error);
	if (!code)
		code = pf_running_open(&r->running, run, r->model, 1, error);
	if (!code)
		code = pf_trainer_keep(r, error);
	r->running.objective.state = *before;
	return code;
}

static void got_on(struct pf_trainer *r)
{
	if (r->t->run.renewal)
		r->t->run.renewal->futile = 0;
}

/* ---- steps ---- */

/* *evaluated stays 0 when a stop came in between: the step is logged and saved without it */
static int evaluate(struct pf_trainer *r, int *evaluated, struct pf_error *error)
{
	const double began = pf_seconds();
	const struct pf_loss_state state = r->running.objective.state;
	int code;
	do {
		r->running.objective.cache = r->held_cache;
		code = pf_running_evaluate(&r->running, &r->t->held, r->t->evaluating, r->t->context,
		                           &r->result->held, error);
	} while (code && code != PF_E_INTERRUPTED && (code = renew(r, code, &state, error)) == 0);
	got_on(r);
	count_time(r, &r->result->times.evaluation, "evaluation", began);
	*evaluated = !code;
	return code == PF_E_INTERRUPTED ? 0 : code;
}

static int load_step(struct pf_trainer *r, struct pf_step *facts, struct pf_error *error)
{
	const double began = pf_seconds();
	int code = pf_sampler_step(&r->sampler, r->step, &r->running.pack, facts, error);
	count_time(r, &r->result->times.data, "data", began);
	r->running.objective.cache = r->cache;
	return code;
}

/* Policy and reference agree before the first step if both come from the same weights and numerics; what different
 * precisions of their heads make of the same weights is said whatever it is */
static int check_start(struct pf_trainer *r, struct pf_error *error)
{
	const struct pf_run *run = &r->t->run;
	const int differ = run->precision != run->reference_precision;
	char text[256], why[96] = "";
	if (r->step != 0 || !r->running.objective.reference)
		return 0;
	int code = pf_step_check(&r->running.objective, &r->running.pack, &r->result->step0_check, error);
	if (r->running.objective.remote)
		return code;
	if (differ)
		snprintf(why, sizeof why, "; their heads are computed in %s and %s", pf_precision_name(run->precision),
		         pf_precision_name(run->reference_precision));
	snprintf(text, sizeof text,
	         "step0_check: policy and reference differ by at most %.3g nat per token before step 1%s",
	         r->result->step0_check, why);
	if (!code && (differ || r->result->step0_check > 1e-5))
		pf_trainer_say(r, text);
	return code;
}

/* The body's update on the host and the head's on the device, clipped by the norm of both together */
static int update_both(struct pf_trainer *r, struct pf_fused *kept, double rate, double *norm, struct pf_error *error)
{
	struct pf_adamw_factors factors;
	double square;
	int code = pf_fused_kept_square(kept, &square, error);
	if (code)
		return r->away ? pf_trainer_lost(r, code, error) : code;
	code = pf_adamw_step_with(&r->adamw, rate, r->model->param, r->gradient, square, &factors, norm);
	if (code)
		return code;
	r->away++;
	code = pf_fused_kept_update(kept, &factors, error);
	return code ? pf_trainer_lost(r, code, error) : 0;
}

static int update(struct pf_trainer *r, double rate, double *norm, struct pf_error *error)
{
	const double began = pf_seconds();
	struct pf_fused *kept = pf_scorer_kept(r->running.scorer);
	int code = kept ? update_both(r, kept, rate, norm, error)
	                : pf_adamw_step(&r->adamw, rate, pf_model_trained(r->model).param, r->gradient, norm);
	if (!kept && !r->model->lora && !r->model->layout.frozen_head) /* the head is what devices keep */
		pf_model_touch(r->model);
	count_time(r, &r->result->times.optimizer, "optimizer", began);
	return code == PF_E_NOT_FINITE ? pf_fail(error, code,
	                      "step %llu: the gradient is not finite, the weights are as before it; lower --lr or "
	                      "--max-grad-norm",
	                      (unsigned long long)r->step + 1)
	            : code;
}

static int due(uint64_t every, uint64_t step)
{
	return every && step % every == 0;
}

/* TR-DPO: the reference goes part of the way, or all of it, to the policy */
static int sync_reference(struct pf_trainer *r, struct pf_error *error)
{
	const struct pf_training *t = r->t;
	if (!t->synced || !due(t->sync_every, r->step))
		return 0;
	int code = pf_trainer_bring(r, error);
	if (code)
		return code;
	for (uint64_t i = 0; i < r->model->layout.size; i++)
		t->synced->param[i] =
			(float)(t->mixup * (double)r->model->param[i] + (1.0 - t->mixup) * (double)t->synced->param[i]);
	pf_model_touch(t->synced);
	pf_trainer_forget_caches(r);
	return 0;
}

/* Loss and gradient of the next step */
static int compute(struct pf_trainer *r, struct pf_step *facts, struct pf_tally *tally, struct pf_error *error)
{
	int code = load_step(r, facts, error);
	if (!code)
		code = check_start(r, error);
	if (code)
		return code;
	memset(r->gradient, 0, r->adamw.layout->size * sizeof *r->gradient);
	return pf_step_run(&r->running.objective, &r->running.pack, facts, r->gradient, tally, error);
}

static int one_step(struct pf_trainer *r, struct pf_error *error)
{
	const double began = pf_seconds(), rate = pf_schedule_rate(&r->t->schedule, r->step);
	const struct pf_loss_state state = r->running.objective.state;
	struct pf_step facts;
	struct pf_tally tally;
	uint64_t beats[2], bytes[2];
	double norm = 0.0;
	int code;
	do {
		pf_trainer_count_devices(&r->t->run, &beats[0], &bytes[0]);
		code = compute(r, &facts, &tally, error);
	} while (code && (code = renew(r, code, &state, error)) == 0);
	got_on(r);
	if (!code)
		code = update(r, rate, &norm, error);
	if (code)
		return code;
	r->step++;
	code = sync_reference(r, error);
	if (code)
		return code;
	r->result->stopped = pf_alarm_step(&r->alarm, &tally, r->step);
	const double seconds = pf_seconds() - began;
	pf_trainer_count_devices(&r->t->run, &beats[1], &bytes[1]);
	int evaluated = 0;
	if (r->t->held.corpus && (due(r->t->eval_every, r->step) || r->step == r->t->steps || r->result->stopped))
		code = evaluate(r, &evaluated, error);
	const struct pf_step_report report = { r->step, r->t->steps, facts.epoch, &tally,
		evaluated ? &r->result->held : NULL, norm, rate, seconds, beats[1] - beats[0], bytes[1] - bytes[0] };
	if (!code)
		code = pf_trainer_log_step(r, &report, error);
	if (!code && due(r->t->save_every, r->step))
		code = save(r, error);
	return code;
}

static int train(struct pf_trainer *r, struct pf_error *error)
{
	const volatile sig_atomic_t *stop = r->t->run.stop;
	int code = r->t->meters ? pf_meters_begin(r->t->meters, r->step, error) : 0;
	r->result->first = r->step;
	while (!code && r->step < r->t->steps && !(stop && *stop) && !r->result->stopped)
		code = one_step(r, error);
	r->result->steps = r->step;
	if (!code)
		code = save(r, error);
	if (!code && r->step < r->t->steps && !r->result->stopped)
		code = pf_fail(error, PF_E_INTERRUPTED, "interrupted after step %llu of %llu%s",
		               (unsigned long long)r->step, (unsigned long long)r->t->steps,
		               r->t->out ? "; --resume goes on from here" : "");
	if (!code)
		code = pf_trainer_bring(r, error);
	if (!code && r->t->out)
		code = pf_model_save_as(r->model, &r->t->save, r->t->out, error);
	if (!code && r->t->out && r->t->tokenizer)
		code = pf_tokenizer_save(r->t->tokenizer, r->t->out, error);
	return code;
}

int pf_train(const struct pf_training *training, struct pf_model *model, struct pf_training_result *result,
             struct pf_error *error)
{
	struct pf_trainer r = { .t = training, .model = model, .result = result, .folder = -1,
		.alarm = { training->alarm, 0, 0, training->note, training->context } };
	*result = (struct pf_training_result){ .step0_check = NAN };
	pf_tally_clear(&result->held);
	int code = pf_trainer_open(&r, error);
	r.exact = pf_trainer_all_exact(&training->run);
	if (!code)
		code = train(&r, error);
	count_times(&r);
	pf_trainer_close(&r);
	return code;
}
