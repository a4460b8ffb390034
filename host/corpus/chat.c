#include "chat.h"
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include "unicode.h"

/* One family: what stands before and behind a message of each role. NULL before: the template has no such role */
struct style {
	const char *name;
	const char *before[PF_ROLES], *after[PF_ROLES];
	int         trims[PF_ROLES];
	int         alternates;        /* user first, then assistant and user in turn */
	int         folds_system;      /* the system message is the beginning of the first user message */
};

static const struct style styles[PF_CHATS] = {
	[PF_CHAT_UNKNOWN] = { .name = "auto" },
	[PF_CHAT_NONE] = { "none", { "", "", "" }, { "", "", "" }, { 0 }, 0, 0 },
	[PF_CHAT_CHATML] = { "chatml", { "<|im_start|>system\n", "<|im_start|>user\n", "<|im_start|>assistant\n" },
	                     { "<|im_end|>\n", "<|im_end|>\n", "<|im_end|>\n" }, { 0 }, 0, 0 },
	[PF_CHAT_LLAMA3] = { "llama3", { "<|start_header_id|>system<|end_header_id|>\n\n",
	                                 "<|start_header_id|>user<|end_header_id|>\n\n",
	                                 "<|start_header_id|>assistant<|end_header_id|>\n\n" },
	                     { "<|eot_id|>", "<|eot_id|>", "<|eot_id|>" }, { 1, 1, 1 }, 0, 0 },
	[PF_CHAT_GEMMA] = { "gemma", { NULL, "<start_of_turn>user\n", "<start_of_turn>model\n" },
	                    { NULL, "<end_of_turn>\n", "<end_of_turn>\n" }, { 0, 1, 1 }, 1, 0 },
	[PF_CHAT_MISTRAL] = { "mistral", { "[INST] ", "[INST] ", "" }, { "\n\n", "[/INST]", "</s>" }, { 0, 0, 1 }, 1, 1 },
};

static const char *const role_names[PF_ROLES] = { "system", "user", "assistant" };

const char *pf_chat_name(enum pf_chat chat)
{
	return styles[chat].name;
}

int pf_chat_find(const char *name)
{
	for (int i = 0; i < PF_CHATS; i++)
		if (strcmp(styles[i].name, name) == 0)
			return i;
	return -1;
}

const char *pf_role_name(enum pf_role role)
{
	return role_names[role];
}

int pf_role_find(const char *name, size_t length)
{
	for (int i = 0; i < PF_ROLES; i++)
		if (strlen(role_names[i]) == length && memcmp(role_names[i], name, length) == 0)
			return i;
	return -1;
}

int pf_chat_ends_turns(enum pf_chat chat)
{
	return styles[chat].after[PF_ROLE_ASSISTANT] && *styles[chat].after[PF_ROLE_ASSISTANT];
}

/* ---- white space as templates trim it ---- */

/* Bytes of the white space (Unicode's, and the separators FS to US, as Python strips) at `at`, 0 if there is none */
static size_t space_bytes(const char *at, size_t left)
{
	int32_t code;
	size_t bytes = pf_utf8_read(at, left, &code);

	return pf_is_space(code) || (code >= 0x1c && code <= 0x1f) ? bytes : 0;
}

static struct pf_text trim(struct pf_text text)
{
	size_t begin = 0, end, step;

	while (begin < text.length && (step = space_bytes(text.text + begin, text.length - begin)) != 0)
		begin += step;
	end = begin;
	for (size_t i = begin; i < text.length; i += step ? step : 1) {
		step = space_bytes(text.text + i, text.length - i);
		end = step ? end : i + 1;
	}
	return (struct pf_text){ text.text + begin, end - begin };
}

/* ---- roles ---- */

static int check_role(const struct style *style, const struct pf_message *messages, size_t i, struct pf_error *error)
{
	enum pf_role role = messages[i].role, before = i ? messages[i - 1].role : PF_ROLE_SYSTEM;

	if (!style->before[role])
		return pf_fail(error, PF_E_DATA,
		               "message %zu is of role %s, which chat template %s does not have; put its text into "
		               "the first user message",
		               i + 1, role_names[role], style->name);
	if (role == PF_ROLE_SYSTEM && i)
		return pf_fail(error, PF_E_DATA, "message %zu is of role system; only the first message can be", i + 1);
	if (style->alternates && role != PF_ROLE_SYSTEM &&
	    role != (before == PF_ROLE_USER ? PF_ROLE_ASSISTANT : PF_ROLE_USER))
		return pf_fail(error, PF_E_DATA,
		               "message %zu is of role %s; with chat template %s user and assistant speak in turn, "
		               "the user first",
		               i + 1, role_names[role], style->name);
	return 0;
}

static int check_roles(const struct style *style, const struct pf_message *messages, size_t count, int answer,
                       struct pf_error *error)
{
	if (!style->after[PF_ROLE_USER])
		return pf_fail(error, PF_E_DATA,
		               "the tokenizer has no chat template that is known here; give --chat-template");
	if (!count)
		return pf_fail(error, PF_E_DATA, "a conversation without messages");
	for (size_t i = 0; i < count; i++) {
		int status = check_role(style, messages, i, error);

		if (status)
			return status;
	}
	if (style->alternates && messages[count - 1].role == PF_ROLE_SYSTEM)
		return pf_fail(error, PF_E_DATA,
		               "a conversation of a system message alone; a user message must follow it");
	if (style->alternates && answer && messages[count - 1].role != PF_ROLE_USER)
		return pf_fail(error, PF_E_DATA,
		               "the last message before the answer is of role %s; with chat template %s it must "
		               "be the user's",
		               role_names[messages[count - 1].role], style->name);
	return 0;
}

/* ---- rendering ---- */

static void append(struct pf_chat_text *out, const char *text, size_t length)
{
	memcpy(out->text + out->length, text, length);
	out->length += length;
}

static void render_message(const struct style *style, const struct pf_message *messages, size_t i,
                           struct pf_chat_text *out)
{
	enum pf_role role = messages[i].role;
	struct pf_text content = style->trims[role] ? trim(messages[i].content) : messages[i].content;
	int folded = style->folds_system && i && messages[i - 1].role == PF_ROLE_SYSTEM;

	if (!folded)
		append(out, style->before[role], strlen(style->before[role]));
	out->span[i].begin = out->length;
	if (style->folds_system && role == PF_ROLE_ASSISTANT)
		append(out, " ", 1);
	append(out, content.text, content.length);
	append(out, style->after[role], strlen(style->after[role]));
	out->span[i].end = out->length;
}

int pf_chat_render(enum pf_chat chat, const struct pf_message *messages, size_t count, int answer,
                   struct pf_chat_text *out, struct pf_error *error)
{
	enum { MARKS = 128 };                  /* more than the longest marks around a message */
	const struct style *style = &styles[chat];
	struct pf_chat_text made = { 0 };
	size_t room = MARKS;
	int status = check_roles(style, messages, count, answer, error);

	if (status)
		return status;
	for (size_t i = 0; i < count; i++)
		room += messages[i].content.length + MARKS;
	made.text = malloc(room);
	made.span = calloc(count, sizeof *made.span);
	if (!made.text || !made.span) {
		pf_chat_text_free(&made);
		return pf_fail(error, -ENOMEM, "no memory for a conversation");
	}
	for (size_t i = 0; i < count; i++)
		render_message(style, messages, i, &made);
	if (answer)
		append(&made, style->before[PF_ROLE_ASSISTANT], strlen(style->before[PF_ROLE_ASSISTANT]));
	made.text[made.length] = 0;
	*out = made;
	return 0;
}

void pf_chat_text_free(struct pf_chat_text *text)
{
	free(text->text);
	free(text->span);
	*text = (struct pf_chat_text){ 0 };
}
