/* corpus_state.h: inside of struct pf_corpus, shared by corpus_open.c (which fills it) and corpus.c (which uses it). */
#ifndef PF_CORPUS_STATE_H
#define PF_CORPUS_STATE_H
#include "corpus.h"
#include "reader.h"

struct index { uint64_t *entry; uint64_t count, room; };        /* offset << 1 | which half of an unpaired pair */

struct pf_corpus {
	struct pf_reader          *reader;
	const struct pf_tokenizer *tokenizer;
	struct pf_corpus_options   options;
	char                      *marker;
	struct index               index[PF_SPLITS];
	uint64_t                   hash[PF_SPLITS];
	struct pf_corpus_counts    counts;
	enum pf_record_form        form;                /* of the records */
	enum pf_chat               chat;                /* of their messages */
	struct pf_pack             pack;                /* of the sample being checked */
};

struct range { unsigned from, to; };

/* The completions of each sample in a record; returns how many samples: 0 when it serves nothing that is wanted */
unsigned pf_sample_ranges(const struct pf_record *record, enum pf_record_form want, struct range range[2]);
#endif
