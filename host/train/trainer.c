#include "trainer.h"
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>
#include "../model/folder.h"
#include "../report/metrics.h"
#include "run.h"
#include "seconds.h"

enum { KEEP = 2, PATH_ROOM = 4096 };   /* complete checkpoints that stay */

struct trainer {
	const struct pf_training *t;
	struct pf_model *model;
	struct pf_training_result *result;
	struct pf_running running;
	struct pf_sampler sampler;
	struct pf_reference *cache, *held_cache;
	struct pf_adamw adamw;
	struct pf_metrics *metrics;
	struct pf_fact *fact;          /* [facts]: those of the caller, and where the reference's log-probs come from */
	size_t facts;
	float *gradient;
	int folder;                    /* descriptor that holds the lock of t->out, or -1 */
	uint64_t step, saved;          /* steps done; of the last checkpoint */
	uint64_t away;                 /* steps of the head that only the device has */
	int exact;                     /* the devices that the run began with all were */
	unsigned renewals;             /* logged so far */
	struct pf_alarm alarm;
};

static void say(const struct trainer *r, const char *text)
{
	if (r->t->note)
		r->t->note(r->t->context, text);
}

static void count_time(struct trainer *r, double *seconds, const char *phase, double began)
{
	const double now = pf_seconds();
	*seconds += now - began;
	pf_trace_phase(r->t->run.trace, phase, began, now);
}

/* ---- opening ---- */

static int open_log(struct trainer *r, int64_t keep, struct pf_error *error)
{
	char path[PATH_ROOM];
	const char *log = r->t->log;
	if (!log && r->t->out) {
		snprintf(path, sizeof path, "%s/metrics.jsonl", r->t->out);
		log = path;
	}
	return pf_metrics_open(log, keep, &r->metrics, error);
}

/* Log-probs of a reference that has moved are of no use */
static void forget_caches(struct trainer *r)
{
	pf_reference_close(r->cache);
	pf_reference_close(r->held_cache);
	r->cache = r->held_cache = NULL;
}

static int resume(struct trainer *r, int64_t *keep, struct pf_error *error)
{
	struct pf_checkpoint c = { .fact = r->fact, .facts = r->facts, .reference = r->t->synced };
	char path[PATH_ROOM], text[PATH_ROOM + 64];
	int code = pf_checkpoint_find(r->t->out, path, sizeof path, error);
	if (!code)
		code = pf_checkpoint_load(path, r->model, &r->adamw, &c, r->t->exact, r->t->note, r->t->context, error);
	if (code)
		return code;
	r->step = r->saved = c.step;
	r->running.objective.state = c.loss;
	if (r->t->synced && r->step >= r->t->sync_every)
		forget_caches(r);
	*keep = c.log_position;
	snprintf(text, sizeof text, "resuming from %s", path);
	say(r, text);
	return 0;
}

static int open_caches(struct trainer *r, struct pf_error *error)
{
	const struct pf_held *held = &r->t->held;
	int code = pf_running_cache(&r->running, r->t->corpus, PF_SPLIT_TRAIN, &r->cache, error);
	if (!code && held->corpus)
		code = pf_running_cache(&r->running, held->corpus, held->split, &r->held_cache, error);
	return code;
}

/* Numbers of another program are nothing that this one can answer for: the run says so, and its checkpoints */
static int gather_facts(struct trainer *r, struct pf_error *error)
{
	const uint64_t origin = pf_reference_origin(r->cache);
	char text[PATH_ROOM + 128];
	r->fact = calloc(r->t->facts + 1, sizeof *r->fact);
	if (!r->fact)
		return pf_fail(error, -ENOMEM, "no memory for what the run depends on");
	if (r->t->facts)
		memcpy(r->fact, r->t->fact, r->t->facts * sizeof *r->fact);
	r->facts = r->t->facts;
	if (!r->cache)
		return 0;
	struct pf_fact *fact = &r->fact[r->facts++];
	fact->key = "reference log-probs";
	int n = snprintf(fact->value, sizeof fact->value, origin ? "imported, %llu" : "computed",
	                 (unsigned long long)origin);
	snprintf(fact->value + n, sizeof fact->value - (size_t)n, ", %016llx",
	         (unsigned long long)pf_reference_key(r->cache));
	if (origin) {
		snprintf(text, sizeof text,
		         "log-probs of the reference were imported, not computed: %s; remove that file to have "
		         "them computed",
		         pf_reference_path(r->cache));
		say(r, text);
	}
	return 0;
}

/* The folder is made, locked against other runs, and without checkpoints unless they are to be continued */
static int open_folder(struct trainer *r, struct pf_error *error)
{
	const char *out = r->t->out;
	char path[PATH_ROOM];
	if (!out)
		return 0;
	const int made = pf_folder_make(out);
	if (made)
		return pf_fail(error, made, "%s: cannot be made: %s", out, strerror(-made));
	r->folder = open(out, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (r->folder < 0)
		return pf_fail(error, -errno, "%s: %s", out, strerror(errno));
	if (flock(r->folder, LOCK_EX | LOCK_NB) != 0)
		return pf_fail(error, -errno, "%s: another run uses this folder; wait for it or choose another --out",
		               out);
	if (!r->t->resume && pf_checkpoint_find(out, path, sizeof path, NULL) == 0)
		return pf_fail(error, PF_E_ARGUMENT,
		               "%s exists: --resume continues that run; for a new one choose another --out or "
		               "remove the folder",
		               path);
	return 0;
}

/* ---- the head's optimizer ---- */

static const struct pf_tensor *head_tensor(const struct pf_layout *layout)
{
	for (unsigned i = 0; i < layout->tensors; i++)
		if (layout->tensor[i].offset == layout->head)
			return &layout->tensor[i];
	return NULL;
}

/* Gives the head's state to the device, where it belongs there */
static int keep(struct trainer *r, struct pf_error *error)
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
		say(r, "the head's weights and optimizer stay on the device; they are brought back to be saved");
	}
	return code;
}

/* Brings what only the device has to the host's arrays */
static int bring(struct trainer *r, struct pf_error *error)
{
	if (!r->away)
		return 0;
	int code = pf_scorer_bring(r->running.scorer, r->model->param, r->adamw.m, r->adamw.v, error);
	r->away = code ? r->away : 0;
	return code;
}

/* The run cannot go on: the weights of the body and those of the head are of different steps */
static int lost(const struct trainer *r, int code, struct pf_error *error)
{
	char text[sizeof error->text];
	memcpy(text, error->text, sizeof text);
	return pf_fail(error, code,
	               "%.300s. The head's optimizer was on that device, %llu steps beyond the last checkpoint: "
	               "--resume goes on from there; --head-optimizer host loses nothing",
	               text, (unsigned long long)r->away);
}

static int open_trainer(struct trainer *r, struct pf_error *error)
{
	const struct pf_training *t = r->t;
	int64_t position = -1;
	int code = open_folder(r, error);
	if (!code)
		code = pf_running_open(&r->running, &t->run, r->model, 1, error);
	if (!code)
		code = pf_running_sampler(&r->running, t->corpus, PF_SPLIT_TRAIN, t->seed, t->shuffle,
		                          t->run.accumulate, &r->sampler, error);
	if (!code)
		code = pf_adamw_init(&r->adamw, pf_model_trained(r->model).layout, &t->adamw, error);
	if (!code && !(r->gradient = pf_floats_alloc(pf_model_trained(r->model).layout->size)))
		code = pf_fail(error, -ENOMEM, "no memory for the gradient");
	if (!code)
		code = open_caches(r, error);
	if (!code)
		code = gather_facts(r, error);
	if (!code && t->resume)
		code = resume(r, &position, error);
	if (!code)
		code = keep(r, error);
	return code ? code : open_log(r, position, error);
}

static void close_trainer(struct trainer *r)
{
	pf_metrics_close(r->metrics);
	pf_reference_close(r->cache);
	pf_reference_close(r->held_cache);
	pf_adamw_fini(&r->adamw);
	pf_running_close(&r->running);
	free(r->gradient);
	free(r->fact);
	if (r->folder >= 0)
		close(r->folder);
}

/* ---- saving ---- */

static int save(struct trainer *r, struct pf_error *error)
{
	const double began = pf_seconds();
	const struct pf_checkpoint c = { r->step, pf_metrics_position(r->metrics), r->running.objective.state, r->fact,
	                                 r->facts, r->t->tokenizer, r->t->synced };
	if (!r->t->out || r->saved == r->step)
		return 0;
	int code = bring(r, error);
	if (!code)
		code = pf_checkpoint_save(r->t->out, r->model, &r->adamw, &c, KEEP, error);
	r->saved = code ? r->saved : r->step;
	count_time(r, &r->result->times.saving, "saving", began);
	return code;
}

/* ---- log ---- */

static double share(double sum, uint64_t count)
{
	return count ? sum / (double)count : NAN;
}

/* Plain likelihood has no rewards: rewarded 0 leaves them out */
static void log_tally(struct pf_metrics *m, const char *prefix, const struct pf_tally *t, int rewarded)
{
	const struct { const char *key; double value; } all[] = {
		{ "loss", t->loss },
		{ "rewards/chosen", share(t->reward[0], rewarded ? t->sequences[0] : 0) },
		{ "rewards/rejected", share(t->reward[1], rewarded ? t->sequences[1] : 0) },
		{ "rewards/margins", share(t->margin, t->pairs) },
		{ "rewards/accuracies", share((double)t->accurate, t->pairs) },
		{ "logps/chosen", share(t->logp[0], t->sequences[0]) },
		{ "logps/rejected", share(t->logp[1], t->sequences[1]) },
		{ "mean_token_accuracy", share((double)t->hits, t->tokens) },
		{ "kl", t->z0 },
		{ "kl_reference", pf_tally_kl(t) },
		{ "chosen_drift", pf_tally_chosen_drift(t) },
		{ "frac_chosen_below", share((double)t->below, t->referenced ? t->sequences[0] : 0) },
		{ "length_bias", pf_tally_length_bias(t) },
		{ "label_noise", *prefix ? pf_tally_label_noise(t) : NAN },
		{ "reward", share(t->score, t->scored) },
		{ "reward_std", t->scored ? sqrt(fmax(share(t->score2, t->scored) - pow(share(t->score, t->scored), 2), 0)) : NAN },
		{ "filter/dropped_mean", share(t->left_out.mass, t->left_out.tokens) },
		{ "filter/dropped_max", t->left_out.tokens ? t->left_out.most : NAN },
		{ "filter/words", share((double)t->left_out.words, t->left_out.tokens) },
		{ "frac_reward_zero_std", share((double)t->flat, t->groups) },
	};
	char key[64];
	for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
		snprintf(key, sizeof key, "%s%s", prefix, all[i].key);
		pf_metrics_number(m, key, all[i].value);
	}
	snprintf(key, sizeof key, "%sreference_origin", prefix);
	if (t->origin)
		pf_metrics_count(m, key, t->origin);
}

static void log_window(void *context, const struct pf_energy_window *w)
{
	struct pf_metrics_field fields[PF_ENERGY_FIELDS];
	pf_energy_fields(w, fields);
	pf_metrics_append(context, "energy", fields, PF_ENERGY_FIELDS);
}

static int all_exact(const struct pf_run *run)
{
	int exact = 1;
	for (unsigned i = 0; i < run->devices; i++)
		exact &= pf_device_facts(run->device[i])->exact;
	return exact;
}

/* Only steps that a failed device touched carry these */
static void log_devices(struct trainer *r)
{
	const struct pf_renewal *renewal = r->t->run.renewal;
	if (renewal && renewal->renewals > r->renewals)
		pf_metrics_count(r->metrics, "devices_renewed", renewal->renewals - r->renewals);
	if (r->exact && !all_exact(&r->t->run))
		pf_metrics_count(r->metrics, "within_tolerance", 1);
	r->renewals = renewal ? renewal->renewals : 0;
}

static int log_step(struct trainer *r, const struct pf_step_report *s, struct pf_error *error)
{
	struct pf_metrics *m = r->metrics;
	pf_metrics_count(m, "step", s->step);
	pf_metrics_count(m, "epoch", s->epoch);
	const int rewarded = pf_loss_form(r->t->run.loss) != PF_FORM_TOKENS;
	log_tally(m, "", s->tally, rewarded);
	if (s->held)
		log_tally(m, "eval/", s->held, rewarded);
	if (s->step == 1)
		pf_metrics_number(m, "step0_check", r->result->step0_check);
	pf_metrics_number(m, "grad_norm", s->grad_norm);
	pf_metrics_number(m, "lr", s->lr);
	pf_metrics_count(m, "tokens", s->tally->computed);
	pf_metrics_number(m, "seconds", s->seconds);
	pf_metrics_count(m, "card_beats", s->card_beats);
	pf_metrics_count(m, "card_bytes", s->card_bytes);
	pf_metrics_count(m, "unix_ms", (uint64_t)(1e3 * pf_seconds_unix()));
	log_devices(r);
	int code = r->t->meters ? pf_meters_step(r->t->meters, log_window, m, error) : 0;
	if (!code && r->t->report)
		r->t->report(r->t->context, s);
	return code ? code : pf_metrics_end(m, error);
}

static void count_devices(const struct pf_run *run, uint64_t *beats, uint64_t *bytes)
{
	*beats = *bytes = 0;
	for (unsigned i = 0; i < run->devices; i++) {
		struct pf_device_counts c;
		if (pf_device_repeats(run->device, i))         /* one that took over for another */
			continue;
		pf_device_counts(run->device[i], &c);
		*beats += c.beats;
		*bytes += c.bytes_in + c.bytes_out;
	}
}

/* ---- failed devices ---- */

static void count_times(struct trainer *r)
{
	const struct pf_scorer_times times = pf_scorer_times(r->running.scorer);
	r->result->times.body += times.body;
	r->result->times.head += times.head;
}

/* 0: the devices were replaced and what failed may begin anew, with the loss's state as it was before. Otherwise
 * `code`, or why they could not be replaced */
static int renew(struct trainer *r, int code, const struct pf_loss_state *before, struct pf_error *error)
{
	const struct pf_run *run = &r->t->run;
	const struct pf_error why = *error;
	if (!run->renewal || !pf_device_lost(code) || (run->stop && *run->stop))
		return code;
	count_times(r);
	if (r->away)
		return lost(r, code, error);
	pf_running_close(&r->running);
	memset(&r->running, 0, sizeof r->running);
	code = pf_renew(run->renewal, &why, error);
	if (!code)
		code = pf_running_open(&r->running, run, r->model, 1, error);
	if (!code)
		code = keep(r, error);
	r->running.objective.state = *before;
	return code;
}

static void got_on(struct trainer *r)
{
	if (r->t->run.renewal)
		r->t->run.renewal->futile = 0;
}

/* ---- steps ---- */

/* *evaluated stays 0 when a stop came in between: the step is logged and saved without it */
static int evaluate(struct trainer *r, int *evaluated, struct pf_error *error)
{
	const double began = pf_seconds();
	const struct pf_loss_state state = r->running.objective.state;
	int code;
	do {
		r->running.objective.cache = r->held_cache;
		code = pf_running_evaluate(&r->running, &r->t->held, NULL, NULL, &r->result->held, error);
	} while (code && code != PF_E_INTERRUPTED && (code = renew(r, code, &state, error)) == 0);
	got_on(r);
	count_time(r, &r->result->times.evaluation, "evaluation", began);
	*evaluated = !code;
	return code == PF_E_INTERRUPTED ? 0 : code;
}

static int load_step(struct trainer *r, struct pf_step *facts, struct pf_error *error)
{
	const double began = pf_seconds();
	int code = pf_sampler_step(&r->sampler, r->step, &r->running.pack, facts, error);
	count_time(r, &r->result->times.data, "data", began);
	r->running.objective.cache = r->cache;
	return code;
}

/* Policy and reference agree before the first step if both come from the same weights and numerics; what different
 * precisions of their heads make of the same weights is said whatever it is */
static int check_start(struct trainer *r, struct pf_error *error)
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
		say(r, text);
	return code;
}

/* The body's update on the host and the head's on the device, clipped by the norm of both together */
static int update_both(struct trainer *r, struct pf_fused *kept, double rate, double *norm, struct pf_error *error)
{
	struct pf_adamw_factors factors;
	double square;
	int code = pf_fused_kept_square(kept, &square, error);
	if (code)
		return r->away ? lost(r, code, error) : code;
	code = pf_adamw_step_with(&r->adamw, rate, r->model->param, r->gradient, square, &factors, norm);
	if (code)
		return code;
	r->away++;
	code = pf_fused_kept_update(kept, &factors, error);
	return code ? lost(r, code, error) : 0;
}

static int update(struct trainer *r, double rate, double *norm, struct pf_error *error)
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
static int sync_reference(struct trainer *r, struct pf_error *error)
{
	const struct pf_training *t = r->t;
	if (!t->synced || !due(t->sync_every, r->step))
		return 0;
	int code = bring(r, error);
	if (code)
		return code;
	for (uint64_t i = 0; i < r->model->layout.size; i++)
		t->synced->param[i] =
			(float)(t->mixup * (double)r->model->param[i] + (1.0 - t->mixup) * (double)t->synced->param[i]);
	pf_model_touch(t->synced);
	forget_caches(r);
	return 0;
}

/* Loss and gradient of the next step */
static int compute(struct trainer *r, struct pf_step *facts, struct pf_tally *tally, struct pf_error *error)
{
	int code = load_step(r, facts, error);
	if (!code)
		code = check_start(r, error);
	if (code)
		return code;
	memset(r->gradient, 0, r->adamw.layout->size * sizeof *r->gradient);
	return pf_step_run(&r->running.objective, &r->running.pack, facts, r->gradient, tally, error);
}

static int one_step(struct trainer *r, struct pf_error *error)
{
	const double began = pf_seconds(), rate = pf_schedule_rate(&r->t->schedule, r->step);
	const struct pf_loss_state state = r->running.objective.state;
	struct pf_step facts;
	struct pf_tally tally;
	uint64_t beats[2], bytes[2];
	double norm = 0.0;
	int code;
	do {
		count_devices(&r->t->run, &beats[0], &bytes[0]);
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
	count_devices(&r->t->run, &beats[1], &bytes[1]);
	int evaluated = 0;
	if (r->t->held.corpus && (due(r->t->eval_every, r->step) || r->step == r->t->steps || r->result->stopped))
		code = evaluate(r, &evaluated, error);
	const struct pf_step_report report = { r->step, r->t->steps, facts.epoch, &tally,
		evaluated ? &r->result->held : NULL, norm, rate, seconds, beats[1] - beats[0], bytes[1] - bytes[0] };
	if (!code)
		code = log_step(r, &report, error);
	if (!code && due(r->t->save_every, r->step))
		code = save(r, error);
	return code;
}

static int train(struct trainer *r, struct pf_error *error)
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
		code = bring(r, error);
	if (!code && r->t->out)
		code = pf_model_save_as(r->model, &r->t->save, r->t->out, error);
	if (!code && r->t->out && r->t->tokenizer)
		code = pf_tokenizer_save(r->t->tokenizer, r->t->out, error);
	return code;
}

int pf_train(const struct pf_training *training, struct pf_model *model, struct pf_training_result *result,
             struct pf_error *error)
{
	struct trainer r = { .t = training, .model = model, .result = result, .folder = -1,
		.alarm = { training->alarm, 0, 0, training->note, training->context } };
	*result = (struct pf_training_result){ .step0_check = NAN };
	pf_tally_clear(&result->held);
	int code = open_trainer(&r, error);
	r.exact = all_exact(&training->run);
	if (!code)
		code = train(&r, error);
	count_times(&r);
	close_trainer(&r);
	return code;
}
