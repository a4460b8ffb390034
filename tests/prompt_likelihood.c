/* Losses with the likelihood of prompts, through model, head and kernels, against a decoder in double (model_naive.c)
 * and the formulas of TRL's ORPOTrainer written here: the NLL is the mean over all tokens of the chosen sides but their
 * first, the odds ratio knows completions only. Values, and gradients by differences of that oracle: whatever the head,
 * the devices, the chunks and the accumulation; with prompts that are empty, and sequences cut at either end. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "tests/cmocka.h"
#include "tests/model_naive.h"
#include "tests/scratch.h"
#include "tests/world.h"
#include "host/model/random.h"
#include "host/train/run.h"

enum { PAIRS = 5, LONGEST = 64, DIRECTIONS = 6 };

static const struct { const char *prompt, *side[2]; } text[PAIRS] = {
	{ "ab c:", { " yes, gladly", " no" } }, { "", { "alone", "with nobody" } }, { "q", { "a", "bcd" } },
	{ "wide w:", { " x", " y, please" } },  { "1 + 1", { " = 2", " = 3 or so" } },
};
static const struct pf_cut cuts[] = {
	{ .max_length = LONGEST },
	{ .max_length = 10 },
	{ .max_length = 10, .mode = PF_KEEP_END },
	{ .max_length = LONGEST, .max_prompt = 3 },
};

/* ---- the oracle ---- */

enum form { ORPO, DPO, ALONE };        /* of what stands beside the likelihood of prompt and completion */
struct wish { const char *loss; enum form form; double beta, weight; };

/* Sums of log-probs of a sequence's completion and prompt, and their tokens */
struct sums { double own, prompt; int n, prompts; };

/* Tokens [from, to) of bos prompt completion eos survive; the completion's begin at `boundary` */
static int write_ids(const struct pf_cut *cut, int pair, int side, int32_t *ids, int *boundary)
{
	const char *prompt = text[pair].prompt, *completion = text[pair].side[side];
	int32_t all[2 * LONGEST] = { PF_BYTES_BOS };
	int count = 1, from = 0;
	for (; *prompt; prompt++)
		all[count++] = (unsigned char)*prompt;
	const int prompts = count;
	if (cut->max_prompt && prompts > (int)cut->max_prompt)
		from = prompts - (int)cut->max_prompt;
	for (; *completion; completion++)
		all[count++] = (unsigned char)*completion;
	all[count++] = PF_BYTES_EOS;
	const int excess = count - from - (int)cut->max_length;
	if (excess > 0 && cut->mode == PF_KEEP_END)
		from += excess;
	else if (excess > 0)
		count -= excess;
	*boundary = prompts > from ? prompts - from : 0;
	memcpy(ids, all + from, (size_t)(count - from) * sizeof *ids);
	return count - from;
}

static struct sums sum_up(const struct pf_model *m, const double *param, const struct pf_cut *cut, int pair, int side)
{
	int32_t ids[2 * LONGEST];
	double hidden[LONGEST * 16], own[LONGEST] = { 0 }, prompt[LONGEST] = { 0 };
	struct sums s = { 0 };
	int boundary;
	const int n = write_ids(cut, pair, side, ids, &boundary);
	assert_true(n <= LONGEST && m->config.dim == 16);
	for (int p = 0; p + 1 < n; p++) {
		*(p + 1 < boundary ? &prompt[p] : &own[p]) = 1;
		*(p + 1 < boundary ? &s.prompts : &s.n) += 1;
	}
	naive_hidden(&m->config, &m->layout, param, ids, n, hidden);
	s.own = naive_loss(&m->config, &m->layout, param, hidden, ids + 1, own, n - 1, NULL, NULL);
	s.prompt = naive_loss(&m->config, &m->layout, param, hidden, ids + 1, prompt, n - 1, NULL, NULL);
	return s;
}

static double softplus(double x)
{
	return fmax(x, 0) + log1p(exp(-fabs(x)));
}

static double log_odds(double mean)
{
	return mean - log(1 - exp(mean));
}

/* reference: sums of the reference policy, [PAIRS][2] */
static double oracle(const struct pf_model *m, const double *param, const struct pf_cut *cut, const struct wish *wish,
                     struct sums (*reference)[2])
{
	double beside = 0, logp = 0;
	int tokens = 0;
	for (int i = 0; i < PAIRS; i++) {
		const struct sums w = sum_up(m, param, cut, i, 0), l = sum_up(m, param, cut, i, 1);
		const double odds = log_odds(w.own / w.n) - log_odds(l.own / l.n);
		const double margin = (w.own - reference[i][0].own) - (l.own - reference[i][1].own);
		beside += wish->form == ORPO ? wish->beta * softplus(-odds)
		          : wish->form == DPO ? softplus(-wish->beta * margin)
		                              : 0;
		logp += w.own + w.prompt;
		tokens += w.n + w.prompts;
	}
	return beside / PAIRS - wish->weight * logp / tokens;
}

/* ---- what is compared ---- */

struct setting { const char *spec[2]; int logits; uint32_t chunk_tokens, batch, accumulate; };

struct computed { double loss, eval; float *gradient; };

static void read_params(const struct pf_model *m, double *param)
{
	for (uint64_t i = 0; i < m->layout.size; i++)
		param[i] = (double)m->param[i];
}

/* One step over all pairs, and their evaluation */
static void compute(struct world *w, const struct setting *s, struct computed *c)
{
	struct pf_device *device[2] = { NULL };
	struct pf_error error;
	struct pf_running r;
	struct pf_sampler sampler;
	struct pf_step facts;
	struct pf_tally tally;
	const struct pf_held held = { w->corpus, PF_SPLIT_TRAIN };
	struct pf_run run = w->t.run;
	run.device = device;
	for (run.devices = 0; run.devices < 2 && s->spec[run.devices]; run.devices++)
		if (pf_device_open(s->spec[run.devices], NULL, &device[run.devices], &error))
			fail_msg("%s", error.text);
	run.logits = s->logits;
	run.chunk_tokens = s->chunk_tokens;
	run.batch = s->batch;
	run.accumulate = s->accumulate;
	if (pf_running_open(&r, &run, w->model, 1, &error) ||
	    pf_running_sampler(&r, w->corpus, PF_SPLIT_TRAIN, 1, 1, s->accumulate, &sampler, &error) ||
	    pf_sampler_step(&sampler, 0, &r.pack, &facts, &error))
		fail_msg("%s", error.text);
	assert_int_equal(facts.groups, PAIRS);
	memset(c->gradient, 0, w->model->layout.size * sizeof *c->gradient);
	if (pf_step_run(&r.objective, &r.pack, &facts, c->gradient, &tally, &error))
		fail_msg("%s", error.text);
	c->loss = tally.loss;
	pf_running_close(&r);
	run.batch = PAIRS;
	if (pf_evaluate(&run, w->model, &held, NULL, NULL, &tally, &error))
		fail_msg("%s", error.text);
	c->eval = tally.loss;
	for (unsigned i = 0; i < run.devices; i++)
		pf_device_close(device[i]);
}

/* Slopes along the gradient and random directions: of the oracle by central differences */
static void compare_slopes(const struct world *w, const struct pf_cut *cut, const struct wish *wish,
                           struct sums (*reference)[2], const float *gradient, const char *what)
{
	const uint64_t size = w->model->layout.size;
	double *at = calloc(size, sizeof *at), *moved = calloc(size, sizeof *moved);
	double *along = calloc(size, sizeof *along);
	struct pf_random random;
	double length = 0;
	assert_true(at && moved && along);
	read_params(w->model, at);
	pf_random_seed(&random, 5, 1);
	for (uint64_t i = 0; i < size; i++)
		length += (double)gradient[i] * (double)gradient[i];
	length = sqrt(length);
	assert_true(length > 1e-3);
	for (int d = 0; d < DIRECTIONS; d++) {
		double norm = 0, slope = 0, side[2];
		for (uint64_t i = 0; i < size; i++) {
			along[i] = d ? pf_random_normal(&random) : (double)gradient[i];
			norm += along[i] * along[i];
		}
		for (uint64_t i = 0; i < size; i++)
			slope += along[i] / sqrt(norm) * (double)gradient[i];
		for (int k = 0; k < 2; k++) {
			for (uint64_t i = 0; i < size; i++)
				moved[i] = at[i] + (k ? -1e-5 : 1e-5) * along[i] / sqrt(norm);
			side[k] = oracle(w->model, moved, cut, wish, reference);
		}
		const double measured = (side[0] - side[1]) / 2e-5;
		if (!(fabs(measured - slope) <= 2e-5 * length))
			fail_msg("%s, direction %d: slope %.9g instead of %.9g, gradient of %.3g", what, d, slope,
			         measured, length);
	}
	free(at);
	free(moved);
	free(along);
}

static void write_pairs(void)
{
	static char lines[4096];
	size_t n = 0;
	for (int i = 0; i < PAIRS; i++)
		n += (size_t)snprintf(lines + n, sizeof lines - n,
		                      "{\"prompt\": \"%s\", \"chosen\": \"%s\", \"rejected\": \"%s\"}\n",
		                      text[i].prompt, text[i].side[0], text[i].side[1]);
	strcpy(world_pairs, scratch_text("prompts.jsonl", lines));
}

/* Away from the reference, where every term is at work */
static void prepare(struct world *w, const struct wish *wish, const struct pf_cut *cut, struct sums (*reference)[2])
{
	struct pf_random random;
	world_enter_cut(w, wish->loss, NULL, *cut);
	double *param = calloc(w->model->layout.size, sizeof *param);
	assert_non_null(param);
	read_params(w->reference, param);
	for (int i = 0; i < PAIRS; i++)
		for (int side = 0; side < 2; side++)
			reference[i][side] = sum_up(w->model, param, cut, i, side);
	free(param);
	pf_random_seed(&random, 11, 3);
	for (uint64_t i = 0; i < w->model->layout.size; i++)
		w->model->param[i] += 0.05f * (float)pf_random_normal(&random);
	pf_model_touch(w->model);
}

static void compare(const struct wish *wish, const struct pf_cut *cut, const struct setting *settings, size_t count)
{
	struct sums reference[PAIRS][2];
	struct world w;
	prepare(&w, wish, cut, reference);
	struct computed c = { .gradient = pf_floats_alloc(w.model->layout.size) };
	double *param = calloc(w.model->layout.size, sizeof *param);
	assert_true(param && c.gradient);
	read_params(w.model, param);
	const double want = oracle(w.model, param, cut, wish, reference);
	for (size_t k = 0; k < count; k++) {
		char what[256];
		const struct setting *s = &settings[k];
		snprintf(what, sizeof what, "%s, length %u, %s, setting %zu", wish->loss, cut->max_length,
		         cut->mode == PF_KEEP_END ? "end" : "start", k);
		compute(&w, s, &c);
		if (!(fabs(c.loss - want) <= 2e-6 * (1 + fabs(want)) && fabs(c.eval - want) <= 2e-6 * (1 + fabs(want))))
			fail_msg("%s: loss %.9g, evaluated %.9g, instead of %.9g", what, c.loss, c.eval, want);
		compare_slopes(&w, cut, wish, reference, c.gradient, what);
	}
	free(c.gradient);
	free(param);
	world_leave(&w);
}

/* ---- the tests ---- */

static const struct wish orpo = { "orpo_prompt:beta=0.3,nll_weight=0.7", ORPO, 0.3, 0.7 };

static void every_setting_computes_trls_orpo(void **state)
{
	static const struct setting settings[] = {
		{ { "cpu" }, 0, 0, PAIRS, 1 },        { { "sim" }, 0, 0, PAIRS, 1 },
		{ { "sim:*2" }, 0, 0, 2, 3 },         { { "sim" }, 1, 0, PAIRS, 1 },
		{ { "cpu" }, 1, 20, 1, PAIRS },       { { "cpu", "sim" }, 0, 20, 3, 2 },
		{ { "sim:*3", "sim" }, 1, 0, PAIRS, 1 },
	};
	(void)state;
	compare(&orpo, &cuts[0], settings, sizeof settings / sizeof *settings);
}

static void cut_sequences_score_what_is_left(void **state)
{
	static const struct setting settings[] = { { { "cpu" }, 0, 0, 2, 3 } };
	(void)state;
	for (size_t k = 1; k < sizeof cuts / sizeof *cuts; k++)
		compare(&orpo, &cuts[k], settings, 1);
}

static void prompts_go_with_other_losses(void **state)
{
	static const struct wish wishes[] = {
		{ "orpo:beta=0.3,nll_weight=0+sft_prompt:weight=0.7", ORPO, 0.3, 0.7 },
		{ "sigmoid:beta=0.5+sft_prompt:weight=0.25", DPO, 0.5, 0.25 },
		{ "sft_prompt", ALONE, 0, 1 },
	};
	static const struct setting settings[] = { { { "cpu" }, 0, 0, 2, 3 }, { { "sim" }, 1, 20, PAIRS, 1 } };
	(void)state;
	for (size_t k = 0; k < sizeof wishes / sizeof *wishes; k++)
		compare(&wishes[k], &cuts[0], settings, 2);
}

/* The reference is not asked for prompts: it is in the cache for losses without them, and the other way round */
static void caches_know_no_prompts(void **state)
{
	static const char *const losses[] = { "sigmoid", "sigmoid+sft_prompt" };
	struct pf_training_result result;
	struct world w;
	char cache[512];
	(void)state;
	strcpy(cache, scratch_path("prompts"));
	for (size_t k = 0; k < 2; k++) {
		world_enter(&w, losses[k], NULL);
		w.t.run.cache = cache;
		world_train_well(&w, &result);
		assert_true(result.step0_check == 0.0 && isfinite(w.last_loss));
		assert_int_equal(scratch_count("prompts"), 1);
		world_leave(&w);
	}
}

static int open_world(void **state)
{
	(void)state;
	world_open("prompt_likelihood");
	write_pairs();
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_setting_computes_trls_orpo),
		cmocka_unit_test(cut_sequences_score_what_is_left),
		cmocka_unit_test(prompts_go_with_other_losses),
		cmocka_unit_test(caches_know_no_prompts),
	};
	return cmocka_run_group_tests(tests, open_world, world_close);
}
