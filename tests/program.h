/* program.h: the program under test as a user runs it. One test at a time. */
#ifndef TESTS_PROGRAM_H
#define TESTS_PROGRAM_H
#include <stddef.h>

extern const char *program_path;       /* set it first */
extern char program_output[1 << 20];   /* what the last run printed to its standard output, 0-terminated */

/* Runs "<program> <arguments>" in a shell, so redirections work; returns its exit code. A death by signal fails the
 * test */
int program_run(const char *arguments);
/* The same, with what goes to standard error among the output */
int program_run_aloud(const char *arguments);
/* Fails the test unless the last output has `wanted`, or if it has `unwanted` */
void program_says(const char *wanted);
void program_says_not(const char *unwanted);
#endif
