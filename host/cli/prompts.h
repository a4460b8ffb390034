/* prompts.h: the prompts that verb generate continues. One thread. */
#ifndef PF_CLI_PROMPTS_H
#define PF_CLI_PROMPTS_H
#include <stddef.h>
#include "host/corpus/chat.h"
#include "prefpga/error.h"

struct pf_watch;

/* Prompt i is text[begin[i] .. begin[i + 1]). Starts as all zero, but for the last two */
struct pf_prompts {
	char        *text;
	size_t      *begin, count, room, bytes;
	enum pf_chat chat;             /* the template that makes prompts of lists of messages */
	int          asks;             /* 1: and of plain texts, each a message of the user */
};

void pf_prompts_free(struct pf_prompts *prompts);
int  pf_prompts_add(struct pf_prompts *prompts, const char *text, size_t length, struct pf_error *error);
/* A line of a file: an object with field "prompt" (a text or a list of messages) or "messages" if it begins with {,
 * else the prompt itself; an empty one is none. `where` is for messages. PF_E_FORMAT: no JSON; PF_E_DATA: no such
 * field, or messages that the template has no place for */
int  pf_prompts_line(struct pf_prompts *prompts, const char *line, size_t length, const char *where,
                     struct pf_error *error);
/* All lines of a file (reader.h says what cache and watch are) */
int  pf_prompts_read(struct pf_prompts *prompts, const char *path, const char *cache, const struct pf_watch *watch,
                     struct pf_error *error);
#endif
