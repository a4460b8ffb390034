/* What trainings compute, on the simulated card: every loss learns, its gradient is its slope, and rewards become
 * advantages. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "tests/cmocka.h"
#include "tests/world.h"
#include "host/model/random.h"
#include "host/train/run.h"
#include "host/train/step_work.h"

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
		world_enter(&w, losses[i], NULL);
		const struct pf_held held = { w.corpus, PF_SPLIT_TRAIN };
		w.t.shuffle = 0;
		w.t.schedule.rate = strcmp(losses[i], "discopop") == 0 ? 1e-2 : 3e-3;
		assert_int_equal(pf_evaluate(&w.t.run, w.model, &held, NULL, NULL, &before, &error), 0);
		world_train_well(&w, &result);
		assert_int_equal(pf_evaluate(&w.t.run, w.model, &held, NULL, NULL, &after, &error), 0);
		if (!(after.loss < before.loss) && strcmp(losses[i], "bco") != 0)
			fail_msg("%s: from %g to %g", losses[i], before.loss, after.loss);
		assert_true(isfinite(after.loss));
		world_leave(&w);
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
		world_enter(&w, losses[k], NULL);
		struct pf_run judge = w.t.run;
		const struct pf_corpus_options best = { .want = PF_RECORD_SFT, .cut = { .max_length = 64 } };
		struct pf_held held = { NULL, PF_SPLIT_TRAIN };
		if (pf_loss_parse("sft", &liked, &error) ||
		    pf_corpus_open(world_rollouts, world_tokenizer, &best, &held.corpus, &error))
			fail_msg("%s", error.text);
		judge.loss = &liked;
		assert_int_equal(pf_evaluate(&judge, w.model, &held, NULL, NULL, &t[0], &error), 0);
		world_train_well(&w, &result);
		assert_int_equal(pf_evaluate(&judge, w.model, &held, NULL, NULL, &t[1], &error), 0);
		if (!(t[1].loss < t[0].loss))
			fail_msg("%s: the rewarded completions' loss went from %g to %g", losses[k], t[0].loss,
			         t[1].loss);
		pf_corpus_close(held.corpus);
		world_leave(&w);
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
		world_enter(&w, "reinforce", NULL);
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
		world_leave(&w);
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
	world_enter(&w, "rloo:beta=0.5", NULL);
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
	world_leave(&w);
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
		world_enter(&w, losses[k], NULL);
		w.t.steps = 2;
		for (uint64_t i = 0; i < w.reference->layout.size; i++)
			w.reference->param[i] = NAN;
		world_train_well(&w, &result);
		assert_true(isfinite(w.last_loss) && isnan(result.step0_check));
		w.t.run.reference = NULL;
		world_train_well(&w, &result);
		world_leave(&w);
	}
}

/* ---- the gradient, through the kernels ---- */

static double loss_at(struct pf_running *r, const struct pf_step *facts, float *gradient)
{
	struct pf_error error;
	struct pf_tally tally;
	if (pf_step_run(&r->objective, &r->pack, facts, gradient, &tally, &error))
		fail_msg("%s", error.text);
	return tally.loss;
}

struct slope { double said, measured; };

/* At w's weights, by central differences; direction[] is scratch for the gradient and what is added to it */
static struct slope slopes(struct world *w, struct pf_running *r, const struct pf_step *facts, struct pf_random *random,
                           float *start, float *direction)
{
	const uint64_t size = w->model->layout.size;
	struct slope slope = { 0, 0 };
	double norm = 0.0, side[2];
	loss_at(r, facts, direction);
	memcpy(start, w->model->param, size * sizeof *start);
	for (uint64_t i = 0; i < size; i++) {
		const double gradient = (double)direction[i];
		direction[i] += 1e-3f * (float)pf_random_normal(random);
		slope.said += (double)direction[i] * gradient;
		norm += (double)direction[i] * (double)direction[i];
	}
	const double step = 1e-4 / sqrt(norm);
	for (int s = 0; s < 2; s++) {
		for (uint64_t i = 0; i < size; i++)
			w->model->param[i] = start[i] + (float)((s ? -step : step) * (double)direction[i]);
		pf_model_touch(w->model);
		side[s] = loss_at(r, facts, NULL);
	}
	slope.measured = (side[0] - side[1]) / (2.0 * step);
	return slope;
}

static void check_slope(const char *loss, uint64_t seed)
{
	struct pf_running r;
	struct pf_sampler sampler;
	struct pf_step facts;
	struct pf_error error;
	struct pf_random random;
	struct world w;
	world_enter(&w, loss, NULL);
	const uint64_t size = w.model->layout.size;
	float *start = pf_floats_alloc(size), *direction = pf_floats_alloc(size);
	assert_true(start && direction);
	pf_random_seed(&random, 11, seed);
	for (uint64_t i = 0; i < size; i++)       /* away from the reference, where every term is at work */
		w.model->param[i] += 0.02f * (float)pf_random_normal(&random);
	pf_model_touch(w.model);
	assert_int_equal(pf_running_open(&r, &w.t.run, w.model, 1, &error), 0);
	assert_int_equal(pf_running_sampler(&r, w.corpus, PF_SPLIT_TRAIN, 1, 1, 1, &sampler, &error), 0);
	assert_int_equal(pf_sampler_step(&sampler, 0, &r.pack, &facts, &error), 0);
	const struct slope slope = slopes(&w, &r, &facts, &random, start, direction);
	if (!(fabs(slope.measured - slope.said) <= 2e-3 * fabs(slope.said)))
		fail_msg("%s: slope %.9g, by differences %.9g", loss, slope.said, slope.measured);
	pf_running_close(&r);
	free(start);
	free(direction);
	world_leave(&w);
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
	for (size_t k = 0; k < sizeof losses / sizeof *losses; k++)
		check_slope(losses[k], k);
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
		assert_int_equal(pf_pack_sequence(&pack, world_tokenizer, prompt, side[i], cut, &member), 0);
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
		if (pf_loss_evaluate(world_device, &loss, &batch, work.item, 2, work.group, 1, work.result, &error))
			fail_msg("%s", error.text);
		assert_true(fabs(work.result[0].loss - gap * gap) <= 1e-6);
		assert_true(fabs(work.result[0].grad - 2 * gap / count) <= 1e-6);
		assert_true(fabs(work.result[1].grad + 2 * gap / 3) <= 1e-6);
		pf_work_close(&work);
	}
	pf_pack_free(&pack);
}

static int open_world(void **state)
{
	(void)state;
	world_open("trainer_losses");
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_loss_learns),
		cmocka_unit_test(rollouts_learn),
		cmocka_unit_test(advantages_are_as_said),
		cmocka_unit_test(rewards_lose_the_divergence),
		cmocka_unit_test(free_losses_touch_no_reference),
		cmocka_unit_test(gradient_is_the_slope),
		cmocka_unit_test(lengths_may_count_the_unscored_token),
	};
	return cmocka_run_group_tests(tests, open_world, world_close);
}
