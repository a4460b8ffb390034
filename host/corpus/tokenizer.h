/* tokenizer.h: text to token ids and back.
 *
 * Built in: "bytes", one token per byte (ids 0 to 255) and three specials. Every text is representable, any cut between
 * tokens of prompt and completion is exact, and there is nothing to download. Thread-safe once opened. */
#ifndef PF_CORPUS_TOKENIZER_H
#define PF_CORPUS_TOKENIZER_H
#include <stddef.h>
#include <stdint.h>
#include "prefpga/error.h"

enum { PF_BYTES_BOS = 256, PF_BYTES_EOS = 257, PF_BYTES_PAD = 258, PF_BYTES_VOCAB = 259 };

/* A growing list of ids. Zero-initialise; free with pf_tokens_free */
struct pf_tokens { int32_t *id; size_t count, room; };

/* Appends; 0 or -ENOMEM (the list stays as it was) */
int  pf_tokens_push(struct pf_tokens *tokens, int32_t id);
int  pf_tokens_reserve(struct pf_tokens *tokens, size_t more);
void pf_tokens_free(struct pf_tokens *tokens);

struct pf_tokenizer {
	const char *name;
	int32_t     vocab, bos, eos, pad;      /* bos opens and eos closes every sequence */
};

/* `name`: "bytes". The result is constant, lives for ever and is not freed */
int pf_tokenizer_open(const char *name, const struct pf_tokenizer **tokenizer, struct pf_error *error);
/* Appends the ids of text[length], without bos and eos. 0 or -ENOMEM */
int pf_tokenizer_encode(const struct pf_tokenizer *tokenizer, const char *text, size_t length,
                        struct pf_tokens *tokens);
/* The bytes of one token; *length is 0 for specials and for ids beyond the vocabulary. A character of several bytes may
 * be spread over several tokens. Static storage */
const char *pf_tokenizer_piece(const struct pf_tokenizer *tokenizer, int32_t id, size_t *length);
#endif
