/* config.c: config files: what YAML is taken and what is refused, TRL's names, the loss in several keys; expectations
 * are written by hand from the documents of TRL and transformers. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "tests/cmocka.h"
#include "host/cli/config_file.h"
#include "host/cli/trl.h"

static struct pf_options options;
static struct pf_error error;

/* Options of a verb after flags and the text of a config file; flags end with NULL */
static int apply(const char *verb, char *const *flags, const char *text)
{
	int count = 0;

	pf_options_free(&options);
	memset(&error, 0, sizeof error);
	while (flags && flags[count])
		count++;
	assert_int_equal(pf_options_parse(&options, verb, count, flags, &error), 0);
	return pf_config_file_apply(&options, "run.yaml", text, strlen(text), &error);
}

static void assert_says(const char *text)
{
	if (!strstr(error.text, text))
		fail_msg("\"%s\" is not in \"%s\"", text, error.text);
}

static const struct pf_config_verdict *verdict(const char *key)
{
	for (size_t i = 0; options.file && i < options.file->map.count; i++)
		if (strcmp(options.file->map.entry[i].key, key) == 0)
			return &options.file->verdict[i];
	fail_msg("no key %s", key);
	return NULL;
}

/* ---- YAML ---- */

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

static void mistakes_name_their_place(void **state)
{
	static const struct { const char *text, *says; } cases[] = {
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

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		if (apply("train", NULL, cases[i].text) >= 0)
			fail_msg("accepted: %s", cases[i].text);
		if (strncmp(error.text, cases[i].says, strlen(cases[i].says)) != 0)
			fail_msg("\"%s\": \"%s\", not \"%s\"", cases[i].text, error.text, cases[i].says);
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

/* ---- TRL's names ---- */

static void rows_of_the_table_are_sound(void **state)
{
	const struct pf_trl_row *row;
	const char *flag, *value;

	(void)state;
	for (size_t i = 0; (row = pf_trl_row(i)); i++) {
		const int wants_option =
			row->action == PF_TRL_TAKE || row->action == PF_TRL_COUNT || row->action == PF_TRL_WARMUP ||
			row->action == PF_TRL_SCHEDULE || row->action == PF_TRL_DATASET || row->action == PF_TRL_PEFT ||
			row->action == PF_TRL_ADAPTER || row->action == PF_TRL_NEVER || row->action == PF_TRL_RESUME;
		const int wants_text =
			row->action == PF_TRL_ONLY || row->action == PF_TRL_IGNORE || row->action == PF_TRL_DATASET;

		if (wants_option && pf_option_find(NULL, row->target) < 0)
			fail_msg("%s: no option %s", row->key, row->target);
		if (wants_text && !*row->text)
			fail_msg("%s: no reason", row->key);
		if (pf_trl_find(row->key) != row)
			fail_msg("%s: hidden by %s", row->key, pf_trl_find(row->key)->key);
	}
	for (size_t i = 0; pf_trl_default(i, &flag, &value); i++)
		assert_true(pf_option_find(NULL, flag) >= 0);
}

static char *read_text(const char *name)
{
	char path[128], *text;

	snprintf(path, sizeof path, "tests/configs/%s.yaml", name);
	assert_int_equal(pf_config_file_read(path, &text, &error), 0);
	return text;
}

static void apply_file(const char *verb, const char *name)
{
	char *text = read_text(name);

	if (apply(verb, NULL, text))
		fail_msg("%s: %s", name, error.text);
	free(text);
}

static void a_file_for_dpo_runs_as_it_is(void **state)
{
	(void)state;
	apply_file("train", "dpo");
	assert_string_equal(options.model, "models/qwen2.5-1.5b-instruct");
	assert_int_equal(options.max_length, 1024);
	assert_string_equal(options.truncation, "keep_end");
	assert_string_equal(options.loss, "sigmoid:beta=0.05");
	assert_true(options.epochs == 1.0 && options.batch == 4 && options.accumulate == 16 && options.lr == 5e-7);
	assert_string_equal(options.schedule, "cosine");
	assert_true(options.warmup_ratio == 0.1 && options.source[PF_OPTION_warmup_steps] == PF_FROM_NOTHING);
	assert_true(options.beta1 == 0.9 && options.beta2 == 0.95 && options.eps == 1e-8 &&
	            options.max_grad_norm == 1.0);
	assert_true(options.seed == 42 && options.eval_every == 50 && options.save_every == 100);
	assert_string_equal(options.out, "./qwen-dpo");
	assert_null(options.data);
	assert_int_equal(verdict("dataset_name")->fate, PF_CONFIG_IGNORED);
	assert_int_equal(verdict("gradient_checkpointing_kwargs")->fate, PF_CONFIG_IGNORED);
	apply_file("eval", "dpo");
	assert_int_equal(options.batch, 8);
}

static void a_file_with_mixed_losses(void **state)
{
	(void)state;
	apply_file("train", "dpo_mixed");
	assert_string_equal(options.loss, "sigmoid:beta=0.1,weight=0.8+bco_pair:beta=0.1,weight=0.2+sft:weight=1.0");
	assert_string_equal(options.schedule, "constant");
	assert_true(options.warmup_steps == 20 && options.steps == 200 && options.save_every == 0);
}

static void a_file_for_kto(void **state)
{
	(void)state;
	apply_file("train", "kto");
	assert_string_equal(options.loss, "kto:beta=0.2,desirable_weight=1.0,undesirable_weight=1.33");
	assert_int_equal(options.batch, 16);
}

/* TRL's constant schedule has no warm-up; max_steps -1 leaves it to the epochs */
static void a_file_for_sft(void **state)
{
	(void)state;
	apply_file("sft", "sft");
	assert_string_equal(options.schedule, "constant");
	assert_true(options.warmup_steps == 0 && options.source[PF_OPTION_warmup_steps] == PF_FROM_FILE);
	assert_int_equal(options.source[PF_OPTION_steps], PF_FROM_NOTHING);
	assert_true(options.epochs == 2.0 && options.weight_decay == 0.01 && options.max_length == 2048 &&
	            options.seed == 7);
}

static void a_file_for_cpo(void **state)
{
	(void)state;
	apply_file("train", "cpo");
	assert_string_equal(options.loss, "simpo:beta=2.0,simpo_gamma=1.0");
}

/* An adapter counts with use_peft, with TRL's rank and alpha where the file has none, or beside our own key */
static void a_file_for_lora(void **state)
{
	(void)state;
	apply_file("train", "lora");
	assert_true(options.lora == 16 && options.lora_alpha == 32.0);
	assert_string_equal(options.lora_targets, "q_proj,k_proj,v_proj,o_proj");
	assert_int_equal(apply("train", NULL, "use_peft: true\n"), 0);
	assert_true(options.lora == 16 && options.lora_alpha == 32.0);
	assert_int_equal(apply("train", NULL, "use_peft: true\nlora_r: 8\nlora_alpha: 4\n"), 0);
	assert_true(options.lora == 8 && options.lora_alpha == 4.0);
	assert_int_equal(apply("train", NULL, "use_peft: false\nlora_r: 8\nlora_alpha: 4\n"), 0);
	assert_true(options.lora == 0 && options.lora_alpha == 16.0);
	assert_int_equal(apply("train", NULL, "lora: 4\nlora_alpha: 8\n"), 0);
	assert_true(options.lora == 4 && options.lora_alpha == 8.0);
	assert_true(apply("train", NULL, "use_peft: true\nuse_dora: true\n") < 0);
	assert_true(apply("train", NULL, "use_peft: maybe\n") < 0);
}

static void bf16_is_the_form_of_the_weights(void **state)
{
	(void)state;
	assert_int_equal(apply("train", NULL, "bf16: true\n"), 0);
	assert_string_equal(options.weights, "bf16");
	assert_int_equal(apply("train", NULL, "bf16: false\n"), 0);
	assert_string_equal(options.weights, "f32");
}

static void what_would_change_the_result_is_refused(void **state)
{
	static const char *const texts[] = { "load_best_model_at_end: True",
		                             "optim: adafactor",
		                             "ld_alpha: 0.5\nloss_type: apo_zero_unpaired",
		                             "scale_rewards: none",
		                             "neftune_noise_alpha: 5",
		                             "label_smoothing_factor: 0.1",
		                             "lr_scheduler_type: polynomial",
		                             "lr_scheduler_kwargs: {num_cycles: 2}",
		                             "push_to_hub: true",
		                             "completion_only_loss: false",
		                             "loss_type: no_such_loss",
		                             "resume_from_checkpoint: some/checkpoint-5",
		                             "use_weighting: true\nloss_type: aot",
		                             "f_divergence_type: js_divergence\nloss_type: apo_zero",
		                             "f_divergence_type: forward_kl\nloss_type: aot_unpaired",
		                             "f_divergence_type: hellinger",
		                             "loss_type: [sigmoid, sft]\nloss_weights: [1]",
		                             "loss_type: [sigmoid]\nloss_weights: [1, 2]",
		                             "loss_type: simpo\ncpo_alpha: 1.0",
		                             "beta: -1",
		                             "beta: much",
		                             "loss: ipo\nloss_type: sigmoid",
		                             "loss_type: sigmoid,sigmoid,sigmoid,sigmoid,sigmoid",
		                             "save_steps: 0.1",
		                             "beta: [0.1, 0.2]" };

	(void)state;
	for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
		if (apply("train", NULL, texts[i]) >= 0)
			fail_msg("accepted: %s", texts[i]);
	assert_true(apply("sft", NULL, "loss_type: no_such_loss") < 0);
	assert_int_equal(apply("sft", NULL, "loss_type: dft"), 0);
	assert_int_equal(apply("sft", NULL, "loss_type: nll"), 0);
}

static void a_loss_in_several_keys(void **state)
{
	static const struct { const char *text, *loss; } cases[] = {
		{ "loss_type: ipo", "ipo:beta=0.1" },
		{ "loss_type: discopop", "discopop:beta=0.1" },          /* TRL's beta, not the paper's 0.05 */
		{ "beta: 0.3", "sigmoid:beta=0.3" },
		{ "loss: ipo\nbeta: 0.3", "ipo:beta=0.3" },
		{ "loss: ipo:beta=0.2\nbeta: 0.3", "ipo:beta=0.2" },
		{ "loss: \"cdpo+sft:weight=2\"\nlabel_smoothing: 0.2", "cdpo:label_smoothing=0.2+sft:weight=2" },
		{ "loss_type: robust\nlabel_smoothing: 0.2\nbeta: 0.5", "robust:label_smoothing=0.2,beta=0.5" },
		{ "loss_type: sigmoid\nf_divergence_type: reverse_kl", "sigmoid:beta=0.1" },
		{ "loss_type: sigmoid\nf_divergence_type: alpha_divergence\nf_alpha_divergence_coef: 0.25",
		  "fdpo_alpha:f_alpha_divergence_coef=0.25,beta=0.1" },
		{ "loss_type: sigmoid\nld_alpha: 0.5", "ld_dpo:ld_alpha=0.5,beta=0.1" },
		{ "ld_alpha: 1.0\nbeta: 0.2", "sigmoid:beta=0.2" },
		{ "loss_type: hinge\nf_divergence_type: js_divergence", "hinge:f_divergence_type=js_divergence,beta=0.1" },
		{ "loss_type: ipo\nld_alpha: 0.5", "ipo:ld_alpha=0.5,beta=0.1" },
		{ "loss_type: [sigmoid, bco_pair, sft]\nuse_weighting: true\nf_divergence_type: alpha_divergence\n"
		  "f_alpha_divergence_coef: 0.25",
		  "sigmoid:f_divergence_type=alpha_divergence,f_alpha_divergence_coef=0.25,use_weighting=1,"
		  "max_weight=inf,beta=0.1+bco_pair:f_divergence_type=alpha_divergence,f_alpha_divergence_coef=0.25,"
		  "use_weighting=1,max_weight=inf,beta=0.1+sft" },
		{ "loss_type: grpo\nepsilon: 0.3", "grpo:epsilon=0.3" },       /* whose beta is 0 in TRL, as here */
		{ "loss_type: aot", "aot:beta=0.1" },
		{ "use_weighting: true\nbeta: 0.1", "wpo:max_weight=inf,beta=0.1" },
		{ "rpo_alpha: 0.5\nbeta: 0.2", "sigmoid:beta=0.2+sft:weight=0.5" },
		{ "rpo_alpha: null\nbeta: 0.2", "sigmoid:beta=0.2" },
		{ "loss_type:\n- sigmoid\n- sft\nloss_weights:\n- 1.0\n- 0.1", "sigmoid:beta=0.1,weight=1.0+sft:weight=0.1" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		if (apply("train", NULL, cases[i].text))
			fail_msg("%s: %s", cases[i].text, error.text);
		assert_string_equal(options.loss, cases[i].loss);
	}
}

static void flags_go_before_the_file(void **state)
{
	char *const loss[] = { "--loss", "kto:undesirable_weight=2", NULL }, *const steps[] = { "--epochs", "2", NULL };
	char *const warm[] = { "--warmup-ratio=0.2", NULL }, *const batch[] = { "--batch=5", NULL };

	(void)state;
	assert_int_equal(apply("train", batch, "per_device_train_batch_size: 4\nlr: 0.5\n"), 0);
	assert_true(options.batch == 5 && options.lr == 0.5);
	assert_int_equal(verdict("per_device_train_batch_size")->fate, PF_CONFIG_FLAG);
	assert_true(apply("train", batch, "per_device_train_batch_size: 0") < 0);
	assert_int_equal(apply("train", loss, "loss_type: ipo\nbeta: 0.3\nundesirable_weight: 3\n"), 0);
	assert_string_equal(options.loss, "kto:undesirable_weight=2,beta=0.3");
	assert_int_equal(apply("train", steps, "max_steps: 50\n"), 0);
	assert_int_equal(options.source[PF_OPTION_steps], PF_FROM_NOTHING);
	assert_int_equal(apply("train", warm, "warmup_steps: 50\nlr_scheduler_type: constant\n"), 0);
	assert_int_equal(options.source[PF_OPTION_warmup_steps], PF_FROM_NOTHING);
}

static void warm_up_as_in_transformers(void **state)
{
	(void)state;
	assert_int_equal(apply("train", NULL, "warmup_steps: 0\nwarmup_ratio: 0.1\n"), 0);
	assert_int_equal(options.source[PF_OPTION_warmup_steps], PF_FROM_NOTHING);
	assert_int_equal(apply("train", NULL, "warmup_steps: 30\nwarmup_ratio: 0.1\n"), 0);
	assert_int_equal(options.warmup_steps, 30);
	assert_int_equal(apply("train", NULL, "warmup_steps: 0.25\n"), 0);
	assert_true(options.warmup_ratio == 0.25 && options.source[PF_OPTION_warmup_steps] == PF_FROM_NOTHING);
	assert_int_equal(apply("train", NULL, "warmup_steps: 0\n"), 0);
	assert_int_equal(options.source[PF_OPTION_warmup_steps], PF_FROM_FILE);
}

static void a_reference_may_be_uniform(void **state)
{
	(void)state;
	assert_int_equal(apply("train", NULL, "reference_free: true\n"), 0);
	assert_string_equal(options.reference, "uniform");
	assert_int_equal(apply("train", NULL, "reference_free: false\nreference: base\n"), 0);
	assert_string_equal(options.reference, "base");
}

static int finish(void **state)
{
	(void)state;
	pf_options_free(&options);
	return 0;
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
		cmocka_unit_test(rows_of_the_table_are_sound),
		cmocka_unit_test(a_file_for_dpo_runs_as_it_is),
		cmocka_unit_test(a_file_with_mixed_losses),
		cmocka_unit_test(a_file_for_kto),
		cmocka_unit_test(a_file_for_sft),
		cmocka_unit_test(a_file_for_cpo),
		cmocka_unit_test(a_file_for_lora),
		cmocka_unit_test(bf16_is_the_form_of_the_weights),
		cmocka_unit_test(what_would_change_the_result_is_refused),
		cmocka_unit_test(a_loss_in_several_keys),
		cmocka_unit_test(flags_go_before_the_file),
		cmocka_unit_test(warm_up_as_in_transformers),
		cmocka_unit_test(a_reference_may_be_uniform),
	};
	return cmocka_run_group_tests(tests, NULL, finish);
}
