/* Buffers under XRT's emulation: too large ones, many, parts of them, beyond 4 GiB, memory of the caller. */
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include "tests/cmocka.h"
#include "tests/xrt_emulated.h"

void more_memory_than_there_is(void **state)
{
	struct pf_device *device = open_first(NULL);
	struct pf_error error = { 0 };
	struct pf_buf *buf = NULL;
	(void)state;
	assert_int_equal(pf_buf_alloc(device, PF_KERNEL_coef, PF_ARG_coef_out, (uint64_t)20 << 30, &buf,
	                              &error), PF_E_MEMORY);         /* a bank has 16 GiB */
	assert_non_null(strstr(error.text, "cannot allocate 21474836480 bytes"));
	work(device, 1);
	assert_int_equal(pf_device_close(device), 0);
}

/* Many allocations, few files: those of the emulation stay open until the device is closed */
void buffers_are_used_again(void **state)
{
	struct pf_device *device = open_first(NULL);
	struct rlimit before, few = { 300, 300 };
	(void)state;
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
	few.rlim_max = before.rlim_max;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
	for (int i = 0; i < 500; i++)
		work(device, 1);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
	assert_int_equal(pf_device_close(device), 0);
}

/* Row statistics of one row of 16 equal logits: log p = -log 16 */
struct row_job { struct pf_buf *z, *target, *row, *seq; uint64_t z_at, small_at; };
enum { ROW_VOCAB = 16 };
#define LOG_16_Q32 11908177834                 /* log 16 * 2^32, rounded */

static void row_open(struct pf_device *device, struct row_job *job, uint64_t z_at, uint64_t small_at)
{
	struct pf_error error = { 0 };
	job->z_at = z_at;
	job->small_at = small_at;
	if (pf_buf_alloc(device, PF_KERNEL_logprob, PF_ARG_logprob_z, z_at + 64, &job->z, &error) != 0
	    || pf_buf_alloc(device, PF_KERNEL_logprob, PF_ARG_logprob_target, small_at + 64, &job->target, &error) != 0
	    || pf_buf_alloc(device, PF_KERNEL_logprob, PF_ARG_logprob_out, small_at + 64, &job->row, &error) != 0
	    || pf_buf_alloc(device, PF_KERNEL_seq_sum, PF_ARG_seq_sum_out, small_at + 64, &job->seq, &error) != 0)
		fail_msg("%s", error.text);
}

static void row_close(struct row_job *job)
{
	pf_buf_free(job->z);
	pf_buf_free(job->target);
	pf_buf_free(job->row);
	pf_buf_free(job->seq);
}

static void must_end(struct pf_ticket *ticket)
{
	struct pf_error error = { 0 };
	if (pf_wait(ticket, &error) != 0)
		fail_msg("%s", error.text);
	assert_true(ticket->queued_ns <= ticket->started_ns && ticket->started_ns <= ticket->done_ns);
}

/* logprob, then seq_sum on what it has left on the card; the span shares the target's buffer afterwards */
static void row_run(struct pf_device *device, struct row_job *job)
{
	const float z[ROW_VOCAB] = { 0 };
	const int32_t target = 3;
	const struct pf_span span = { 0, 1, 1, 0 };
	struct pf_seq seq;
	struct pf_ticket t[6] = { 0 };
	struct pf_arg logprob[PF_ARG_logprob_COUNT] = { { job->z, job->z_at, { 0 } },
		                                        { job->target, job->small_at, { 0 } },
		                                        { job->row, job->small_at, { 0 } } };
	struct pf_arg sum[PF_ARG_seq_sum_COUNT] = { { job->row, job->small_at, { 0 } },
		                                    { job->target, job->small_at, { 0 } },
		                                    { job->seq, job->small_at, { 0 } } };
	logprob[PF_ARG_logprob_rows].val.u32 = logprob[PF_ARG_logprob_stride].val.u32 = 1;
	logprob[PF_ARG_logprob_vocab].val.u32 = ROW_VOCAB;
	sum[PF_ARG_seq_sum_rows].val.u32 = sum[PF_ARG_seq_sum_seqs].val.u32 = 1;
	assert_int_equal(pf_copy_in(job->z, job->z_at, z, sizeof z, NULL, &t[0]), 0);
	assert_int_equal(pf_copy_in(job->target, job->small_at, &target, sizeof target, &t[0], &t[1]), 0);
	assert_int_equal(pf_run(device, PF_KERNEL_logprob, logprob, PF_ARG_logprob_COUNT, &t[1], &t[2]), 0);
	assert_int_equal(pf_copy_in(job->target, job->small_at, &span, sizeof span, &t[2], &t[3]), 0);
	assert_int_equal(pf_run(device, PF_KERNEL_seq_sum, sum, PF_ARG_seq_sum_COUNT, &t[3], &t[4]), 0);
	assert_int_equal(pf_copy_out(job->seq, job->small_at, &seq, sizeof seq, &t[4], &t[5]), 0);
	for (int i = 0; i < 6; i++)
		must_end(&t[i]);
	assert_true(seq.n == 1 && seq.logp >= -LOG_16_Q32 - 512 && seq.logp <= -LOG_16_Q32 + 512);
}

/* What one run leaves in a part of a buffer, the next one finds there */
void parts_stay_on_the_card(void **state)
{
	struct pf_device *device = open_first(NULL);
	struct row_job job;
	(void)state;
	row_open(device, &job, PF_PAGE_BYTES, 3 * PF_PAGE_BYTES);
	for (int i = 0; i < 3; i++)
		row_run(device, &job);
	row_close(&job);
	assert_int_equal(pf_device_close(device), 0);
}

/* A buffer of 5 GiB (the memory behind is sparse), used beyond 4 GiB */
void large_buffers(void **state)
{
	struct pf_device *device = open_first(NULL);
	struct row_job job;
	(void)state;
	row_open(device, &job, ((uint64_t)4 << 30) + 5 * PF_PAGE_BYTES, PF_PAGE_BYTES);
	row_run(device, &job);
	row_close(&job);
	assert_int_equal(pf_device_close(device), 0);
}

/* Memory of the caller behind a buffer: the bytes go to the card and come back at the same place, and elsewhere */
void memory_of_the_caller(void **state)
{
	struct pf_device *device = open_first(NULL);
	struct pf_error error = { 0 };
	struct pf_buf *buf;
	struct pf_ticket t[3] = { 0 };
	uint8_t *host = aligned_alloc(PF_PAGE_BYTES, 2 * PF_PAGE_BYTES), elsewhere[100];
	(void)state;
	assert_non_null(host);
	for (unsigned i = 0; i < 2 * PF_PAGE_BYTES; i++)
		host[i] = (uint8_t)(i * 7 + i / 251);
	assert_int_equal(pf_buf_alloc_host(device, PF_KERNEL_coef, PF_ARG_coef_item, host + 1, 64, &buf, &error),
	                 PF_E_ARGUMENT);
	assert_null(buf);
	if (pf_buf_alloc_host(device, PF_KERNEL_coef, PF_ARG_coef_item, host, 2 * PF_PAGE_BYTES, &buf, &error) != 0)
		fail_msg("%s", error.text);
	assert_int_equal(pf_copy_in(buf, 0, host, 2 * PF_PAGE_BYTES, NULL, &t[0]), 0);
	must_end(&t[0]);
	memset(host, 0, 2 * PF_PAGE_BYTES);
	assert_int_equal(pf_copy_out(buf, 50, elsewhere, sizeof elsewhere, NULL, &t[1]), 0);
	must_end(&t[1]);
	for (unsigned i = 0; i < sizeof elsewhere; i++)
		assert_int_equal(elsewhere[i], (uint8_t)((i + 50) * 7 + (i + 50) / 251));
	assert_int_equal(pf_copy_out(buf, 0, host, 2 * PF_PAGE_BYTES, NULL, &t[2]), 0);
	must_end(&t[2]);
	for (unsigned i = 0; i < 2 * PF_PAGE_BYTES; i++)
		assert_int_equal(host[i], (uint8_t)(i * 7 + i / 251));
	pf_buf_free(buf);
	assert_int_equal(pf_device_close(device), 0);
	free(host);
}
