/* Config files: what YAML is taken and what is refused. */
#include "tests/options_taken.h"

static void keys_set_options(void **state)
{
	(void)state;
	assert_int_equal(
		apply("train", NULL,
	              "%YAML 1.1\n---\r\nbatch: 4   # small\nmax-length: 64\ndata: [a.jsonl, 'b.jsonl']\n"
	              "loss: \"sigmoid:beta=0.1\"\nout: 'x # y'\nexact: Yes\nrole_marker: \"\\n\\nBot:\"\n...\n"),
		0);
	assert_int_equal(options.batch, 4);
	assert_int_equal(options.max_length, 64);
	assert_string_equal(options.data, "a.jsonl,b.jsonl");
	assert_string_equal(options.loss, "sigmoid:beta=0.1");
	assert_string_equal(options.out, "x # y");
	assert_string_equal(options.role_marker, "\n\nBot:");
	assert_int_equal(options.exact, 1);
	assert_int_equal(options.source[PF_OPTION_batch], PF_FROM_FILE);
	assert_int_equal(options.source[PF_OPTION_seed], PF_FROM_DEFAULT);
}

static void block_lists_flow_mappings_and_tags_are_yaml(void **state)
{
	(void)state;
	assert_int_equal(apply("train", NULL, "data:\n  - a.jsonl\n  - b.jsonl\nlr: !!float 1e-3\nout: >-\n  a\n  b\n"),
	                 0);
	assert_string_equal(options.data, "a.jsonl,b.jsonl");
	assert_true(options.lr == 1e-3);
	assert_string_equal(options.out, "a b");
	assert_int_equal(apply("train", NULL, "{\"batch\": 4, \"lr\": 0.5}"), 0);
	assert_int_equal(options.batch, 4);
	assert_int_equal(apply("train", NULL, "\xEF\xBB\xBF" "batch: 5\n"), 0);
	assert_int_equal(options.batch, 5);
}

static void nothing_is_a_config_file_too(void **state)
{
	static const char *const texts[] = { "", "\n\n", "# only a comment\n", "---\n", "---\n...\n", "~" };

	(void)state;
	for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
		if (apply("train", NULL, texts[i]))
			fail_msg("\"%s\": %s", texts[i], error.text);
}

static void null_leaves_a_key_out(void **state)
{
	(void)state;
	assert_int_equal(apply("train", NULL, "batch:\nlr: null\nout: ~\nseed: Null\n"), 0);
	assert_int_equal(options.source[PF_OPTION_batch], PF_FROM_DEFAULT);
	assert_null(options.out);
	assert_int_equal(apply("train", NULL, "out: 'null'\n"), 0);
	assert_string_equal(options.out, "null");
	assert_true(apply("train", NULL, "bacth:\n") < 0);
}

static const struct { const char *text, *says; } mistakes[] = {
	{ "bacth: 4", "run.yaml:1:1: unknown key bacth; did you mean batch?" },
	{ "batch: 4\n  learning_rte: 1", "run.yaml:2:15: " },
	{ "batch: 4\nlearning_rte: 1", "run.yaml:2:1: unknown key learning_rte; did you mean learning_rate?" },
	{ "save_step: 5", "run.yaml:1:1: unknown key save_step; did you mean save_steps?" },
	{ "dataset_nam: x", "run.yaml:1:1: unknown key dataset_nam; did you mean dataset_name?" },
	{ "datasets: [{path: x}]", "run.yaml:1:1: datasets: this is not supported: several data sets are a list of files" },
	{ "zzzzzzzzzz: 1", "run.yaml:1:1: unknown key zzzzzzzzzz; prefpga train --help lists them" },
	{ "\nbatch 4", "run.yaml:2:1: expected lines of `key: value`" },
	{ "batch: 1\nbatch 4\n", "run.yaml:3:1: could not find expected ':'" },
	{ "- a\n- b", "run.yaml:1:1: expected lines of `key: value`" },
	{ "batch: 0", "run.yaml:1:1: batch: 0 is out of range; allowed is 1 to 65536" },
	{ "per_device_train_batch_size: 0", "run.yaml:1:1: per_device_train_batch_size: batch: 0 is out of range" },
	{ "lr: 1\n\nlr: 2", "run.yaml:3:1: key lr is there twice, first in line 1" },
	{ "max_length: 9\nmax-length: 9", "run.yaml:2:1: key max-length is there twice, first in line 1" },
	{ "lr: 1\n\nlearning_rate: 2", "run.yaml:3:1: learning_rate says lr again, after lr in line 1" },
	{ "config: other", "run.yaml:1:1: key config has no place" },
	{ "data: ''", "run.yaml:1:1: data: \"\" is not a value" },
	{ "batch: [4]", "run.yaml:1:1: batch: a list, where one value belongs" },
	{ "batch: {a: 4}", "run.yaml:1:1: batch: nested values are not understood" },
	{ "data: [[a]]", "run.yaml:1:1: data: nested values are not understood" },
	{ "data: ['a,b']", "run.yaml:1:8: an item of a list may not have a comma" },
	{ "batch: 1\n? [a]\n: 2", "run.yaml:2:3: a key must be a word" },
	{ "batch: &x 4\nseed: 1", "run.yaml:1:8: anchors (&name) are not understood" },
	{ "batch: *x", "run.yaml:1:8: aliases (*name) are not understood" },
	{ "batch: !python/object 4", "run.yaml:1:8: this tag is not understood" },
	{ "batch: 1\n---\nbatch: 2", "run.yaml:2:1: a second document begins here" },
	{ "batch: \"1\\0\"", "run.yaml:1:8: a text with a NUL" },
	{ "batch: 1\nlr: \"a", "run.yaml:2:7: found unexpected end of stream" },
	{ "batch: 1\n\tlr: 1", "run.yaml:2:1: " },
	{ "batch: 1\nlr: \x01", "run.yaml:2:5: " },
	{ "batch: 1\nlr: \xff", "run.yaml:2:5: " },
};

static void mistakes_name_their_place(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof mistakes / sizeof *mistakes; i++) {
		if (apply("train", NULL, mistakes[i].text) >= 0)
			fail_msg("accepted: %s", mistakes[i].text);
		if (strncmp(error.text, mistakes[i].says, strlen(mistakes[i].says)) != 0)
			fail_msg("\"%s\": \"%s\", not \"%s\"", mistakes[i].text, error.text, mistakes[i].says);
	}
}

/* What other readers blow up on costs nothing here */
static void bombs_are_refused(void **state)
{
	static char text[PF_MAPPING_BYTES_MAX + 2];

	(void)state;
	assert_true(apply("train", NULL, "a: &a [x,x]\nb: &b [*a,*a]\nc: [*b,*b]\n") < 0);
	assert_says("anchors");
	memset(text, '[', 100000);
	memcpy(text, "data: ", 6);
	assert_true(apply("train", NULL, text) < 0);
	assert_says("nested too deeply");
	memset(text, 'x', PF_MAPPING_BYTES_MAX + 1);
	assert_true(apply("train", NULL, text) < 0);
	assert_says("larger than 1 MiB");
	for (size_t i = 0; i < 2000; i++)
		memcpy(text + 12 * i, "k0000: ~\n\n\n\n", 12), text[12 * i + 1] = (char)('0' + i / 1000),
		text[12 * i + 2] = (char)('0' + i / 100 % 10), text[12 * i + 3] = (char)('0' + i / 10 % 10),
		text[12 * i + 4] = (char)('0' + i % 10);
	text[12 * 2000] = 0;
	assert_true(apply("train", NULL, text) < 0);
	assert_says("more than 1024 keys");
}

static void keys_of_other_verbs_are_checked_and_passed_over(void **state)
{
	(void)state;
	assert_int_equal(apply("train", NULL, "temperature: 0.5\nbatch: 2"), 0);
	assert_int_equal(options.batch, 2);
	assert_int_equal(options.source[PF_OPTION_temperature], PF_FROM_NOTHING);
	assert_int_equal(verdict("temperature")->fate, PF_CONFIG_PASSED);
	assert_true(apply("train", NULL, "temperature: -1") < 0);
	assert_says("out of range");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(keys_set_options),
		cmocka_unit_test(block_lists_flow_mappings_and_tags_are_yaml),
		cmocka_unit_test(nothing_is_a_config_file_too),
		cmocka_unit_test(null_leaves_a_key_out),
		cmocka_unit_test(mistakes_name_their_place),
		cmocka_unit_test(bombs_are_refused),
		cmocka_unit_test(keys_of_other_verbs_are_checked_and_passed_over),
	};
	return cmocka_run_group_tests(tests, NULL, options_free);
}
