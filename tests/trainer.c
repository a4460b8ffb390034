/* Training as a whole, on the simulated card: it starts where it should, the reference follows or is kept on disk,
 * watches watch, heads have a precision. */
#include <math.h>
#include <stdio.h>
#include <string.h>
#include "tests/cmocka.h"
#include "tests/scratch.h"
#include "tests/world.h"

/* ---- where it starts ---- */

static void policy_is_reference_before_the_first_step(void **state)
{
	struct pf_training_result result;
	struct world w;
	(void)state;
	world_enter(&w, "sigmoid:beta=0.3", NULL);
	world_train_well(&w, &result);
	assert_true(result.step0_check == 0.0);
	if (!(fabs(w.first_loss - log(2.0)) <= 1e-6))  /* the policy sees batches, the reference single pairs */
		fail_msg("the first loss is %.17g, not ln 2", w.first_loss);
	assert_true(w.last_loss < w.first_loss);
	world_leave(&w);
}

/* ---- the reference follows (TR-DPO) ---- */

static void reference_follows_the_policy(void **state)
{
	struct pf_training_result result;
	struct world w;
	(void)state;
	world_enter(&w, "sigmoid", NULL);
	world_sync(&w, 1, 1.0);
	world_train_well(&w, &result);
	if (!(fabs(w.last_loss - log(2.0)) <= 1e-6))     /* before every step policy and reference are the same */
		fail_msg("hard updates: the last loss is %.9g, not ln 2", w.last_loss);
	assert_memory_equal(w.reference->param, w.model->param, w.model->layout.size * sizeof(float));
	world_leave(&w);

	world_enter(&w, "sigmoid", NULL);
	struct pf_model *start = pf_model_reference(w.model);
	world_sync(&w, WORLD_STEPS, 0.25);                     /* once, with the last step */
	world_train_well(&w, &result);
	for (uint64_t i = 0; i < w.model->layout.size; i++) {
		const double want = 0.25 * (double)w.model->param[i] + 0.75 * (double)start->param[i];
		assert_true(fabs((double)w.reference->param[i] - want) <= 1e-7 * (1 + fabs(want)));
	}
	pf_model_close(start);
	world_leave(&w);
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
		world_enter(&w, "sigmoid", scratch_path(stop ? "kl_stop" : "kl_warn"));
		w.t.alarm = (struct pf_alarm_options){ 1e-6, stop };
		w.t.note = on_said;
		said = 0;
		world_train_well(&w, &result);
		assert_int_equal(said % 100, 1);
		assert_int_equal(result.stopped, stop);
		assert_true(stop ? result.steps < WORLD_STEPS : result.steps == WORLD_STEPS);
		world_leave(&w);
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

/* ---- reference kept on disk ---- */

static void reference_is_computed_once(void **state)
{
	struct pf_training_result result;
	struct pf_device_counts counts[3];
	struct world w;
	char cache[512], model[2][512];
	(void)state;
	strcpy(cache, scratch_path("cache"));
	pf_device_counts(world_device, &counts[0]);
	for (int i = 0; i < 2; i++) {
		strcpy(model[i], scratch_path(i ? "cached" : "computed"));
		world_enter(&w, "sigmoid", model[i]);
		w.t.run.cache = cache;
		world_train_well(&w, &result);
		world_leave(&w);
		pf_device_counts(world_device, &counts[i + 1]);
	}
	assert_true(counts[2].runs - counts[1].runs < counts[1].runs - counts[0].runs);
	scratch_same(model[0], model[1], "model.safetensors");
	assert_int_equal(scratch_count("cache"), 1);
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
		world_enter(&w, loss, model[i]);
		w.t.run.cache = i == 0 ? NULL : cache;
		w.t.seed = i == 1 ? 77 : 5;
		w.t.run.batch = i == 1 ? 3 : WORLD_BATCH;
		w.t.steps = i == 1 ? 2 * WORLD_STEPS : WORLD_STEPS;
		world_train_well(&w, &result);
		world_leave(&w);
	}
	scratch_same(model[0], model[2], "model.safetensors");
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
		world_enter(&w, "sigmoid:beta=0.3", NULL);
		w.t.run.cache = cache;
		w.t.run.precision = cases[i].policy;
		w.t.run.reference_precision = cases[i].reference;
		world_train_well(&w, &result);
		assert_true(same ? result.step0_check == 0.0 : result.step0_check > 1e-5 && result.step0_check < 0.2);
		assert_int_equal(w.precision_notes, !same);
		assert_true(fabs(w.first_loss - log(2.0)) <= (same ? 1e-6 : 0.1));
		assert_true(w.last_loss < w.first_loss);
		assert_int_equal(scratch_count("precisions"), cases[i].caches);
		world_leave(&w);
	}
}

static int open_world(void **state)
{
	(void)state;
	world_open("trainer");
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(policy_is_reference_before_the_first_step),
		cmocka_unit_test(reference_follows_the_policy),
		cmocka_unit_test(watches_watch),
		cmocka_unit_test(figures_of_the_watches),
		cmocka_unit_test(reference_is_computed_once),
		cmocka_unit_test(cache_has_no_memory),
		cmocka_unit_test(heads_have_a_precision),
	};
	return cmocka_run_group_tests(tests, open_world, world_close);
}
