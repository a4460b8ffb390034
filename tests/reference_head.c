/* The reference's head in a training whose cache has its log-probs: it leaves the card, and a card whose image lacks
 * its kernel trains to the same bits; without the cache that card names the kernel. card_images_low.sh has the
 * program's way there, with images. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "tests/head_numbers.h"
#include "tests/scratch.h"
#include "tests/wrap.h"
#include "tests/word_pairs.h"
#include "host/train/run.h"

enum { BATCH = 4, STEPS = 6, LENGTH = 48, DIM = 32 };
extern const struct pf_backend pf_backend_sim;

static int open_world(void **state)
{
	(void)state;
	return word_pairs_open("reference_head", 3 * BATCH, LENGTH);       /* an epoch is half of the training */
}

static struct pf_model *make_model(void)
{
	const struct pf_model_config shape = { .vocab = PF_BYTES_VOCAB, .dim = DIM, .layers = 1, .heads = 2,
		.kv_heads = 1, .head_dim = 16, .ffn = 24, .max_positions = LENGTH, .rope_theta = 1e4,
		.norm_eps = 1e-5, .tied = 1, .bos = PF_BYTES_BOS, .eos = PF_BYTES_EOS };
	struct pf_model *model;
	struct pf_error error;
	if (pf_model_create(&shape, 3, &model, &error))
		fail_msg("%s", error.text);
	return model;
}

/* A card without the reference's kernel */
static struct pf_device *open_lacking(void)
{
	struct pf_device *device;
	struct pf_error error = { 0 };
	wrap_reset(&pf_backend_sim);
	wrap_lack(pf_kernel_set("linear_logprob_mxint8"));
	if (pf_device_open_backend(wrap_backend(), "u55c*1", NULL, &device, &error))
		fail_msg("%s", error.text);
	return device;
}

/* The policy in bf16, its reference in mxint8 */
static struct pf_training training(struct pf_device **device, const struct pf_model *reference, const char *cache)
{
	return (struct pf_training){ .run = { .device = device, .devices = 1, .max_length = LENGTH, .batch = BATCH,
			.accumulate = 1, .threads = 1, .precision = PF_PRECISION_BF16,
			.reference_precision = PF_PRECISION_MXINT8, .loss = &word_pairs.loss, .reference = reference,
			.cache = cache },
		.corpus = word_pairs.corpus, .seed = 5, .steps = STEPS, .shuffle = 1,
		.adamw = { 0.9, 0.999, 1e-8, 0.0, 1.0, 1 },
		.schedule = { PF_SCHEDULE_LINEAR, 1e-3, 0.0, 0, STEPS } };
}

/* Trains a model of its own, which is returned */
static struct pf_model *train(struct pf_device *device, const char *cache, struct pf_training_result *result,
                              struct pf_error *error, int *code)
{
	struct pf_model *reference = make_model(), *model = pf_model_reference(reference);
	const struct pf_training t = training(&device, reference, cache);
	*code = pf_train(&t, model, result, error);
	pf_model_close(reference);
	return model;
}

static void a_card_without_its_kernel_trains(void **state)
{
	struct pf_device *whole = open_device("sim:u55c*1"), *lacking = open_lacking();
	char full[512], empty[512];
	struct pf_training_result result;
	struct pf_error error = { 0 };
	int code;
	(void)state;
	snprintf(full, sizeof full, "%s", scratch_path("cache"));
	snprintf(empty, sizeof empty, "%s", scratch_path("empty"));
	pf_model_close(train(lacking, empty, &result, &error, &code));
	assert_int_equal(code, PF_E_UNSUPPORTED);
	assert_non_null(strstr(error.text, "no kernel linear_logprob_mxint8"));
	struct pf_model *want = train(whole, full, &result, &error, &code);
	assert_int_equal(code, 0);
	assert_true(result.step0_check > 0);           /* bf16 and mxint8 differ */
	struct pf_model *got = train(lacking, full, &result, &error, &code);
	if (code)
		fail_msg("%s", error.text);
	assert_true(isnan(result.step0_check));
	assert_memory_equal(got->param, want->param, want->layout.size * sizeof *want->param);
	pf_model_close(want);
	pf_model_close(got);
	pf_device_close(whole);
	pf_device_close(lacking);
}

/* Bytes of W that a look at both heads moves to the card, beyond what it always does */
static uint64_t look(struct pf_running *r, struct pf_device *device)
{
	struct pf_device_counts before, after;
	struct pf_error error = { 0 };
	double largest;
	pf_device_counts(device, &before);
	if (pf_step_check(&r->objective, &r->pack, &largest, &error))
		fail_msg("%s", error.text);
	pf_device_counts(device, &after);
	return after.bytes_in - before.bytes_in;
}

static void a_step_out_of_the_cache_takes_it_off_the_card(void **state)
{
	struct pf_device *device = open_device("sim:u55c*1");
	struct pf_model *reference = make_model(), *model = pf_model_reference(reference);
	char folder[512];
	snprintf(folder, sizeof folder, "%s", scratch_path("steps"));
	const struct pf_training t = training(&device, reference, folder);
	const uint64_t w = PF_BYTES_VOCAB * pf_precision_row_bytes(PF_PRECISION_MXINT8, DIM);
	float *gradient = calloc(model->layout.size, sizeof *gradient);
	struct pf_reference *cache;
	struct pf_sampler sampler;
	struct pf_running r;
	struct pf_step facts;
	struct pf_tally tally;
	struct pf_error error = { 0 };
	(void)state;
	if (pf_running_open(&r, &t.run, model, 1, &error) ||
	    pf_running_cache(&r, word_pairs.corpus, PF_SPLIT_TRAIN, &cache, &error) ||
	    pf_running_sampler(&r, word_pairs.corpus, PF_SPLIT_TRAIN, 0, 0, 1, &sampler, &error) ||
	    pf_sampler_step(&sampler, 0, &r.pack, &facts, &error))
		fail_msg("%s", error.text);
	r.objective.cache = cache;
	look(&r, device);
	const uint64_t always = look(&r, device);      /* both are there */
	assert_int_equal(pf_step_run(&r.objective, &r.pack, &facts, gradient, &tally, &error), 0);
	assert_int_equal(look(&r, device), always);    /* that step computed the reference */
	assert_int_equal(pf_step_cached(&r.objective, &r.pack, &error), 1);
	assert_int_equal(pf_step_run(&r.objective, &r.pack, &facts, NULL, &tally, &error), 0);
	assert_int_equal(look(&r, device), always);    /* evaluations decide nothing */
	assert_int_equal(pf_step_run(&r.objective, &r.pack, &facts, gradient, &tally, &error), 0);
	assert_int_equal(look(&r, device), always + w);
	pf_reference_close(cache);
	pf_running_close(&r);
	free(gradient);
	pf_model_close(model);
	pf_model_close(reference);
	pf_device_close(device);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_card_without_its_kernel_trains),
		cmocka_unit_test(a_step_out_of_the_cache_takes_it_off_the_card),
	};
	return cmocka_run_group_tests(tests, open_world, word_pairs_close);
}
