#include "head_fused.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "coefficient.h"
#include "prefpga/internal/kernels.h"
#include "seq_add.h"
#include "shard.h"

enum { BLOCK = PF_TOKENS };

/* Tokens [begin, end) and the sequences that touch them, on one device */
struct share {
	struct pf_fused *fused;
	uint32_t         begin, end, seq_begin, seq_end, seqs_room;
	struct pf_span  *span;                 /* relative to begin */
	struct pf_seq   *seq;
};

struct pf_head_fused {
	uint32_t             dim, coef_room;
	struct pf_head_input input;            /* of the last forward */
	float               *coef;             /* [T] */
	struct pf_shards    *words;            /* does it all where the vocabulary is shared, else NULL */
	struct pf_left_out   left_out;         /* of the last backward */
	unsigned             shares;
	struct share         share[];
};

/* Whether buffers for W, and where there is a way back for dW and the form of W that it takes, if another, can be had
 * of a device: they are, and given back */
static int weights_fit(struct pf_device *device, const struct pf_head_options *o)
{
	const enum pf_precision back = pf_precision_back(o->precision);
	const int forward_kernel = pf_precision_forward_kernel(o->precision);
	const int back_kernel = pf_precision_backward_kernel(o->precision);
	const struct { int kernel; unsigned arg; uint64_t row; } matrix[] = {
		{ forward_kernel, PF_ARG_linear_logprob_weight, pf_precision_row_bytes(o->precision, o->dim) },
		{ back_kernel, PF_ARG_linear_grad_dweight, pf_precision_pitch(back, o->dim) * sizeof(float) },
		{ back_kernel, PF_ARG_linear_grad_weight, pf_precision_row_bytes(back, o->dim) },
	};
	const unsigned matrices = !o->backward ? 1 : back == o->precision ? 2 : 3;
	struct pf_buf *buf[3 * PF_WEIGHT_PORTS] = { NULL };
	int code = 0;
	for (unsigned i = 0; !code && i < matrices * PF_WEIGHT_PORTS; i++) {
		const unsigned m = i / PF_WEIGHT_PORTS, port = i % PF_WEIGHT_PORTS;
		code = pf_buf_alloc(device, matrix[m].kernel, matrix[m].arg + port,
		                    PF_PORT_ROWS(o->vocab, port) * matrix[m].row + 1, &buf[i], NULL);
	}
	for (unsigned i = 0; i < 3 * PF_WEIGHT_PORTS; i++)
		pf_buf_free(buf[i]);
	return code != PF_E_MEMORY;
}

static unsigned shards_of(const struct pf_head_options *o)
{
	int fit = 1;
	if (o->shards)
		return o->shards;
	for (unsigned i = 0; o->devices > 1 && i < o->devices; i++)
		fit &= pf_device_facts(o->device[i])->host_visible || weights_fit(o->device[i], o);
	return fit ? 1 : o->devices;
}

static int open_shards(struct pf_head_fused *h, const struct pf_head_options *o, const struct pf_fused_options *fused,
                       unsigned parts, struct pf_error *error)
{
	struct pf_device **device = calloc(parts, sizeof *device);
	if (!device)
		return pf_fail(error, -ENOMEM, "no memory for the head");
	for (unsigned i = 0; i < parts; i++)
		device[i] = o->device[i % o->devices];
	int code = pf_shards_open(fused, device, parts, &h->words, error);
	free(device);
	return code;
}

int pf_head_fused_open(const struct pf_head_options *o, struct pf_head_fused **head, struct pf_error *error)
{
	struct pf_head_fused *h = calloc(1, sizeof *h + o->devices * sizeof h->share[0]);
	struct pf_fused_options fused = { .vocab = o->vocab, .dim = o->dim, .backward = o->backward, .way = o->way,
		                          .precision = o->precision,
		                          .memory_bytes = o->memory_bytes, .filter = o->filter,
		                          .form = { 1, (float)o->logit_cap, 1, 0, 0 } };
	*head = NULL;
	if (!h)
		return pf_fail(error, -ENOMEM, "no memory for the head");
	h->dim = o->dim;
	const unsigned parts = shards_of(o);
	int code = parts > 1 ? open_shards(h, o, &fused, parts, error) : 0;
	for (; !code && parts == 1 && h->shares < o->devices; h->shares++) {
		fused.device = o->device[h->shares];
		code = pf_fused_open(&fused, &h->share[h->shares].fused, error);
	}
	if (code) {
		pf_head_fused_close(h);
		return code;
	}
	*head = h;
	return 0;
}

void pf_head_fused_close(struct pf_head_fused *h)
{
	for (unsigned i = 0; h && i < h->shares; i++) {
		pf_fused_close(h->share[i].fused);
		free(h->share[i].span);
		free(h->share[i].seq);
	}
	if (h) {
		pf_shards_close(h->words);
		free(h->coef);
	}
	free(h);
}

static int share_room(struct share *s, struct pf_error *error)
{
	const uint32_t seqs = s->seq_end - s->seq_begin;
	if (seqs <= s->seqs_room)
		return 0;
	free(s->span);
	free(s->seq);
	s->span = calloc(seqs, sizeof *s->span);
	s->seq = calloc(seqs, sizeof *s->seq);
	s->seqs_room = s->span && s->seq ? seqs : 0;
	return s->seqs_room ? 0 : pf_fail(error, -ENOMEM, "no memory for %u sequences", seqs);
}

static uint32_t clip(uint32_t t, const struct share *s)
{
	return (t < s->begin ? s->begin : t > s->end ? s->end : t) - s->begin;
}

/* Cuts the tokens into shares of whole blocks and finds their sequences */
static int cut(struct pf_head_fused *h, struct pf_error *error)
{
	const struct pf_head_input *in = &h->input;
	const uint32_t blocks = (in->tokens + BLOCK - 1) / BLOCK;
	int code = 0;
	for (unsigned i = 0; !code && i < h->shares; i++) {
		struct share *s = &h->share[i];
		s->begin = (uint32_t)((uint64_t)blocks * i / h->shares) * BLOCK;
		s->end = i + 1 < h->shares ? (uint32_t)((uint64_t)blocks * (i + 1) / h->shares) * BLOCK : in->tokens;
		for (s->seq_begin = 0; s->seq_begin < in->seqs && in->span[s->seq_begin].end <= s->begin;
		     s->seq_begin++)
			;
		for (s->seq_end = s->seq_begin; s->seq_end < in->seqs && in->span[s->seq_end].begin < s->end;
		     s->seq_end++)
			;
		code = share_room(s, error);
		for (uint32_t q = s->seq_begin; !code && q < s->seq_end; q++) {
			const struct pf_span *whole = &in->span[q];
			s->span[q - s->seq_begin] = (struct pf_span){ clip(whole->begin, s), clip(whole->end, s),
				clip(whole->split, s), 0 };
		}
	}
	return code;
}

/* Waits for every share, whatever the first error was */
static int wait_all(struct pf_head_fused *h, int code, struct pf_error *error)
{
	for (unsigned i = 0; i < h->shares; i++) {
		int one = pf_fused_wait(h->share[i].fused, code ? NULL : error);
		code = code ? code : one;
	}
	return code;
}

int pf_head_fused_forward(struct pf_head_fused *h, const struct pf_head_input *input, struct pf_seq *sum,
                          struct pf_row *row, struct pf_error *error)
{
	h->input = *input;
	memset(sum, 0, input->seqs * sizeof *sum);
	const struct pf_fused_weight weight = { input->weight, NULL, input->version, input->precision };
	const struct pf_fused_tokens whole = { input->hidden, input->target, input->span, input->tokens, input->seqs,
		                               input->flags, input->forward_only };
	if (h->words)
		return pf_shards_forward(h->words, &weight, &whole, sum, row, error);
	int code = cut(h, error);
	for (unsigned i = 0; !code && i < h->shares; i++) {
		const struct share *s = &h->share[i];
		const struct pf_fused_tokens tokens = { input->hidden + (size_t)s->begin * h->dim,
			                                input->target + s->begin,
			                                s->span,
			                                s->end - s->begin,
			                                s->seq_end - s->seq_begin,
			                                input->flags,
			                                input->forward_only };
		if (tokens.seqs)
			memset(s->seq, 0, tokens.seqs * sizeof *s->seq);
		code = pf_fused_forward(s->fused, &weight, &tokens, s->seq, row ? row + s->begin : NULL, error);
	}
	code = wait_all(h, code, error);
	for (unsigned i = 0; !code && i < h->shares; i++)
		for (uint32_t q = h->share[i].seq_begin; q < h->share[i].seq_end; q++)
			pf_seq_add(&sum[q], &h->share[i].seq[q - h->share[i].seq_begin]);
	return code;
}

/* c = -dL/d(sum of logp) for the tokens of each sequence, `tail` times that from its split on, as kernel coef does it;
 * 0 for tokens of none */
static int spread(struct pf_head_fused *h, const double *grad, struct pf_error *error)
{
	const struct pf_head_input *in = &h->input;
	if (in->tokens > h->coef_room) {
		free(h->coef);
		h->coef = malloc(in->tokens * sizeof *h->coef);
		h->coef_room = h->coef ? in->tokens : 0;
	}
	if (in->tokens > h->coef_room)
		return pf_fail(error, -ENOMEM, "no memory for %u coefficients", in->tokens);
	if (in->tokens)
		memset(h->coef, 0, in->tokens * sizeof *h->coef);
	for (uint32_t q = 0; q < in->seqs; q++)
		for (uint32_t t = in->span[q].begin; t < in->span[q].end; t++)
			h->coef[t] = pf_coefficient(grad[q] * (t < in->span[q].split ? 1.0 : (double)in->tail));
	return 0;
}

int pf_head_fused_backward(struct pf_head_fused *h, const double *grad, float *dhidden, float *dweight,
                           struct pf_error *error)
{
	int code = spread(h, grad, error), in_place = 0;
	h->left_out = (struct pf_left_out){ 0 };
	if (h->words && !code) {
		code = pf_shards_backward(h->words, h->coef, dhidden, dweight, NULL, error);
		if (!code)
			pf_left_out_count(&h->left_out, pf_shards_filtered(h->words), h->input.target,
			                  h->input.tokens);
		return code;
	}
	for (unsigned i = 0; !code && i < h->shares; i++) {
		const struct share *s = &h->share[i];
		/* nobody else adds to dW while a device that works in the caller's memory does */
		in_place |= pf_fused_in_place(s->fused);
		if (i > 0 && dweight && in_place)
			code = wait_all(h, 0, error);
		if (!code)
			code = pf_fused_backward(s->fused, h->coef + s->begin, dhidden + (size_t)s->begin * h->dim,
			                         dweight, NULL, error);
	}
	code = wait_all(h, code, error);
	for (unsigned i = 0; !code && i < h->shares; i++) {
		const struct share *s = &h->share[i];
		pf_left_out_count(&h->left_out, pf_fused_filtered(s->fused), h->input.target + s->begin,
		                  s->end - s->begin);
	}
	return code;
}

void pf_head_fused_forget(struct pf_head_fused *h, const float *weight, enum pf_precision precision)
{
	if (h->words)
		pf_shards_forget(h->words, weight, precision);
	for (unsigned i = 0; i < h->shares; i++)
		pf_fused_forget(h->share[i].fused, weight, precision);
}

struct pf_left_out pf_head_fused_left_out(const struct pf_head_fused *h)
{
	return h->left_out;
}

struct pf_fused *pf_head_fused_only(const struct pf_head_fused *h)
{
	return h->shares == 1 ? h->share[0].fused : NULL;
}

unsigned pf_head_fused_shards(const struct pf_head_fused *h)
{
	return h->words ? pf_shards_parts(h->words) : 1;
}
