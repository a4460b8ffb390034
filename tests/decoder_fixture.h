/* decoder_fixture.h: a decoder in double with a batch and random parameters, in shapes of every family, for its tests.
 * What fails to open fails the test. */
#ifndef PF_TESTS_DECODER_FIXTURE_H
#define PF_TESTS_DECODER_FIXTURE_H
#include "tests/model_families.h"
#include "tests/model_naive.h"
#include "host/model/decoder.h"

/* Small shapes: these three, then one a family */
extern const struct pf_model_config decoder_grouped, decoder_tied, decoder_wide;
enum { DECODER_OWN = 3, DECODER_SHAPES = DECODER_OWN + FAMILIES };
const struct pf_model_config *decoder_shape(size_t i);

extern const int short_lengths[5];
extern const int long_lengths[5];      /* several blocks of queries and keys, and their edges */

struct fixture {
	struct pf_layout layout;
	double *param, *grad, *dhidden;
	struct naive_batch batch;
	struct pf_decoder_f64 *decoder;
};
/* Pair with fixture_close */
void fixture_open(struct fixture *f, const struct pf_model_config *c, const int *lengths, int seqs);
void fixture_close(struct fixture *f);
void fixture_forward(struct fixture *f);
/* Fills f->grad with body and head */
void fixture_gradient(struct fixture *f, const struct pf_model_config *c);
#endif
