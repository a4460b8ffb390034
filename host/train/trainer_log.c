/* One object a step: what a training says about itself */
#include "trainer_inside.h"
#include <math.h>
#include <stdio.h>
#include "seconds.h"

int pf_trainer_log_open(struct pf_trainer *r, int64_t keep, struct pf_error *error)
{
	char path[PF_TRAINER_PATH];
	const char *log = r->t->log;
	if (!log && r->t->out) {
		snprintf(path, sizeof path, "%s/metrics.jsonl", r->t->out);
		log = path;
	}
	return pf_metrics_open(log, keep, &r->metrics, error);
}

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

int pf_trainer_all_exact(const struct pf_run *run)
{
	int exact = 1;
	for (unsigned i = 0; i < run->devices; i++)
		exact &= pf_device_facts(run->device[i])->exact;
	return exact;
}

/* Only steps that a failed device touched carry these */
static void log_devices(struct pf_trainer *r)
{
	const struct pf_renewal *renewal = r->t->run.renewal;
	if (renewal && renewal->renewals > r->renewals)
		pf_metrics_count(r->metrics, "devices_renewed", renewal->renewals - r->renewals);
	if (r->exact && !pf_trainer_all_exact(&r->t->run))
		pf_metrics_count(r->metrics, "within_tolerance", 1);
	r->renewals = renewal ? renewal->renewals : 0;
}

int pf_trainer_log_step(struct pf_trainer *r, const struct pf_step_report *s, struct pf_error *error)
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

void pf_trainer_count_devices(const struct pf_run *run, uint64_t *beats, uint64_t *bytes)
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
