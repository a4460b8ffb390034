/* tokenize_cli.c: tokenizers as a user meets them: verb tokenize, and a model that is made, trained, resumed and asked
 * with the tokenizer that it was given. argv[1] is the program. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "tests/cmocka.h"
#include "tests/program.h"
#include "tests/scratch.h"

#define QWEN "tests/golden/qwen2"

static char command[4096];

static json_t *line_json(const char *text)
{
	json_t *json = json_loads(text, JSON_DISABLE_EOF_CHECK, NULL);

	if (!json)
		fail_msg("not JSON: %s", text);
	return json;
}

/* ---- texts ---- */

static void texts_and_back(void **state)
{
	char ids[512] = "";
	json_t *json, *id;
	size_t i;

	(void)state;
	assert_int_equal(
		program_run("tokenize --tokenizer " QWEN " --format json \"Hello,  world<|im_end|>\" 2>/dev/null"), 0);
	json = line_json(program_output);
	assert_string_equal(json_string_value(json_object_get(json, "text")), "Hello,  world<|im_end|>");
	assert_int_equal(json_array_size(json_object_get(json, "ids")),
	                 json_array_size(json_object_get(json, "pieces")));
	json_array_foreach(json_object_get(json, "ids"), i, id)
		snprintf(ids + strlen(ids), sizeof ids - strlen(ids), "%lld ", (long long)json_integer_value(id));
	json_decref(json);
	snprintf(command, sizeof command, "tokenize --tokenizer " QWEN " --decode \"[%s]\" 2>/dev/null", ids);
	assert_int_equal(program_run(command), 0);
	assert_string_equal(program_output, "Hello,  world<|im_end|>\n");
	/* lines of standard input; what each id says is on standard error */
	assert_int_equal(program_run("tokenize --tokenizer bytes --format json 2>&1 <<'END'\nab\n\nEND"), 0);
	assert_non_null(strstr(program_output, "259 ids; opens sequences with 256, closes them with 257"));
	assert_non_null(
		strstr(program_output,
	               "{\"text\":\"ab\",\"ids\":[97,98],\"pieces\":[\"a\",\"b\"]}\n{\"text\":\"\",\"ids\":[]"));
}

static void mistakes_are_named(void **state)
{
	static const char *const lines[][2] = {
		{ "tokenize --tokenizer tests/fuzz x", "tests/fuzz: there is no tokenizer.json in it" },
		{ "tokenize --tokenizer bytes --decode \"1 x\"", "\"x\" is not an id" },
		{ "tokenize --tokenizer bytes --decode \"259\"", "id 259; the tokenizer's are 0 to 258" },
		{ "tokenize --tokenizer bytes --decode -- \"-1\"", "is not an id" },
		{ "tokenize --tokenizer bytes --data x y", "leave out the texts" },
		{ "tokenize --tokenizer bytes --model x y", "the model x brings its own" },
		{ "sft --tokenizer nosuch --data x", "nosuch: there is no tokenizer.json" },
		{ "tokenize --model nosuch x", "nosuch: no such folder" },     /* not bytes */
	};
	(void)state;
	for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
		snprintf(command, sizeof command, "%s 2>&1", lines[i][0]);
		if (program_run(command) == 0 || !strstr(program_output, lines[i][1]))
			fail_msg("%s: %s", lines[i][0], program_output);
	}
}

/* ---- records ---- */

static const char records[] =
	"{\"prompt\":\"one two\",\"chosen\":\" three\",\"rejected\":\" four<|im_end|>\\n\"}\n"
	"{\"prompt\":\"for i\",\"chosen\":\" in range\",\"rejected\":\" of them\"}\n";

/* The ids of a record's line are bos, prompt and completion tokenized apart, and eos unless it has one */
static void records_as_training_sees_them(void **state)
{
	json_t *json;

	(void)state;
	scratch_open("tokenize_cli");
	snprintf(command, sizeof command,
	         "tokenize --tokenizer " QWEN " --format json --cache %s --data %s 2>/dev/null", scratch_path("cache"),
	         scratch_text("records.jsonl", records));
	assert_int_equal(program_run(command), 0);
	json = line_json(strchr(program_output, '\n') + 1);
	assert_int_equal(json_integer_value(json_object_get(json, "sample")), 0);
	assert_string_equal(json_string_value(json_object_get(json, "kind")), "rejected");
	json_t *pieces = json_object_get(json, "pieces");
	size_t last = json_array_size(pieces) - 1;
	assert_string_equal(json_string_value(json_array_get(pieces, last)), "\n");
	assert_string_equal(json_string_value(json_array_get(pieces, last - 1)), "<|im_end|>");
	json_decref(json);
	json = line_json(program_output);
	pieces = json_object_get(json, "pieces");
	assert_string_equal(json_string_value(json_array_get(pieces, json_array_size(pieces) - 1)), "<|im_end|>");
	json_decref(json);
}

/* "q" is a byte without a template, and "[INST] q[/INST]" are 15 of them */
static void inspect_goes_through_the_template(void **state)
{
	static const struct { const char *chat; int bytes; } lengths[] = { { "none", 1 }, { "mistral", 15 }, { "auto", 51 } };

	(void)state;
	scratch_open("tokenize_cli");
	scratch_text(
		"records.jsonl",
		"{\"messages\":[{\"role\":\"user\",\"content\":\"q\"},{\"role\":\"assistant\",\"content\":\"a\"}]}\n");
	for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
		json_int_t most = 0;

		snprintf(command, sizeof command,
		         "inspect --data %s --chat-template %s --cache %s --format json 2>/dev/null",
		         scratch_path("records.jsonl"), lengths[i].chat, scratch_path("cache"));
		assert_int_equal(program_run(command), 0);
		json_t *json = line_json(program_output);
		assert_int_equal(json_unpack(json, "{s:{s:{s:I}}}", "lengths", "prompt", "most", &most), 0);
		assert_int_equal(most, lengths[i].bytes);
		json_decref(json);
	}
}

/* ---- a model ---- */

static void run(const char *format, const char *model)
{
	snprintf(command, sizeof command, format, scratch_path("records.jsonl"), scratch_path(model),
	         scratch_path("cache"), scratch_path("base"));
	if (program_run(command) != 0)
		fail_msg("%s: %s", command, program_output);
}

static void expect_tokenizer(const char *folder)
{
	char path[64];

	snprintf(path, sizeof path, "%s/tokenizer.json", folder);
	assert_int_equal(access(scratch_path(path), F_OK), 0);
	snprintf(path, sizeof path, "%s/tokenizer_config.json", folder);
	assert_int_equal(access(scratch_path(path), F_OK), 0);
}

static void models_keep_their_tokenizer(void **state)
{
	(void)state;
	scratch_open("tokenize_cli");
	scratch_text("records.jsonl", records);
	run("sft --data %s --out %s --cache %s --tokenizer " QWEN
	    " --device cpu --steps 2 --dim 32 --layers 1 --heads 2 "
	    "--max-length 32 2>&1",
	    "base");
	expect_tokenizer("base");
	expect_tokenizer("base/checkpoint-000002");
	run("train --data %s --out %s --cache %s --model %s --device cpu --steps 3 --save-every 1 2>&1", "tuned");
	expect_tokenizer("tuned");
	assert_int_equal(access(scratch_path("tuned/checkpoint-000001/tokenizer.json"), F_OK),
	                 -1); /* two are kept, whole */
	assert_int_equal(scratch_count("tuned/checkpoint-000001"), -1);
	run("train --data %s --out %s --cache %s --model %s --device cpu --steps 4 --resume 2>&1", "tuned");
	snprintf(command, sizeof command, "tokenize --model %s --format json Hello 2>/dev/null", scratch_path("tuned"));
	assert_int_equal(program_run(command), 0);
	assert_non_null(strstr(program_output, "\"pieces\":[\"H\",\"e\",\"l\",\"lo\"]"));
	snprintf(command, sizeof command, "generate --model %s --max-new-tokens 5 --format json \"one\" 2>&1",
	         scratch_path("tuned"));
	assert_int_equal(program_run(command), 0);
	json_decref(line_json(program_output));
}


/* One sequence is shown while it is made, more of them afterwards: the same text */
static void text_appears_as_it_is_made(void **state)
{
	char streamed[4096];

	(void)state;
	snprintf(command, sizeof command, "generate --model %s --max-new-tokens 24 --temperature 3 \"one\" 2>/dev/null",
	         scratch_path("tuned"));
	assert_int_equal(program_run(command), 0);
	snprintf(streamed, sizeof streamed, "%.4000s", program_output);
	assert_true(strncmp(streamed, "one", 3) == 0 && streamed[strlen(streamed) - 1] == '\n');
	snprintf(command, sizeof command,
	         "generate --model %s --max-new-tokens 24 --temperature 3 --samples 2 \"one\" 2>/dev/null",
	         scratch_path("tuned"));
	assert_int_equal(program_run(command), 0);
	assert_int_equal(strncmp(program_output, streamed, strlen(streamed)), 0);
}

static void expect_prompt(const char *options, const char *prompt)
{
	snprintf(command, sizeof command, "generate --model %s --max-new-tokens 1 --format json %s 2>/dev/null",
	         scratch_path("tuned"), options);
	assert_int_equal(program_run(command), 0);
	json_t *json = line_json(program_output);
	assert_string_equal(json_string_value(json_object_get(json, "prompt")), prompt);
	json_decref(json);
}

static void prompts_go_through_the_template(void **state)
{
	char option[2048];

	(void)state;
	expect_prompt("one", "one");
	expect_prompt("--chat-template chatml one", "<|im_start|>user\none<|im_end|>\n<|im_start|>assistant\n");
	scratch_text("prompts.jsonl", "{\"prompt\":[{\"role\":\"user\",\"content\":\"one\"}]}\n");
	snprintf(option, sizeof option, "--prompts %s", scratch_path("prompts.jsonl"));
	expect_prompt(option, "<|im_start|>user\none<|im_end|>\n<|im_start|>assistant\n");
	snprintf(option, sizeof option, "--chat-template mistral --prompts %s", scratch_path("prompts.jsonl"));
	expect_prompt(option, "[INST] one[/INST]");
	scratch_text("prompts.jsonl", "\n{\"messages\":[{\"role\":\"tool\",\"content\":\"one\"}]}\n");
	snprintf(command, sizeof command, "generate --model %s --prompts %s 2>&1", scratch_path("tuned"),
	         scratch_path("prompts.jsonl"));
	assert_int_equal(program_run(command), 1);
	assert_non_null(strstr(program_output,
	                       "prompts.jsonl:2: field \"messages\", message 1: role \"tool\" is not supported"));
}

static void another_models_tokenizer_is_refused(void **state)
{
	(void)state;
	assert_int_equal(unlink(scratch_path("tuned/tokenizer.json")), 0);
	snprintf(command, sizeof command, "generate --model %s x 2>&1", scratch_path("tuned"));
	assert_int_equal(program_run(command), 1);
	assert_non_null(strstr(program_output, "no tokenizer.json, without which it is bytes"));
	scratch_text("tuned/tokenizer.json", "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":5000},\"merges\":[]}}");
	assert_int_equal(program_run(command), 1);
	assert_non_null(strstr(program_output, "tokenizer.json has ids up to 5000; it is another model's"));
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(texts_and_back),
		cmocka_unit_test(mistakes_are_named),
		cmocka_unit_test(records_as_training_sees_them),
		cmocka_unit_test(inspect_goes_through_the_template),
		cmocka_unit_test(models_keep_their_tokenizer),
		cmocka_unit_test(text_appears_as_it_is_made),
		cmocka_unit_test(prompts_go_through_the_template),
		cmocka_unit_test(another_models_tokenizer_is_refused),
	};

	if (argc != 2)
		return 2;
	program_path = argv[1];
	return cmocka_run_group_tests(tests, NULL, NULL);
}
