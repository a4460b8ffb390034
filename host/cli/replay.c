#include "replay.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

const char *pf_cli_replay_card(const struct pf_options *o, const struct pf_setup *s)
{
	static const char simulated[] = "simulated ";
	const char *name = s->devices ? pf_device_facts(s->device[0])->name : "";
	if (!s->trace || o->trace_card)
		return s->trace ? o->trace_card : NULL;
	return strncmp(name, simulated, sizeof simulated - 1) == 0 ? name + sizeof simulated - 1 : NULL;
}

static int play(const struct pf_options *o, const struct pf_setup *s, struct pf_replay *r)
{
	const char *card = pf_cli_replay_card(o, s);
	struct pf_reports *reports = NULL;
	struct pf_error error;
	if (!card)
		return 0;
	int code = o->reports ? pf_reports_open(o->reports, &reports, &error) : 0;
	if (!code)
		code = pf_replay_run(s->trace, card, 1, reports, r, &error);
	pf_reports_close(reports);
	if (code)
		pf_cli_note(o, "not modelled on %s: %s", card, error.text);
	return code == 0;
}

/* How far reports of the synthesis stand behind the kernels' cycles */
static void say_calibrated(const struct pf_replay *r, char *text, size_t room)
{
	if (!(r->reported > 0.0))
		snprintf(text, room, "uncalibrated");
	else
		snprintf(text, room, "%.0f %% of the kernels' cycles by reports of the synthesis",
		         100.0 * r->reported / r->cycles);
}

json_t *pf_cli_interval_json(struct pf_interval x)
{
	return json_pack("[f,f,f]", x.value, x.low, x.high);
}

json_t *pf_cli_doubts_json(const struct pf_cycles_doubt *doubt, unsigned count)
{
	json_t *doubts = json_object();
	for (unsigned i = 0; i < count; i++)
		json_object_set_new(doubts, doubt[i].figure,
		                    json_pack("[f,f,f]", doubt[i].doubt, doubt[i].low, doubt[i].high));
	return doubts;
}

json_t *pf_cli_replay_json(const struct pf_options *o, const struct pf_setup *s)
{
	struct pf_replay r;
	if (!play(o, s, &r))
		return NULL;
	const struct pf_cycles_result *m = &r.modelled;
	char how[80], kind[96];
	say_calibrated(&r, how, sizeof how);
	snprintf(kind, sizeof kind, "modelled, %s", how);
	json_t *json = json_pack("{ss ss sI sf sf sf sf sf sf}", "kind", kind, "card",
	                         pf_cli_replay_card(o, s), "jobs", (json_int_t)r.jobs, "measured_s", r.measured_s,
	                         "modelled_s", m->seconds, "host_s", r.host_s, "copies_in_s", m->busy_in,
	                         "copies_out_s", m->busy_out, "runs_s", m->busy_runs);
	json_object_set_new(json, "doubts", pf_cli_doubts_json(r.doubt, r.doubts));
	json_object_set_new(json, "joule", pf_cli_interval_json(r.energy.total));
	json_object_set_new(json, "joule_at_rest", pf_cli_interval_json(r.energy.rest));
	return json;
}

void pf_cli_replay_text(const struct pf_options *o, const struct pf_setup *s)
{
	struct pf_replay r;
	if (!play(o, s, &r))
		return;
	const struct pf_cycles_result *m = &r.modelled;
	char how[80];
	say_calibrated(&r, how, sizeof how);
	printf("modelled on %s, %s: %.3g s for what took %.3g s here; of it host %.3g s (measured), copies in %.3g s, "
	       "out %.3g s, runs %.3g s\n",
	       pf_cli_replay_card(o, s), how, m->seconds, r.measured_s, r.host_s, m->busy_in, m->busy_out,
	       m->busy_runs);
	printf("    energy, modelled: %.3g J [%.3g, %.3g], of it %.3g J the card at rest and %.3g J the kernels; the "
	       "host's is not in it\n",
	       r.energy.total.value, r.energy.total.low, r.energy.total.high, r.energy.rest.value,
	       r.energy.operations.value + r.energy.onchip.value + r.energy.banks.value);
	for (unsigned i = 0; i < r.doubts; i++)
		if (fmax(-r.doubt[i].low, r.doubt[i].high) < 0.01)
			continue;
		else if (r.doubt[i].doubt > 0.0)
			printf("    %s off by %.0f %%: %+.0f to %+.0f %% of the time\n", r.doubt[i].figure,
			       100.0 * r.doubt[i].doubt, 100.0 * r.doubt[i].low, 100.0 * r.doubt[i].high);
		else
			printf("    every %s of a loop one cycle longer: %+.0f %% of the time\n", r.doubt[i].figure,
			       100.0 * r.doubt[i].high);
}

int pf_cli_trace_close(const struct pf_options *o, struct pf_setup *s)
{
	struct pf_error error;
	const int code = pf_trace_close(s->trace, &error);
	s->trace = NULL;
	return code ? pf_cli_fail(o, &error) : PF_EXIT_OK;
}
