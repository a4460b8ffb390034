/* The vocabulary of tokenizer.json: texts for merging, and what is shown of each token. */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "tokenizer_state.h"
#include "unicode.h"

#define SPACE_MARK "\xe2\x96\x81"      /* U+2581 */

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
static int set_shown(struct pf_tokenizer_reading *r, int32_t id, size_t at)
{
	struct pf_tokenizer_state *state = r->state;

	if (state->shown_text.length > UINT32_MAX / 2 || grow_shown(state, id + 1))
		return pf_tokenizer_no_memory(r);
	state->shown[id] = (struct pf_shown){ (uint32_t)at, (uint32_t)(state->shown_text.length - at), 1, 0 };
	return 0;
}

int pf_tokenizer_show(struct pf_tokenizer_reading *r, const char *text, int32_t id)
{
	size_t at = r->state->shown_text.length;

	return append_shown(r, text, &r->state->shown_text) ? pf_tokenizer_no_memory(r) : set_shown(r, id, at);
}

/* ---- the vocabulary ---- */

int pf_tokenizer_check_id(struct pf_tokenizer_reading *r, const char *text, const json_t *id)
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
	return pf_bpe_add(&r->state->bpe, id, text, strlen(text)) || append_shown(r, text, &r->state->shown_text)
	               ? -ENOMEM
	               : 0;
}

static int add_entry(struct pf_tokenizer_reading *r, const char *text, const json_t *value)
{
	struct pf_tokenizer_state *state = r->state;
	size_t at = state->shown_text.length;
	int32_t id;

	if (pf_tokenizer_check_id(r, text, value))
		return r->error ? r->error->code : PF_E_FORMAT;
	id = (int32_t)json_integer_value(value);
	if (id < state->face.vocab && state->shown[id].known)
		return pf_fail(r->error, PF_E_FORMAT, "id %d belongs to two tokens, one of them \"%.60s\"", (int)id,
		               text);
	if (state->bpe.byte_level ? add_bytes(r, text, id) : add_word(r, text, id))
		return pf_tokenizer_no_memory(r);
	return set_shown(r, id, at);
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
			return pf_fail(r->error, PF_E_UNSUPPORTED,
			               "a byte-level vocabulary without a token for byte 0x%02x, so not "
			               "every text has tokens",
			               (unsigned)byte);
	return 0;
}

int pf_tokenizer_read_vocabulary(struct pf_tokenizer_reading *r, const json_t *vocabulary)
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
	return status ? pf_tokenizer_no_memory(r) : find_bytes(r);
}
