#include "score.h"
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "../model/parallel.h"
#include "../model/half_rows.h"
#include "prefpga/internal/kernels.h"
#include "stream.h"

enum { SLOTS = 3, CHUNK_BYTES = 8 << 20 };

/* An array of a slot on the device, and where the host fills or reads it: the same memory if the device lets it */
struct place {
	struct pf_buf *buf;
	char          *host;
	void          *owned;          /* staging memory, or NULL */
};

struct slot {
	struct place   z, target, coef, row;
	struct pf_buf *dz;             /* the caller's gradient, if that is not the logits' memory */
	uint64_t       first;
	uint32_t       rows;
};

struct score {
	struct pf_device            *device;
	const struct pf_score_input *in;
	pf_score_fn                  done;
	void                        *context;
	int                          logprob, logit_grad;      /* kernels */
	int                          visible;                  /* the host sees device memory */
	int                          direct;                   /* the device works in the caller's matrices */
	uint32_t                     each;                     /* rows of a chunk */
	uint32_t                     stride;                   /* beats of a row on the device */
	size_t                       tight;                    /* bytes of a row in the host's arrays */
	char                        *grad;                     /* [each,V] in the host's layout, if it differs */
	struct slot                  slot[SLOTS];
};

/* ---- checks ---- */
int pf_score_check_targets(const struct pf_score_input *in, struct pf_error *error)
{
	for (uint64_t t = 0; t < in->rows; t++) {
		const int32_t y = in->target[t];
		if (y != PF_IGNORE && (y < 0 || (uint32_t)y >= in->vocab))
			return pf_fail(error, PF_E_RANGE,
			               "row %" PRIu64 ": target %d is no token of a vocabulary of %u; use 0..%u, "
			               "or %d to ignore the row",
			               t, y, in->vocab, in->vocab - 1, PF_IGNORE);
	}
	return 0;
}

int pf_score_check_coef(const struct pf_score_input *in, struct pf_error *error)
{
	const uint64_t rows = in->want_grad && in->coef ? in->rows : 0;
	for (uint64_t t = 0; t < rows; t++)
		if (!(fabsf(in->coef[t]) < 0x1p126f))
			return pf_fail(error, PF_E_RANGE,
			               "row %" PRIu64 ": coefficient %g; must be finite and below 2^126", t,
			               (double)in->coef[t]);
	return 0;
}

static int check(const struct pf_score_input *in, struct pf_error *error)
{
	if (in->type != PF_F32 && in->type != PF_BF16 && in->type != PF_F16)
		return pf_fail(error, PF_E_TYPE, "logits must be float32, float16 or bfloat16");
	if (in->vocab == 0 || in->vocab > PF_VOCAB_MAX)
		return pf_fail(error, PF_E_RANGE, "a vocabulary of %u; kernels take 1..%u", in->vocab, PF_VOCAB_MAX);
	int code = pf_score_check_targets(in, error);
	return code ? code : pf_score_check_coef(in, error);
}

/* ---- memory ---- */
static uint64_t pages(uint64_t bytes)
{
	return (bytes + PF_PAGE_BYTES - 1) / PF_PAGE_BYTES * PF_PAGE_BYTES;
}

static uint64_t slot_bytes(const struct score *s, uint64_t rows)
{
	return pages(rows * s->stride * PF_BEAT_BYTES) + pages(rows * sizeof(struct pf_row)) + 2 * pages(rows * 4);
}

/* Rows of a chunk: about CHUNK_BYTES, as far as the device's memory allows; 0: not even one */
static uint32_t chunk_rows(const struct score *s, uint64_t memory)
{
	uint64_t rows = CHUNK_BYTES / ((uint64_t)s->stride * PF_BEAT_BYTES);
	rows = rows < 1 ? 1 : rows;
	rows = rows > PF_ROWS_MAX ? PF_ROWS_MAX : rows;
	rows = rows > s->in->rows ? s->in->rows : rows;
	while (rows > 0 && SLOTS * slot_bytes(s, rows) > memory)
		rows /= 2;
	return (uint32_t)rows;
}

static int open_place(struct score *s, struct place *place, int kernel, unsigned arg, uint64_t bytes,
                      struct pf_error *error)
{
	int code = pf_buf_alloc(s->device, kernel, arg, pages(bytes), &place->buf, error);
	if (code)
		return code;
	place->host = s->visible ? pf_buf_map(place->buf) : NULL;
	if (place->host)
		return 0;
	if (posix_memalign(&place->owned, PF_PAGE_BYTES, pages(bytes)))
		return pf_fail(error, -ENOMEM, "no memory for %" PRIu64 " bytes of staging", bytes);
	place->host = place->owned;
	memset(place->host, 0, pages(bytes));
	return 0;
}

static int open_slot(struct score *s, struct slot *slot, struct pf_error *error)
{
	const uint64_t rows = s->each;
	int code = s->direct ? 0
	                     : open_place(s, &slot->z, s->logprob, PF_ARG_logprob_z, rows * s->stride * PF_BEAT_BYTES,
	                                  error);
	if (!code)
		code = open_place(s, &slot->target, s->logprob, PF_ARG_logprob_target, rows * 4, error);
	if (!code)
		code = open_place(s, &slot->row, s->logprob, PF_ARG_logprob_out, rows * sizeof(struct pf_row), error);
	if (!code && s->in->want_grad)
		code = open_place(s, &slot->coef, s->logit_grad, PF_ARG_logit_grad_coef, rows * 4, error);
	return code;
}

static void close_slot(struct slot *slot)
{
	struct place *place[] = { &slot->z, &slot->target, &slot->coef, &slot->row };
	for (int i = 0; i < 4; i++) {
		pf_buf_free(place[i]->buf);
		free(place[i]->owned);
	}
	pf_buf_free(slot->dz);
}

/* ---- rows between the host's layout and the device's ---- */
struct rows {
	const struct score *s;
	const char         *from;
	char               *to;
};

static size_t device_row(const struct score *s)
{
	return (size_t)s->stride * PF_BEAT_BYTES;
}

static int same_layout(const struct score *s)
{
	return s->in->type != PF_F16 && s->tight == device_row(s);
}

static void row_in(void *context, size_t t, unsigned worker)
{
	const struct rows *r = context;
	const struct score *s = r->s;
	(void)worker;
	if (s->in->type == PF_F16)
		pf_halves_widen((const uint16_t *)(r->from + t * s->tight), (float *)(r->to + t * device_row(s)),
		                s->in->vocab);
	else
		memcpy(r->to + t * device_row(s), r->from + t * s->tight, s->tight);
}

static void row_out(void *context, size_t t, unsigned worker)
{
	const struct rows *r = context;
	const struct score *s = r->s;
	(void)worker;
	if (s->in->type == PF_F16)
		pf_halves_round((const float *)(r->from + t * device_row(s)), (uint16_t *)(r->to + t * s->tight),
		                s->in->vocab);
	else
		memcpy(r->to + t * s->tight, r->from + t * device_row(s), s->tight);
}

static void move_rows(const struct score *s, uint32_t rows, const char *from, char *to, int in)
{
	struct rows r = { s, from, to };
	pf_parallel(pf_threads(s->in->threads), rows, in ? row_in : row_out, &r);
}

/* ---- the caller's memory ---- */
static char *row_of(const struct score *s, void *matrix, uint64_t row)
{
	return (char *)matrix + row * s->tight;
}

static int in_place(const struct score *s)
{
	return s->in->grad == s->in->logits;
}

/* Buffers that are the chunk's rows themselves */
static int adopt(struct score *s, struct slot *slot, struct pf_error *error)
{
	const uint64_t bytes = slot->rows * s->tight;
	pf_buf_free(slot->z.buf);
	pf_buf_free(slot->dz);
	slot->z.buf = slot->dz = NULL;
	int code = pf_buf_adopt(s->device, s->logprob, PF_ARG_logprob_z, row_of(s, (void *)s->in->logits, slot->first),
	                        bytes, &slot->z.buf, error);
	if (!code && s->in->want_grad && !in_place(s))
		code = pf_buf_adopt(s->device, s->logit_grad, PF_ARG_logit_grad_dz, row_of(s, s->in->grad, slot->first),
		                    bytes, &slot->dz, error);
	return code;
}

static int is_aligned(const void *matrix)
{
	return (uintptr_t)matrix % PF_BEAT_BYTES == 0;
}

/* Rows must lie as kernels read them, and the gradient must have a place of its own to go to */
static int can_adopt(struct score *s)
{
	struct pf_buf *buf;
	if (!s->visible || !same_layout(s) || !is_aligned(s->in->logits) ||
	    (s->in->want_grad && (!s->in->grad || !is_aligned(s->in->grad))) ||
	    pf_buf_adopt(s->device, s->logprob, PF_ARG_logprob_z, (void *)s->in->logits, s->tight, &buf, NULL))
		return 0;
	pf_buf_free(buf);
	return 1;
}

/* ---- one chunk ---- */
/* From `from`, or what the place's host memory holds already */
static void put_in(struct pf_stream *stream, const struct place *place, const void *from, uint64_t bytes)
{
	if (place->owned)
		pf_stream_in(stream, place->buf, 0, from ? from : place->host, bytes);
	else if (from)
		memcpy(place->host, from, bytes);
}

static void put_logits(struct score *s, struct pf_stream *stream, struct slot *slot)
{
	const char *from = row_of(s, (void *)s->in->logits, slot->first);
	const uint64_t bytes = slot->rows * device_row(s);
	if (s->direct)
		return;
	if (same_layout(s) && slot->z.owned) {
		put_in(stream, &slot->z, from, bytes);
		return;
	}
	move_rows(s, slot->rows, from, slot->z.host, 1);
	put_in(stream, &slot->z, NULL, bytes);
}

static void put_coef(struct score *s, struct pf_stream *stream, struct slot *slot)
{
	float *c = (float *)slot->coef.host;
	for (uint32_t t = 0; t < slot->rows; t++)
		c[t] = s->in->coef ? s->in->coef[slot->first + t] : 1;
	put_in(stream, &slot->coef, NULL, slot->rows * sizeof *c);
}

static void run_logprob(struct score *s, struct pf_stream *stream, struct slot *slot)
{
	struct pf_arg arg[PF_ARG_logprob_COUNT] = { { 0 } };
	arg[PF_ARG_logprob_z].buf = slot->z.buf;
	arg[PF_ARG_logprob_target].buf = slot->target.buf;
	arg[PF_ARG_logprob_out].buf = slot->row.buf;
	arg[PF_ARG_logprob_rows].val.u32 = slot->rows;
	arg[PF_ARG_logprob_vocab].val.u32 = s->in->vocab;
	arg[PF_ARG_logprob_stride].val.u32 = s->stride;
	arg[PF_ARG_logprob_flags].val.u32 = s->in->flags;
	pf_stream_run(stream, s->logprob, arg, PF_ARG_logprob_COUNT);
}

static void run_logit_grad(struct score *s, struct pf_stream *stream, struct slot *slot)
{
	struct pf_arg arg[PF_ARG_logit_grad_COUNT] = { { 0 } };
	arg[PF_ARG_logit_grad_z].buf = slot->z.buf;
	arg[PF_ARG_logit_grad_target].buf = slot->target.buf;
	arg[PF_ARG_logit_grad_coef].buf = slot->coef.buf;
	arg[PF_ARG_logit_grad_row].buf = slot->row.buf;
	arg[PF_ARG_logit_grad_dz].buf = slot->dz ? slot->dz : slot->z.buf;
	arg[PF_ARG_logit_grad_rows].val.u32 = slot->rows;
	arg[PF_ARG_logit_grad_vocab].val.u32 = s->in->vocab;
	arg[PF_ARG_logit_grad_stride].val.u32 = s->stride;
	pf_stream_run(stream, s->logit_grad, arg, PF_ARG_logit_grad_COUNT);
}

static void submit(struct score *s, struct pf_stream *stream, struct slot *slot)
{
	put_logits(s, stream, slot);
	put_in(stream, &slot->target, s->in->target + slot->first, slot->rows * sizeof(int32_t));
	if (s->in->want_grad)
		put_coef(s, stream, slot);
	run_logprob(s, stream, slot);
	if (slot->row.owned)
		pf_stream_out(stream, slot->row.buf, 0, slot->row.host, slot->rows * sizeof(struct pf_row));
	if (!s->in->want_grad)
		return;
	run_logit_grad(s, stream, slot);
	if (slot->z.owned)
		pf_stream_out(stream, slot->z.buf, 0, slot->z.host, slot->rows * device_row(s));
}

static int consume(void *context, unsigned index, uint64_t number, struct pf_error *error)
{
	struct score *s = context;
	const struct slot *slot = &s->slot[index];
	struct pf_score_batch batch = { slot->first, slot->rows, (const struct pf_row *)slot->row.host, NULL };
	(void)number;
	if (s->in->want_grad && s->grad)
		move_rows(s, slot->rows, slot->z.host, s->grad, 0);
	if (s->in->want_grad)
		batch.grad = s->direct ? row_of(s, s->in->grad, slot->first) : s->grad ? s->grad : slot->z.host;
	return s->done(s->context, &batch, error);
}

/* ---- all of them ---- */
static int stream_rows(struct score *s, struct pf_error *error)
{
	struct pf_stream stream;
	unsigned index;
	int code = pf_stream_open(&stream, s->device, SLOTS, consume, s);
	for (uint64_t first = 0; first < s->in->rows && !code; first += s->each) {
		code = pf_stream_next(&stream, &index, error);
		if (code)
			return code;
		s->slot[index].first = first;
		s->slot[index].rows = s->in->rows - first < s->each ? (uint32_t)(s->in->rows - first) : s->each;
		if (s->direct)
			code = adopt(s, &s->slot[index], error);
		if (!code)
			submit(s, &stream, &s->slot[index]);
	}
	const int end = pf_stream_end(&stream, code ? NULL : error);
	return code ? code : end;
}

static int open_memory(struct score *s, struct pf_error *error)
{
	const uint64_t memory = pf_device_facts(s->device)->memory_bytes;
	int code = 0;
	s->each = chunk_rows(s, memory);
	if (s->each == 0)
		return pf_fail(error, PF_E_MEMORY,
		               "%s: three rows of %u logits need %" PRIu64 " bytes, the device has %" PRIu64
		               " to use; allow it more memory",
		               pf_device_facts(s->device)->name, s->in->vocab, SLOTS * slot_bytes(s, 1), memory);
	for (int i = 0; i < SLOTS && !code; i++)
		code = open_slot(s, &s->slot[i], error);
	if (code || !s->in->want_grad || same_layout(s))
		return code;
	s->grad = malloc(s->each * s->tight);
	return s->grad ? 0 : pf_fail(error, -ENOMEM, "no memory for %u rows of gradients", s->each);
}

int pf_score(struct pf_device *device, const struct pf_score_input *in, pf_score_fn done, void *context,
             struct pf_error *error)
{
	const int bf16 = in->type == PF_BF16;
	const uint32_t lanes = bf16 ? 32 : 16;
	struct score s = { .device = device,
		           .in = in,
		           .done = done,
		           .context = context,
		           .logprob = bf16 ? PF_KERNEL_logprob_bf16 : PF_KERNEL_logprob,
		           .logit_grad = bf16 ? PF_KERNEL_logit_grad_bf16 : PF_KERNEL_logit_grad,
		           .visible = pf_device_facts(device)->host_visible,
		           .stride = (in->vocab + lanes - 1) / lanes };
	int code = check(in, error);
	if (code || in->rows == 0)
		return code;
	s.tight = (size_t)in->vocab * pf_dtype_bytes(in->type);
	s.direct = can_adopt(&s);
	code = open_memory(&s, error);
	if (!code)
		code = stream_rows(&s, error);
	free(s.grad);
	for (int i = 0; i < SLOTS; i++)
		close_slot(&s.slot[i]);
	return code;
}
