/* trainer_state.h: what a checkpoint says of its run: step, position of the log, state of the loss, and facts that a
 * continuation is compared with. Thread-safe. */
#ifndef PF_TRAIN_TRAINER_STATE_H
#define PF_TRAIN_TRAINER_STATE_H
#include "checkpoint.h"

/* Whom to tell of differences (NULL: nobody), and whether each is an error */
struct pf_state_compare {
	int exact;
	void (*note)(void *context, const char *text);
	void *context;
};

/* The text of trainer_state.json, to be freed; NULL: no memory, or a fact that is not UTF-8 */
char *pf_trainer_state_text(const struct pf_checkpoint *checkpoint);
/* Fills step, log position and loss state and compares checkpoint->fact. PF_E_FORMAT: not such a state; PF_E_MISMATCH:
 * another run (checkpoint.h). `where` is for messages */
int pf_trainer_state_parse(const char *text, size_t bytes, const char *where, const struct pf_state_compare *compare,
                           struct pf_checkpoint *checkpoint, struct pf_error *error);
#endif
