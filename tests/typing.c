/* typing.c: text that arrives token by token: what has been printed at any time is whole characters, and all of it in
 * the end is the text. The bytes tokenizer has characters spread over tokens. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "host/cli/shown.h"
#include "host/corpus/unicode.h"
#include "tests/cmocka.h"
#include "tests/scratch.h"

/* Gives text byte by byte with standard output in a file; after each, what is in the file must be UTF-8 */
static void type(const char *text, const char *expected)
{
	const struct pf_tokenizer *tokenizer;
	struct pf_typing typing = { 0 };
	const char *path = scratch_text("out", "");
	char shown[256];
	size_t length = 0;
	int saved = dup(STDOUT_FILENO), broken = 0;

	fflush(stdout);
	assert_non_null(freopen(path, "w+", stdout));
	assert_int_equal(pf_tokenizer_open("bytes", &tokenizer, NULL), 0);
	for (size_t i = 0; i <= strlen(text); i++) {
		FILE *file = fopen(path, "r");

		length = file ? fread(shown, 1, sizeof shown, file) : 0;
		broken |= !file || !pf_utf8_valid(shown, length);
		if (file)
			fclose(file);
		if (text[i])
			broken |= pf_typing_take(&typing, tokenizer, (unsigned char)text[i]);
	}
	pf_typing_end(&typing);
	rewind(stdout);
	length = fread(shown, 1, sizeof shown - 1, stdout);
	shown[length] = 0;
	dup2(saved, STDOUT_FILENO);
	close(saved);
	assert_false(broken);
	assert_string_equal(shown, expected);
}

static void characters_appear_whole(void **state)
{
	(void)state;
	type("a\xc3\xa9 \xe4\xb8\x96 \xf0\x9f\x98\x80.", "a\xc3\xa9 \xe4\xb8\x96 \xf0\x9f\x98\x80.");
	/* a character that never ends, one that breaks off, bytes that begin none */
	type("x\xf0\x9f\x98", "x\xef\xbf\xbd");
	type("\xe4\xb8z\xffy\x80", "\xef\xbf\xbdz\xef\xbf\xbdy\xef\xbf\xbd");
	type("", "");
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(characters_appear_whole) };

	scratch_open("typing");
	return cmocka_run_group_tests(tests, NULL, NULL);
}
