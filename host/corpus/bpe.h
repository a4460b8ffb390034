/* bpe.h: byte-pair encoding: a vocabulary of texts, ranked merges of two tokens, and the tokens of a word.
 *
 * Two kinds: byte-level (texts are bytes, a word's first tokens are its bytes) and by characters, whose unknown ones
 * fall back to tokens of bytes or to one for everything unknown. The tokens are those of the tokenizers library of
 * Hugging Face (models/bpe), which defines them: the pair of lowest rank merges first, the leftmost of equals. Time is
 * n log n. Filled by one thread, then thread-safe; a work belongs to one thread. */
#ifndef PF_CORPUS_BPE_H
#define PF_CORPUS_BPE_H
#include <stddef.h>
#include <stdint.h>
#include "buffer.h"
#include "tokens.h"

#define PF_BPE_IDS_MAX (1 << 22)        /* ids from here on are hardly a vocabulary's */

struct pf_bpe_token {
	uint32_t at, length;
	uint8_t known, whole;
}; /* place in `text`; whole: such a word is this token */
struct pf_bpe_merge { int32_t left, right, made; uint32_t rank; };     /* left -1: none */

struct pf_bpe {
	struct pf_bpe_token *token;    /* [size] */
	int32_t              size, room;
	struct pf_buffer     text;
	int32_t             *slot;     /* [slots] ids by their text, -1: free; slots is a power of two */
	size_t               slots, longest;
	struct pf_bpe_merge *merge;    /* [merges] by left and right; merges is a power of two */
	size_t               merges;
	int32_t              byte[256];        /* tokens of bytes; -1: none */
	int32_t              unknown;          /* -1: what is unknown is left out */
	int                  byte_level, fallback, fuse_unknown, whole_words;
};

/* Zero-initialise, then pf_bpe_init; pf_bpe_free in any case */
void pf_bpe_init(struct pf_bpe *bpe);
void pf_bpe_free(struct pf_bpe *bpe);
/* 0, -ENOMEM, PF_E_RANGE (no such id), PF_E_DATA (the id has a text already) */
int  pf_bpe_add(struct pf_bpe *bpe, int32_t id, const char *text, size_t length);
/* After the last token: finds them by text. PF_E_DATA: two have one text */
int  pf_bpe_index(struct pf_bpe *bpe);
int32_t pf_bpe_find(const struct pf_bpe *bpe, const char *text, size_t length);         /* -1: none */
/* Room for `count` merges, then each of them; one that is there already gets the later rank */
int  pf_bpe_reserve_merges(struct pf_bpe *bpe, size_t count);
void pf_bpe_merge(struct pf_bpe *bpe, int32_t left, int32_t right, int32_t made, uint32_t rank);

struct pf_bpe_symbol { int32_t id, before, after; };
struct pf_bpe_pair { uint64_t order; int32_t made; };           /* rank << 32 | place */
/* Zero-initialise; free once */
struct pf_bpe_work { struct pf_bpe_symbol *symbol; size_t symbols; struct pf_bpe_pair *pair; size_t pairs, pair_room; };
void pf_bpe_work_free(struct pf_bpe_work *work);

/* Marks tokens whose own text encodes to just them: words that need no merging then */
int pf_bpe_find_whole(struct pf_bpe *bpe);
/* Appends the tokens of one word: any bytes if byte-level, else UTF-8. 0 or -ENOMEM */
int pf_bpe_encode(const struct pf_bpe *bpe, struct pf_bpe_work *work, const char *text, size_t length,
                  struct pf_tokens *tokens);
#endif
