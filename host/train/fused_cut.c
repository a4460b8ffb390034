/* How a chunk is cut over a device's compute units.
 *
 * A strip of whole blocks of 64 tokens a unit. Where there are not as many blocks as units, each block goes to several
 * units, which take ranges of the vocabulary. A range is rows [from, to) of each of W's ports, so it is a part of the
 * matrix as it lies, and its words are numbered as kernels number those of a W that has only these rows.
 *
 * No bit depends on it. Tokens are independent, ranges' states merge as integers (shard.h), and raw logits of ranges,
 * which are whole tiles, lie where a launch over all words puts them. The way back is cut by tokens only: dhidden is a
 * sum of floats over words, whose order would become that of the ranges and so of the number of units. Ranges of a
 * number that comes from shapes alone (--shards) would do for it as well, but cost other bits, and a device with one
 * unit, which is all that a card's ports allow, a copy of dhidden for each. */
#include "fused_inside.h"
#include <string.h>
#include "shard.h"

enum { RANGE_ROWS = 64 };              /* of a port: such rows begin on a page, whatever D is */

static uint32_t up(uint32_t count, uint32_t of)
{
	return (count + of - 1) / of;
}

static uint64_t page_up(uint64_t bytes)
{
	return (bytes + PF_PAGE_BYTES - 1) / PF_PAGE_BYTES * PF_PAGE_BYTES;
}

void pf_fused_choose_cut(struct pf_fused *f)
{
	const struct pf_fused_options *o = &f->options;
	const uint32_t tokens = f->tokens.tokens, blocks = up(tokens, PF_TOKENS);
	const uint32_t cus = pf_device_cus(o->device, pf_precision_forward_kernel(f->precision));
	const uint32_t units = cus < 1 ? 1 : cus > PIECES_MOST ? PIECES_MOST : cus;
	const uint32_t most = PF_PORT_SHARE(o->vocab) / RANGE_ROWS;    /* ranges of the vocabulary */
	const uint32_t strips = blocks < units ? blocks : units;
	f->each = tokens ? up(blocks, strips) * PF_TOKENS : PF_TOKENS;
	f->ranges = 1;
	/* A bias lies in no order of ports; shards are cut already */
	if (tokens && !o->bias && !f->to_state && most > 1)
		f->ranges = units / strips < most ? units / strips : most;
}

uint64_t pf_fused_strip_bytes(const struct pf_fused *f, uint64_t size)
{
	return page_up(f->each * size);
}

uint64_t pf_fused_strip_at(const struct pf_fused *f, uint32_t first, uint64_t size)
{
	return first / f->each * pf_fused_strip_bytes(f, size);
}

uint64_t pf_fused_strips_bytes(const struct pf_fused *f, uint64_t size)
{
	return f->tokens.tokens ? up(f->tokens.tokens, f->each) * pf_fused_strip_bytes(f, size) : 0;
}

/* Bytes of the strip that begins with token `first` */
static uint64_t used_bytes(const struct pf_fused *f, uint32_t first, uint64_t size)
{
	const uint32_t left = f->tokens.tokens - first;
	return (left < f->each ? left : f->each) * size;
}

int pf_fused_send_numbers(struct pf_fused *f, struct place *place, const void *from, struct pf_error *error)
{
	const uint64_t size = sizeof(uint32_t), bytes = pf_fused_strips_bytes(f, size);
	if (pf_fused_strip_bytes(f, size) == f->each * size || f->tokens.tokens <= f->each) {
		pf_fused_copy_in(f, place->buf, from, f->tokens.tokens * size);
		return 0;
	}
	int code = pf_fused_grow_host(place, bytes, error);
	for (uint32_t t = 0; !code && t < f->tokens.tokens; t += f->each)
		memcpy((char *)place->host + pf_fused_strip_at(f, t, size), (const char *)from + t * size,
		       used_bytes(f, t, size));
	if (!code)
		pf_fused_copy_in(f, place->buf, place->host, bytes);
	return code;
}

int pf_fused_bring_filtered(struct pf_fused *f, struct pf_error *error)
{
	const uint64_t size = sizeof *f->left_out;
	int code = 0;
	for (uint32_t t = 0; !code && t < f->tokens.tokens; t += f->each) {
		struct pf_ticket ticket = { 0 };
		pf_copy_out(f->filtered.buf, pf_fused_strip_at(f, t, size), &f->left_out[t], used_bytes(f, t, size),
		            NULL, &ticket);
		code = pf_wait(&ticket, error);
	}
	return code;
}

/* ---- ranges of the vocabulary ---- */

struct range pf_fused_range(const struct pf_fused *f, unsigned number)
{
	const uint32_t share = PF_PORT_SHARE(f->options.vocab), parts = share / RANGE_ROWS;
	const uint32_t end = (number + 1) * parts / f->ranges * RANGE_ROWS;
	struct range r = { number * parts / f->ranges * RANGE_ROWS, number + 1 == f->ranges ? share : end, 0 };
	for (unsigned p = 0; p < PORTS; p++) {
		const uint32_t rows = (uint32_t)PF_PORT_ROWS(f->options.vocab, p);
		const uint32_t last = rows < r.to ? rows : r.to;
		r.words += last > r.from ? last - r.from : 0;
	}
	return r;
}

/* A word of the vocabulary as the range numbers it; UINT32_MAX: it has none such */
static uint32_t word_in(const struct pf_fused *f, const struct range *r, uint32_t word)
{
	const uint32_t share = PF_PORT_SHARE(f->options.vocab), row = word % share;
	return word < f->options.vocab && row >= r->from && row < r->to
	               ? word / share * (r->to - r->from) + row - r->from : UINT32_MAX;
}

static uint32_t word_of(const struct pf_fused *f, const struct range *r, uint32_t word)
{
	const uint32_t rows = r->to - r->from;
	return word / rows * PF_PORT_SHARE(f->options.vocab) + r->from + word % rows;
}

static uint64_t target_bytes(const struct pf_fused *f)
{
	return pf_fused_strips_bytes(f, sizeof(int32_t)) * f->ranges;
}

static uint64_t state_bytes(const struct pf_fused *f)
{
	return pf_fused_strips_bytes(f, sizeof(struct pf_shard)) * f->ranges;
}

static int room_for_ranges(struct pf_fused *f, struct pf_error *error)
{
	const int kernel = pf_precision_forward_kernel(f->precision);
	int code = pf_fused_grow(f, &f->range_target, kernel, PF_ARG_linear_logprob_target, target_bytes(f), error);
	if (!code)
		code = pf_fused_grow(f, &f->range_state, kernel, PF_ARG_linear_logprob_shard, state_bytes(f), error);
	if (!code)
		code = pf_fused_grow_host(&f->range_target, target_bytes(f), error);
	if (!code)
		code = pf_fused_grow_host(&f->range_state, state_bytes(f), error);
	return code ? code : pf_fused_grow_host(&f->row, f->tokens.tokens * sizeof(struct pf_row), error);
}

/* Targets as the ranges see them, range by range within a strip: those of other ranges are none of their words */
int pf_fused_send_range_targets(struct pf_fused *f, struct pf_error *error)
{
	const uint64_t strip = pf_fused_strip_bytes(f, sizeof(int32_t));
	int code = room_for_ranges(f, error);
	for (uint32_t t = 0; !code && t < f->tokens.tokens; t++)
		for (unsigned i = 0; i < f->ranges; i++) {
			const struct range r = pf_fused_range(f, i);
			const int32_t y = f->tokens.target[t];
			const uint32_t word = y < 0 ? 0 : word_in(f, &r, (uint32_t)y);
			int32_t *to = (void *)((char *)f->range_target.host + (t / f->each * f->ranges + i) * strip);
			to[t % f->each] = y < 0 ? PF_IGNORE : word == UINT32_MAX ? INT32_MAX : (int32_t)word;
		}
	if (!code)
		pf_fused_copy_in(f, f->range_target.buf, f->range_target.host, target_bytes(f));
	return code;
}

static struct pf_shard *state_of(const struct pf_fused *f, uint32_t t, unsigned range)
{
	const uint64_t strip = pf_fused_strip_bytes(f, sizeof(struct pf_shard));
	struct pf_shard *states = (void *)((char *)f->range_state.host + (t / f->each * f->ranges + range) * strip);
	return &states[t % f->each];
}

/* The last strip may be short: nothing beyond its tokens was written */
static int bring_states(struct pf_fused *f, struct pf_error *error)
{
	const uint64_t strip = pf_fused_strip_bytes(f, sizeof(struct pf_shard));
	int code = 0;
	for (uint32_t t = 0; !code && t < f->tokens.tokens; t += f->each)
		for (unsigned i = 0; !code && i < f->ranges; i++) {
			struct pf_ticket ticket = { 0 };
			pf_copy_out(f->range_state.buf, (t / f->each * f->ranges + i) * strip, state_of(f, t, i),
			            used_bytes(f, t, sizeof(struct pf_shard)), NULL, &ticket);
			code = pf_wait(&ticket, error);
		}
	return code;
}

/* Merges the ranges' states to records and sends them to the device */
int pf_fused_merge_ranges(struct pf_fused *f, struct pf_error *error)
{
	const struct pf_fused_tokens *t = &f->tokens;
	const uint32_t flags = f->mode & PF_LINEAR_STATS ? PF_WANT_STATS : 0;
	struct pf_row *row = f->row.host;
	int code = bring_states(f, error);
	for (uint32_t i = 0; !code && i < t->tokens; i++) {
		struct pf_shard all = { 0 };
		for (unsigned k = 0; k < f->ranges; k++) {
			const struct range r = pf_fused_range(f, k);
			struct pf_shard *part = state_of(f, i, k);
			part->argmax = word_of(f, &r, part->argmax);
			if (k == 0)
				all = *part;
			else
				pf_shard_add(&all, part, 0, t->target[i] >= 0 &&
				             word_in(f, &r, (uint32_t)t->target[i]) != UINT32_MAX);
		}
		pf_shard_finish(&all, t->target[i], f->options.vocab, flags, &row[i]);
	}
	return code ? code : pf_fused_move(f->row.buf, row, t->tokens * sizeof *row, 1, error);
}
