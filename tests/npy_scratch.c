#include "tests/npy_scratch.h"
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
