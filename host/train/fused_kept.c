/* A head whose optimizer's state stays on the device: W, moments and the sums of dW between one step and the next. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "fused_inside.h"

/* Numbers of a row on the device, whole beats of fp32 */
static uint32_t pitch_of(const struct pf_fused *f)
{
	return pf_precision_pitch(PF_PRECISION_FP32, f->options.dim);
}

static uint64_t share_bytes(const struct pf_fused *f)
{
	return PF_PORT_SHARE(f->options.vocab) * (uint64_t)pitch_of(f) * sizeof(float);
}

static uint64_t port_numbers(const struct pf_fused *f, unsigned port)
{
	return PF_PORT_ROWS(f->options.vocab, port) * pitch_of(f);
}

/* Where the rows of a port begin in the host's [V, dim] */
static uint64_t host_at(const struct pf_fused *f, unsigned port)
{
	const uint64_t first = (uint64_t)port * PF_PORT_SHARE(f->options.vocab);
	return (first < f->options.vocab ? first : f->options.vocab) * f->options.dim;
}

/* A port's part between the device and the host's array, through padded rows where they are wider */
static int move_port(struct pf_fused *f, struct pf_buf *buf, unsigned port, float *host, int in, struct pf_error *error)
{
	const uint64_t rows = PF_PORT_ROWS(f->options.vocab, port), bytes = port_numbers(f, port) * sizeof *host;
	float *own = host + host_at(f, port);
	if (pitch_of(f) == f->options.dim)
		return pf_fused_move(buf, own, bytes, in, error);
	if (in)
		pf_precision_pack(PF_PRECISION_FP32, own, rows, f->options.dim, f->stage_w.host);
	int code = pf_fused_move(buf, f->stage_w.host, bytes, in, error);
	if (!code && !in)
		pf_precision_unpack(PF_PRECISION_FP32, f->stage_w.host, rows, f->options.dim, own);
	return code;
}

static int send_moment(struct pf_fused *f, struct place *place, unsigned arg, const float *from,
                       struct pf_error *error)
{
	int code = 0;
	for (unsigned p = 0; !code && p < PORTS; p++) {
		code = pf_fused_grow(f, &place[p], PF_KERNEL_head_adamw, arg + p, port_numbers(f, p) * sizeof *from,
		                     error);
		if (!code)
			code = move_port(f, place[p].buf, p, (float *)from, 1, error);
	}
	return code;
}

int pf_fused_keep(struct pf_fused *f, const struct pf_fused_weight *weight, const float *m, const float *v,
                  struct pf_error *error)
{
	if (f->options.precision != PF_PRECISION_FP32 || weight->precision != PF_PRECISION_FP32)
		return pf_fail(error, PF_E_UNSUPPORTED,
		               "the head's optimizer can be on the device for float32 products, not for %s; give "
		               "--head-optimizer host",
		               pf_precision_name(weight->precision));
	if (pf_device_facts(f->options.device)->host_visible)
		return pf_fail(error, PF_E_UNSUPPORTED,
		               "%s works in the host's memory: there is nothing to keep elsewhere",
		               pf_device_facts(f->options.device)->name);
	if (!pf_device_cus(f->options.device, PF_KERNEL_head_adamw) ||
	    !pf_device_cus(f->options.device, PF_KERNEL_head_norm))
		return pf_fail(error, PF_E_UNSUPPORTED,
		               "%s has no kernels head_adamw and head_norm in its image; load one that has them, or "
		               "give --head-optimizer host", pf_device_facts(f->options.device)->name);
	int code = pf_fused_wait(f, error);
	f->kept = NULL;
	if (!code)
		code = pf_fused_load(f, weight, PF_PRECISION_FP32, error);
	if (!code)
		code = pf_fused_grow_host(&f->stage_w, share_bytes(f), error);
	if (!code)
		code = send_moment(f, f->moment1, PF_ARG_head_adamw_moment10, m, error);
	if (!code)
		code = send_moment(f, f->moment2, PF_ARG_head_adamw_moment20, v, error);
	if (!code)
		code = pf_fused_grow(f, &f->square, PF_KERNEL_head_norm, PF_ARG_head_norm_square,
		                     PORTS * sizeof(double), error);
	f->kept = code ? NULL : f->now;
	f->summed = 0;
	return code;
}

/* A step without a gradient: dW is 0 */
static int clear_sums(struct pf_fused *f, struct pf_error *error)
{
	int code = pf_fused_open_dweight(f, NULL, error);
	if (code)
		return code;
	memset(f->stage_w.host, 0, share_bytes(f));
	for (unsigned p = 0; !code && p < PORTS; p++)
		code = pf_fused_move(f->dport[p].buf, f->stage_w.host, port_numbers(f, p) * sizeof(float), 1, error);
	f->summed = !code;
	return code;
}

int pf_fused_kept_square(struct pf_fused *f, double *square, struct pf_error *error)
{
	struct pf_arg arg[PF_ARG_head_norm_COUNT] = { { 0 } };
	struct pf_ticket ticket = { 0 };
	double part[PORTS];
	int code = pf_fused_wait(f, error);
	if (!code && !f->summed)
		code = clear_sums(f, error);
	if (code)
		return code;
	for (unsigned p = 0; p < PORTS; p++)
		arg[PF_ARG_head_norm_dweight0 + p].buf = f->dport[p].buf;
	arg[PF_ARG_head_norm_square].buf = f->square.buf;
	arg[PF_ARG_head_norm_vocab].val.u32 = f->options.vocab;
	arg[PF_ARG_head_norm_depth].val.u32 = pf_precision_depth(PF_PRECISION_FP32, f->options.dim);
	pf_run(f->options.device, PF_KERNEL_head_norm, arg, PF_ARG_head_norm_COUNT, NULL, &ticket);
	code = pf_wait(&ticket, error);
	if (!code)
		code = pf_fused_move(f->square.buf, part, sizeof part, 0, error);
	*square = code ? 0 : ((part[0] + part[1]) + part[2]) + part[3];
	return code;
}

int pf_fused_kept_update(struct pf_fused *f, const struct pf_adamw_factors *factors, struct pf_error *error)
{
	const float value[] = { factors->beta1, factors->beta2, factors->rest1, factors->rest2, factors->grad,
		                factors->rate,  factors->root,  factors->epsilon, factors->keep };
	struct pf_arg arg[PF_ARG_head_adamw_COUNT] = { { 0 } };
	struct pf_ticket ticket = { 0 };
	for (unsigned p = 0; p < PORTS; p++) {
		arg[PF_ARG_head_adamw_weight0 + p].buf = f->kept->port[p];
		arg[PF_ARG_head_adamw_moment10 + p].buf = f->moment1[p].buf;
		arg[PF_ARG_head_adamw_moment20 + p].buf = f->moment2[p].buf;
		arg[PF_ARG_head_adamw_dweight0 + p].buf = f->dport[p].buf;
	}
	arg[PF_ARG_head_adamw_vocab].val.u32 = f->options.vocab;
	arg[PF_ARG_head_adamw_depth].val.u32 = pf_precision_depth(PF_PRECISION_FP32, f->options.dim);
	for (unsigned i = 0; i < sizeof value / sizeof *value; i++)
		arg[PF_ARG_head_adamw_beta1 + i].val.f32 = value[i];
	pf_run(f->options.device, PF_KERNEL_head_adamw, arg, PF_ARG_head_adamw_COUNT, NULL, &ticket);
	f->summed = 0;
	return pf_wait(&ticket, error);
}

int pf_fused_kept_bring(struct pf_fused *f, float *weight, float *m, float *v, struct pf_error *error)
{
	int code = pf_fused_wait(f, error);
	for (unsigned p = 0; !code && p < PORTS; p++) {
		code = move_port(f, f->kept->port[p], p, weight, 0, error);
		if (!code)
			code = move_port(f, f->moment1[p].buf, p, m, 0, error);
		if (!code)
			code = move_port(f, f->moment2[p].buf, p, v, 0, error);
	}
	return code;
}
