#include "head_logits_inside.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "../model/logits.h"
#include "prefpga/internal/kernels.h"
#include "seq_add.h"

int pf_head_logits_open(const struct pf_head_options *o, struct pf_head_logits **head, struct pf_error *error)
{
	struct pf_head_logits *h = calloc(1, sizeof *h);
	*head = NULL;
	if (!h)
		return pf_fail(error, -ENOMEM, "no memory for the head");
	h->vocab = o->vocab;
	h->dim = o->dim;
	h->threads = o->threads;
	h->cap = o->logit_cap;
	h->stride = (o->vocab + LANES - 1) / LANES;
	int code = pf_head_slots_open(h, o, error);
	if (!code && h->cap > 0.0 && !(h->raw = calloc(h->rows, pf_head_row_bytes(h))))
		code = pf_fail(error, -ENOMEM, "no memory for blocks of %u rows", h->rows);
	if (code) {
		pf_head_logits_close(h);
		return code;
	}
	*head = h;
	return 0;
}

void pf_head_logits_close(struct pf_head_logits *h)
{
	if (!h)
		return;
	for (uint32_t i = 0; i < h->slots_open; i++)
		pf_head_slot_close(&h->slot[i]);
	for (int i = 0; i < STAGES; i++)
		free(h->stage[i].z);
	free(h->raw);
	free(h->slot);
	free(h->block);
	free(h);
}

/* ---- blocks ---- */

static int make_blocks(struct pf_head_logits *h, struct pf_error *error)
{
	const struct pf_head_input *in = &h->input;
	h->blocks = (in->tokens + h->rows - 1) / h->rows;
	if (h->blocks > h->blocks_room) {
		struct block *grown = realloc(h->block, h->blocks * sizeof *grown);
		if (!grown)
			return pf_fail(error, -ENOMEM, "no memory for %u blocks", h->blocks);
		h->block = grown;
		h->blocks_room = h->blocks;
	}
	uint32_t seq = 0;
	for (uint32_t b = 0; b < h->blocks; b++) {
		struct block *k = &h->block[b];
		k->begin = b * h->rows;
		k->end = k->begin + h->rows < in->tokens ? k->begin + h->rows : in->tokens;
		while (seq < in->seqs && in->span[seq].end <= k->begin)
			seq++;
		k->seq_begin = seq;
		for (k->seq_end = seq; k->seq_end < in->seqs && in->span[k->seq_end].begin < k->end; k->seq_end++)
			;
	}
	return 0;
}

/* The slot of a block, opened on first use, with room for the block's sequences */
static int slot_of(struct pf_head_logits *h, uint32_t b, struct slot **slot, struct pf_error *error)
{
	uint32_t i = b % h->slots, seqs = h->block[b].seq_end - h->block[b].seq_begin;
	for (; h->slots_open <= i; h->slots_open++) {
		int code = pf_head_slot_open(h, &h->slot[h->slots_open], error);
		if (code) {
			pf_head_slot_close(&h->slot[h->slots_open]);
			memset(&h->slot[h->slots_open], 0, sizeof(struct slot));
			return code;
		}
	}
	struct slot *s = *slot = &h->slot[i];
	if (seqs <= s->seqs_room)
		return 0;
	free(s->host_span);
	free(s->host_seq);
	free(s->host_item);
	s->host_span = calloc(seqs, sizeof *s->host_span);
	s->host_seq = calloc(seqs, sizeof *s->host_seq);
	s->host_item = calloc(seqs, sizeof *s->host_item);
	s->seqs_room = s->host_span && s->host_seq && s->host_item ? seqs : 0;
	return s->seqs_room ? 0 : pf_fail(error, -ENOMEM, "no memory for the sequences of a block");
}

static void clip_spans(const struct pf_head_logits *h, const struct block *k, struct pf_span *span)
{
	for (uint32_t i = k->seq_begin; i < k->seq_end; i++) {
		const struct pf_span *s = &h->input.span[i];
		uint32_t edge[3] = { s->begin, s->end, s->split };
		for (int e = 0; e < 3; e++) {
			edge[e] = edge[e] < k->begin ? k->begin : edge[e] > k->end ? k->end : edge[e];
			edge[e] -= k->begin;
		}
		span[i - k->seq_begin] = (struct pf_span){ edge[0], edge[1], edge[2], 0 };
	}
}

/* The host memory that block b's logits pass through */
static int stage_of(struct pf_head_logits *h, struct slot *s, uint32_t b, struct stage **stage, float **z,
                    struct pf_error *error)
{
	*stage = &h->stage[b % STAGES];
	*z = s->mapped ? pf_buf_map(s->z) : (*stage)->z;
	if (!(*stage)->busy)
		return 0;
	struct pf_ticket *busy = (*stage)->busy;
	(*stage)->busy = NULL;
	return pf_wait(busy, error);
}

static int copy_small(struct pf_buf *buf, const void *from, size_t bytes, struct pf_ticket *ticket)
{
	return pf_copy_in(buf, 0, from, bytes, NULL, ticket);
}

static struct pf_head_shape block_shape(const struct pf_head_logits *h, const struct block *k)
{
	return (struct pf_head_shape){ k->end - k->begin, h->vocab, h->dim, (size_t)h->stride * LANES };
}

/* Logits of block b to the device and through logprob */
static int send_block(struct pf_head_logits *h, struct slot *s, uint32_t b, struct pf_error *error)
{
	const struct block *k = &h->block[b];
	const struct pf_head_input *in = &h->input;
	const uint32_t rows = k->end - k->begin;
	struct stage *stage;
	float *z;
	int code = stage_of(h, s, b, &stage, &z, error);
	if (code)
		return code;
	const struct pf_head_shape shape = block_shape(h, k);
	pf_logits(h->threads, &shape, in->hidden + (size_t)k->begin * h->dim, in->weight, z);
	if (h->cap > 0.0)
		pf_logits_cap(h->threads, &shape, h->cap, z);
	clip_spans(h, k, s->host_span);
	memset(s->in, 0, sizeof s->in);
	memset(s->run, 0, sizeof s->run);
	memset(s->out, 0, sizeof s->out);
	code = copy_small(s->target, in->target + k->begin, rows * sizeof(int32_t), &s->in[0]);
	if (!code)
		code = copy_small(s->span, s->host_span, (k->seq_end - k->seq_begin) * sizeof(struct pf_span),
		                  &s->in[1]);
	if (!code && !s->mapped) {
		code = pf_copy_in(s->z, 0, z, rows * pf_head_row_bytes(h), NULL, &s->in[2]);
		stage->busy = &s->in[2];
	}
	const struct pf_arg arg[] = { { .buf = s->z }, { .buf = s->target }, { .buf = s->row },
		{ .val.u32 = rows }, { .val.u32 = h->vocab }, { .val.u32 = h->stride }, { .val.u32 = in->flags } };
	if (!code)   /* copies in are done in order, so the last one stands for all */
		code = pf_run(s->device, PF_KERNEL_logprob, arg, 7, s->mapped ? &s->in[1] : &s->in[2], &s->run[0]);
	return code ? pf_fail(error, code, "block %u of %u could not be submitted: %s", b, h->blocks,
	                      pf_error_text(code)) : 0;
}

/* Sequence sums (and rows, if wanted) of a sent block come back */
static int ask_sums(struct pf_head_logits *h, struct slot *s, uint32_t b, struct pf_row *row, struct pf_error *error)
{
	const struct block *k = &h->block[b];
	const uint32_t rows = k->end - k->begin, seqs = k->seq_end - k->seq_begin;
	const struct pf_arg arg[] = { { .buf = s->row }, { .buf = s->span }, { .buf = s->seq },
		{ .val.u32 = rows }, { .val.u32 = seqs } };
	int code = pf_run(s->device, PF_KERNEL_seq_sum, arg, 5, &s->run[0], &s->run[1]);
	if (!code)
		code = pf_copy_out(s->seq, 0, s->host_seq, seqs * sizeof(struct pf_seq), &s->run[1], &s->out[0]);
	if (!code && row)
		code = pf_copy_out(s->row, 0, row + k->begin, rows * sizeof(struct pf_row), &s->run[0], &s->out[1]);
	return code ? pf_fail(error, code, "block %u of %u could not be submitted: %s", b, h->blocks,
	                      pf_error_text(code)) : 0;
}

/* Waits for every operation of the slot; the first error wins */
static int settle(struct slot *s, struct pf_error *error)
{
	struct pf_ticket *all[] = { &s->in[0], &s->in[1], &s->in[2], &s->item_in, &s->run[0], &s->run[1], &s->grad,
		&s->out[0], &s->out[1] };
	int code = 0;
	for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
		int one = pf_wait(all[i], code ? NULL : error);
		code = code ? code : one;
	}
	return code;
}

static int settle_all(struct pf_head_logits *h, struct pf_error *error)
{
	int code = 0;
	for (uint32_t i = 0; i < h->slots_open; i++) {
		int one = settle(&h->slot[i], code ? NULL : error);
		code = code ? code : one;
	}
	for (int i = 0; i < STAGES; i++)
		h->stage[i].busy = NULL;
	return code;
}

static int collect_sums(struct pf_head_logits *h, uint32_t b, struct pf_seq *sum, struct pf_error *error)
{
	const struct block *k = &h->block[b];
	struct slot *s = &h->slot[b % h->slots];
	int code = settle(s, error);
	for (uint32_t i = k->seq_begin; !code && i < k->seq_end; i++)
		pf_seq_add(&sum[i], &s->host_seq[i - k->seq_begin]);
	return code;
}

int pf_head_logits_forward(struct pf_head_logits *h, const struct pf_head_input *input, struct pf_seq *sum,
                           struct pf_row *row, struct pf_error *error)
{
	h->input = *input;
	memset(sum, 0, input->seqs * sizeof *sum);
	int code = make_blocks(h, error);
	for (uint32_t b = 0; !code && b < h->blocks; b++) {
		struct slot *s;
		if (b >= h->slots)
			code = collect_sums(h, b - h->slots, sum, error);
		if (!code)
			code = slot_of(h, b, &s, error);
		if (!code)
			code = send_block(h, s, b, error);
		if (!code)
			code = ask_sums(h, s, b, row, error);
	}
	for (uint32_t b = h->blocks > h->slots ? h->blocks - h->slots : 0; !code && b < h->blocks; b++)
		code = collect_sums(h, b, sum, error);
	int late = settle_all(h, code ? NULL : error);
	return code ? code : late;
}

/* ---- phase 3 ---- */

static int ask_gradient(struct pf_head_logits *h, uint32_t b, const double *grad, struct pf_error *error)
{
	const struct block *k = &h->block[b];
	const uint32_t rows = k->end - k->begin, seqs = k->seq_end - k->seq_begin;
	struct slot *s = &h->slot[b % h->slots];
	const int again = h->blocks > h->slots;  /* the block has left the device: form it once more */
	struct stage *stage;
	float *z;
	for (uint32_t i = 0; i < seqs; i++)
		s->host_item[i] = (struct pf_item_out){ .grad = grad[k->seq_begin + i] };
	int code = copy_small(s->item, s->host_item, seqs * sizeof(struct pf_item_out), &s->item_in);
	if (!code && again)
		code = send_block(h, s, b, error);
	if (!code)
		code = stage_of(h, s, b, &stage, &z, error);
	if (code)
		return code;
	const struct pf_arg coef[] = { { .buf = s->item }, { .buf = s->span }, { .buf = s->coef },
		{ .val.u32 = rows }, { .val.u32 = seqs }, { .val.f32 = h->input.tail } };
	const struct pf_arg dz[] = { { .buf = s->z }, { .buf = s->target }, { .buf = s->coef }, { .buf = s->row },
		{ .buf = s->z }, { .val.u32 = rows }, { .val.u32 = h->vocab }, { .val.u32 = h->stride } };
	code = pf_run(s->device, PF_KERNEL_coef, coef, 6, again ? &s->run[0] : &s->item_in, &s->run[1]);
	if (!code)
		code = pf_run(s->device, PF_KERNEL_logit_grad, dz, 8, &s->run[1], &s->grad);
	if (!code && !s->mapped) {
		code = pf_copy_out(s->z, 0, z, rows * pf_head_row_bytes(h), &s->grad, &s->out[0]);
		stage->busy = &s->out[0];
	}
	return code ? pf_fail(error, code, "block %u of %u: %s", b, h->blocks, pf_error_text(code)) : 0;
}

/* From the gradient of capped logits to that of the product's */
static void uncap(struct pf_head_logits *h, const struct pf_head_shape *shape, const float *hidden, float *dz)
{
	pf_logits(h->threads, shape, hidden, h->input.weight, h->raw);
	pf_logits_cap_grad(h->threads, shape, h->cap, h->raw, dz);
}

static int use_gradient(struct pf_head_logits *h, uint32_t b, float *dhidden, float *dweight, struct pf_error *error)
{
	const struct block *k = &h->block[b];
	const struct pf_head_input *in = &h->input;
	const struct pf_head_shape shape = block_shape(h, k);
	const size_t first = (size_t)k->begin * h->dim;
	struct slot *s = &h->slot[b % h->slots];
	int code = settle(s, error);
	if (code)
		return code;
	float *dz = s->mapped ? pf_buf_map(s->z) : h->stage[b % STAGES].z;
	h->stage[b % STAGES].busy = NULL;
	if (h->cap > 0.0)
		uncap(h, &shape, in->hidden + first, dz);
	pf_logits_grad(h->threads, &shape, dz, in->hidden + first, in->weight, dhidden + first, dweight);
	return 0;
}

int pf_head_logits_backward(struct pf_head_logits *h, const double *grad, float *dhidden, float *dweight,
                            struct pf_error *error)
{
	const uint32_t ahead = STAGES - 1;       /* blocks in flight while the host multiplies */
	int code = 0;
	for (uint32_t b = 0; !code && b < h->blocks + ahead; b++) {
		if (b < h->blocks)
			code = ask_gradient(h, b, grad, error);
		if (!code && b >= ahead)
			code = use_gradient(h, b - ahead, dhidden, dweight, error);
	}
	int late = settle_all(h, code ? NULL : error);
	return code ? code : late;
}
