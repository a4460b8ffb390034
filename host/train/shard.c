#include "shard.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#pragma GCC diagnostic ignored "-Wunused-label"        /* labels name loops for HLS */
#include "prefpga/internal/row_finish.h"

enum { BLOCK = PF_TOKENS };

struct part {
	struct pf_fused *fused;
	uint32_t         first, words;         /* of the vocabulary */
	int32_t         *target;               /* [T], as the range sees them */
	struct pf_shard *state;                /* [T] */
	float           *dhidden;              /* [T, D]; the first part's is the caller's */
};

struct pf_shards {
	uint32_t               vocab, dim, room;       /* room: tokens that the arrays hold */
	uint32_t               flags;                  /* PF_WANT_STATS, always with an entropy bonus */
	struct pf_fused_tokens tokens;                 /* of the last forward */
	struct pf_row         *row;                    /* [T], merged */
	struct pf_filtered    *filtered;               /* [T], or NULL without a filter */
	unsigned               parts;
	struct part            part[];
};

/* ---- states ---- */

/* Bins of a window with top `from` in one with top `to`, the larger; what falls below it is dropped, as kernels do */
static void lift(const int64_t bin[PF_BINS], int32_t from, int32_t to, int64_t sum[PF_BINS])
{
	for (int32_t w = 0; w < PF_BINS && w + (to - from) < PF_BINS; w++)
		sum[w + (to - from)] += bin[w];
}

static void add_bins(int64_t all[PF_BINS], int32_t all_top, const int64_t part[PF_BINS], int32_t part_top)
{
	const int32_t top = all_top > part_top ? all_top : part_top;
	int64_t sum[PF_BINS] = { 0 };
	lift(all, all_top, top, sum);
	lift(part, part_top, top, sum);
	memcpy(all, sum, sizeof sum);
}

void pf_shard_add(struct pf_shard *all, const struct pf_shard *part, uint32_t first, int owner)
{
	add_bins(all->sum, all->top, part->sum, part->top);
	add_bins(all->moment, all->top, part->moment, part->top);
	add_bins(all->sum_p2, all->top_p2, part->sum_p2, part->top_p2);
	all->top = all->top > part->top ? all->top : part->top;
	all->top_p2 = all->top_p2 > part->top_p2 ? all->top_p2 : part->top_p2;
	const uint32_t argmax = first + part->argmax;
	if (pf_key(part->max) > pf_key(all->max) ||
	    (pf_key(part->max) == pf_key(all->max) && argmax < all->argmax)) {
		all->max = part->max;
		all->argmax = argmax;
	}
	all->logits = all->logits == INT64_MIN || part->logits == INT64_MIN ? INT64_MIN : all->logits + part->logits;
	all->target = owner ? part->target : all->target;
	all->status |= part->status;
}

void pf_shard_finish(struct pf_shard *all, int32_t target, uint32_t vocab, uint32_t flags, struct pf_row *row)
{
	if (target >= 0)
		all->status = pf_row_status_of(all, target, vocab);
	pf_row_finish(all, vocab, flags, row);
}

/* The record of token t */
static void merge(const struct pf_shards *s, uint32_t t, struct pf_row *row)
{
	const int32_t y = s->tokens.target[t];
	struct pf_shard all = s->part[0].state[t];
	for (unsigned i = 1; i < s->parts; i++) {
		const struct part *p = &s->part[i];
		pf_shard_add(&all, &p->state[t], p->first, (uint32_t)y - p->first < p->words);
	}
	pf_shard_finish(&all, y, s->vocab, s->tokens.flags | s->flags, row);
}

/* ---- open, close ---- */
static int open_part(struct pf_shards *s, const struct pf_fused_options *options, struct pf_device *device, unsigned i,
                     struct pf_error *error)
{
	const uint64_t blocks = (s->vocab + BLOCK - 1) / BLOCK;
	const uint64_t from = blocks * i / s->parts * BLOCK, to = blocks * (i + 1) / s->parts * BLOCK;
	struct part *p = &s->part[i];
	struct pf_fused_options own = *options;
	p->first = (uint32_t)from;
	p->words = (uint32_t)((to < s->vocab ? to : s->vocab) - from);
	own.device = device;
	own.vocab = p->words;
	return pf_fused_open(&own, &p->fused, error);
}

int pf_shards_open(const struct pf_fused_options *options, struct pf_device *const *device, unsigned parts,
                   struct pf_shards **shards, struct pf_error *error)
{
	const uint32_t blocks = (options->vocab + BLOCK - 1) / BLOCK;
	*shards = NULL;
	if (options->vocab == 0 || options->vocab > PF_VOCAB_MAX)
		return pf_fail(error, PF_E_RANGE, "vocabulary of %u: 1 to %u are possible", options->vocab,
		               PF_VOCAB_MAX);
	if (parts == 0 || parts > blocks)
		return pf_fail(error, PF_E_RANGE,
		               "%u ranges of %u words: a range has 64 at least, so 1 to %u are possible", parts,
		               options->vocab, blocks);
	struct pf_shards *s = calloc(1, sizeof *s + parts * sizeof s->part[0]);
	if (!s)
		return pf_fail(error, -ENOMEM, "no memory for the head");
	s->vocab = options->vocab;
	s->dim = options->dim;
	s->flags = options->form.entropy != 0 ? PF_WANT_STATS : 0;
	s->parts = parts;
	int code = 0;
	for (unsigned i = 0; !code && i < parts; i++)
		code = open_part(s, options, device[i], i, error);
	if (!code && options->filter > 0 && !(s->filtered = calloc(1, sizeof *s->filtered)))
		code = pf_fail(error, -ENOMEM, "no memory for the head");
	if (code)
		pf_shards_close(s);
	else
		*shards = s;
	return code;
}

static void free_arrays(struct pf_shards *s)
{
	for (unsigned i = 0; i < s->parts; i++) {
		struct part *p = &s->part[i];
		free(p->target);
		free(p->state);
		free(p->dhidden);
		p->target = NULL;
		p->state = NULL;
		p->dhidden = NULL;
	}
	free(s->row);
	free(s->filtered);
	s->row = NULL;
	s->filtered = NULL;
	s->room = 0;
}

void pf_shards_close(struct pf_shards *s)
{
	for (unsigned i = 0; s && i < s->parts; i++)
		pf_fused_close(s->part[i].fused);
	if (s)
		free_arrays(s);
	free(s);
}

static int make_room(struct pf_shards *s, uint32_t tokens, struct pf_error *error)
{
	const int filter = s->filtered != NULL;
	if (tokens <= s->room)
		return 0;
	free_arrays(s);
	int enough = (s->row = calloc(tokens, sizeof *s->row)) != NULL;
	enough &= !filter || (s->filtered = calloc(tokens, sizeof *s->filtered)) != NULL;
	for (unsigned i = 0; enough && i < s->parts; i++) {
		struct part *p = &s->part[i];
		p->target = calloc(tokens, sizeof *p->target);
		p->state = calloc(tokens, sizeof *p->state);
		p->dhidden = i ? calloc((size_t)tokens * s->dim, sizeof *p->dhidden) : NULL;
		enough = p->target && p->state && (i == 0 || p->dhidden);
	}
	s->room = enough ? tokens : 0;
	return enough ? 0 : pf_fail(error, -ENOMEM, "no memory for %u tokens in %u ranges", tokens, s->parts);
}

/* ---- phases ---- */

/* Waits for every part, whatever the first error was */
static int wait_all(struct pf_shards *s, int code, struct pf_error *error)
{
	for (unsigned i = 0; i < s->parts; i++) {
		int one = pf_fused_wait(s->part[i].fused, code ? NULL : error);
		code = code ? code : one;
	}
	return code;
}

static void see_targets(const struct pf_shards *s, struct part *p)
{
	for (uint32_t t = 0; t < s->tokens.tokens; t++) {
		const uint32_t y = (uint32_t)s->tokens.target[t];
		p->target[t] = s->tokens.target[t] < 0 ? PF_IGNORE : y - p->first < p->words ? (int32_t)(y - p->first)
		                                                                             : INT32_MAX;
	}
}

static int ask_states(struct pf_shards *s, const struct pf_fused_weight *w, struct part *p, struct pf_error *error)
{
	const struct pf_fused_weight own = { w->weight + (size_t)p->first * s->dim, w->bias ? w->bias + p->first : NULL,
		                             w->version, w->precision };
	struct pf_fused_tokens tokens = s->tokens;
	see_targets(s, p);
	tokens.target = p->target;
	return pf_fused_forward_shard(p->fused, &own, &tokens, p->state, error);
}

int pf_shards_forward(struct pf_shards *s, const struct pf_fused_weight *weight, const struct pf_fused_tokens *tokens,
                      struct pf_seq *sum, struct pf_row *row, struct pf_error *error)
{
	s->tokens = *tokens;
	int code = make_room(s, tokens->tokens, error);
	for (unsigned i = 0; !code && i < s->parts; i++)
		code = ask_states(s, weight, &s->part[i], error);
	code = wait_all(s, code, error);
	for (uint32_t t = 0; !code && t < tokens->tokens; t++)
		merge(s, t, &s->row[t]);
	for (unsigned i = 0; !code && i < s->parts; i++)
		code = pf_fused_merged(s->part[i].fused, s->row, i == 0 ? sum : NULL, error);
	code = wait_all(s, code, error);
	if (!code && row && tokens->tokens)
		memcpy(row, s->row, tokens->tokens * sizeof *row);
	return code;
}

static void add_parts(struct pf_shards *s, float *dhidden)
{
	const size_t count = (size_t)s->tokens.tokens * s->dim;
	for (unsigned i = 1; i < s->parts; i++)
		for (size_t k = 0; k < count; k++)
			dhidden[k] += s->part[i].dhidden[k];
	for (uint32_t t = 0; s->filtered && t < s->tokens.tokens; t++) {
		s->filtered[t] = (struct pf_filtered){ 0 };
		for (unsigned i = 0; i < s->parts; i++) {
			const struct pf_filtered *own = &pf_fused_filtered(s->part[i].fused)[t];
			s->filtered[t].mass_q40 += own->mass_q40;
			s->filtered[t].words += own->words;
			s->filtered[t].saved += own->saved;
		}
	}
}

int pf_shards_backward(struct pf_shards *s, const float *coef, float *dhidden, float *dweight, float *dbias,
                       struct pf_error *error)
{
	int code = 0;
	for (unsigned i = 0; !code && i < s->parts; i++) {
		const struct part *p = &s->part[i];
		code = pf_fused_backward(p->fused, coef, i ? p->dhidden : dhidden,
		                         dweight ? dweight + (size_t)p->first * s->dim : NULL,
		                         dbias ? dbias + p->first : NULL, error);
	}
	code = wait_all(s, code, error);
	if (!code)
		add_parts(s, dhidden);
	return code;
}

void pf_shards_forget(struct pf_shards *s, const float *weight, enum pf_precision precision)
{
	for (unsigned i = 0; i < s->parts; i++)
		pf_fused_forget(s->part[i].fused, weight + (size_t)s->part[i].first * s->dim, precision);
}

const struct pf_filtered *pf_shards_filtered(const struct pf_shards *s)
{
	return s->filtered;
}

unsigned pf_shards_parts(const struct pf_shards *s)
{
	return s->parts;
}

enum pf_way pf_shards_way(const struct pf_shards *s, const char **why)
{
	return pf_fused_way(s->part[0].fused, why);
}

uint64_t pf_shards_peak(const struct pf_shards *s)
{
	uint64_t peak = 0;
	for (unsigned i = 0; i < s->parts; i++)
		peak += pf_fused_peak(s->part[i].fused);
	return peak;
}
