/* world.h: a small world to train in: pairs whose chosen side ends politely, prompts with rewarded completions, a model
 * that knows nothing, and everything that a training of it needs. Failing to make it aborts the test. */
#ifndef PF_TESTS_WORLD_H
#define PF_TESTS_WORLD_H
#include "host/train/trainer.h"

enum { WORLD_STEPS = 8, WORLD_BATCH = 4 };

extern const struct pf_tokenizer *world_tokenizer;     /* of bytes */
extern struct pf_device *world_device;
extern char world_pairs[512], world_rollouts[512];     /* JSONL files: 24 pairs; 12 prompts of 3 completions */

/* Writes the data below the test's scratch folder, opens the simulated card. Pair with world_close, the end of a
 * group of tests */
void world_open(const char *test);
int  world_close(void **state);

/* A decoder over bytes of so many layers, from a fixed seed */
struct pf_model *world_model(unsigned layers);

/* One training at a time */
struct world {
	struct pf_corpus *corpus;
	struct pf_loss loss;
	struct pf_model *model, *reference;
	struct pf_training t;
	struct pf_fact fact;
	volatile sig_atomic_t stop;
	uint64_t stop_after, die_after;        /* steps; the second ends the process with WORLD_KILLED */
	int notes, precision_notes;
	double first_loss, last_loss;
};
enum { WORLD_KILLED = 9 };

/* What a training with this loss needs, policy = reference; out may be NULL. Pair with world_leave */
void world_enter(struct world *w, const char *loss, const char *out);
void world_enter_cut(struct world *w, const char *loss, const char *out, struct pf_cut cut);
void world_leave(struct world *w);
int  world_train(struct world *w, struct pf_training_result *result, struct pf_error *error);
void world_train_well(struct world *w, struct pf_training_result *result);
/* The reference follows every so many steps (TR-DPO) */
void world_sync(struct world *w, uint64_t steps, double mixup);
#endif
