#include "scorer.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "../model/decoder.h"
#include "../model/logits.h"
#include "seconds.h"

struct pf_scorer {
	struct pf_decoder *decoder;
	struct pf_head *head;
	const struct pf_layout *layout;
	uint32_t dim, max_tokens;
	int per_token, tails;
	double tail;
	const struct pf_model *model;  /* of the last forward */
	const struct pf_model *reference;
	enum pf_precision precision, reference_precision;
	const float *policy_head, *reference_head;     /* of their last forwards, NULL: none since it was forgotten */
	float *head_room;              /* its head, if it is not computed with as it lies; else NULL */
	float *hidden, *dhidden;       /* [tokens, D] of scored places */
	float *dbody;                  /* [tokens, D] of all places */
	uint32_t *place;               /* [tokens] where a scored place lies in the chunk */
	int32_t *target;               /* [tokens] */
	struct pf_span *span;
	uint32_t *offset;
	uint32_t spans_room, spans, tokens, scored;
	uint32_t *led;                 /* [sequences] of the last forward: places of a prompt, whose span is before the */
	uint32_t sequences;            /* sequence's own; 0 sequences: none was asked for */
	struct pf_seq *span_sum;       /* [spans], with prompts only */
	double *span_grad;
	struct pf_scorer_times times;
	struct pf_trace *trace;
};

/* The body worked in one of the two spans, the head in the other */
static void count_times(struct pf_scorer *s, const char *first, double *first_seconds, double began, double middle,
                        const char *second, double *second_seconds)
{
	const double now = pf_seconds();
	*first_seconds += middle - began;
	*second_seconds += now - middle;
	pf_trace_phase(s->trace, first, began, middle);
	pf_trace_phase(s->trace, second, middle, now);
}

static int open_parts(struct pf_scorer *s, const struct pf_model_config *config, const struct pf_layout *layout,
                      const struct pf_scorer_options *o, struct pf_error *error)
{
	const struct pf_decoder_options body = { o->max_tokens, o->max_length, o->threads, o->backward };
	const struct pf_head_options head = { o->device, o->devices, config->vocab, config->dim, o->memory_bytes,
	                                      o->threads, config->logit_cap, !o->logits, o->backward, o->way,
	                                      o->precision, o->filter, o->shards };
	const uint64_t floats = (uint64_t)o->max_tokens * config->dim;
	s->hidden = pf_floats_alloc(floats);
	s->place = malloc(o->max_tokens * sizeof *s->place);
	s->target = malloc(o->max_tokens * sizeof *s->target);
	if (o->backward) {
		s->dhidden = pf_floats_alloc(floats);
		s->dbody = pf_floats_alloc(floats);
	}
	if (!s->hidden || !s->place || !s->target || (o->backward && (!s->dhidden || !s->dbody)))
		return pf_fail(error, -ENOMEM, "no memory for chunks of %u tokens; give --chunk-tokens fewer",
		               o->max_tokens);
	int code = pf_decoder_open(config, layout, &body, &s->decoder, error);
	return code ? code : pf_head_open(&head, &s->head, error);
}

int pf_scorer_open(const struct pf_model_config *config, const struct pf_layout *layout,
                   const struct pf_scorer_options *options, struct pf_scorer **scorer, struct pf_error *error)
{
	struct pf_scorer *s = calloc(1, sizeof *s);
	*scorer = NULL;
	if (!s)
		return pf_fail(error, -ENOMEM, "no memory for a scorer");
	s->layout = layout;
	s->dim = config->dim;
	s->max_tokens = options->max_tokens;
	s->per_token = options->per_token;
	s->tails = options->tails;
	s->tail = options->tail;
	s->trace = options->trace;
	s->reference = options->reference;
	s->precision = options->precision;
	s->reference_precision = options->reference_precision;
	int code = open_parts(s, config, layout, options, error);
	if (code) {
		pf_scorer_close(s);
		return code;
	}
	*scorer = s;
	return 0;
}

void pf_scorer_close(struct pf_scorer *s)
{
	if (!s)
		return;
	pf_decoder_close(s->decoder);
	pf_head_close(s->head);
	free(s->head_room);
	free(s->hidden);
	free(s->dhidden);
	free(s->dbody);
	free(s->place);
	free(s->target);
	free(s->span);
	free(s->offset);
	free(s->led);
	free(s->span_sum);
	free(s->span_grad);
	free(s);
}

static int make_room(struct pf_scorer *s, const struct pf_chunk *chunk, struct pf_error *error)
{
	const size_t most = 2 * chunk->sequences;
	const size_t seqs = most > chunk->scored ? most : (size_t)chunk->scored;
	if (chunk->tokens > s->max_tokens)
		return pf_fail(error, PF_E_SHAPE, "a chunk of %u tokens; at most %u were prepared for", chunk->tokens,
		               s->max_tokens);
	if (seqs <= s->spans_room)
		return 0;
	free(s->span);
	free(s->offset);
	free(s->led);
	free(s->span_sum);
	free(s->span_grad);
	s->span = malloc(seqs * sizeof *s->span);
	s->offset = malloc((seqs + 1) * sizeof *s->offset);
	s->led = malloc(seqs * sizeof *s->led);
	s->span_sum = malloc(seqs * sizeof *s->span_sum);
	s->span_grad = malloc(seqs * sizeof *s->span_grad);
	s->spans_room = s->span && s->offset && s->led && s->span_sum && s->span_grad ? (uint32_t)seqs : 0;
	return s->spans_room ? 0 : pf_fail(error, -ENOMEM, "no memory for %zu sequences", seqs);
}

/* Scored tokens of sequence q before its tail */
static uint32_t head_length(const struct pf_scorer *s, const struct pf_pack *pack, const struct pf_chunk *chunk,
                            size_t q)
{
	uint32_t shortest = pack->scored[q];
	for (size_t g = chunk->group; s->tails && g < chunk->group + chunk->groups; g++)
		if (pack->groups[g] <= q && q < pack->groups[g + 1])
			for (size_t i = pack->groups[g]; i < pack->groups[g + 1]; i++)
				shortest = pack->scored[i] < shortest ? pack->scored[i] : shortest;
	return shortest;
}

/* One span for the scored places [begin, s->scored) of a sequence, or one for each of them */
static void add_spans(struct pf_scorer *s, uint32_t begin, uint32_t head)
{
	if (!s->per_token)
		s->span[s->spans++] = (struct pf_span){ begin, s->scored, begin + head, 0 };
	for (uint32_t t = begin; s->per_token && t < s->scored; t++)
		s->span[s->spans++] = (struct pf_span){ t, t + 1, t + 1, 0 };
}

/* Places [first, first + count) of the pack, each of which predicts the token behind it */
static void add_places(struct pf_scorer *s, const struct pf_pack *pack, const struct pf_chunk *chunk, uint32_t first,
                       uint32_t count)
{
	for (uint32_t p = first; p < first + count; p++) {
		s->target[s->scored] = pack->ids.id[p + 1];
		s->place[s->scored++] = p - chunk->token;
	}
}

static void add_prompt(struct pf_scorer *s, const struct pf_pack *pack, const struct pf_chunk *chunk, size_t q)
{
	const uint32_t begin = s->scored, count = pf_pack_prompt(pack, q);
	const int chosen = (pack->member[q].kind & PF_ITEM_CHOSEN) != 0;
	s->led[s->sequences++] = chosen ? count : 0;
	if (!chosen || !count)
		return;
	add_places(s, pack, chunk, pack->offsets[q], count);
	s->span[s->spans++] = (struct pf_span){ begin, s->scored, s->scored, 0 };
}

/* Where the chunk's scored places are, in the chunk and one after the other */
static void find_places(struct pf_scorer *s, const struct pf_pack *pack, const struct pf_chunk *chunk, int prompts)
{
	s->tokens = chunk->tokens;
	s->scored = s->spans = s->sequences = 0;
	for (size_t i = 0; i < chunk->sequences; i++) {
		const size_t q = chunk->sequence + i;
		s->offset[i] = pack->offsets[q] - chunk->token;
		if (prompts)
			add_prompt(s, pack, chunk, q);
		const uint32_t begin = s->scored;
		add_places(s, pack, chunk, pack->first[q], pack->scored[q]);
		add_spans(s, begin, head_length(s, pack, chunk, q));
	}
	s->offset[chunk->sequences] = chunk->tokens;
}

/* Sums of spans to those of sequences and of their prompts */
static void part_sums(const struct pf_scorer *s, struct pf_seq *sum, struct pf_seq *prompt)
{
	const struct pf_seq *span = s->span_sum;
	for (uint32_t i = 0; i < s->sequences; i++) {
		prompt[i] = s->led[i] ? *span++ : (struct pf_seq){ 0 };
		sum[i] = *span++;
	}
}

/* Gradients of spans; of sequences where there are no prompts */
static const double *join_grads(struct pf_scorer *s, const double *grad, const double *prompt)
{
	double *span = s->span_grad;
	for (uint32_t i = 0; i < s->sequences; i++) {
		if (s->led[i])
			*span++ = prompt[i];
		*span++ = grad[i];
	}
	return s->sequences ? s->span_grad : grad;
}

int pf_scorer_forward(struct pf_scorer *s, const struct pf_model *model, const struct pf_pack *pack,
                      const struct pf_chunk *chunk, uint32_t flags, struct pf_seq *sum, struct pf_seq *prompt,
                      struct pf_row *row, struct pf_error *error)
{
	int code = make_room(s, chunk, error);
	if (code)
		return code;
	find_places(s, pack, chunk, prompt != NULL);
	s->model = model;
	const double began = pf_seconds();
	const struct pf_weights weights = pf_model_weights(model);
	const float *head = pf_model_head(model, &s->head_room);
	if (!head)
		return pf_fail(error, -ENOMEM, "no memory for the head as floats");
	code = pf_decoder_forward_with(s->decoder, &weights, pack->ids.id + chunk->token, s->offset,
	                          (uint32_t)chunk->sequences, error);
	if (code)
		return code;
	pf_rows_gather(pf_decoder_hidden(s->decoder), s->dim, s->place, s->scored, s->hidden);
	const double middle = pf_seconds();
	const int reference = model == s->reference;
	const struct pf_head_input input = { s->hidden, head, s->target, s->span, s->scored,
	                                     s->spans, flags, (float)s->tail, model->version,
	                                     reference ? s->reference_precision : s->precision, reference };
	*(reference ? &s->reference_head : &s->policy_head) = head;
	code = pf_head_forward(s->head, &input, prompt ? s->span_sum : sum, row, error);
	if (!code && prompt)
		part_sums(s, sum, prompt);
	count_times(s, "body forward", &s->times.body, began, middle, "head forward", &s->times.head);
	return code;
}

int pf_scorer_backward(struct pf_scorer *s, const double *grad, const double *prompt, float *gradient,
                       struct pf_error *error)
{
	const double began = pf_seconds();
	const int frozen = s->model->lora || s->model->layout.frozen_head || pf_head_kept(s->head);
	int code = pf_head_backward(s->head, join_grads(s, grad, prompt), s->dhidden,
	                            frozen ? NULL : gradient + s->layout->head, error);
	if (code)
		return code;
	const double middle = pf_seconds();
	memset(s->dbody, 0, (size_t)s->tokens * s->dim * sizeof *s->dbody);
	pf_rows_scatter(s->dhidden, s->dim, s->place, s->scored, s->dbody);
	code = pf_decoder_backward(s->decoder, s->dbody, gradient, error);
	count_times(s, "head backward", &s->times.head, began, middle, "body backward", &s->times.body);
	return code;
}

void pf_scorer_forget_reference(struct pf_scorer *s)
{
	if (s->reference_head &&
	    (s->reference_head != s->policy_head || s->reference_precision != s->precision))
		pf_head_forget(s->head, s->reference_head, s->reference_precision);
	s->reference_head = NULL;
}

int pf_scorer_keep(struct pf_scorer *s, const struct pf_model *model, const float *m, const float *v,
                   struct pf_error *error)
{
	const uint64_t head = s->layout->head;
	if (model->lora || model->rounded || s->layout->frozen_head || head == s->layout->embed)
		return pf_fail(error, PF_E_UNSUPPORTED,
		               "the head's optimizer can be on the device for a head of float weights that is trained "
		               "and not tied to the embedding; give --head-optimizer host");
	return pf_head_keep(s->head, model->param + head, model->version, m + head, v + head, error);
}

struct pf_fused *pf_scorer_kept(const struct pf_scorer *s)
{
	return s ? pf_head_kept(s->head) : NULL;
}

int pf_scorer_bring(struct pf_scorer *s, float *param, float *m, float *v, struct pf_error *error)
{
	const uint64_t head = s->layout->head;
	return pf_fused_kept_bring(pf_head_kept(s->head), param + head, m + head, v + head, error);
}

struct pf_left_out pf_scorer_left_out(const struct pf_scorer *s)
{
	return pf_head_left_out(s->head);
}

struct pf_scorer_times pf_scorer_times(const struct pf_scorer *s)
{
	return s ? s->times : (struct pf_scorer_times){ 0 };
}
