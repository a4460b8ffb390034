/* Verb tokenize: ids and pieces of texts and of records, and the text of ids. */
#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include "prefpga/internal/abi.h"
#include "setup.h"
#include "shown.h"

/* ---- what is printed ---- */

static json_t *ids_json(const int32_t *ids, size_t count)
{
	json_t *list = json_array();
	for (size_t i = 0; i < count; i++)
		json_array_append_new(list, json_integer(ids[i]));
	return list;
}

static json_t *pieces_json(const struct pf_tokenizer *tokenizer, const int32_t *ids, size_t count)
{
	json_t *list = json_array();
	for (size_t i = 0; i < count; i++)
		json_array_append_new(list, pf_shown_ids(tokenizer, ids + i, 1, 1, 1));
	return list;
}

static void print_line(json_t *json)
{
	json_dumpf(json, stdout, JSON_COMPACT | JSON_ENCODE_ANY);
	putchar('\n');
	json_decref(json);
}

static void print_tokens(const struct pf_tokenizer *tokenizer, const int32_t *ids, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		printf("%8d ", (int)ids[i]);
		print_line(pf_shown_ids(tokenizer, ids + i, 1, 1, 1));
	}
}

/* ---- texts and ids ---- */

static int print_text(const struct pf_setup *s, const struct pf_options *o, const char *text, struct pf_error *error)
{
	struct pf_tokens tokens = { 0 };
	int code = pf_tokenizer_encode(s->tokenizer, text, strlen(text), 0, &tokens);
	if (code)
		code = pf_fail(error, code, "the text has no tokens: %s", code == PF_E_DATA
		               ? "a pattern of tokenizer.json needs too many steps for it" : pf_error_text(code));
	else if (strcmp(o->format, "json") == 0)
		print_line(json_pack("{s:o, s:o, s:o}", "text", pf_shown(text, strlen(text)), "ids",
		                     ids_json(tokens.id, tokens.count), "pieces",
		                     pieces_json(s->tokenizer, tokens.id, tokens.count)));
	else
		print_tokens(s->tokenizer, tokens.id, tokens.count);
	pf_tokens_free(&tokens);
	return code;
}

/* Ids with blanks, commas or brackets between them, as other programs print them */
static int read_ids(const char *text, struct pf_tokens *tokens, struct pf_error *error)
{
	static const char between[] = " \t\r\n,[]";
	for (text += strspn(text, between); *text; text += strspn(text, between)) {
		char *end;
		errno = 0;
		const long id = strtol(text, &end, 10);
		if (end == text || (*end && !strchr(between, *end)) || errno || id < 0 || id > INT32_MAX)
			return pf_fail(error, PF_E_ARGUMENT, "--decode: \"%.60s\" is not an id; ids are whole numbers",
			               text);
		if (pf_tokens_push(tokens, (int32_t)id))
			return pf_fail(error, -ENOMEM, "no memory for ids");
		text = end;
	}
	return 0;
}

static int check_ids(const struct pf_setup *s, const struct pf_tokens *tokens, struct pf_error *error)
{
	for (size_t i = 0; i < tokens->count; i++)
		if (tokens->id[i] >= s->tokenizer->vocab)
			return pf_fail(error, PF_E_RANGE, "--decode: id %d; the tokenizer's are 0 to %d",
			               (int)tokens->id[i], (int)s->tokenizer->vocab - 1);
	return 0;
}

static int print_decoded(const struct pf_setup *s, const struct pf_options *o, const char *text, struct pf_error *error)
{
	struct pf_tokens tokens = { 0 };
	char *decoded = NULL;
	size_t length;
	int code = read_ids(text, &tokens, error);
	if (!code)
		code = check_ids(s, &tokens, error);
	if (!code && pf_tokenizer_decode(s->tokenizer, tokens.id, tokens.count, 1, 0, &decoded, &length))
		code = pf_fail(error, -ENOMEM, "no memory for a text");
	if (!code && strcmp(o->format, "json") == 0)
		print_line(json_pack("{s:o, s:o}", "ids", ids_json(tokens.id, tokens.count), "text",
		                     pf_shown(decoded, length)));
	else if (!code)
		printf("%.*s\n", (int)length, decoded);
	free(decoded);
	pf_tokens_free(&tokens);
	return code;
}

static int print_lines(const struct pf_setup *s, const struct pf_options *o, struct pf_error *error)
{
	char *line = NULL;
	size_t room = 0;
	ssize_t length;
	int code = 0;
	while (!code && !*pf_setup_stop() && (length = getline(&line, &room, stdin)) >= 0) {
		line[strcspn(line, "\n")] = 0;
		code = (o->decode ? print_decoded : print_text)(s, o, line, error);
	}
	free(line);
	return code;
}

static int print_arguments(const struct pf_setup *s, const struct pf_options *o, struct pf_error *error)
{
	int code = 0;
	for (int i = 0; !code && i < o->arguments; i++)
		code = (o->decode ? print_decoded : print_text)(s, o, o->argument[i], error);
	return code;
}

/* ---- records, as training sees them ---- */

static void print_sequence(const struct pf_setup *s, const struct pf_options *o, uint64_t sample,
                           const struct pf_pack *pack, size_t i)
{
	const struct pf_member *member = &pack->member[i];
	const int32_t *ids = pack->ids.id + pack->offsets[i];
	const size_t count = pack->offsets[i + 1] - pack->offsets[i];
	const char *kind = member->kind == PF_ITEM_CHOSEN ? "chosen" : "rejected";
	if (strcmp(o->format, "json") == 0) {
		print_line(json_pack("{s:I, s:I, s:s, s:I, s:I, s:o, s:o}", "sample", (json_int_t)sample, "member",
		                     (json_int_t)member->member, "kind", kind, "prompt_tokens",
		                     (json_int_t)member->prompt, "cut", (json_int_t)member->truncated, "ids",
		                     ids_json(ids, count), "pieces", pieces_json(s->tokenizer, ids, count)));
		return;
	}
	printf("sample %llu, completion %u (%s): %zu tokens, %u of them prompt, %u more cut off\n",
	       (unsigned long long)sample, member->member, kind, count, member->prompt, member->truncated);
	print_tokens(s->tokenizer, ids, count);
}

static int print_records(struct pf_setup *s, const struct pf_options *o, struct pf_error *error)
{
	struct pf_pack pack = { 0 };
	s->max_length = (uint32_t)o->max_length;
	const struct pf_corpus_options options = pf_setup_reading(s, o, PF_RECORD_AUTO);
	int code = pf_corpus_open(o->data, s->tokenizer, &options, &s->corpus, error);
	for (uint64_t i = 0; !code && i < pf_corpus_count(s->corpus, PF_SPLIT_TRAIN); i++) {
		if (*pf_setup_stop())
			code = pf_fail(error, PF_E_INTERRUPTED, "interrupted");
		pf_pack_clear(&pack);
		code = code ? code : pf_corpus_pack(s->corpus, PF_SPLIT_TRAIN, i, &pack, error);
		for (size_t q = 0; !code && q < pack.sequences; q++)
			print_sequence(s, o, i, &pack, q);
	}
	pf_pack_free(&pack);
	return code;
}

/* ---- the verb ---- */

static void describe(const struct pf_setup *s, const struct pf_options *o)
{
	const struct pf_tokenizer *t = s->tokenizer;
	char stops[16 * PF_STOPS_MAX] = "";
	for (unsigned i = 0; i < t->stops; i++)
		snprintf(stops + strlen(stops), sizeof stops - strlen(stops), " %d", (int)t->stop[i]);
	pf_cli_note(
		o,
		"%s: %d ids; opens sequences with %d, closes them with %d (-1: nothing); stops at%s; chat template %s",
		t->name, (int)t->vocab, (int)t->bos, (int)t->eos, *stops ? stops : " nothing",
		t->chat == PF_CHAT_UNKNOWN ? "not known" : pf_chat_name(t->chat));
}

int pf_verb_tokenize(const struct pf_options *o)
{
	struct pf_setup setup = { 0 };
	struct pf_error error = { 0 };
	if (o->data && (o->arguments || o->decode))
		return pf_cli_usage(o, "--data tokenizes records; leave out %s", o->decode ? "--decode" : "the texts");
	int code = pf_setup_tokenizer_alone(&setup, o, &error);
	if (!code) {
		describe(&setup, o);
		code = o->data ? print_records(&setup, o, &error)
		       : o->arguments ? print_arguments(&setup, o, &error) : print_lines(&setup, o, &error);
	}
	pf_setup_close(&setup);
	return code ? pf_setup_exit(o, &error) : PF_EXIT_OK;
}
