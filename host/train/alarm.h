/* alarm.h: what goes wrong in preference training without the loss showing it, looked for in every step.
 *
 * The figures come from sums of step.h. One thread. */
#ifndef PF_TRAIN_ALARM_H
#define PF_TRAIN_ALARM_H
#include "step.h"

/* Estimate of KL(policy, reference) per sequence, see pf_tally.kl; NaN without a reference */
double pf_tally_kl(const struct pf_tally *tally);
/* Correlation of the pairs' reward margins with their differences in length; NaN where one of them does not vary */
double pf_tally_length_bias(const struct pf_tally *tally);
/* Share of flipped labels that would explain the pairs which the rewards rank the other way round, if the rewards were
 * right about how sure they are: (sure - accurate) / (2 sure - 1), within [0, 0.5]. Means something on pairs that were
 * not trained on; NaN below 30 pairs or where the rewards are not sure of anything */
double pf_tally_label_noise(const struct pf_tally *tally);
/* Mean log-ratio a token of chosen sequences; NaN without a reference */
double pf_tally_chosen_drift(const struct pf_tally *tally);

struct pf_alarm_options {
	double max_kl;                 /* nats per sequence; 0: no limit */
	int    stop;                   /* 1: training ends where the limit is passed; 0: it is said once */
};
struct pf_alarm {
	struct pf_alarm_options options;
	int said_kl, said_collapse;
	void (*note)(void *context, const char *text);
	void *context;
};
/* 1: training is to end after this step */
int pf_alarm_step(struct pf_alarm *alarm, const struct pf_tally *tally, uint64_t step);
#endif
