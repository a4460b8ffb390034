#include "tokenizer.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

int pf_tokens_reserve(struct pf_tokens *tokens, size_t more)
{
	size_t room = tokens->room ? tokens->room : 256;
	int32_t *id;

	if (more > SIZE_MAX / sizeof *id / 4 - tokens->count)
		return -ENOMEM;
	while (room - tokens->count < more)
		room *= 2;
	if (room == tokens->room)
		return 0;
	id = realloc(tokens->id, room * sizeof *id);
	if (!id)
		return -ENOMEM;
	tokens->id = id;
	tokens->room = room;
	return 0;
}

int pf_tokens_push(struct pf_tokens *tokens, int32_t id)
{
	int status = pf_tokens_reserve(tokens, 1);

	if (!status)
		tokens->id[tokens->count++] = id;
	return status;
}

void pf_tokens_free(struct pf_tokens *tokens)
{
	free(tokens->id);
	*tokens = (struct pf_tokens){ 0 };
}

static const struct pf_tokenizer bytes = {
	"bytes", PF_BYTES_VOCAB, PF_BYTES_BOS, PF_BYTES_EOS, PF_BYTES_PAD, { PF_BYTES_EOS }, 1, PF_CHAT_UNKNOWN
};

int pf_tokenizer_open(const char *name, const struct pf_tokenizer **tokenizer, struct pf_error *error)
{
	*tokenizer = NULL;
	if (strcmp(name, bytes.name) != 0)
		return pf_fail(error, PF_E_UNKNOWN, "tokenizer %.200s is unknown; there is: %s", name, bytes.name);
	*tokenizer = &bytes;
	return 0;
}

void pf_tokenizer_close(const struct pf_tokenizer *tokenizer)
{
	(void)tokenizer;
}

int pf_tokenizer_encode(const struct pf_tokenizer *tokenizer, const char *text, size_t length, int continues,
                        struct pf_tokens *tokens)
{
	int status = pf_tokens_reserve(tokens, length);

	(void)tokenizer, (void)continues;
	if (status)
		return status;
	for (size_t i = 0; i < length; i++)
		tokens->id[tokens->count++] = (unsigned char)text[i];
	return 0;
}

int pf_tokenizer_decode(const struct pf_tokenizer *tokenizer, const int32_t *ids, size_t count, int specials,
                        int continues, char **text, size_t *length)
{
	char *made = malloc(count + 1);

	(void)tokenizer, (void)specials, (void)continues;
	*length = 0;
	*text = made;
	if (!made)
		return -ENOMEM;
	for (size_t i = 0; i < count; i++)
		if (ids[i] >= 0 && ids[i] < 256)
			made[(*length)++] = (char)ids[i];
	made[*length] = 0;
	return 0;
}

int pf_tokenizer_stops(const struct pf_tokenizer *tokenizer, int32_t id)
{
	for (unsigned i = 0; i < tokenizer->stops; i++)
		if (tokenizer->stop[i] == id)
			return 1;
	return 0;
}

#define PIECES_4(c)  c, c + 1, c + 2, c + 3
#define PIECES_16(c) PIECES_4(c), PIECES_4(c + 4), PIECES_4(c + 8), PIECES_4(c + 12)
#define PIECES_64(c) PIECES_16(c), PIECES_16(c + 16), PIECES_16(c + 32), PIECES_16(c + 48)

const char *pf_tokenizer_piece(const struct pf_tokenizer *tokenizer, int32_t id, size_t *length)
{
	static const unsigned char pieces[256] = { PIECES_64(0), PIECES_64(64), PIECES_64(128), PIECES_64(192) };

	(void)tokenizer;
	*length = id >= 0 && id < 256;
	return *length ? (const char *)&pieces[id] : "";
}
