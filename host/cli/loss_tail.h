/* loss_tail.h: cases of losses over LD-DPO's sums (loss_case.h): "tw", "tl", "rw", "rl" are lists of the tokens'
 * log-probs, which become the sums that the loss sees. Thread-safe. */
#ifndef PF_CLI_LOSS_TAIL_H
#define PF_CLI_LOSS_TAIL_H
#include <jansson.h>
#include "loss_case.h"

/* Replaces the lists in *object by their sums and notes in *tail what a token's gradient is of its side's */
int pf_case_tail_sums(const struct pf_loss *loss, json_t *object, struct pf_case_tail *tail, struct pf_error *error);
#endif
