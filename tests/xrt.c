/* Backends xrt and opencl against XRT's own library in software emulation: run by
 * `prefpga emulate --cards 2 --image` with an image that has two units of kernel coef: `xrt BACKEND [MODE]`. Without
 * emulation: a skip. Modes: `hang` with an image of one unit of coef, which hangs; `kill` kills the card's process;
 * `interrupt` is interrupted; `wait` opens, works, says so and goes on until it is killed; `many` opens and closes
 * again and again. */
#define _GNU_SOURCE                    /* memmem */
#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/types.h>
#include <unistd.h>
#include "tests/cmocka.h"
#include "tests/job.h"
#include "tests/scratch.h"

#if defined(__SANITIZE_ADDRESS__)
enum { OPENS = 10 };                   /* an opening takes a second there */
#else
enum { OPENS = 200 };
#endif
enum { JOBS = 24, THREADS = 4, CARDS = 2 };
static const char *backend = "xrt";

static int is_opencl(void)
{
	return strcmp(backend, "opencl") == 0;
}

static struct pf_device *open_card(unsigned index, const struct pf_device_options *options)
{
	char spec[32];
	struct pf_device *device;
	struct pf_error error = { 0 };
	snprintf(spec, sizeof spec, "%s:%u", backend, index);
	if (pf_device_open(spec, options, &device, &error) != 0)
		fail_msg("%s", error.text);
	return device;
}

static struct pf_device *open_xrt(const struct pf_device_options *options)
{
	return open_card(0, options);
}

static void work(struct pf_device *device, int rounds)
{
	struct pf_error error = { 0 };
	struct job job;
	assert_int_equal(job_open(device, &job, &error), 0);
	for (int i = 1; i <= rounds; i++) {
		assert_int_equal(job_submit(&job, i), 0);
		if (job_wait(&job, i, &error) != 0)
			fail_msg("%s", error.text);
	}
	job_close(&job);
}

static void facts(void **state)
{
	struct pf_device *device = open_xrt(NULL);
	const struct pf_device_facts *f = pf_device_facts(device);
	(void)state;
	assert_string_equal(f->backend, backend);
	assert_string_equal(f->name, is_opencl() ? "OpenCL card 0 (emulated)" : "XRT card 0 (emulated)");
	assert_int_equal(f->numerics, PF_NUMERICS);
	assert_true(f->exact && !f->host_visible);
	assert_true(f->memory_bytes == (uint64_t)48 << 30);
	assert_int_equal(pf_device_cus(device, PF_KERNEL_coef), 2);
	assert_int_equal(pf_device_cus(device, PF_KERNEL_pref), 1);
	assert_int_equal(pf_device_cus(device, PF_KERNEL_head_adamw), 1);
	assert_int_equal(pf_device_close(device), 0);
}

/* One process opens, loads and closes again and again */
static void several_loads(void **state)
{
	(void)state;
	for (int round = 0; round < 4; round++) {
		struct pf_device *device = open_xrt(NULL);
		work(device, 2);
		assert_int_equal(pf_device_close(device), 0);
	}
}

/* More jobs than units, all queued at once: every one gets its own result */
static void two_units(void **state)
{
	struct pf_device *device = open_xrt(NULL);
	static struct job job[JOBS];
	struct pf_error error = { 0 };
	(void)state;
	for (int i = 0; i < JOBS; i++) {
		assert_int_equal(job_open(device, &job[i], &error), 0);
		assert_int_equal(job_submit(&job[i], 100 + i), 0);
	}
	for (int i = 0; i < JOBS; i++) {
		if (job_wait(&job[i], 100 + i, &error) != 0)
			fail_msg("%s", error.text);
		job_close(&job[i]);
	}
	assert_int_equal(pf_device_close(device), 0);
}

struct worker { pthread_t thread; struct pf_device *device; int id, failed; };

static void *work_alone(void *argument)
{
	struct worker *me = argument;
	struct pf_error error = { 0 };
	struct job job;
	me->failed = job_open(me->device, &job, &error) != 0;
	for (int i = 0; i < JOBS && !me->failed; i++) {
		double value = me->id * 1000 + i;
		me->failed = job_submit(&job, value) != 0 || job_wait(&job, value, &error) != 0;
	}
	job_close(&job);
	return NULL;
}

static void several_threads(void **state)
{
	struct worker worker[THREADS];
	struct pf_device *device = open_xrt(NULL);
	(void)state;
	for (int i = 0; i < THREADS; i++) {
		worker[i] = (struct worker) { .device = device, .id = i + 1 };
		assert_int_equal(pthread_create(&worker[i].thread, NULL, work_alone, &worker[i]), 0);
	}
	for (int i = 0; i < THREADS; i++) {
		pthread_join(worker[i].thread, NULL);
		assert_int_equal(worker[i].failed, 0);
	}
	assert_int_equal(pf_device_close(device), 0);
}

/* ---- what goes wrong says why, with XRT's own words ---- */
static void refusal(const char *spec, const char *image, int code, const char *says)
{
	struct pf_device_options options = { .image = image };
	struct pf_device *device;
	struct pf_error error = { 0 };
	char where[64];
	snprintf(where, sizeof where, "%s%s", backend, spec);
	assert_int_equal(pf_device_open(where, &options, &device, &error), code);
	if (!strstr(error.text, says))
		fail_msg("\"%s\" does not say \"%s\"", error.text, says);
}

static void refusals(void **state)
{
	(void)state;
	scratch_open("xrt");
	refusal(":7", NULL, PF_E_ABSENT, is_opencl() ? "no card 7" : "no emulated card 7");
	refusal(":no:card", NULL, PF_E_ABSENT, is_opencl() ? "no card no:card" : "XRT: ");
	refusal("", scratch_path("none.xclbin"), -ENOENT, "none.xclbin");
	refusal("", scratch_text("text.xclbin", "no image"), PF_E_FORMAT, "text.xclbin");
	struct pf_device *device = open_xrt(NULL);     /* and a refusal leaves nothing broken */
	work(device, 1);
	assert_int_equal(pf_device_close(device), 0);
}

/* The session's image with the hash of every kernel set to 0 */
static const char *foreign_image(void)
{
	char path[4096];
	static char data[1 << 26];        /* sanitized kernels are large */
	snprintf(path, sizeof path, "%s/prefpga.xclbin", getenv("XILINX_XRT"));
	FILE *in = fopen(path, "rb");
	assert_non_null(in);
	size_t bytes = fread(data, 1, sizeof data, in);
	fclose(in);
	assert_true(bytes < sizeof data);
	for (char *at = data; (at = memmem(at, (size_t)(data + bytes - at), "\"hash\": \"", 9)); at += 9)
		memset(at + 9, '0', 16);
	return scratch_bytes("foreign.xclbin", data, bytes);
}

static void foreign_kernels_are_refused(void **state)
{
	(void)state;
	scratch_open("xrt");
	refusal("", foreign_image(), PF_E_IMAGE, "has ABI 0000000000000000, this program expects ");
}

static void more_memory_than_there_is(void **state)
{
	struct pf_device *device = open_xrt(NULL);
	struct pf_error error = { 0 };
	struct pf_buf *buf = NULL;
	(void)state;
	assert_int_equal(pf_buf_alloc(device, PF_KERNEL_coef, PF_ARG_coef_out, (uint64_t)20 << 30, &buf,
	                              &error), PF_E_MEMORY);         /* a bank has 16 GiB */
	assert_non_null(strstr(error.text, "cannot allocate 21474836480 bytes"));
	work(device, 1);
	assert_int_equal(pf_device_close(device), 0);
}

/* Kernels that the image lacks are refused by name */
static void lacks_pref(struct pf_device *device)
{
	const struct pf_arg arg[PF_ARG_pref_COUNT] = { { 0 } };
	struct pf_ticket ticket = { 0 };
	struct pf_error error = { 0 };
	struct pf_buf *buf;
	assert_int_equal(pf_device_cus(device, PF_KERNEL_pref), 0);
	assert_int_equal(pf_buf_alloc(device, PF_KERNEL_pref, 0, 64, &buf, &error), PF_E_UNSUPPORTED);
	assert_non_null(strstr(error.text, "kernel pref is not in this image"));
	assert_int_equal(pf_run(device, PF_KERNEL_pref, arg, PF_ARG_pref_COUNT, NULL, &ticket), PF_E_UNSUPPORTED);
}

/* A unit that never ends: the watchdog's error, no hang, and the device is lost */
static void a_hanging_unit(void **state)
{
	struct pf_device_options options = { .watchdog_ms = 300 };
	struct pf_device *device = open_xrt(&options);
	struct pf_error error = { 0 };
	struct job job;
	(void)state;
	assert_int_equal(pf_device_cus(device, PF_KERNEL_coef), 1);
	lacks_pref(device);
	assert_int_equal(job_open(device, &job, &error), 0);
	assert_int_equal(job_submit(&job, 1), 0);
	assert_int_equal(job_wait(&job, 1, &error), PF_E_TIMEOUT);
	assert_int_equal(job_submit(&job, 1), PF_E_DEVICE);
	job_close(&job);
	pf_device_close(device);
}

/* The process that XRT started for the card */
static pid_t card_process(void)
{
	char path[64], name[64];
	for (long id = 2; id < 1L << 22; id++) {
		long parent = 0;
		snprintf(path, sizeof path, "/proc/%ld/stat", id);
		FILE *in = fopen(path, "r");
		int fields = in ? fscanf(in, "%*d %63s %*c %ld", name, &parent) : 0;
		if (in)
			fclose(in);
		if (fields == 2 && parent == (long)getpid())
			return (pid_t)id;
	}
	return -1;
}

/* Ctrl-C goes to the whole group: the host handles it and goes on with its card (0) */
static int survive_an_interrupt(void)
{
	struct pf_device *device = open_xrt(NULL);
	signal(SIGINT, SIG_IGN);
	signal(SIGTERM, SIG_IGN);
	kill(0, SIGINT);
	kill(0, SIGTERM);
	work(device, 50);
	return pf_device_close(device);
}

/* Many allocations, few files: those of the emulation stay open until the device is closed */
static void buffers_are_used_again(void **state)
{
	struct pf_device *device = open_xrt(NULL);
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

/* ---- cards, parts, memory of the caller, sizes ---- */
/* XRT serves one of its interfaces in a process */
static void one_interface(void **state)
{
	struct pf_device *device = open_xrt(NULL), *other;
	struct pf_error error = { 0 };
	(void)state;
	assert_int_equal(pf_device_open(is_opencl() ? "xrt" : "opencl", NULL, &other, &error), PF_E_UNSUPPORTED);
	assert_non_null(strstr(error.text, backend));
	work(device, 1);
	assert_int_equal(pf_device_close(device), 0);
}

/* XRT 2.13's emulation unmaps a page a second time when another card is loaded; ASan may have put something there */
#if defined(__SANITIZE_ADDRESS__)
#define ONE_CARD_UNDER_ASAN() skip()
#else
#define ONE_CARD_UNDER_ASAN() ((void)0)
#endif

static void several_cards(void **state)
{
	struct pf_device *device[CARDS];
	static struct job job[CARDS][JOBS];
	struct pf_error error = { 0 };
	(void)state;
	ONE_CARD_UNDER_ASAN();
	for (unsigned c = 0; c < CARDS; c++)
		device[c] = open_card(c, NULL);
	for (int i = 0; i < JOBS; i++)
		for (int c = 0; c < CARDS; c++) {
			assert_int_equal(job_open(device[c], &job[c][i], &error), 0);
			assert_int_equal(job_submit(&job[c][i], 1000 * c + i), 0);
		}
	for (int i = 0; i < JOBS; i++)
		for (int c = 0; c < CARDS; c++) {
			if (job_wait(&job[c][i], 1000 * c + i, &error) != 0)
				fail_msg("card %d: %s", c, error.text);
			job_close(&job[c][i]);
		}
	for (unsigned c = 0; c < CARDS; c++)
		assert_int_equal(pf_device_close(device[c]), 0);
}

/* Once a card has run, OpenCL takes no other one, and says so instead of crashing */
static void one_card_more(void **state)
{
	struct pf_device *first, *second, *third = NULL;
	struct pf_error error = { 0 };
	char spec[32];
	(void)state;
	ONE_CARD_UNDER_ASAN();
	first = open_xrt(NULL);
	second = open_card(1, NULL);
	work(first, 1);
	work(second, 1);
	snprintf(spec, sizeof spec, "%s:0", backend);
	if (is_opencl()) {
		assert_int_equal(pf_device_open(spec, NULL, &third, &error), PF_E_UNSUPPORTED);
		assert_non_null(strstr(error.text, "open all cards first"));
	}
	work(first, 1);
	work(second, 1);
	assert_int_equal(pf_device_close(first), 0);
	assert_int_equal(pf_device_close(second), 0);
}

/* Emulated cards have addresses in OpenCL, 0000:00:<number>.0; the native interface takes none there (test xrt_card has
 * cards with addresses for it). That card 1 is meant, XRT's OpenCL shows by having it: it takes no other any more */
static void cards_by_address(void **state)
{
	struct pf_device *first, *second = NULL;
	struct pf_error error = { 0 };
	(void)state;
	ONE_CARD_UNDER_ASAN();
	first = open_xrt(NULL);
	if (!is_opencl()) {
		assert_int_equal(pf_device_open("xrt:0000:00:01.0", NULL, &second, &error), PF_E_ABSENT);
		assert_non_null(strstr(error.text, "Invalid device string"));
		assert_int_equal(pf_device_close(first), 0);
		return;
	}
	if (pf_device_open("opencl:0000:00:01.0", NULL, &second, &error) != 0)
		fail_msg("%s", error.text);
	work(second, 1);
	work(first, 1);
	assert_int_equal(pf_device_close(first), 0);
	assert_int_equal(pf_device_close(second), 0);
	assert_int_equal(pf_device_open("opencl:0000:00:07.0", NULL, &second, &error), PF_E_ABSENT);
	assert_non_null(strstr(error.text, "0000:00:07.0"));
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
static void parts_stay_on_the_card(void **state)
{
	struct pf_device *device = open_xrt(NULL);
	struct row_job job;
	(void)state;
	row_open(device, &job, PF_PAGE_BYTES, 3 * PF_PAGE_BYTES);
	for (int i = 0; i < 3; i++)
		row_run(device, &job);
	row_close(&job);
	assert_int_equal(pf_device_close(device), 0);
}

/* A buffer of 5 GiB (the memory behind is sparse), used beyond 4 GiB */
static void large_buffers(void **state)
{
	struct pf_device *device = open_xrt(NULL);
	struct row_job job;
	(void)state;
	row_open(device, &job, ((uint64_t)4 << 30) + 5 * PF_PAGE_BYTES, PF_PAGE_BYTES);
	row_run(device, &job);
	row_close(&job);
	assert_int_equal(pf_device_close(device), 0);
}

/* Memory of the caller behind a buffer: the bytes go to the card and come back at the same place, and elsewhere */
static void memory_of_the_caller(void **state)
{
	struct pf_device *device = open_xrt(NULL);
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

/* ---- nothing is left ---- */
static unsigned entries(const char *path)
{
	unsigned count = 0;
	DIR *folder = opendir(path);
	while (folder && readdir(folder))
		count++;
	if (folder)
		closedir(folder);
	return count;
}

static unsigned children(void)
{
	char path[64];
	unsigned count = 0;
	long id;
	snprintf(path, sizeof path, "/proc/self/task/%ld/children", (long)getpid());
	FILE *in = fopen(path, "r");
	while (in && fscanf(in, "%ld", &id) == 1)
		count++;
	if (in)
		fclose(in);
	return count;
}

struct left { unsigned files, processes, runs, sockets; };

static struct left count_left(void)
{
	char sockets[256];
	snprintf(sockets, sizeof sockets, "/tmp/%s", getenv("USER"));
	return (struct left){ entries("/proc/self/fd"), children(), entries(getenv("SDACCEL_EM_RUN_DIR")),
		              entries(sockets) };
}

/* The first opening pays for what XRT keeps as long as the program lives */
static void many_opens_leave_nothing(void **state)
{
	struct left before = { 0 }, after;
	(void)state;
	for (int i = 0; i < OPENS; i++) {
		struct pf_device *device = open_xrt(NULL);
		if (i % 10 == 0)
			work(device, 1);
		assert_int_equal(pf_device_close(device), 0);
		if (i == 0)
			before = count_left();
	}
	after = count_left();
	if (after.files > before.files || after.processes > before.processes || after.runs > before.runs
	    || after.sockets > before.sockets)
		fail_msg("files %u -> %u, processes %u -> %u, run folders %u -> %u, sockets %u -> %u", before.files,
		         after.files, before.processes, after.processes, before.runs, after.runs, before.sockets,
		         after.sockets);
}

static int work_to_the_end(void)
{
	struct pf_device *device = open_xrt(NULL);
	work(device, 1);
	printf("works %ld %ld %s\n", (long)getpid(), (long)card_process(), getenv("EMCONFIG_PATH"));
	fflush(stdout);
	for (;;)                               /* XRT notices a dead card at its next call */
		work(device, 1);
	return pf_device_close(device);
}

/* Loses the card and goes on: XRT ends the program, or an operation fails (3) */
static int lose_the_card(void)
{
	struct pf_device *device = open_xrt(NULL);
	struct pf_error error = { 0 };
	struct job job;
	if (job_open(device, &job, &error) != 0 || kill(card_process(), SIGKILL) != 0)
		return 2;
	for (int i = 0; i < 1000; i++)
		if (job_submit(&job, i) != 0 || job_wait(&job, i, &error) != 0)
			return 3;
	return 0;
}

static int run_group(const char *mode)
{
	static const struct CMUnitTest hang[] = { cmocka_unit_test(a_hanging_unit) };
	static const struct CMUnitTest many[] = { cmocka_unit_test(many_opens_leave_nothing) };
	static const struct CMUnitTest tests[] = {
		/* OpenCL wants all cards before the first run */
		cmocka_unit_test(several_cards),
		cmocka_unit_test(one_card_more),
		cmocka_unit_test(cards_by_address),
		cmocka_unit_test(facts),
		cmocka_unit_test(several_loads),
		cmocka_unit_test(two_units),
		cmocka_unit_test(several_threads),
		cmocka_unit_test(refusals),
		cmocka_unit_test(foreign_kernels_are_refused),
		cmocka_unit_test(more_memory_than_there_is),
		cmocka_unit_test(buffers_are_used_again),
		cmocka_unit_test(one_interface),
		cmocka_unit_test(parts_stay_on_the_card),
		cmocka_unit_test(large_buffers),
		cmocka_unit_test(memory_of_the_caller),
	};
	if (strcmp(mode, "many") == 0)
		return cmocka_run_group_tests_name("xrt many", many, NULL, NULL);
	if (strcmp(mode, "hang") != 0)
		return cmocka_run_group_tests_name("xrt", tests, NULL, NULL);
	int failed = cmocka_run_group_tests_name("xrt hang", hang, NULL, NULL);
	fflush(NULL);
	_exit(failed);                         /* XRT 2.13's destructors do not survive a hanging run */
}

int main(int argc, char **argv)
{
	struct pf_device *device;
	struct pf_error error = { 0 };
	const char *mode = argc > 2 ? argv[2] : "";
	if (argc > 1)
		backend = argv[1];
	int status = pf_device_open(backend, NULL, &device, &error);
	if (status == PF_E_ABSENT || status == PF_E_UNSUPPORTED) {
		printf("skipped: %s\n", error.text);
		return 77;
	}
	if (status == 0)
		pf_device_close(device);
	if (strcmp(mode, "interrupt") == 0)
		return survive_an_interrupt();
	if (strcmp(mode, "kill") == 0)
		return lose_the_card();
	if (strcmp(mode, "wait") == 0)
		return work_to_the_end();
	return run_group(mode);
}
