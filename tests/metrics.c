/* metrics.c: the log of a run: cut back to a checkpoint, and files that cannot be cut. */
#include <math.h>
#include <stdio.h>
#include <string.h>
#include "tests/cmocka.h"
#include "tests/scratch.h"
#include "host/report/metrics.h"

static struct pf_error error;

static struct pf_metrics *open_log(const char *path, int64_t keep)
{
	struct pf_metrics *log;

	if (pf_metrics_open(path, keep, &log, &error))
		fail_msg("%s", error.text);
	return log;
}

static void write_line(struct pf_metrics *log, uint64_t step)
{
	pf_metrics_count(log, "step", step);
	pf_metrics_number(log, "loss", NAN);
	if (pf_metrics_end(log, &error))
		fail_msg("%s", error.text);
}

static void assert_holds(const char *path, const char *text)
{
	char held[256];
	FILE *file = fopen(path, "rb");

	assert_non_null(file);
	held[fread(held, 1, sizeof held - 1, file)] = 0;
	fclose(file);
	assert_string_equal(held, text);
}

static void a_log_is_cut_back_to_the_checkpoint(void **state)
{
	const char *path = scratch_path("metrics.jsonl");
	struct pf_metrics *log = open_log(path, -1);
	int64_t position;

	(void)state;
	write_line(log, 1);
	position = pf_metrics_position(log);
	write_line(log, 2);
	pf_metrics_close(log);
	log = open_log(path, position);
	write_line(log, 3);
	pf_metrics_close(log);
	assert_holds(path, "{\"step\":1}\n{\"step\":3}\n");
	assert_int_equal(pf_metrics_open(path, 1000, &log, &error), PF_E_MISMATCH);
	assert_null(log);
	pf_metrics_close(open_log(path, -1));
	assert_holds(path, "");
}

static void what_is_no_regular_file_is_not_cut(void **state)
{
	(void)state;
	for (int64_t keep = -1; keep < 300; keep += 100) {
		struct pf_metrics *log = open_log("/dev/null", keep);
		int64_t before = pf_metrics_position(log);

		write_line(log, 1);
		assert_int_equal(pf_metrics_position(log), before + 11);
		pf_metrics_close(log);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_log_is_cut_back_to_the_checkpoint),
		cmocka_unit_test(what_is_no_regular_file_is_not_cut),
	};

	scratch_open("metrics");
	return cmocka_run_group_tests(tests, NULL, NULL);
}
