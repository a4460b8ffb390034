/* corpus_messages.c: lists of chat messages in every form of record, through the templates to tokens. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "host/corpus/corpus.h"
#include "tests/cmocka.h"
#include "tests/scratch.h"

#define U(text) "{\"role\":\"user\",\"content\":\"" text "\"}"
#define A(text) "{\"role\":\"assistant\",\"content\":\"" text "\"}"
#define S(text) "{\"role\":\"system\",\"content\":\"" text "\"}"

static struct pf_record record;
static enum pf_fault fault;
static struct pf_error error;

static int read_as(const char *text, enum pf_chat chat)
{
	error = (struct pf_error){ 0 };
	return pf_record_read(text, strlen(text), PF_RECORD_AUTO, NULL, chat, &record, &fault, &error);
}

static void expect_text(struct pf_text text, const char *expected)
{
	if (text.length != strlen(expected) || memcmp(text.text, expected, text.length) != 0)
		fail_msg("\"%.*s\", not \"%s\"", (int)text.length, text.text, expected);
}

static void expect(const char *text, enum pf_record_form form, const char *prompt, const char *first,
                   const char *second)
{
	if (read_as(text, PF_CHAT_CHATML))
		fail_msg("%s: %s", text, error.text);
	assert_int_equal(record.form, form);
	assert_int_equal(record.completions, second ? 2 : 1);
	expect_text(record.prompt, prompt);
	expect_text(record.completion[0], first);
	if (second)
		expect_text(record.completion[1], second);
	pf_record_free(&record);
}

#define ASKED "<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\n"

static void every_form(void **state)
{
	(void)state;
	/* an explicit prompt, and completions as messages or as the text of one */
	expect("{\"prompt\":[" U("q") "],\"chosen\":[" A("x") "],\"rejected\":\"y\"}", PF_RECORD_PAIRS, ASKED,
	       "x<|im_end|>\n", "y<|im_end|>\n");
	/* the prompt is what both begin with; a text beside it says the same again */
	expect("{\"chosen\":[" U("q") "," A("x") "],\"rejected\":[" U("q") "," A("y") "]}", PF_RECORD_PAIRS, ASKED,
	       "x<|im_end|>\n", "y<|im_end|>\n");
	expect("{\"prompt\":\"q\",\"chosen\":[" U("q") "," A("x") "],\"rejected\":[" U("q") "," A(
		       "y") "],\"messages\":[" U("q") "," A("x") "],\"score_chosen\":7}",
	       PF_RECORD_PAIRS, ASKED, "x<|im_end|>\n", "y<|im_end|>\n");
	/* turns that differ later: everything behind the common ones is completion */
	expect("{\"chosen\":[" S("s") "," U("q") "," A("x") "," U("more") "," A("z") "],\"rejected\":[" S("s") "," U(
		       "q") "," A("y") "]}",
	       PF_RECORD_PAIRS, "<|im_start|>system\ns<|im_end|>\n" ASKED,
	       "x<|im_end|>\n<|im_start|>user\nmore<|im_end|>\n<|im_start|>assistant\nz<|im_end|>\n", "y<|im_end|>\n");
	expect("{\"prompt\":[" U("q") "],\"completion\":[" A("x") "],\"label\":false}", PF_RECORD_BINARY, ASKED,
	       "x<|im_end|>\n", NULL);
	expect("{\"prompt\":[" U("q") "],\"completion\":[" A("x") "]}", PF_RECORD_SFT, ASKED, "x<|im_end|>\n", NULL);
	expect("{\"messages\":[" U("q") "," A("x") "]}", PF_RECORD_SFT, ASKED, "x<|im_end|>\n", NULL);
	expect("{\"prompt\":\"q\",\"messages\":[" U("q") "," A("x") "," U("r") "," A("y") "]}", PF_RECORD_SFT,
	       ASKED "x<|im_end|>\n<|im_start|>user\nr<|im_end|>\n<|im_start|>assistant\n", "y<|im_end|>\n", NULL);
	expect("{\"prompt\":[" U("q") "],\"completions\":[[" A("x") "],\"y\"]}", PF_RECORD_RANKINGS, ASKED,
	       "x<|im_end|>\n", "y<|im_end|>\n");
	/* contents in parts */
	expect("{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"q\"}]},{\"role\":"
	       "\"assistant\","
	       "\"content\":[{\"text\":\"x\"},{\"type\":\"text\",\"text\":\"y\"}]}]}",
	       PF_RECORD_SFT, ASKED, "xy<|im_end|>\n", NULL);
	/* texts stay as they are */
	expect("{\"prompt\":\"q\",\"completion\":\"x\",\"messages\":[1]}", PF_RECORD_SFT, "q", "x", NULL);
	expect("{\"text\":\"x\",\"messages\":7}", PF_RECORD_SFT, "", "x", NULL);
}

static void faults(void **state)
{
	static const struct { const char *text; enum pf_fault fault; const char *words; } wrong[] = {
		{ "{\"messages\":\"x\"}", PF_FAULT_FIELD, "field \"messages\" must be a list of messages" },
		{ "{\"messages\":[" U("q") "]}", PF_FAULT_FIELD, "the last of \"messages\" is not the assistant's" },
		{ "{\"messages\":[" A("x") "]}", PF_FAULT_FIELD, "an answer without a question" },
		{ "{\"messages\":[" U("q") "," A("") "]}", PF_FAULT_EMPTY, "an answer of the assistant is empty" },
		{ "{\"messages\":[" U("q") ",{\"role\":\"tool\",\"content\":\"x\"}]}", PF_FAULT_FIELD, "message 2: role \"tool\" is not supported" },
		{ "{\"messages\":[{\"from\":\"human\",\"value\":\"x\"}]}", PF_FAULT_FIELD, "message 1: no role; a message is {\"role\"" },
		{ "{\"messages\":[\"x\"]}", PF_FAULT_FIELD, "message 1: no role" },
		{ "{\"messages\":[" U("q") ",{\"role\":\"assistant\",\"content\":null,\"tool_calls\":[]}]}", PF_FAULT_FIELD, "calls of tools" },
		{ "{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"image\"}]}," A("x") "]}", PF_FAULT_FIELD, "a part of type image" },
		{ "{\"messages\":[" A("x") "," S("q") "," A("y") "]}", PF_FAULT_FIELD, "only the first message can be" },
		{ "{\"prompt\":[" U("q") "," A("x") "],\"completion\":\"y\"}", PF_FAULT_FIELD, "it must end where the assistant is to answer" },
		{ "{\"prompt\":[" U("q") "],\"completion\":[" U("q") "," A("y") "]}", PF_FAULT_FIELD, "holds the answer alone" },
		{ "{\"prompt\":\"q\",\"completion\":[" A("y") "]}", PF_FAULT_FIELD, "so \"prompt\" must be one too" },
		{ "{\"prompt\":\"q\",\"completions\":[[" A("y") "],[" A("x") "]]}", PF_FAULT_FIELD, "so \"prompt\" must be one too" },
		{ "{\"prompt\":[" U("q") "],\"chosen\":\"x\"}", PF_FAULT_FIELD, "field \"rejected\" is missing" },
		{ "{\"prompt\":[" U("q") "],\"chosen\":7,\"rejected\":\"x\"}", PF_FAULT_FIELD, "field \"chosen\" must be a list of messages" },
		{ "{\"prompt\":[" U("q") "],\"chosen\":\"x\",\"rejected\":\"x\"}", PF_FAULT_IDENTICAL, "are the same" },
		{ "{\"chosen\":[" U("q") "," A("x") "],\"rejected\":\"x\"}", PF_FAULT_FIELD, "field \"rejected\" must be a list" },
		{ "{\"chosen\":[" U("q") "," A("x") "],\"rejected\":[" U("q") "," A("x") "]}", PF_FAULT_IDENTICAL, "are the same" },
		{ "{\"chosen\":[" U("q") "," A("x") "],\"rejected\":[" U("r") "," A("y") "]}", PF_FAULT_BOUNDARY, "do not part at a message" },
		{ "{\"chosen\":[" A("x") "],\"rejected\":[" A("y") "]}", PF_FAULT_BOUNDARY, "do not part at a message" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
		if (!read_as(wrong[i].text, PF_CHAT_CHATML))
			fail_msg("taken: %s", wrong[i].text);
		if (fault != wrong[i].fault || !strstr(error.text, wrong[i].words))
			fail_msg("%s: fault %d, \"%s\"", wrong[i].text, (int)fault, error.text);
	}
	assert_true(read_as("{\"messages\":[" S("s") "," U("q") "," A("x") "]}", PF_CHAT_GEMMA) != 0);
	assert_non_null(strstr(error.text, "put its text into the first user message"));
	assert_true(read_as("{\"messages\":[" U("q") "," A("x") "]}", PF_CHAT_UNKNOWN) != 0);
	assert_non_null(strstr(error.text, "give --chat-template"));
}

/* ---- to tokens ---- */

static const struct pf_tokenizer *tokenizer;
static struct pf_corpus *corpus;
static struct pf_pack pack;

static int open_with(const char *family, const char *text, enum pf_chat chat)
{
	struct pf_corpus_options options = { .cut = { .max_length = 256 }, .chat = chat };
	char path[64];

	snprintf(path, sizeof path, "%s%s", strcmp(family, "bytes") == 0 ? "" : "tests/golden/", family);
	pf_corpus_close(corpus);
	pf_tokenizer_close(tokenizer);
	error = (struct pf_error){ 0 };
	assert_int_equal(pf_tokenizer_open(path, &tokenizer, &error), 0);
	return pf_corpus_open(scratch_text("messages.jsonl", text), tokenizer, &options, &corpus, &error);
}

static void expect_decoded(size_t from, size_t to, int continues, const char *expected)
{
	char *text;
	size_t length;

	assert_int_equal(pf_tokenizer_decode(tokenizer, pack.ids.id + from, to - from, 1, continues, &text, &length),
	                 0);
	assert_string_equal(text, expected);
	free(text);
}

struct family { const char *name, *prompt, *answers[2]; int bos, ends_in_line_feed; };

/* The template is the tokenizer's; no token has parts of prompt and completion; the mark that ends the turn is one
 * token, ends generation, and takes the place of eos */
static void expect_family(const struct family *family)
{
	pf_pack_clear(&pack);
	assert_int_equal(pf_corpus_pack(corpus, PF_SPLIT_TRAIN, 0, &pack, &error), 0);
	for (size_t i = 0; i < 2; i++) {
		size_t from = pack.offsets[i], to = pack.offsets[i + 1], boundary = from + pack.member[i].prompt;

		assert_int_equal(tokenizer->bos >= 0 && pack.ids.id[from] == tokenizer->bos, family->bos);
		expect_decoded(from + (size_t)family->bos, boundary, 1, family->prompt);
		expect_decoded(boundary, to, 1, family->answers[i]);
		assert_true(pf_tokenizer_stops(tokenizer, pack.ids.id[to - 1 - (size_t)family->ends_in_line_feed]));
		assert_int_equal(pack.scored[i], to - boundary);
	}
}

static void templates_of_tokenizers(void **state)
{
	static const char lines[] = "{\"prompt\":[" U("x1") "],\"chosen\":[" A("by") "],\"rejected\":[" A("z") "]}\n";
	static const struct family families[] = {
		{ "qwen2", "<|im_start|>user\nx1<|im_end|>\n<|im_start|>assistant\n", { "by<|im_end|>\n", "z<|im_end|>\n" }, 0, 1 },
		{ "llama3", "<|start_header_id|>user<|end_header_id|>\n\nx1<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
		  { "by<|eot_id|>", "z<|eot_id|>" }, 1, 0 },
		{ "gemma", "<start_of_turn>user\nx1<end_of_turn>\n<start_of_turn>model\n", { "by<end_of_turn>\n", "z<end_of_turn>\n" },
		  1, 1 },
		{ "mistral", "[INST] x1[/INST]", { " by</s>", " z</s>" }, 1, 0 },
	};

	(void)state;
	for (size_t f = 0; f < sizeof families / sizeof *families; f++) {
		if (open_with(families[f].name, lines, PF_CHAT_UNKNOWN))
			fail_msg("%s", error.text);
		expect_family(&families[f]);
	}
}

static void errors_name_file_and_line(void **state)
{
	(void)state;
	assert_true(open_with("bytes", "\n{\"messages\":[" U("q") "," A("x") "]}\n", PF_CHAT_UNKNOWN) != 0);
	assert_non_null(strstr(error.text, "messages.jsonl:2: the tokenizer has no chat template"));
	assert_null(strstr(error.text, "--bad-rows"));         /* no remedy: there would be no record left */
	assert_int_equal(open_with("bytes", "{\"messages\":[" U("q") "," A("x") "]}\n", PF_CHAT_CHATML), 0);
	pf_pack_clear(&pack);
	assert_int_equal(pf_corpus_pack(corpus, PF_SPLIT_TRAIN, 0, &pack, &error), 0);
	/* marks are bytes like any others there, so eos closes the sequence */
	assert_int_equal(pack.ids.id[pack.offsets[1] - 1], PF_BYTES_EOS);
}

/* What caches of log-probs are keyed by: other tokens of the same file are another key */
static void keys_know_template_and_tokenizer(void **state)
{
	static const char line[] = "{\"messages\":[" U("q") "," A("x") "]}\n";
	uint64_t key[4];

	(void)state;
	assert_int_equal(open_with("qwen2", line, PF_CHAT_UNKNOWN), 0);
	key[0] = pf_corpus_hash(corpus, PF_SPLIT_TRAIN);
	assert_int_equal(open_with("qwen2", line, PF_CHAT_CHATML), 0);
	key[1] = pf_corpus_hash(corpus, PF_SPLIT_TRAIN);
	assert_int_equal(open_with("qwen2", line, PF_CHAT_NONE), 0);
	key[2] = pf_corpus_hash(corpus, PF_SPLIT_TRAIN);
	assert_int_equal(open_with("llama3", line, PF_CHAT_CHATML), 0);
	key[3] = pf_corpus_hash(corpus, PF_SPLIT_TRAIN);
	assert_true(key[0] == key[1] && key[1] != key[2] && key[2] != key[3] && key[1] != key[3]);
}

static int close_all(void **state)
{
	(void)state;
	pf_pack_free(&pack);
	pf_corpus_close(corpus);
	pf_tokenizer_close(tokenizer);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_form),
		cmocka_unit_test(faults),
		cmocka_unit_test(templates_of_tokenizers),
		cmocka_unit_test(errors_name_file_and_line),
		cmocka_unit_test(keys_know_template_and_tokenizer),
	};

	scratch_open("corpus_messages");
	return cmocka_run_group_tests(tests, NULL, close_all);
}
