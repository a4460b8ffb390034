/* tokenizer.json: its merges and added tokens, and all of it in order. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "tokenizer_state.h"

void pf_tokenizer_state_free(struct pf_tokenizer_state *state)
{
	if (!state)
		return;
	pf_bpe_free(&state->bpe);
	pf_added_free(&state->raw);
	pf_added_free(&state->normal);
	pf_steps_free(&state->changes);
	pf_steps_free(&state->cuts);
	pf_buffer_free(&state->shown_text);
	for (size_t i = 0; i < PF_TOKENIZER_FILES; i++)
		pf_buffer_free(&state->file[i]);
	free(state->shown);
	free(state->folder);
	free(state);
}

/* ---- merges ---- */

/* "a b", or ["a", "b"]; texts[2] live until the next call. 0: a line to be left out */
static int split_merge(struct pf_tokenizer_reading *r, const json_t *merge, size_t number, struct pf_buffer *line,
                       const char *texts[2])
{
	char *space;

	if (json_is_array(merge) && json_array_size(merge) == 2) {
		texts[0] = json_string_value(json_array_get(merge, 0));
		texts[1] = json_string_value(json_array_get(merge, 1));
		return texts[0] && texts[1]
		               ? 1
		               : pf_fail(r->error, PF_E_FORMAT, "model.merges[%zu] is not a pair of texts", number);
	}
	if (!json_is_string(merge))
		return pf_fail(r->error, PF_E_FORMAT, "model.merges[%zu] is not a text or a pair of texts", number);
	if (strncmp(json_string_value(merge), "#version", 8) == 0)
		return 0;
	line->length = 0;
	if (pf_buffer_append(line, json_string_value(merge), json_string_length(merge) + 1))
		return pf_tokenizer_no_memory(r);
	space = strchr(line->text, ' ');
	if (!space || strchr(space + 1, ' '))
		return pf_fail(r->error, PF_E_FORMAT,
		               "model.merges[%zu], \"%.60s\", is not two texts with a space between them", number,
		               line->text);
	*space = 0;
	texts[0] = line->text;
	texts[1] = space + 1;
	return 1;
}

static int find_part(struct pf_tokenizer_reading *r, const json_t *vocabulary, const char *text, size_t number,
                     int32_t *id)
{
	const json_t *value = json_object_get(vocabulary, text);

	if (!value)
		return pf_fail(r->error, PF_E_FORMAT, "model.merges[%zu]: the vocabulary has no token \"%.60s\"",
		               number, text);
	*id = (int32_t)json_integer_value(value);
	return 0;
}

static int read_merge(struct pf_tokenizer_reading *r, const json_t *vocabulary, const char *const texts[2],
                      size_t number, uint32_t rank, struct pf_buffer *joined)
{
	int32_t left = -1, right = -1, made = -1;
	int status;

	joined->length = 0;
	if (pf_buffer_append(joined, texts[0], strlen(texts[0])) ||
	    pf_buffer_append(joined, texts[1], strlen(texts[1]) + 1))
		return pf_tokenizer_no_memory(r);
	status = find_part(r, vocabulary, texts[0], number, &left);
	if (!status)
		status = find_part(r, vocabulary, texts[1], number, &right);
	if (!status)
		status = find_part(r, vocabulary, joined->text, number, &made);
	if (!status)
		pf_bpe_merge(&r->state->bpe, left, right, made, rank);
	return status;
}

static int read_merges(struct pf_tokenizer_reading *r, const json_t *model)
{
	const json_t *merges = json_object_get(model, "merges"), *vocabulary = json_object_get(model, "vocab");
	struct pf_buffer line = { 0 }, joined = { 0 };
	uint32_t rank = 0;
	int status = 1;

	if (!json_is_array(merges))
		return pf_fail(r->error, PF_E_FORMAT, "model.merges is missing or not a list");
	if (pf_bpe_reserve_merges(&r->state->bpe, json_array_size(merges)))
		return pf_tokenizer_no_memory(r);
	for (size_t i = 0; i < json_array_size(merges) && status >= 0; i++) {
		const char *texts[2] = { "", "" };

		status = split_merge(r, json_array_get(merges, i), i, &line, texts);
		if (status > 0)
			status = read_merge(r, vocabulary, texts, i, rank++, &joined);
	}
	pf_buffer_free(&line);
	pf_buffer_free(&joined);
	return status < 0 ? status : 0;
}

/* ---- the model ---- */

static int check_model(struct pf_tokenizer_reading *r, const json_t *model)
{
	const char *type = json_string_value(json_object_get(model, "type"));
	static const char *const texts[] = { "continuing_subword_prefix", "end_of_word_suffix" };

	if (!json_is_object(model))
		return pf_fail(r->error, PF_E_FORMAT, "field \"model\" is missing: is this a tokenizer.json?");
	if (type ? strcmp(type, "BPE") != 0 : !json_object_get(model, "merges"))
		return pf_fail(r->error, PF_E_UNSUPPORTED,
		               "a tokenizer of type %.60s; only BPE is read here. Use a model with such "
		               "a tokenizer: Llama, Mistral, Qwen, Gemma, GPT-2 and others have one",
		               type ? type : "(none)");
	if (json_number_value(pf_json_member(model, "dropout")) != 0)
		return pf_fail(r->error, PF_E_UNSUPPORTED,
		               "model.dropout is not 0: tokens would be random; set it to null");
	for (size_t i = 0; i < 2; i++)
		if (json_string_length(json_object_get(model, texts[i])))
			return pf_fail(r->error, PF_E_UNSUPPORTED, "model.%s is not supported here", texts[i]);
	return 0;
}

static int read_unknown(struct pf_tokenizer_reading *r, const json_t *model)
{
	const char *text = json_string_value(json_object_get(model, "unk_token"));
	const json_t *id = text ? json_object_get(json_object_get(model, "vocab"), text) : NULL;

	if (text && !id)
		return pf_fail(r->error, PF_E_FORMAT, "model.unk_token \"%.60s\" is not in the vocabulary", text);
	r->state->bpe.unknown = id ? (int32_t)json_integer_value(id) : -1;
	return 0;
}

static int has_splits(const struct pf_steps *steps)
{
	for (unsigned i = 0; i < steps->count; i++)
		if (steps->step[i].kind == PF_STEP_SPLIT)
			return 1;
	return 0;
}

static int read_model(struct pf_tokenizer_reading *r)
{
	const json_t *model = json_object_get(r->root, "model");
	struct pf_bpe *bpe = &r->state->bpe;
	int status = check_model(r, model);

	if (status)
		return status;
	bpe->fallback = pf_json_flag(model, "byte_fallback", 0);
	bpe->fuse_unknown = pf_json_flag(model, "fuse_unk", 0);
	bpe->whole_words = pf_json_flag(model, "ignore_merges", 0);
	status = pf_tokenizer_read_vocabulary(r, json_object_get(model, "vocab"));
	if (!status)
		status = read_unknown(r, model);
	if (!status)
		status = read_merges(r, model);
	/* without cuts there are no words to be found whole */
	if (!status && has_splits(&r->state->cuts) && pf_bpe_find_whole(bpe))
		status = pf_tokenizer_no_memory(r);
	return status;
}

/* ---- added tokens ---- */

static int put_added(struct pf_tokenizer_reading *r, const json_t *object, const char *text,
                     struct pf_added_token token)
{
	struct pf_tokenizer_state *state = r->state;
	struct pf_buffer changed = { 0 };
	int status;

	if (!pf_json_flag(object, "normalized", !pf_json_flag(object, "special", 0))) {
		status = pf_added_put(&state->raw, text, strlen(text), token);
	} else {
		status = pf_tokenizer_change(state, text, strlen(text), &changed);
		if (!status)
			status = pf_added_put(&state->normal, changed.text, changed.length, token);
		pf_buffer_free(&changed);
	}
	if (status == PF_E_RANGE)
		return pf_fail(r->error, PF_E_RANGE, "added token \"%.60s\": texts are of 1 to %u bytes", text,
		               PF_ADDED_BYTES_MAX);
	return status ? pf_fail(r->error, status, "added token \"%.60s\": %s", text, pf_error_text(status)) : 0;
}

static int read_added_token(struct pf_tokenizer_reading *r, const json_t *object)
{
	const char *text = json_string_value(json_object_get(object, "content"));
	const json_t *vocabulary = json_object_get(json_object_get(r->root, "model"), "vocab"), *own;
	struct pf_added_token token = { 0, (uint8_t)pf_json_flag(object, "lstrip", 0),
		                        (uint8_t)pf_json_flag(object, "rstrip", 0),
		                        (uint8_t)pf_json_flag(object, "single_word", 0) };
	int status;

	if (!text)
		return pf_fail(r->error, PF_E_FORMAT, "an added token without the text \"content\"");
	status = pf_tokenizer_check_id(r, text, json_object_get(object, "id"));
	if (status)
		return status;
	token.id = (int32_t)json_integer_value(json_object_get(object, "id"));
	own = json_object_get(vocabulary, text);
	if (own ? json_integer_value(own) != token.id
	        : token.id < r->state->face.vocab && r->state->shown[token.id].known)
		return pf_fail(r->error, PF_E_FORMAT, "added token \"%.60s\": id %d is another one's in the vocabulary",
		               text, (int)token.id);
	/* one of the vocabulary's own is shown as it is there: merges can make it, too */
	status = own ? 0 : pf_tokenizer_show(r, text, token.id);
	if (status)
		return status;
	r->state->shown[token.id].special = (uint8_t)pf_json_flag(object, "special", 0);
	return put_added(r, object, text, token);
}

static int read_added(struct pf_tokenizer_reading *r)
{
	const json_t *list = pf_json_member(r->root, "added_tokens");
	int status = 0;

	if (list && !json_is_array(list))
		return pf_fail(r->error, PF_E_FORMAT, "added_tokens is not a list");
	for (size_t i = 0; i < json_array_size(list) && !status; i++)
		status = read_added_token(r, json_array_get(list, i));
	return status;
}

int32_t pf_tokenizer_find(const struct pf_tokenizer_state *state, const char *text)
{
	size_t length = strlen(text);

	for (int32_t id = 0; id < state->face.vocab; id++)
		if (state->shown[id].known && state->shown[id].length == length &&
		    memcmp(state->shown_text.text + state->shown[id].at, text, length) == 0)
			return id;
	return -1;
}

/* ---- all of it ---- */

static int read_all(struct pf_tokenizer_reading *r)
{
	int status;

	if (!json_is_object(r->root))
		return pf_fail(r->error, PF_E_FORMAT, "not a JSON object");
	status = pf_tokenizer_read_steps(r);
	if (!status)
		status = pf_tokenizer_read_decoder(r);
	if (!status)
		status = read_model(r);
	if (!status)
		status = read_added(r);
	return status ? status : pf_tokenizer_read_template(r);
}

int pf_tokenizer_parse(const char *text, size_t length, struct pf_tokenizer_state **state, struct pf_error *error)
{
	struct pf_error own = { 0 };
	json_error_t problem;
	json_t *root = json_loadb(text, length, JSON_REJECT_DUPLICATES, &problem);
	struct pf_tokenizer_state *made = calloc(1, sizeof *made);
	struct pf_tokenizer_reading reading = { .root = root, .state = made, .error = error ? error : &own };
	int status;

	*state = NULL;
	if (!made) {
		status = pf_fail(error, -ENOMEM, "out of memory");
	} else if (!root) {
		status = pf_fail(error, PF_E_FORMAT, "line %d, column %d: %s", problem.line, problem.column,
		                 problem.text);
	} else {
		pf_bpe_init(&made->bpe);
		made->opens = made->closes = -1;
		made->face = (struct pf_tokenizer){
			.name = "tokenizer.json", .bos = -1, .eos = -1, .pad = -1, .state = made
		};
		status = read_all(&reading);
	}
	json_decref(root);
	if (status)
		pf_tokenizer_state_free(made);
	else
		*state = made;
	return status;
}
