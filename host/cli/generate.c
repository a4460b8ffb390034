/* Verb generate: completions of prompts. */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include "host/corpus/unpack.h"
#include "prompts.h"
#include "setup.h"
#include "shown.h"

enum { TOGETHER = 64 };                /* sequences continued at once */

static int is_stopped(void *context, uint64_t done, uint64_t total)
{
	(void)context, (void)done, (void)total;
	return *pf_setup_stop();
}

static int read_prompts(const struct pf_options *o, struct pf_prompts *p, struct pf_error *error)
{
	const struct pf_watch watch = { .progress = is_stopped };
	int code = 0;
	for (int i = 0; !code && i < o->arguments; i++)
		code = pf_prompts_add(p, o->argument[i], strlen(o->argument[i]), error);
	return code || !o->prompts ? code : pf_prompts_read(p, o->prompts, o->cache, &watch, error);
}

/* ---- sampling ---- */

struct batch {
	const struct pf_tokenizer *tokenizer;
	struct pf_typing *typing;      /* shows the only sequence while it is made; NULL: none is shown */
	struct pf_tokens ids, made[TOGETHER];
	uint32_t offset[TOGETHER + 1];
};

static int take_token(void *context, uint32_t sequence, int32_t token)
{
	struct batch *b = context;
	if (*pf_setup_stop())
		return PF_E_INTERRUPTED;
	if (pf_tokenizer_stops(b->tokenizer, token))
		return 1;
	const int code = b->typing ? pf_typing_take(b->typing, b->tokenizer, token) : 0;
	return code ? code : pf_tokens_push(&b->made[sequence], token);
}

static void print_one(const struct pf_options *o, const struct pf_prompts *p, size_t prompt, size_t sample,
                      json_t *text)
{
	const char *begin = p->text + p->begin[prompt];
	const size_t length = p->begin[prompt + 1] - p->begin[prompt];
	if (strcmp(o->format, "json") == 0) {
		json_t *json = json_pack("{s:o, s:I, s:O}", "prompt", json_stringn_nocheck(begin, length), "sample",
		                         (json_int_t)sample, "completion", text);
		json_dumpf(json, stdout, JSON_COMPACT);
		putchar('\n');
		json_decref(json);
	} else {
		printf("%.*s%s\n", (int)length, begin, text ? json_string_value(text) : "");
	}
}

static void show_prompt(const struct pf_prompts *p, size_t prompt)
{
	printf("%.*s", (int)(p->begin[prompt + 1] - p->begin[prompt]), p->text + p->begin[prompt]);
	fflush(stdout);
}

/* Sequence number n is sample n % samples of prompt n / samples; each batch has a seed of its own */
static int run_batch(const struct pf_setup *s, const struct pf_options *o, const struct pf_prompts *p, size_t first,
                     size_t count, struct batch *b, struct pf_error *error)
{
	const struct pf_sampling sampling = { o->temperature,
		                              o->top_p,
		                              (uint64_t)o->seed + first,
		                              (uint32_t)o->max_new_tokens,
		                              s->tokenizer->eos,
		                              (unsigned)o->threads };
	int code = 0;
	b->ids.count = 0;
	for (size_t i = 0; !code && i < count; i++) {
		const size_t prompt = (first + i) / (size_t)o->samples;
		b->offset[i] = (uint32_t)b->ids.count;
		b->made[i].count = 0;
		code = s->tokenizer->bos >= 0 ? pf_tokens_push(&b->ids, s->tokenizer->bos) : 0;
		if (!code)
			code = pf_tokenizer_encode(s->tokenizer, p->text + p->begin[prompt],
			                           p->begin[prompt + 1] - p->begin[prompt], 0, &b->ids);
	}
	b->offset[count] = (uint32_t)b->ids.count;
	if (code)
		return pf_fail(error, code,
		               code == PF_E_DATA ? "a prompt for which a pattern of tokenizer.json needs too many steps"
		                                 : "no memory for prompts");
	if (b->typing)
		show_prompt(p, first);
	code = pf_generate(s->model, &sampling, b->ids.id, b->offset, (uint32_t)count, take_token, b, error);
	for (size_t i = 0; !code && !b->typing && i < count; i++) {
		json_t *text = pf_shown_ids(s->tokenizer, b->made[i].id, b->made[i].count, 0, 1);
		print_one(o, p, (first + i) / (size_t)o->samples, (first + i) % (size_t)o->samples, text);
		json_decref(text);
	}
	return code;
}

static int generate(const struct pf_setup *s, const struct pf_options *o, const struct pf_prompts *p,
                    struct pf_error *error)
{
	const size_t total = p->count * (size_t)o->samples;
	struct pf_typing typing = { 0 };
	struct batch b = { .tokenizer = s->tokenizer,
	                   .typing = total == 1 && strcmp(o->format, "text") == 0 ? &typing : NULL };
	int code = 0;
	for (size_t first = 0; !code && first < total; first += TOGETHER)
		code = run_batch(s, o, p, first, total - first < TOGETHER ? total - first : TOGETHER, &b, error);
	if (b.typing) {
		pf_typing_end(&typing);
		putchar('\n');
	}
	pf_tokens_free(&b.ids);
	for (size_t i = 0; i < TOGETHER; i++)
		pf_tokens_free(&b.made[i]);
	return code;
}

int pf_verb_generate(const struct pf_options *o)
{
	struct pf_setup setup = { 0 };
	struct pf_error error = { 0 };
	struct pf_prompts prompts = { .asks = strcmp(o->chat_template, "auto") != 0 };
	int code = pf_setup_tokenizer(&setup, o, &error);
	prompts.chat = prompts.asks ? (enum pf_chat)pf_chat_find(o->chat_template)
	               : code       ? PF_CHAT_UNKNOWN
	                            : setup.tokenizer->chat;
	if (!code)
		code = read_prompts(o, &prompts, &error);
	if (!code && !prompts.count) {
		pf_setup_close(&setup);
		return pf_cli_usage(o, "no prompt: give one as argument, or --prompts FILE");
	}
	if (!code)
		code = pf_setup_devices(&setup, o, &error); /* only to refuse what does not exist: see --device */
	if (!code)
		code = pf_setup_model(&setup, o, 0, &error);
	if (!code)
		code = generate(&setup, o, &prompts, &error);
	pf_prompts_free(&prompts);
	pf_setup_close(&setup);
	return code ? pf_setup_exit(o, &error) : PF_EXIT_OK;
}
