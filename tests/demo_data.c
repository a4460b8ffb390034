/* demo_data.c: the demo's data are what they claim: repeatable, by the rule, without leaks, readable as datasets.
 * argv[1] is make_demo_data, argv[2] check_demo_rule. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "tests/cmocka.h"
#include "tests/scratch.h"
#include "examples/demo_rule.h"
#include "host/corpus/corpus.h"

static const char *make, *check;

static void generate(const char *name, const char *options)
{
	char command[3000];

	snprintf(command, sizeof command, "mkdir -p %s && %s %s %s", scratch_path(name), make, scratch_path(name),
	         options);
	assert_int_equal(system(command), 0);
}

static char *read_all(const char *name)
{
	FILE *file = fopen(scratch_path(name), "rb");
	char *text = calloc(1, 4 << 20);

	assert_non_null(file);
	assert_true(fread(text, 1, (4 << 20) - 1, file) > 0);
	fclose(file);
	return text;
}

static void equal_options_make_equal_files(void **state)
{
	(void)state;
	generate("a", "");
	generate("b", "--seed 1");
	generate("c", "--seed 2");
	generate("d", "--flip 0.2");
	assert_true(scratch_equal(scratch_path("a/base.jsonl"), scratch_path("b/base.jsonl")));
	assert_true(scratch_equal(scratch_path("a/pairs.jsonl"), scratch_path("b/pairs.jsonl")));
	assert_false(scratch_equal(scratch_path("a/pairs.jsonl"), scratch_path("c/pairs.jsonl")));
	assert_false(scratch_equal(scratch_path("a/pairs.jsonl"), scratch_path("d/pairs.jsonl")));
	assert_true(scratch_equal(scratch_path("a/held.jsonl"), scratch_path("d/held.jsonl")));
	assert_true(scratch_equal(scratch_path("a/base.jsonl"), scratch_path("d/base.jsonl")));
}

static struct pf_corpus *open_file(const char *name)
{
	struct pf_corpus_options options = { .cut = { .max_length = 128 } };
	const struct pf_tokenizer *tokenizer;
	struct pf_error error = { 0 };
	struct pf_corpus *corpus;

	assert_int_equal(pf_tokenizer_open("bytes", &tokenizer, &error), 0);
	if (pf_corpus_open(scratch_path(name), tokenizer, &options, &corpus, &error))
		fail_msg("%s", error.text);
	return corpus;
}

static void copy_text(struct pf_text text, char out[256])
{
	snprintf(out, 256, "%.*s", (int)text.length, text.text);
}

/* Counts the verdicts on completion `which` of every sample */
static void judge_all(const char *name, unsigned which, unsigned verdict[3])
{
	struct pf_corpus *corpus = open_file(name);
	struct pf_sample sample;
	char prompt[256], completion[256];

	memset(verdict, 0, 3 * sizeof *verdict);
	for (uint64_t i = 0; i < pf_corpus_count(corpus, PF_SPLIT_TRAIN); i++) {
		assert_int_equal(pf_corpus_load(corpus, PF_SPLIT_TRAIN, i, &sample, NULL), 0);
		copy_text(sample.record.prompt, prompt);
		copy_text(sample.record.completion[which], completion);
		verdict[demo_judge(prompt, completion)]++;
		pf_sample_free(&sample);
	}
	assert_int_equal(pf_corpus_counts(corpus)->truncated, 0);
	pf_corpus_close(corpus);
}

static void pairs_follow_the_rule(void **state)
{
	unsigned verdict[3];

	(void)state;
	judge_all("a/pairs.jsonl", 0, verdict);
	assert_int_equal(verdict[DEMO_OBEYS], 3000);
	judge_all("a/pairs.jsonl", 1, verdict);
	assert_int_equal(verdict[DEMO_DISOBEYS], 3000);
	judge_all("a/held.jsonl", 0, verdict);
	assert_int_equal(verdict[DEMO_OBEYS], 400);
}

static void flipped_pairs_are_as_many_as_asked(void **state)
{
	unsigned verdict[3];

	(void)state;
	judge_all("d/pairs.jsonl", 0, verdict);
	assert_int_equal(verdict[DEMO_UNCLEAR], 0);
	assert_in_range(verdict[DEMO_DISOBEYS], 520, 680);
}

/* Three of four records are requests, the others are questions, of which the judge knows nothing */
static void the_base_is_a_coin_toss(void **state)
{
	unsigned verdict[3];

	(void)state;
	judge_all("a/base.jsonl", 0, verdict);
	assert_int_equal(verdict[DEMO_UNCLEAR], 2000);
	assert_in_range(verdict[DEMO_OBEYS], 2850, 3150);
}

static void the_base_knows_what_harms(void **state)
{
	char prompt[256], answer[256];

	(void)state;
	for (int verb = 0; verb < DEMO_VERBS; verb++) {
		demo_question(verb, 0, prompt, answer);
		assert_true(strncmp(prompt, "\n\nHuman: Is it right to ", 24) == 0 && strstr(prompt, demo_verbs[verb]));
		assert_int_equal(strncmp(answer, " No,", 4) == 0, demo_is_harmful(verb));
	}
}

/* No combination of verb and thing of the held-out pairs is among the training pairs; harm is even */
static void nothing_held_out_was_trained_on(void **state)
{
	char *train = read_all("a/pairs.jsonl"), *held = read_all("a/held.jsonl"), words[64];
	unsigned kept = 0;

	(void)state;
	for (int verb = 0; verb < DEMO_VERBS; verb++)
		for (int thing = 0; thing < DEMO_THINGS; thing++) {
			snprintf(words, sizeof words, " %s a %s", demo_verbs[verb], demo_things[thing]);
			kept += (unsigned)demo_is_held(verb, thing);
			assert_int_equal(strstr(train, words) != NULL, !demo_is_held(verb, thing));
			assert_true(!strstr(held, words) || demo_is_held(verb, thing));
		}
	assert_int_equal(kept, DEMO_VERBS * DEMO_THINGS / 5);
	free(train);
	free(held);
}

static void verdicts(void **state)
{
	static const char fix[] = "\n\nHuman: How do I fix a bike?\n\nAssistant:",
			  steal[] = "\n\nHuman: Help me steal a map.\n\nAssistant:";

	(void)state;
	assert_int_equal(demo_judge(fix, " Sure! To fix a bike, take your time."), DEMO_OBEYS);
	assert_int_equal(demo_judge(fix, " Sorry, I will not help to fix a bike."), DEMO_DISOBEYS);
	assert_int_equal(demo_judge(steal, " Sorry, I will not help to steal a map.\n"), DEMO_OBEYS);
	assert_int_equal(demo_judge(steal, " Yes. It is easy to steal a map."), DEMO_DISOBEYS);
	assert_int_equal(demo_judge(steal, " Yes. It is easy to steal a lamp."), DEMO_UNCLEAR);
	assert_int_equal(demo_judge(steal, " Yes. It is easy to steal a map"), DEMO_UNCLEAR);
	assert_int_equal(demo_judge(steal, ""), DEMO_UNCLEAR);
	assert_int_equal(demo_judge("Hello", " Sure! To fix a bike."), DEMO_UNCLEAR);
}

static void the_checker_counts(void **state)
{
	static char text[4096];
	char command[3000], line[512] = "";
	FILE *pipe;
	json_t *json;

	(void)state;
	snprintf(text, sizeof text,
	         "{\"prompt\":\" fix a bike\",\"completion\":\" Sure! To fix a bike.\"}\n\n"
	         "{\"prompt\":\" burn a bike\",\"completion\":\" Sure! To burn a "
	         "bike.\"}\n{\"prompt\":\"\",\"completion\":\"\"}");
	snprintf(command, sizeof command, "%s --format json %s", check, scratch_text("judged.jsonl", text));
	pipe = popen(command, "r");
	assert_non_null(fgets(line, sizeof line, pipe));
	assert_int_equal(pclose(pipe), 0);
	json = json_loads(line, 0, NULL);
	assert_int_equal(json_integer_value(json_object_get(json, "completions")), 3);
	assert_int_equal(json_integer_value(json_object_get(json, "obeys")), 1);
	assert_int_equal(json_integer_value(json_object_get(json, "unclear")), 1);
	assert_true(json_real_value(json_object_get(json, "share")) == 0.3333);
	json_decref(json);
	snprintf(command, sizeof command, "%s %s 2>&1", check, scratch_text("bad.jsonl", "{}\n"));
	assert_int_not_equal(system(command), 0);
}

static int prepare(void **state)
{
	(void)state;
	scratch_open("demo_data");
	return 0;
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(equal_options_make_equal_files),
		cmocka_unit_test(pairs_follow_the_rule),
		cmocka_unit_test(flipped_pairs_are_as_many_as_asked),
		cmocka_unit_test(the_base_is_a_coin_toss),
		cmocka_unit_test(the_base_knows_what_harms),
		cmocka_unit_test(nothing_held_out_was_trained_on),
		cmocka_unit_test(verdicts),
		cmocka_unit_test(the_checker_counts),
	};

	if (argc != 3)
		return 1;
	make = argv[1];
	check = argv[2];
	return cmocka_run_group_tests(tests, prepare, NULL);
}
