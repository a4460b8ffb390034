/* corpus_records.c: records of every form, every fault, and the byte tokenizer. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "tests/cmocka.h"
#include "host/corpus/forms.h"
#include "host/corpus/tokenizer.h"

static struct pf_record record;
static struct pf_error error;
static enum pf_fault fault;

static int read_as(enum pf_record_form form, const char *marker, const char *text)
{
	memset(&error, 0, sizeof error);
	return pf_record_read(text, strlen(text), form, marker, PF_CHAT_CHATML, &record, &fault, &error);
}

static void assert_read(const char *text, enum pf_record_form form)
{
	if (read_as(PF_RECORD_AUTO, NULL, text))
		fail_msg("%s: %s", text, error.text);
	assert_int_equal(record.form, form);
	assert_int_equal(fault, PF_FAULT_NONE);
}

static void assert_text(struct pf_text text, const char *expected)
{
	assert_int_equal(text.length, strlen(expected));
	assert_memory_equal(text.text, expected, text.length);
}

static void pairs_with_a_prompt(void **state)
{
	(void)state;
	assert_read("{\"prompt\":\"p\",\"chosen\":\"\\u00e9\",\"rejected\":\"r\",\"margin\":1.5,\"score_chosen\":7,"
	            "\"id\":3}\r",
	            PF_RECORD_PAIRS);
	assert_text(record.prompt, "p");
	assert_text(record.completion[0], "\xc3\xa9");
	assert_text(record.completion[1], "r");
	assert_true(record.margin == 1.5f && record.score[0] == 7 && record.score[1] == 0 && record.weight == 1);
	pf_record_free(&record);
}

static void the_prompt_of_two_conversations(void **state)
{
	(void)state;
	assert_read("{\"chosen\":\"\\n\\nHuman: a\\n\\nAssistant: b\\n\\nHuman: c\\n\\nAssistant: yes\","
	            "\"rejected\":\"\\n\\nHuman: a\\n\\nAssistant: b\\n\\nHuman: c\\n\\nAssistant: yea\"}",
	            PF_RECORD_PAIRS);
	assert_text(record.prompt, "\n\nHuman: a\n\nAssistant: b\n\nHuman: c\n\nAssistant:");
	assert_text(record.completion[0], " yes");
	assert_text(record.completion[1], " yea");
	pf_record_free(&record);
}

/* The conversations part within a human turn: the prompt goes back to the last answer they share the opening of */
static void conversations_that_part_early(void **state)
{
	(void)state;
	assert_read("{\"chosen\":\"\\n\\nHuman: a\\n\\nAssistant: b\\n\\nHuman: c\\n\\nAssistant: yes\","
	            "\"rejected\":\"\\n\\nHuman: a\\n\\nAssistant: b\\n\\nHuman: d\\n\\nAssistant: no\"}",
	            PF_RECORD_PAIRS);
	assert_text(record.prompt, "\n\nHuman: a\n\nAssistant:");
	assert_text(record.completion[0], " b\n\nHuman: c\n\nAssistant: yes");
	pf_record_free(&record);
}

static void a_marker_must_be_common_as_a_whole(void **state)
{
	(void)state;
	assert_int_equal(read_as(PF_RECORD_AUTO, NULL,
	                         "{\"chosen\":\"q\\n\\nAssistant: a\",\"rejected\":\"q\\n\\nAssistent: a\"}"),
	                 PF_E_DATA);
	assert_int_equal(fault, PF_FAULT_BOUNDARY);
	assert_read("{\"chosen\":\"q\\n\\nAssistant:a\",\"rejected\":\"q\\n\\nAssistant:\\u00e9\"}", PF_RECORD_PAIRS);
	assert_text(record.completion[1], "\xc3\xa9");
	pf_record_free(&record);
	assert_read("{\"chosen\":\"<|im_start|>user\\nx<|im_start|>assistant\\ny\",\"rejected\":\"<|im_start|>user\\nx<"
	            "|im_start|>assistant\\nz\"}",
	            PF_RECORD_PAIRS);
	assert_text(record.completion[0], "y");
	pf_record_free(&record);
}

static void a_marker_of_the_user(void **state)
{
	static const char text[] = "{\"chosen\":\"Q: x\\nA: 1\",\"rejected\":\"Q: x\\nA: 2\"}";

	(void)state;
	assert_true(read_as(PF_RECORD_AUTO, NULL, text) < 0);
	assert_int_equal(fault, PF_FAULT_BOUNDARY);
	assert_int_equal(read_as(PF_RECORD_AUTO, "\nA:", text), 0);
	assert_text(record.prompt, "Q: x\nA:");
	assert_text(record.completion[1], " 2");
	pf_record_free(&record);
}

/* Completions that differ first in the second byte of a character are cut before the character */
static void a_character_is_never_cut(void **state)
{
	struct pf_text chosen = { "A:\xc3\xa9", 4 }, rejected = { "A:\xc3\xa8", 4 };

	(void)state;
	assert_int_equal(pf_prompt_length(chosen, rejected, "A:"), 2);
	assert_int_equal(pf_prompt_length(chosen, rejected, ""), 0);
	assert_int_equal(pf_prompt_length(chosen, chosen, "A:"), 2);
	assert_int_equal(pf_prompt_length((struct pf_text){ "", 0 }, rejected, "A:"), 0);
}

static void the_other_forms(void **state)
{
	(void)state;
	assert_read("{\"prompt\":\"\",\"completion\":\"c\",\"label\":false,\"weight\":2}", PF_RECORD_BINARY);
	assert_true(record.desirable == 0 && record.weight == 2 && record.completions == 1);
	pf_record_free(&record);
	assert_read("{\"prompt\":\"p\",\"completion\":\"c\",\"label\":1}", PF_RECORD_BINARY);
	assert_int_equal(record.desirable, 1);
	pf_record_free(&record);
	assert_read("{\"prompt\":\"p\",\"completion\":\"c\",\"label\":null}", PF_RECORD_SFT);
	pf_record_free(&record);
	assert_read("{\"text\":\"t\"}", PF_RECORD_SFT);
	assert_text(record.prompt, "");
	assert_text(record.completion[0], "t");
	pf_record_free(&record);
	assert_read("{\"prompt\":\"p\",\"completions\":[\"a\",\"b\",\"c\"]}", PF_RECORD_RANKINGS);
	assert_true(record.completions == 3 && record.score[0] == 3 && record.score[2] == 1);
	pf_record_free(&record);
	assert_read("{\"prompt\":\"p\",\"completions\":[\"a\",\"b\"],\"scores\":[0.5,2]}", PF_RECORD_RANKINGS);
	assert_true(record.score[0] == 0.5f && record.score[1] == 2);
	pf_record_free(&record);
}

static const struct { enum pf_record_form form; const char *text; enum pf_fault fault; const char *says; } faults[] = {
	{ PF_RECORD_AUTO, "{\"prompt\":", PF_FAULT_JSON, "not complete on this line" },
	{ PF_RECORD_AUTO, "{", PF_FAULT_JSON, "not complete on this line" },
	{ PF_RECORD_AUTO, "{\"a\":1,}", PF_FAULT_JSON, "broken JSON at column" },
	{ PF_RECORD_AUTO, "{} {}", PF_FAULT_JSON, "broken JSON" },
	{ PF_RECORD_AUTO, "{\"a\":1,\"a\":2}", PF_FAULT_JSON, "duplicate" },
	{ PF_RECORD_AUTO, "{\"text\":\"\xff\"}", PF_FAULT_JSON, "not valid UTF-8 at byte" },
	{ PF_RECORD_AUTO, "{\"text\":\"\xc0\x80\"}", PF_FAULT_JSON, "not valid UTF-8" },
	{ PF_RECORD_AUTO, "{\"text\":\"a\\u0000b\"}", PF_FAULT_JSON, "broken JSON" },
	{ PF_RECORD_AUTO, "[1]", PF_FAULT_FIELD, "this is a list" },
	{ PF_RECORD_AUTO, "3", PF_FAULT_JSON, "broken JSON" },
	{ PF_RECORD_AUTO, "{}", PF_FAULT_FIELD, "no known form" },
	{ PF_RECORD_AUTO, "{\"messages\":[]}", PF_FAULT_FIELD, "a list of messages with at least one" },
	{ PF_RECORD_AUTO, "{\"prompt\":\"p\",\"chosen\":\"c\"}", PF_FAULT_FIELD, "\"rejected\" is missing" },
	{ PF_RECORD_AUTO, "{\"prompt\":\"p\",\"chosen\":null,\"rejected\":\"c\"}", PF_FAULT_FIELD, "\"chosen\" is missing" },
	{ PF_RECORD_AUTO, "{\"prompt\":\"p\",\"chosen\":3,\"rejected\":\"c\"}", PF_FAULT_FIELD, "must be a string, it is a number" },
	{ PF_RECORD_AUTO, "{\"prompt\":\"p\",\"chosen\":[],\"rejected\":\"c\"}", PF_FAULT_FIELD, "field \"chosen\" must be a list of messages" },
	{ PF_RECORD_AUTO, "{\"prompt\":\"p\",\"chosen\":\"c\",\"rejected\":\"\"}", PF_FAULT_EMPTY, "\"rejected\" holds an empty" },
	{ PF_RECORD_AUTO, "{\"prompt\":\"p\",\"chosen\":\"c\",\"rejected\":\"c\"}", PF_FAULT_IDENTICAL, "the same" },
	{ PF_RECORD_AUTO, "{\"chosen\":\"c\",\"rejected\":\"c\"}", PF_FAULT_IDENTICAL, "the same" },
	{ PF_RECORD_AUTO, "{\"chosen\":\"c\",\"rejected\":\"d\"}", PF_FAULT_BOUNDARY, "no role marker" },
	{ PF_RECORD_AUTO, "{\"chosen\":\"q\\n\\nAssistant:\",\"rejected\":\"q\\n\\nAssistant: d\"}", PF_FAULT_EMPTY, "\"chosen\"" },
	{ PF_RECORD_BINARY, "{\"prompt\":\"p\",\"completion\":\"c\"}", PF_FAULT_FIELD, "\"label\" is missing" },
	{ PF_RECORD_AUTO, "{\"prompt\":\"p\",\"completion\":\"c\",\"label\":\"yes\"}", PF_FAULT_FIELD, "true or false, it is a string" },
	{ PF_RECORD_AUTO, "{\"prompt\":\"p\",\"completion\":\"c\",\"label\":2}", PF_FAULT_FIELD, "true or false" },
	{ PF_RECORD_AUTO, "{\"completion\":\"c\",\"label\":true}", PF_FAULT_FIELD, "\"prompt\" is missing" },
	{ PF_RECORD_AUTO, "{\"prompt\":\"p\",\"completion\":\"\"}", PF_FAULT_EMPTY, "empty completion" },
	{ PF_RECORD_AUTO, "{\"text\":\"\"}", PF_FAULT_EMPTY, "\"text\"" },
	{ PF_RECORD_PAIRS, "{\"text\":\"a\"}", PF_FAULT_FIELD, "\"chosen\" is missing" },
	{ PF_RECORD_AUTO, "{\"prompt\":\"p\",\"completion\":\"c\",\"weight\":-1}", PF_FAULT_FIELD, "negative" },
	{ PF_RECORD_AUTO, "{\"prompt\":\"p\",\"completion\":\"c\",\"weight\":\"1\"}", PF_FAULT_FIELD, "must be a number" },
	{ PF_RECORD_AUTO, "{\"prompt\":\"p\",\"completion\":\"c\",\"weight\":1e300}", PF_FAULT_FIELD, "too large" },
	{ PF_RECORD_AUTO, "{\"prompt\":\"p\",\"completions\":[\"a\"]}", PF_FAULT_FIELD, "2 to 64" },
	{ PF_RECORD_AUTO, "{\"prompt\":\"p\",\"completions\":\"a\"}", PF_FAULT_FIELD, "2 to 64" },
	{ PF_RECORD_AUTO, "{\"prompt\":\"p\",\"completions\":[\"a\",1]}", PF_FAULT_FIELD, "must be a string" },
	{ PF_RECORD_AUTO, "{\"prompt\":\"p\",\"completions\":[\"a\",\"\"]}", PF_FAULT_EMPTY, "empty" },
	{ PF_RECORD_AUTO, "{\"prompt\":\"p\",\"completions\":[\"a\",\"b\"],\"scores\":[1]}", PF_FAULT_FIELD, "as long as completions" },
};

static void every_fault_has_its_class_and_its_text(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof faults / sizeof *faults; i++) {
		if (!read_as(faults[i].form, NULL, faults[i].text))
			fail_msg("%s was accepted", faults[i].text);
		if (fault != faults[i].fault || !strstr(error.text, faults[i].says))
			fail_msg("%s: fault %d, \"%s\"", faults[i].text, fault, error.text);
		assert_null(record.json);
	}
}

static void a_nul_byte_is_named(void **state)
{
	static const char text[] = "{\"text\":\"a\0b\"}";

	(void)state;
	assert_true(pf_record_read(text, sizeof text - 1, PF_RECORD_AUTO, NULL, PF_CHAT_NONE, &record, &fault, &error) <
	            0);
	assert_non_null(strstr(error.text, "NUL byte"));
}

static void errors_may_be_ignored(void **state)
{
	(void)state;
	assert_true(pf_record_read("{", 1, PF_RECORD_AUTO, NULL, PF_CHAT_NONE, &record, &fault, NULL) < 0);
	assert_int_equal(fault, PF_FAULT_JSON);
}

/* ---- tokenizer ---- */

static void every_byte_comes_back(void **state)
{
	const struct pf_tokenizer *tokenizer;
	struct pf_tokens tokens = { 0 };
	char text[1024];

	(void)state;
	for (size_t i = 0; i < sizeof text; i++)
		text[i] = (char)(i * 7 + i / 256);
	assert_int_equal(pf_tokenizer_open("bytes", &tokenizer, &error), 0);
	assert_int_equal(pf_tokenizer_encode(tokenizer, text, sizeof text, 0, &tokens), 0);
	assert_int_equal(tokens.count, sizeof text);
	for (size_t i = 0; i < sizeof text; i++) {
		size_t length;
		const char *piece = pf_tokenizer_piece(tokenizer, tokens.id[i], &length);

		assert_true(tokens.id[i] == (unsigned char)text[i] && length == 1 && *piece == text[i]);
	}
	pf_tokens_free(&tokens);
}

static void specials_have_no_bytes(void **state)
{
	static const int32_t ids[] = { PF_BYTES_BOS, PF_BYTES_EOS, PF_BYTES_PAD, PF_BYTES_VOCAB,
		                       -1,           INT32_MIN,    INT32_MAX };
	const struct pf_tokenizer *tokenizer;

	(void)state;
	assert_int_equal(pf_tokenizer_open("bytes", &tokenizer, &error), 0);
	assert_int_equal(tokenizer->vocab, 259);
	for (size_t i = 0; i < sizeof ids / sizeof *ids; i++) {
		size_t length = 1;

		assert_non_null(pf_tokenizer_piece(tokenizer, ids[i], &length));
		assert_int_equal(length, 0);
	}
	assert_int_equal(pf_tokenizer_open("gpt2", &tokenizer, &error), PF_E_ABSENT);
	assert_non_null(
		strstr(error.text, "gpt2: there is no tokenizer.json in it. A tokenizer is \"bytes\", or a folder"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(pairs_with_a_prompt),
		cmocka_unit_test(the_prompt_of_two_conversations),
		cmocka_unit_test(conversations_that_part_early),
		cmocka_unit_test(a_marker_must_be_common_as_a_whole),
		cmocka_unit_test(a_marker_of_the_user),
		cmocka_unit_test(a_character_is_never_cut),
		cmocka_unit_test(the_other_forms),
		cmocka_unit_test(every_fault_has_its_class_and_its_text),
		cmocka_unit_test(a_nul_byte_is_named),
		cmocka_unit_test(errors_may_be_ignored),
		cmocka_unit_test(every_byte_comes_back),
		cmocka_unit_test(specials_have_no_bytes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
