/* progress.c: what a long job says where no terminal is. */
#include <stdio.h>
#include <string.h>
#include "tests/cmocka.h"
#include "host/cli/progress.h"

static char text[4096];

static void read_back(FILE *file)
{
	size_t length;

	rewind(file);
	length = fread(text, 1, sizeof text - 1, file);
	text[length] = 0;
	fclose(file);
}

static unsigned lines(void)
{
	unsigned count = 0;

	for (const char *at = text; *at; at++)
		count += *at == '\n';
	return count;
}

static void shows_the_first_and_the_last(void **state)
{
	struct pf_progress progress;
	FILE *file = tmpfile();

	(void)state;
	pf_progress_start(&progress, file, "train", 0, 1000);
	for (uint64_t i = 1; i <= 1000; i++)
		pf_progress_show(&progress, i, "loss 0.5");
	pf_progress_finish(&progress, 1000, "loss 0.4");
	read_back(file);
	assert_int_equal(lines(), 2);
	assert_non_null(strstr(text, "train 1/1000 | 0:00, "));
	assert_non_null(strstr(text, "train 1000/1000 | 0:00, 0:00 left | loss 0.4\n"));
	assert_null(strchr(text, '\r'));
}

static void a_total_may_be_unknown(void **state)
{
	struct pf_progress progress;
	char note[600];
	FILE *file = tmpfile();

	(void)state;
	memset(note, 'x', sizeof note - 1);
	note[sizeof note - 1] = 0;
	pf_progress_start(&progress, file, "read", 5, 0);
	pf_progress_finish(&progress, 7, note);
	read_back(file);
	assert_int_equal(strncmp(text, "read 7 | 0:00 | xxx", 19), 0);
	assert_int_equal(lines(), 1);
}

static void a_resumed_job_estimates_from_where_it_began(void **state)
{
	struct pf_progress progress;
	FILE *file = tmpfile();

	(void)state;
	pf_progress_start(&progress, file, "train", 900, 1000);
	pf_progress_finish(&progress, 900, "");
	read_back(file);
	assert_non_null(strstr(text, "train 900/1000 | 0:00, ? left\n"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(shows_the_first_and_the_last),
		cmocka_unit_test(a_total_may_be_unknown),
		cmocka_unit_test(a_resumed_job_estimates_from_where_it_began),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
