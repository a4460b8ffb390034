/* checkpoint.h: training interrupted anywhere goes on exactly.
 *
 * <out>/checkpoint-<step>/ holds a loadable model (model.safetensors, config.json, its tokenizer's files),
 * optimizer.safetensors (AdamW's moments) and trainer_state.json (step, position of the log, state of the loss, facts).
 * It is written under a name ending in .partial, synced and renamed, so a folder without that ending is complete. The
 * data's position is the step number: the sampler makes any step from it. One process per <out>. */
#ifndef PF_TRAIN_CHECKPOINT_H
#define PF_TRAIN_CHECKPOINT_H
#include "../corpus/tokenizer.h"
#include "../model/model.h"
#include "adamw.h"
#include "step.h"

/* What a run depends on, as text. A difference is reported, and refused when `bound` or when exactness is asked for */
struct pf_fact {
	const char *key;               /* "threads", "BLAS kernels", ... */
	char        value[160];
	int         bound;             /* 1: a run with another value is another run */
};

struct pf_checkpoint {
	uint64_t             step;     /* optimizer steps done */
	int64_t              log_position;
	struct pf_loss_state loss;
	const struct pf_fact *fact;
	size_t               facts;
	const struct pf_tokenizer *tokenizer;  /* its files are saved with the model; NULL: none */
	struct pf_model     *reference;        /* one that moves, saved and read too, in folder reference; NULL: none */
};

/* Saves and then removes all but the last `keep` (>= 1) complete checkpoints of the folder */
int pf_checkpoint_save(const char *out, const struct pf_model *model, const struct pf_adamw *adamw,
                       const struct pf_checkpoint *checkpoint, unsigned keep, struct pf_error *error);
/* Path of the last complete checkpoint below `out`. PF_E_ABSENT, with text, if there is none */
int pf_checkpoint_find(const char *out, char *path, size_t size, struct pf_error *error);
/* Reads the model's weights, the optimizer, step, log position and loss state. checkpoint->fact is what holds now;
 * every difference goes to note(context, text) and, as said above, is an error */
int pf_checkpoint_load(const char *path, struct pf_model *model, struct pf_adamw *adamw,
                       struct pf_checkpoint *checkpoint, int exact, void (*note)(void *context, const char *text),
                       void *context, struct pf_error *error);
#endif
