/* Training as a whole, on the simulated card: it starts where it should, learns with every loss of the article, goes on
 * exactly after a stop and after being killed, and its gradient is the loss's. */
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include "tests/cmocka.h"
#include "tests/scratch.h"
#include "host/model/random.h"
#include "host/train/run.h"
#include "host/train/step_work.h"

enum { STEPS = 8, BATCH = 4, KILLED = 9 /* exit code */ };

static const struct pf_tokenizer *tokenizer;
static struct pf_device *device;
static char data_path[512], rollouts_path[512];

/* ---- a small world ---- */

/* Pairs whose chosen side ends politely */
static void write_data(void)
{
	static const char *const word[] = { "red", "blue", "green", "wide", "small", "old", "new", "fast" };
	static char text[1 << 14];
	size_t n = 0;
	for (int i = 0; i < 24; i++)
		n += (size_t)snprintf(text + n, sizeof text - n,
		                      "{\"prompt\": \"%s %s:\", \"chosen\": \" a %s thing, please\", "
		                      "\"rejected\": \" %s\"}\n",
		                      word[i % 8], word[i / 8], word[i % 8], word[(i + 3) % 8]);
	strcpy(data_path, scratch_text("pairs.jsonl", text));
}

/* Prompts with completions of rewards 1 and 0, and what a model that knows nothing gives their tokens */
static void write_rollouts(void)
{
	static char text[1 << 16];
	size_t n = 0;
	for (int i = 0; i < 12; i++) {
		n += (size_t)snprintf(text + n, sizeof text - n,
		                      "{\"prompt\": \"p%d\", \"completions\": [\" yes\", \" nope\", \" yes\"], "
		                      "\"rewards\": [1, 0, 1], \"old_logps\": [",
		                      i);
		for (int k = 0; k < 3; k++) {
			for (int t = 0; t < (k == 1 ? 6 : 5); t++)
				n += (size_t)snprintf(text + n, sizeof text - n, "%s%g",
				                      t   ? ", "
				                      : k ? ", ["
				                          : "[",
				                      -5.4 - 0.1 * ((i + t) % 5));
			n += (size_t)snprintf(text + n, sizeof text - n, "]");
		}
		n += (size_t)snprintf(text + n, sizeof text - n, "]}\n");
	}
	strcpy(rollouts_path, scratch_text("rollouts.jsonl", text));
}

static int open_world(void **state)
{
	struct pf_error error;
	(void)state;
	scratch_open("trainer");
	write_data();
	write_rollouts();
	if (pf_tokenizer_open("bytes", &tokenizer, &error) || pf_device_open("sim", NULL, &device, &error))
		fail_msg("%s", error.text);
	return 0;
}

static int close_world(void **state)
{
	(void)state;
	return pf_device_close(device);
}

static struct pf_model *make_model(void)
{
	const struct pf_model_config shape = { .vocab = PF_BYTES_VOCAB,
		                               .dim = 16,
		                               .layers = 2,
		                               .heads = 2,
		                               .kv_heads = 1,
		                               .head_dim = 8,
		                               .ffn = 24,
		                               .max_positions = 64,
		                               .rope_theta = 1e4,
		                               .norm_eps = 1e-5,
		                               .tied = 1,
		                               .bos = PF_BYTES_BOS,
		                               .eos = PF_BYTES_EOS };
	struct pf_model *model;
	struct pf_error error;
	if (pf_model_create(&shape, 3, &model, &error))
		fail_msg("%s", error.text);
	return model;
}

/* Everything a training needs; one at a time */
struct world {
	struct pf_corpus *corpus;
	struct pf_loss loss;
	struct pf_model *model, *reference;
	struct pf_training t;
	struct pf_fact fact;
	volatile sig_atomic_t stop;
	uint64_t stop_after, die_after;        /* steps */
	int notes, precision_notes;
	double first_loss, last_loss;
};

static void on_report(void *context, const struct pf_step_report *r)
{
	struct world *w = context;
	if (r->step == 1)
		w->first_loss = r->tally->loss;
	w->last_loss = r->tally->loss;
	w->stop = w->stop_after == r->step;
	if (w->die_after == r->step)
		_exit(KILLED);
}

static void on_note(void *context, const char *text)
{
	struct world *w = context;
	w->notes += strstr(text, "in the checkpoint") != NULL;
	w->precision_notes += strstr(text, "their heads are computed in bf16 and mxint8") != NULL;
}

static enum pf_record_form wanted(const struct pf_loss *loss)
{
	const enum pf_loss_form form = pf_loss_form(loss);
	return form == PF_FORM_TOKENS ? PF_RECORD_SFT : form == PF_FORM_BINARY ? PF_RECORD_BINARY :
	       form == PF_FORM_ROLLOUT ? PF_RECORD_GROUPS : PF_RECORD_PAIRS;
}

static void open_training(struct world *w, const char *loss, const char *out)
{
	struct pf_error error;
	memset(w, 0, sizeof *w);
	if (pf_loss_parse(loss, &w->loss, &error))
		fail_msg("%s", error.text);
	const struct pf_corpus_options options = { .want = wanted(&w->loss), .cut = { .max_length = 64 } };
	const char *path = options.want == PF_RECORD_GROUPS ? rollouts_path : data_path;
	if (pf_corpus_open(path, tokenizer, &options, &w->corpus, &error))
		fail_msg("%s", error.text);
	w->model = make_model();
	w->reference = pf_model_reference(w->model);
	w->fact = (struct pf_fact){ "threads", "2", 0 };
	w->t = (struct pf_training){ .run = { .device = &device, .devices = 1, .max_length = 64, .batch = BATCH,
			.accumulate = 1, .threads = 2, .loss = &w->loss, .reference = w->reference, .stop = &w->stop },
		.corpus = w->corpus, .seed = 5, .steps = STEPS, .shuffle = 1,
		.adamw = { 0.9, 0.999, 1e-8, 0.0, 1.0, 2 },
		.schedule = { PF_SCHEDULE_LINEAR, 3e-3, 0.0, 1, STEPS }, .out = out, .fact = &w->fact, .facts = 1,
		.report = on_report, .note = on_note, .context = w };
}

static void close_training(struct world *w)
{
	pf_corpus_close(w->corpus);
	pf_model_close(w->model);
	pf_model_close(w->reference);
}

static int train(struct world *w, struct pf_training_result *result, struct pf_error *error)
{
	return pf_train(&w->t, w->model, result, error);
}

static void train_well(struct world *w, struct pf_training_result *result)
{
	struct pf_error error;
	if (train(w, result, &error))
		fail_msg("%s", error.text);
}

static void assert_same_file(const char *a, const char *b, const char *name)
{
	static char text[2][1 << 20];
	size_t n[2];
	for (int i = 0; i < 2; i++) {
		char path[1024];
		snprintf(path, sizeof path, "%s/%s", i ? b : a, name);
		FILE *file = fopen(path, "rb");
		assert_non_null(file);
		n[i] = fread(text[i], 1, sizeof *text, file);
		fclose(file);
	}
	assert_true(n[0] > 0 && n[0] < sizeof *text);
	assert_int_equal(n[0], n[1]);
	assert_memory_equal(text[0], text[1], n[0]);
}

/* ---- where it starts ---- */

static void policy_is_reference_before_the_first_step(void **state)
{
	struct pf_training_result result;
	struct world w;
	(void)state;
	open_training(&w, "sigmoid:beta=0.3", NULL);
	train_well(&w, &result);
	assert_true(result.step0_check == 0.0);
	if (!(fabs(w.first_loss - log(2.0)) <= 1e-6))  /* the policy sees batches, the reference single pairs */
		fail_msg("the first loss is %.17g, not ln 2", w.first_loss);
	assert_true(w.last_loss < w.first_loss);
	close_training(&w);
}

/* ---- every loss of the article, and one of each further kind ---- */

static void every_loss_learns(void **state)
{
	static const char *const losses[] = { "sigmoid", "cdpo", "robust", "ipo", "ipo_sum", "hinge", "slic_hf", "kto",
		"gpo_logistic", "gpo_hinge", "gpo_squared", "gpo_exponential", "gpo_truncated_squared", "gpo_savage",
		"discopop", "sft", "simpo", "orpo", "bco", "sigmoid+sft:weight=0.5", "aot", "aot_unpaired", "disco_aql",
		"ld_dpo", "wpo:beta=0.1", "kto_pair", "tpo" };
	(void)state;
	for (size_t i = 0; i < sizeof losses / sizeof *losses; i++) {
		struct pf_training_result result;
		struct pf_tally before, after;
		struct pf_error error;
		struct world w;
		open_training(&w, losses[i], NULL);
		const struct pf_held held = { w.corpus, PF_SPLIT_TRAIN };
		w.t.shuffle = 0;
		w.t.schedule.rate = strcmp(losses[i], "discopop") == 0 ? 1e-2 : 3e-3;
		assert_int_equal(pf_evaluate(&w.t.run, w.model, &held, NULL, NULL, &before, &error), 0);
		train_well(&w, &result);
		assert_int_equal(pf_evaluate(&w.t.run, w.model, &held, NULL, NULL, &after, &error), 0);
		if (!(after.loss < before.loss) && strcmp(losses[i], "bco") != 0)
			fail_msg("%s: from %g to %g", losses[i], before.loss, after.loss);
		assert_true(isfinite(after.loss));
		close_training(&w);
	}
}

/* Rewarded completions gain on the others, on policy and against given log-probs */
static void rollouts_learn(void **state)
{
	static const char *const losses[] = {
		"grpo:beta=0.04", "dapo",          "bnpo",  "dr_grpo:max_completion_length=8",
		"gspo",           "luspo",         "cispo", "sapo",
		"vespo",          "gmpo",          "ppo",   "reinforce",
		"rloo",           "a2po:beta2=0.1",        "rloo:beta=0.05"
	};
	(void)state;
	for (size_t k = 0; k < sizeof losses / sizeof *losses; k++) {
		struct pf_training_result result;
		struct pf_loss liked;
		struct pf_error error;
		struct pf_tally t[2];
		struct world w;
		open_training(&w, losses[k], NULL);
		struct pf_run judge = w.t.run;
		const struct pf_corpus_options best = { .want = PF_RECORD_SFT, .cut = { .max_length = 64 } };
		struct pf_held held = { NULL, PF_SPLIT_TRAIN };
		if (pf_loss_parse("sft", &liked, &error) ||
		    pf_corpus_open(rollouts_path, tokenizer, &best, &held.corpus, &error))
			fail_msg("%s", error.text);
		judge.loss = &liked;
		assert_int_equal(pf_evaluate(&judge, w.model, &held, NULL, NULL, &t[0], &error), 0);
		train_well(&w, &result);
		assert_int_equal(pf_evaluate(&judge, w.model, &held, NULL, NULL, &t[1], &error), 0);
		if (!(t[1].loss < t[0].loss))
			fail_msg("%s: the rewarded completions' loss went from %g to %g", losses[k], t[0].loss,
			         t[1].loss);
		pf_corpus_close(held.corpus);
		close_training(&w);
	}
}

/* Rewards to advantages: (R - mean) / (unbiased deviation + 1e-4) of 1, 0, 1, and the other choices */
static void advantages_are_as_said(void **state)
{
	static const struct { enum pf_advantages kind; double liked, other; } want[] = {
		{ PF_ADVANTAGES_NONE, 1.0 / 3, -2.0 / 3 }, { PF_ADVANTAGES_OTHERS, 0.5, -1 },
		{ PF_ADVANTAGES_STEP, 1.0 / 3 / (0.49236596391733095 + 1e-4), -2.0 / 3 / (0.49236596391733095 + 1e-4) },
		{ PF_ADVANTAGES_GROUP, 1.0 / 3 / (0.57735026918962576 + 1e-4), -2.0 / 3 / (0.57735026918962576 + 1e-4) },
	};
	struct pf_running r;
	struct pf_sampler sampler;
	struct pf_step facts;
	struct pf_error error;
	struct world w;
	(void)state;
	for (size_t k = 0; k < sizeof want / sizeof *want; k++) {
		struct pf_work work;
		open_training(&w, "reinforce", NULL);
		w.t.run.advantages = want[k].kind;
		assert_int_equal(pf_running_open(&r, &w.t.run, w.model, 1, &error), 0);
		assert_int_equal(pf_running_sampler(&r, w.corpus, PF_SPLIT_TRAIN, 1, 1, 1, &sampler, &error), 0);
		assert_int_equal(pf_sampler_step(&sampler, 0, &r.pack, &facts, &error), 0);
		assert_int_equal(pf_work_open(&work, &r.objective, &r.pack, &error), 0);
		r.pack.member[3].advantage = 7;
		pf_work_advantages(&work, &r.objective, &r.pack, facts.groups);
		for (size_t q = 0; q < 6; q++)
			assert_true(fabs((double)work.advantage[q] - (q == 3       ? 7
			                                              : q % 3 == 1 ? want[k].other
			                                                           : want[k].liked)) < 1e-6);
		pf_work_close(&work);
		pf_running_close(&r);
		close_training(&w);
	}
}

/* rloo:beta: rewards lose beta sum (old - reference) before they are compared with those of the others */
static void rewards_lose_the_divergence(void **state)
{
	struct pf_running r;
	struct pf_sampler sampler;
	struct pf_step facts;
	struct pf_error error;
	struct pf_work work;
	struct world w;
	double reward[6];
	size_t place = 0;
	(void)state;
	open_training(&w, "rloo:beta=0.5", NULL);
	w.t.run.advantages = PF_ADVANTAGES_OTHERS;
	assert_int_equal(pf_running_open(&r, &w.t.run, w.model, 1, &error), 0);
	assert_int_equal(pf_running_sampler(&r, w.corpus, PF_SPLIT_TRAIN, 1, 1, 1, &sampler, &error), 0);
	assert_int_equal(pf_sampler_step(&sampler, 0, &r.pack, &facts, &error), 0);
	assert_int_equal(pf_work_open(&work, &r.objective, &r.pack, &error), 0);
	for (size_t q = 0; q < 6; q++) {
		reward[q] = (double)r.pack.member[q].score - 0.5 * 0.125 * (double)(q * r.pack.scored[q]);
		r.pack.member[q].sampled = 0;
		for (uint32_t t = 0; t < r.pack.scored[q]; t++, place++) {
			work.token[place].logp = -((int64_t)1 << 32);
			work.token_reference[place] = work.token[place].logp - (int64_t)q * (1 << 29);
		}
	}
	pf_work_advantages(&work, &r.objective, &r.pack, facts.groups);
	for (size_t q = 0; q < 6; q++) {
		const size_t g = q / 3 * 3;
		const double others = (reward[g] + reward[g + 1] + reward[g + 2] - reward[q]) / 2;
		assert_true(fabs((double)work.advantage[q] - (reward[q] - others)) < 1e-5);
	}
	pf_work_close(&work);
	pf_running_close(&r);
	close_training(&w);
}

/* A loss without a reference never runs one: poisoned weights would show */
static void free_losses_touch_no_reference(void **state)
{
	static const char *const losses[] = { "simpo", "orpo", "cpo",  "reference_free", "tpo",
		                              "sft",   "dft",  "grpo", "reinforce" };
	(void)state;
	for (size_t k = 0; k < sizeof losses / sizeof *losses; k++) {
		struct pf_training_result result;
		struct world w;
		open_training(&w, losses[k], NULL);
		w.t.steps = 2;
		for (uint64_t i = 0; i < w.reference->layout.size; i++)
			w.reference->param[i] = NAN;
		train_well(&w, &result);
		assert_true(isfinite(w.last_loss) && isnan(result.step0_check));
		w.t.run.reference = NULL;
		train_well(&w, &result);
		close_training(&w);
	}
}

/* ---- the reference follows (TR-DPO) ---- */

static void sync_every(struct world *w, uint64_t steps, double mixup)
{
	w->t.synced = w->reference;
	w->t.sync_every = steps;
	w->t.mixup = mixup;
}

static void reference_follows_the_policy(void **state)
{
	struct pf_training_result result;
	struct world w;
	(void)state;
	open_training(&w, "sigmoid", NULL);
	sync_every(&w, 1, 1.0);
	train_well(&w, &result);
	if (!(fabs(w.last_loss - log(2.0)) <= 1e-6))     /* before every step policy and reference are the same */
		fail_msg("hard updates: the last loss is %.9g, not ln 2", w.last_loss);
	assert_memory_equal(w.reference->param, w.model->param, w.model->layout.size * sizeof(float));
	close_training(&w);

	open_training(&w, "sigmoid", NULL);
	struct pf_model *start = pf_model_reference(w.model);
	sync_every(&w, STEPS, 0.25);                     /* once, with the last step */
	train_well(&w, &result);
	for (uint64_t i = 0; i < w.model->layout.size; i++) {
		const double want = 0.25 * (double)w.model->param[i] + 0.75 * (double)start->param[i];
		assert_true(fabs((double)w.reference->param[i] - want) <= 1e-7 * (1 + fabs(want)));
	}
	pf_model_close(start);
	close_training(&w);
}

static void a_moving_reference_is_resumed(void **state)
{
	struct pf_training_result result;
	struct pf_error error;
	struct world w;
	char whole[512], parts[512];
	(void)state;
	strcpy(whole, scratch_path("sync_whole"));
	strcpy(parts, scratch_path("sync_parts"));
	for (int run = 0; run < 3; run++) {
		open_training(&w, "sigmoid", run ? parts : whole);
		sync_every(&w, 2, 0.6);
		w.t.run.cache = scratch_path("sync_cache");
		w.stop_after = run == 1 ? 3 : 0;
		w.t.resume = w.t.exact = run == 2;
		assert_int_equal(train(&w, &result, &error), run == 1 ? PF_E_INTERRUPTED : 0);
		close_training(&w);
	}
	assert_same_file(whole, parts, "model.safetensors");
	assert_same_file(whole, parts, "checkpoint-000008/reference/model.safetensors");
	assert_same_file(whole, parts, "checkpoint-000008/optimizer.safetensors");
}

/* ---- watches ---- */

static int said;

static void on_said(void *context, const char *text)
{
	(void)context;
	said += strstr(text, "max-kl") != NULL ? 1 : strstr(text, "less likely") != NULL ? 100 : 0;
}

static void watches_watch(void **state)
{
	struct pf_training_result result;
	struct world w;
	(void)state;
	for (int stop = 0; stop < 2; stop++) {
		open_training(&w, "sigmoid", scratch_path(stop ? "kl_stop" : "kl_warn"));
		w.t.alarm = (struct pf_alarm_options){ 1e-6, stop };
		w.t.note = on_said;
		said = 0;
		train_well(&w, &result);
		assert_int_equal(said % 100, 1);
		assert_int_equal(result.stopped, stop);
		assert_true(stop ? result.steps < STEPS : result.steps == STEPS);
		close_training(&w);
	}
}

/* Known sums: a correlation of -1, and a noise of 1/4 when 3 of 4 sure pairs are right */
static void figures_of_the_watches(void **state)
{
	struct pf_tally t;
	(void)state;
	pf_tally_clear(&t);
	t.pairs = 40;
	t.sure = 40 * 0.95;
	t.accurate = 29;
	for (int i = 0; i < 40; i++) {
		const double length = i % 5, margin = 3 - 2 * length;
		t.length += length;
		t.length2 += length * length;
		t.margin += margin;
		t.margin2 += margin * margin;
		t.length_margin += length * margin;
	}
	assert_true(fabs(pf_tally_length_bias(&t) + 1) < 1e-12);
	assert_true(fabs(pf_tally_label_noise(&t) - (0.95 - 0.725) / 0.9) < 1e-12);
	assert_true(isnan(pf_tally_kl(&t)) && isnan(pf_tally_chosen_drift(&t)));
	t.accurate = 40;
	assert_true(pf_tally_label_noise(&t) == 0);
	t.pairs = 3;
	assert_true(isnan(pf_tally_label_noise(&t)));
	struct pf_alarm w = { .note = on_said };
	said = 0;
	t = (struct pf_tally){ .referenced = 1, .sequences = { 4, 4 }, .drift = { -3, 1 }, .kl = 8 };
	assert_true(pf_tally_kl(&t) == 1 && pf_tally_chosen_drift(&t) == -0.75);
	assert_int_equal(pf_alarm_step(&w, &t, 1) + pf_alarm_step(&w, &t, 2), 0);
	assert_int_equal(said, 100);                     /* once */
}

/* ---- accumulation ---- */

/* The gradient of a step does not depend on how it is cut: first update equal up to fp32 rounding of the products */
static void accumulation_is_one_large_batch(void **state)
{
	static const char *const losses[] = { "sigmoid",      "kto",         "sft",       "aot",
		                              "aot_unpaired", "disco_dbaql", "disco_aql", "disco_aqfl",
		                              "kto_pair",     "ld_dpo",      "wpo",       "dft",
		                              "grpo",         "dapo",        "gspo",      "vespo",
		                              "rloo:beta=0.1", "ipo:ld_alpha=0.5,use_weighting=1",
		                              "bco_pair:f_divergence_type=js_divergence+sft_mean" };
	(void)state;
	for (size_t k = 0; k < sizeof losses / sizeof *losses; k++) {
		struct pf_training_result result;
		struct world one, two;
		open_training(&one, losses[k], NULL);
		open_training(&two, losses[k], NULL);
		one.t.steps = two.t.steps = 1;
		two.t.run.batch = BATCH / 4;
		two.t.run.accumulate = 4;
		train_well(&one, &result);
		train_well(&two, &result);
		if (!(fabs(one.last_loss - two.last_loss) <= 1e-6 * fmax(1.0, fabs(one.last_loss))))
			fail_msg("%s: %.9g and %.9g", losses[k], one.last_loss, two.last_loss);
		close_training(&one);
		close_training(&two);
	}
}

/* ---- interruption ---- */

static void stopped_and_resumed_is_uninterrupted(void **state)
{
	struct pf_training_result result;
	struct pf_error error;
	struct world w;
	char whole[512], parts[512];
	(void)state;
	strcpy(whole, scratch_path("whole"));
	strcpy(parts, scratch_path("parts"));
	open_training(&w, "kto", whole);
	train_well(&w, &result);
	close_training(&w);
	open_training(&w, "kto", parts);
	w.stop_after = 3;
	assert_int_equal(train(&w, &result, &error), PF_E_INTERRUPTED);
	assert_int_equal(result.steps, 3);
	close_training(&w);
	open_training(&w, "kto", parts);
	w.t.resume = w.t.exact = 1;
	train_well(&w, &result);
	assert_int_equal(result.first, 3);
	assert_int_equal(w.notes, 0);
	close_training(&w);
	assert_same_file(whole, parts, "model.safetensors");
	assert_same_file(whole, parts, "checkpoint-000008/optimizer.safetensors");
}

static int lines(const char *folder)
{
	char path[1024];
	int count = 0, c;
	snprintf(path, sizeof path, "%s/metrics.jsonl", folder);
	FILE *file = fopen(path, "r");
	assert_non_null(file);
	while ((c = getc(file)) != EOF)
		count += c == '\n';
	fclose(file);
	return count;
}

/* Trains until it dies. A program of its own: threads do not cross a fork */
static int be_killed(const char *data, const char *out)
{
	struct pf_training_result result;
	struct pf_error error;
	struct world w;
	snprintf(data_path, sizeof data_path, "%s", data);
	if (pf_tokenizer_open("bytes", &tokenizer, &error) || pf_device_open("sim", NULL, &device, &error))
		return 1;
	open_training(&w, "sigmoid", out);
	w.t.save_every = 2;
	w.die_after = 6;
	train(&w, &result, &error);
	return 2;
}

static void killed_and_resumed_is_uninterrupted(void **state)
{
	struct pf_training_result result;
	struct world w;
	char whole[512], parts[512];
	int status;
	(void)state;
	strcpy(whole, scratch_path("whole2"));
	strcpy(parts, scratch_path("killed"));
	open_training(&w, "sigmoid", whole);
	train_well(&w, &result);
	close_training(&w);
	pid_t child = fork();
	if (child == 0) {
		execl("/proc/self/exe", "test_trainer", data_path, parts, (char *)NULL);
		_exit(1);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == KILLED);
	assert_true(lines(parts) >= 5);
	open_training(&w, "sigmoid", parts);
	w.t.resume = 1;
	train_well(&w, &result);
	assert_int_equal(result.first, 4);
	close_training(&w);
	assert_int_equal(lines(parts), STEPS);
	assert_same_file(whole, parts, "model.safetensors");
	assert_same_file(whole, parts, "checkpoint-000008/optimizer.safetensors");
}

static void other_circumstances_are_reported(void **state)
{
	struct pf_training_result result;
	struct pf_error error;
	struct world w;
	char out[512];
	(void)state;
	strcpy(out, scratch_path("facts"));
	open_training(&w, "sigmoid", out);
	w.stop_after = 2;
	assert_int_equal(train(&w, &result, &error), PF_E_INTERRUPTED);
	close_training(&w);
	open_training(&w, "sigmoid", out);
	strcpy(w.fact.value, "1");
	w.t.resume = w.t.exact = 1;
	assert_int_equal(train(&w, &result, &error), PF_E_MISMATCH);
	assert_non_null(strstr(error.text, "threads: \"2\" in the checkpoint, \"1\" now"));
	assert_int_equal(w.notes, 1);
	w.t.exact = 0;
	train_well(&w, &result);
	assert_int_equal(w.notes, 2);
	close_training(&w);
	open_training(&w, "sigmoid", scratch_path("nothing"));
	w.t.resume = 1;
	assert_int_equal(train(&w, &result, &error), PF_E_ABSENT);
	close_training(&w);
}

/* ---- what must not be mixed up ---- */

static void folders_and_references_are_guarded(void **state)
{
	struct pf_training_result result;
	struct pf_error error;
	struct world w;
	char out[512];
	(void)state;
	strcpy(out, scratch_path("guarded"));
	open_training(&w, "sigmoid", out);
	w.stop_after = 1;
	assert_int_equal(train(&w, &result, &error), PF_E_INTERRUPTED);
	assert_int_equal(train(&w, &result, &error), PF_E_ARGUMENT);   /* a new run would mix with the old one */
	assert_non_null(strstr(error.text, "--resume"));
	int folder = open(out, O_RDONLY | O_DIRECTORY);
	assert_int_equal(flock(folder, LOCK_EX | LOCK_NB), 0);
	w.t.resume = 1;
	assert_true(train(&w, &result, &error) < 0);
	assert_non_null(strstr(error.text, "another run"));
	close(folder);
	assert_int_equal(mkdir(scratch_path("guarded/checkpoint-009999"), 0777), 0);  /* no checkpoint: has no state */
	w.stop_after = 0;
	w.stop = 0;
	train_well(&w, &result);
	assert_int_equal(result.first, 1);
	w.t.resume = 0;
	w.t.out = NULL;
	w.reference->config.rope_theta *= 2.0;
	assert_int_equal(train(&w, &result, &error), PF_E_SHAPE);
	assert_non_null(strstr(error.text, "rope 20000"));
	close_training(&w);
}

/* ---- the gradient, through the kernels ---- */

static double loss_at(struct world *w, struct pf_running *r, const struct pf_step *facts, float *gradient)
{
	struct pf_error error;
	struct pf_tally tally;
	if (pf_step_run(&r->objective, &r->pack, facts, gradient, &tally, &error))
		fail_msg("%s", error.text);
	(void)w;
	return tally.loss;
}

/* Central differences along the gradient and beside it, at most 2e-3 of the slope off: what fp32 forward passes show.
 * (KTO's own z0 is a constant for the gradient, so differences see another function: hence its sister with z0 = 0) */
static void gradient_is_the_slope(void **state)
{
	static const char *const losses[] = { "sigmoid:beta=0.5",
		                              "ipo",
		                              "apo_zero_unpaired",
		                              "discopop:beta=0.5",
		                              "orpo",
		                              "aot:beta=0.5",
		                              "aot_unpaired:beta=0.5",
		                              "disco_dbaql:beta=0.5",
		                              "disco_aql:beta=0.5",
		                              "ld_dpo:beta=0.5",
		                              "ld_dpo:beta=0.5,ld_reference=0",
		                              "grpo:beta=0.1",
		                              "dapo",
		                              "gspo:epsilon=0.5,epsilon_high=2",
		                              "sapo",
		                              "gmpo",
		                              "rloo:epsilon_high=9",
		                              "a2po:beta2=0.5" };
	(void)state;
	for (size_t k = 0; k < sizeof losses / sizeof *losses; k++) {
		struct pf_running r;
		struct pf_sampler sampler;
		struct pf_step facts;
		struct pf_error error;
		struct pf_random random;
		struct world w;
		open_training(&w, losses[k], NULL);
		const uint64_t size = w.model->layout.size;
		float *start = pf_floats_alloc(size), *gradient = pf_floats_alloc(size), *along = pf_floats_alloc(size);
		pf_random_seed(&random, 11, k);
		for (uint64_t i = 0; i < size; i++)       /* away from the reference, where every term is at work */
			w.model->param[i] += 0.02f * (float)pf_random_normal(&random);
		pf_model_touch(w.model);
		assert_int_equal(pf_running_open(&r, &w.t.run, w.model, 1, &error), 0);
		assert_int_equal(pf_running_sampler(&r, w.corpus, PF_SPLIT_TRAIN, 1, 1, 1, &sampler, &error), 0);
		assert_int_equal(pf_sampler_step(&sampler, 0, &r.pack, &facts, &error), 0);
		loss_at(&w, &r, &facts, gradient);
		memcpy(start, w.model->param, size * sizeof *start);
		double norm = 0.0, slope = 0.0;
		for (uint64_t i = 0; i < size; i++) {
			along[i] = gradient[i] + 1e-3f * (float)pf_random_normal(&random);
			slope += (double)along[i] * (double)gradient[i];
			norm += (double)along[i] * (double)along[i];
		}
		const double step = 1e-4 / sqrt(norm);
		double side[2];
		for (int s = 0; s < 2; s++) {
			for (uint64_t i = 0; i < size; i++)
				w.model->param[i] = start[i] + (float)((s ? -step : step) * (double)along[i]);
			pf_model_touch(w.model);
			side[s] = loss_at(&w, &r, &facts, NULL);
		}
		const double measured = (side[0] - side[1]) / (2.0 * step);
		if (!(fabs(measured - slope) <= 2e-3 * fabs(slope)))
			fail_msg("%s: slope %.9g, by differences %.9g", losses[k], slope, measured);
		pf_running_close(&r);
		free(start);
		free(gradient);
		free(along);
		close_training(&w);
	}
}

/* ---- lengths ---- */

/* Completions of 3 and 2 bytes and eos, cut to the last 4 tokens: of the chosen side the first token has nothing
 * before it, so 3 of 4 are scored; of the rejected side all 3 are. IPO by hand, sums 6 and 3 above the reference */
static void lengths_may_count_the_unscored_token(void **state)
{
	const struct pf_cut cut = { .max_length = 4, .mode = PF_KEEP_END };
	const struct pf_text prompt = { "p", 1 }, side[2] = { { "abc", 3 }, { "de", 2 } };
	const struct pf_chunk_limit limit = { 0 };
	struct pf_pack pack = { 0 };
	struct pf_error error;
	(void)state;
	for (uint32_t i = 0; i < 2; i++) {
		const struct pf_member member = { .member = i, .kind = i ? PF_ITEM_REJECTED : PF_ITEM_CHOSEN };
		assert_int_equal(pf_pack_sequence(&pack, tokenizer, prompt, side[i], cut, &member), 0);
		assert_int_equal(pack.scored[i], 3);
	}
	assert_int_equal(pf_pack_group(&pack), 0);
	for (int unshifted = 0; unshifted < 2; unshifted++) {
		const struct pf_loss_batch batch = { .divisor = 1 };
		const double count = unshifted ? 4 : 3, gap = 6 / count - 3.0 / 3 - 0.25;
		struct pf_loss loss;
		struct pf_work work;
		struct pf_chunk chunk;
		const struct pf_objective objective = { .loss = &loss };
		const char *const text = unshifted ? "ipo:beta=2,unshifted_length=1" : "ipo:beta=2";
		assert_int_equal(pf_loss_parse(text, &loss, &error), 0);
		assert_int_equal(pf_work_open(&work, &objective, &pack, &error), 0);
		assert_int_equal(pf_pack_chunk(&pack, 0, 1, &limit, &chunk), 1);
		work.seq[0] = (struct pf_seq){ .logp = -(4LL << 32), .n = 3 };
		work.seq[1] = (struct pf_seq){ .logp = -(7LL << 32), .n = 3 };
		work.reference[0] = work.reference[1] = -(10LL << 32);
		assert_int_equal(pf_work_items(&work, &objective, &pack, &chunk).items, 2);
		if (pf_loss_evaluate(device, &loss, &batch, work.item, 2, work.group, 1, work.result, &error))
			fail_msg("%s", error.text);
		assert_true(fabs(work.result[0].loss - gap * gap) <= 1e-6);
		assert_true(fabs(work.result[0].grad - 2 * gap / count) <= 1e-6);
		assert_true(fabs(work.result[1].grad + 2 * gap / 3) <= 1e-6);
		pf_work_close(&work);
	}
	pf_pack_free(&pack);
}

/* ---- reference kept on disk ---- */

static void reference_is_computed_once(void **state)
{
	struct pf_training_result result;
	struct pf_device_counts counts[3];
	struct world w;
	char cache[512], model[2][512];
	(void)state;
	strcpy(cache, scratch_path("cache"));
	pf_device_counts(device, &counts[0]);
	for (int i = 0; i < 2; i++) {
		strcpy(model[i], scratch_path(i ? "cached" : "computed"));
		open_training(&w, "sigmoid", model[i]);
		w.t.run.cache = cache;
		train_well(&w, &result);
		close_training(&w);
		pf_device_counts(device, &counts[i + 1]);
	}
	assert_true(counts[2].runs - counts[1].runs < counts[1].runs - counts[0].runs);
	assert_same_file(model[0], model[1], "model.safetensors");
	assert_int_equal(scratch_count("cache"), 1);
}

/* ---- precisions of the head ---- */

/* The same in policy and reference: they agree as ever. Different ones: how far they are apart is said, not refused.
 * Log-probs of the reference in one precision are none in another */
static void heads_have_a_precision(void **state)
{
	static const struct { enum pf_precision policy, reference; unsigned caches; } cases[] = {
		{ PF_PRECISION_FP32, PF_PRECISION_FP32, 1 }, { PF_PRECISION_BF16, PF_PRECISION_BF16, 2 },
		{ PF_PRECISION_MXINT8, PF_PRECISION_MXINT8, 3 }, { PF_PRECISION_BF16, PF_PRECISION_MXINT8, 3 },
	};
	struct pf_training_result result;
	struct world w;
	char cache[512];
	(void)state;
	strcpy(cache, scratch_path("precisions"));
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		const int same = cases[i].policy == cases[i].reference;
		open_training(&w, "sigmoid:beta=0.3", NULL);
		w.t.run.cache = cache;
		w.t.run.precision = cases[i].policy;
		w.t.run.reference_precision = cases[i].reference;
		train_well(&w, &result);
		assert_true(same ? result.step0_check == 0.0 : result.step0_check > 1e-5 && result.step0_check < 0.2);
		assert_int_equal(w.precision_notes, !same);
		assert_true(fabs(w.first_loss - log(2.0)) <= (same ? 1e-6 : 0.1));
		assert_true(w.last_loss < w.first_loss);
		assert_int_equal(scratch_count("precisions"), cases[i].caches);
		close_training(&w);
	}
}

/* What another run left in the cache changes nothing: entries do not depend on the batch that asked for them first */
static void cache_has_no_history(const char *loss, const char *cache)
{
	struct pf_training_result result;
	struct world w;
	char model[3][512], name[64];
	for (int i = 0; i < 3; i++) {
		snprintf(name, sizeof name, "%s-%s", loss, i == 0 ? "alone" : i == 1 ? "between" : "after");
		strcpy(model[i], scratch_path(name));
		open_training(&w, loss, model[i]);
		w.t.run.cache = i == 0 ? NULL : cache;
		w.t.seed = i == 1 ? 77 : 5;
		w.t.run.batch = i == 1 ? 3 : BATCH;
		w.t.steps = i == 1 ? 2 * STEPS : STEPS;
		train_well(&w, &result);
		close_training(&w);
	}
	assert_same_file(model[0], model[2], "model.safetensors");
}

/* One folder for pairs, and for the same pairs taken as labelled singles: twice as many samples of one side each */
static void cache_has_no_memory(void **state)
{
	char cache[512];
	(void)state;
	strcpy(cache, scratch_path("history"));
	cache_has_no_history("sigmoid", cache);
	cache_has_no_history("kto", cache);
	assert_int_equal(scratch_count("history"), 2);
}

int main(int argc, char **argv)
{
	if (argc == 3)
		return be_killed(argv[1], argv[2]);
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(policy_is_reference_before_the_first_step), cmocka_unit_test(every_loss_learns),
		cmocka_unit_test(rollouts_learn),
		cmocka_unit_test(advantages_are_as_said), cmocka_unit_test(rewards_lose_the_divergence),
		cmocka_unit_test(free_losses_touch_no_reference),
		cmocka_unit_test(reference_follows_the_policy), cmocka_unit_test(a_moving_reference_is_resumed),
		cmocka_unit_test(watches_watch), cmocka_unit_test(figures_of_the_watches),
		cmocka_unit_test(accumulation_is_one_large_batch),
		cmocka_unit_test(stopped_and_resumed_is_uninterrupted),
		cmocka_unit_test(killed_and_resumed_is_uninterrupted),
		cmocka_unit_test(other_circumstances_are_reported),
		cmocka_unit_test(folders_and_references_are_guarded),
		cmocka_unit_test(gradient_is_the_slope),
		cmocka_unit_test(lengths_may_count_the_unscored_token),
		cmocka_unit_test(reference_is_computed_once),
		cmocka_unit_test(cache_has_no_memory), cmocka_unit_test(heads_have_a_precision),
	};
	return cmocka_run_group_tests(tests, open_world, close_world);
}
