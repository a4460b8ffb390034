/* prompts.h: the prompts that verb generate continues. One thread. */
#ifndef PF_CLI_PROMPTS_H
#define PF_CLI_PROMPTS_H
#include <stddef.h>
#include "prefpga/error.h"

struct pf_watch;

/* Prompt i is text[begin[i] .. begin[i + 1]). Starts as all zero */
struct pf_prompts { char *text; size_t *begin, count, room, bytes; };

void pf_prompts_free(struct pf_prompts *prompts);
int  pf_prompts_add(struct pf_prompts *prompts, const char *text, size_t length, struct pf_error *error);
/* A line of a file: an object with field "prompt" if it begins with {, else the prompt itself; an empty one is none.
 * `where` is for messages. PF_E_FORMAT: no JSON; PF_E_DATA: no such text */
int  pf_prompts_line(struct pf_prompts *prompts, const char *line, size_t length, const char *where,
                     struct pf_error *error);
/* All lines of a file (reader.h says what cache and watch are) */
int  pf_prompts_read(struct pf_prompts *prompts, const char *path, const char *cache, const struct pf_watch *watch,
                     struct pf_error *error);
#endif
