#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "decoder.h"
#include "logits.h"
#include "model.h"
#include "sample.h"

/* Prompts that decode together; more wait their turn, so that memory does not grow with their
 * number */
enum { SLOTS_MOST = 64 };

/* A sequence in the making, in slot of its index */
struct writer {
	uint32_t sequence, length, drawn;
	struct pf_random random;
	int32_t last;
};

struct generation {
	const struct pf_model *model;
	const struct pf_sampling *sampling;
	const int32_t *ids;
	const uint32_t *offsets;
	pf_token_fn token;
	void *context;
	struct pf_decoder *decoder;
	struct pf_cache *cache;
	struct writer writer[SLOTS_MOST];
	uint32_t slot[SLOTS_MOST], active; /* writers still at work */
	int32_t *batch;                    /* [most tokens of a call] */
	uint32_t batch_offsets[SLOTS_MOST + 1];
	float *hidden, *logits;   /* [SLOTS_MOST, D], [SLOTS_MOST, V] */
	const float *head;        /* [V, D] */
	float *head_room;         /* NULL if the head is where the model has it */
	struct pf_choice *choice; /* [V] */
};

static int check_sampling(const struct pf_sampling *s, struct pf_error *error)
{
	if (!(s->temperature >= 0.0 && isfinite(s->temperature)))
		return pf_fail(error, PF_E_RANGE,
		               "generate: temperature is %g; it must be 0 or more", s->temperature);
	if (!(s->top_p > 0.0 && s->top_p <= 1.0))
		return pf_fail(error, PF_E_RANGE,
		               "generate: top-p is %g; it must be above 0, at most 1", s->top_p);
	return 0;
}

static int check_prompts(const struct pf_model *model, const uint32_t *offsets, uint32_t seqs,
                         struct pf_error *error)
{
	for (uint32_t i = 0; i < seqs; i++) {
		uint32_t length = offsets[i + 1] - offsets[i];
		if (offsets[i + 1] <= offsets[i])
			return pf_fail(error, PF_E_DATA, "generate: prompt %u is empty", i);
		if (length > model->config.max_positions)
			return pf_fail(error, PF_E_SHAPE,
			               "generate: prompt %u has %u tokens; the model's "
			               "max_position_embeddings is %u",
			               i, length, model->config.max_positions);
	}
	return 0;
}

/* The longest sequence that can come out, and the most tokens of one call (the prompts of one
 * group) */
static void measure(const struct generation *g, uint32_t seqs, uint32_t *positions,
                    uint32_t *tokens)
{
	*positions = 1;
	*tokens = SLOTS_MOST;
	for (uint32_t i = 0; i < seqs; i++) {
		uint32_t end = i + SLOTS_MOST < seqs ? i + SLOTS_MOST : seqs;
		uint64_t whole = (uint64_t)g->offsets[i + 1] - g->offsets[i] +
		                 g->sampling->max_tokens;
		uint32_t group = g->offsets[end] - g->offsets[i];
		if (whole > g->model->config.max_positions)
			whole = g->model->config.max_positions;
		*positions = *positions > whole ? *positions : (uint32_t)whole;
		if (i % SLOTS_MOST == 0 && group > *tokens)
			*tokens = group;
	}
}

static int generation_open(struct generation *g, uint32_t seqs, struct pf_error *error)
{
	const struct pf_model_config *c = &g->model->config;
	uint32_t positions, tokens, slots = seqs < SLOTS_MOST ? seqs : SLOTS_MOST;
	measure(g, seqs, &positions, &tokens);
	const struct pf_decoder_options options = { tokens, positions, g->sampling->threads, 0 };
	int code = pf_decoder_open(c, &g->model->layout, &options, &g->decoder, error);
	code = code != 0 ? code : pf_cache_open(c, slots, positions, &g->cache, error);
	if (code != 0)
		return code;
	g->batch = malloc(tokens * sizeof *g->batch);
	g->hidden = pf_floats_alloc((uint64_t)SLOTS_MOST * c->dim);
	g->logits = pf_floats_alloc((uint64_t)SLOTS_MOST * c->vocab);
	g->choice = malloc(c->vocab * sizeof *g->choice);
	g->head = pf_model_head(g->model, &g->head_room);
	if (!g->batch || !g->hidden || !g->logits || !g->choice || !g->head)
		return pf_fail(error, -ENOMEM, "generate: out of memory");
	return 0;
}

static void generation_close(struct generation *g)
{
	pf_decoder_close(g->decoder);
	pf_cache_close(g->cache);
	free(g->batch);
	free(g->hidden);
	free(g->logits);
	free(g->head_room);
	free(g->choice);
}

/* Feeds what each active sequence has new, the prompt or the last token, and forms the logits that
 * follow */
static int advance(struct generation *g, struct pf_error *error)
{
	const struct pf_model_config *c = &g->model->config;
	const struct pf_weights weights = pf_model_weights(g->model);
	uint32_t last[SLOTS_MOST];
	for (uint32_t i = 0; i < g->active; i++) {
		const struct writer *w = &g->writer[g->slot[i]];
		const int fresh = w->drawn == 0;
		const uint32_t count = fresh ? w->length : 1;
		memcpy(g->batch + g->batch_offsets[i],
		       fresh ? g->ids + g->offsets[w->sequence] : &w->last,
		       count * sizeof *g->batch);
		g->batch_offsets[i + 1] = g->batch_offsets[i] + count;
		last[i] = g->batch_offsets[i + 1] - 1;
	}
	int code = pf_decoder_extend_with(g->decoder, &weights, g->cache, g->slot, g->batch,
	                             g->batch_offsets, g->active, error);
	if (code != 0)
		return code;
	const struct pf_head_shape shape = { g->active, c->vocab, c->dim, c->vocab };
	pf_rows_gather(pf_decoder_hidden(g->decoder), c->dim, last, g->active, g->hidden);
	pf_logits(g->sampling->threads, &shape, g->hidden, g->head, g->logits);
	if (c->logit_cap > 0)
		pf_logits_cap(g->sampling->threads, &shape, c->logit_cap, g->logits);
	return 0;
}

/* Draws the next token of a sequence. 1: the sequence is complete */
static int draw(struct generation *g, struct writer *w, const float *logits, struct pf_error *error)
{
	const uint32_t vocab = g->model->config.vocab;
	int code = pf_sample(g->sampling, logits, vocab, &w->random, g->choice, &w->last);
	if (code != 0)
		return pf_fail(error, code,
		               "generate: sequence %u: the model's logits are not finite",
		               w->sequence);
	w->drawn++;
	w->length++;
	code = g->token(g->context, w->sequence, w->last);
	if (code != 0)
		return code < 0 ? pf_fail(error, code, "generate: stopped: %s", pf_error_text(code))
		                : 1;
	return w->last == g->sampling->eos || w->drawn >= g->sampling->max_tokens ||
	       w->length >= g->model->config.max_positions;
}

static int draw_all(struct generation *g, struct pf_error *error)
{
	uint32_t still = 0;
	for (uint32_t i = 0; i < g->active; i++) {
		const uint32_t slot = g->slot[i];
		int code = draw(g, &g->writer[slot], g->logits + (size_t)i * g->model->config.vocab,
		                error);
		if (code < 0)
			return code;
		if (code == 0)
			g->slot[still++] = slot;
	}
	g->active = still;
	return 0;
}

/* Sequences first .. first + count, from empty slots to their ends */
static int generate_group(struct generation *g, uint32_t first, uint32_t count,
                          struct pf_error *error)
{
	g->active = 0;
	for (uint32_t i = 0; i < count; i++) {
		struct writer *w = &g->writer[i];
		*w = (struct writer){ .sequence = first + i };
		w->length = g->offsets[first + i + 1] - g->offsets[first + i];
		pf_random_seed(&w->random, g->sampling->seed, first + i);
		pf_cache_clear(g->cache, i);
		if (w->length < g->model->config.max_positions)
			g->slot[g->active++] = i;
	}
	while (g->active > 0) {
		int code = advance(g, error);
		code = code != 0 ? code : draw_all(g, error);
		if (code != 0)
			return code;
	}
	return 0;
}

int pf_generate(const struct pf_model *model, const struct pf_sampling *sampling,
                const int32_t *ids, const uint32_t *offsets, uint32_t seqs, pf_token_fn token,
                void *context, struct pf_error *error)
{
	int code = check_sampling(sampling, error);
	code = code != 0 ? code : check_prompts(model, offsets, seqs, error);
	if (code != 0 || seqs == 0 || sampling->max_tokens == 0)
		return code;
	struct generation *g = calloc(1, sizeof *g);
	if (!g)
		return pf_fail(error, -ENOMEM, "generate: out of memory");
	g->model = model;
	g->sampling = sampling;
	g->ids = ids;
	g->offsets = offsets;
	g->token = token;
	g->context = context;
	code = generation_open(g, seqs, error);
	for (uint32_t i = 0; code == 0 && i < seqs; i += SLOTS_MOST)
		code = generate_group(g, i, seqs - i < SLOTS_MOST ? seqs - i : SLOTS_MOST, error);
	generation_close(g);
	free(g);
	return code;
}
