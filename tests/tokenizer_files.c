/* tokenizer_files.c: tokenizer.json and the files beside it: what is refused and with which words, beginning, end and
 * stops, saving. The reference for ids is tokenizer_golden.c. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include "host/corpus/tokenizer_state.h"
#include "tests/cmocka.h"
#include "tests/scratch.h"

static struct pf_error error;

/* ---- refusals ---- */

#define VOCAB  "\"vocab\":{\"a\":0,\"b\":1,\"ab\":2,\"<s>\":3}"
#define MODEL  "\"model\":{\"type\":\"BPE\"," VOCAB ",\"merges\":[\"a b\"]}"
#define SPLIT(pattern) "{" MODEL ",\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"" pattern "\"},\"behavior\":\"Isolated\"}}"
#define ADDED(fields)  "{" MODEL ",\"added_tokens\":[{" fields "}]}"
#define MERGES(list)   "{\"model\":{\"type\":\"BPE\"," VOCAB ",\"merges\":[" list "]}}"
#define TEMPLATE(list) "{" MODEL ",\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[" list "],\"special_tokens\":" \
	"{\"<s>\":{\"ids\":[3]},\"x\":{\"ids\":[99]}}}}"
#define OPENS "{\"SpecialToken\":{\"id\":\"<s>\"}}"

struct refusal { const char *json, *words; };

static const struct refusal refusals[] = {
	{ "", "line 1" },
	{ "[]", "not a JSON object" },
	{ "{}", "field \"model\" is missing" },
	{ "{\"model\":{\"type\":\"BPE\"", "line 1" },
	{ "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"a\":1},\"merges\":[]}}", "duplicate" },
	{ "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"\xff\":0},\"merges\":[]}}", "unable to decode byte 0xff" },
	{ "{\"model\":{\"type\":\"Unigram\",\"vocab\":[]}}", "type Unigram; only BPE is read here. Use a model" },
	{ "{\"model\":{\"type\":\"WordPiece\",\"vocab\":{}}}", "type WordPiece" },
	{ "{\"model\":{\"type\":\"BPE\",\"vocab\":{},\"merges\":[]}}", "model.vocab is missing or empty" },
	{ "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":\"0\"},\"merges\":[]}}", "its id is not a whole number" },
	{ "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":-1},\"merges\":[]}}", "id -1; ids are 0 to" },
	{ "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":4294967296},\"merges\":[]}}", "id 4294967296; ids are 0 to" },
	{ "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":0},\"merges\":[]}}", "id 0 belongs to two tokens" },
	{ "{\"model\":{\"type\":\"BPE\"," VOCAB "}}", "model.merges is missing" },
	{ "{\"model\":{\"type\":\"BPE\"," VOCAB ",\"merges\":[],\"dropout\":0.1}}", "dropout is not 0" },
	{ "{\"model\":{\"type\":\"BPE\"," VOCAB ",\"merges\":[],\"unk_token\":\"?\"}}", "unk_token \"?\" is not in" },
	{ "{\"model\":{\"type\":\"BPE\"," VOCAB ",\"merges\":[],\"end_of_word_suffix\":\"</w>\"}}", "end_of_word_suffix" },
	{ MERGES("\"a b\",\"b a\""), "model.merges[1]: the vocabulary has no token \"ba\"" },
	{ MERGES("\"a x\""), "model.merges[0]: the vocabulary has no token \"x\"" },
	{ MERGES("\"ab\""), "model.merges[0], \"ab\", is not two texts" },
	{ MERGES("\"a b c\""), "is not two texts" },
	{ MERGES("[\"a\",1]"), "not a pair of texts" },
	{ MERGES("7"), "not a text or a pair" },
	{ ADDED("\"id\":9"), "without the text \"content\"" },
	{ ADDED("\"id\":0,\"content\":\"<x>\""), "id 0 is another one's" },
	{ ADDED("\"id\":9,\"content\":\"ab\""), "id 9 is another one's" },
	{ ADDED("\"id\":9,\"content\":\"\""), "texts are of 1 to 256 bytes" },
	{ ADDED("\"id\":99999999,\"content\":\"<x>\""), "ids are 0 to" },
	{ SPLIT("("), "the pattern is wrong at byte" },
	{ SPLIT(""), "the pattern is empty" },
	{ SPLIT("\\\\w+"), "the pattern uses \\w, which is not supported" },
	{ SPLIT("a\\\\b"), "\\b" },
	{ SPLIT("[a-z&&[b]]"), "&&" },
	{ SPLIT("[a[b]]"), "a set within a set" },
	{ SPLIT("(?R)"), "(?R)" },
	{ SPLIT("(*ACCEPT)"), "(*" },
	{ SPLIT("a{2}+"), "}+" },
	{ SPLIT("a\\\\"), "ends in a backslash" },
	{ SPLIT("\\\\p{Nonsense}"), "the pattern is wrong" },
	{ "{" MODEL ",\"normalizer\":{\"type\":\"NFKD\"}}", "a normalizer of type NFKD is not supported; there are: NFC" },
	{ "{" MODEL ",\"normalizer\":{\"type\":\"Sequence\"}}", "without the list \"normalizers\"" },
	{ "{" MODEL ",\"normalizer\":{\"type\":\"Prepend\"}}", "without the text \"prepend\"" },
	{ "{" MODEL ",\"normalizer\":{\"type\":\"Replace\",\"content\":\"x\"}}", "without a pattern" },
	{ "{" MODEL ",\"pre_tokenizer\":{\"type\":\"BertPreTokenizer\"}}", "type BertPreTokenizer is not supported" },
	{ "{" MODEL ",\"pre_tokenizer\":{\"type\":\"ByteLevel\"}}", "without a token for byte 0x00" },
	{ "{" MODEL ",\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"String\":\"a\"},\"behavior\":\"Odd\"}}", "behavior \"Odd\"" },
	{ "{" MODEL ",\"pre_tokenizer\":{\"type\":\"Metaspace\",\"replacement\":\"_\",\"prepend_scheme\":\"odd\"}}", "prepend_scheme" },
	{ "{" MODEL ",\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"ByteLevel\"},{\"type\":\"Digits\"}]}}",
	  "behind ByteLevel" },
	{ "{" MODEL ",\"decoder\":{\"type\":\"WordPiece\"}}", "a decoder of type WordPiece" },
	{ "{" MODEL ",\"decoder\":{\"type\":\"Strip\",\"content\":\"x\"}}", "Strip of other than one space" },
	{ "{" MODEL ",\"post_processor\":{\"type\":\"BertProcessing\"}}", "a post_processor of type BertProcessing" },
	{ TEMPLATE(OPENS "," OPENS ",{\"Sequence\":{}}"), "more than one special token on one side" },
	{ TEMPLATE(OPENS), "a template of 0 sequences" },
	{ TEMPLATE("{\"SpecialToken\":{\"id\":\"x\"}},{\"Sequence\":{}}"), "\"x\" without one id of the vocabulary" },
};

static void hostile_files_are_refused(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof refusals / sizeof *refusals; i++) {
		struct pf_tokenizer_state *made;

		error = (struct pf_error){ 0 };
		if (!pf_tokenizer_parse(refusals[i].json, strlen(refusals[i].json), &made, &error))
			fail_msg("taken: %s", refusals[i].json);
		assert_null(made);
		assert_int_not_equal(error.code, 0);
		if (!strstr(error.text, refusals[i].words))
			fail_msg("%s\nsays \"%s\", not \"%s\"", refusals[i].json, error.text, refusals[i].words);
		assert_int_equal(pf_tokenizer_parse(refusals[i].json, strlen(refusals[i].json), &made, NULL),
		                 error.code);
	}
}

static struct pf_tokenizer_state *parse(const char *json)
{
	struct pf_tokenizer_state *made;

	error = (struct pf_error){ 0 };
	if (pf_tokenizer_parse(json, strlen(json), &made, &error))
		fail_msg("%s", error.text);
	return made;
}

static void expect_ids(const struct pf_tokenizer *tokenizer, const char *text, int continues, const int32_t *ids,
                       size_t count)
{
	struct pf_tokens tokens = { 0 };

	assert_int_equal(pf_tokenizer_encode(tokenizer, text, strlen(text), continues, &tokens), 0);
	assert_int_equal(tokens.count, count);
	for (size_t i = 0; i < count; i++)
		assert_int_equal(tokens.id[i], ids[i]);
	pf_tokens_free(&tokens);
}

/* (a+)+$ needs 2^n steps: the limit ends it, and the list of tokens is as it was */
static void patterns_that_never_end_are_errors(void **state)
{
	struct pf_tokenizer_state *made = parse(SPLIT("(a+)+$"));
	struct pf_tokens tokens = { 0 };
	char text[64];

	(void)state;
	memset(text, 'a', sizeof text);
	text[sizeof text - 1] = 'b';
	assert_int_equal(pf_tokens_push(&tokens, 7), 0);
	assert_int_equal(pf_tokenizer_encode(&made->face, text, sizeof text, 0, &tokens), PF_E_DATA);
	assert_int_equal(tokens.count, 1);
	pf_tokens_free(&tokens);
	pf_tokenizer_state_free(made);
}

static void gaps_and_merges_again_are_no_harm(void **state)
{
	struct pf_tokenizer_state *made = parse("{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":2,\"aa\":7,\"aaa\":5},"
	                                        "\"merges\":[\"a aa\",\"a a\",\"aa a\",\"a aa\"]}}");
	size_t length;

	(void)state;
	assert_int_equal(made->face.vocab, 8);
	/* "a aa" has the rank of its second place: after "aa a" */
	expect_ids(&made->face, "aaa", 0, (int32_t[]){ 5 }, 1);
	expect_ids(&made->face, "aaaaa", 0, (int32_t[]){ 7, 5 }, 2);
	expect_ids(&made->face, "abxa", 0, (int32_t[]){ 7 }, 1);
	assert_string_equal(pf_tokenizer_piece(&made->face, 3, &length), "");
	assert_int_equal(length, 0);
	pf_tokenizer_state_free(made);
}

static void expect_text(const struct pf_tokenizer *made, const int32_t *ids, size_t count, int specials,
                        const char *expected)
{
	char *text;
	size_t length;

	assert_int_equal(pf_tokenizer_decode(made, ids, count, specials, 1, &text, &length), 0);
	assert_string_equal(text, expected);
	free(text);
}

/* Gemma has runs of its mark for spaces among the added tokens, and the vocabulary too, where merges make them of
 * spaces */
static void added_tokens_are_shown_as_the_decoder_shows_them(void **state)
{
	struct pf_tokenizer_state *made =
		parse("{\"normalizer\":{\"type\":\"Replace\",\"pattern\":{\"String\":\" "
	              "\"},\"content\":\"_\"},\"decoder\":{\"type\":\"Replace\","
	              "\"pattern\":{\"String\":\"\xe2\x96\x81\"},\"content\":\" "
	              "\"},\"model\":{\"type\":\"BPE\",\"vocab\":{\"_\":0,\"a\":1,"
	              "\"\xe2\x96\x81\":2,\"\xe2\x96\x81\xe2\x96\x81\":3,\"<s>\":4},\"merges\":[]},\"added_tokens\":["
	              "{\"id\":3,\"content\":\"\xe2\x96\x81\xe2\x96\x81\",\"special\":false},{\"id\":4,\"content\":\"<"
	              "s>\",\"special\":true},"
	              "{\"id\":5,\"content\":\"\xe2\x96\x81x\",\"special\":false}]}");

	(void)state;
	expect_text(&made->face, (int32_t[]){ 1, 3, 4, 5, 2 }, 5, 1, "a  <s> x ");
	expect_text(&made->face, (int32_t[]){ 1, 3, 4, 5, 2 }, 5, 0, "a   x ");
	pf_tokenizer_state_free(made);
}

/* ---- the files beside it ---- */

static const struct pf_tokenizer *tokenizer;

static void write_folder(const char *config, const char *map, const char *generation, const char *jinja)
{
	const char *const names[] = { "tokenizer_config.json", "special_tokens_map.json", "generation_config.json",
		"chat_template.jinja" }, *const texts[] = { config, map, generation, jinja };

	scratch_open("tokenizer_files");
	scratch_text("tokenizer.json",
	             "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":1},\"merges\":[]},\"added_tokens\":["
	             "{\"id\":2,\"content\":\"<s>\",\"special\":true},{\"id\":3,\"content\":\"</s>\",\"special\":true},"
	             "{\"id\":4,\"content\":\"<|im_start|>\",\"special\":true},{\"id\":5,\"content\":\"<|im_end|>\","
	             "\"special\":true}],"
	             "\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[" OPENS
	             ",{\"Sequence\":{\"id\":\"A\"}}],"
	             "\"special_tokens\":{\"<s>\":{\"ids\":[2]}}}}");
	for (int i = 0; i < 4; i++)
		if (texts[i])
			scratch_text(names[i], texts[i]);
}

static int open_written(const char *config, const char *map, const char *generation, const char *jinja)
{
	pf_tokenizer_close(tokenizer);
	write_folder(config, map, generation, jinja);
	error = (struct pf_error){ 0 };
	return pf_tokenizer_open(scratch_path("."), &tokenizer, &error);
}

static void expect_specials(int32_t bos, int32_t eos, int32_t pad, unsigned stops, enum pf_chat chat)
{
	assert_int_equal(tokenizer->vocab, 6);
	assert_int_equal(tokenizer->bos, bos);
	assert_int_equal(tokenizer->eos, eos);
	assert_int_equal(tokenizer->pad, pad);
	assert_int_equal(tokenizer->stops, stops);
	assert_int_equal(tokenizer->chat, chat);
}

static void begin_end_and_stops(void **state)
{
	(void)state;
	/* tokenizer.json alone: its template opens, nothing closes; the special tokens are ChatML's */
	assert_int_equal(open_written(NULL, NULL, NULL, NULL), 0);
	expect_specials(2, -1, -1, 1, PF_CHAT_CHATML);
	assert_true(pf_tokenizer_stops(tokenizer, 5));
	assert_int_equal(open_written("{\"eos_token\":\"</s>\",\"add_bos_token\":false}", NULL, NULL, NULL), 0);
	expect_specials(-1, 3, -1, 2, PF_CHAT_CHATML);
	assert_true(pf_tokenizer_stops(tokenizer, 3));
	/* a name of the map counts where the configuration has none */
	assert_int_equal(
		open_written("{\"eos_token\":null,\"add_bos_token\":true,\"bos_token\":{\"content\":\"</s>\"}}",
	                     "{\"eos_token\":{\"content\":\"<s>\"},\"pad_token\":\"<|im_end|>\"}", NULL, NULL),
		0);
	expect_specials(3, 2, 5, 2, PF_CHAT_CHATML);
	assert_int_equal(open_written(NULL, NULL, "{\"eos_token_id\":[3,5,2,99,-1,\"x\"]}", NULL), 0);
	expect_specials(2, 3, -1, 3, PF_CHAT_CHATML);
	assert_int_equal(open_written(NULL, NULL, "{\"eos_token_id\":1}", NULL), 0);
	expect_specials(2, 1, -1, 2, PF_CHAT_CHATML);
}

static void templates_are_recognised(void **state)
{
	(void)state;
	assert_int_equal(open_written("{\"chat_template\":\"{{'[INST]'}}\",\"eos_token\":\"</s>\"}", NULL, NULL, NULL),
	                 0);
	expect_specials(2, 3, -1, 1, PF_CHAT_MISTRAL);
	assert_int_equal(open_written("{\"chat_template\":[{\"name\":\"tool_use\",\"template\":\"[INST]\"},"
	                              "{\"name\":\"default\",\"template\":\"<|im_start|>\"}]}", NULL, NULL, NULL), 0);
	expect_specials(2, -1, -1, 1, PF_CHAT_CHATML);
	/* a file beside it wins; a template that is not known is none, whatever the special tokens are */
	assert_int_equal(open_written("{\"chat_template\":\"<|im_start|>\"}", NULL, NULL, "[INST]"), 0);
	expect_specials(2, -1, -1, 1, PF_CHAT_MISTRAL);
	assert_int_equal(open_written("{\"chat_template\":\"### Human: {{m}}\"}", NULL, NULL, NULL), 0);
	expect_specials(2, -1, -1, 0, PF_CHAT_UNKNOWN);
}

static void broken_files_beside_it_are_named(void **state)
{
	(void)state;
	assert_int_equal(open_written("{", NULL, NULL, NULL), PF_E_FORMAT);
	assert_non_null(strstr(error.text, "tokenizer_config.json: line 1"));
	assert_int_equal(open_written(NULL, "[]", NULL, NULL), PF_E_FORMAT);
	assert_non_null(strstr(error.text, "special_tokens_map.json: not a JSON object"));
	assert_null(tokenizer);
	assert_int_equal(open_written(NULL, NULL, NULL, NULL), 0);
	scratch_text("tokenizer.json", "{}");
	assert_int_equal(pf_tokenizer_open(scratch_path("."), &(const struct pf_tokenizer *){ 0 }, &error),
	                 PF_E_FORMAT);
	assert_non_null(strstr(error.text, "tokenizer.json: field \"model\" is missing"));
	mkdir(scratch_path("none"), 0777);
	assert_int_equal(pf_tokenizer_open(scratch_path("none"), &(const struct pf_tokenizer *){ 0 }, &error),
	                 PF_E_ABSENT);
	assert_non_null(strstr(error.text, "A tokenizer is \"bytes\", or a folder"));
}

static void models_without_a_file_have_bytes(void **state)
{
	const struct pf_tokenizer *bytes;

	(void)state;
	assert_int_equal(open_written(NULL, NULL, NULL, NULL), 0);
	mkdir(scratch_path("none"), 0777);
	assert_int_equal(pf_tokenizer_open_model(scratch_path("none"), &bytes, &error), 0);
	assert_string_equal(bytes->name, "bytes");
	pf_tokenizer_close(bytes);
	assert_int_equal(pf_tokenizer_open_model(scratch_path("."), &bytes, &error), 0);
	assert_int_equal(bytes->vocab, 6);
	pf_tokenizer_close(bytes);
}

static void saving_copies_what_is_there(void **state)
{
	const struct pf_tokenizer *copy;

	(void)state;
	assert_int_equal(open_written("{\"eos_token\":\"</s>\"}", NULL, NULL, "<|im_start|>"), 0);
	mkdir(scratch_path("saved"), 0777);
	assert_int_equal(pf_tokenizer_save(tokenizer, scratch_path("saved"), &error), 0);
	assert_int_equal(scratch_count("saved"), 3);
	assert_int_equal(pf_tokenizer_save(tokenizer, scratch_path("."), &error), 0);         /* onto itself */
	assert_int_equal(pf_tokenizer_open(scratch_path("saved"), &copy, &error), 0);
	assert_int_equal(copy->eos, 3);
	pf_tokenizer_close(copy);
	assert_true(pf_tokenizer_save(tokenizer, scratch_path("missing"), &error) < 0);
	assert_int_equal(pf_tokenizer_open("bytes", &copy, &error), 0);
	assert_int_equal(pf_tokenizer_save(copy, scratch_path("missing"), &error), 0);        /* nothing to copy */
}

static int close_tokenizer(void **state)
{
	(void)state;
	pf_tokenizer_close(tokenizer);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(hostile_files_are_refused),
		cmocka_unit_test(patterns_that_never_end_are_errors),
		cmocka_unit_test(gaps_and_merges_again_are_no_harm),
		cmocka_unit_test(added_tokens_are_shown_as_the_decoder_shows_them),
		cmocka_unit_test(begin_end_and_stops),
		cmocka_unit_test(templates_are_recognised),
		cmocka_unit_test(broken_files_beside_it_are_named),
		cmocka_unit_test(models_without_a_file_have_bytes),
		cmocka_unit_test(saving_copies_what_is_there),
	};

	return cmocka_run_group_tests(tests, NULL, close_tokenizer);
}
