/* Works logprob and logit_grad, of fp32 and bf16: ready logits [T,V] on the device. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "../model/model.h"
#include "../model/parallel.h"
#include "bench.h"
#include "plain.h"
#include "prefpga/internal/kernels.h"

enum { PIECE = 1024 /* rows: 4 KiB of the narrowest array */, PIECES_MOST = 1024, LOOKED_AT = 5 };
#define COEF 0.1f
/* What fp32 promises: logp as README has it with a margin, gradients relative to c; bf16 rounds them to 8 bits */
#define LOGP_ERROR      2e-6
#define GRAD_ERROR      1e-6
#define GRAD_ERROR_BF16 0x1p-8

struct rows {
	struct pf_bench_task task;
	int bf16, grad;
	uint32_t stride, lanes;
	uint64_t bytes; /* of the logits */
	struct pf_buf *z, *dz, *target, *coef, *row;
	struct pf_ticket ticket[PIECES_MOST];
};

static void close_rows(void *state)
{
	struct rows *r = state;
	if (!r)
		return;
	struct pf_buf *buf[] = { r->z, r->dz, r->target, r->coef, r->row };
	for (size_t i = 0; i < sizeof buf / sizeof *buf; i++)
		pf_buf_free(buf[i]);
	free(r);
}

/* ---- data ---- */
/* Logits like a model's: sums of four uniform numbers, deviation about 3. The same for a row whoever asks */
static void make_row(const struct rows *r, uint32_t t, void *to)
{
	uint64_t state = 88172645463325252ull ^ (t + 1ull) * 0x9e3779b97f4a7c15ull;
	for (size_t i = 0; i < (size_t)r->stride * r->lanes; i++) {
		union {
			float value;
			uint32_t bits;
		} x = { -6 };
		state ^= state << 13;
		state ^= state >> 7;
		state ^= state << 17;
		for (int k = 0; k < 4; k++)
			x.value += 3 * (float)(state >> 16 * k & 0xffff) * 0x1p-16f;
		if (r->bf16)
			((uint16_t *)to)[i] = (uint16_t)(x.bits >> 16);
		else
			((float *)to)[i] = x.value;
	}
}

static double value_of(const struct rows *r, const void *row, uint32_t v)
{
	const union {
		uint32_t bits;
		float value;
	} wide = { r->bf16 ? (uint32_t)((const uint16_t *)row)[v] << 16 : 0 };
	return r->bf16 ? (double)wide.value : (double)((const float *)row)[v];
}

static int32_t target_of(const struct rows *r, uint32_t t)
{
	return (int32_t)((uint64_t)t * 7919 % r->task.shape.vocab);
}

struct filling {
	const struct rows *r;
	char *z;
};

static void fill_row(void *context, size_t t, unsigned worker)
{
	const struct filling *f = context;
	(void)worker;
	make_row(f->r, (uint32_t)t, f->z + t * f->r->stride * PF_BEAT_BYTES);
}

static int kernel_of(const struct rows *r, int grad)
{
	return grad      ? r->bf16 ? PF_KERNEL_logit_grad_bf16 : PF_KERNEL_logit_grad
	       : r->bf16 ? PF_KERNEL_logprob_bf16
	                 : PF_KERNEL_logprob;
}

static int buffer(const struct rows *r, int kernel, unsigned arg, uint64_t bytes, const void *from, struct pf_buf **buf,
                  struct pf_error *error)
{
	struct pf_ticket ticket = { 0 };
	int code = pf_buf_alloc(r->task.device, kernel, arg, bytes, buf, error);
	if (code || !from)
		return code;
	pf_copy_in(*buf, 0, from, bytes, NULL, &ticket);
	return pf_wait(&ticket, error);
}

static int open_buffers(struct rows *r, const char *z, const int32_t *target, const float *coef, struct pf_error *error)
{
	const int logprob = kernel_of(r, 0), grad = kernel_of(r, 1);
	const uint64_t tokens = r->task.shape.tokens;
	int code = buffer(r, logprob, PF_ARG_logprob_z, r->bytes, z, &r->z, error);
	if (!code)
		code = buffer(r, logprob, PF_ARG_logprob_target, tokens * sizeof *target, target, &r->target, error);
	if (!code)
		code = buffer(r, logprob, PF_ARG_logprob_out, tokens * sizeof(struct pf_row), NULL, &r->row, error);
	if (!code && r->grad)
		code = buffer(r, grad, PF_ARG_logit_grad_coef, tokens * sizeof *coef, coef, &r->coef, error);
	if (!code && r->grad) /* written once: pages are there */
		code = buffer(r, grad, PF_ARG_logit_grad_dz, r->bytes, z, &r->dz, error);
	return code;
}

static int open_arrays(struct rows *r, struct pf_error *error)
{
	const uint32_t tokens = r->task.shape.tokens;
	struct filling filling = { r, (char *)pf_floats_alloc(r->bytes / sizeof(float)) };
	int32_t *target = malloc(tokens * sizeof *target);
	float *coef = malloc(tokens * sizeof *coef);
	int code = filling.z && target && coef
	                   ? 0
	                   : pf_fail(error, -ENOMEM, "no memory for logits of [%u, %u]", tokens, r->task.shape.vocab);
	for (uint32_t t = 0; !code && t < tokens; t++) {
		target[t] = target_of(r, t);
		coef[t] = COEF;
	}
	if (!code)
		pf_parallel(r->task.threads, tokens, fill_row, &filling);
	if (!code)
		code = open_buffers(r, filling.z, target, coef, error);
	free(filling.z);
	free(target);
	free(coef);
	return code;
}

/* ---- runs ---- */
static void place(struct pf_arg *arg, struct pf_buf *buf, uint64_t first, uint64_t row_bytes)
{
	arg->buf = buf;
	arg->offset = first * row_bytes;
}

static void piece_args(const struct rows *r, int grad, uint32_t first, uint32_t rows, struct pf_arg *arg)
{
	const uint64_t row_bytes = (uint64_t)r->stride * PF_BEAT_BYTES;
	struct pf_arg *scalar = &arg[grad ? PF_ARG_logit_grad_rows : PF_ARG_logprob_rows];
	place(&arg[grad ? PF_ARG_logit_grad_z : PF_ARG_logprob_z], r->z, first, row_bytes);
	place(&arg[grad ? PF_ARG_logit_grad_target : PF_ARG_logprob_target], r->target, first, sizeof(int32_t));
	place(&arg[grad ? PF_ARG_logit_grad_row : PF_ARG_logprob_out], r->row, first, sizeof(struct pf_row));
	if (grad) {
		place(&arg[PF_ARG_logit_grad_coef], r->coef, first, sizeof(float));
		place(&arg[PF_ARG_logit_grad_dz], r->dz, first, row_bytes);
	}
	scalar[0].val.u32 = rows;
	scalar[1].val.u32 = r->task.shape.vocab;
	scalar[2].val.u32 = r->stride;
}

/* One run, or one of every piece where several compute units wait */
static int run_kernel(struct rows *r, int grad, struct pf_error *error)
{
	const int kernel = kernel_of(r, grad);
	const uint32_t tokens = r->task.shape.tokens, most = pf_device_cus(r->task.device, kernel) > 1 ? PIECE : tokens;
	unsigned pieces = 0;
	int code = 0;
	for (uint32_t first = 0; first < tokens; first += most, pieces++) {
		struct pf_arg arg[PF_ARGS_MAX] = { { 0 } };
		r->ticket[pieces] = (struct pf_ticket){ 0 };
		piece_args(r, grad, first, tokens - first < most ? tokens - first : most, arg);
		pf_run(r->task.device, kernel, arg, grad ? PF_ARG_logit_grad_COUNT : PF_ARG_logprob_COUNT, NULL,
		       &r->ticket[pieces]);
	}
	for (unsigned i = 0; i < pieces; i++) {
		const int one = pf_wait(&r->ticket[i], code ? NULL : error);
		code = code ? code : one;
	}
	return code;
}

static int run_rows(void *state, struct pf_error *error)
{
	struct rows *r = state;
	return run_kernel(r, r->grad, error);
}

static int open_rows(const struct pf_bench_task *task, int bf16, int grad, void **state, struct pf_error *error)
{
	struct rows *r = calloc(1, sizeof *r);
	*state = r;
	if (!r)
		return pf_fail(error, -ENOMEM, "no memory for the bench");
	*r = (struct rows){ .task = *task, .bf16 = bf16, .grad = grad, .lanes = bf16 ? 32 : 16 };
	r->stride = (task->shape.vocab + r->lanes - 1) / r->lanes;
	r->bytes = (uint64_t)task->shape.tokens * r->stride * PF_BEAT_BYTES;
	int code = open_arrays(r, error);
	return code || !grad ? code : run_kernel(r, 0, error); /* the gradient reads what logprob says of rows */
}

/* ---- the plain reference, on some rows ---- */
static int bring(struct pf_buf *buf, uint64_t offset, void *to, uint64_t bytes, struct pf_error *error)
{
	struct pf_ticket ticket = { 0 };
	pf_copy_out(buf, offset, to, bytes, NULL, &ticket);
	return pf_wait(&ticket, error);
}

static int differs(const struct rows *r, const char *what, uint32_t t, double got, double want, struct pf_error *error)
{
	return pf_fail(
		error, PF_E_DATA,
		"%s of row %u is %.9g, the plain reference says %.9g: %s computes wrong numbers, nothing was timed",
		what, t, got, want, pf_device_facts(r->task.device)->name);
}

static int check_logp(struct rows *r, uint32_t t, double lse, double target, struct pf_error *error)
{
	struct pf_row row;
	int code = bring(r->row, t * sizeof row, &row, sizeof row, error);
	if (code || fabs((double)row.logp_q32 * 0x1p-32 - (target - lse)) <= LOGP_ERROR)
		return code;
	return differs(r, "log-prob", t, (double)row.logp_q32 * 0x1p-32, target - lse, error);
}

static int check_grad(struct rows *r, uint32_t t, const double *z, double lse, void *room, struct pf_error *error)
{
	const double bound = (double)COEF * (r->bf16 ? GRAD_ERROR_BF16 : GRAD_ERROR);
	const uint64_t row_bytes = (uint64_t)r->stride * PF_BEAT_BYTES;
	int code = bring(r->dz, t * row_bytes, room, row_bytes, error);
	for (uint32_t v = 0; !code && v < r->task.shape.vocab; v++) {
		const double want = (double)COEF * (exp(z[v] - lse) - ((int32_t)v == target_of(r, t)));
		if (!(fabs(value_of(r, room, v) - want) <= bound))
			code = differs(r, "gradient", t, value_of(r, room, v), want, error);
	}
	return code;
}

static int check_row(struct rows *r, uint32_t t, double *z, void *room, struct pf_error *error)
{
	const uint32_t vocab = r->task.shape.vocab;
	make_row(r, t, room);
	for (uint32_t v = 0; v < vocab; v++)
		z[v] = value_of(r, room, v);
	const double lse = pf_plain_lse(z, vocab);
	int code = check_logp(r, t, lse, z[target_of(r, t)], error);
	return code || !r->grad ? code : check_grad(r, t, z, lse, room, error);
}

static int check_rows(void *state, struct pf_error *error)
{
	struct rows *r = state;
	double *z = malloc(r->task.shape.vocab * sizeof *z);
	void *room = malloc((size_t)r->stride * PF_BEAT_BYTES);
	int code = z && room ? run_rows(r, error) : pf_fail(error, -ENOMEM, "no memory for a row");
	for (uint32_t i = 0; !code && i < LOOKED_AT; i++)
		code = check_row(r, (uint32_t)((uint64_t)(r->task.shape.tokens - 1) * i / (LOOKED_AT - 1)), z, room,
		                 error);
	free(z);
	free(room);
	return code;
}

/* ---- the works ---- */
static double read_bytes(const struct pf_bench_shape *s)
{
	return 4.0 * s->tokens * s->vocab;
}

static double both_bytes(const struct pf_bench_shape *s)
{
	return 8.0 * s->tokens * s->vocab;
}

static double read_bytes_bf16(const struct pf_bench_shape *s)
{
	return 2.0 * s->tokens * s->vocab;
}

static double both_bytes_bf16(const struct pf_bench_shape *s)
{
	return 4.0 * s->tokens * s->vocab;
}

static void put(uint32_t rows, uint32_t vocab, uint32_t lanes, uint32_t *value)
{
	value[0] = rows;
	value[1] = vocab;
	value[2] = (vocab + lanes - 1) / lanes;
}

static void scalars_logprob(const struct pf_bench_shape *s, uint32_t rows, uint32_t *value)
{
	put(rows, s->vocab, 16, value);
}

static void scalars_logprob_bf16(const struct pf_bench_shape *s, uint32_t rows, uint32_t *value)
{
	put(rows, s->vocab, 32, value);
}

static void scalars_grad(const struct pf_bench_shape *s, uint32_t rows, uint32_t *value)
{
	put(rows, s->vocab, 16, value);
}

static void scalars_grad_bf16(const struct pf_bench_shape *s, uint32_t rows, uint32_t *value)
{
	put(rows, s->vocab, 32, value);
}

#define OPEN(name, bf16, grad)                                                                                         \
	static int open_##name(const struct pf_bench_task *task, void **state, struct pf_error *error)                 \
	{                                                                                                              \
		return open_rows(task, bf16, grad, state, error);                                                      \
	}
OPEN(logprob, 0, 0)
OPEN(logprob_bf16, 1, 0)
OPEN(logit_grad, 0, 1)
OPEN(logit_grad_bf16, 1, 1)

const struct pf_bench_work pf_bench_logprob = { "logprob",         "f32",      PF_BENCH_COPY, 0,
	                                        PF_KERNEL_logprob, read_bytes, NULL,          open_logprob,
	                                        check_rows,        run_rows,   close_rows,    scalars_logprob,
	                                        "logprob" };
const struct pf_bench_work pf_bench_logprob_bf16 = {
	"logprob",         "bf16",     PF_BENCH_COPY, 0,          PF_KERNEL_logprob_bf16, read_bytes_bf16, NULL,
	open_logprob_bf16, check_rows, run_rows,      close_rows, scalars_logprob_bf16,   "logprob_bf16"
};
const struct pf_bench_work pf_bench_logit_grad = { "logit_grad",         "f32",      PF_BENCH_COPY, 0,
	                                           PF_KERNEL_logit_grad, both_bytes, NULL,          open_logit_grad,
	                                           check_rows,           run_rows,   close_rows,    scalars_grad,
	                                           "logprob logit_grad" };
const struct pf_bench_work pf_bench_logit_grad_bf16 = { "logit_grad",
	                                                "bf16",
	                                                PF_BENCH_COPY,
	                                                0,
	                                                PF_KERNEL_logit_grad_bf16,
	                                                both_bytes_bf16,
	                                                NULL,
	                                                open_logit_grad_bf16,
	                                                check_rows,
	                                                run_rows,
	                                                close_rows,
	                                                scalars_grad_bf16,
	                                                "logprob_bf16 logit_grad_bf16" };
