/* replay.h: what was traced, played on the model of a card: how long the same work of the same host would take there.
 *
 * The operations become jobs with their dependencies. Between two calls of the host, waits left out, it computed: those
 * times, measured, become jobs of the host. What was submitted is played as it was; a host that would have submitted
 * otherwise on a faster card is not imagined. One host thread is assumed to have called the devices. */
#ifndef PF_REPORT_REPLAY_H
#define PF_REPORT_REPLAY_H
#include "prefpga/reports.h"
#include "trace.h"

struct pf_replay {
	double measured_s;             /* from the first submission to the last end, as traced */
	double host_s;                 /* of it, the host computing (not waiting) */
	uint32_t devices;
	struct pf_cycles_result modelled;
	struct pf_energy_modelled energy;      /* of the cards, J */
	struct pf_cycles_doubt doubt[10];
	double cycles, reported;       /* of the kernels; those whose interval and depth a report gave */
	unsigned doubts;
	uint64_t jobs;
};

/* Plays the kept operations on card `name` with cus compute units of each kernel, and adds the schedule to the trace in
 * groups that say `modelled`, with the cards' power as a counter and their energy in otherData. reports: of the
 * kernels' synthesis, or NULL. PF_E_UNSUPPORTED names a kernel that the model does not know */
int pf_replay_run(struct pf_trace *trace, const char *name, uint32_t cus, const struct pf_reports *reports,
                  struct pf_replay *replay, struct pf_error *error);
#endif
