/* remedies.c: what a new user does that cannot work, and the way out that the program names. argv[1] is the program. */
#include <stdio.h>
#include <string.h>
#include "tests/cmocka.h"
#include "tests/program.h"
#include "tests/scratch.h"

static const char pairs[] = "{\"prompt\":\"a\",\"chosen\":\"b\",\"rejected\":\"c\"}\n"
			    "{\"prompt\":\"d\",\"chosen\":\"e\",\"rejected\":\"f\"}\n";

/* Runs `verb` on the test's data with these options, messages among the output */
static int run(const char *verb, const char *options)
{
	char line[2048];

	snprintf(line, sizeof line, "%s --data %s --cache %s --device cpu %s", verb, scratch_path("pairs.jsonl"),
	         scratch_path("cache"), options);
	return program_run_aloud(line);
}

/* A model of 16 positions in "base", an adapter on it in "adapter" */
static int make_models(void **state)
{
	char options[1024];

	(void)state;
	scratch_open("remedies");
	scratch_text("pairs.jsonl", pairs);
	snprintf(options, sizeof options, "--steps 2 --lr 1e-3 --dim 32 --layers 1 --heads 2 --max-length 16 --out %s",
	         scratch_path("base"));
	if (run("sft", options) != 0)
		return -1;
	snprintf(options, sizeof options, "--model %s --lora 2 --steps 1 --lr 1e-3 --out %s", scratch_path("base"),
	         scratch_path("adapter"));
	return run("train", options) == 0 ? 0 : -1;
}

static int with_model(const char *verb, const char *model, const char *rest)
{
	char options[1024];

	snprintf(options, sizeof options, "--model %s %s", scratch_path(model), rest);
	return run(verb, options);
}

static void what_is_no_model_is_named(void **state)
{
	char options[1024];

	(void)state;
	assert_int_equal(with_model("eval", "nowhere", ""), 1);
	program_says("nowhere: no such folder");
	assert_int_equal(with_model("eval", "adapter", ""), 1);
	program_says("adapter: an adapter (LoRA), not a model");
	program_says("--adapter ");
	snprintf(options, sizeof options, "--adapter %s", scratch_path("base"));
	assert_int_equal(with_model("eval", "base", options), 1);
	program_says("an adapter's folder has this file and adapter_model.safetensors");
	scratch_tree("cut/checkpoint-000002/config.json", "{}");
	scratch_tree("cut/checkpoint-000012/config.json", "{}");
	assert_int_equal(with_model("eval", "cut", ""), 1);
	program_says("the run in this folder is not finished");
	program_says("cut/checkpoint-000012");
	scratch_tree("other/readme", "nothing");
	assert_int_equal(with_model("eval", "other", ""), 1);
	program_says("other/config.json: ");
	program_says("a model directory has a config.json");
}

static void a_model_compared_with_itself_is_told(void **state)
{
	char options[1024];

	(void)state;
	assert_int_equal(with_model("eval", "base", ""), 0);
	program_says("without --reference the model is compared with itself");
	program_says("nat a sequence");
	snprintf(options, sizeof options, "--reference %s", scratch_path("base"));
	assert_int_equal(with_model("eval", "base", options), 0);
	program_says_not("compared with itself");
	assert_int_equal(with_model("eval", "base", "--loss sft"), 0);
	program_says_not("compared with itself");
}

static void a_run_that_would_be_lost_is_told_before_it_begins(void **state)
{
	(void)state;
	assert_int_equal(with_model("train", "base", "--steps 1"), 0);
	program_says("without --out nothing of this run is saved");
	program_says("--lr is left at 1e-06");
	program_says("want about 1e-4");
	assert_true(strstr(program_output, "--lr is left") < strstr(program_output, "train 1/1"));
	assert_int_equal(with_model("train", "base", "--steps 1 --lr 1e-6"), 0);
	program_says_not("--lr is left");
}

static void lengths_beyond_the_model_come_with_what_it_takes(void **state)
{
	(void)state;
	assert_int_equal(with_model("train", "base", "--steps 1 --max-length 17"), 1);
	program_says("at most 16 tokens; leave --max-length out");
}

static void a_damaged_checkpoint_can_be_stepped_over(void **state)
{
	char options[1024], file[512];

	(void)state;
	snprintf(options, sizeof options, "--steps 4 --save-every 2 --lr 1e-3 --out %s", scratch_path("run"));
	assert_int_equal(with_model("train", "base", options), 0);
	snprintf(options, sizeof options, "--steps 4 --save-every 2 --lr 1e-3 --resume --out %s", scratch_path("run"));
	snprintf(file, sizeof file, "%s", scratch_path("run/checkpoint-000004/optimizer.safetensors"));
	assert_int_equal(rename(file, scratch_path("optimizer")), 0);
	assert_int_equal(with_model("train", "base", options), 1);
	program_says("run/checkpoint-000004: --resume then takes the checkpoint before");
	scratch_text("run/checkpoint-000004/optimizer.safetensors", "12345678");
	assert_int_equal(with_model("train", "base", options), 1);
	program_says("remove the folder ");
	program_says("run/checkpoint-000004: --resume then takes the checkpoint before");
	snprintf(file, sizeof file, "%s", scratch_path("run/checkpoint-000004"));
	assert_int_equal(rename(file, scratch_path("set-aside")), 0);
	assert_int_equal(with_model("train", "base", options), 0);
	program_says("resuming from ");
	program_says("run/checkpoint-000002");
}

/* Whatever the rest of a run would not have in common with its beginning */
static void an_exact_resume_refuses_what_changes_bits(void **state)
{
	static const char *const lines[][2] = {
		{ "--filter 0.1", "filter and shards of the head: \"0, 0\" in the checkpoint" },
		{ "--shards 2", "filter and shards of the head: \"0, 0\" in the checkpoint, \"0, 2\" now" },
		{ "--advantages batch", "advantages: \"group\" in the checkpoint, \"batch\" now" },
		{ "--reference uniform", "in the checkpoint, \"uniform\" now" },
		{ "--head-precision bf16", "precision of the head" },
	};
	char options[1024];
	(void)state;
	snprintf(options, sizeof options, "--steps 2 --lr 1e-3 --out %s", scratch_path("exact"));
	assert_int_equal(with_model("train", "base", options), 0);
	for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
		snprintf(options, sizeof options, "--steps 2 --lr 1e-3 --resume --exact %s --out %s", lines[i][0],
		         scratch_path("exact"));
		assert_int_equal(with_model("train", "base", options), 1);
		program_says(lines[i][1]);
		program_says("leave out --exact");
	}
}

static void files_without_records_are_told(void **state)
{
	char line[1024];

	(void)state;
	scratch_text("blank.jsonl", "\n\n");
	snprintf(line, sizeof line, "inspect --data %s", scratch_path("blank.jsonl"));
	assert_int_equal(program_run_aloud(line), 1);
	program_says("blank.jsonl: no record in it; a record is one JSON object a line");
	scratch_text("table.parquet", "PAR1....");
	snprintf(line, sizeof line, "inspect --data %s", scratch_path("table.parquet"));
	assert_int_equal(program_run_aloud(line), 1);
	program_says("pandas.read_parquet(FILE).to_json(");
}

static void names_of_other_programs_lead_to_ours(void **state)
{
	(void)state;
	assert_int_equal(program_run_aloud("train --max_steps 3"), 2);
	program_says("--max_steps, known from TRL, is --steps here");
	assert_int_equal(program_run_aloud("train --json"), 2);
	program_says("did you mean --format json?");
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_no_model_is_named),
		cmocka_unit_test(a_model_compared_with_itself_is_told),
		cmocka_unit_test(a_run_that_would_be_lost_is_told_before_it_begins),
		cmocka_unit_test(lengths_beyond_the_model_come_with_what_it_takes),
		cmocka_unit_test(a_damaged_checkpoint_can_be_stepped_over),
		cmocka_unit_test(an_exact_resume_refuses_what_changes_bits),
		cmocka_unit_test(files_without_records_are_told),
		cmocka_unit_test(names_of_other_programs_lead_to_ours),
	};

	if (argc != 2)
		return 1;
	program_path = argv[1];
	return cmocka_run_group_tests(tests, make_models, NULL);
}
