#include "fused_inside.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* ---- buffers ---- */
void pf_fused_drop(struct pf_fused *f, struct place *p)
{
	pf_buf_free(p->buf);
	f->held -= p->buf ? p->bytes : 0;
	free(p->host);
	*p = (struct place){ NULL, 0, NULL };
}

int pf_fused_grow(struct pf_fused *f, struct place *p, int kernel, unsigned arg, uint64_t bytes, struct pf_error *error)
{
	bytes = bytes ? (bytes + PF_PAGE_BYTES - 1) / PF_PAGE_BYTES * PF_PAGE_BYTES : SMALL_BYTES;
	if (p->buf && bytes <= p->bytes)
		return 0;
	pf_fused_drop(f, p);
	int code = pf_buf_alloc(f->options.device, kernel, arg, bytes, &p->buf, error);
	if (code)
		return code;
	p->bytes = bytes;
	f->held += bytes;
	f->peak = f->held > f->peak ? f->held : f->peak;
	return 0;
}

int pf_fused_lay(struct pf_fused *f, struct place *p, int kernel, unsigned arg, void *host, uint64_t bytes,
                 struct pf_error *error)
{
	if (!f->visible || bytes == 0)
		return pf_fused_grow(f, p, kernel, arg, bytes, error);
	pf_fused_drop(f, p);
	return pf_buf_adopt(f->options.device, kernel, arg, host, bytes, &p->buf, error);
}

int pf_fused_grow_host(float **host, uint64_t rows, uint32_t pitch, struct pf_error *error)
{
	free(*host);
	*host = calloc(rows ? rows : 1, (size_t)pitch * sizeof **host);
	return *host ? 0
	             : pf_fail(error, -ENOMEM, "no memory for %llu rows of %u on their way", (unsigned long long)rows,
	                       pitch);
}

static void free_set(struct pf_fused *f, struct set *s)
{
	for (int p = 0; p < PORTS; p++) {
		f->held -= s->port[p] ? f->visible ? 0 : pf_buf_bytes(s->port[p]) : 0;
		pf_buf_free(s->port[p]);
	}
	pf_fused_drop(f, &s->bias);
	*s = (struct set){ 0 };
}

static void free_adopted(struct pf_fused *f)
{
	for (int p = 0; p < PORTS; p++) {
		pf_buf_free(f->adopted[p]);
		f->adopted[p] = NULL;
	}
}

/* One copy, waited for */
int pf_fused_move(struct pf_buf *buf, void *host, uint64_t bytes, int in, struct pf_error *error)
{
	struct pf_ticket ticket = { 0 };
	if (bytes == 0)
		return 0;
	if (in)
		pf_copy_in(buf, 0, host, bytes, NULL, &ticket);
	else
		pf_copy_out(buf, 0, host, bytes, NULL, &ticket);
	return pf_wait(&ticket, error);
}

/* ---- W ---- */
static uint64_t port_rows(const struct pf_fused *f, int port)
{
	return PF_PORT_ROWS(f->options.vocab, (unsigned)port);
}

/* Where port `port` begins in an array of [V, cols] */
static uint64_t port_at(const struct pf_fused *f, int port, uint32_t cols)
{
	const uint64_t first = (uint64_t)port * PF_PORT_SHARE(f->options.vocab);
	return (first < f->options.vocab ? first : f->options.vocab) * cols;
}

static uint64_t port_bytes(const struct pf_fused *f, int port)
{
	const uint64_t bytes = port_rows(f, port) * f->pitch * sizeof(float);
	return bytes ? bytes : SMALL_BYTES;
}

void pf_fused_widen(const float *from, uint32_t cols, float *to, uint32_t pitch, uint64_t rows)
{
	for (uint64_t r = 0; r < rows; r++)
		memcpy(to + r * pitch, from + r * cols, cols * sizeof *to);
}

void pf_fused_add_narrowed(const float *from, uint32_t pitch, float *to, uint32_t cols, uint64_t rows)
{
	for (uint64_t r = 0; r < rows; r++)
		for (uint32_t d = 0; d < cols; d++)
			to[r * cols + d] += from[r * pitch + d];
}

static int load_port(struct pf_fused *f, struct set *s, int port, const float *weight, struct pf_error *error)
{
	const uint64_t rows = port_rows(f, port), bytes = port_bytes(f, port);
	const float *from = weight + port_at(f, port, f->options.dim);
	const unsigned arg = PF_ARG_linear_logprob_weight + (unsigned)port;
	int code = 0;
	if (f->visible && rows)
		return pf_buf_adopt(f->options.device, PF_KERNEL_linear_logprob, arg, (void *)from, bytes,
		                    &s->port[port], error);
	if (!s->port[port]) {
		code = pf_buf_alloc(f->options.device, PF_KERNEL_linear_logprob, arg, bytes, &s->port[port], error);
		f->held += code ? 0 : bytes;
		f->peak = f->held > f->peak ? f->held : f->peak;
	}
	if (code || rows == 0)
		return code;
	if (f->pitch == f->options.dim)
		return pf_fused_move(s->port[port], (void *)from, bytes, 1, error);
	code = pf_fused_grow_host(&f->stage_w, PF_PORT_SHARE(f->options.vocab), f->pitch, error);
	if (code)
		return code;
	pf_fused_widen(from, f->options.dim, f->stage_w, f->pitch, rows);
	return pf_fused_move(s->port[port], f->stage_w, bytes, 1, error);
}

static int holds(const struct pf_fused *f, const struct set *s, const struct pf_fused_weight *w)
{
	return s->used && s->weight == w->weight && (f->visible || (w->version && s->version == w->version));
}

/* The set that holds W; else one of the same array, whose numbers are older; else the one unused for longest */
static struct set *set_for(struct pf_fused *f, const struct pf_fused_weight *w)
{
	struct set *best = NULL;
	int best_rank = 0;
	for (int i = 0; i < SETS; i++) {
		struct set *s = &f->set[i];
		const int rank = holds(f, s, w) ? 2 : s->used && s->weight == w->weight;
		if (!best || rank > best_rank || (rank == best_rank && s->used < best->used)) {
			best = s;
			best_rank = rank;
		}
	}
	return best;
}

int pf_fused_load(struct pf_fused *f, const struct pf_fused_weight *w, struct pf_error *error)
{
	struct set *s = f->now = set_for(f, w);
	const int same = holds(f, s, w);
	if (!same && f->visible)               /* another array: what was adopted is not reused */
		free_set(f, s);
	s->used = ++f->clock;
	if (same && !w->bias)
		return 0;
	int code = 0;
	for (int p = 0; !same && !code && p < PORTS; p++)
		code = load_port(f, s, p, w->weight, error);
	if (!code)
		code = pf_fused_grow(f, &s->bias, PF_KERNEL_linear_logprob, PF_ARG_linear_logprob_bias,
		                     w->bias ? f->options.vocab * sizeof *w->bias : 0, error);
	if (!code && w->bias)
		code = pf_fused_move(s->bias.buf, (void *)w->bias, f->options.vocab * sizeof *w->bias, 1, error);
	s->weight = w->weight;
	s->version = w->version;
	if (code)
		free_set(f, s);
	return code;
}

/* ---- dW ---- */

/* A fresh buffer that kernels read and write must have been written once */
static int grow_written(struct pf_fused *f, struct place *p, unsigned arg, uint64_t bytes, struct pf_error *error)
{
	const struct pf_buf *had = p->buf;
	int code = pf_fused_grow(f, p, PF_KERNEL_linear_grad, arg, bytes, error);
	if (code || p->buf == had)
		return code;
	void *zero = calloc(1, p->bytes);
	if (!zero)
		return pf_fail(error, -ENOMEM, "no memory for %llu bytes", (unsigned long long)p->bytes);
	code = pf_fused_move(p->buf, zero, p->bytes, 1, error);
	free(zero);
	return code;
}

/* Where dW goes: the caller's memory, or buffers whose sums wait brings back */
int pf_fused_open_dweight(struct pf_fused *f, float *dweight, struct pf_error *error)
{
	int code = 0;
	free_adopted(f);
	for (int p = 0; !code && p < PORTS; p++) {
		const unsigned arg = PF_ARG_linear_grad_dweight + (unsigned)p;
		if (dweight && f->visible && port_rows(f, p))
			code = pf_buf_adopt(f->options.device, PF_KERNEL_linear_grad, arg,
			                    dweight + port_at(f, p, f->pitch), port_bytes(f, p), &f->adopted[p], error);
		else
			code = grow_written(f, &f->dport[p], arg, dweight && !f->visible ? port_bytes(f, p) : 0, error);
	}
	if (!code)
		code = grow_written(f, &f->dbias, PF_ARG_linear_grad_dbias,
		                    f->options.bias ? f->options.vocab * sizeof(float) : 0, error);
	if (!code && dweight && f->visible)            /* what adds to the caller's dW adds to this too */
		memset(pf_buf_map(f->dbias.buf), 0, f->dbias.bytes);
	if (!code && !f->stage_w && (f->options.bias || (dweight && !f->visible)))
		code = pf_fused_grow_host(&f->stage_w, PF_PORT_SHARE(f->options.vocab), f->pitch > 4 ? f->pitch : 4,
		                          error);
	return code;
}

int pf_fused_bring_dweight(struct pf_fused *f, float *dweight, struct pf_error *error)
{
	int code = 0;
	for (int p = 0; !code && p < PORTS; p++) {
		const uint64_t rows = port_rows(f, p);
		code = pf_fused_move(f->dport[p].buf, f->stage_w, rows * f->pitch * sizeof *dweight, 0, error);
		if (!code)
			pf_fused_add_narrowed(f->stage_w, f->pitch, dweight + port_at(f, p, f->options.dim),
			                      f->options.dim, rows);
	}
	return code;
}

void pf_fused_free_weights(struct pf_fused *f)
{
	for (int i = 0; i < SETS; i++)
		free_set(f, &f->set[i]);
	free_adopted(f);
	for (int p = 0; p < PORTS; p++)
		pf_fused_drop(f, &f->dport[p]);
}
