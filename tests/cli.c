/* cli.c: the program as a user meets it: exit codes, help of every verb, manual page. argv[1] is the program. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "tests/cmocka.h"
#include "tests/program.h"
#include "tests/scratch.h"
#include "host/cli/verbs.def"

static void version_names_program_and_numerics(void **state)
{
	(void)state;
	assert_int_equal(program_run("--version"), 0);
	assert_true(strncmp(program_output, "prefpga ", 8) == 0 && strstr(program_output, "numerics version "));
}

static void mistakes_exit_with_2(void **state)
{
	(void)state;
	assert_int_equal(program_run("2>&1"), 2);
	assert_int_equal(program_run("hlep 2>&1"), 2);
	assert_non_null(strstr(program_output, "did you mean help?"));
	assert_int_equal(program_run("help --mann 2>&1"), 2);
	assert_non_null(strstr(program_output, "did you mean --man?"));
	assert_int_equal(program_run("version extra 2>&1"), 2);
	assert_int_equal(program_run("help nosuchverb 2>&1"), 2);
}

static void a_full_disk_is_a_failure(void **state)
{
	(void)state;
	if (program_run("help > /dev/full 2> /dev/null") == 0)
		fail();
}

/* A training of two steps that logs to log.jsonl; `closed`: redirections. Returns its exit code */
static int train_briefly(const char *closed)
{
	char arguments[1600];

	scratch_open("cli");
	scratch_text("data.jsonl",
	             "{\"prompt\":\"a\",\"completion\":\"b\"}\n{\"prompt\":\"c\",\"completion\":\"d\"}\n");
	snprintf(arguments, sizeof arguments, "sft --data %s --log %s --out %s --cache %s --device cpu --steps 2 "
	         "--holdout 0 --dim 32 --layers 1 --heads 2 --max-length 16 %s", scratch_path("data.jsonl"),
	         scratch_path("log.jsonl"), scratch_path("out"), scratch_path("cache"), closed);
	return program_run(arguments);
}

static void too_many_devices_are_refused(void **state)
{
	(void)state;
	assert_int_equal(train_briefly("--device cpu,cpu,cpu,cpu,cpu,cpu,cpu,cpu 2>/dev/null"), 0);
	assert_int_equal(train_briefly("--device cpu,cpu,cpu,cpu,cpu,cpu,cpu,cpu,cpu 2>/dev/null"), 1);
}

/* With some of 0, 1 and 2 closed the log would be one of them, and take the messages */
static void closed_standard_files_do_not_meet_data(void **state)
{
	static const struct { const char *files; int code; } closed[] = {
		{ "<&- 2>&-", 0 }, { ">&- 2>&-", 1 }, { "<&- >&- 2>&-", 1 }, /* results that nobody gets: a failure */
	};
	char line[4096];

	(void)state;
	for (size_t i = 0; i < sizeof closed / sizeof *closed; i++) {
		FILE *file;
		int lines = 0;

		assert_int_equal(train_briefly(closed[i].files), closed[i].code);
		file = fopen(scratch_path("log.jsonl"), "rb");
		assert_non_null(file);
		for (; fgets(line, sizeof line, file); lines++)
			if (line[0] != '{')
				fail_msg("%s: %s", closed[i].files, line);
		assert_int_equal(lines, 2);
		fclose(file);
	}
	assert_int_equal(program_run("version >&- 2>/dev/null"), 1);
	assert_int_equal(program_run("version <&- 2>&-"), 0);
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
		assert_int_equal(program_run(arguments), 0);
		assert_true(strncmp(program_output, synopsis, strlen(synopsis)) == 0);
		assert_non_null(strstr(program_output, "--help"));
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
		assert_int_equal(program_run(arguments), 0);
		for (char *line = strtok(program_output, "\n"); line; line = strtok(NULL, "\n"))
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
	assert_int_equal(program_run("help --man"), 0);
	assert_true(strncmp(program_output, ".TH PREFPGA 1", 13) == 0);
	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		snprintf(heading, sizeof heading, ".B prefpga %s", names[i]);
		assert_non_null(strstr(program_output, heading));
	}
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(version_names_program_and_numerics),
		cmocka_unit_test(mistakes_exit_with_2),
		cmocka_unit_test(a_full_disk_is_a_failure),
		cmocka_unit_test(too_many_devices_are_refused),
		cmocka_unit_test(closed_standard_files_do_not_meet_data),
		cmocka_unit_test(every_verb_has_help),
		cmocka_unit_test(help_fits_a_terminal),
		cmocka_unit_test(manual_page_has_every_verb),
	};

	if (argc != 2)
		return 1;
	program_path = argv[1];
	return cmocka_run_group_tests(tests, NULL, NULL);
}
