/* Works linear_logprob and linear_grad: the fused head from hidden states in the host's memory to log-probs and
 * gradients there, W on the device already; in each precision. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "../model/model.h"
#include "../train/fused.h"
#include "bench.h"
#include "plain.h"
#include "prefpga/internal/kernels.h"

enum { LOOKED_AT = 2 };
#define EXP_ERROR 1e-6
#define DZ_ERROR  0x1p-8 /* dz is rounded to bf16 */

struct linear {
	struct pf_bench_task task;
	enum pf_precision precision;
	int grad;
	struct pf_fused *fused;
	float *hidden, *weight, *coef; /* [T,D], [V,D], [T] */
	float *dhidden, *dweight;
	int32_t *target;
	struct pf_row *row;
};

static void close_linear(void *state)
{
	struct linear *l = state;
	if (!l)
		return;
	pf_fused_close(l->fused);
	float *arrays[] = { l->hidden, l->weight, l->coef, l->dhidden, l->dweight };
	for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++)
		free(arrays[i]);
	free(l->target);
	free(l->row);
	free(l);
}

/* ---- data ---- */
/* A number within +-1 that the precision has exactly, as the reference takes it */
static float exact(enum pf_precision precision, float x)
{
	uint32_t bits;
	if (precision == PF_PRECISION_MXINT8)
		return rintf(64 * x) / 64;
	memcpy(&bits, &x, sizeof bits);
	bits &= precision == PF_PRECISION_BF16 ? 0xffff0000u : UINT32_MAX;
	memcpy(&x, &bits, sizeof x);
	return x;
}

static void fill(float *to, uint64_t count, int exponent, enum pf_precision precision, uint64_t state)
{
	for (uint64_t i = 0; i < count; i++) {
		state = state * 6364136223846793005u + 1442695040888963407u;
		to[i] = ldexpf(exact(precision, (float)(state >> 40) * 0x1p-23f - 1), exponent);
	}
}

/* Pages that a device can adopt */
static float *pages(uint64_t count)
{
	const uint64_t bytes = (count * sizeof(float) + PF_PAGE_BYTES - 1) / PF_PAGE_BYTES * PF_PAGE_BYTES;
	float *memory = aligned_alloc(PF_PAGE_BYTES, bytes);
	if (memory)
		memset(memory, 0, bytes);
	return memory;
}

static int open_arrays(struct linear *l, struct pf_error *error)
{
	const struct pf_bench_shape *s = &l->task.shape;
	const uint64_t matrix = (uint64_t)s->vocab * s->dim, states = (uint64_t)s->tokens * s->dim;
	l->hidden = pages(states);
	l->weight = pages(matrix);
	l->coef = pages(s->tokens);
	l->dhidden = l->grad ? pages(states) : NULL;
	l->dweight = l->grad ? pages(matrix) : NULL;
	l->target = calloc(s->tokens, sizeof *l->target);
	l->row = calloc(s->tokens, sizeof *l->row);
	if (!l->hidden || !l->weight || !l->coef || !l->target || !l->row || (l->grad && (!l->dhidden || !l->dweight)))
		return pf_fail(error, -ENOMEM, "no memory for a head of [%u, %u]", s->vocab, s->dim);
	fill(l->hidden, states, 0, l->precision, 88172645463325252u);
	fill(l->weight, matrix, (int)lrintf(log2f(3 / sqrtf((float)s->dim))), l->precision, 2463534242u);
	for (uint32_t t = 0; t < s->tokens; t++) {
		l->coef[t] = 0.1f + (float)(t % 7);
		l->target[t] = (int32_t)((uint64_t)t * 7919 % s->vocab);
	}
	return 0;
}

static int open_linear(const struct pf_bench_task *task, enum pf_precision precision, int grad, enum pf_way way,
                       void **state, struct pf_error *error)
{
	struct linear *l = calloc(1, sizeof *l);
	*state = l;
	if (!l)
		return pf_fail(error, -ENOMEM, "no memory for the bench");
	*l = (struct linear){ .task = *task, .precision = precision, .grad = grad };
	const struct pf_fused_options options = { .device = task->device,
		                                  .vocab = task->shape.vocab,
		                                  .dim = task->shape.dim,
		                                  .backward = grad,
		                                  .precision = precision,
		                                  .way = way,
		                                  .memory_bytes = task->memory_bytes,
		                                  .form = PF_FUSED_PLAIN };
	int code = open_arrays(l, error);
	return code ? code : pf_fused_open(&options, &l->fused, error);
}

/* ---- runs ---- */
static int run_forward(void *state, struct pf_error *error)
{
	struct linear *l = state;
	const struct pf_fused_weight weight = { l->weight, NULL, 1, l->precision };
	const struct pf_fused_tokens tokens = { l->hidden, l->target, NULL, l->task.shape.tokens, 0, 0, !l->grad };
	int code = pf_fused_forward(l->fused, &weight, &tokens, NULL, l->row, error);
	return code ? code : pf_fused_wait(l->fused, error);
}

/* The way back of the forward that the check has run */
static int run_backward(void *state, struct pf_error *error)
{
	struct linear *l = state;
	int code = pf_fused_backward(l->fused, l->coef, l->dhidden, l->dweight, NULL, error);
	return code ? code : pf_fused_wait(l->fused, error);
}

/* ---- the plain reference, on some rows ---- */
static int differs(const struct linear *l, const char *what, uint32_t t, double got, double want,
                   struct pf_error *error)
{
	return pf_fail(
		error, PF_E_DATA,
		"%s of row %u is %.9g, the plain reference says %.9g: %s computes wrong numbers, nothing was timed",
		what, t, got, want, pf_device_facts(l->task.device)->name);
}

/* dhidden[t] = sum over v of dz[v] W[v]; z becomes dz. share: how far exponentials of rounded logits may be off */
static int check_dhidden(const struct linear *l, uint32_t t, double *z, double lse, double share,
                         struct pf_error *error)
{
	const struct pf_bench_shape *s = &l->task.shape;
	for (uint32_t v = 0; v < s->vocab; v++)
		z[v] = (double)l->coef[t] * (exp(z[v] - lse) - ((int32_t)v == l->target[t]));
	for (uint32_t d = 0; d < s->dim; d++) {
		double want = 0, size = 0;
		for (uint32_t v = 0; v < s->vocab; v++) {
			want += z[v] * (double)l->weight[(uint64_t)v * s->dim + d];
			size += fabs(z[v] * (double)l->weight[(uint64_t)v * s->dim + d]);
		}
		const double got = (double)l->dhidden[(uint64_t)t * s->dim + d];
		if (!(fabs(got - want) <= share * size))
			return differs(l, "dhidden", t, got, want, error);
	}
	return 0;
}

/* A row of dW, from the log-probs that were just looked at: dW[v] = sum over t of dz[t,v] h[t] */
static int check_dweight(const struct linear *l, uint32_t v, double share, struct pf_error *error)
{
	const struct pf_bench_shape *s = &l->task.shape;
	double *sum = calloc(2 * (size_t)s->dim, sizeof *sum), *size = sum ? sum + s->dim : NULL, z;
	int code = sum ? 0 : pf_fail(error, -ENOMEM, "no memory for a row");
	for (uint32_t t = 0; !code && t < s->tokens; t++) {
		const float *h = l->hidden + (uint64_t)t * s->dim;
		pf_plain_logits(h, l->weight + (uint64_t)v * s->dim, 1, s->dim, &z);
		const double lse = (double)l->row[t].max + (double)l->row[t].log_sum;
		const double dz = (double)l->coef[t] * (exp(z - lse) - ((int32_t)v == l->target[t]));
		for (uint32_t d = 0; d < s->dim; d++) {
			sum[d] += dz * (double)h[d];
			size[d] += fabs(dz * (double)h[d]);
		}
	}
	for (uint32_t d = 0; !code && d < s->dim; d++) {
		const double got = (double)l->dweight[(uint64_t)v * s->dim + d];
		if (!(fabs(got - sum[d]) <= share * size[d]))
			code = differs(l, "dweight", v, got, sum[d], error);
	}
	free(sum);
	return code;
}

static int check_row(const struct linear *l, uint32_t t, double *z, double *share, struct pf_error *error)
{
	const struct pf_bench_shape *s = &l->task.shape;
	const double off = pf_plain_logits(l->hidden + (uint64_t)t * s->dim, l->weight, s->vocab, s->dim, z);
	const double lse = pf_plain_lse(z, s->vocab), want = z[l->target[t]] - lse;
	const double got = (double)l->row[t].logp_q32 * 0x1p-32;
	*share = 4 * off + EXP_ERROR + (l->precision == PF_PRECISION_FP32 ? 0 : DZ_ERROR);
	if (!(fabs(got - want) <= 2 * off + EXP_ERROR))
		return differs(l, "log-prob", t, got, want, error);
	return l->grad ? check_dhidden(l, t, z, lse, *share, error) : 0;
}

static int check_linear(void *state, struct pf_error *error)
{
	struct linear *l = state;
	const struct pf_bench_shape *s = &l->task.shape;
	double *z = malloc(s->vocab * sizeof *z), share = 0;
	int code = z ? 0 : pf_fail(error, -ENOMEM, "no memory for a row");
	if (!code && l->grad)
		memset(l->dweight, 0, (uint64_t)s->vocab * s->dim * sizeof *l->dweight);
	if (!code)
		code = run_forward(l, error);
	if (!code && l->grad)
		code = run_backward(l, error);
	for (uint32_t i = 0; !code && i < LOOKED_AT; i++)
		code = check_row(l, (uint32_t)((uint64_t)(s->tokens - 1) * i / (LOOKED_AT - 1)), z, &share, error);
	if (!code && l->grad)
		code = check_dweight(l, (uint32_t)l->target[s->tokens / 2], share, error);
	free(z);
	return code;
}

/* ---- the works ---- */
static double forward_operations(const struct pf_bench_shape *s)
{
	return 2.0 * s->tokens * s->vocab * s->dim;
}

/* dhidden and dW; that recompute forms the logits once more is not useful work */
static double backward_operations(const struct pf_bench_shape *s)
{
	return 4.0 * s->tokens * s->vocab * s->dim;
}

static void put(enum pf_precision precision, const struct pf_bench_shape *s, uint32_t rows, uint32_t mode,
                uint32_t *value)
{
	value[0] = rows;
	value[1] = pf_precision_depth(precision, s->dim);
	value[2] = s->vocab;
	value[3] = mode;
}

/* A work of the fused head: its variable's name behind pf_bench_linear_, its name and type, precision, kernel and the
 * kernels that must be there; grad, way, mode: its gradient, how it comes by the logits, and the kernel's mode */
#define WORK(id, name, type, precision, kernel, kernels, grad, way, mode)                                              \
	static int open_##id(const struct pf_bench_task *task, void **state, struct pf_error *error)                   \
	{                                                                                                              \
		return open_linear(task, precision, grad, way, state, error);                                          \
	}                                                                                                              \
	static void scalars_##id(const struct pf_bench_shape *s, uint32_t rows, uint32_t *value)                       \
	{                                                                                                              \
		put(precision, s, rows, mode, value);                                                                  \
	}                                                                                                              \
	const struct pf_bench_work pf_bench_linear_##id = {                                                            \
		name,           type,                                                                                  \
		PF_BENCH_SGEMM, 1,                                                                                     \
		kernel,         (grad) ? backward_operations : forward_operations,                                     \
		NULL,           open_##id,                                                                             \
		check_linear,   (grad) ? run_backward : run_forward,                                                   \
		close_linear,   scalars_##id,                                                                          \
		kernels                                                                                                \
	};
#define FORWARD(id, type, precision, kernel)                                                                           \
	WORK(id, "linear_logprob", type, precision, PF_KERNEL_##kernel, #kernel, 0, PF_WAY_AUTO, 0)
#define BACKWARD(id, name, type, precision, forward, kernel, way, mode)                                                \
	WORK(id, name, type, precision, PF_KERNEL_##kernel, #forward " " #kernel, 1, way, mode)
enum { RECOMPUTE = PF_LINEAR_DWEIGHT, SPILL = PF_LINEAR_DWEIGHT | PF_LINEAR_RAW };

FORWARD(logprob, "f32", PF_PRECISION_FP32, linear_logprob)
FORWARD(logprob_bf16, "bf16", PF_PRECISION_BF16, linear_logprob_bf16)
FORWARD(logprob_mxint8, "mxint8", PF_PRECISION_MXINT8, linear_logprob_mxint8)
BACKWARD(grad, "linear_grad", "f32", PF_PRECISION_FP32, linear_logprob, linear_grad, PF_WAY_SPILL, SPILL)
BACKWARD(grad_bf16, "linear_grad", "bf16", PF_PRECISION_BF16, linear_logprob_bf16, linear_grad_bf16, PF_WAY_SPILL,
         SPILL)
BACKWARD(recompute, "linear_grad_recompute", "f32", PF_PRECISION_FP32, linear_logprob, linear_grad, PF_WAY_RECOMPUTE,
         RECOMPUTE)
BACKWARD(recompute_bf16, "linear_grad_recompute", "bf16", PF_PRECISION_BF16, linear_logprob_bf16, linear_grad_bf16,
         PF_WAY_RECOMPUTE, RECOMPUTE)
