/* decoder.h: the policy body: token ids in, final hidden states out, and the gradient back.
 *
 * One decoder for all families: which norm, MLP, positions, biases, caps and windows is data in the
 * model's config; the default is Llama's RMSNorm, rotary positions (the two halves of a head rotate
 * together, as in Hugging Face's files), grouped-query attention, SwiGLU. Sequences lie packed, ids[N] with offsets[B +
 * 1]; attention and positions never cross them. Attention works on blocks with an online softmax and
 * forms its scores again on the way back, so no memory is proportional to the square of a length.
 * The head is not part of the body: see logits.h.
 *
 * Everything exists for float (pf_decoder, ...) and for double (pf_decoder_f64, ...). Matrix
 * products are BLAS's. Results repeat bit for bit for the same binary, shapes and BLAS core, with
 * any number of threads (parallel.h).
 *
 * The cap of final logits belongs to the head, not to this. A decoder belongs to one thread at a time; parameters are
 * only read. Sources: Touvron et al. 2023 (Llama 2), Su et al. 2021 (rotary positions), Ainslie et al. 2023 (grouped
 * queries), Dao et al. 2022 (block-wise attention). */
#ifndef PF_MODEL_DECODER_H
#define PF_MODEL_DECODER_H
#include "layout.h"

struct pf_decoder_options {
	uint32_t max_tokens; /* tokens of all sequences of a call, > 0 */
	uint32_t max_length; /* longest sequence, cached part included; 0: the smaller of max_tokens
	                      * and the model's max_positions */
	unsigned threads;    /* 0: all processors */
	int backward; /* 1: keep activations; else backward is an error and memory is one layer's */
};

#define REAL_BITS 32
#include "real.h"
#include "decoder_calls.h"
#undef REAL_BITS
#define REAL_BITS 64
#include "real.h"
#include "decoder_calls.h"
#undef REAL_BITS
#endif
