/* Steps of several batches, on the simulated card: the same however a step is cut, but for losses that look beyond a
 * group and are asked to see batches alone. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "tests/cmocka.h"
#include "tests/world.h"
#include "host/model/random.h"
#include "host/train/run.h"

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
		world_enter(&one, losses[k], NULL);
		world_enter(&two, losses[k], NULL);
		one.t.steps = two.t.steps = 1;
		two.t.run.batch = WORLD_BATCH / 4;
		two.t.run.accumulate = 4;
		world_train_well(&one, &result);
		world_train_well(&two, &result);
		if (!(fabs(one.last_loss - two.last_loss) <= 1e-6 * fmax(1.0, fabs(one.last_loss))))
			fail_msg("%s: %.9g and %.9g", losses[k], one.last_loss, two.last_loss);
		world_leave(&one);
		world_leave(&two);
	}
}

/* ---- what losses that look beyond a group see of an accumulated step ---- */

/* Loss and gradient of step number `step`, or of so many steps from it on, each by its share of all groups */
static double accumulated(struct world *w, int micro, uint32_t accumulate, uint64_t step, uint64_t steps,
                          float *gradient, struct pf_tally *tally)
{
	const uint64_t size = w->model->layout.size;
	float *part = pf_floats_alloc(size);
	double loss = 0, divisor = 0;
	struct pf_running r;
	struct pf_sampler sampler;
	struct pf_step facts;
	struct pf_error error;
	assert_non_null(part);
	w->t.run.micro = micro;
	w->t.run.accumulate = accumulate;
	if (pf_running_open(&r, &w->t.run, w->model, 1, &error) ||
	    pf_running_sampler(&r, w->corpus, PF_SPLIT_TRAIN, 7, 1, accumulate, &sampler, &error))
		fail_msg("%s", error.text);
	r.objective.state = (struct pf_loss_state){ 0.25, 30 };
	for (int pass = 0; pass < 2; pass++)
		for (uint64_t i = step; i < step + steps; i++) {
			assert_int_equal(pf_sampler_step(&sampler, i, &r.pack, &facts, &error), 0);
			divisor += pass ? 0.0 : (double)facts.groups;
			if (!pass)
				continue;
			memset(part, 0, size * sizeof *part);
			if (pf_step_run(&r.objective, &r.pack, &facts, part, tally, &error))
				fail_msg("%s", error.text);
			loss += tally->loss * (double)facts.groups / divisor;
			for (uint64_t k = 0; k < size; k++)
				gradient[k] += (float)((double)part[k] * (double)facts.groups / divisor);
		}
	pf_running_close(&r);
	free(part);
	return loss;
}

static void move_away(struct world *w, uint64_t seed)
{
	struct pf_random random;
	pf_random_seed(&random, 23, seed);
	for (uint64_t i = 0; i < w->model->layout.size; i++)
		w->model->param[i] = w->reference->param[i] + 0.05f * (float)pf_random_normal(&random);
	pf_model_touch(w->model);
}

enum { MICRO = 5, EACH = 3 };          /* records of a batch, batches of a step: of 24 pairs 5 + 5 + 5 and 5 + 4 */

static void compare_micro(struct world *w, const char *loss, uint64_t step, uint64_t batches)
{
	const uint64_t size = w->model->layout.size;
	float *gradient[3];
	struct pf_tally tally[3];
	double value[3] = { 0 }, square = 0, off = 0;
	for (int i = 0; i < 3; i++)
		assert_non_null(gradient[i] = pf_floats_alloc(size));
	for (uint64_t seed = 0; seed < 20 && !(fabs(value[0] - value[2]) > 1e-9); seed++) {
		move_away(w, seed);              /* reference points of KTO are no news where they are 0 */
		memset(gradient[0], 0, size * sizeof(float));
		value[0] = accumulated(w, 1, EACH, step, 1, gradient[0], &tally[0]);
		value[2] = accumulated(w, 0, EACH, step, 1, gradient[2], &tally[2]);
	}
	value[1] = accumulated(w, 0, 1, step * EACH, batches, gradient[1], &tally[1]);
	for (uint64_t i = 0; i < size; i++) {
		square += (double)gradient[1][i] * (double)gradient[1][i];
		off = fmax(off, fabs((double)gradient[0][i] - (double)gradient[1][i]));
	}
	if (!(fabs(value[0] - value[1]) <= 1e-12 * (1 + fabs(value[1])) && off <= 1e-6 * sqrt(square) && square > 0))
		fail_msg("%s: %.15g, its batches alone %.15g; gradients differ by %.3g of %.3g", loss, value[0],
		         value[1], off, sqrt(square));
	if (!(fabs(value[0] - value[2]) > 1e-9))
		fail_msg("%s: batches alone and the whole step give the same, %.15g", loss, value[0]);
	for (int i = 0; i < 3; i++)
		free(gradient[i]);
}

static void coupled_losses_may_see_batches_alone(void **state)
{
	static const char *const losses[] = { "kto",         "kto:kl_rotation=-1", "bco",      "bco_pair_shifted",
		                              "aot",         "aot_unpaired",       "kto_pair", "kto_pair_attached",
		                              "disco_dbaql", "disco_aql",          "disco_aqfl" };
	(void)state;
	for (size_t k = 0; k < sizeof losses / sizeof *losses; k++) {
		struct world w;
		world_enter(&w, losses[k], NULL);
		w.t.run.batch = MICRO;
		compare_micro(&w, losses[k], 0, EACH);
		if (pf_loss_form(&w.loss) == PF_FORM_PAIR)
			compare_micro(&w, losses[k], 1, 2);
		world_leave(&w);
	}
}

/* In chunks that do not end where batches do */
static void other_losses_do_not_change_by_a_bit(void **state)
{
	static const char *const losses[] = { "sigmoid", "ipo+sft:weight=0.5", "orpo_prompt", "sft", "grpo:beta=0.1",
		                              "rloo:beta=0.1" };
	(void)state;
	for (size_t k = 0; k < sizeof losses / sizeof *losses; k++) {
		struct world w;
		struct pf_tally tally[2];
		double value[2];
		world_enter(&w, losses[k], NULL);
		const uint64_t size = w.model->layout.size;
		float *gradient[2] = { pf_floats_alloc(size), pf_floats_alloc(size) };
		assert_true(gradient[0] && gradient[1]);
		move_away(&w, k);
		w.t.run.batch = MICRO;
		w.t.run.chunk_tokens = 70;
		for (int micro = 0; micro < 2; micro++)
			value[micro] = accumulated(&w, micro, EACH, 0, 1, gradient[micro], &tally[micro]);
		assert_memory_equal(&value[0], &value[1], sizeof *value);
		assert_memory_equal(gradient[0], gradient[1], size * sizeof(float));
		free(gradient[0]);
		free(gradient[1]);
		world_leave(&w);
	}
}

static int open_world(void **state)
{
	(void)state;
	world_open("trainer_accumulation");
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(accumulation_is_one_large_batch),
		cmocka_unit_test(coupled_losses_may_see_batches_alone),
		cmocka_unit_test(other_losses_do_not_change_by_a_bit),
	};
	return cmocka_run_group_tests(tests, open_world, world_close);
}
