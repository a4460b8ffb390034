#include <stdlib.h>
#include <string.h>
#include "tests/cmocka.h"
#include "tests/cpu_run.h"
#include "prefpga/internal/kernels.h"

uint32_t run_lanes(const struct run_shape *s)
{
	return s->bf16 ? 32 : 16;
}

size_t run_bytes(const struct run_shape *s)
{
	return (size_t)s->rows * s->stride * PF_BEAT_BYTES;
}

struct run_shape run_shape_of(uint32_t rows, uint32_t vocab, int bf16)
{
	struct run_shape s = { rows, vocab, 0, bf16 };
	s.stride = (vocab + run_lanes(&s) - 1) / run_lanes(&s);
	return s;
}

struct pf_device *run_open(const char *spec, uint32_t threads)
{
	struct pf_device_options options = { .threads = threads };
	struct pf_device *device = NULL;
	struct pf_error error = { 0 };
	int status = pf_device_open(spec, &options, &device, &error);
	if (status && status != PF_E_ABSENT)
		fail_msg("%s: %s", spec, error.text);
	return device;
}

/* ---- arguments: memory goes in with call_in, comes out with call_out when the kernel has run ---- */
struct call {
	struct pf_device *device;
	int               kernel;
	unsigned          count;
	struct pf_arg     arg[PF_ARGS_MAX];
	struct { void *to; size_t bytes; } out[PF_ARGS_MAX];
};

static void settle(int submitted, struct pf_ticket *ticket)
{
	struct pf_error error = { 0 };
	(void)submitted;
	if (pf_wait(ticket, &error))
		fail_msg("%s", error.text);
}

static struct pf_buf *memory(struct call *call, size_t bytes)
{
	struct pf_error error = { 0 };
	struct pf_buf *buf = NULL;
	if (pf_buf_alloc(call->device, call->kernel, call->count, bytes ? bytes : PF_PAGE_BYTES, &buf, &error))
		fail_msg("%s", error.text);
	return buf;
}

static void call_in(struct call *call, const void *from, size_t bytes)
{
	struct pf_ticket ticket = { 0 };
	struct pf_buf *buf = memory(call, bytes);
	if (bytes)
		settle(pf_copy_in(buf, 0, from, bytes, NULL, &ticket), &ticket);
	call->arg[call->count++].buf = buf;
}

static void call_out(struct call *call, void *to, size_t bytes)
{
	call->out[call->count].to = to;
	call->out[call->count].bytes = bytes;
	call->arg[call->count].buf = memory(call, bytes);
	call->count++;
}

static void call_value(struct call *call, uint32_t value)
{
	call->arg[call->count++].val.u32 = value;
}

static void call_run(struct call *call)
{
	struct pf_ticket run = { 0 };
	settle(pf_run(call->device, call->kernel, call->arg, call->count, NULL, &run), &run);
	for (unsigned i = 0; i < call->count; i++) {
		struct pf_ticket copy = { 0 };
		if (call->out[i].bytes)
			settle(pf_copy_out(call->arg[i].buf, 0, call->out[i].to, call->out[i].bytes, NULL, &copy),
			       &copy);
	}
	for (unsigned i = 0; i < call->count; i++) {
		struct pf_buf *buf = call->arg[i].buf;
		pf_buf_free(buf);
		for (unsigned j = i + 1; j < call->count; j++)         /* in place: one buffer, two arguments */
			call->arg[j].buf = call->arg[j].buf == buf ? NULL : call->arg[j].buf;
	}
}

/* ---- kernels ---- */
void run_logprob(struct pf_device *device, const struct run_shape *s, const void *z, const int32_t *target,
                 uint32_t flags, struct pf_row *out)
{
	struct call call = { .device = device, .kernel = s->bf16 ? PF_KERNEL_logprob_bf16 : PF_KERNEL_logprob };
	call_in(&call, z, run_bytes(s));
	call_in(&call, target, s->rows * sizeof *target);
	call_out(&call, out, s->rows * sizeof *out);
	call_value(&call, s->rows);
	call_value(&call, s->vocab);
	call_value(&call, s->stride);
	call_value(&call, flags);
	call_run(&call);
}

void run_logit_grad(struct pf_device *device, const struct run_shape *s, const void *z, const int32_t *target,
                    const float *coef, const struct pf_row *row, void *dz, int in_place)
{
	struct call call = { .device = device, .kernel = s->bf16 ? PF_KERNEL_logit_grad_bf16 : PF_KERNEL_logit_grad };
	call_in(&call, z, run_bytes(s));
	call_in(&call, target, s->rows * sizeof *target);
	call_in(&call, coef, s->rows * sizeof *coef);
	call_in(&call, row, s->rows * sizeof *row);
	call_out(&call, dz, run_bytes(s));
	if (in_place) {
		pf_buf_free(call.arg[PF_ARG_logit_grad_dz].buf);
		call.arg[PF_ARG_logit_grad_dz].buf = call.arg[PF_ARG_logit_grad_z].buf;
	}
	call_value(&call, s->rows);
	call_value(&call, s->vocab);
	call_value(&call, s->stride);
	call_run(&call);
}

void run_seq_sum(struct pf_device *device, const struct pf_row *row, uint32_t rows, const struct pf_span *span,
                 uint32_t seqs, struct pf_seq *out)
{
	struct call call = { .device = device, .kernel = PF_KERNEL_seq_sum };
	call_in(&call, row, rows * sizeof *row);
	call_in(&call, span, seqs * sizeof *span);
	call_out(&call, out, seqs * sizeof *out);
	call_value(&call, rows);
	call_value(&call, seqs);
	call_run(&call);
}

void run_coef(struct pf_device *device, const struct pf_item_out *item, const struct pf_span *span, uint32_t seqs,
              uint32_t rows, float tail, float *out)
{
	struct call call = { .device = device, .kernel = PF_KERNEL_coef };
	uint32_t bits;
	memcpy(&bits, &tail, sizeof bits);
	call_in(&call, item, seqs * sizeof *item);
	call_in(&call, span, seqs * sizeof *span);
	call_out(&call, out, rows * sizeof *out);
	call_value(&call, rows);
	call_value(&call, seqs);
	call_value(&call, bits);
	call_run(&call);
}

void run_pref(struct pf_device *device, const double *par, const uint32_t *prog, uint32_t words,
              const struct pf_item *item, uint32_t items, const uint32_t *group, uint32_t groups,
              struct pf_item_out *out)
{
	struct call call = { .device = device, .kernel = PF_KERNEL_pref };
	call_in(&call, par, PF_PAR_COUNT * sizeof *par);
	call_in(&call, prog, words * sizeof *prog);
	call_in(&call, item, items * sizeof *item);
	call_in(&call, group, (groups + 1) * sizeof *group);
	call_out(&call, out, items * sizeof *out);
	call_value(&call, words);
	call_value(&call, items);
	call_value(&call, groups);
	call_run(&call);
}
