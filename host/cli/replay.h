/* replay.h: --trace: what the work of a training would take on a card, by the model. */
#ifndef PF_CLI_REPLAY_H
#define PF_CLI_REPLAY_H
#include <jansson.h>
#include "host/report/replay.h"
#include "setup.h"

/* The card of --trace-card, or the simulated one; NULL: neither, so there is nothing to model */
const char *pf_cli_replay_card(const struct pf_options *options, const struct pf_setup *setup);
/* Plays the trace and tells: an object (NULL if the model lacks something, which a note says), or lines on stdout */
json_t *pf_cli_replay_json(const struct pf_options *options, const struct pf_setup *setup);
void    pf_cli_replay_text(const struct pf_options *options, const struct pf_setup *setup);
/* Modelled figures as verbs print them: [value, low, high]; {figure of the card: [its doubt, low, high]} */
json_t *pf_cli_interval_json(struct pf_interval x);
json_t *pf_cli_doubts_json(const struct pf_cycles_doubt *doubt, unsigned count);
/* Ends the file of the trace, after the devices; 0 or an exit code after saying why */
int     pf_cli_trace_close(const struct pf_options *options, struct pf_setup *setup);
#endif
