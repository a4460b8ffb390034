#include "tokenizer_text.h"
#include <errno.h>
#include <stdint.h>
#include "unicode.h"

/* One call of encode */
struct encoding {
	const struct pf_tokenizer_state *state;
	struct pf_steps_run              changes, cuts;
	struct pf_bpe_work               work;
	struct pf_tokens                *tokens;
};

static int take_word(void *context, struct pf_piece piece)
{
	struct encoding *e = context;

	return pf_bpe_encode(&e->state->bpe, &e->work, piece.text, piece.length, e->tokens);
}

/* Tokens of `added` in a piece, and what lies between them through `run` */
static int find_added(struct encoding *e, const struct pf_added *added, const struct pf_steps *steps,
                      struct pf_steps_run *run, struct pf_piece piece)
{
	const struct pf_added_token *token;
	size_t from = 0, done = 0, begin, end;
	int status = 0;

	while (!status && (token = pf_added_next(added, piece.text, piece.length, &from, done, &begin, &end)) != NULL) {
		if (begin > done)
			status = pf_steps_run(
				steps, run, (struct pf_piece){ piece.text + done, begin - done, piece.first && !done });
		if (!status)
			status = pf_tokens_push(e->tokens, token->id);
		done = end;
	}
	if (status || done >= piece.length)
		return status;
	return pf_steps_run(steps, run,
	                    (struct pf_piece){ piece.text + done, piece.length - done, piece.first && !done });
}

static int take_changed(void *context, struct pf_piece piece)
{
	struct encoding *e = context;

	return find_added(e, &e->state->normal, &e->state->cuts, &e->cuts, piece);
}

static int encode_valid(const struct pf_tokenizer_state *state, const char *text, size_t length, int continues,
                        struct pf_tokens *tokens)
{
	struct encoding e = { .state = state, .tokens = tokens };
	int status;

	e.changes = (struct pf_steps_run){ .continues = continues, .take = take_changed, .context = &e };
	e.cuts = (struct pf_steps_run){ .continues = continues, .take = take_word, .context = &e };
	status = find_added(&e, &state->raw, &state->changes, &e.changes, (struct pf_piece){ text, length, 1 });
	pf_steps_run_free(&e.changes);
	pf_steps_run_free(&e.cuts);
	pf_bpe_work_free(&e.work);
	return status;
}

int pf_text_encode(const struct pf_tokenizer_state *state, const char *text, size_t length, int continues,
                   struct pf_tokens *tokens)
{
	struct pf_buffer repaired = { 0 };
	int status;

	if (length > INT32_MAX / 4)
		return PF_E_DATA;
	if (pf_utf8_valid(text, length))
		return encode_valid(state, text, length, continues, tokens);
	status = pf_utf8_repair(text, length, &repaired);
	if (!status)
		status = encode_valid(state, repaired.text, repaired.length, continues, tokens);
	pf_buffer_free(&repaired);
	return status;
}

static int take_copy(void *context, struct pf_piece piece)
{
	return pf_buffer_append(context, piece.text, piece.length);
}

int pf_tokenizer_change(const struct pf_tokenizer_state *state, const char *text, size_t length, struct pf_buffer *out)
{
	struct pf_steps_run run = { .take = take_copy, .context = out };
	int status = pf_steps_run(&state->changes, &run, (struct pf_piece){ text, length, 1 });

	pf_steps_run_free(&run);
	return status;
}

const char *pf_text_piece(const struct pf_tokenizer_state *state, int32_t id, int specials, size_t *length)
{
	const struct pf_shown *shown = id >= 0 && id < state->face.vocab ? &state->shown[id] : NULL;

	*length = shown && (specials || !shown->special) ? shown->length : 0;
	return *length ? state->shown_text.text + shown->at : "";
}

int pf_text_strips(const struct pf_tokenizer_state *state)
{
	return state->strips;
}
