/* replay_power.h: what the cards of a played schedule draw, and what their banks move, moment by moment: a model, not a
 * measurement. */
#ifndef PF_REPORT_REPLAY_POWER_H
#define PF_REPORT_REPLAY_POWER_H
#include "prefpga/energy.h"
#include "trace.h"

/* Adds a counter of all `devices` cards together to the trace: at rest, and what each of job[jobs] takes spread evenly
 * over its time[jobs]; what takes no time is left out. Its integral is the energy that pf_energy_play names, but for
 * that. Likewise a counter of each bank class: GB/s of all cards, whose integral is its bytes. -ENOMEM, PF_E_UNKNOWN */
int pf_replay_power(struct pf_trace *trace, const char *card, uint32_t devices, const struct pf_job *job, size_t jobs,
                    const struct pf_job_times *time, struct pf_error *error);
#endif
