/* scratch.h: files of a test, below PREFPGA_TEST_TMP/<name of the test>. Failing to write aborts the test. */
#ifndef PF_TESTS_SCRATCH_H
#define PF_TESTS_SCRATCH_H
#include <stddef.h>

/* Makes the test's folder, empty. Call first */
void scratch_open(const char *test);
/* Path of a file in it: static storage, eight calls deep */
const char *scratch_path(const char *name);
/* Writes a file and returns its path */
const char *scratch_text(const char *name, const char *text);
/* The same, with the folders on the way to it */
const char *scratch_tree(const char *name, const char *text);
const char *scratch_bytes(const char *name, const void *bytes, size_t length);
/* The same, compressed */
const char *scratch_gzip(const char *name, const void *bytes, size_t length);
/* Have two files, by path, the same bytes? An absent one, or an empty `path`, fails the test */
int scratch_equal(const char *path, const char *other);
/* Fails the test unless file `name` of two folders, by path, is the same in both */
void scratch_same(const char *folder, const char *other, const char *name);
/* Entries of a folder below it, -1 if it is not there */
int scratch_count(const char *name);
#endif
