/* Any bytes as a text for the tokenizers of tests/golden, which the first byte chooses: ids in range, the same ids
 * again, and the text back (repaired, if it was not UTF-8) where the family changes nothing of it. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "host/corpus/tokenizer.h"
#include "host/corpus/unicode.h"

enum {
	FAMILIES = 11,
	BYTE_LEVEL = 3,
	BACK = 5
}; /* the first ones give every text back, those before BACK all but marks */

static const char *const families[FAMILIES] = { "gpt2",         "llama3",    "smol",       "gemma",
	                                        "mistral",      "llama2",    "llama2_old", "qwen2",
	                                        "roberta_like", "metaspace", "splits" };

static void check(int holds)
{
	if (!holds)
		abort();
}

static const struct pf_tokenizer *tokenizer_of(unsigned family)
{
	static const struct pf_tokenizer *opened[FAMILIES];
	char path[4096];

	if (!opened[family]) {
		snprintf(path, sizeof path, "%s/%s", PREFPGA_GOLDEN, families[family]);
		check(!pf_tokenizer_open(path, &opened[family], NULL));
	}
	return opened[family];
}

static void check_back(const struct pf_tokenizer *tokenizer, const struct pf_tokens *tokens, const char *text,
                       size_t length, int continues)
{
	struct pf_buffer repaired = { 0 };
	char *back;
	size_t bytes;

	check(!pf_utf8_repair(text, length, &repaired));
	check(!pf_tokenizer_decode(tokenizer, tokens->id, tokens->count, 1, continues, &back, &bytes));
	check(bytes == repaired.length && (!bytes || memcmp(back, repaired.text, bytes) == 0));
	free(back);
	pf_buffer_free(&repaired);
}

static int has_mark(const char *text, size_t length)
{
	for (size_t i = 0; i + 3 <= length; i++)
		if (memcmp(text + i, "\xe2\x96\x81", 3) == 0)
			return 1;
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const unsigned family = size ? data[0] % FAMILIES : 0;
	const int continues = size && data[0] >= 128;
	const struct pf_tokenizer *tokenizer = tokenizer_of(family);
	const char *text = (const char *)data + (size > 0);
	const size_t length = size - (size > 0);
	struct pf_tokens tokens = { 0 }, again = { 0 };

	check(!pf_tokenizer_encode(tokenizer, text, length, continues, &tokens));
	check(!pf_tokenizer_encode(tokenizer, text, length, continues, &again));
	check(tokens.count == again.count &&
	      (!again.count || memcmp(tokens.id, again.id, again.count * sizeof *again.id) == 0));
	for (size_t i = 0; i < tokens.count; i++)
		check(tokens.id[i] >= 0 && tokens.id[i] < tokenizer->vocab);
	/* mistral puts no space before one that is there */
	if (family < BYTE_LEVEL || (family < BACK && !has_mark(text, length) && (continues || !length || *text != ' ')))
		check_back(tokenizer, &tokens, text, length, continues);
	pf_tokens_free(&tokens);
	pf_tokens_free(&again);
	return 0;
}
