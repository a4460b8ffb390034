#include "shown.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "host/corpus/unicode.h"

json_t *pf_shown(const char *text, size_t length)
{
	struct pf_buffer repaired = { 0 };
	json_t *json = NULL;
	if (!pf_utf8_repair(text, length, &repaired))
		json = json_stringn(repaired.text ? repaired.text : "", repaired.length);
	pf_buffer_free(&repaired);
	return json;
}

json_t *pf_shown_ids(const struct pf_tokenizer *tokenizer, const int32_t *ids, size_t count, int specials,
                     int continues)
{
	char *text;
	size_t length;
	if (pf_tokenizer_decode(tokenizer, ids, count, specials, continues, &text, &length))
		return NULL;
	json_t *json = pf_shown(text, length);
	free(text);
	return json;
}

static void print(const char *text, size_t length)
{
	struct pf_buffer repaired = { 0 };
	if (!pf_utf8_repair(text, length, &repaired) && repaired.length)
		fwrite(repaired.text, 1, repaired.length, stdout);
	pf_buffer_free(&repaired);
	fflush(stdout);
}

int pf_typing_take(struct pf_typing *typing, const struct pf_tokenizer *tokenizer, int32_t id)
{
	struct pf_buffer *waiting = &typing->waiting;
	size_t length, whole;
	const char *piece = pf_tokenizer_piece(tokenizer, id, &length);
	int code = pf_buffer_append(waiting, piece, length);
	if (code)
		return code;
	whole = pf_utf8_whole(waiting->text, waiting->length);
	print(waiting->text, whole);
	waiting->length -= whole;
	memmove(waiting->text, waiting->text + whole, waiting->length);
	return 0;
}

void pf_typing_end(struct pf_typing *typing)
{
	print(typing->waiting.text, typing->waiting.length);
	pf_buffer_free(&typing->waiting);
}
