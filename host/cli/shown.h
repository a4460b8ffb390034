/* shown.h: texts of tokens for people and as JSON. What is not UTF-8 is shown as U+FFFD, for models can end within a
 * character. */
#ifndef PF_CLI_SHOWN_H
#define PF_CLI_SHOWN_H
#include <jansson.h>
#include "host/corpus/buffer.h"
#include "host/corpus/tokenizer.h"

/* A JSON string; NULL without memory */
json_t *pf_shown(const char *text, size_t length);
/* That of ids[count]; specials and continues as in pf_tokenizer_decode */
json_t *pf_shown_ids(const struct pf_tokenizer *tokenizer, const int32_t *ids, size_t count, int specials,
                     int continues);

/* Prints a text that arrives token by token: a character appears when all its tokens are there. Zero-initialise */
struct pf_typing { struct pf_buffer waiting; };
int pf_typing_take(struct pf_typing *typing, const struct pf_tokenizer *tokenizer, int32_t id); /* 0 or -ENOMEM */
/* Prints what still waits, and frees */
void pf_typing_end(struct pf_typing *typing);
#endif
