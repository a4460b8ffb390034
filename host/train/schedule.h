/* schedule.h: the learning rate of each step. Pure functions: thread-safe. */
#ifndef PF_TRAIN_SCHEDULE_H
#define PF_TRAIN_SCHEDULE_H
#include <stdint.h>
#include "prefpga/error.h"

enum pf_schedule_kind { PF_SCHEDULE_CONSTANT, PF_SCHEDULE_LINEAR, PF_SCHEDULE_COSINE };

/* rate (step + 1) / (warmup + 1) while step < warmup; then from rate at step == warmup down to
 * final_ratio rate at step == steps, on a line or half a cosine, or constant. So no update of a run
 * has rate 0 */
struct pf_schedule {
	enum pf_schedule_kind kind;
	double rate;            /* the peak */
	double final_ratio;     /* in [0, 1] */
	uint64_t warmup, steps; /* warm-up is part of steps */
};

/* "constant", "linear", "cosine"; an unknown name lists them */
int pf_schedule_find(const char *name, enum pf_schedule_kind *kind, struct pf_error *error);
const char *pf_schedule_name(enum pf_schedule_kind kind);
/* The rate of update `step`, counted from 0; past the end it stays */
double pf_schedule_rate(const struct pf_schedule *schedule, uint64_t step);
#endif
