/* plot.c: drawings of runs: where points lie, what is printed, logs that cannot be drawn. argv[1] is the program. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "host/report/panels.h"
#include "host/report/run_log.h"
#include "tests/cmocka.h"
#include "tests/program.h"
#include "tests/scratch.h"

static int run_plot(const char *arguments)
{
	char line[2048];
	snprintf(line, sizeof line, "plot %s", arguments);
	return program_run_aloud(line);
}

/* The drawing of series y over x, x; the caller frees it */
static char *drawn(const double *x, const double *y, size_t points)
{
	struct pf_panels p = { .panels = 1, .runs = 1, .title = { "a<b" }, .run = { "run" }, .across = "step" };
	char *text = NULL;
	size_t bytes = 0;
	FILE *out = open_memstream(&text, &bytes);
	assert_non_null(out);
	p.series[0][0] = (struct pf_series){ x, y, points };
	pf_panels_svg(&p, out);
	assert_int_equal(fclose(out), 0);
	return text;
}

/* A line from corner to corner: the frame is 374 wide from 70, 180 high from 54; a twentieth is left above and below */
static void points_lie_where_they_belong(void **state)
{
	const double x[] = { 0, 5, 10 }, y[] = { 0, NAN, 1 };
	double at[4];
	(void)state;
	char *svg = drawn(x, y, 3);
	const char *line = strstr(svg, "points=\"");
	assert_non_null(line);
	assert_int_equal(sscanf(line, "points=\"%lf,%lf %lf,%lf \"", at, at + 1, at + 2, at + 3), 4);
	assert_true(fabs(at[0] - 70) <= 0.06 && fabs(at[2] - (70 + 374)) <= 0.06);
	assert_true(fabs(at[1] - (54 + 180 * (1 - 0.05 / 1.1))) <= 0.06);
	assert_true(fabs(at[3] - (54 + 180 * 0.05 / 1.1)) <= 0.06);
	assert_non_null(strstr(svg, "a&#60;b"));
	assert_null(strstr(svg, "nan"));
	free(svg);
}

/* Many steps in one column: their mean, before the band of all of them */
static void many_steps_share_a_column(void **state)
{
	enum { STEPS = 374001 };
	double *x = malloc(STEPS * sizeof *x), *y = malloc(STEPS * sizeof *y), at[2];
	(void)state;
	assert_true(x && y);
	for (int i = 0; i < STEPS; i++) {
		x[i] = i;
		y[i] = i % 2;
	}
	char *svg = drawn(x, y, STEPS);
	const char *line = strstr(svg, "points=\"");
	assert_non_null(line);
	assert_int_equal(sscanf(line, "points=\"%lf,%lf", at, at + 1), 2);
	assert_true(fabs(at[1] - (54 + 90)) <= 0.5);
	assert_non_null(strstr(svg, "stroke-opacity"));
	assert_true(strlen(svg) < 100000);
	free(svg);
	free(x);
	free(y);
}

/* Spans that no axis can count: neither endless nor without an end of the drawing */
static void absurd_numbers_are_drawn(void **state)
{
	static const double far[][3] = { { 1e20, 1e20 + 16384, 1e20 }, { -1e308, 1e308, 0 }, { 5e-324, 1e-323, 0 },
		                         { NAN, NAN, NAN }, { 7, 7, 7 }, { INFINITY, 1, -INFINITY } };
	const double x[] = { 1, 2, 9e18 };
	(void)state;
	for (size_t i = 0; i < sizeof far / sizeof *far; i++) {
		char *svg = drawn(x, far[i], 3), *one = drawn(x + 2, far[i], 1);
		assert_non_null(strstr(svg, "</svg>"));
		assert_non_null(strstr(one, "</svg>"));
		assert_null(strstr(one, "nan"));
		free(svg);
		free(one);
	}
}

static void a_run_is_told(void **state)
{
	char line[1024];
	(void)state;
	scratch_text("m.jsonl", "{\"step\":1,\"loss\":0.5,\"lr\":1}\n{\"step\":2,\"loss\":0.25,\"eval/loss\":0.75}\n"
	               "{\"step\":4,\"loss\":0.375}\n{\"step\":5,\"lo");
	snprintf(line, sizeof line, "%s --svg %s", scratch_path("m.jsonl"), scratch_path("m.svg"));
	assert_int_equal(run_plot(line), 0);
	program_says("3 steps, to step 4");
	program_says("first 0.5, last 0.375, least 0.25, most 0.5");
	program_says("eval/loss              first 0.75, last 0.75");
	strcat(line, " --what loss,grad");
	assert_int_not_equal(run_plot(line), 0);
	program_says("no run has \"grad\"; the first has step, loss, lr, eval/loss");
}

static void what_is_no_log_is_refused(void **state)
{
	static const struct { const char *text, *says; } bad[] = {
		{ "", "no steps in it" },
		{ "{\"step\":2}\n{\"step\":2}\n", ":2: its step is no number above the one before" },
		{ "{\"loss\":2}\n", ":1: no step" },
		{ "{\"step\":1.5}\n", ":1: its step is no number" },
		{ "[1]\n", ":1: no step" },
		{ "{\"step\":1}\nnonsense\n", ":2: " },
		{ "{\"step\":1}\n", "none of loss," },
	};
	char line[1024];
	(void)state;
	snprintf(line, sizeof line, "%s --svg %s", scratch_path("bad.jsonl"), scratch_path("bad.svg"));
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		scratch_text("bad.jsonl", bad[i].text);
		assert_int_equal(run_plot(line), 1);
		program_says(bad[i].says);
	}
	assert_null(fopen(scratch_path("bad.svg"), "r"));
	assert_int_equal(run_plot(scratch_path("bad.jsonl")), 2);
	program_says("--svg is missing");
	snprintf(line, sizeof line, "%s --svg %s", scratch_path("absent"), scratch_path("bad.svg"));
	assert_int_equal(run_plot(line), 1);
	program_says("give a run's folder, or its metrics.jsonl");
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(points_lie_where_they_belong), cmocka_unit_test(many_steps_share_a_column),
		cmocka_unit_test(absurd_numbers_are_drawn),	cmocka_unit_test(a_run_is_told),
		cmocka_unit_test(what_is_no_log_is_refused),
	};
	if (argc != 2)
		return 2;
	program_path = argv[1];
	scratch_open("plot");
	return cmocka_run_group_tests_name("plot", tests, NULL, NULL);
}
