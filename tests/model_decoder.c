/* The decoder against an independent naive one, against numerical derivatives, against itself in
 * another packing, in the other precision and with other numbers of threads. */
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "cmocka.h"
#include "host/model/decoder.h"
#include "host/model/model.h"
#include "model_families.h"
#include "model_naive.h"
#include "tests/worst.h"

/* vocab dim layers heads kv_heads head_dim ffn positions theta eps tied bos eos */
static const struct pf_model_config grouped = { MODEL_SHAPE(13, 10, 2, 6, 2, 4, 7, 512, 1e4, 1e-5, 0, -1, -1) };
static const struct pf_model_config tied = { MODEL_SHAPE(17, 12, 3, 2, 2, 6, 19, 512, 500, 1e-6, 1, -1, -1) };
static const struct pf_model_config wide = { MODEL_SHAPE(11, 33, 1, 5, 1, 34, 37, 512, 1e6, 1e-5, 1, -1, -1) };
static const struct pf_model_config tiled = { MODEL_SHAPE(50, 48, 2, 4, 2, 12, 80, 2048, 1e4, 1e-5, 1, -1, -1) };
static const struct pf_model_config *const configs[] = {
	&grouped,        &tied,          &wide,           &family_qwen3,  &family_qwen2,
	&family_llama3,  &family_linear, &family_mistral, &family_gemma2, &family_gpt2,
};
enum { CONFIGS = sizeof configs / sizeof *configs };

static const int short_lengths[] = { 1, 5, 0, 9, 3 };
/* Several blocks of queries and keys, and their edges */
static const int long_lengths[] = { 300, 1, 128, 129, 43 };

struct fixture {
	struct pf_layout layout;
	double *param, *grad, *dhidden;
	struct naive_batch batch;
	struct pf_decoder_f64 *decoder;
};

static void fixture_open(struct fixture *f, const struct pf_model_config *c, const int *lengths,
                         int seqs)
{
	assert_int_equal(pf_layout_init(&f->layout, c, NULL), 0);
	naive_batch_fill(&f->batch, lengths, seqs, c->vocab, 7);
	f->param = malloc(f->layout.size * sizeof *f->param);
	f->grad = calloc(f->layout.size, sizeof *f->grad);
	f->dhidden = calloc((size_t)f->batch.tokens * c->dim + 1, sizeof *f->dhidden);
	naive_params(&f->layout, 0.5, 3, f->param);
	const struct pf_decoder_options options = { (uint32_t)f->batch.tokens, 0, 1, 1 };
	struct pf_error error = { 0 };
	if (pf_decoder_open_f64(c, &f->layout, &options, &f->decoder, &error) != 0)
		fail_msg("%s", error.text);
}

static void fixture_close(struct fixture *f)
{
	pf_decoder_close_f64(f->decoder);
	pf_layout_fini(&f->layout);
	naive_batch_free(&f->batch);
	free(f->param);
	free(f->grad);
	free(f->dhidden);
}

static void forward(struct fixture *f)
{
	struct pf_error error = { 0 };
	if (pf_decoder_forward_f64(f->decoder, f->param, f->batch.ids, f->batch.offsets,
	                           (uint32_t)f->batch.seqs, &error) != 0)
		fail_msg("%s", error.text);
}

static double loss(struct fixture *f, const struct pf_model_config *c)
{
	forward(f);
	return naive_loss(c, &f->layout, f->param, pf_decoder_hidden_f64(f->decoder),
	                  f->batch.target, f->batch.coef, f->batch.tokens, NULL, NULL);
}

/* Fills f->grad with body and head */
static void gradient(struct fixture *f, const struct pf_model_config *c)
{
	forward(f);
	naive_loss(c, &f->layout, f->param, pf_decoder_hidden_f64(f->decoder), f->batch.target,
	           f->batch.coef, f->batch.tokens, f->dhidden, f->grad);
	assert_int_equal(pf_decoder_backward_f64(f->decoder, f->dhidden, f->grad, NULL), 0);
}

static void equals_naive(const struct pf_model_config *c, const int *lengths, int seqs)
{
	struct fixture f;
	fixture_open(&f, c, lengths, seqs);
	forward(&f);
	const double *hidden = pf_decoder_hidden_f64(f.decoder);
	double *wanted = malloc(((size_t)f.batch.tokens * c->dim + 1) * sizeof *wanted);
	for (int i = 0; i < seqs; i++)
		naive_hidden(c, &f.layout, f.param, f.batch.ids + f.batch.offsets[i], lengths[i],
		             wanted + (size_t)f.batch.offsets[i] * c->dim);
	for (size_t i = 0; i < (size_t)f.batch.tokens * c->dim; i++)
		if (!(fabs(hidden[i] - wanted[i]) <= 1e-12 * (1 + fabs(wanted[i]))))
			fail_msg("dim %u: element %zu: %.17g, naive %.17g", c->dim, i, hidden[i],
			         wanted[i]);
	free(wanted);
	fixture_close(&f);
}

static void test_naive(void **state)
{
	(void)state;
	for (size_t i = 0; i < CONFIGS; i++) {
		equals_naive(configs[i], short_lengths, 5);
		equals_naive(configs[i], long_lengths, 5);
	}
}

/* Five-point derivative along a direction (one element: index >= 0; else the whole tensor) */
static double numeric(struct fixture *f, const struct pf_model_config *c, const struct pf_tensor *t,
                      long index, double h)
{
	static const double at[] = { -2, -1, 1, 2 }, weight[] = { 1, -8, 8, -1 };
	const uint64_t count = pf_tensor_elements(t);
	double *p = f->param + t->offset, *kept = malloc(count * sizeof *kept), sum = 0;
	memcpy(kept, p, count * sizeof *kept);
	for (int k = 0; k < 4; k++) {
		unsigned seed = 5;
		for (uint64_t i = 0; i < count; i++) {
			const double direction = index < 0 ? naive_random(&seed)
			                                   : (double)((long)i == index);
			p[i] = kept[i] + at[k] * h * direction;
		}
		sum += weight[k] * loss(f, c);
	}
	memcpy(p, kept, count * sizeof *kept);
	free(kept);
	return sum / (12 * h);
}

static double along(const double *grad, uint64_t count)
{
	unsigned seed = 5;
	double sum = 0;
	for (uint64_t i = 0; i < count; i++)
		sum += grad[i] * naive_random(&seed);
	return sum;
}

static double largest(const double *x, uint64_t count)
{
	double most = 0;
	for (uint64_t i = 0; i < count; i++)
		most = worst_of(most, fabs(x[i]));
	return most;
}

static double worst; /* over a test, printed with it */

static void near(double got, double wanted, double scale, const char *what, long index)
{
	const double error = fabs(got - wanted) / scale;
	if (!(error <= 1e-6))
		fail_msg("%s[%ld]: %.12g, numerically %.12g", what, index, got, wanted);
	worst = worst_of(worst, error);
}

/* Every tensor along a random direction, and each (step 1) or each step-th of its elements alone */
static void derivatives(const struct pf_model_config *c, const int *lengths, int seqs, long step)
{
	const double h = c == &grouped || c == &tied || c == &wide
	                         ? 1e-3
	                         : 1e-4; /* caps and norms of few elements bend sharply */
	struct fixture f;
	fixture_open(&f, c, lengths, seqs);
	gradient(&f, c);
	for (unsigned i = 0; i < f.layout.tensors; i++) {
		const struct pf_tensor *t = &f.layout.tensor[i];
		const double *grad = f.grad + t->offset;
		const uint64_t count = pf_tensor_elements(t);
		const double most = largest(grad, count);
		assert_true(most > 1e-4 || t->role == PF_TENSOR_BIAS); /* every tensor takes part */
		const double wanted = numeric(&f, c, t, -1, h);
		near(along(grad, count), wanted, fmax(fabs(wanted), most), t->name, -1);
		for (long j = (long)i % step; j < (long)count; j += step) {
			const double w = numeric(&f, c, t, j, h);
			near(grad[j], w, fmax(fabs(w), 0.01 * most), t->name, j);
		}
	}
	fixture_close(&f);
}

static void test_derivatives(void **state)
{
	(void)state;
	worst = 0;
	derivatives(&grouped, short_lengths, 5, 1);
	derivatives(&tied, short_lengths, 5, 1);
	derivatives(&wide, short_lengths, 5, 97);
	derivatives(&grouped, long_lengths, 5, 397);
	derivatives(&tied, long_lengths, 5, 397);
	for (size_t i = 3; i < CONFIGS; i++) {
		derivatives(configs[i], short_lengths, 5, 11);
		derivatives(configs[i], long_lengths, 5, 1999);
	}
	print_message("gradient: largest relative difference %.1e\n", worst);
}

static void test_gaps_stay_zero(void **state)
{
	struct fixture f;
	(void)state;
	fixture_open(&f, &grouped, short_lengths, 5);
	gradient(&f, &grouped);
	for (unsigned i = 0; i < f.layout.tensors; i++)
		memset(f.grad + f.layout.tensor[i].offset, 0,
		       pf_tensor_elements(&f.layout.tensor[i]) * sizeof *f.grad);
	assert_true(largest(f.grad, f.layout.size) == 0.0);
	fixture_close(&f);
}

/* Gradients add up, and one sequence at a time gives what the packed batch gives */
static void packing(const struct pf_model_config *c)
{
	struct fixture f;
	fixture_open(&f, c, long_lengths, 5);
	gradient(&f, c);
	const size_t elements = (size_t)f.batch.tokens * c->dim;
	double *sum = calloc(f.layout.size, sizeof *sum), *again = calloc(elements, sizeof *again);
	double *hidden = malloc(elements * sizeof *hidden);
	memcpy(hidden, pf_decoder_hidden_f64(f.decoder), elements * sizeof *hidden);
	naive_loss(c, &f.layout, f.param, hidden, f.batch.target, f.batch.coef, f.batch.tokens,
	           again, sum);
	for (int s = 0; s < 5; s++) {
		const uint32_t at = f.batch.offsets[s],
		               offsets[2] = { 0, f.batch.offsets[s + 1] - at };
		assert_int_equal(pf_decoder_forward_f64(f.decoder, f.param, f.batch.ids + at,
		                                        offsets, 1, NULL),
		                 0);
		for (size_t j = 0; j < (size_t)offsets[1] * c->dim; j++)
			assert_true(fabs(pf_decoder_hidden_f64(f.decoder)[j] -
			                 hidden[at * c->dim + j]) <= 1e-12);
		assert_int_equal(
		        pf_decoder_backward_f64(f.decoder, f.dhidden + at * c->dim, sum, NULL), 0);
	}
	for (uint64_t j = 0; j < f.layout.size; j++)
		assert_true(fabs(sum[j] - f.grad[j]) <= 1e-11 * (1 + fabs(f.grad[j])));
	free(sum);
	free(again);
	free(hidden);
	fixture_close(&f);
}

static void test_packing(void **state)
{
	(void)state;
	for (size_t i = 0; i < CONFIGS; i++)
		packing(configs[i]);
}

/* A run in float, from the double fixture's parameters and gradient of the hidden states */
struct single {
	float *param, *grad, *dhidden, *hidden;
	uint64_t bytes;
};

static void single_run(struct single *r, const struct pf_model_config *c, const struct fixture *f,
                       unsigned threads)
{
	const size_t elements = (size_t)f->batch.tokens * c->dim;
	struct pf_decoder *decoder;
	const struct pf_decoder_options options = { (uint32_t)f->batch.tokens, 0, threads, 1 };
	r->param = pf_floats_alloc(f->layout.size);
	r->grad = pf_floats_alloc(f->layout.size);
	r->dhidden = pf_floats_alloc(elements);
	r->hidden = pf_floats_alloc(elements);
	for (uint64_t i = 0; i < f->layout.size; i++)
		r->param[i] = (float)f->param[i];
	for (size_t i = 0; i < elements; i++)
		r->dhidden[i] = (float)f->dhidden[i];
	assert_int_equal(pf_decoder_open(c, &f->layout, &options, &decoder, NULL), 0);
	r->bytes = pf_decoder_bytes(decoder);
	assert_int_equal(pf_decoder_forward(decoder, r->param, f->batch.ids, f->batch.offsets,
	                                    (uint32_t)f->batch.seqs, NULL),
	                 0);
	memcpy(r->hidden, pf_decoder_hidden(decoder), elements * sizeof *r->hidden);
	assert_int_equal(pf_decoder_backward(decoder, r->dhidden, r->grad, NULL), 0);
	pf_decoder_close(decoder);
}

static void single_free(struct single *r)
{
	free(r->param);
	free(r->grad);
	free(r->dhidden);
	free(r->hidden);
}

static double distance(const float *a, const double *b, uint64_t count)
{
	double difference = 0, length = 0;
	for (uint64_t i = 0; i < count; i++) {
		difference += (a[i] - b[i]) * (a[i] - b[i]);
		length += b[i] * b[i];
	}
	return sqrt(difference / length);
}

/* Hidden states and every tensor's gradient, as vectors, within 64 u of double: a few roundings a
 * layer; twice as much through caps, where scores of both signs saturate */
static void test_precision(void **state)
{
	const double bound = 64 * 0x1p-24, capped = 128 * 0x1p-24;
	(void)state;
	worst = 0;
	for (size_t i = 0; i < CONFIGS; i++) {
		struct fixture f;
		struct single r;
		fixture_open(&f, configs[i], long_lengths, 5);
		for (uint64_t j = 0; j < f.layout.size; j++)
			f.param[j] = (float)f.param[j];
		gradient(&f, configs[i]);
		memset(f.grad, 0, f.layout.size * sizeof *f.grad);
		for (size_t j = 0; j < (size_t)f.batch.tokens * configs[i]->dim; j++)
			f.dhidden[j] = (float)f.dhidden[j];
		forward(&f);
		assert_int_equal(pf_decoder_backward_f64(f.decoder, f.dhidden, f.grad, NULL), 0);
		single_run(&r, configs[i], &f, 2);
		double far = distance(r.hidden, pf_decoder_hidden_f64(f.decoder),
		                      (uint64_t)f.batch.tokens * configs[i]->dim);
		for (unsigned k = 0; k < f.layout.tensors; k++) {
			const struct pf_tensor *t = &f.layout.tensor[k];
			if (t->role != PF_TENSOR_HEAD)
				far = worst_of(far, distance(r.grad + t->offset, f.grad + t->offset,
				                             pf_tensor_elements(t)));
		}
		assert_true(far <= (configs[i]->attention_cap > 0 ? capped : bound));
		worst = worst_of(worst, far);
		single_free(&r);
		fixture_close(&f);
	}
	print_message("float to double: %.1f u\n", worst * 0x1p24);
}

/* A batch large enough for several tiles: any number of threads gives the same bits, and so does a
 * second run */
static void test_threads(void **state)
{
	static const int lengths[] = { 700, 3, 129, 511, 64, 1, 300 };
	static const unsigned threads[] = { 1, 2, 3, 2 };
	struct fixture f;
	struct single first, r;
	(void)state;
	fixture_open(&f, &tiled, lengths, 7);
	gradient(&f, &tiled);
	single_run(&first, &tiled, &f, threads[0]);
	for (size_t i = 1; i < 4; i++) {
		single_run(&r, &tiled, &f, threads[i]);
		assert_memory_equal(r.hidden, first.hidden,
		                    (size_t)f.batch.tokens * tiled.dim * sizeof(float));
		assert_memory_equal(r.grad, first.grad, f.layout.size * sizeof(float));
		single_free(&r);
	}
	single_free(&first);
	fixture_close(&f);
}

static uint64_t workspace(const struct pf_model_config *c, const struct pf_layout *layout,
                          uint32_t tokens)
{
	struct pf_decoder *decoder;
	const struct pf_decoder_options options = { tokens, 0, 1, 1 };
	assert_int_equal(pf_decoder_open(c, layout, &options, &decoder, NULL), 0);
	uint64_t bytes = pf_decoder_bytes(decoder);
	pf_decoder_close(decoder);
	return bytes;
}

/* One sequence of 4096 tokens against the naive decoder, in a workspace that grows with the length
 * and no faster */
static void test_long(void **state)
{
	static const struct pf_model_config c = { MODEL_SHAPE(7, 8, 1, 2, 1, 4, 8, 8192, 10000, 1e-5, 1, -1, -1) };
	static const int lengths[] = { 4096 };
	struct fixture f;
	struct single r;
	(void)state;
	fixture_open(&f, &c, lengths, 1);
	gradient(&f, &c);
	single_run(&r, &c, &f, 2);
	double *wanted = malloc(4096 * 8 * sizeof *wanted);
	naive_hidden(&c, &f.layout, f.param, f.batch.ids, 4096, wanted);
	for (size_t i = 0; i < 4096 * 8; i++)
		assert_true(fabs(r.hidden[i] - wanted[i]) <= 2e-5);
	const uint64_t at1 = workspace(&c, &f.layout, 2048), at2 = workspace(&c, &f.layout, 4096);
	const uint64_t at4 = workspace(&c, &f.layout, 8192);
	assert_true(at4 - at2 <= 2 * (at2 - at1) + 4096);
	free(wanted);
	single_free(&r);
	fixture_close(&f);
}

static int refused(const struct pf_decoder_options *options, const int32_t *ids,
                   const uint32_t *offsets, uint32_t seqs, const char *word)
{
	struct pf_layout layout;
	struct pf_decoder *decoder = NULL;
	struct pf_error error = { 0 };
	float *param;
	assert_int_equal(pf_layout_init(&layout, &grouped, NULL), 0);
	param = pf_floats_alloc(layout.size);
	int code = pf_decoder_open(&grouped, &layout, options, &decoder, &error);
	if (code == 0)
		code = pf_decoder_forward(decoder, param, ids, offsets, seqs, &error);
	if (code == 0)
		code = pf_decoder_backward(decoder, param, param, &error);
	pf_decoder_close(decoder);
	pf_layout_fini(&layout);
	free(param);
	return code < 0 && strstr(error.text, word) != NULL;
}

static void test_refusals(void **state)
{
	static const int32_t ids[] = { 1, 2, 3, 4 }, outside[] = { 1, 13, 0, 0 },
	                     below[] = { 1, -1, 0, 0 };
	static const uint32_t good[] = { 0, 2, 4 }, late[] = { 1, 2, 4 }, down[] = { 0, 3, 2 },
	                      much[] = { 0, 2, 9 };
	const struct pf_decoder_options normal = { 4, 0, 1, 1 }, none = { 0, 0, 1, 1 },
	                                longer = { 4, 513, 1, 1 };
	const struct pf_decoder_options brief = { 4, 2, 1, 1 }, forward_only = { 4, 0, 1, 0 };
	const uint32_t whole[] = { 0, 4 };
	(void)state;
	assert_true(refused(&normal, outside, good, 2, "id 13"));
	assert_true(refused(&normal, below, good, 2, "id -1"));
	assert_true(refused(&normal, ids, late, 2, "first offset"));
	assert_true(refused(&normal, ids, down, 2, "ascend"));
	assert_true(refused(&normal, ids, much, 2, "ascend"));
	assert_true(refused(&none, ids, good, 2, "max_tokens"));
	assert_true(refused(&longer, ids, good, 2, "max_position_embeddings"));
	assert_true(refused(&brief, ids, whole, 1, "at most 2"));
	assert_true(refused(&forward_only, ids, good, 2, "keeps activations"));
	assert_false(refused(&normal, ids, good, 2, ""));
	assert_false(refused(&normal, ids, good, 0, ""));
}

/* Without activations for the way back the results are the same and the workspace is smaller */
static void test_forward_only(void **state)
{
	struct fixture f;
	struct pf_decoder_f64 *light;
	(void)state;
	fixture_open(&f, &tied, long_lengths, 5);
	const struct pf_decoder_options options = { (uint32_t)f.batch.tokens, 0, 2, 0 };
	assert_int_equal(pf_decoder_open_f64(&tied, &f.layout, &options, &light, NULL), 0);
	assert_true(pf_decoder_bytes_f64(light) * 2 < pf_decoder_bytes_f64(f.decoder));
	forward(&f);
	assert_int_equal(
	        pf_decoder_forward_f64(light, f.param, f.batch.ids, f.batch.offsets, 5, NULL), 0);
	assert_memory_equal(pf_decoder_hidden_f64(light), pf_decoder_hidden_f64(f.decoder),
	                    (size_t)f.batch.tokens * tied.dim * sizeof(double));
	pf_decoder_close_f64(light);
	fixture_close(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_naive),          cmocka_unit_test(test_derivatives),
		cmocka_unit_test(test_gaps_stay_zero), cmocka_unit_test(test_packing),
		cmocka_unit_test(test_precision),      cmocka_unit_test(test_threads),
		cmocka_unit_test(test_long),           cmocka_unit_test(test_refusals),
		cmocka_unit_test(test_forward_only),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
