/* corpus.h: a dataset: which records of its files are usable, in which split, and any of them by number.
 *
 * Opening reads everything once, checks and tokenizes every record, and keeps eight bytes for each usable sample: its
 * offset. So errors come before training, the number of samples is exact, and memory does not grow with the texts.
 * Samples are numbered 0 .. count - 1 within their split, in the order of the files. One thread per corpus. */
#ifndef PF_CORPUS_CORPUS_H
#define PF_CORPUS_CORPUS_H
#include "forms.h"
#include "pack.h"
#include "tokenizer.h"

struct pf_corpus;

enum pf_split { PF_SPLIT_TRAIN, PF_SPLIT_HELD, PF_SPLITS };

struct pf_corpus_options {
	enum pf_record_form form;      /* what the records are; AUTO: found from the first one */
	enum pf_record_form want; /* what the caller needs; AUTO: what the records are. Pairs and rankings serve SFT
	                                * (chosen, best), pairs serve BINARY (two samples each) */
	int                 drop;      /* 1: bad records are dropped and counted; 0: they are errors */
	const char         *marker;    /* role marker, \n and \t as in C; NULL: the usual ones */
	enum pf_chat        chat;      /* template for lists of messages; UNKNOWN: the tokenizer's */
	struct pf_cut       cut;
	double holdout; /* share of the prompts that goes to PF_SPLIT_HELD, by hash and seed: equal prompts stay
	                                * together, and a prompt's side does not depend on other records */
	uint64_t            seed;
	const char         *cache;     /* folder for plain copies of .gz files; NULL: none allowed */
	/* called now and then while opening; bytes, of a .gz file while it is unpacked and of all plain files then. Not
	 * 0: stop with PF_E_INTERRUPTED. May be NULL */
	int               (*progress)(void *context, uint64_t done, uint64_t total);
	void               *context;
};

struct pf_corpus_counts {
	uint64_t records;              /* lines that are not blank */
	uint64_t samples[PF_SPLITS];
	uint64_t faults[PF_FAULT_COUNT];
	uint64_t chosen, rejected;     /* usable sequences by kind */
	uint64_t truncated, cut;       /* usable sequences that lost tokens; tokens that they lost */
	uint64_t tokens, scored;       /* of all usable sequences */
	uint32_t longest;              /* tokens of the longest usable sequence */
};

/* paths: comma separated. The tokenizer must outlive the corpus. Errors name file and line and say what to do */
int  pf_corpus_open(const char *paths, const struct pf_tokenizer *tokenizer, const struct pf_corpus_options *options,
                    struct pf_corpus **corpus, struct pf_error *error);
void pf_corpus_close(struct pf_corpus *corpus);         /* NULL is allowed */

uint64_t pf_corpus_count(const struct pf_corpus *corpus, enum pf_split split);
const struct pf_corpus_counts *pf_corpus_counts(const struct pf_corpus *corpus);
/* What the samples are after `want`: PAIRS, BINARY, SFT or RANKINGS */
enum pf_record_form pf_corpus_form(const struct pf_corpus *corpus);
/* Hash of the token ids and scored places of all samples of a split in order, truncation included: equal hashes, equal
 * log-probs of a fixed model */
uint64_t pf_corpus_hash(const struct pf_corpus *corpus, enum pf_split split);
/* One paragraph for people: counts, what was dropped and why. Returns what snprintf would */
int pf_corpus_describe(const struct pf_corpus *corpus, char *out, size_t size);

/* A sample's texts: completions [from, to) of the record. Free it after success */
struct pf_sample { struct pf_record record; unsigned from, to; };
int  pf_corpus_load(struct pf_corpus *corpus, enum pf_split split, uint64_t i, struct pf_sample *sample,
                    struct pf_error *error);
void pf_sample_free(struct pf_sample *sample);
/* Appends sample i to a pack as one group */
int pf_corpus_pack(struct pf_corpus *corpus, enum pf_split split, uint64_t i, struct pf_pack *pack,
                   struct pf_error *error);
/* Appends prompt of sample i with the (first) completion of sample j, for KTO's reference point. Its `scored` may be
 * 0 */
int pf_corpus_pack_mismatched(struct pf_corpus *corpus, enum pf_split split, uint64_t i, uint64_t j,
                              struct pf_pack *pack, struct pf_error *error);
#endif
