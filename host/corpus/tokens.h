/* tokens.h: a growing list of token ids. */
#ifndef PF_CORPUS_TOKENS_H
#define PF_CORPUS_TOKENS_H
#include <stddef.h>
#include <stdint.h>

/* Zero-initialise; free with pf_tokens_free */
struct pf_tokens { int32_t *id; size_t count, room; };

/* Appends; 0 or -ENOMEM (the list stays as it was) */
int  pf_tokens_push(struct pf_tokens *tokens, int32_t id);
int  pf_tokens_reserve(struct pf_tokens *tokens, size_t more);
void pf_tokens_free(struct pf_tokens *tokens);
#endif
