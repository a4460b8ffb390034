/* program_json.h: what the program prints as JSON. One test at a time. */
#ifndef TESTS_PROGRAM_JSON_H
#define TESTS_PROGRAM_JSON_H
#include <jansson.h>

/* Runs the program with `arguments` and `--format json`, below a folder of the scratch space that stands for a machine
 * without sensors; what it prints. Another exit code than 0, or no JSON, fails the test. The caller gives it back */
json_t *program_json(const char *arguments);
/* A member that is a number; anything else fails the test */
double  program_number(const json_t *object, const char *key);
#endif
