/* pack.h: sequences of tokens laid end to end, without padding, with what is scored in them.
 *
 * Sequence i owns ids[offsets[i] .. offsets[i + 1]). The logit at place p predicts the id at p + 1, so a completion's
 * first token is scored at the place before it. A sequence's scored places are one run: first[i] .. first[i] +
 * scored[i]. bos opens and eos closes each sequence and counts as completion; the first token of a sequence is never
 * scored.
 *
 * A pack holds any number of groups (a pair, a ranking, a single); members of a group are neighbours. Appending
 * never moves what is there logically, but pointers change. One thread per pack. */
#ifndef PF_CORPUS_PACK_H
#define PF_CORPUS_PACK_H
#include "forms.h"
#include "tokenizer.h"

enum pf_truncation { PF_KEEP_START, PF_KEEP_END };      /* which end of a sequence beyond max_length survives */

/* What a sequence is to the loss; kind as in struct pf_item */
struct pf_member {
	uint64_t sample; /* which sample of its split it comes from, in file order: place in a reference cache */
	uint32_t member;               /* from 0 within the sample: chosen, rejected; rankings as in the file */
	uint32_t kind; /* PF_ITEM_CHOSEN, PF_ITEM_REJECTED; in rankings PF_ITEM_CHOSEN is the best scored */
	uint32_t mismatched;           /* 1: prompt of this sample with another one's completion, for KTO's z0 only */
	uint32_t truncated;            /* tokens cut off */
	uint32_t prompt;               /* tokens of bos and prompt that are left */
	uint32_t sampled;              /* 1: pack->old holds log-probs of the policy that sampled it */
	float    score, margin, weight;
	float    advantage;            /* NaN: none given */
};

struct pf_pack {
	struct pf_tokens ids;          /* [N] */
	uint32_t        *offsets;      /* [sequences + 1] */
	uint32_t        *first;        /* [sequences] index into ids of the first scored place */
	uint32_t        *scored;       /* [sequences] n: number of scored places */
	struct pf_member *member;      /* [sequences] */
	int64_t         *old;          /* [N] Q31.32 log-probs of the ids at scored places under the policy that sampled
	                                * them; NULL before the first sequence that has them */
	uint32_t        *groups;       /* [group_count + 1] first sequence of each group */
	size_t           sequences, group_count, room, group_room, old_room;
};

/* Zero-initialise a pack; free it once. pf_pack_clear empties it and keeps the memory */
void pf_pack_free(struct pf_pack *pack);
void pf_pack_clear(struct pf_pack *pack);

/* What is cut, in this order, as TRL cuts: bos and prompt to their last max_prompt tokens, completion and eos to their
 * first max_completion (0: no limit), both together to max_length at the end that `mode` does not keep */
struct pf_cut { uint32_t max_length; enum pf_truncation mode; uint32_t max_prompt, max_completion; };

/* Appends bos prompt completion eos, truncated, to the open group. There is no second eos where the completion ends
 * with a token that ends generation, a line feed behind it or not (chat templates). 0, -ENOMEM, PF_E_DATA (a pattern of
 * the tokenizer gave up), or PF_E_RANGE beyond 2^31 tokens */
int pf_pack_sequence(struct pf_pack *pack, const struct pf_tokenizer *tokenizer, struct pf_text prompt,
                     struct pf_text completion, struct pf_cut cut, const struct pf_member *member);
/* Closes the open group, which may not be empty */
int pf_pack_group(struct pf_pack *pack);
/* Appends completions [from, to) of a record as one group. PF_E_SHAPE: old_logps has another number of tokens */
int pf_pack_record(struct pf_pack *pack, const struct pf_tokenizer *tokenizer, const struct pf_record *record,
                   unsigned from, unsigned to, struct pf_cut cut, uint64_t sample);
/* Places before a sequence's first scored one: each predicts a token of its prompt, all of which but the first are
 * predicted */
uint32_t pf_pack_prompt(const struct pf_pack *pack, size_t sequence);
/* Scored places of sequences [from, to) */
uint64_t pf_pack_scored(const struct pf_pack *pack, size_t from, size_t to);

/* A run of whole groups small enough to be computed at once */
struct pf_chunk {
	size_t   group, groups;        /* groups [group, group + groups) */
	size_t   sequence, sequences;  /* their sequences */
	uint32_t token, tokens;        /* their ids: pack->ids.id[token ...] */
	uint64_t scored;               /* their scored places */
};
/* The most that may be in a chunk; 0: no limit. A group that is larger alone still makes a chunk of its own */
struct pf_chunk_limit { size_t groups; uint64_t tokens, scored; };
/* The chunk that starts at group `from` and ends before group `to` (at most group_count). Returns 0 when from == to,
 * else 1; the next one starts at chunk->group + chunk->groups */
int pf_pack_chunk(const struct pf_pack *pack, size_t from, size_t to, const struct pf_chunk_limit *limit,
                  struct pf_chunk *chunk);
#endif
