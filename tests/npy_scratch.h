/* npy_scratch.h: NumPy files in the scratch folder, for tests of verbs that take and give them. One thread; a failure
 * fails the test. */
#ifndef PF_TESTS_NPY_SCRATCH_H
#define PF_TESTS_NPY_SCRATCH_H
#include "host/corpus/npy.h"

void npy_save(const char *name, struct pf_npy_shape shape, const void *data);
/* Closed by the caller: pf_npy_close */
struct pf_npy npy_load(const char *name);
/* Runs `program verb options` in the scratch folder; what it prints goes to text. Its exit code */
int npy_run(const char *program, const char *verb, const char *options, char text[2048]);
#endif
