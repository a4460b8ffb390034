/* tokenizer.json: its vocabulary, merges and added tokens. */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "tokenizer_state.h"
#include "unicode.h"

#define SPACE_MARK "\xe2\x96\x81"

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

static int no_memory(struct pf_tokenizer_reading *r)
{
	return pf_fail(r->error, -ENOMEM, "out of memory");
}

/* ---- the letters that stand for bytes in byte-level vocabularies (GPT-2's bytes_to_unicode) ---- */

static int is_own_letter(int byte)
{
	return (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
}

/* The byte of a letter, -1: it stands for none. The 68 bytes that are not their own letter have U+0100 on, in order */
static int byte_of_letter(int32_t code)
{
	int place = 256;

	if (code >= 0 && code < 256)
		return is_own_letter((int)code) ? (int)code : -1;
	for (int byte = 0; byte < 256; byte++)
		if (!is_own_letter(byte) && place++ == code)
			return byte;
	return -1;
}

/* Bytes of a byte-level token; *length is -1 if its text has other letters */
static int letters_to_bytes(const char *text, struct pf_buffer *out, long *length)
{
	size_t left = strlen(text), start = out->length;
	int32_t code;

	while (left) {
		size_t bytes = pf_utf8_read(text, left, &code);
		int byte = byte_of_letter(code);
		char letter = (char)byte;

		if (byte < 0) {
			out->length = start;
			*length = -1;
			return 0;
		}
		if (pf_buffer_append(out, &letter, 1))
			return -ENOMEM;
		text += bytes;
		left -= bytes;
	}
	*length = (long)(out->length - start);
	return 0;
}

/* ---- how tokens are shown ---- */

static int grow_shown(struct pf_tokenizer_state *state, int32_t size)
{
	struct pf_shown *bigger;
	int32_t room = 1024;

	if (size <= state->face.vocab)
		return 0;
	while (room < size)
		room *= 2;
	bigger = realloc(state->shown, (size_t)room * sizeof *bigger);
	if (!bigger)
		return -ENOMEM;
	memset(bigger + state->face.vocab, 0, (size_t)(size - state->face.vocab) * sizeof *bigger);
	state->shown = bigger;
	state->face.vocab = size;
	return 0;
}

/* "<0x41>"; returns the byte or -1 */
static int byte_of_text(const char *text)
{
	if (strlen(text) != 6 || memcmp(text, "<0x", 3) != 0 || text[5] != '>' || !isxdigit((unsigned char)text[3]) ||
	    !isxdigit((unsigned char)text[4]))
		return -1;
	return (int)strtol(text + 3, NULL, 16);
}

/* What the decoder makes of a token's text */
static int append_shown(const struct pf_tokenizer_reading *r, const char *text, struct pf_buffer *out)
{
	int byte = r->marks_bytes ? byte_of_text(text) : -1, status = 0;
	char one = (char)byte;

	if (byte >= 0)
		return pf_buffer_append(out, &one, 1);
	while (*text && !status) {
		const char *mark = r->marks_spaces ? strstr(text, SPACE_MARK) : NULL;
		size_t plain = mark ? (size_t)(mark - text) : strlen(text);

		status = pf_buffer_append(out, text, plain);
		if (!status && mark)
			status = pf_buffer_append(out, " ", 1);
		text += plain + (mark ? strlen(SPACE_MARK) : 0);
	}
	return status;
}

/* The last bytes of shown_text, from `at` on, are what is shown of a token */
static int set_shown(struct pf_tokenizer_reading *r, int32_t id, size_t at, int special)
{
	struct pf_tokenizer_state *state = r->state;

	if (state->shown_text.length > UINT32_MAX / 2 || grow_shown(state, id + 1))
		return no_memory(r);
	state->shown[id] = (struct pf_shown){ (uint32_t)at, (uint32_t)(state->shown_text.length - at), 1, (uint8_t)special };
	return 0;
}

/* ---- the vocabulary ---- */

static int check_id(struct pf_tokenizer_reading *r, const char *text, const json_t *id)
{
	if (!json_is_integer(id))
		return pf_fail(r->error, PF_E_FORMAT, "token \"%.60s\": its id is not a whole number", text);
	if (json_integer_value(id) < 0 || json_integer_value(id) >= PF_BPE_IDS_MAX)
		return pf_fail(r->error, PF_E_RANGE, "token \"%.60s\": id %lld; ids are 0 to %d", text,
		               (long long)json_integer_value(id), PF_BPE_IDS_MAX - 1);
	return 0;
}

static int add_bytes(struct pf_tokenizer_reading *r, const char *text, int32_t id)
{
	struct pf_buffer *out = &r->state->shown_text;
	size_t at = out->length;
	long length;

	if (letters_to_bytes(text, out, &length))
		return -ENOMEM;
	if (length < 0)                        /* out of reach of merges; it is shown as it is */
		return pf_buffer_append(out, text, strlen(text));
	if (length == 1)
		r->state->bpe.byte[(unsigned char)out->text[at]] = id;
	return pf_bpe_add(&r->state->bpe, id, out->text + at, (size_t)length);
}

static int add_word(struct pf_tokenizer_reading *r, const char *text, int32_t id)
{
	return pf_bpe_add(&r->state->bpe, id, text, strlen(text)) || append_shown(r, text, &r->state->shown_text) ? -ENOMEM : 0;
}

static int add_entry(struct pf_tokenizer_reading *r, const char *text, const json_t *value)
{
	struct pf_tokenizer_state *state = r->state;
	size_t at = state->shown_text.length;
	int32_t id;

	if (check_id(r, text, value))
		return r->error ? r->error->code : PF_E_FORMAT;
	id = (int32_t)json_integer_value(value);
	if (id < state->face.vocab && state->shown[id].known)
		return pf_fail(r->error, PF_E_FORMAT, "id %d belongs to two tokens, one of them \"%.60s\"", (int)id, text);
	if (state->bpe.byte_level ? add_bytes(r, text, id) : add_word(r, text, id))
		return no_memory(r);
	return set_shown(r, id, at, 0);
}

static int find_bytes(struct pf_tokenizer_reading *r)
{
	struct pf_bpe *bpe = &r->state->bpe;
	char text[8];

	for (int byte = 0; byte < 256 && bpe->fallback && !bpe->byte_level; byte++) {
		snprintf(text, sizeof text, "<0x%02X>", (unsigned)byte);
		bpe->byte[byte] = pf_bpe_find(bpe, text, 6);
	}
	for (int byte = 0; byte < 256 && bpe->byte_level; byte++)
		if (bpe->byte[byte] < 0)
			return pf_fail(r->error, PF_E_UNSUPPORTED, "a byte-level vocabulary without a token for byte 0x%02x, so not "
			               "every text has tokens", (unsigned)byte);
	return 0;
}

static int read_vocabulary(struct pf_tokenizer_reading *r, const json_t *vocabulary)
{
	const char *text;
	json_t *id;
	int status = 0;

	if (!json_object_size(vocabulary))
		return pf_fail(r->error, PF_E_FORMAT, "model.vocab is missing or empty");
	json_object_foreach((json_t *)vocabulary, text, id) {
		status = add_entry(r, text, id);
		if (status)
			return status;
	}
	status = pf_bpe_index(&r->state->bpe);
	return status ? no_memory(r) : find_bytes(r);
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
		return texts[0] && texts[1] ? 1 : pf_fail(r->error, PF_E_FORMAT, "model.merges[%zu] is not a pair of texts", number);
	}
	if (!json_is_string(merge))
		return pf_fail(r->error, PF_E_FORMAT, "model.merges[%zu] is not a text or a pair of texts", number);
	if (strncmp(json_string_value(merge), "#version", 8) == 0)
		return 0;
	line->length = 0;
	if (pf_buffer_append(line, json_string_value(merge), json_string_length(merge) + 1))
		return no_memory(r);
	space = strchr(line->text, ' ');
	if (!space || strchr(space + 1, ' '))
		return pf_fail(r->error, PF_E_FORMAT, "model.merges[%zu], \"%.60s\", is not two texts with a space between them",
		               number, line->text);
	*space = 0;
	texts[0] = line->text;
	texts[1] = space + 1;
	return 1;
}

static int find_part(struct pf_tokenizer_reading *r, const json_t *vocabulary, const char *text, size_t number, int32_t *id)
{
	const json_t *value = json_object_get(vocabulary, text);

	if (!value)
		return pf_fail(r->error, PF_E_FORMAT, "model.merges[%zu]: the vocabulary has no token \"%.60s\"", number, text);
	*id = (int32_t)json_integer_value(value);
	return 0;
}

static int read_merge(struct pf_tokenizer_reading *r, const json_t *vocabulary, const char *const texts[2], size_t number,
                      uint32_t rank, struct pf_buffer *joined)
{
	int32_t left = -1, right = -1, made = -1;
	int status;

	joined->length = 0;
	if (pf_buffer_append(joined, texts[0], strlen(texts[0])) || pf_buffer_append(joined, texts[1], strlen(texts[1]) + 1))
		return no_memory(r);
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
		return no_memory(r);
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
		return pf_fail(r->error, PF_E_UNSUPPORTED, "a tokenizer of type %.60s; only BPE is read here. Use a model with such "
		               "a tokenizer: Llama, Mistral, Qwen, Gemma, GPT-2 and others have one", type ? type : "(none)");
	if (json_number_value(pf_json_member(model, "dropout")) != 0)
		return pf_fail(r->error, PF_E_UNSUPPORTED, "model.dropout is not 0: tokens would be random; set it to null");
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
	status = read_vocabulary(r, json_object_get(model, "vocab"));
	if (!status)
		status = read_unknown(r, model);
	if (!status)
		status = read_merges(r, model);
	/* without cuts there are no words to be found whole */
	if (!status && has_splits(&r->state->cuts) && pf_bpe_find_whole(bpe))
		status = no_memory(r);
	return status;
}

/* ---- added tokens ---- */

static int put_added(struct pf_tokenizer_reading *r, const json_t *object, const char *text, struct pf_added_token token)
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
		return pf_fail(r->error, PF_E_RANGE, "added token \"%.60s\": texts are of 1 to %u bytes", text, PF_ADDED_BYTES_MAX);
	return status ? pf_fail(r->error, status, "added token \"%.60s\": %s", text, pf_error_text(status)) : 0;
}

static int read_added_token(struct pf_tokenizer_reading *r, const json_t *object)
{
	const char *text = json_string_value(json_object_get(object, "content"));
	const json_t *vocabulary = json_object_get(json_object_get(r->root, "model"), "vocab"), *own;
	struct pf_added_token token = { 0, (uint8_t)pf_json_flag(object, "lstrip", 0), (uint8_t)pf_json_flag(object, "rstrip", 0),
	                                (uint8_t)pf_json_flag(object, "single_word", 0) };
	size_t at = r->state->shown_text.length;
	int status;

	if (!text)
		return pf_fail(r->error, PF_E_FORMAT, "an added token without the text \"content\"");
	status = check_id(r, text, json_object_get(object, "id"));
	if (status)
		return status;
	token.id = (int32_t)json_integer_value(json_object_get(object, "id"));
	own = json_object_get(vocabulary, text);
	if (own ? json_integer_value(own) != token.id : token.id < r->state->face.vocab && r->state->shown[token.id].known)
		return pf_fail(r->error, PF_E_FORMAT, "added token \"%.60s\": id %d is another one's in the vocabulary", text,
		               (int)token.id);
	if (pf_buffer_append(&r->state->shown_text, text, strlen(text)))
		return no_memory(r);
	status = set_shown(r, token.id, at, pf_json_flag(object, "special", 0));
	return status ? status : put_added(r, object, text, token);
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
		status = pf_fail(error, PF_E_FORMAT, "line %d, column %d: %s", problem.line, problem.column, problem.text);
	} else {
		pf_bpe_init(&made->bpe);
		made->opens = made->closes = -1;
		made->face = (struct pf_tokenizer){ .name = "tokenizer.json", .bos = -1, .eos = -1, .pad = -1, .state = made };
		status = read_all(&reading);
	}
	json_decref(root);
	if (status)
		pf_tokenizer_state_free(made);
	else
		*state = made;
	return status;
}
