#define _GNU_SOURCE
#include "emulation.h"
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { WORDS_MAX = 256, VARIABLES = 8, GRACE_MS = 5000, REAP_MS = 2000 };

int pf_emulation_open(const struct pf_emulation_options *options, struct pf_emulation **emulation,
                      struct pf_error *error)
{
	static const struct pf_emulation_options nothing;
	struct pf_emulation *e = calloc(1, sizeof *e);
	*emulation = NULL;
	if (!e)
		return pf_fail(error, -ENOMEM, "out of memory");
	e->lock = -1;
	int status = pf_session_open(e, error);
	if (status != 0) {
		free(e);
		return status;
	}
	status = pf_tree_make(e->folder, options ? options : &nothing, error);
	if (status != 0)
		pf_emulation_close(e);
	else
		*emulation = e;
	return status;
}

void pf_emulation_close(struct pf_emulation *emulation)
{
	if (!emulation)
		return;
	pf_session_close(emulation);
	free(emulation);
}

const char *pf_emulation_folder(const struct pf_emulation *emulation)
{
	return emulation->folder;
}

/* ---- the command ---- */
/* env(1) sets the variables, so that nothing here reads or changes this process' environment */
struct command {
	char  text[VARIABLES][160];
	char *word[WORDS_MAX];
	int   variables, words;
};

static void add(struct command *command, const char *name, const char *format, const char *folder)
{
	char *text = command->text[command->variables++];
	int used = snprintf(text, sizeof *command->text, "%s=", name);
	snprintf(text + used, sizeof *command->text - (size_t)used, format, folder);
	command->word[command->words++] = text;
}

/* USER is part of the sockets' path in /tmp, so it leads them into the session's folder */
static int build(struct command *command, const char *folder, char *const argv[])
{
	static const char *const start[] = { "env", "-u", "XILINX_HLS", "-u", "XILINX_VIVADO" };
	command->variables = command->words = 0;
	for (size_t i = 0; i < sizeof start / sizeof *start; i++)
		command->word[command->words++] = (char *)start[i];
	add(command, "USER", "%s", folder + strlen("/tmp/"));
	add(command, "XCL_EMULATION_MODE", "sw_emu%.0s", folder);
	add(command, "XILINX_XRT", "%s/xrt", folder);
	add(command, "XILINX_VITIS", "%s/vitis", folder);
	add(command, "OCL_ICD_VENDORS", "%s/vendors", folder);
	add(command, "EMCONFIG_PATH", "%s", folder);
	add(command, "SDACCEL_EM_RUN_DIR", "%s/run", folder);
	add(command, "VITIS_SW_EMU_DISABLE_SINGLE_MMAP", "1%.0s", folder);
	for (int i = 0; argv[i]; i++) {
		if (command->words == WORDS_MAX - 1)
			return PF_E_RANGE;
		command->word[command->words++] = argv[i];
	}
	command->word[command->words] = NULL;
	return 0;
}

/* In the child. XRT keeps a file open for each buffer, so as many as allowed; it signals its whole
 * process group when the card dies, so a group of its own */
static _Noreturn void become(const struct command *command, const sigset_t *mask)
{
	struct rlimit files;
	setsid();
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
		files.rlim_cur = files.rlim_max;
		setrlimit(RLIMIT_NOFILE, &files);
	}
	sigprocmask(SIG_SETMASK, mask, NULL);
	execvp(command->word[0], command->word);
	_exit(127);
}

/* ---- waiting ---- */
static long now_ms(void)
{
	struct timespec time;
	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * 1000 + time.tv_nsec / 1000000;
}

/* The next signal of the set, or 0 after `ms` (negative: never) */
static int next_signal(const sigset_t *set, long ms)
{
	struct timespec time = { ms / 1000, ms % 1000 * 1000000 };
	int number = ms < 0 ? sigwaitinfo(set, NULL) : sigtimedwait(set, NULL, &time);
	return number > 0 ? number : 0;
}

struct watch {
	pid_t pid;
	long  deadline;                /* now_ms(), -1: none */
	int   sent;                    /* signal that we have sent to the group */
};

/* Time is up: ask first, then insist */
static void overdue(struct watch *watch)
{
	watch->sent = watch->sent == SIGTERM ? SIGKILL : SIGTERM;
	kill(-watch->pid, watch->sent);
	watch->deadline = now_ms() + GRACE_MS;
}

static int wait_command(struct watch *watch, const sigset_t *set, struct pf_emulation_end *end)
{
	int status;
	while (waitpid(watch->pid, &status, WNOHANG) != watch->pid) {
		long left = watch->deadline < 0 ? -1 : watch->deadline - now_ms();
		int number = watch->deadline >= 0 && left <= 0 ? 0 : next_signal(set, left);
		if (number && number != SIGCHLD) {
			watch->sent = number;
			kill(-watch->pid, number);
		} else if (!number && watch->deadline >= 0 && watch->deadline <= now_ms()) {
			end->timed_out = 1;
			overdue(watch);
		}
	}
	return status;
}

/* Did a process that the command has left end by a signal? Orphans come to us */
static int orphan_died(pid_t group)
{
	int status, died = 0;
	while (waitpid(-group, &status, WNOHANG) > 0)
		died |= WIFSIGNALED(status) ? 1 : 0;
	return died;
}

/* What the command left running goes with it */
static void end_group(pid_t pid)
{
	struct timespec pause = { 0, 1000000 };
	kill(-pid, SIGKILL);
	for (long until = now_ms() + REAP_MS; now_ms() < until; nanosleep(&pause, NULL))
		if (waitpid(-pid, NULL, WNOHANG) < 0 && kill(-pid, 0) != 0)
			return;
}

/* When the card dies, XRT ends its whole process group by SIGTERM */
static void describe(const struct watch *watch, int status, struct pf_emulation_end *end)
{
	end->code = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
	end->card_died = end->code == 128 + SIGTERM && !watch->sent && orphan_died(watch->pid);
}

int pf_emulation_run(const struct pf_emulation *emulation, char *const argv[], unsigned limit_ms,
                     struct pf_emulation_end *end, struct pf_error *error)
{
	struct command command;
	sigset_t set, before;
	static const int signals[] = { SIGCHLD, SIGINT, SIGTERM, SIGHUP };
	*end = (struct pf_emulation_end) { 0 };
	if (build(&command, emulation->folder, argv) != 0)
		return pf_fail(error, PF_E_RANGE, "the command has more than %d words", WORDS_MAX - 16);
	sigemptyset(&set);
	for (size_t i = 0; i < sizeof signals / sizeof *signals; i++)
		sigaddset(&set, signals[i]);
	sigprocmask(SIG_BLOCK, &set, &before);
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	struct watch watch = { fork(), limit_ms ? now_ms() + limit_ms : -1, 0 };
	if (watch.pid == 0)
		become(&command, &before);
	if (watch.pid > 0) {
		int status = wait_command(&watch, &set, end);
		describe(&watch, status, end);
		end_group(watch.pid);
	}
	prctl(PR_SET_CHILD_SUBREAPER, 0);
	sigprocmask(SIG_SETMASK, &before, NULL);
	return watch.pid > 0 ? 0 : pf_fail(error, -errno, "cannot start the command: %s",
	                                   strerror(errno));
}
