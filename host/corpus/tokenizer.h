/* tokenizer.h: text to token ids and back.
 *
 * "bytes" is built in: one token per byte (ids 0 to 255) and three specials; every text is representable and there is
 * nothing to download. Others are a folder with tokenizer.json and, where present, tokenizer_config.json,
 * special_tokens_map.json, generation_config.json and chat_template.jinja, as models of Hugging Face's libraries have
 * it: byte-pair encoding, byte-level (GPT-2, Llama 3, Qwen) or by characters with byte fallback (Llama 2, Mistral,
 * Gemma). The ids are those of the tokenizers library. Its fields "truncation" and "padding" are not looked at. Unicode
 * is that of the libraries underneath: classes of patterns 14, normal forms 9 (unicode.h); characters newer than 14 can
 * differ.
 *
 * Thread-safe once opened. */
#ifndef PF_CORPUS_TOKENIZER_H
#define PF_CORPUS_TOKENIZER_H
#include <stddef.h>
#include <stdint.h>
#include "chat.h"
#include "tokens.h"
#include "prefpga/error.h"

enum { PF_BYTES_BOS = 256, PF_BYTES_EOS = 257, PF_BYTES_PAD = 258, PF_BYTES_VOCAB = 259 };

#define PF_STOPS_MAX 16u

struct pf_tokenizer {
	const char  *name;
	int32_t      vocab;                    /* every id is below it; a model's vocabulary may be larger */
	int32_t      bos, eos, pad;            /* bos opens and eos closes every sequence; -1: there is none */
	int32_t      stop[PF_STOPS_MAX];       /* each ends generation; eos is among them */
	unsigned     stops;
	enum pf_chat chat;                     /* the template its special tokens are for; UNKNOWN: none is known */
	struct pf_tokenizer_state *state;      /* of one from a folder; NULL: bytes */
};

/* `name`: "bytes", or a folder. Close the result */
int  pf_tokenizer_open(const char *name, const struct pf_tokenizer **tokenizer, struct pf_error *error);
/* The tokenizer in a model's folder; "bytes" if it has no tokenizer.json */
int  pf_tokenizer_open_model(const char *folder, const struct pf_tokenizer **tokenizer, struct pf_error *error);
void pf_tokenizer_close(const struct pf_tokenizer *tokenizer);          /* NULL is allowed */

#define PF_TOKENIZER_FILES 9u
/* What a tokenizer's folder can hold. Saving writes those that it held when it was opened to another folder, each whole
 * or not at all; files that are there are replaced. Of bytes there are none. Not thread-safe with the same folder */
extern const char *const pf_tokenizer_files[PF_TOKENIZER_FILES];
int  pf_tokenizer_save(const struct pf_tokenizer *tokenizer, const char *folder, struct pf_error *error);

/* Appends the ids of text[length], without bos and eos. Texts of special tokens ("<|im_end|>") become these tokens.
 * `continues`: the text goes on from one before it, so nothing is put in front of it; else it begins a sequence, before
 * which some tokenizers put a space. What is not UTF-8 is read as U+FFFD (unicode.h), but for bytes, which takes it as
 * it is. 0, -ENOMEM, or PF_E_DATA: a pattern of the file gave up (the list stays as it was then) */
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
