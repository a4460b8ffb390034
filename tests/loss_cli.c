/* loss_cli.c: verbs `losses` and `loss` as scripts use them. argv[1] is the program. */
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "prefpga/loss.h"
#include "tests/cmocka.h"

static const char *program;
static char output[1 << 20], errors[1 << 14];

#define PAIR(lw) "{\"lw\":" lw ",\"ll\":-2,\"rw\":-1,\"rl\":-2,\"beta\":1}\n"

static void read_back(FILE *file, char *text, size_t size)
{
	rewind(file);
	text[fread(text, 1, size - 1, file)] = '\0';
	fclose(file);
}

/* Runs the program with stdin from `input`, keeps stdout and stderr, returns the exit code */
static int run(const char *const *argv, FILE *input)
{
	FILE *out = tmpfile(), *err = tmpfile();
	int status;
	pid_t child;

	assert_true(input && out && err);
	fflush(input);
	rewind(input);
	child = fork();
	if (child == 0) {
		dup2(fileno(input), 0);
		dup2(fileno(out), 1);
		dup2(fileno(err), 2);
		execv(program, (char *const *)argv);
		_exit(127);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	fclose(input);
	read_back(out, output, sizeof output);
	read_back(err, errors, sizeof errors);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static int run_loss(const char *loss, const char *device, const char *lines)
{
	const char *const argv[] = { program, "loss", loss, "--device", device, NULL };
	FILE *input = tmpfile();

	assert_non_null(input);
	fputs(lines, input);
	return run(argv, input);
}

static void errors_say(const char *wanted)
{
	if (!strstr(errors, wanted))
		fail_msg("\"%s\" instead of \"%s\"", errors, wanted);
}

static void cases_in_results_out(void **state)
{
	(void)state;
	assert_int_equal(run_loss("sigmoid", "cpu", PAIR("-1") "\n \r\n" PAIR("\"-1.0\"")), 0);
	assert_string_equal(output,
	                    "{\"loss\":0.69314718055994529,\"grad\":{\"lw\":-0.5,\"ll\":0.5}}\n"
	                    "{\"loss\":0.69314718055994529,\"grad\":{\"lw\":-0.5,\"ll\":0.5}}\n");
	assert_int_equal(run_loss("oracle:kto:lamU=2", "cpu",
	                          "{\"l\":[-1,-1],\"r\":[-1,-1],\"y\":[true,false],\"z0\":0}"),
	                 0);
	assert_string_equal(
		output,
		"{\"loss\":0.75,\"grad\":{\"l\":[-0.012500000000000001,0.025000000000000001]}}\n");
	assert_int_equal(run_loss("sigmoid", "cpu", ""), 0);
	assert_string_equal(output, "");
}

static void the_simulator_agrees(void **state)
{
	char cpu[256];

	(void)state;
	assert_int_equal(run_loss("discopop", "cpu", PAIR("-1.125")), 0);
	assert_true(strlen(output) < sizeof cpu);
	strcpy(cpu, output);
	assert_int_equal(run_loss("discopop", "sim", PAIR("-1.125")), 0);
	assert_memory_equal(output, cpu, 20);
}

static void a_broken_line_is_named(void **state)
{
	(void)state;
	assert_int_equal(run_loss("sigmoid", "cpu", PAIR("-1") "\n{\"lw\":\n" PAIR("-1")), 1);
	assert_string_equal(output,
	                    "{\"loss\":0.69314718055994529,\"grad\":{\"lw\":-0.5,\"ll\":0.5}}\n");
	errors_say("prefpga loss: line 3: ");
	errors_say("one JSON object a line");
	assert_int_equal(
		run_loss("ipo_sum", "cpu",
	                 PAIR("-1") "{\"lw\":1,\"ll\":1,\"rw\":1,\"rl\":1,\"beta\":1e-200}"),
		1);
	errors_say("line 2: the loss or its gradient is not finite");
	assert_int_equal(run_loss("sigmoid", "cpu", "{\"lw\":1,\"ll\":1,\"rw\":1}"), 1);
	errors_say("line 1: key \"rl\" is missing");
}

static void a_wrong_name_is_a_usage_error(void **state)
{
	(void)state;
	assert_int_equal(run_loss("sigmod", "cpu", ""), 2);
	errors_say("did you mean sigmoid?");
	assert_int_equal(run_loss("sigmoid:beta=0", "cpu", ""), 2);
	errors_say("outside (0, inf)");
	assert_int_equal(run_loss("sigmoid", "abacus", ""), 1);
}

static void many_lines_keep_their_order(void **state)
{
	const char *const argv[] = { program, "loss", "hinge", "--device", "cpu", NULL };
	enum { LINES = 20000 };
	FILE *input = tmpfile();
	const char *at = output;

	(void)state;
	assert_non_null(input);
	for (int i = 0; i < LINES; i++)
		fprintf(input, "{\"lw\":%d,\"ll\":0,\"rw\":0,\"rl\":0,\"beta\":%d}\n", -i % 1000,
		        1 + i % 3);
	assert_int_equal(run(argv, input), 0);
	for (int i = 0; i < LINES; i++) {
		char want[64];
		int beta = 1 + i % 3, length;
		length = snprintf(want, sizeof want,
		                  "{\"loss\":%d,\"grad\":{\"lw\":-%d,\"ll\":%d}}\n",
		                  1 + i % 1000 * beta, beta, beta);
		if (strncmp(at, want, (size_t)length) != 0)
			fail_msg("line %d is %.*s", i + 1, 40, at);
		at += length;
	}
	assert_true(*at == '\0');
}

/* A script that writes a case and waits for its answer gets it */
static void an_answer_does_not_wait_for_more(void **state)
{
	int to[2], from[2], status;
	char answer[128];
	pid_t child;

	(void)state;
	assert_true(pipe(to) == 0 && pipe(from) == 0);
	child = fork();
	if (child == 0) {
		dup2(to[0], 0);
		dup2(from[1], 1);
		close(to[1]);
		execl(program, program, "loss", "sigmoid", "--device", "cpu", (char *)NULL);
		_exit(127);
	}
	close(to[0]);
	close(from[1]);
	for (int i = 0; i < 3; i++) {
		assert_true(write(to[1], PAIR("-1"), strlen(PAIR("-1"))) > 0);
		ssize_t got = read(from[0], answer, sizeof answer - 1);
		assert_true(got > 0);
		answer[got] = '\0';
		assert_non_null(strstr(answer, "0.69314718055994529"));
	}
	close(to[1]);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void losses_lists_every_row(void **state)
{
	const char *const text[] = { program, "losses", NULL }, *const json[] = { program, "losses",
		                                                                  "--format",
		                                                                  "json", NULL };
	const char *const around = " kto bco aot ", *const alone = " sigmoid ipo sft grpo ";
	const struct pf_loss_row *row;
	json_t *list;

	(void)state;
	assert_int_equal(run(text, tmpfile()), 0);
	for (unsigned i = 0; (row = pf_loss_row(i)) != NULL; i++)
		assert_non_null(strstr(output, row->name));
	assert_int_equal(run(json, tmpfile()), 0);
	list = json_loads(output, 0, NULL);
	assert_non_null(list);
	for (unsigned i = 0; (row = pf_loss_row(i)) != NULL; i++) {
		const json_t *entry = json_array_get(list, i);
		char word[80];

		snprintf(word, sizeof word, " %s ", row->name);
		assert_true(!strstr(around, word) || json_is_true(json_object_get(entry, "looks_at_step")));
		assert_true(!strstr(alone, word) || json_is_false(json_object_get(entry, "looks_at_step")));
		assert_string_equal(json_string_value(json_object_get(entry, "name")), row->name);
		assert_int_equal(json_array_size(json_object_get(entry, "parameters")),
		                 row->params);
		assert_int_equal(strncmp(json_string_value(json_object_get(entry, "computed_by")),
		                         "kernel pref", 11), 0);
	}
	json_decref(list);
}

static void losses_shows_what_is_named(void **state)
{
	const char *const two[] = { program, "losses", "ipo", "dpo", "--format", "json", NULL };
	const char *const wrong[] = { program, "losses", "ipo", "sigmod", NULL };
	json_t *list;

	(void)state;
	assert_int_equal(run(two, tmpfile()), 0);
	list = json_loads(output, 0, NULL);
	assert_int_equal(json_array_size(list), 2);
	assert_string_equal(json_string_value(json_object_get(json_array_get(list, 1), "name")), "sigmoid");
	json_decref(list);
	assert_int_equal(run(wrong, tmpfile()), 2);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(cases_in_results_out),
		cmocka_unit_test(the_simulator_agrees),
		cmocka_unit_test(a_broken_line_is_named),
		cmocka_unit_test(a_wrong_name_is_a_usage_error),
		cmocka_unit_test(many_lines_keep_their_order),
		cmocka_unit_test(an_answer_does_not_wait_for_more),
		cmocka_unit_test(losses_lists_every_row),
		cmocka_unit_test(losses_shows_what_is_named),
	};

	if (argc != 2)
		return 77;
	signal(SIGPIPE, SIG_IGN);
	program = argv[1];
	return cmocka_run_group_tests(tests, NULL, NULL);
}
