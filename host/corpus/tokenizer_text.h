/* tokenizer_text.h: tokenizers of folders, as tokenizer.c uses them. Thread-safe. */
#ifndef PF_CORPUS_TOKENIZER_TEXT_H
#define PF_CORPUS_TOKENIZER_TEXT_H
#include "tokenizer.h"
#include "tokenizer_state.h"

int pf_tokenizer_open_folder(const char *folder, const struct pf_tokenizer **tokenizer, struct pf_error *error);
/* As pf_tokenizer_encode, but that the list may have grown when it fails */
int pf_text_encode(const struct pf_tokenizer_state *state, const char *text, size_t length, int continues,
                   struct pf_tokens *tokens);
/* As pf_tokenizer_piece; `specials`: special tokens have their text too */
const char *pf_text_piece(const struct pf_tokenizer_state *state, int32_t id, int specials, size_t *length);
/* 1: a text that begins a sequence has a space put in front, which decoding takes away */
int pf_text_strips(const struct pf_tokenizer_state *state);
#endif
