/* tokenizer_naive.c: random texts through tokenizers and through a second implementation, as plain as can be: texts of
 * symbols, looked up in the file's own JSON, the pair of lowest rank merged over and over, words found by hand. It
 * shares nothing with host/corpus. And the same from several threads at once. */
#include <ctype.h>
#include <jansson.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "host/corpus/tokenizer.h"
#include "tests/cmocka.h"

enum { LONGEST = 400, SYMBOL = 64, THREADS = 4 };

struct naive {
	json_t *root, *vocab, *ranks;  /* ranks: "a b" to its place */
	char    symbol[LONGEST][SYMBOL];
	int     count;
	int32_t ids[2 * LONGEST];
	int     made;
};

static void naive_open(struct naive *n, const char *family)
{
	char path[128];
	json_t *merge;
	size_t i;

	snprintf(path, sizeof path, "tests/golden/%s/tokenizer.json", family);
	n->root = json_load_file(path, 0, NULL);
	assert_non_null(n->root);
	n->vocab = json_object_get(json_object_get(n->root, "model"), "vocab");
	n->ranks = json_object();
	json_array_foreach(json_object_get(json_object_get(n->root, "model"), "merges"), i, merge) {
		char pair[2 * SYMBOL];

		snprintf(pair, sizeof pair, "%s %s", json_string_value(json_array_get(merge, 0)),
		         json_string_value(json_array_get(merge, 1)));
		json_object_set_new(n->ranks, json_is_array(merge) ? pair : json_string_value(merge),
		                    json_integer((json_int_t)i));
	}
}

static void naive_close(struct naive *n)
{
	json_decref(n->root);
	json_decref(n->ranks);
}

static void join(char *left, const char *right)
{
	size_t length = strlen(left), more = strlen(right) + 1;

	assert_true(length + more <= SYMBOL);
	memmove(left + length, right, more);
}

static void naive_merge(struct naive *n)
{
	for (;;) {
		json_int_t lowest = INT64_MAX;
		int at = -1;

		for (int i = 0; i + 1 < n->count; i++) {
			char pair[2 * SYMBOL + 1];
			const json_t *rank;

			snprintf(pair, sizeof pair, "%s %s", n->symbol[i], n->symbol[i + 1]);
			rank = json_object_get(n->ranks, pair);
			if (rank && json_integer_value(rank) < lowest) {
				lowest = json_integer_value(rank);
				at = i;
			}
		}
		if (at < 0)
			return;
		join(n->symbol[at], n->symbol[at + 1]);
		memmove(n->symbol[at + 1], n->symbol[at + 2], (size_t)(n->count - at - 2) * SYMBOL);
		n->count--;
	}
}

static void naive_word(struct naive *n)
{
	naive_merge(n);
	for (int i = 0; i < n->count; i++) {
		const json_t *id = json_object_get(n->vocab, n->symbol[i]);

		assert_non_null(id);
		n->ids[n->made++] = (int32_t)json_integer_value(id);
	}
	n->count = 0;
}

/* ---- byte-level, ASCII: GPT-2's words by hand ---- */

static void put_letter(struct naive *n, char c)
{
	/* control characters are U+0100 on; the space is the 33rd of them, U+0120; DEL follows as U+0121 */
	unsigned code = (unsigned char)c <= ' ' ? 0x100u + (unsigned char)c : c == 0x7f ? 0x121u : 0;

	if (code)
		snprintf(n->symbol[n->count++], SYMBOL, "%c%c", (char)(0xc0 | code >> 6), (char)(0x80 | (code & 63)));
	else
		snprintf(n->symbol[n->count++], SYMBOL, "%c", c);
}

static int class_of(char c)
{
	return isalpha((unsigned char)c) ? 1 : isdigit((unsigned char)c) ? 2 : strchr(" \t\n\v\f\r", c) ? 0 : 3;
}

static size_t contraction(const char *text)
{
	static const char *const ends[] = { "'s", "'t", "'re", "'ve", "'m", "'ll", "'d" };

	for (size_t i = 0; i < sizeof ends / sizeof *ends; i++)
		if (strncmp(text, ends[i], strlen(ends[i])) == 0)
			return strlen(ends[i]);
	return 0;
}

/* Length of the word that text begins with */
static size_t word_length(const char *text)
{
	size_t length = contraction(text), space = 0, run;

	if (length)
		return length;
	if (text[0] == ' ' && text[1] && class_of(text[1]) != 0)
		space = 1;
	for (run = space; text[run] && class_of(text[run]) == class_of(text[space]); run++)
		;
	if (class_of(text[space]) == 0 && text[run] && run > 1)        /* the last space goes with the next word */
		run--;
	return run;
}

static void naive_bytes(struct naive *n, const char *text)
{
	n->made = 0;
	while (*text) {
		size_t length = word_length(text);

		for (size_t i = 0; i < length; i++)
			put_letter(n, text[i]);
		naive_word(n);
		text += length;
	}
}

/* ---- by characters: a mark for each space and one in front, unknown characters as bytes ---- */

static void naive_characters(struct naive *n, const char *text)
{
	n->made = 0;
	snprintf(n->symbol[n->count++], SYMBOL, "\xe2\x96\x81");
	while (*text) {
		char one[8] = "\xe2\x96\x81";
		size_t length = (*text & 0x80) == 0 ? 1 : (*text & 0xe0) == 0xc0 ? 2 : (*text & 0xf0) == 0xe0 ? 3 : 4;

		if (*text != ' ')
			snprintf(one, sizeof one, "%.*s", (int)length, text);
		if (json_object_get(n->vocab, one))
			snprintf(n->symbol[n->count++], SYMBOL, "%s", one);
		else
			for (size_t i = 0; one[i]; i++)
				snprintf(n->symbol[n->count++], SYMBOL, "<0x%02X>", (unsigned char)one[i]);
		text += length;
	}
	naive_word(n);
}

/* ---- random texts ---- */

static unsigned draw(uint64_t *state, unsigned below)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return (unsigned)(*state >> 33) % below;
}

static void make_text(uint64_t *state, int wide, char *text)
{
	static const char *const parts[] = { "the",  " the",  " of",    "train", "'s",   "'ll", "'",   " ",   "  ",
		                             "\n",   "\t",    "12",     "3",     "a",    "e",   "on",  "ing", " re",
		                             "ward", "!",     "?!",     "(",     ")",    "A",   "The", "_",   "-",
		                             "int ", "for (", "static", "::",    "\x7f", "\r\n" };
	static const char *const others[] = { "\xc3\xa9",     "\xd0\xbc\xd0\xb8\xd1\x80", "\xe4\xb8\x96",
		                              "\xe2\x82\xac", "\xf0\x9f\x98\x80",         "\xe2\x96\x81",
		                              "\xcc\x81" };
	unsigned count = 1 + draw(state, 40);

	*text = 0;
	for (unsigned i = 0; i < count && strlen(text) < LONGEST / 2 - 16; i++)
		strcat(text, wide && draw(state, 4) == 0 ? others[draw(state, sizeof others / sizeof *others)]
		                                         : parts[draw(state, sizeof parts / sizeof *parts)]);
}

static const struct pf_tokenizer *open_family(const char *family)
{
	const struct pf_tokenizer *tokenizer;
	char path[128];

	snprintf(path, sizeof path, "tests/golden/%s", family);
	assert_int_equal(pf_tokenizer_open(path, &tokenizer, NULL), 0);
	return tokenizer;
}

static void compare(const char *family, int wide, void (*encode)(struct naive *n, const char *text))
{
	static struct naive naive;
	const struct pf_tokenizer *tokenizer = open_family(family);
	struct pf_tokens tokens = { 0 };
	uint64_t state = 88172645463325252u;
	char text[LONGEST];

	naive = (struct naive){ 0 };
	naive_open(&naive, family);
	for (int i = 0; i < 1000; i++) {
		make_text(&state, wide, text);
		encode(&naive, text);
		tokens.count = 0;
		assert_int_equal(pf_tokenizer_encode(tokenizer, text, strlen(text), 0, &tokens), 0);
		if ((int)tokens.count != naive.made ||
		    memcmp(tokens.id, naive.ids, tokens.count * sizeof *tokens.id) != 0)
			fail_msg("%s: other ids for \"%s\"", family, text);
	}
	pf_tokens_free(&tokens);
	pf_tokenizer_close(tokenizer);
	naive_close(&naive);
}

static void bytes_as_the_plain_ones(void **state)
{
	(void)state;
	compare("gpt2", 0, naive_bytes);
}

static void characters_as_the_plain_ones(void **state)
{
	(void)state;
	compare("llama2", 1, naive_characters);
}

/* ---- threads ---- */

struct share { const struct pf_tokenizer *tokenizer; unsigned sum; };

static void *encode_some(void *context)
{
	struct share *share = context;
	struct pf_tokens tokens = { 0 };
	uint64_t state = 88172645463325252u;
	char text[LONGEST];

	for (int i = 0; i < 200; i++) {
		make_text(&state, 1, text);
		if (pf_tokenizer_encode(share->tokenizer, text, strlen(text), i & 1, &tokens))
			break;
	}
	for (size_t i = 0; i < tokens.count; i++)
		share->sum = share->sum * 31 + (unsigned)tokens.id[i];
	pf_tokens_free(&tokens);
	return NULL;
}

static void threads_share_a_tokenizer(void **state)
{
	static const char *const families[] = { "qwen2", "llama2", "roberta_like" };

	(void)state;
	for (size_t f = 0; f < sizeof families / sizeof *families; f++) {
		const struct pf_tokenizer *tokenizer = open_family(families[f]);
		struct share share[THREADS], alone = { tokenizer, 0 };
		pthread_t thread[THREADS];

		encode_some(&alone);
		assert_int_not_equal(alone.sum, 0);
		for (int i = 0; i < THREADS; i++) {
			share[i] = (struct share){ tokenizer, 0 };
			assert_int_equal(pthread_create(&thread[i], NULL, encode_some, &share[i]), 0);
		}
		for (int i = 0; i < THREADS; i++) {
			assert_int_equal(pthread_join(thread[i], NULL), 0);
			assert_int_equal(share[i].sum, alone.sum);
		}
		pf_tokenizer_close(tokenizer);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(bytes_as_the_plain_ones),
		cmocka_unit_test(characters_as_the_plain_ones),
		cmocka_unit_test(threads_share_a_tokenizer),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
