/* options_taken.h: the options of a verb after flags and a config file, and what was said of them. One thread; a
 * failure fails the test. */
#ifndef PF_TESTS_OPTIONS_TAKEN_H
#define PF_TESTS_OPTIONS_TAKEN_H
#include <string.h>
#include "tests/cmocka.h"
#include "host/cli/config_file.h"

static struct pf_options options;
static struct pf_error error;

/* Options of a verb after flags */
static inline int parse(const char *verb, int argc, char *const *argv)
{
	pf_options_free(&options);
	memset(&error, 0, sizeof error);
	return pf_options_parse(&options, verb, argc, argv, &error);
}

/* The same, and after the text of a config file; flags end with NULL */
static inline int apply(const char *verb, char *const *flags, const char *text)
{
	int count = 0;

	while (flags && flags[count])
		count++;
	assert_int_equal(parse(verb, count, flags), 0);
	return pf_config_file_apply(&options, "run.yaml", text, strlen(text), &error);
}

static inline void assert_says(const char *text)
{
	if (!strstr(error.text, text))
		fail_msg("\"%s\" is not in \"%s\"", text, error.text);
}

/* What became of a key of the file */
static inline const struct pf_config_verdict *verdict(const char *key)
{
	for (size_t i = 0; options.file && i < options.file->map.count; i++)
		if (strcmp(options.file->map.entry[i].key, key) == 0)
			return &options.file->verdict[i];
	fail_msg("no key %s", key);
	return NULL;
}

/* For the end of a group of tests */
static inline int options_free(void **state)
{
	(void)state;
	pf_options_free(&options);
	return 0;
}
#endif
