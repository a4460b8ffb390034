/* The decoder in float: against double, with other numbers of threads, over a long sequence and in how much memory. */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include "tests/cmocka.h"
#include "tests/decoder_fixture.h"
#include "tests/model_shape.h"
#include "tests/worst.h"
#include "host/model/model.h"

static const struct pf_model_config tiled = { MODEL_SHAPE(50, 48, 2, 4, 2, 12, 80, 2048, 1e4, 1e-5, 1, -1, -1) };

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
	double worst = 0;
	(void)state;
	for (size_t i = 0; i < DECODER_SHAPES; i++) {
		const struct pf_model_config *c = decoder_shape(i);
		struct fixture f;
		struct single r;
		fixture_open(&f, c, long_lengths, 5);
		for (uint64_t j = 0; j < f.layout.size; j++)
			f.param[j] = (float)f.param[j];
		fixture_gradient(&f, c);
		memset(f.grad, 0, f.layout.size * sizeof *f.grad);
		for (size_t j = 0; j < (size_t)f.batch.tokens * c->dim; j++)
			f.dhidden[j] = (float)f.dhidden[j];
		fixture_forward(&f);
		assert_int_equal(pf_decoder_backward_f64(f.decoder, f.dhidden, f.grad, NULL), 0);
		single_run(&r, c, &f, 2);
		double far = distance(r.hidden, pf_decoder_hidden_f64(f.decoder),
		                      (uint64_t)f.batch.tokens * c->dim);
		for (unsigned k = 0; k < f.layout.tensors; k++) {
			const struct pf_tensor *t = &f.layout.tensor[k];
			if (t->role != PF_TENSOR_HEAD)
				far = worst_of(far, distance(r.grad + t->offset, f.grad + t->offset,
				                             pf_tensor_elements(t)));
		}
		assert_true(far <= (c->attention_cap > 0 ? capped : bound));
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
	fixture_gradient(&f, &tiled);
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
	fixture_gradient(&f, &c);
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_precision),
		cmocka_unit_test(test_threads),
		cmocka_unit_test(test_long),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
