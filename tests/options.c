/* options.c: the options table and what is made of it. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "tests/options_taken.h"
#include "host/cli/verbs.def"

static const char *const verbs[] = {
#define VERB_NAME(name, ...) #name,
	PF_VERBS(VERB_NAME)
#undef VERB_NAME
};
#define VERBS (sizeof verbs / sizeof *verbs)
#define PARSE(verb, ...) parse(verb, (int)(sizeof (char *[]){ __VA_ARGS__ } / sizeof(char *)), (char *[]){ __VA_ARGS__ })

/* ---- the table ---- */

static void every_row_is_sound(void **state)
{
	(void)state;
	for (int i = 0; i < PF_OPTION_COUNT; i++) {
		const struct pf_option_row *row = &pf_option_rows[i];
		size_t length = strlen(row->text);
		int numeric = row->type == PF_TYPE_INT || row->type == PF_TYPE_FLOAT || row->type == PF_TYPE_SIZE;

		assert_true(length > 10 && row->text[length - 1] == '.');
		assert_true(strlen(row->flag) < 24 &&
		            strspn(row->flag, "abcdefghijklmnopqrstuvwxyz0123456789-") == strlen(row->flag));
		assert_int_equal(row->type == PF_TYPE_CHOICE, *row->choices != 0);
		assert_int_equal(row->type == PF_TYPE_FLAG, *row->meta == 0);
		assert_true(!numeric || row->low < row->high);
		if (row->type == PF_TYPE_INT)
			assert_true(row->low >= -0x1p53 && row->high <= 0x1p53 &&
			            row->low == (double)(int64_t)row->low && row->high == (double)(int64_t)row->high);
	}
}

static void every_verb_of_a_row_exists(void **state)
{
	(void)state;
	for (int i = 0; i < PF_OPTION_COUNT; i++) {
		char words[256], *word;

		snprintf(words, sizeof words, "%s", pf_option_rows[i].verbs);
		for (word = strtok(words, " "); word; word = strtok(NULL, " ")) {
			size_t known = 0;

			for (size_t v = 0; v < VERBS; v++)
				known += strcmp(word, verbs[v]) == 0 || strcmp(word, "*") == 0;
			assert_true(known > 0);
		}
	}
}

static void a_flag_is_one_row_in_each_verb(void **state)
{
	(void)state;
	for (size_t v = 0; v < VERBS; v++)
		for (int i = 0; i < PF_OPTION_COUNT; i++)
			if (pf_option_belongs(&pf_option_rows[i], verbs[v]))
				assert_int_equal(pf_option_find(verbs[v], pf_option_rows[i].flag), i);
}

static void defaults_are_within_bounds_in_every_verb(void **state)
{
	(void)state;
	for (size_t v = 0; v < VERBS; v++) {
		if (parse(verbs[v], 0, NULL))
			fail_msg("%s: %s", verbs[v], error.text);
		for (int i = 0; i < PF_OPTION_COUNT; i++)
			assert_true(options.source[i] == PF_FROM_NOTHING || options.source[i] == PF_FROM_DEFAULT);
	}
}

static void a_verb_may_have_its_own_default(void **state)
{
	(void)state;
	assert_int_equal(PARSE("train", "--seed", "1"), 0);
	assert_true(options.lr == 1e-6);
	assert_int_equal(PARSE("sft", "--seed", "1"), 0);
	assert_true(options.lr == 2e-5);
}

/* ---- flags ---- */

static void flags_take_both_spellings(void **state)
{
	(void)state;
	assert_int_equal(PARSE("train", "--batch", "4", "--lr=1e-3", "--max_length=64", "--exact", "--shuffle=off",
	                       "--data=a,b"),
	                 0);
	assert_int_equal(options.batch, 4);
	assert_true(options.lr == 1e-3);
	assert_int_equal(options.max_length, 64);
	assert_int_equal(options.exact, 1);
	assert_int_equal(options.shuffle, 0);
	assert_string_equal(options.data, "a,b");
	assert_int_equal(options.source[PF_OPTION_batch], PF_FROM_FLAG);
	assert_int_equal(options.source[PF_OPTION_steps], PF_FROM_NOTHING);
	assert_null(options.model);
}

/* As a command line for `trl dpo` has them, where an option takes the value as it is */
static void flags_may_have_the_names_of_trl(void **state)
{
	(void)state;
	assert_int_equal(
		PARSE("train", "--learning_rate", "1e-3", "--per-device-train-batch-size=4", "--output_dir", "x"), 0);
	assert_true(options.lr == 1e-3 && options.batch == 4);
	assert_string_equal(options.out, "x");
	assert_int_equal(PARSE("train", "--gradient_checkpointing", "1"), PF_E_UNKNOWN);
	assert_says("known from TRL, is no option here: activations");
	assert_int_equal(PARSE("train", "--beta", "0.1"), PF_E_UNKNOWN);
	assert_says("--beta is a part of --loss");
	assert_int_equal(PARSE("generate", "--learning_rate", "1"), PF_E_UNKNOWN);
}

static void the_last_flag_wins(void **state)
{
	(void)state;
	assert_int_equal(PARSE("train", "--batch", "4", "--batch=5"), 0);
	assert_int_equal(options.batch, 5);
}

static void plain_words_are_arguments(void **state)
{
	(void)state;
	assert_int_equal(PARSE("loss", "sigmoid:beta=0.2", "--device", "cpu", "--", "--odd"), 0);
	assert_int_equal(options.arguments, 2);
	assert_string_equal(options.argument[0], "sigmoid:beta=0.2");
	assert_string_equal(options.argument[1], "--odd");
}

static void sizes_have_units(void **state)
{
	static const struct { char *text; uint64_t bytes; } cases[] = {
		{ "2097152", 2097152 }, { "512M", 512ull << 20 }, { "8G", 8ull << 30 }, { "1.5GiB", 3ull << 29 },
		{ "2tb", 2ull << 40 }, { "4096k", 4096ull << 10 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		assert_int_equal(PARSE("train", "--card-memory", cases[i].text), 0);
		assert_true(options.card_memory == cases[i].bytes);
	}
}

static void whole_numbers_are_bounded_exactly(void **state)
{
	(void)state;
	assert_int_equal(PARSE("train", "--seed", "9007199254740992"), 0);
	assert_true(options.seed == 9007199254740992);
	assert_int_equal(PARSE("train", "--seed", "9007199254740993"), PF_E_RANGE);
	assert_says("--seed: 9007199254740993 is out of range; allowed is 0 to 9007199254740992");
	assert_int_equal(PARSE("train", "--seed", "-99999999999999999999999"), PF_E_RANGE);
}

/* 0 means that there is no limit, so a short limit must not become one */
static void a_short_time_limit_stays_a_limit(void **state)
{
	(void)state;
	assert_int_equal(pf_option_milliseconds(0), 0);
	assert_int_equal(pf_option_milliseconds(1e-9), 1);
	assert_int_equal(pf_option_milliseconds(1e-3), 1);
	assert_int_equal(pf_option_milliseconds(2.5), 2500);
	assert_int_equal(pf_option_milliseconds(1e6), 1000000000);
}

static void wrong_values_are_refused_with_the_reason(void **state)
{
	static const struct { char *flag, *value, *says; int code; } cases[] = {
		{ "--batch", "0", "--batch: 0 is out of range; allowed is 1 to 65536", PF_E_RANGE },
		{ "--batch", "99999999999999999999999", "out of range", PF_E_RANGE },
		{ "--batch", "4.5", "not a whole number", PF_E_ARGUMENT },
		{ "--batch", "", "not a whole number", PF_E_ARGUMENT },
		{ "--lr", "-1", "out of range", PF_E_RANGE },
		{ "--lr", "inf", "out of range", PF_E_RANGE },
		{ "--lr", "nan", "not a number", PF_E_ARGUMENT },
		{ "--lr", "1e-3x", "not a number", PF_E_ARGUMENT },
		{ "--schedule", "cosin", "one of constant|linear|cosine", PF_E_ARGUMENT },
		{ "--schedule", "", "one of constant|linear|cosine", PF_E_ARGUMENT },
		{ "--card-memory", "8Q", "not a size", PF_E_ARGUMENT },
		{ "--card-memory", "8 ", "not a size", PF_E_ARGUMENT },
		{ "--card-memory", "nan", "not a size", PF_E_ARGUMENT },
		{ "--card-memory", "-8G", "out of range", PF_E_RANGE },
		{ "--data", "", "not a value", PF_E_ARGUMENT },
		{ "--exact=maybe", NULL, "not true or false", PF_E_ARGUMENT },
		{ "--data", NULL, "--data needs a value: --data FILE", PF_E_ARGUMENT },
		{ "--bacth", "4", "did you mean --batch?", PF_E_UNKNOWN },
		{ "--acummulate=4", NULL, "did you mean --accumulate?", PF_E_UNKNOWN },
		{ "--zzzzzzzz", "4", "unknown option --zzzzzzzz", PF_E_UNKNOWN },
		{ "--logits", "z.npy", "is not an option of train, but of: logprob", PF_E_UNKNOWN },
	};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		char *argv[] = { cases[i].flag, cases[i].value };

		assert_int_equal(parse("train", cases[i].value ? 2 : 1, argv), cases[i].code);
		assert_int_equal(error.code, cases[i].code);
		assert_says(cases[i].says);
	}
}

static void long_words_do_not_hurt(void **state)
{
	char word[5000];

	(void)state;
	memset(word, 'x', sizeof word - 1);
	word[0] = word[1] = '-';
	word[sizeof word - 1] = 0;
	assert_int_equal(PARSE("train", word), PF_E_UNKNOWN);
	word[100] = '=';
	assert_int_equal(PARSE("train", word), PF_E_UNKNOWN);
	assert_int_equal(PARSE("train", "--lr", word + 2), PF_E_ARGUMENT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_row_is_sound),
		cmocka_unit_test(every_verb_of_a_row_exists),
		cmocka_unit_test(a_flag_is_one_row_in_each_verb),
		cmocka_unit_test(defaults_are_within_bounds_in_every_verb),
		cmocka_unit_test(a_verb_may_have_its_own_default),
		cmocka_unit_test(flags_take_both_spellings),
		cmocka_unit_test(flags_may_have_the_names_of_trl),
		cmocka_unit_test(the_last_flag_wins),
		cmocka_unit_test(plain_words_are_arguments),
		cmocka_unit_test(sizes_have_units),
		cmocka_unit_test(whole_numbers_are_bounded_exactly),
		cmocka_unit_test(a_short_time_limit_stays_a_limit),
		cmocka_unit_test(wrong_values_are_refused_with_the_reason),
		cmocka_unit_test(long_words_do_not_hurt),
	};

	return cmocka_run_group_tests(tests, NULL, options_free);
}
