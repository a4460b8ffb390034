/* chat.h: conversations as the text that a chat model reads.
 *
 *	chatml    <|im_start|>role\n...<|im_end|>\n                                       Qwen, SmolLM, ...; any order of roles
 *	llama3    <|start_header_id|>role<|end_header_id|>\n\n...<|eot_id|>               Llama 3; any order of roles
 *	gemma     <start_of_turn>user\n...<end_of_turn>\n, the assistant is `model`       user and assistant in turn, no system
 *	mistral   [INST] ...[/INST] ...</s>                                                user and assistant in turn; a system
 *	                                                                                  message opens the first user message
 *	none      the contents one after another, without anything between them
 *
 * These are the plain forms of the families' own templates: nothing is added that is not in the messages (no default
 * system message, no date). Contents are trimmed where the families trim them: llama3 and gemma all, mistral the
 * assistant's. The text has no bos: the tokenizer's opens the sequence. Thread-safe. */
#ifndef PF_CORPUS_CHAT_H
#define PF_CORPUS_CHAT_H
#include "prefpga/error.h"
#include "text.h"

enum pf_chat {
	PF_CHAT_UNKNOWN,
	PF_CHAT_NONE,
	PF_CHAT_CHATML,
	PF_CHAT_LLAMA3,
	PF_CHAT_GEMMA,
	PF_CHAT_MISTRAL,
	PF_CHATS
};
enum pf_role { PF_ROLE_SYSTEM, PF_ROLE_USER, PF_ROLE_ASSISTANT, PF_ROLES };

struct pf_message { enum pf_role role; struct pf_text content; };

/* What message i's author writes: text[begin, end), its end-of-turn mark included. If that is the assistant,
 * text[0, begin) is what pf_chat_render makes of the messages before it with answer = 1: prompt and completion are
 * text[0, begin) and text[begin, end), and tokenizing them apart keeps the boundary out of every token */
struct pf_chat_span { size_t begin, end; };

struct pf_chat_text {
	char                *text;     /* [length], then a NUL */
	size_t               length;
	struct pf_chat_span *span;     /* [messages] */
};

const char *pf_chat_name(enum pf_chat chat);            /* "chatml"; UNKNOWN: "auto" */
int         pf_chat_find(const char *name);             /* enum pf_chat; -1: no such name */
const char *pf_role_name(enum pf_role role);            /* "assistant" */
int         pf_role_find(const char *name, size_t length);      /* enum pf_role; -1: no such role */
/* 1: an assistant's span ends with the mark that ends generation. 0 (none): the caller closes the sequence with eos */
int         pf_chat_ends_turns(enum pf_chat chat);

/* Renders messages[count], count >= 1. answer = 1: the text ends where the assistant is to go on ("generation prompt").
 * Errors (PF_E_DATA; they lack file and line): a role where the template has no place for it, UNKNOWN. *out is set on
 * success only and then freed with pf_chat_text_free */
int  pf_chat_render(enum pf_chat chat, const struct pf_message *messages, size_t count, int answer,
                    struct pf_chat_text *out, struct pf_error *error);
void pf_chat_text_free(struct pf_chat_text *text);
#endif
