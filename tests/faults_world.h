/* faults_world.h: a small training whose devices fail, on virtual time: it stands still except while a run is held,
 * and waiting only moves it. One training at a time. */
#ifndef PF_TESTS_FAULTS_WORLD_H
#define PF_TESTS_FAULTS_WORLD_H
#include "host/train/run.h"

enum { FAULTS_STEPS = 6, FAULTS_BATCH = 4, FAULTS_DEVICES = 3, FAULTS_GROUPS = 8 };

struct outcome {
	char notes[4096];
	struct pf_error error;
	int code, same, marked;        /* same: in every bit as the group's undisturbed training */
	uint64_t beats;                        /* of the last step */
	struct pf_renewal renewal;
};

/* How to train, beside the devices */
struct faults_plan {
	enum pf_on_fault on_fault;
	unsigned shards;
	unsigned group;                /* below FAULTS_GROUPS: the first training of each is the undisturbed one */
	const char *out;               /* folder of checkpoints after every step, or NULL */
	int resume;
};

/* Begins anew in the scratch folder of a test; `tail`: what chosen answers end with */
void faults_open(const char *test, const char *tail);
void faults_close(void);
/* Opens devices (NULL ends the list), trains, closes them; o->code is why it ended. What is said goes to o->notes */
void faults_run(const char *const spec[FAULTS_DEVICES], const struct faults_plan *plan, struct outcome *o);
#endif
