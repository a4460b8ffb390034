/* Config files through the program, argv[1]: `prefpga config`, and trainings from files for TRL. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "tests/cmocka.h"
#include "tests/program.h"
#include "tests/scratch.h"

static void check_names_what_becomes_of_each_key(void **state)
{
	(void)state;
	assert_int_equal(program_run_aloud("config check tests/configs/dpo.yaml"), 0);
	program_says("29:1: per_device_train_batch_size -> --batch = 4");
	program_says("together: --loss = sigmoid:beta=0.05");
	program_says("32:1: gradient_checkpointing: activations");
	assert_int_equal(program_run_aloud("config check tests/configs/kto.yaml train"), 0);
	program_says("--seed: 0 here, 42 there");
	assert_int_equal(program_run_aloud("config check tests/configs/dpo.yaml losses"), 2);
	assert_int_equal(program_run_aloud("config check /nonexistent.yaml"), 2);
	assert_int_equal(program_run_aloud("config check tests"), 2);
	program_says("config file tests: Is a directory");
	assert_int_equal(program_run_aloud("config chekc x"), 2);
}

static void shown_files_are_understood(void **state)
{
	static const char *const verbs[] = { "sft", "train", "eval", "generate", "loss", "logprob" };
	char command[512];

	(void)state;
	scratch_open("config");
	for (size_t i = 0; i < sizeof verbs / sizeof *verbs; i++) {
		snprintf(command, sizeof command, "config show %s > %s", verbs[i], scratch_path("shown.yaml"));
		assert_int_equal(program_run_aloud(command), 0);
		snprintf(command, sizeof command, "config check %s %s", scratch_path("shown.yaml"), verbs[i]);
		if (program_run_aloud(command) != 0)
			fail_msg("%s", program_output);
	}
}

/* A file for TRL, unchanged, with flags for what is on this machine */
static void a_training_from_a_file_for_trl(void **state)
{
	char command[2048];

	(void)state;
	scratch_open("config");
	scratch_text("pairs.jsonl", "{\"prompt\":\"a\",\"chosen\":\"b\",\"rejected\":\"c\"}\n"
	             "{\"prompt\":\"c\",\"chosen\":\"d\",\"rejected\":\"ee\"}\n");
	snprintf(command, sizeof command, "sft --config tests/configs/sft.yaml --model= --data %s --cache %s", "x",
	         "y");
	assert_int_equal(program_run_aloud(command), 2);
	snprintf(command, sizeof command,
	         "sft --data %s --out %s --cache %s --device cpu --steps 2 --dim 32 --layers 1 "
	         "--heads 2 --max-length 1024",
	         scratch_path("pairs.jsonl"), scratch_path("base"), scratch_path("cache"));
	assert_int_equal(program_run_aloud(command), 0);
	snprintf(command, sizeof command,
	         "train --config tests/configs/dpo.yaml --model %s --data %s --out %s --cache %s "
	         "--device cpu --steps 2",
	         scratch_path("base"), scratch_path("pairs.jsonl"), scratch_path("tuned"), scratch_path("cache"));
	if (program_run_aloud(command) != 0)
		fail_msg("%s", program_output);
	program_says("tests/configs/dpo.yaml: ignored: torch_dtype, attn_implementation");
	program_says("2 steps");
	snprintf(command, sizeof command,
	         "train --config tests/configs/lora.yaml --model %s --data %s --out %s --cache %s "
	         "--device cpu --steps 2",
	         scratch_path("base"), scratch_path("pairs.jsonl"), scratch_path("adapted"), scratch_path("cache"));
	if (program_run_aloud(command) != 0)
		fail_msg("%s", program_output);
	snprintf(command, sizeof command, "test -f %s/adapter_model.safetensors", scratch_path("adapted"));
	assert_int_equal(system(command), 0);
}

static double number_of(const char *key)
{
	const char *at = strstr(program_output, key);

	if (!at)
		fail_msg("no %s in %s", key, program_output);
	return at ? strtod(at + strlen(key), NULL) : NAN;
}

/* Under a uniform reference the log-ratios of a pair are its log-probs: DPO's loss from what eval prints */
static void a_uniform_reference_gives_log_probs(void **state)
{
	char command[1024];
	double loss;

	(void)state;
	scratch_text("pair.jsonl", "{\"prompt\":\"a\",\"chosen\":\"b\",\"rejected\":\"cde\"}\n");
	snprintf(command, sizeof command,
	         "eval --model %s --reference uniform --data %s --loss sigmoid:beta=0.5 --device cpu "
	         "--format json --cache %s",
	         scratch_path("base"), scratch_path("pair.jsonl"), scratch_path("cache"));
	if (program_run_aloud(command) != 0)
		fail_msg("%s", program_output);
	loss = log1p(exp(-0.5 * (number_of("\"logps/chosen\":") - number_of("\"logps/rejected\":"))));
	assert_true(fabs(number_of("\"loss\":") - loss) < 1e-6);
	assert_true(number_of("\"rewards/margins\":") > 1.0);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(check_names_what_becomes_of_each_key),
		cmocka_unit_test(shown_files_are_understood),
		cmocka_unit_test(a_training_from_a_file_for_trl),
		cmocka_unit_test(a_uniform_reference_gives_log_probs),
	};

	if (argc != 2)
		return 1;
	program_path = argv[1];
	return cmocka_run_group_tests(tests, NULL, NULL);
}
