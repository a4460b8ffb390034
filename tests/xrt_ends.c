/* How cards under XRT's emulation end: units that hang, interrupts, a card that dies, and what closing leaves. */
#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>
#include "tests/cmocka.h"
#include "tests/xrt_emulated.h"

#if defined(__SANITIZE_ADDRESS__)
enum { OPENS = 10 };                   /* an opening takes a second there */
#else
enum { OPENS = 200 };
#endif

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
void a_hanging_unit(void **state)
{
	struct pf_device_options options = { .watchdog_ms = 300 };
	struct pf_device *device = open_first(&options);
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
int survive_an_interrupt(void)
{
	struct pf_device *device = open_first(NULL);
	signal(SIGINT, SIG_IGN);
	signal(SIGTERM, SIG_IGN);
	kill(0, SIGINT);
	kill(0, SIGTERM);
	work(device, 50);
	return pf_device_close(device);
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
void many_opens_leave_nothing(void **state)
{
	struct left before = { 0 }, after;
	(void)state;
	for (int i = 0; i < OPENS; i++) {
		struct pf_device *device = open_first(NULL);
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

int work_to_the_end(void)
{
	struct pf_device *device = open_first(NULL);
	work(device, 1);
	printf("works %ld %ld %s\n", (long)getpid(), (long)card_process(), getenv("EMCONFIG_PATH"));
	fflush(stdout);
	for (;;)                               /* XRT notices a dead card at its next call */
		work(device, 1);
	return pf_device_close(device);
}

/* Loses the card and goes on: XRT ends the program, or an operation fails (3) */
int lose_the_card(void)
{
	struct pf_device *device = open_first(NULL);
	struct pf_error error = { 0 };
	struct job job;
	if (job_open(device, &job, &error) != 0 || kill(card_process(), SIGKILL) != 0)
		return 2;
	for (int i = 0; i < 1000; i++)
		if (job_submit(&job, i) != 0 || job_wait(&job, i, &error) != 0)
			return 3;
	return 0;
}
