/* How much the figures' doubts move what pf_cycles_play says. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "prefpga/cycles.h"

static const struct { const char *name; size_t at; int rate; } figures[] = {
	{ "clock_hz", offsetof(struct pf_cycles_card, clock_hz), 1 },
	{ "bank_bps", offsetof(struct pf_cycles_card, bank_rate), 1 },
	{ "link_in_bps", offsetof(struct pf_cycles_card, link_in), 1 },
	{ "link_out_bps", offsetof(struct pf_cycles_card, link_out), 1 },
	{ "copy_setup_s", offsetof(struct pf_cycles_card, copy_setup_s), 0 },
	{ "launch_s", offsetof(struct pf_cycles_card, launch_s), 0 },
	{ "issue_s", offsetof(struct pf_cycles_card, issue_s), 0 },
	{ "port_latency_s", offsetof(struct pf_cycles_card, port_latency_s), 0 },
};
#define CYCLES_DOUBT 0.1                /* of what is derived from the sources */
enum { FIGURES = sizeof figures / sizeof *figures };

static double doubt_of(const char *card, const char *name)
{
	static const double doubts[] = { [PF_FACT_MEASURED] = 0.1, [PF_FACT_QUOTED] = 0.2, [PF_FACT_ASSUMED] = 0.5 };
	const struct pf_card_fact *fact;
	for (unsigned i = 0; (fact = pf_card_fact(i)); i++)
		if (strcmp(fact->card, card) == 0 && strcmp(fact->name, name) == 0)
			return doubts[fact->grade];
	return doubts[PF_FACT_ASSUMED];
}

static int base_of(const char *card, const struct pf_cycles_card *given, struct pf_cycles_card *base,
                   struct pf_error *error)
{
	const int code = pf_cycles_card(card, base, error);
	if (!code && given)
		*base = *given;
	return code;
}

/* Multiplies one figure; the banks of a class scale with one bank */
static void scale(struct pf_cycles_card *c, size_t at, double by)
{
	*(double *)((char *)c + at) *= by;
	for (unsigned k = 0; at == offsetof(struct pf_cycles_card, bank_rate) && k < PF_CYCLES_CLASSES; k++)
		c->class_rate[k] *= by;
}

/* Jobs whose runs take `share` more of the cycles that no report gave, and `interval` more a trip */
static struct pf_job *slower(const struct pf_job *job, size_t jobs, double share, double interval)
{
	struct pf_job *copy = malloc((jobs + 1) * sizeof *copy);
	for (size_t i = 0; copy && i < jobs; i++) {
		copy[i] = job[i];
		if (job[i].kind == PF_JOB_RUN)
			copy[i].cost.cycles += share * (job[i].cost.cycles - job[i].cost.cycles_reported) +
			                       interval * job[i].cost.cycles_doubted;
	}
	return copy;
}

/* Seconds of such jobs, as a change */
static int kernels_doubt(const struct pf_cycles_card *card, uint32_t devices, uint32_t cus, const struct pf_job *job,
                         size_t jobs, double share, double interval, double middle, double *change,
                         struct pf_error *error)
{
	struct pf_cycles_result result;
	struct pf_job *copy = slower(job, jobs, share, interval);
	const int code = copy ? pf_cycles_play(card, devices, cus, copy, jobs, NULL, &result, error)
	                      : pf_fail(error, -ENOMEM, "no memory for %zu jobs", jobs);
	free(copy);
	if (!code)
		*change = middle > 0.0 ? result.seconds / middle - 1.0 : 0.0;
	return code;
}

int pf_cycles_doubts(const char *card, const struct pf_cycles_card *figures_of, uint32_t devices, uint32_t cus,
                     const struct pf_job *job, size_t jobs, struct pf_cycles_doubt *doubt, unsigned room,
                     unsigned *count, struct pf_error *error)
{
	struct pf_cycles_card base;
	struct pf_cycles_result middle, result;
	*count = 0;
	int code = base_of(card, figures_of, &base, error);
	if (!code)
		code = pf_cycles_play(&base, devices, cus, job, jobs, NULL, &middle, error);
	for (size_t i = 0; !code && i < FIGURES && *count < room; i++) {
		const double by = doubt_of(card, figures[i].name);
		double change[2];
		for (int up = 0; !code && up < 2; up++) {
			struct pf_cycles_card other = base;
			scale(&other, figures[i].at, up ? 1.0 + by : 1.0 - by);
			code = pf_cycles_play(&other, devices, cus, job, jobs, NULL, &result, error);
			change[up] = middle.seconds > 0.0 ? result.seconds / middle.seconds - 1.0 : 0.0;
		}
		if (!code)
			doubt[(*count)++] = (struct pf_cycles_doubt){ figures[i].name, by, fmin(change[0], change[1]),
			                                              fmax(change[0], change[1]) };
	}
	static const double shares[3] = { -CYCLES_DOUBT, CYCLES_DOUBT, 0.0 };
	double change[3] = { 0.0, 0.0, 0.0 };
	for (int i = 0; !code && i < 3; i++)
		code = kernels_doubt(&base, devices, cus, job, jobs, shares[i], i == 2, middle.seconds,
		                     &change[i], error);
	if (!code && *count < room)
		doubt[(*count)++] = (struct pf_cycles_doubt){ "cycles", CYCLES_DOUBT, fmin(change[0], 0.0),
		                                              fmax(change[1], 0.0) };
	if (!code && *count < room)
		doubt[(*count)++] = (struct pf_cycles_doubt){ "interval", 0.0, 0.0, fmax(change[2], 0.0) };
	return code;
}

/* Seconds at one end of all doubts: good is 1, or -1 for the bad end */
static int play_end(const char *card, const struct pf_cycles_card *base, double good, uint32_t devices, uint32_t cus,
                    const struct pf_job *job, size_t jobs, double *seconds, struct pf_error *error)
{
	struct pf_cycles_card end = *base;
	struct pf_cycles_result result;
	struct pf_job *copy = slower(job, jobs, -good * CYCLES_DOUBT, 0.0);
	if (!copy)
		return pf_fail(error, -ENOMEM, "no memory for %zu jobs", jobs);
	for (size_t i = 0; i < FIGURES; i++) {
		const double by = good * doubt_of(card, figures[i].name);
		scale(&end, figures[i].at, 1.0 + (figures[i].rate ? by : -by));
	}
	const int code = pf_cycles_play(&end, devices, cus, copy, jobs, NULL, &result, error);
	free(copy);
	*seconds = result.seconds;
	return code;
}

int pf_cycles_range(const char *card, const struct pf_cycles_card *figures_of, uint32_t devices, uint32_t cus,
                    const struct pf_job *job, size_t jobs, double *least, double *most, struct pf_error *error)
{
	struct pf_cycles_card base;
	struct pf_cycles_result middle;
	int code = base_of(card, figures_of, &base, error);
	if (!code)
		code = pf_cycles_play(&base, devices, cus, job, jobs, NULL, &middle, error);
	if (!code)
		code = play_end(card, &base, 1.0, devices, cus, job, jobs, least, error);
	if (!code)
		code = play_end(card, &base, -1.0, devices, cus, job, jobs, most, error);
	if (code)
		return code;
	*least = fmin(*least, middle.seconds);                 /* queues may gain from slower jobs before them */
	*most = fmax(*most, middle.seconds);
	return 0;
}
