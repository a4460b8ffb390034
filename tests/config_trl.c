/* Config files of TRL: its names, the loss in several keys, what goes before what; expectations are written by hand
 * from the documents of TRL and transformers. */
#include <stdio.h>
#include <stdlib.h>
#include "tests/options_taken.h"
#include "host/cli/trl.h"

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

int main(void)
{
	const struct CMUnitTest tests[] = {
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
	return cmocka_run_group_tests(tests, NULL, options_free);
}
