/* job.h: a small piece of real work for tests of the device core: kernel coef on one sequence of JOB_ROWS tokens, whose
 * result is -value everywhere. Runs on every backend, exactly. */
#ifndef PF_TESTS_JOB_H
#define PF_TESTS_JOB_H
#include "prefpga/device.h"
#include "prefpga/internal/kernels.h"

enum { JOB_ROWS = 1000 };

struct job {
	struct pf_device  *device;
	struct pf_buf     *item, *span, *out;
	struct pf_item_out host_item;
	struct pf_span     host_span;
	float              result[JOB_ROWS];
	struct pf_ticket   in[2], run, back;
};

/* Allocates; on failure what was allocated is freed */
int  job_open(struct pf_device *device, struct job *job, struct pf_error *error);
void job_close(struct job *job);
void job_args(const struct job *job, struct pf_arg args[PF_ARG_coef_COUNT]);
/* Two copies in, the run, the copy out, each after the one before; the code of the first refusal */
int  job_submit(struct job *job, double value);
/* Waits for every ticket; the first failure. 0: the result is right (aborts the test if it is not) */
int  job_wait(struct job *job, double value, struct pf_error *error);
#endif
