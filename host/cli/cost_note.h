/* cost_note.h: what the cost model (host/train/cost.h) says of the head that a verb computes: whether the card is the
 * place for it, in which way, and how much of that is modelled. */
#ifndef PF_CLI_COST_NOTE_H
#define PF_CLI_COST_NOTE_H
#include "cli.h"
#include "host/train/cost.h"

/* One sentence for a chunk on `devices` like this one, "" for the host's own backend and for cards without figures.
 * The precision is set here. Measures the host for some 20 ms */
void pf_cli_cost_note(const struct pf_options *options, const struct pf_device *device, unsigned devices,
                      const char *precision, struct pf_cost_head head, char *text, size_t room);
#endif
