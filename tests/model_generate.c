/* Decoding with a cache equals the whole forward; sampling follows the distribution it is asked
 * for; batches, threads and prompts' lengths do not change what a sequence becomes; random numbers
 * are what their sources say. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "cmocka.h"
#include "host/model/decoder.h"
#include "host/model/model.h"
#include "host/model/sample.h"
#include "model_families.h"
#include "model_naive.h"

static const struct pf_model_config config = { MODEL_SHAPE(23, 20, 3, 4, 2, 6, 30, 256, 10000, 1e-5, 1, -1, 3) };

/* Feeds each of three sequences in uneven pieces, two or three at a time and in changing order, and
 * compares with forward */
static void extend(const struct pf_model_config *c)
{
	static const int lengths[] = { 140, 37, 200 };
	static const uint32_t pieces[][3] = {
		{ 1, 10, 130 }, { 5, 1, 1 }, { 0, 26, 29 }, { 134, 0, 40 }
	};
	static const uint32_t order[3] = { 2, 0, 1 };
	struct naive_batch b;
	struct pf_layout layout;
	struct pf_decoder_f64 *whole, *part;
	struct pf_cache_f64 *cache;
	const struct pf_decoder_options options = { 400, 0, 2, 0 };
	assert_int_equal(pf_layout_init(&layout, c, NULL), 0);
	naive_batch_fill(&b, lengths, 3, c->vocab, 5);
	double *param = malloc(layout.size * sizeof *param);
	naive_params(&layout, 0.4, 8, param);
	assert_int_equal(pf_decoder_open_f64(c, &layout, &options, &whole, NULL), 0);
	assert_int_equal(pf_decoder_open_f64(c, &layout, &options, &part, NULL), 0);
	assert_int_equal(pf_cache_open_f64(c, 3, 200, &cache, NULL), 0);
	assert_int_equal(pf_decoder_forward_f64(whole, param, b.ids, b.offsets, 3, NULL), 0);
	for (size_t i = 0; i < 4; i++) {
		uint32_t offsets[4] = { 0 }, from[3];
		int32_t ids[400];
		for (int j = 0; j < 3; j++) {
			const uint32_t s = order[j], n = pieces[i][s];
			from[j] = b.offsets[s] + pf_cache_length_f64(cache, s);
			memcpy(ids + offsets[j], b.ids + from[j], n * sizeof *ids);
			offsets[j + 1] = offsets[j] + n;
		}
		assert_int_equal(
		        pf_decoder_extend_f64(part, param, cache, order, ids, offsets, 3, NULL), 0);
		for (int j = 0; j < 3; j++)
			for (uint32_t k = 0; k < (offsets[j + 1] - offsets[j]) * c->dim; k++) {
				const double got = pf_decoder_hidden_f64(
				        part)[offsets[j] * c->dim + k];
				assert_true(fabs(got - pf_decoder_hidden_f64(
				                               whole)[from[j] * c->dim + k]) <=
				            1e-12);
			}
	}
	for (uint32_t i = 0; i < 3; i++)
		assert_int_equal(pf_cache_length_f64(cache, i), lengths[i]);
	pf_decoder_close_f64(whole);
	pf_decoder_close_f64(part);
	pf_cache_close_f64(cache);
	pf_layout_fini(&layout);
	naive_batch_free(&b);
	free(param);
}

static void test_extend(void **state)
{
	(void)state;
	extend(&config);
	for (int i = 0; i < FAMILIES; i++)
		extend(families[i]);
}

static void test_full_cache(void **state)
{
	static const int32_t ids[4] = { 1, 2, 3, 4 };
	static const uint32_t offsets[] = { 0, 3 }, slot = 0, outside = 1, four[] = { 0, 2 };
	struct pf_model *model;
	struct pf_decoder *decoder;
	struct pf_cache *cache;
	struct pf_error error = { 0 };
	const struct pf_decoder_options options = { 8, 0, 1, 0 };
	(void)state;
	assert_int_equal(pf_model_create(&config, 1, &model, NULL), 0);
	assert_int_equal(pf_decoder_open(&config, &model->layout, &options, &decoder, NULL), 0);
	assert_int_equal(pf_cache_open(&config, 1, 4, &cache, NULL), 0);
	assert_int_equal(
	        pf_decoder_extend(decoder, model->param, cache, &slot, ids, offsets, 1, NULL), 0);
	assert_int_equal(
	        pf_decoder_extend(decoder, model->param, cache, &slot, ids, four, 1, &error),
	        PF_E_SHAPE);
	assert_int_equal(
	        pf_decoder_extend(decoder, model->param, cache, &outside, ids, four, 1, &error),
	        PF_E_RANGE);
	assert_int_equal(pf_cache_length(cache, 0), 3);
	pf_cache_clear(cache, 0);
	assert_int_equal(
	        pf_decoder_extend(decoder, model->param, cache, &slot, ids, four, 1, &error), 0);
	pf_decoder_close(decoder);
	pf_cache_close(cache);
	pf_model_close(model);
}

enum { TEXTS = 70, TOKENS = 40 }; /* more than one group of slots */

struct texts {
	int32_t token[TEXTS][TOKENS];
	uint32_t count[TEXTS];
	uint32_t stop_after; /* ask to stop after so many; 0: never */
};

static int take(void *context, uint32_t sequence, int32_t token)
{
	struct texts *t = context;
	assert_true(sequence < TEXTS && t->count[sequence] < TOKENS);
	t->token[sequence][t->count[sequence]++] = token;
	return t->stop_after > 0 && t->count[sequence] >= t->stop_after;
}

static int32_t prompts[TEXTS * 30];
static uint32_t offsets[TEXTS + 1];

static void fill_prompts(void)
{
	unsigned seed = 3;
	for (uint32_t i = 0; i < TEXTS; i++) {
		offsets[i + 1] = offsets[i] + 1 + (uint32_t)((naive_random(&seed) + 1) * 14);
		for (uint32_t j = offsets[i]; j < offsets[i + 1]; j++)
			prompts[j] = (int32_t)((naive_random(&seed) + 1) / 2 * config.vocab);
	}
}

static struct pf_model *fixture(void)
{
	struct pf_model *model;
	assert_int_equal(pf_model_create(&config, 6, &model, NULL), 0);
	for (uint64_t i = 0; i < model->layout.size; i++)
		model->param[i] *= model->param[i] == 1.0f ? 1.0f : 3.0f; /* far from uniform */
	return model;
}

static void generate(const struct pf_model *model, const struct pf_sampling *s, struct texts *t)
{
	struct pf_error error = { 0 };
	if (pf_generate(model, s, prompts, offsets, TEXTS, take, t, &error) != 0)
		fail_msg("%s", error.text);
}

/* Greedy text is what repeated whole forwards choose */
static void test_greedy(void **state)
{
	const struct pf_sampling greedy = { 0, 1, 0, TOKENS, -1, 2 };
	struct pf_model *model = fixture();
	struct texts *t = calloc(1, sizeof *t);
	double *param = malloc(model->layout.size * sizeof *param), hidden[80 * 20];
	(void)state;
	for (uint64_t i = 0; i < model->layout.size; i++)
		param[i] = model->param[i];
	generate(model, &greedy, t);
	for (uint32_t i = 0; i < TEXTS; i += 13) {
		int32_t ids[80];
		int n = (int)(offsets[i + 1] - offsets[i]);
		memcpy(ids, prompts + offsets[i], (size_t)n * sizeof *ids);
		assert_int_equal(t->count[i], TOKENS);
		for (int k = 0; k < TOKENS; k++) {
			int32_t best = 0;
			double z[23] = { 0 };
			naive_hidden(&config, &model->layout, param, ids, n, hidden);
			for (int32_t v = 0; v < 23; v++) {
				for (int j = 0; j < 20; j++)
					z[v] += hidden[(n - 1) * 20 + j] *
					        param[model->layout.head + (size_t)v * 20 + j];
				best = z[v] > z[best] ? v : best;
			}
			assert_true(z[best] - z[t->token[i][k]] <=
			            1e-5); /* equal but for a tie within rounding */
			ids[n++] = t->token[i][k];
		}
	}
	free(param);
	free(t);
	pf_model_close(model);
}

static void test_repeats(void **state)
{
	struct pf_sampling s = { 0.8, 0.9, 42, TOKENS, -1, 1 };
	struct pf_model *model = fixture();
	struct texts *a = calloc(1, sizeof *a), *b = calloc(1, sizeof *b),
	             *c = calloc(1, sizeof *c);
	(void)state;
	generate(model, &s, a);
	s.threads = 3;
	generate(model, &s, b);
	assert_memory_equal(a->token, b->token, sizeof a->token);
	s.seed++;
	generate(model, &s, c);
	assert_true(memcmp(a->token, c->token, sizeof a->token) != 0);
	free(a);
	free(b);
	free(c);
	pf_model_close(model);
}

/* Sequences end at eos, at the caller's word, at max_tokens and at the model's last position */
static void test_ends(void **state)
{
	struct pf_sampling s = { 1, 1, 1, TOKENS, 3, 2 };
	struct pf_model *model = fixture();
	struct texts *t = calloc(1, sizeof *t);
	unsigned early = 0;
	(void)state;
	generate(model, &s, t);
	for (uint32_t i = 0; i < TEXTS; i++) {
		for (uint32_t k = 0; k + 1 < t->count[i]; k++)
			assert_int_not_equal(t->token[i][k], 3);
		assert_true(t->count[i] == TOKENS || t->token[i][t->count[i] - 1] == 3);
		early += t->count[i] < TOKENS;
	}
	assert_true(early > 0);
	memset(t, 0, sizeof *t);
	t->stop_after = 2;
	s.eos = -1;
	generate(model, &s, t);
	for (uint32_t i = 0; i < TEXTS; i++)
		assert_int_equal(t->count[i], 2);
	memset(t, 0, sizeof *t);
	model->config.max_positions = 30;
	generate(model, &s, t);
	for (uint32_t i = 0; i < TEXTS; i++) {
		const uint32_t left = 30 - (offsets[i + 1] - offsets[i]);
		assert_int_equal(t->count[i], left < TOKENS ? left : TOKENS);
	}
	free(t);
	pf_model_close(model);
}

static int refuse(void *context, uint32_t sequence, int32_t token)
{
	(void)context;
	(void)token;
	return sequence == 5 ? PF_E_INTERRUPTED : 0;
}

static void test_refusals(void **state)
{
	static const uint32_t empty[] = { 0, 2, 2 };
	struct pf_sampling s = { 1, 1, 1, 4, -1, 1 };
	struct pf_model *model = fixture();
	struct pf_error error = { 0 };
	(void)state;
	assert_int_equal(pf_generate(model, &s, prompts, empty, 2, refuse, NULL, &error),
	                 PF_E_DATA);
	assert_non_null(strstr(error.text, "prompt 1 is empty"));
	assert_int_equal(pf_generate(model, &s, prompts, offsets, TEXTS, refuse, NULL, &error),
	                 PF_E_INTERRUPTED);
	s.temperature = -1;
	assert_int_equal(pf_generate(model, &s, prompts, offsets, 1, refuse, NULL, &error),
	                 PF_E_RANGE);
	s.temperature = 1;
	s.top_p = 0;
	assert_int_equal(pf_generate(model, &s, prompts, offsets, 1, refuse, NULL, &error),
	                 PF_E_RANGE);
	s.top_p = 1;
	model->param[model->layout.norm] = NAN;
	assert_int_equal(pf_generate(model, &s, prompts, offsets, 1, refuse, NULL, &error),
	                 PF_E_NOT_FINITE);
	model->config.max_positions = offsets[1] - 1;
	assert_int_equal(pf_generate(model, &s, prompts, offsets, 1, refuse, NULL, &error),
	                 offsets[1] > 1 ? PF_E_SHAPE : PF_E_NOT_FINITE);
	pf_model_close(model);
}

/* Frequencies of 200,000 draws within 5 standard deviations; what top-p cuts never comes */
static void frequencies(const struct pf_sampling *s, const float *logits, const double *wanted)
{
	enum { DRAWS = 200000, V = 6 };
	struct pf_random random;
	struct pf_choice choice[V];
	double count[V] = { 0 };
	pf_random_seed(&random, 1, 2);
	for (int i = 0; i < DRAWS; i++) {
		int32_t token = -1;
		assert_int_equal(pf_sample(s, logits, V, &random, choice, &token), 0);
		assert_in_range(token, 0, V - 1);
		count[token]++;
	}
	for (int i = 0; i < V; i++)
		assert_true(fabs(count[i] - DRAWS * wanted[i]) <=
		            5 * sqrt(DRAWS * wanted[i] * (1 - wanted[i])));
}

static void test_sampling(void **state)
{
	static const float logits[] = { 1, -INFINITY, 2, 0, 2, -1 };
	double p[6], q[6], sum = 0, half = 0;
	struct pf_sampling s = { 1, 1, 0, 1, -1, 1 };
	(void)state;
	for (int i = 0; i < 6; i++) {
		sum += p[i] = exp(logits[i]);
		half += q[i] = exp(logits[i] / 0.5);
	}
	for (int i = 0; i < 6; i++) {
		p[i] /= sum;
		q[i] /= half;
	}
	frequencies(&s, logits, p);
	s.temperature = 0.5;
	frequencies(&s, logits, q);
	s.temperature = 1;
	s.top_p = 0.7; /* tokens 2 and 4 have 0.72 together */
	frequencies(&s, logits, (const double[]){ 0, 0, 0.5, 0, 0.5, 0 });
	s.top_p = 1e-9;
	frequencies(&s, logits, (const double[]){ 0, 0, 1, 0, 0, 0 });
	s.temperature = 0;
	frequencies(&s, logits, (const double[]){ 0, 0, 1, 0, 0, 0 });
}

/* xoshiro256**'s published first values from the state {1, 2, 3, 4}, and moments of what is made of
 * them */
static void test_random(void **state)
{
	static const uint64_t known[] = { 11520, 0, 1509978240, 1215971899390074240 };
	struct pf_random r = { { 1, 2, 3, 4 } }, copy;
	double mean = 0, square = 0, fourth = 0;
	(void)state;
	for (int i = 0; i < 4; i++)
		assert_true(pf_random_word(&r) == known[i]);
	pf_random_seed(&r, 7, 0);
	copy = r;
	assert_true(pf_random_word(&r) == pf_random_word(&copy));
	pf_random_seed(&copy, 7, 1);
	assert_true(memcmp(&r, &copy, sizeof r) != 0);
	for (int i = 0; i < 300000; i++) {
		const double x = pf_random_normal(&r);
		mean += x / 300000;
		square += x * x / 300000;
		fourth += x * x * x * x / 300000;
	}
	assert_true(fabs(mean) < 0.01 && fabs(square - 1) < 0.015 && fabs(fourth - 3) < 0.1);
	unsigned seen[3] = { 0 };
	for (int i = 0; i < 30000; i++)
		seen[pf_random_below(&r, 3)]++;
	for (int i = 0; i < 3; i++)
		assert_in_range(seen[i], 9500, 10500);
	for (int i = 0; i < 1000; i++) {
		const double u = pf_random_unit(&r);
		assert_true(u >= 0 && u < 1 && pf_random_below(&r, 1) == 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_extend),   cmocka_unit_test(test_full_cache),
		cmocka_unit_test(test_greedy),   cmocka_unit_test(test_repeats),
		cmocka_unit_test(test_ends),     cmocka_unit_test(test_refusals),
		cmocka_unit_test(test_sampling), cmocka_unit_test(test_random),
	};
	fill_prompts();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
