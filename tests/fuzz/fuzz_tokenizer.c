/* Any text as tokenizer.json: refused with a reason, or a tokenizer whose ids are in range for any text, which it shows
 * again within its memory. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include "host/corpus/tokenizer_state.h"

static void check(int holds)
{
	if (!holds)
		abort();
}

static void check_text(const struct pf_tokenizer *tokenizer, const char *text, size_t length, int continues)
{
	struct pf_tokens tokens = { 0 };
	char *back;
	size_t bytes;

	if (!pf_tokenizer_encode(tokenizer, text, length, continues, &tokens)) {
		for (size_t i = 0; i < tokens.count; i++)
			check(tokens.id[i] >= 0 && tokens.id[i] < tokenizer->vocab);
		check(!pf_tokenizer_decode(tokenizer, tokens.id, tokens.count, 1, continues, &back, &bytes));
		check(strlen(back) <= bytes);
		free(back);
	} else {
		check(!tokens.count);
	}
	pf_tokens_free(&tokens);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char text[] = "I'll go, a\xcc\x81 \xe2\x96\x81x  12 <s> aab\r\n \xf0\x9f\x98\x80\xff ab abab";
	struct pf_tokenizer_state *state;
	struct pf_error error = { 0 };

	if (pf_tokenizer_parse((const char *)data, size, &state, &error)) {
		check(!state && *error.text);
		return 0;
	}
	check_text(&state->face, text, sizeof text - 1, 0);
	check_text(&state->face, text, sizeof text - 1, 1);
	check_text(&state->face, (const char *)data, size < 4096 ? size : 4096, 0);
	pf_tokenizer_state_free(state);
	return 0;
}
