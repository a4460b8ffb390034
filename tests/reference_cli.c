/* Verb reference: log-probs go out and come back, and a training uses just these numbers. argv[1] is the program. */
#include <jansson.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include "tests/cmocka.h"
#include "tests/program.h"
#include "tests/scratch.h"

static int run(const char *format, ...)
{
	char arguments[4096];
	va_list list;

	va_start(list, format);
	vsnprintf(arguments, sizeof arguments, format, list);
	va_end(list);
	strncat(arguments, " 2>&1", sizeof arguments - strlen(arguments) - 1);
	return program_run(arguments);
}

static void must_run(int code)
{
	if (code)
		fail_msg("%s", program_output);
}

static char options[1024];

/* A tiny model, pairs, and the options that all runs share */
static void prepare(void)
{
	char text[2048] = "";

	scratch_open("reference_cli");
	for (int i = 0; i < 10; i++)
		snprintf(text + strlen(text), sizeof text - strlen(text),
		         "{\"prompt\":\"q%d\",\"chosen\":\"aa%d\",\"rejected\":\"b%d\",\"ref_chosen_logps\":%d,"
		         "\"ref_rejected_logps\":-40.5}\n", i, i, i, -20 - i);
	scratch_text("pairs.jsonl", text);
	must_run(run("sft --data %s --out %s --cache %s --device cpu --steps 1 --dim 32 --layers 1 --heads 2 "
	             "--max-length 32",
	             scratch_path("pairs.jsonl"), scratch_path("base"), scratch_path("cache")));
	snprintf(options, sizeof options, "--model %s --data %s --cache %s --device cpu", scratch_path("base"),
	         scratch_path("pairs.jsonl"), scratch_path("cache"));
}

static double first_of_log(const char *key)
{
	json_t *json;
	json_error_t where;
	FILE *file = fopen(scratch_path("log.jsonl"), "rb");
	double value;

	assert_non_null(file);
	json = json_loadf(file, JSON_DISABLE_EOF_CHECK, &where);
	fclose(file);
	assert_non_null(json);
	value = json_is_number(json_object_get(json, key)) ? json_number_value(json_object_get(json, key)) : NAN;
	json_decref(json);
	return value;
}

static void an_export_comes_back(void **state)
{
	(void)state;
	prepare();
	must_run(run("reference export %s --holdout 0.3 --to %s", options, scratch_path("r.jsonl")));
	must_run(run("reference import %s %s --holdout 0.3", scratch_path("r.jsonl"), options));
	assert_non_null(
		strstr(program_output, "10 samples imported; the first ones differ from --reference by at most 0 nat"));
	must_run(run("train %s --holdout 0.3 --steps 1 --log %s", options, scratch_path("log.jsonl")));
	assert_true(isnan(first_of_log("reference_origin")));
	assert_true(fabs(first_of_log("loss") - log(2.0)) < 1e-6);
	must_run(run("reference export --reference %s --data %s --cache %s --device cpu --holdout 0.3 --to %s",
	             scratch_path("base"), scratch_path("pairs.jsonl"), scratch_path("cache2"),
	             scratch_path("alone.jsonl")));
	assert_true(scratch_equal(scratch_path("alone.jsonl"), scratch_path("r.jsonl")));
	must_run(run("reference export %s --holdout 0.3 --to %s", options, scratch_path("r.safetensors")));
	must_run(run("reference import %s %s --holdout 0.3", scratch_path("r.safetensors"), options));
	assert_int_equal(run("reference import %s %s --holdout 0.3 --max-length 5", scratch_path("r.jsonl"), options),
	                 1);
	assert_non_null(strstr(program_output, "not their log-probs"));
	assert_int_equal(run("reference import %s %s", scratch_path("r.jsonl"), options), 1);
}

/* Each pair's loss with the policy's own numbers and those of the file; nothing of the reference model is left in it */
static void a_training_uses_the_imported_numbers(void **state)
{
	double want = 0.0, got;
	FILE *file;
	char line[512];

	(void)state;
	prepare();
	must_run(run("reference export %s --to %s", options, scratch_path("own.jsonl")));
	assert_int_equal(run("reference import %s", options), 1);
	assert_non_null(strstr(program_output, "carry no key"));
	must_run(run("reference import %s --foreign", options));
	assert_non_null(strstr(program_output, "warning: that far off"));
	must_run(run("train %s --loss sigmoid:beta=0.01 --steps 1 --batch 10 --log %s --out %s", options,
	             scratch_path("log.jsonl"), scratch_path("out")));
	assert_non_null(strstr(program_output, "imported, not computed"));
	file = fopen(scratch_path("own.jsonl"), "rb");
	assert_non_null(file);
	for (int i = 0; fgets(line, sizeof line, file); i++) {
		double chosen, rejected;

		assert_int_equal(sscanf(line, "{\"sample\":%*d,\"ref_chosen_logps\":%lf,\"ref_rejected_logps\":%lf",
		                        &chosen, &rejected),
		                 2);
		want += log1p(exp(-0.01 * ((chosen + 20 + i) - (rejected + 40.5)))) / 10.0;
	}
	fclose(file);
	got = first_of_log("loss");
	if (!(fabs(got - want) < 1e-5))
		fail_msg("loss %.9g, not %.9g", got, want);
	assert_true(first_of_log("reference_origin") > 0.0);
	must_run(run("reference export %s --to %s", options, scratch_path("r.jsonl")));
	assert_int_equal(run("reference import %s %s", scratch_path("r.jsonl"), options), 1);
	must_run(run("eval %s --reference %s --format json", options, scratch_path("base")));
	assert_non_null(strstr(program_output, "\"reference_origin\":"));
	must_run(run("train %s --loss sigmoid:beta=0.01 --batch 10 --steps 2 --resume --log %s --out %s --cache %s",
	             options, scratch_path("log.jsonl"), scratch_path("out"), scratch_path("cache2")));
	assert_non_null(strstr(program_output, "reference log-probs: \"imported, "));
}

static void parts_and_changes_are_refused(void **state)
{
	char line[512], text[8192] = "";
	FILE *file;

	(void)state;
	prepare();
	must_run(run("reference export %s --to %s", options, scratch_path("r.jsonl")));
	file = fopen(scratch_path("r.jsonl"), "rb");
	assert_non_null(file);
	while (fgets(line, sizeof line, file))
		strcat(text, line);
	fclose(file);
	scratch_text("part.jsonl", strchr(text, '\n') + 1);
	assert_int_equal(run("reference import %s %s", scratch_path("part.jsonl"), options), 1);
	assert_non_null(strstr(program_output, "sample 0 of 10 has 0 log-probs, 2 are needed"));
	memcpy(strstr(text, "logps\":-") + 8, "9", 1);
	scratch_text("changed.jsonl", text);
	if (run("reference import %s %s", scratch_path("changed.jsonl"), options) == 0)
		fail_msg("%s", program_output);
	assert_int_equal(run("reference import %s", options), 1);
	assert_int_equal(run("reference export %s", options), 2);
	assert_int_equal(run("reference exprot %s", options), 2);
	assert_int_equal(run("reference export %s --loss simpo --to %s", options, scratch_path("r.jsonl")), 1);
	assert_int_equal(run("reference export %s --reference uniform --to %s", options, scratch_path("r.jsonl")), 1);
}

/* What the verb computes is what training looks for, in each form of the weights, with adapters too */
static void a_training_finds_what_was_computed(void **state)
{
	static const char *const forms[] = { "", "--weights bf16", "--lora 2", "--weights bf16 --lora 2" };
	int files;

	(void)state;
	prepare();
	for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
		must_run(run("reference export %s %s --to %s", options, i % 2 ? "--weights bf16" : "",
		             scratch_path("r.jsonl")));
		files = scratch_count("cache");
		assert_int_equal(files, 1 + (i > 0));
		must_run(run("train %s %s --steps 1", options, forms[i]));
		assert_int_equal(scratch_count("cache"), files);
	}
}

static void labelled_samples_and_rankings(void **state)
{
	(void)state;
	prepare();
	must_run(run("reference export %s --loss kto --to %s", options, scratch_path("k.jsonl")));
	assert_non_null(strstr(program_output, "20 samples written"));
	must_run(run("reference import %s %s --loss kto", scratch_path("k.jsonl"), options));
	scratch_text("pairs.jsonl", "{\"prompt\":\"a\",\"completions\":[\"b\",\"cc\",\"d\"]}\n"
	             "{\"prompt\":\"c\",\"completions\":[\"e\",\"ff\"]}\n");
	must_run(run("reference export %s --loss pl_dpo --to %s", options, scratch_path("l.safetensors")));
	must_run(run("reference import %s %s --loss pl_dpo", scratch_path("l.safetensors"), options));
	must_run(run("reference export %s --loss pl_dpo --to %s", options, scratch_path("l.jsonl")));
	must_run(run("reference import %s %s --loss pl_dpo", scratch_path("l.jsonl"), options));
	assert_non_null(strstr(program_output, "2 samples imported"));
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_export_comes_back),
		cmocka_unit_test(a_training_uses_the_imported_numbers),
		cmocka_unit_test(parts_and_changes_are_refused),
		cmocka_unit_test(a_training_finds_what_was_computed),
		cmocka_unit_test(labelled_samples_and_rankings),
	};

	if (argc != 2)
		return 1;
	program_path = argv[1];
	return cmocka_run_group_tests(tests, NULL, NULL);
}
