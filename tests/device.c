/* The device core: opening by name, buffers, every refusal, dependencies, texts, counters. On the simulated card. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "tests/cmocka.h"
#include "tests/job.h"
#include "tests/wrap.h"

extern const struct pf_backend pf_backend_sim;

static struct pf_device *open_sim(void)
{
	struct pf_device *device;
	struct pf_error error = { 0 };
	if (pf_device_open("sim:*1", NULL, &device, &error) != 0)
		fail_msg("%s", error.text);
	return device;
}

/* ---- names ---- */
static void unknown_names_list_what_exists(void **state)
{
	static const struct { const char *spec, *says; } cases[] = {
		{ "smi", "did you mean \"sim\"" }, { "cpuu:x", "did you mean \"cpu\"" }, { "gpu", "cpu, sim" },
		{ "", "sim" },
		{ NULL, "sim" }, { "auto:0", "auto" }, { "si", "did you mean \"sim\"" },
		{ "sim2", "did you mean \"sim\"" },
	};
	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct pf_device *device = (void *)&device;
		struct pf_error error = { 0 };
		assert_int_equal(pf_device_open(cases[i].spec, NULL, &device, &error), PF_E_UNKNOWN);
		assert_null(device);
		assert_non_null(strstr(error.text, cases[i].says));
	}
}

static void backends_are_listed(void **state)
{
	int sim = 0;
	(void)state;
	for (unsigned i = 0; pf_backend_name(i); i++)
		sim |= strcmp(pf_backend_name(i), "sim") == 0;
	assert_true(sim);
	assert_null(pf_backend_name(1000));
}

static void automatic_opens_something(void **state)
{
	struct pf_device *device;
	(void)state;
	assert_int_equal(pf_device_open("auto", NULL, &device, NULL), 0);
	assert_string_not_equal(pf_device_facts(device)->backend, "sim");
	assert_int_equal(pf_device_close(device), 0);
	assert_int_equal(pf_device_close(NULL), 0);
}

static void facts_tell(void **state)
{
	struct pf_device *device = open_sim();
	const struct pf_device_facts *facts = pf_device_facts(device);
	(void)state;
	assert_string_equal(facts->backend, "sim");
	assert_string_equal(facts->name, "simulated u55c");
	assert_int_equal(facts->numerics, PF_NUMERICS);
	assert_true(facts->exact && !facts->host_visible);
	assert_int_equal(pf_device_cus(device, PF_KERNEL_logprob), 1);
	assert_int_equal(pf_device_cus(device, PF_KERNEL_head_adamw), 1);
	assert_int_equal(pf_device_cus(device, -1), 0);
	assert_int_equal(pf_device_cus(device, PF_KERNEL_COUNT), 0);
	pf_device_close(device);
}

/* ---- buffers ---- */
static void refuses_buffers(void **state)
{
	static const struct { int kernel; unsigned arg; uint64_t bytes; int code; } cases[] = {
		{ -1, 0, 64, PF_E_ARGUMENT }, { PF_KERNEL_COUNT, 0, 64, PF_E_ARGUMENT },
		{ PF_KERNEL_logprob, PF_ARG_logprob_rows, 64, PF_E_ARGUMENT },
		{ PF_KERNEL_logprob, 1000, 64, PF_E_ARGUMENT }, { PF_KERNEL_logprob, 0, 0, PF_E_RANGE },
		{ PF_KERNEL_logprob, 0, UINT64_MAX, PF_E_MEMORY },
		{ PF_KERNEL_logprob, 0, (uint64_t)1 << 40, PF_E_MEMORY },
	};
	struct pf_device *device = open_sim();
	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct pf_buf *buf = (void *)&buf;
		struct pf_error error = { 0 };
		assert_int_equal(pf_buf_alloc(device, cases[i].kernel, cases[i].arg, cases[i].bytes, &buf, &error),
		                 cases[i].code);
		assert_null(buf);
		assert_true(error.text[0] != 0);
	}
	pf_buf_free(NULL);
	pf_device_close(device);
}

static void close_frees_buffers(void **state)
{
	struct pf_device *device = open_sim();
	struct pf_buf *buf[3];
	(void)state;
	for (int i = 0; i < 3; i++)
		assert_int_equal(pf_buf_alloc(device, PF_KERNEL_logprob, PF_ARG_logprob_z, 100, &buf[i], NULL), 0);
	assert_int_equal(pf_buf_bytes(buf[1]), 100);
	assert_null(pf_buf_map(buf[1]));
	pf_buf_free(buf[1]);
	assert_int_equal(pf_device_close(device), 0);
}

/* ---- refused launches: a good launch with one thing wrong ---- */
struct grad_launch {
	struct pf_buf *z, *target, *coef, *row, *dz, *foreign, *small;
	struct pf_arg  arg[PF_ARG_logit_grad_COUNT];
};
enum { ROWS = 3, VOCAB = 100, STRIDE = 7 };

static struct pf_buf *need(struct pf_device *device, unsigned arg, uint64_t bytes)
{
	struct pf_buf *buf;
	assert_int_equal(pf_buf_alloc(device, PF_KERNEL_logit_grad, arg, bytes, &buf, NULL), 0);
	return buf;
}

static void grad_open(struct pf_device *device, struct pf_device *other, struct grad_launch *g)
{
	const uint64_t matrix = ROWS * STRIDE * PF_BEAT_BYTES;
	memset(g, 0, sizeof *g);
	g->z = need(device, PF_ARG_logit_grad_z, PF_PAGE_BYTES * 4);
	g->target = need(device, PF_ARG_logit_grad_target, ROWS * 4);
	g->coef = need(device, PF_ARG_logit_grad_coef, ROWS * 4);
	g->row = need(device, PF_ARG_logit_grad_row, ROWS * 64);
	g->dz = need(device, PF_ARG_logit_grad_dz, matrix);
	g->foreign = need(other, PF_ARG_logit_grad_z, matrix);
	g->small = need(device, PF_ARG_logit_grad_dz, matrix - 1);
	struct pf_buf *const buf[] = { g->z, g->target, g->coef, g->row, g->dz };
	for (int i = 0; i < 5; i++)
		g->arg[i].buf = buf[i];
	g->arg[PF_ARG_logit_grad_rows].val.u32 = ROWS;
	g->arg[PF_ARG_logit_grad_vocab].val.u32 = VOCAB;
	g->arg[PF_ARG_logit_grad_stride].val.u32 = STRIDE;
}

static void expect_refusal(struct pf_device *device, const struct pf_arg *arg, int code, const char *says)
{
	struct pf_ticket ticket = { 0 };
	struct pf_error error = { 0 };
	assert_int_equal(pf_run(device, PF_KERNEL_logit_grad, arg, PF_ARG_logit_grad_COUNT, NULL, &ticket), code);
	assert_int_equal(ticket.status, code);
	assert_int_equal(pf_wait(&ticket, &error), code);
	assert_int_equal(error.code, code);
	if (!strstr(error.text, says))
		fail_msg("\"%s\" does not say \"%s\"", error.text, says);
	assert_non_null(strstr(error.text, "logit_grad"));
}

static void refuses_launches(void **state)
{
	struct pf_device *device = open_sim(), *other = open_sim();
	struct grad_launch g;
	(void)state;
	grad_open(device, other, &g);
#define WITH(change, code, says) do { \
		struct pf_arg arg[PF_ARG_logit_grad_COUNT]; \
		memcpy(arg, g.arg, sizeof arg); \
		change; \
		expect_refusal(device, arg, code, says); \
	} while (0)
	WITH(arg[0].buf = NULL, PF_E_ARGUMENT, "argument 0 (z): no buffer");
	WITH(arg[0].buf = g.foreign, PF_E_ARGUMENT, "another device");
	WITH(arg[0].buf = g.target, PF_E_ARGUMENT, "bank class SMALL");
	WITH(arg[1].buf = g.z, PF_E_ARGUMENT, "bank class STREAM");
	WITH(arg[0].offset = 64, PF_E_ARGUMENT, "multiple of 4096");
	WITH(arg[0].offset = PF_PAGE_BYTES * 4, PF_E_SHAPE, "argument 0 (z)");
	WITH(arg[0].offset = UINT64_MAX - 4095, PF_E_SHAPE, "argument 0 (z)");
	WITH(arg[4].buf = g.small, PF_E_SHAPE, "argument 4 (dz)");
	WITH(arg[5].buf = g.z, PF_E_ARGUMENT, "argument 5 (rows): is a scalar");
	WITH(arg[5].val.u32 = ROWS + 1, PF_E_SHAPE, "argument 1 (target)");
	WITH(arg[5].val.u32 = PF_ROWS_MAX + 1, PF_E_RANGE, "argument 5 (rows)");
	WITH(arg[6].val.u32 = 0, PF_E_RANGE, "argument 6 (vocab)");
	WITH(arg[6].val.u32 = PF_VOCAB_MAX + 1, PF_E_RANGE, "argument 6 (vocab)");
	WITH(arg[6].val.u32 = STRIDE * 16 + 1, PF_E_SHAPE, "argument 7 (stride)");
	WITH(arg[7].val.u32 = UINT32_MAX, PF_E_SHAPE, "argument 0 (z)");
	WITH((arg[4].buf = g.z, arg[5].val.u32 = 2, arg[7].val.u32 = 65, arg[4].offset = PF_PAGE_BYTES), PF_E_ARGUMENT,
	     "overlaps argument 0 (z)");
#undef WITH
	struct pf_ticket ticket = { 0 };
	assert_int_equal(pf_run(device, PF_KERNEL_logit_grad, g.arg, 7, NULL, &ticket), PF_E_ARGUMENT);
	assert_int_equal(pf_run(device, PF_KERNEL_logit_grad, NULL, 8, NULL, &ticket), PF_E_ARGUMENT);
	assert_int_equal(pf_run(device, -1, g.arg, 8, NULL, &ticket), PF_E_ARGUMENT);
	assert_int_equal(pf_run(device, PF_KERNEL_COUNT, g.arg, 8, NULL, &ticket), PF_E_ARGUMENT);
	assert_int_equal(pf_run(device, PF_KERNEL_logit_grad, g.arg, 8, NULL, NULL), PF_E_ARGUMENT);
	assert_int_equal(pf_run(NULL, PF_KERNEL_logit_grad, g.arg, 8, NULL, &ticket), PF_E_ARGUMENT);
	assert_int_equal(pf_wait(&ticket, NULL), PF_E_ARGUMENT);
	pf_device_close(other);
	pf_device_close(device);
}

static void refuses_limits_of_other_kernels(void **state)
{
	struct pf_device *device = open_sim();
	struct pf_arg arg[PF_ARG_pref_COUNT] = { { 0 } };
	struct pf_ticket ticket = { 0 };
	struct pf_error error = { 0 };
	(void)state;
	arg[PF_ARG_pref_words].val.u32 = PF_PROG_MAX + 1;
	assert_int_equal(pf_run(device, PF_KERNEL_pref, arg, PF_ARG_pref_COUNT, NULL, &ticket), PF_E_RANGE);
	arg[PF_ARG_pref_words].val.u32 = PF_PROG_CODE - 1;
	assert_int_equal(pf_run(device, PF_KERNEL_pref, arg, PF_ARG_pref_COUNT, NULL, &ticket), PF_E_RANGE);
	arg[PF_ARG_pref_words].val.u32 = PF_PROG_MAX;
	arg[PF_ARG_pref_items].val.u32 = PF_ITEMS_MAX + 1;
	assert_int_equal(pf_run(device, PF_KERNEL_pref, arg, PF_ARG_pref_COUNT, NULL, &ticket), PF_E_RANGE);
	arg[PF_ARG_pref_items].val.u32 = 5;
	arg[PF_ARG_pref_groups].val.u32 = 6;
	assert_int_equal(pf_run(device, PF_KERNEL_pref, arg, PF_ARG_pref_COUNT, NULL, &ticket), PF_E_SHAPE);
	assert_int_equal(pf_wait(&ticket, &error), PF_E_SHAPE);
	assert_non_null(strstr(error.text, "more than the 5 items"));
	struct pf_arg coef[PF_ARG_coef_COUNT] = { { 0 } };
	coef[PF_ARG_coef_tail].val.f32 = NAN;
	assert_int_equal(pf_run(device, PF_KERNEL_coef, coef, PF_ARG_coef_COUNT, NULL, &ticket), PF_E_NOT_FINITE);
	coef[PF_ARG_coef_tail].val.f32 = 1;
	coef[PF_ARG_coef_seqs].val.u32 = PF_SEQS_MAX + 1;
	assert_int_equal(pf_run(device, PF_KERNEL_coef, coef, PF_ARG_coef_COUNT, NULL, &ticket), PF_E_RANGE);
	struct pf_arg logprob[PF_ARG_logprob_COUNT] = { { 0 } };
	logprob[PF_ARG_logprob_vocab].val.u32 = logprob[PF_ARG_logprob_stride].val.u32 = 1;
	logprob[PF_ARG_logprob_flags].val.u32 = 2;
	assert_int_equal(pf_run(device, PF_KERNEL_logprob, logprob, PF_ARG_logprob_COUNT, NULL, &ticket), PF_E_RANGE);
	pf_device_close(device);
}

static void refuses_copies(void **state)
{
	struct pf_device *device = open_sim();
	struct pf_buf *buf = need(device, 0, 100);
	struct pf_ticket ticket = { 0 };
	char host[128] = { 0 };
	(void)state;
	assert_int_equal(pf_copy_in(buf, 0, host, 101, NULL, &ticket), PF_E_RANGE);
	assert_int_equal(pf_copy_in(buf, 100, host, 1, NULL, &ticket), PF_E_RANGE);
	assert_int_equal(pf_copy_in(buf, UINT64_MAX, host, 2, NULL, &ticket), PF_E_RANGE);
	assert_int_equal(pf_copy_out(buf, 2, host, UINT64_MAX, NULL, &ticket), PF_E_RANGE);
	assert_int_equal(pf_copy_in(buf, 0, NULL, 1, NULL, &ticket), PF_E_ARGUMENT);
	assert_int_equal(pf_copy_in(NULL, 0, host, 1, NULL, &ticket), PF_E_ARGUMENT);
	assert_int_equal(pf_copy_in(buf, 0, host, 1, NULL, NULL), PF_E_ARGUMENT);
	assert_int_equal(pf_copy_in(buf, 100, NULL, 0, NULL, &ticket), 0);             /* nothing at the very end */
	assert_int_equal(pf_wait(&ticket, NULL), 0);
	assert_int_equal(ticket.beats, 0);
	pf_device_close(device);
}

/* ---- dependencies ---- */
static void failure_spreads(void **state)
{
	struct pf_device *device;
	struct pf_error error = { 0 };
	struct job job, again;
	(void)state;
	wrap_reset(&pf_backend_sim);
	assert_int_equal(pf_device_open_backend(wrap_backend(), "*1", NULL, &device, NULL), 0);
	assert_int_equal(job_open(device, &job, NULL), 0);
	assert_int_equal(job_open(device, &again, NULL), 0);
	wrap_pass(WRAP_COPY_IN, 0);
	wrap_fail_at(0, -EIO);
	assert_int_equal(job_submit(&job, 1), 0);
	wrap_pass(WRAP_COPY_IN, WRAP_ALL);
	assert_int_equal(pf_wait(&job.back, &error), PF_E_DEPENDENCY);
	assert_non_null(strstr(error.text, "an operation it waits for failed: simulated u55c: injected"));
	assert_null(strstr(error.text, "failed: not started"));
	assert_int_equal(pf_wait(&job.in[0], &error), -EIO);
	assert_string_equal(error.text, "simulated u55c: injected");
	assert_int_equal(pf_wait(&job.in[1], &error), PF_E_DEPENDENCY);
	assert_int_equal(pf_wait(&job.run, &error), PF_E_DEPENDENCY);
	assert_int_equal(job.run.started_ns, 0);
	/* after a ticket that has already failed: the same */
	assert_int_equal(pf_copy_in(again.item, 0, &again, 1, &job.in[0], &again.in[0]), 0);
	assert_int_equal(pf_wait(&again.in[0], &error), PF_E_DEPENDENCY);
	assert_non_null(strstr(error.text, "injected"));
	/* the same tickets, used again, are clean */
	assert_int_equal(job_submit(&job, 2), 0);
	assert_int_equal(job_wait(&job, 2, &error), 0);
	assert_int_equal(pf_device_close(device), 0);
}

static void tickets_keep_their_rules(void **state)
{
	struct pf_device *device, *other = open_sim();
	struct pf_ticket never = { 0 }, lost = { .status = PF_PENDING };
	struct pf_error error = { 0 };
	struct job job;
	(void)state;
	wrap_reset(&pf_backend_sim);
	assert_int_equal(pf_device_open_backend(wrap_backend(), "*1", NULL, &device, NULL), 0);
	assert_int_equal(job_open(device, &job, NULL), 0);
	assert_int_equal(pf_wait(&never, NULL), 0);
	wrap_pass(WRAP_COPY_IN, 0);
	assert_int_equal(job_submit(&job, 1), 0);
	wrap_await_entered(WRAP_COPY_IN, 1);
	assert_int_equal(pf_copy_in(job.item, 0, &job, 1, NULL, &job.run), PF_E_ARGUMENT);     /* pending: refused */
	struct pf_buf *foreign = need(other, 0, 100);
	struct pf_ticket across = { 0 };
	assert_int_equal(pf_copy_in(foreign, 0, &job, 1, &job.in[0], &across), PF_E_ARGUMENT); /* another device's */
	assert_int_equal(pf_wait(&across, &error), PF_E_ARGUMENT);
	assert_non_null(strstr(error.text, "another device"));
	lost.device = device;
	assert_int_equal(pf_copy_in(job.item, 0, &job, 1, &lost, &across), PF_E_ARGUMENT);     /* nobody submitted it */
	wrap_pass(WRAP_COPY_IN, WRAP_ALL);
	assert_int_equal(job_wait(&job, 1, NULL), 0);
	assert_int_equal(pf_copy_in(job.item, 0, &job, 1, &never, &across), 0);
	assert_int_equal(pf_wait(&across, NULL), 0);
	pf_device_close(other);
	pf_device_close(device);
}

static void old_failures_keep_a_text(void **state)
{
	enum { MANY = 100 };
	struct pf_device *device = open_sim();
	struct pf_buf *buf = need(device, 0, 64);
	struct pf_ticket *ticket = calloc(MANY, sizeof *ticket);
	struct pf_error error = { 0 };
	char host[64];
	(void)state;
	for (int i = 0; i < MANY; i++)
		assert_int_equal(pf_copy_out(buf, 0, host, sizeof host, NULL, &ticket[i]), 0);
	for (int i = 0; i < MANY; i++) {
		assert_int_equal(pf_wait(&ticket[i], &error), PF_E_UNWRITTEN);
		assert_true(error.text[0] != 0);
	}
	assert_non_null(strstr(error.text, "ever written at offset 0"));              /* the latest in full */
	pf_wait(&ticket[0], &error);
	assert_string_equal(error.text, pf_error_text(PF_E_UNWRITTEN));                /* the first in general */
	free(ticket);
	pf_device_close(device);
}

/* ---- buffers freed under an operation ---- */
static void free_waits_for_operations(void **state)
{
	struct pf_device *device;
	struct job job;
	(void)state;
	wrap_reset(&pf_backend_sim);
	assert_int_equal(pf_device_open_backend(wrap_backend(), "*1", NULL, &device, NULL), 0);
	assert_int_equal(job_open(device, &job, NULL), 0);
	wrap_pass(WRAP_RUN, 0);
	assert_int_equal(job_submit(&job, 3), 0);
	wrap_await_entered(WRAP_RUN, 1);
	job_close(&job);
	wrap_pass(WRAP_RUN, WRAP_ALL);
	assert_int_equal(job_wait(&job, 3, NULL), 0);
	assert_int_equal(pf_device_close(device), 0);
}

/* ---- what is counted ---- */
static void counts_and_times(void **state)
{
	struct pf_device *device = open_sim();
	struct pf_device_counts counts;
	struct job job;
	(void)state;
	assert_int_equal(job_open(device, &job, NULL), 0);
	assert_int_equal(job_submit(&job, 1), 0);
	assert_int_equal(job_wait(&job, 1, NULL), 0);
	const uint64_t out = sizeof job.result, in = sizeof job.host_item + sizeof job.host_span;
	const uint64_t out_beats = (out + 63) / 64;
	pf_device_counts(device, &counts);
	assert_int_equal(counts.runs, 1);
	assert_int_equal(counts.copies, 3);
	assert_int_equal(counts.bytes_in, in);
	assert_int_equal(counts.bytes_out, out);
	assert_int_equal(job.run.beats, 1 + 1 + out_beats);
	assert_int_equal(counts.beats, 2 + (2 + out_beats) + out_beats);
	assert_true(job.run.queued_ns <= job.run.started_ns && job.run.started_ns <= job.run.done_ns);
	assert_true(job.run.done_ns <= job.back.started_ns && job.in[0].done_ns <= job.in[1].started_ns);
	pf_device_close(device);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(unknown_names_list_what_exists), cmocka_unit_test(backends_are_listed),
		cmocka_unit_test(automatic_opens_something), cmocka_unit_test(facts_tell),
		cmocka_unit_test(refuses_buffers), cmocka_unit_test(close_frees_buffers),
		cmocka_unit_test(refuses_launches), cmocka_unit_test(refuses_limits_of_other_kernels),
		cmocka_unit_test(refuses_copies), cmocka_unit_test(failure_spreads),
		cmocka_unit_test(tickets_keep_their_rules), cmocka_unit_test(old_failures_keep_a_text),
		cmocka_unit_test(free_waits_for_operations), cmocka_unit_test(counts_and_times),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
