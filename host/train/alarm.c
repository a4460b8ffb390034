/* Divergence, collapse, length, noise */
#include "alarm.h"
#include <math.h>
#include <stdio.h>

#define COLLAPSE_NATS 0.5              /* a token, below the reference: e^-0.5 of its likelihood */
enum { PAIRS_LEAST = 30 };

double pf_tally_kl(const struct pf_tally *t)
{
	const uint64_t count = t->sequences[0] + t->sequences[1];
	return t->referenced && count ? t->kl / (double)count : NAN;
}

double pf_tally_chosen_drift(const struct pf_tally *t)
{
	return t->referenced && t->sequences[0] ? t->drift[0] / (double)t->sequences[0] : NAN;
}

double pf_tally_length_bias(const struct pf_tally *t)
{
	const double n = (double)t->pairs;
	const double length = t->length2 - t->length * t->length / n, margin = t->margin2 - t->margin * t->margin / n;
	const double both = t->length_margin - t->length * t->margin / n;
	return t->pairs > 1 && length > 1e-9 * t->length2 && margin > 1e-9 * t->margin2 ? both / sqrt(length * margin)
	                                                                                : NAN;
}

double pf_tally_label_noise(const struct pf_tally *t)
{
	const double sure = t->sure / (double)t->pairs, right = (double)t->accurate / (double)t->pairs;
	if (t->pairs < PAIRS_LEAST || !(sure > 0.55))
		return NAN;
	return fmin(fmax((sure - right) / (2.0 * sure - 1.0), 0.0), 0.5);
}

static void say(const struct pf_alarm *w, const char *text)
{
	if (w->note)
		w->note(w->context, text);
}

static void alarm_collapse(struct pf_alarm *w, const struct pf_tally *t, uint64_t step)
{
	char text[320];
	const double drift = pf_tally_chosen_drift(t);
	if (w->said_collapse || !(drift < -COLLAPSE_NATS))
		return;
	w->said_collapse = 1;
	snprintf(text, sizeof text,
	         "warning: step %llu: chosen completions have become less likely, by %.2f nat a token below the "
	         "reference; +sft in the loss, dpop, nca_pair or apo_zero hold them up, a larger beta or a lower --lr "
	         "slows it",
	         (unsigned long long)step, -drift);
	say(w, text);
}

int pf_alarm_step(struct pf_alarm *w, const struct pf_tally *t, uint64_t step)
{
	char text[256];
	const double kl = pf_tally_kl(t);
	alarm_collapse(w, t, step);
	if (!(w->options.max_kl > 0.0) || !(kl > w->options.max_kl))
		return 0;
	if (!w->said_kl || w->options.stop) {
		snprintf(text, sizeof text,
		         "%s: step %llu: KL to the reference is about %.3g nats a sequence, above --max-kl %g; mean "
		         "reward margin %.3g",
		         w->options.stop ? "stopped" : "warning", (unsigned long long)step, kl, w->options.max_kl,
		         t->pairs ? t->margin / (double)t->pairs : 0.0);
		say(w, text);
	}
	w->said_kl = 1;
	return w->options.stop;
}
