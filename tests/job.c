#include <string.h>
#include "tests/cmocka.h"
#include "tests/job.h"

int job_open(struct pf_device *device, struct job *job, struct pf_error *error)
{
	memset(job, 0, sizeof *job);
	job->device = device;
	int code = pf_buf_alloc(device, PF_KERNEL_coef, PF_ARG_coef_item, sizeof job->host_item, &job->item, error);
	if (code == 0)
		code = pf_buf_alloc(device, PF_KERNEL_coef, PF_ARG_coef_span, sizeof job->host_span, &job->span, error);
	if (code == 0)
		code = pf_buf_alloc(device, PF_KERNEL_coef, PF_ARG_coef_out, sizeof job->result, &job->out, error);
	if (code)
		job_close(job);
	return code;
}

void job_close(struct job *job)
{
	pf_buf_free(job->item);
	pf_buf_free(job->span);
	pf_buf_free(job->out);
	job->item = job->span = job->out = NULL;
}

void job_args(const struct job *job, struct pf_arg args[PF_ARG_coef_COUNT])
{
	memset(args, 0, PF_ARG_coef_COUNT * sizeof *args);
	args[PF_ARG_coef_item].buf = job->item;
	args[PF_ARG_coef_span].buf = job->span;
	args[PF_ARG_coef_out].buf = job->out;
	args[PF_ARG_coef_rows].val.u32 = JOB_ROWS;
	args[PF_ARG_coef_seqs].val.u32 = 1;
	args[PF_ARG_coef_tail].val.f32 = 1;
}

int job_submit(struct job *job, double value)
{
	struct pf_arg args[PF_ARG_coef_COUNT];
	int code[4];
	job_args(job, args);
	job->host_item = (struct pf_item_out){ .grad = value };
	job->host_span = (struct pf_span){ 0, JOB_ROWS, JOB_ROWS, 0 };
	code[0] = pf_copy_in(job->item, 0, &job->host_item, sizeof job->host_item, NULL, &job->in[0]);
	code[1] = pf_copy_in(job->span, 0, &job->host_span, sizeof job->host_span, &job->in[0], &job->in[1]);
	code[2] = pf_run(job->device, PF_KERNEL_coef, args, PF_ARG_coef_COUNT, &job->in[1], &job->run);
	code[3] = pf_copy_out(job->out, 0, job->result, sizeof job->result, &job->run, &job->back);
	for (int i = 0; i < 4; i++)
		if (code[i])
			return code[i];
	return 0;
}

int job_wait(struct job *job, double value, struct pf_error *error)
{
	struct pf_ticket *ticket[] = { &job->in[0], &job->in[1], &job->run, &job->back };
	int code = 0;
	for (int i = 0; i < 4; i++) {
		int one = pf_wait(ticket[i], code ? NULL : error);
		code = code ? code : one;
	}
	for (int t = 0; code == 0 && t < JOB_ROWS; t++)
		assert_true(job->result[t] == (float)-value);
	return code;
}
