/* trainer_inside.h: inner words of trainer.h: one training while it runs, and what its files do for each other. One
 * thread. */
#ifndef PF_TRAIN_TRAINER_INSIDE_H
#define PF_TRAIN_TRAINER_INSIDE_H
#include "../report/metrics.h"
#include "run.h"

enum { PF_TRAINER_PATH = 4096 };

struct pf_trainer {
	const struct pf_training *t;
	struct pf_model *model;
	struct pf_training_result *result;
	struct pf_running running;
	struct pf_sampler sampler;
	struct pf_reference *cache, *held_cache;
	struct pf_adamw adamw;
	struct pf_metrics *metrics;
	struct pf_fact *fact;          /* [facts]: those of the caller, and where the reference's log-probs come from */
	size_t facts;
	float *gradient;
	int folder;                    /* descriptor that holds the lock of t->out, or -1 */
	uint64_t step, saved;          /* steps done; of the last checkpoint */
	uint64_t away;                 /* steps of the head that only the device has */
	int exact;                     /* the devices that the run began with all were */
	unsigned renewals;             /* logged so far */
	struct pf_alarm alarm;
};

/* What a person should know */
void pf_trainer_say(const struct pf_trainer *trainer, const char *text);

/* trainer_open.c: folder, scorer, data, optimizer, caches, checkpoint, log. Closes also after a failure */
int  pf_trainer_open(struct pf_trainer *trainer, struct pf_error *error);
void pf_trainer_close(struct pf_trainer *trainer);
/* Log-probs of a reference that has moved are of no use */
void pf_trainer_forget_caches(struct pf_trainer *trainer);

/* trainer_head.c: the head's optimizer on the device. Gives the head's state to the device, where it belongs there */
int  pf_trainer_keep(struct pf_trainer *trainer, struct pf_error *error);
/* Brings what only the device has to the host's arrays */
int  pf_trainer_bring(struct pf_trainer *trainer, struct pf_error *error);
/* The error of a run that cannot go on: the weights of the body and those of the head are of different steps */
int  pf_trainer_lost(const struct pf_trainer *trainer, int code, struct pf_error *error);

/* trainer_log.c. keep: bytes of an old log that stay, -1: a new one */
int  pf_trainer_log_open(struct pf_trainer *trainer, int64_t keep, struct pf_error *error);
int  pf_trainer_log_step(struct pf_trainer *trainer, const struct pf_step_report *report, struct pf_error *error);
/* 1: every device of the run has the exact numerics */
int  pf_trainer_all_exact(const struct pf_run *run);
/* Beats and bytes of all devices so far */
void pf_trainer_count_devices(const struct pf_run *run, uint64_t *beats, uint64_t *bytes);
#endif
