#include "tests/decoder_fixture.h"
#include <stdlib.h>
#include "tests/cmocka.h"

/* vocab dim layers heads kv_heads head_dim ffn positions theta eps tied bos eos */
const struct pf_model_config decoder_grouped = { MODEL_SHAPE(13, 10, 2, 6, 2, 4, 7, 512, 1e4, 1e-5, 0, -1, -1) };
const struct pf_model_config decoder_tied = { MODEL_SHAPE(17, 12, 3, 2, 2, 6, 19, 512, 500, 1e-6, 1, -1, -1) };
const struct pf_model_config decoder_wide = { MODEL_SHAPE(11, 33, 1, 5, 1, 34, 37, 512, 1e6, 1e-5, 1, -1, -1) };

const struct pf_model_config *decoder_shape(size_t i)
{
	static const struct pf_model_config *const own[DECODER_OWN] = {
		&decoder_grouped, &decoder_tied, &decoder_wide
	};

	return i < DECODER_OWN ? own[i] : families[i - DECODER_OWN];
}

const int short_lengths[] = { 1, 5, 0, 9, 3 };
const int long_lengths[] = { 300, 1, 128, 129, 43 };

void fixture_open(struct fixture *f, const struct pf_model_config *c, const int *lengths, int seqs)
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

void fixture_close(struct fixture *f)
{
	pf_decoder_close_f64(f->decoder);
	pf_layout_fini(&f->layout);
	naive_batch_free(&f->batch);
	free(f->param);
	free(f->grad);
	free(f->dhidden);
}

void fixture_forward(struct fixture *f)
{
	struct pf_error error = { 0 };
	if (pf_decoder_forward_f64(f->decoder, f->param, f->batch.ids, f->batch.offsets,
	                           (uint32_t)f->batch.seqs, &error) != 0)
		fail_msg("%s", error.text);
}

void fixture_gradient(struct fixture *f, const struct pf_model_config *c)
{
	fixture_forward(f);
	naive_loss(c, &f->layout, f->param, pf_decoder_hidden_f64(f->decoder), f->batch.target,
	           f->batch.coef, f->batch.tokens, f->dhidden, f->grad);
	assert_int_equal(pf_decoder_backward_f64(f->decoder, f->dhidden, f->grad, NULL), 0);
}
