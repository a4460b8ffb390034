#include "fused_inside.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* ---- buffers ---- */
static void drop_buffer(struct pf_fused *f, struct place *p)
{
	pf_buf_free(p->buf);
	f->held -= p->buf ? p->bytes : 0;
	p->buf = NULL;
	p->bytes = 0;
}

void pf_fused_drop(struct pf_fused *f, struct place *p)
{
	drop_buffer(f, p);
	free(p->host);
	p->host = NULL;
	p->host_bytes = 0;
}

int pf_fused_grow(struct pf_fused *f, struct place *p, int kernel, unsigned arg, uint64_t bytes, struct pf_error *error)
{
	bytes = bytes ? (bytes + PF_PAGE_BYTES - 1) / PF_PAGE_BYTES * PF_PAGE_BYTES : SMALL_BYTES;
	if (p->buf && bytes <= p->bytes)
		return 0;
	drop_buffer(f, p);
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
	drop_buffer(f, p);
	return pf_buf_adopt(f->options.device, kernel, arg, host, bytes, &p->buf, error);
}

int pf_fused_grow_host(struct place *p, uint64_t bytes, struct pf_error *error)
{
	if (p->host && bytes <= p->host_bytes)
		return 0;
	free(p->host);
	p->host = calloc(1, bytes ? bytes : 1);
	p->host_bytes = p->host ? bytes : 0;
	return p->host ? 0
	               : pf_fail(error, -ENOMEM, "no memory for %llu bytes on their way", (unsigned long long)bytes);
}

static uint64_t port_rows(const struct pf_fused *f, int port)
{
	return PF_PORT_ROWS(f->options.vocab, (unsigned)port);
}

/* A port without rows is ours in an adopted set, too */
static void free_set(struct pf_fused *f, struct set *s)
{
	for (int p = 0; p < PORTS; p++) {
		const int ours = s->port[p] && !(s->adopted && port_rows(f, p));
		f->held -= ours ? pf_buf_bytes(s->port[p]) : 0;
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
/* Where port `port` begins in an array of [V, cols] */
static uint64_t port_at(const struct pf_fused *f, int port, uint32_t cols)
{
	const uint64_t first = (uint64_t)port * PF_PORT_SHARE(f->options.vocab);
	return (first < f->options.vocab ? first : f->options.vocab) * cols;
}

/* At least something, so that there is a buffer */
static uint64_t port_bytes(const struct pf_fused *f, int port, uint64_t row)
{
	const uint64_t bytes = port_rows(f, port) * row;
	return bytes ? bytes : SMALL_BYTES;
}

void pf_fused_add_narrowed(const float *from, uint32_t pitch, float *to, uint32_t cols, uint64_t rows)
{
	for (uint64_t r = 0; r < rows; r++)
		for (uint32_t d = 0; d < cols; d++)
			to[r * cols + d] += from[r * pitch + d];
}

/* W's arguments of a kernel that the image has: forms that only the way back takes have no forward there */
struct owner { int kernel; unsigned weight, bias; };

static struct owner owner_of(const struct pf_fused *f, enum pf_precision precision)
{
	const int forward = pf_precision_forward_kernel(precision);
	return pf_device_cus(f->options.device, forward)
	               ? (struct owner){ forward, PF_ARG_linear_logprob_weight, PF_ARG_linear_logprob_bias }
	               : (struct owner){ pf_precision_backward_kernel(precision), PF_ARG_linear_grad_weight,
	                                 PF_ARG_linear_grad_bias };
}

static int open_port(struct pf_fused *f, struct set *s, int port, uint64_t bytes, struct pf_error *error)
{
	const struct owner owner = owner_of(f, s->precision);
	if (s->port[port])
		return 0;
	int code = pf_buf_alloc(f->options.device, owner.kernel, owner.weight + (unsigned)port, bytes, &s->port[port],
	                        error);
	f->held += code ? 0 : bytes;
	f->peak = f->held > f->peak ? f->held : f->peak;
	return code;
}

static int load_port(struct pf_fused *f, struct set *s, int port, const float *weight, struct pf_error *error)
{
	const uint32_t dim = f->options.dim;
	const uint64_t row = pf_precision_row_bytes(s->precision, dim), rows = port_rows(f, port);
	const uint64_t bytes = port_bytes(f, port, row);
	const float *from = weight + port_at(f, port, dim);
	const struct owner owner = owner_of(f, s->precision);
	if (s->adopted && rows)
		return pf_buf_adopt(f->options.device, owner.kernel, owner.weight + (unsigned)port, (void *)from, bytes,
		                    &s->port[port], error);
	int code = open_port(f, s, port, bytes, error);
	if (code || rows == 0)
		return code;
	if (pf_precision_as_is(s->precision, dim))
		return pf_fused_move(s->port[port], (void *)from, bytes, 1, error);
	char *to = f->host_visible ? pf_buf_map(s->port[port]) : NULL;
	if (!to)
		code = pf_fused_grow_host(&f->stage_w, PF_PORT_SHARE(f->options.vocab) * row, error);
	if (code)
		return code;
	const uint64_t bad = pf_precision_pack(s->precision, from, rows, dim, to ? to : f->stage_w.host);
	if (bad < rows)
		return pf_fail(error, PF_E_DATA,
		               "row %llu of the head's weight has a number that is not finite, which mxint8 cannot "
		               "hold; bf16 and fp32 can, and show which tokens it touches",
		               (unsigned long long)(bad + (uint64_t)port * PF_PORT_SHARE(f->options.vocab)));
	return to ? 0 : pf_fused_move(s->port[port], f->stage_w.host, bytes, 1, error);
}

static int same_form(const struct set *s, const struct pf_fused_weight *w, enum pf_precision precision)
{
	return s->used && s->weight == w->weight && s->precision == precision;
}

static int holds(const struct set *s, const struct pf_fused_weight *w, enum pf_precision precision)
{
	return same_form(s, w, precision) && (s->adopted || (w->version && s->version == w->version));
}

/* The set that holds W; else one of the same array, whose numbers are older; else the one unused for longest */
static struct set *set_for(struct pf_fused *f, const struct pf_fused_weight *w, enum pf_precision precision)
{
	struct set *best = NULL;
	int best_rank = 0;
	for (int i = 0; i < SETS; i++) {
		struct set *s = &f->set[i];
		const int rank = holds(s, w, precision) ? 2 : same_form(s, w, precision);
		if (s == f->kept && rank < 2)          /* the host's numbers are older */
			continue;
		if (!best || rank > best_rank || (rank == best_rank && s->used < best->used)) {
			best = s;
			best_rank = rank;
		}
	}
	return best;
}

int pf_fused_load(struct pf_fused *f, const struct pf_fused_weight *w, enum pf_precision precision,
                  struct pf_error *error)
{
	struct set *s = f->now = set_for(f, w, precision);
	const struct owner owner = owner_of(f, precision);
	const int same = holds(s, w, precision);
	if (!same && (s->precision != precision || s->adopted))        /* such buffers are not reused */
		free_set(f, s);
	s->precision = precision;
	s->adopted = f->host_visible && pf_precision_as_is(precision, f->options.dim);
	s->used = ++f->clock;
	if (same && !w->bias)
		return 0;
	int code = 0;
	for (int p = 0; !same && !code && p < PORTS; p++)
		code = load_port(f, s, p, w->weight, error);
	if (!code)
		code = pf_fused_grow(f, &s->bias, owner.kernel, owner.bias,
		                     w->bias ? f->options.vocab * sizeof *w->bias : 0, error);
	if (!code && w->bias)
		code = pf_fused_move(s->bias.buf, (void *)w->bias, f->options.vocab * sizeof *w->bias, 1, error);
	s->weight = w->weight;
	s->version = w->version;
	if (code)
		free_set(f, s);
	return code;
}

void pf_fused_forget(struct pf_fused *f, const float *weight, enum pf_precision precision)
{
	for (int i = 0; i < SETS; i++) {
		struct set *s = &f->set[i];
		if (!s->used || s->weight != weight || s->precision != precision || s == f->kept)
			continue;
		f->now = f->now == s ? NULL : f->now;
		free_set(f, s);
	}
}

/* ---- dW ---- */

/* A fresh buffer that kernels read and write must have been written once */
static int grow_written(struct pf_fused *f, struct place *p, unsigned arg, uint64_t bytes, struct pf_error *error)
{
	const struct pf_buf *had = p->buf;
	int code = pf_fused_grow(f, p, pf_precision_backward_kernel(f->precision), arg, bytes, error);
	if (code || p->buf == had)
		return code;
	void *zero = calloc(1, p->bytes);
	if (!zero)
		return pf_fail(error, -ENOMEM, "no memory for %llu bytes", (unsigned long long)p->bytes);
	code = pf_fused_move(p->buf, zero, p->bytes, 1, error);
	free(zero);
	return code;
}

/* Where dW goes: the caller's memory, or buffers whose sums wait brings back. dW is fp32 in rows of whole beats of W */
int pf_fused_open_dweight(struct pf_fused *f, float *dweight, struct pf_error *error)
{
	const uint64_t row = pf_precision_pitch(f->back, f->options.dim) * sizeof(float);
	const int kernel = pf_precision_backward_kernel(f->precision), in_place = dweight && f->dweight_visible;
	const int own = (dweight && !in_place) || (f->kept && !f->host_visible);
	int code = 0;
	free_adopted(f);
	for (int p = 0; !code && p < PORTS; p++) {
		const unsigned arg = PF_ARG_linear_grad_dweight + (unsigned)p;
		if (in_place && port_rows(f, p))
			code = pf_buf_adopt(f->options.device, kernel, arg, dweight + port_at(f, p, f->options.dim),
			                    port_bytes(f, p, row), &f->adopted[p], error);
		else
			code = grow_written(f, &f->dport[p], arg, own ? port_bytes(f, p, row) : 0, error);
	}
	if (!code)
		code = grow_written(f, &f->dbias, PF_ARG_linear_grad_dbias,
		                    f->options.bias ? f->options.vocab * sizeof(float) : 0, error);
	if (!code && in_place)                         /* what adds to the caller's dW adds to this too */
		memset(pf_buf_map(f->dbias.buf), 0, f->dbias.bytes);
	if (!code && (f->options.bias || (dweight && !in_place)))
		code = pf_fused_grow_host(&f->stage_w, PF_PORT_SHARE(f->options.vocab) * (row > 16 ? row : 16), error);
	return code;
}

int pf_fused_bring_dweight(struct pf_fused *f, float *dweight, struct pf_error *error)
{
	const uint32_t pitch = pf_precision_pitch(f->back, f->options.dim);
	int code = 0;
	for (int p = 0; !code && p < PORTS; p++) {
		const uint64_t rows = port_rows(f, p);
		code = pf_fused_move(f->dport[p].buf, f->stage_w.host, rows * pitch * sizeof *dweight, 0, error);
		if (!code)
			pf_fused_add_narrowed(f->stage_w.host, pitch, dweight + port_at(f, p, f->options.dim),
			                      f->options.dim, rows);
	}
	return code;
}

void pf_fused_free_weights(struct pf_fused *f)
{
	for (int i = 0; i < SETS; i++)
		free_set(f, &f->set[i]);
	free_adopted(f);
	for (int p = 0; p < PORTS; p++) {
		pf_fused_drop(f, &f->dport[p]);
		pf_fused_drop(f, &f->moment1[p]);
		pf_fused_drop(f, &f->moment2[p]);
	}
	pf_fused_drop(f, &f->square);
}
