#include "tests/program.h"
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include "tests/cmocka.h"

const char *program_path;
char program_output[1 << 20];

int program_run(const char *arguments)
{
	char command[4096];
	FILE *pipe;
	size_t length;
	int status;

	snprintf(command, sizeof command, "%s %s", program_path, arguments);
	pipe = popen(command, "r");
	assert_non_null(pipe);
	length = fread(program_output, 1, sizeof program_output - 1, pipe);
	program_output[length] = 0;
	status = pclose(pipe);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

int program_run_aloud(const char *arguments)
{
	char both[4096];

	snprintf(both, sizeof both, "%s 2>&1", arguments);
	return program_run(both);
}

void program_says(const char *wanted)
{
	if (!strstr(program_output, wanted))
		fail_msg("\"%s\" is not in: %s", wanted, program_output);
}

void program_says_not(const char *unwanted)
{
	if (strstr(program_output, unwanted))
		fail_msg("\"%s\" is in: %s", unwanted, program_output);
}
