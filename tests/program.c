#include "tests/program.h"
#include <stdio.h>
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
