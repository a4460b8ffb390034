#include "tests/npy_scratch.h"
#include <stdio.h>
#include "tests/cmocka.h"
#include "tests/scratch.h"

void npy_save(const char *name, struct pf_npy_shape shape, const void *data)
{
	struct pf_npy_out *out = NULL;
	struct pf_error error = { 0 };
	if (pf_npy_create(scratch_path(name), &shape, &out, &error) ||
	    pf_npy_append(out, data, pf_npy_count(&shape), &error) || pf_npy_commit(out, &error))
		fail_msg("%s", error.text);
}

struct pf_npy npy_load(const char *name)
{
	struct pf_npy npy;
	struct pf_error error = { 0 };
	if (pf_npy_open(scratch_path(name), &npy, &error))
		fail_msg("%s", error.text);
	return npy;
}

int npy_run(const char *program, const char *verb, const char *options, char text[2048])
{
	char command[1024];
	snprintf(command, sizeof command, "cd '%s' && '%s' %s %s 2>&1", scratch_path("."), program, verb, options);
	FILE *pipe = popen(command, "r");
	size_t got = fread(text, 1, 2047, pipe);
	text[got] = 0;
	return pclose(pipe) >> 8;
}
