/* The decoder in double against an independent naive one, against numerical derivatives and against itself in another
 * packing; what it refuses. */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include "tests/cmocka.h"
#include "tests/decoder_fixture.h"
#include "tests/worst.h"
#include "host/model/model.h"

static double loss(struct fixture *f, const struct pf_model_config *c)
{
	fixture_forward(f);
	return naive_loss(c, &f->layout, f->param, pf_decoder_hidden_f64(f->decoder),
	                  f->batch.target, f->batch.coef, f->batch.tokens, NULL, NULL);
}

static void equals_naive(const struct pf_model_config *c, const int *lengths, int seqs)
{
	struct fixture f;
	fixture_open(&f, c, lengths, seqs);
	fixture_forward(&f);
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
	for (size_t i = 0; i < DECODER_SHAPES; i++) {
		equals_naive(decoder_shape(i), short_lengths, 5);
		equals_naive(decoder_shape(i), long_lengths, 5);
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
	const double h = c == &decoder_grouped || c == &decoder_tied || c == &decoder_wide
	                         ? 1e-3
	                         : 1e-4; /* caps and norms of few elements bend sharply */
	struct fixture f;
	fixture_open(&f, c, lengths, seqs);
	fixture_gradient(&f, c);
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
	derivatives(&decoder_grouped, short_lengths, 5, 1);
	derivatives(&decoder_tied, short_lengths, 5, 1);
	derivatives(&decoder_wide, short_lengths, 5, 97);
	derivatives(&decoder_grouped, long_lengths, 5, 397);
	derivatives(&decoder_tied, long_lengths, 5, 397);
	for (size_t i = DECODER_OWN; i < DECODER_SHAPES; i++) {
		derivatives(decoder_shape(i), short_lengths, 5, 11);
		derivatives(decoder_shape(i), long_lengths, 5, 1999);
	}
	print_message("gradient: largest relative difference %.1e\n", worst);
}

static void test_gaps_stay_zero(void **state)
{
	struct fixture f;
	(void)state;
	fixture_open(&f, &decoder_grouped, short_lengths, 5);
	fixture_gradient(&f, &decoder_grouped);
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
	fixture_gradient(&f, c);
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
	for (size_t i = 0; i < DECODER_SHAPES; i++)
		packing(decoder_shape(i));
}

static int refused(const struct pf_decoder_options *options, const int32_t *ids,
                   const uint32_t *offsets, uint32_t seqs, const char *word)
{
	struct pf_layout layout;
	struct pf_decoder *decoder = NULL;
	struct pf_error error = { 0 };
	float *param;
	assert_int_equal(pf_layout_init(&layout, &decoder_grouped, NULL), 0);
	param = pf_floats_alloc(layout.size);
	int code = pf_decoder_open(&decoder_grouped, &layout, options, &decoder, &error);
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
	fixture_open(&f, &decoder_tied, long_lengths, 5);
	const struct pf_decoder_options options = { (uint32_t)f.batch.tokens, 0, 2, 0 };
	assert_int_equal(pf_decoder_open_f64(&decoder_tied, &f.layout, &options, &light, NULL), 0);
	assert_true(pf_decoder_bytes_f64(light) * 2 < pf_decoder_bytes_f64(f.decoder));
	fixture_forward(&f);
	assert_int_equal(
	        pf_decoder_forward_f64(light, f.param, f.batch.ids, f.batch.offsets, 5, NULL), 0);
	assert_memory_equal(pf_decoder_hidden_f64(light), pf_decoder_hidden_f64(f.decoder),
	                    (size_t)f.batch.tokens * decoder_tied.dim * sizeof(double));
	pf_decoder_close_f64(light);
	fixture_close(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_naive),
		cmocka_unit_test(test_derivatives),
		cmocka_unit_test(test_gaps_stay_zero),
		cmocka_unit_test(test_packing),
		cmocka_unit_test(test_refusals),
		cmocka_unit_test(test_forward_only),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
