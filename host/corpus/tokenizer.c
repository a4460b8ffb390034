#include "tokenizer.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "tokenizer_text.h"

static const struct pf_tokenizer bytes = {
	"bytes", PF_BYTES_VOCAB, PF_BYTES_BOS, PF_BYTES_EOS, PF_BYTES_PAD, { PF_BYTES_EOS }, 1, PF_CHAT_UNKNOWN, NULL
};

int pf_tokenizer_open(const char *name, const struct pf_tokenizer **tokenizer, struct pf_error *error)
{
	*tokenizer = &bytes;
	return strcmp(name, bytes.name) == 0 ? 0 : pf_tokenizer_open_folder(name, tokenizer, error);
}

void pf_tokenizer_close(const struct pf_tokenizer *tokenizer)
{
	if (tokenizer)
		pf_tokenizer_state_free(tokenizer->state);
}

int pf_tokenizer_stops(const struct pf_tokenizer *tokenizer, int32_t id)
{
	for (unsigned i = 0; i < tokenizer->stops; i++)
		if (tokenizer->stop[i] == id)
			return 1;
	return 0;
}

/* ---- bytes ---- */

static int encode_bytes(const char *text, size_t length, struct pf_tokens *tokens)
{
	int status = pf_tokens_reserve(tokens, length);

	if (status)
		return status;
	for (size_t i = 0; i < length; i++)
		tokens->id[tokens->count++] = (unsigned char)text[i];
	return 0;
}

int pf_tokenizer_encode(const struct pf_tokenizer *tokenizer, const char *text, size_t length, int continues,
                        struct pf_tokens *tokens)
{
	size_t count = tokens->count;
	int status = tokenizer->state ? pf_text_encode(tokenizer->state, text, length, continues, tokens)
	                              : encode_bytes(text, length, tokens);

	tokens->count = status ? count : tokens->count;
	return status;
}

#define PIECES_4(c)  c, c + 1, c + 2, c + 3
#define PIECES_16(c) PIECES_4(c), PIECES_4(c + 4), PIECES_4(c + 8), PIECES_4(c + 12)
#define PIECES_64(c) PIECES_16(c), PIECES_16(c + 16), PIECES_16(c + 32), PIECES_16(c + 48)

static const char *byte_piece(int32_t id, size_t *length)
{
	static const unsigned char pieces[256] = { PIECES_64(0), PIECES_64(64), PIECES_64(128), PIECES_64(192) };

	*length = id >= 0 && id < 256;
	return *length ? (const char *)&pieces[id] : "";
}

const char *pf_tokenizer_piece(const struct pf_tokenizer *tokenizer, int32_t id, size_t *length)
{
	return tokenizer->state ? pf_text_piece(tokenizer->state, id, 0, length) : byte_piece(id, length);
}

/* ---- decoding ---- */

int pf_tokenizer_decode(const struct pf_tokenizer *tokenizer, const int32_t *ids, size_t count, int specials,
                        int continues, char **text, size_t *length)
{
	const int strips = tokenizer->state && pf_text_strips(tokenizer->state) && !continues;
	struct pf_buffer out = { 0 };
	int status = 0;

	for (size_t i = 0; i < count && !status; i++) {
		size_t part;
		const char *piece = tokenizer->state ? pf_text_piece(tokenizer->state, ids[i], specials, &part)
		                                     : byte_piece(ids[i], &part);

		status = pf_buffer_append(&out, piece, part);
	}
	if (!status)
		status = pf_buffer_append(&out, "", 1);
	if (status) {
		pf_buffer_free(&out);
		*length = 0;
		*text = NULL;
		return status;
	}
	if (strips && out.text[0] == ' ')
		memmove(out.text, out.text + 1, --out.length);
	*text = out.text;
	*length = out.length - 1;
	return 0;
}
