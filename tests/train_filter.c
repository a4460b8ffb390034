/* Training with --filter: the dropped mass in metrics.jsonl, its mean and its largest, against the rule of kernels.def
 * over probabilities that are computed here, in double, by the naive decoder. */
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "tests/cmocka.h"
#include "tests/model_naive.h"
#include "tests/model_shape.h"
#include "tests/scratch.h"
#include "tests/word_pairs.h"
#include "host/train/run.h"

enum { BATCH = 6, LENGTH = 64, DIM = 16, VOCAB = PF_BYTES_VOCAB, SHARE = (VOCAB + 3) / 4, BLOCK = 64, GROUP = 16 };
#define EPS 0.03

static int open_world(void **state)
{
	(void)state;
	return word_pairs_open("train_filter", BATCH, LENGTH);
}

/* Its head smaller than it is made: probabilities differ, but words that are no targets are below the limit */
static struct pf_model *make_model(void)
{
	const struct pf_model_config shape = {
		MODEL_SHAPE(VOCAB, DIM, 1, 2, 1, 8, 24, LENGTH, 1e4, 1e-5, 0, PF_BYTES_BOS, PF_BYTES_EOS)
	};
	struct pf_model *model;
	struct pf_error error;
	if (pf_model_create(&shape, 3, &model, &error))
		fail_msg("%s", error.text);
	for (uint64_t i = 0; i < (uint64_t)VOCAB * DIM; i++)
		model->param[model->layout.head + i] *= 0.4f;
	return model;
}

/* ---- what should be dropped ---- */

enum { TOKENS_MOST = 512 };
static double far[TOKENS_MOST][VOCAB];         /* |p - onehot| of scored token t */

/* The scored tokens of the pack, one after the other; returns how many */
static int find_far(const struct pf_model *model, const struct pf_pack *pack)
{
	static double hidden[LENGTH * DIM];
	double *param = malloc(model->layout.size * sizeof *param);
	int t = 0;
	assert_non_null(param);
	for (uint64_t i = 0; i < model->layout.size; i++)
		param[i] = (double)model->param[i];
	for (size_t q = 0; q < pack->sequences; q++) {
		const uint32_t from = pack->offsets[q];
		naive_hidden(&model->config, &model->layout, param, pack->ids.id + from,
		             (int)(pack->offsets[q + 1] - from), hidden);
		for (uint32_t k = pack->first[q]; k < pack->first[q] + pack->scored[q]; k++, t++) {
			double total = 0;
			assert_true(t < TOKENS_MOST);
			for (int v = 0; v < VOCAB; v++) {
				double z = 0;
				for (int d = 0; d < DIM; d++)
					z += hidden[(k - from) * DIM + (uint32_t)d] *
					     param[model->layout.head + (uint64_t)(v * DIM + d)];
				total += far[t][v] = exp(z);
			}
			for (int v = 0; v < VOCAB; v++)
				far[t][v] = fabs(far[t][v] / total - (v == pack->ids.id[k + 1]));
		}
	}
	free(param);
	return t;
}

struct dropped { double mean, most, words; };

/* 16 words of a port for 64 tokens go together; no group may be near the limit */
static struct dropped find_dropped(int tokens)
{
	static double mass[TOKENS_MOST];
	struct dropped d = { 0 };
	memset(mass, 0, sizeof mass);
	for (int b = 0; b < tokens; b += BLOCK)
		for (int first = 0, words; first < VOCAB; first += words) {
			const int left = SHARE - first % SHARE < GROUP ? SHARE - first % SHARE : GROUP;
			words = first + left < VOCAB ? left : VOCAB - first;
			const int end = b + BLOCK < tokens ? b + BLOCK : tokens;
			double largest = 0;
			for (int t = b; t < end; t++)
				for (int v = first; v < first + words; v++)
					largest = fmax(largest, far[t][v]);
			assert_true(largest < EPS / 1.01 || largest > EPS * 1.01);
			for (int t = b; t < end && largest < EPS; t++) {
				d.words += words;
				for (int v = first; v < first + words; v++)
					mass[t] += far[t][v];
			}
		}
	for (int t = 0; t < tokens; t++) {
		d.mean += mass[t] / tokens;
		d.most = fmax(d.most, mass[t]);
	}
	d.words /= tokens;
	return d;
}

/* ---- what training says ---- */

static double logged(const json_t *line, const char *key)
{
	const json_t *value = json_object_get(line, key);
	if (!value)
		fail_msg("metrics.jsonl has no %s", key);
	return json_number_value(value);
}

static void near(const char *what, double got, double want, double bound)
{
	if (!(fabs(got - want) <= bound))
		fail_msg("%s: %.9g, by the rule %.9g", what, got, want);
}

static json_t *first_step(const char *spec, float filter, struct dropped *want)
{
	struct pf_model *model = make_model();
	struct pf_device *device;
	struct pf_training_result result;
	struct pf_sampler sampler;
	struct pf_running running;
	struct pf_step facts;
	struct pf_error error;
	if (pf_device_open(spec, NULL, &device, &error))
		fail_msg("%s", error.text);
	const struct pf_training t = { .run = { .device = &device, .devices = 1, .max_length = LENGTH, .batch = BATCH,
			.accumulate = 1, .threads = 1, .loss = &word_pairs.loss, .uniform = 1, .filter = filter },
		.corpus = word_pairs.corpus, .steps = 1, .adamw = { 0.9, 0.999, 1e-8, 0.0, 1.0, 1 },
		.schedule = { PF_SCHEDULE_LINEAR, 1e-3, 0.0, 0, 1 }, .log = scratch_path("metrics.jsonl") };
	if (pf_running_describe(&running, &t.run, model, 1, &error) ||
	    pf_running_sampler(&running, word_pairs.corpus, PF_SPLIT_TRAIN, 0, 0, 1, &sampler, &error) ||
	    pf_sampler_step(&sampler, 0, &running.pack, &facts, &error))
		fail_msg("%s", error.text);
	*want = find_dropped(find_far(model, &running.pack));
	pf_running_close(&running);
	remove(t.log);
	if (pf_train(&t, model, &result, &error))
		fail_msg("%s: %s", spec, error.text);
	pf_model_close(model);
	pf_device_close(device);
	json_t *line = json_load_file(t.log, 0, NULL);         /* one step, one line */
	assert_non_null(line);
	return line;
}

static void the_dropped_mass_is_logged(void **state)
{
	static const char *const specs[] = { "sim", "sim:u55c*3", "cpu" };
	(void)state;
	for (size_t i = 0; i < sizeof specs / sizeof *specs; i++) {
		struct dropped want;
		json_t *line = first_step(specs[i], (float)EPS, &want);
		print_message("%s: %.4f dropped on average, at most %.4f, %.1f of %d words\n", specs[i], want.mean,
		              want.most, want.words, VOCAB);
		assert_true(want.mean > 0.1 && want.most > want.mean * 1.01);
		assert_true(want.words > 20 && want.words < VOCAB - 20);
		near("filter/dropped_mean", logged(line, "filter/dropped_mean"), want.mean, 1e-5 * want.mean);
		near("filter/dropped_max", logged(line, "filter/dropped_max"), want.most, 1e-5 * want.most);
		near("filter/words", logged(line, "filter/words"), want.words, 1e-9);
		json_decref(line);
	}
}

static void without_a_filter_nothing_is_said(void **state)
{
	struct dropped unused;
	(void)state;
	json_t *line = first_step("cpu", 0, &unused);
	assert_null(json_object_get(line, "filter/dropped_mean"));
	assert_null(json_object_get(line, "filter/dropped_max"));
	json_decref(line);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_dropped_mass_is_logged),
		cmocka_unit_test(without_a_filter_nothing_is_said),
	};
	return cmocka_run_group_tests(tests, open_world, word_pairs_close);
}
