/* tokenizer.h: text to token ids and back.
 *
 * Built in: "bytes", one token per byte (ids 0 to 255) and three specials. Every text is representable, any cut between
 * tokens of prompt and completion is exact, and there is nothing to download. Thread-safe once opened. */
#ifndef PF_CORPUS_TOKENIZER_H
#define PF_CORPUS_TOKENIZER_H
#include <stddef.h>
#include <stdint.h>
#include "chat.h"
#include "prefpga/error.h"

enum { PF_BYTES_BOS = 256, PF_BYTES_EOS = 257, PF_BYTES_PAD = 258, PF_BYTES_VOCAB = 259 };

/* A growing list of ids. Zero-initialise; free with pf_tokens_free */
struct pf_tokens { int32_t *id; size_t count, room; };

/* Appends; 0 or -ENOMEM (the list stays as it was) */
int  pf_tokens_push(struct pf_tokens *tokens, int32_t id);
int  pf_tokens_reserve(struct pf_tokens *tokens, size_t more);
void pf_tokens_free(struct pf_tokens *tokens);

#define PF_STOPS_MAX 16u

struct pf_tokenizer {
	const char  *name;
	int32_t      vocab;                    /* every id is below it; a model's vocabulary may be larger */
	int32_t      bos, eos, pad;            /* bos opens and eos closes every sequence; -1: there is none */
	int32_t      stop[PF_STOPS_MAX];       /* each ends generation; eos is among them */
	unsigned     stops;
	enum pf_chat chat;                     /* the template its special tokens are for; UNKNOWN: none is known */
};

/* `name`: "bytes". Close the result */
int  pf_tokenizer_open(const char *name, const struct pf_tokenizer **tokenizer, struct pf_error *error);
void pf_tokenizer_close(const struct pf_tokenizer *tokenizer);          /* NULL is allowed */

/* Appends the ids of text[length], without bos and eos. Texts of special tokens ("<|im_end|>") become these tokens.
 * `continues`: the text goes on from one before it, so nothing is put in front of it; else it begins a sequence, before
 * which some tokenizers put a space. 0, -ENOMEM, or PF_E_DATA (the list stays as it was then) */
int pf_tokenizer_encode(const struct pf_tokenizer *tokenizer, const char *text, size_t length, int continues,
                        struct pf_tokens *tokens);
/* The text of ids[count], malloced, NUL behind it; free it. Ids beyond the vocabulary have none, special tokens only if
 * `specials`. It may not be UTF-8: models can end within a character. `continues`: as above. 0 or -ENOMEM */
int pf_tokenizer_decode(const struct pf_tokenizer *tokenizer, const int32_t *ids, size_t count, int specials,
                        int continues, char **text, size_t *length);
/* The bytes of one token; *length is 0 for specials and for ids beyond the vocabulary. A character of several bytes may
 * be spread over several tokens. Lives as long as the tokenizer */
const char *pf_tokenizer_piece(const struct pf_tokenizer *tokenizer, int32_t id, size_t *length);
/* 1: one of tokenizer->stop */
int pf_tokenizer_stops(const struct pf_tokenizer *tokenizer, int32_t id);
#endif
