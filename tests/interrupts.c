/* What stops the program at its work: signals, as a user sends them, and a full disk. argv[1] is the program. */
#define _GNU_SOURCE                    /* F_SETPIPE_SZ */
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "tests/cmocka.h"
#include "tests/program.h"
#include "tests/scratch.h"

static rlim_t file_limit;              /* bytes a file may have, a disk's end for the program; 0: no limit */

static void limit_files(void)
{
	const struct rlimit limit = { file_limit, file_limit };
	if (file_limit && (signal(SIGXFSZ, SIG_IGN) == SIG_ERR || setrlimit(RLIMIT_FSIZE, &limit)))
		_exit(126);
}

/* Starts the program; its errors go to the file "errors" */
static pid_t start(const char *arguments)
{
	char command[4096];
	snprintf(command, sizeof command, "exec %s %s >%s 2>%s", program_path, arguments, scratch_path("results"),
	         scratch_path("errors"));
	pid_t child = fork();
	assert_true(child >= 0);
	if (child == 0) {
		limit_files();
		execl("/bin/sh", "sh", "-c", command, (char *)NULL);
		_exit(127);
	}
	return child;
}

static int ended(pid_t child)
{
	int status;
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static void said(const char *text)
{
	char errors[4096];
	FILE *in = fopen(scratch_path("errors"), "rb");
	assert_non_null(in);
	errors[fread(errors, 1, sizeof errors - 1, in)] = '\0';
	fclose(in);
	if (!strstr(errors, text))
		fail_msg("\"%s\" is not in \"%s\"", text, errors);
}

/* Waits until the folder has a file; the program works on */
static void wait_for_file(pid_t child, const char *folder)
{
	const struct timespec pause = { 0, 1000000 };
	while (scratch_count(folder) < 1) {
		assert_int_equal(waitpid(child, NULL, WNOHANG), 0);
		nanosleep(&pause, NULL);
	}
}

/* A gzip file of 64 GB: a small member, many times. Nobody waits for its end */
static void write_endless(const char *name)
{
	static char text[16 << 20];
	static char member[1 << 16];
	FILE *in = fopen(scratch_gzip("member.gz", text, sizeof text), "rb");
	assert_non_null(in);
	const size_t length = fread(member, 1, sizeof member, in);
	fclose(in);
	assert_true(length > 0 && length < sizeof member);
	FILE *out = fopen(scratch_path(name), "wb");
	assert_non_null(out);
	for (int i = 0; i < 4000; i++)
		assert_int_equal(fwrite(member, 1, length, out), length);
	assert_int_equal(fclose(out), 0);
}

static void unpacking_ends(const char *verb, int signal)
{
	char arguments[2048];
	write_endless("endless.jsonl.gz");
	snprintf(arguments, sizeof arguments, "%s %s --cache %s", verb, scratch_path("endless.jsonl.gz"),
	         scratch_path("cache"));
	pid_t child = start(arguments);
	wait_for_file(child, "cache");
	assert_int_equal(kill(child, signal), 0);
	assert_int_equal(ended(child), 130);
	said("endless.jsonl.gz: interrupted while unpacking; nothing was written");
	assert_int_equal(scratch_count("cache"), 0);
	unlink(scratch_path("endless.jsonl.gz"));
}

static void unpacking_ends_on_sigterm(void **state)
{
	char verb[1024];
	(void)state;
	scratch_open("interrupts");
	snprintf(verb, sizeof verb, "sft --out %s --data", scratch_path("out"));
	unpacking_ends(verb, SIGTERM);
}

static void unpacking_ends_on_sigint(void **state)
{
	(void)state;
	scratch_open("interrupts");
	unpacking_ends("generate --model nowhere --prompts", SIGINT);
}

/* A terminal that goes away ends a run as Ctrl-C does, unless nohup has said otherwise */
static void unpacking_ends_on_sighup(void **state)
{
	(void)state;
	signal(SIGHUP, SIG_DFL);
	scratch_open("interrupts");
	unpacking_ends("generate --model nowhere --prompts", SIGHUP);
}

/* ---- training ---- */
enum { STEPS = 60 };

static pid_t train(const char *out, const char *log, const char *more)
{
	char arguments[3000];
	snprintf(arguments, sizeof arguments,
	         "sft --data %s --cache %s --out %s --log %s --device cpu --steps %d --batch 2 "
	         "--holdout 0 --dim 32 --layers 1 --heads 2 --max-length 16 --threads 2 %s",
	         scratch_path("data.jsonl"), scratch_path("cache"), scratch_path(out), scratch_path(log), STEPS, more);
	return start(arguments);
}

/* Trains with a FIFO as the log, which has room for a few lines, so that the run cannot be far ahead of what is read
 * here; signals it after some lines (0: never). Returns the lines it wrote until it let go, its exit code in *code */
static int train_watched(const char *more, int after, int signal, int *code)
{
	char line[8192];
	int lines = 0, held = open(scratch_path("log"), O_RDWR);       /* keeps it open until the run has it */
	assert_true(held >= 0 && fcntl(held, F_SETPIPE_SZ, 4096) >= 0);
	pid_t child = train("parts", "log", more);
	FILE *in = fopen(scratch_path("log"), "rb");
	assert_non_null(in);
	setvbuf(in, NULL, _IONBF, 0);
	while (fgets(line, sizeof line, in)) {
		if (++lines == 1)
			close(held);
		if (lines == after)
			assert_int_equal(kill(child, signal), 0);
	}
	fclose(in);
	*code = ended(child);
	return lines;
}

/* What would give other bits is named and refused; nothing of the run changes */
static void exact_refuses(void)
{
	static const struct { const char *option, *says; } other[] = {
		{ "--card-memory 3M", "card memory" }, { "--shuffle=0", "order" }, { "--seed 9", "seed" },
		{ "--lr 0.01", "learning rate" }, { "--batch 3", "batch" }, { "--accumulate 2", "accumulate" },
		{ "--device sim", "device" }, { "--max-length 3", "data" },
		{ "--threads 1", "threads" }, { "--weight-decay 0.5", "AdamW" },
	};
	char more[128], says[128];
	for (size_t i = 0; i < sizeof other / sizeof *other; i++) {
		snprintf(more, sizeof more, "--resume --exact %s", other[i].option);
		snprintf(says, sizeof says, "trainer_state.json: %s: \"", other[i].says);
		assert_int_equal(ended(train("parts", "unused", more)), 1);
		said(says);
	}
	assert_int_equal(access(scratch_path("unused"), F_OK), -1);
}

static void write_texts(void)
{
	scratch_text("data.jsonl", "{\"prompt\":\"a\",\"completion\":\"b\"}\n{\"prompt\":\"c\",\"completion\":\"d\"}\n"
	             "{\"prompt\":\"ef\",\"completion\":\"ghi\"}\n{\"prompt\":\"j\",\"completion\":\"kl\"}\n");
}

static void an_interrupted_training_goes_on_exactly(void **state)
{
	(void)state;
	scratch_open("interrupts");
	write_texts();
	assert_int_equal(ended(train("whole", "whole.jsonl", "")), 0);

	int code;
	assert_int_equal(mkfifo(scratch_path("log"), 0666), 0);
	const int lines = train_watched("", 5, SIGINT, &code);
	assert_int_equal(code, 130);
	assert_true(lines >= 5 && lines < STEPS);
	said("--resume");
	exact_refuses();
	assert_int_equal(train_watched("--resume --exact", 0, 0, &code) + lines, STEPS);
	assert_int_equal(code, 0);
	scratch_same(scratch_path("whole"), scratch_path("parts"), "model.safetensors");
}

/* Nothing lies half-written, and once there is room the run gives the same bits */
static void a_full_disk_loses_nothing(void **state)
{
	(void)state;
	scratch_open("interrupts");
	write_texts();
	assert_int_equal(ended(train("whole", "whole.jsonl", "--save-every 20")), 0);

	file_limit = 16 << 10;
	assert_int_equal(ended(train("full", "full.jsonl", "--save-every 20")), 1);
	said("checkpoint-000020.partial/model.safetensors: cannot write: File too large; nothing was replaced");
	assert_int_equal(scratch_count("full"), 0);
	file_limit = 0;
	assert_int_equal(ended(train("full", "full.jsonl", "--save-every 20")), 0);
	scratch_same(scratch_path("whole"), scratch_path("full"), "model.safetensors");
}

int main(int argc, char **argv)
{
	if (argc < 2)
		return 2;
	program_path = argv[1];
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(unpacking_ends_on_sigterm), cmocka_unit_test(unpacking_ends_on_sigint),
		cmocka_unit_test(unpacking_ends_on_sighup),
		cmocka_unit_test(an_interrupted_training_goes_on_exactly), cmocka_unit_test(a_full_disk_loses_nothing),
	};
	return cmocka_run_group_tests_name("interrupts", tests, NULL, NULL);
}
