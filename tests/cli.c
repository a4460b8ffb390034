/* cli.c: the program as a user meets it: exit codes, help of every verb, manual page. argv[1] is the program. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include "tests/cmocka.h"
#include "host/cli/verbs.def"

static const char *program;
static char output[1 << 20];

/* Runs "<program> <arguments>"; returns its exit code and keeps what it printed */
static int run(const char *arguments)
{
	char command[1024];
	FILE *pipe;
	size_t length;
	int status;

	snprintf(command, sizeof command, "%s %s", program, arguments);
	pipe = popen(command, "r");
	assert_non_null(pipe);
	length = fread(output, 1, sizeof output - 1, pipe);
	output[length] = 0;
	status = pclose(pipe);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static void version_names_program_and_numerics(void **state)
{
	(void)state;
	assert_int_equal(run("--version"), 0);
	assert_true(strncmp(output, "prefpga ", 8) == 0 && strstr(output, "numerics version "));
}

static void mistakes_exit_with_2(void **state)
{
	(void)state;
	assert_int_equal(run("2>&1"), 2);
	assert_int_equal(run("hlep 2>&1"), 2);
	assert_non_null(strstr(output, "did you mean help?"));
	assert_int_equal(run("help --mann 2>&1"), 2);
	assert_non_null(strstr(output, "did you mean --man?"));
	assert_int_equal(run("version extra 2>&1"), 2);
	assert_int_equal(run("help nosuchverb 2>&1"), 2);
}

static void a_full_disk_is_a_failure(void **state)
{
	(void)state;
	if (run("help > /dev/full 2> /dev/null") == 0)
		fail();
}

/* Two rows of eight logits, and their targets */
static void write_logits(const char *folder)
{
	static const struct { const char *name, *type, *shape; size_t bytes; } files[] = {
		{ "cli_z.npy", "<f4", "(2, 8)", 64 }, { "cli_y.npy", "<i4", "(2,)", 8 },
	};

	for (size_t i = 0; i < 2; i++) {
		static const char zeros[64];
		char path[512], header[128];
		FILE *file;

		snprintf(path, sizeof path, "%s/%s", folder, files[i].name);
		snprintf(header, sizeof header, "{'descr': '%s', 'fortran_order': False, 'shape': %s, }",
		         files[i].type, files[i].shape);
		file = fopen(path, "wb");
		assert_non_null(file);
		fprintf(file, "\x93NUMPY\x01%c\x76%c%-117s\n", 0, 0, header);
		assert_int_equal(fwrite(zeros, 1, files[i].bytes, file), files[i].bytes);
		assert_int_equal(fclose(file), 0);
	}
}

/* With 0, 1 and 2 closed the result file would be one of them, and take the summary or the message */
static void closed_standard_files_do_not_meet_data(void **state)
{
	const char *folder = getenv("PREFPGA_TEST_TMP") ? getenv("PREFPGA_TEST_TMP") : "/tmp";
	char arguments[1024], path[512];
	struct stat facts;

	(void)state;
	write_logits(folder);
	snprintf(path, sizeof path, "%s/cli_out.npy", folder);
	snprintf(arguments, sizeof arguments, "logprob --device cpu --logits %s/cli_z.npy --targets %s/cli_y.npy --out %s "
	         "<&- >&- 2>&-", folder, folder, path);
	assert_int_equal(run(arguments), 1);           /* the summary went nowhere */
	assert_int_equal(stat(path, &facts), 0);
	assert_int_equal(facts.st_size, 128 + 8);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(run("version >&- 2>/dev/null"), 1);
	assert_int_equal(run("version <&- 2>&-"), 0);
}

static void every_verb_has_help(void **state)
{
	static const char *const names[] = {
#define VERB_NAME(name, ...) #name,
		PF_VERBS(VERB_NAME)
	};
	char arguments[128], synopsis[128];

	(void)state;
	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		snprintf(arguments, sizeof arguments, "%s --help", names[i]);
		snprintf(synopsis, sizeof synopsis, "prefpga %s", names[i]);
		assert_int_equal(run(arguments), 0);
		assert_true(strncmp(output, synopsis, strlen(synopsis)) == 0);
		assert_non_null(strstr(output, "--help"));
	}
}

static void help_fits_a_terminal(void **state)
{
	static const char *const names[] = {
		PF_VERBS(VERB_NAME)
	};
	char arguments[128];

	(void)state;
	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		snprintf(arguments, sizeof arguments, "help %s", names[i]);
		assert_int_equal(run(arguments), 0);
		for (char *line = strtok(output, "\n"); line; line = strtok(NULL, "\n"))
			if (strlen(line) > 100)
				fail_msg("%s: %s", names[i], line);
	}
}

static void manual_page_has_every_verb(void **state)
{
	static const char *const names[] = {
		PF_VERBS(VERB_NAME)
	};
	char heading[128];

	(void)state;
	assert_int_equal(run("help --man"), 0);
	assert_true(strncmp(output, ".TH PREFPGA 1", 13) == 0);
	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		snprintf(heading, sizeof heading, ".B prefpga %s", names[i]);
		assert_non_null(strstr(output, heading));
	}
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(version_names_program_and_numerics),
		cmocka_unit_test(mistakes_exit_with_2),
		cmocka_unit_test(a_full_disk_is_a_failure),
		cmocka_unit_test(closed_standard_files_do_not_meet_data),
		cmocka_unit_test(every_verb_has_help),
		cmocka_unit_test(help_fits_a_terminal),
		cmocka_unit_test(manual_page_has_every_verb),
	};

	if (argc != 2)
		return 1;
	program = argv[1];
	return cmocka_run_group_tests(tests, NULL, NULL);
}
