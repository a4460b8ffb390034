/* survey.h: what is in preference data, whatever its faults: forms, lengths, balance, duplicates, leaks.
 *
 * Records are read one after the other, so memory does not grow with the files: lengths go into histograms, and texts
 * into sets of hashes that, when full, keep only hashes of ever smaller ranges; counts of repetitions are then
 * estimates, scaled up, and say so. One thread per survey. */
#ifndef PF_CORPUS_SURVEY_H
#define PF_CORPUS_SURVEY_H
#include <stdint.h>
#include "forms.h"
#include "tokenizer.h"

enum { PF_SURVEY_BINS = 256, PF_SURVEY_WHERE = 256 };

/* Lengths: exact mean, smallest and largest; quantiles within 10 % */
struct pf_lengths { uint64_t count, sum, least, most, bin[PF_SURVEY_BINS]; };
uint64_t pf_lengths_quantile(const struct pf_lengths *lengths, double share);

/* Hashes, of which every 2^thinned-th is kept */
struct pf_hash_set { uint64_t *slot; uint64_t slots, count; unsigned thinned; };

/* How often something was seen, and where first */
struct pf_sighting { uint64_t count; char first[PF_SURVEY_WHERE]; };

struct pf_survey_options {
	enum pf_record_form form;
	const char         *marker;    /* as for pf_record_read */
	enum pf_chat        chat;
	const struct pf_tokenizer *tokenizer;  /* lengths in its tokens; NULL: in bytes */
	uint32_t            max_length;        /* sequences longer than this are counted; 0: no limit */
	const char         *cache;     /* folder for plain copies of .gz files, or NULL */
	uint64_t            set_slots; /* of each set, a power of two; 0: 2^20, 8 MiB each */
};

/* Counts of problems that are not faults: P(name, text) */
#define PF_PROBLEMS(P) \
	P(DUPLICATE,  "records that were there before, prompt and completions alike") \
	P(PROMPT,     "prompts that were there before") \
	P(LEAK,       "prompts that the other files have too") \
	P(OVERTURNED, "pairs that were there before with chosen and rejected exchanged") \
	P(BLANK,      "completions of nothing but white space") \
	P(NO_PROMPT,  "records without a prompt") \
	P(ENDING,     "prompts that end in a space, which many tokenizers join with the next word") \
	P(JOINT,      "completions that begin with a letter right behind a letter of the prompt") \
	P(LONG,       "sequences longer than --max-length") \
	P(TIES,       "rankings with tied scores") \
	P(FLAT,       "groups whose rewards are all equal")
enum pf_problem {
#define PF_PROBLEM_ENUM(name, text) PF_PROBLEM_##name,
	PF_PROBLEMS(PF_PROBLEM_ENUM)
#undef PF_PROBLEM_ENUM
	PF_PROBLEM_COUNT
};
const char *pf_problem_text(enum pf_problem problem);

struct pf_survey {
	struct pf_survey_options options;
	uint64_t lines;                                /* that are not blank */
	uint64_t form[PF_RECORD_GROUPS + 1];           /* good records of each form */
	struct pf_sighting fault[PF_FAULT_COUNT], problem[PF_PROBLEM_COUNT];
	struct pf_lengths prompt, chosen, rejected;    /* chosen: also desirable, and single completions; rejected: all others */
	uint64_t desirable, undesirable;               /* binary */
	uint64_t longer, shorter;                      /* pairs whose chosen side is longer, shorter */
	uint64_t scored;                               /* records with scores, margins or rewards */
	uint64_t most, least;                          /* completions of rankings and groups */
	struct pf_hash_set records, prompts, exchanged;
};

/* Free it whatever happens later */
int  pf_survey_open(const struct pf_survey_options *options, struct pf_survey *survey, struct pf_error *error);
void pf_survey_close(struct pf_survey *survey);
/* Reads files (a comma separated list). `other`: a survey whose prompts must not occur here, or NULL. Stops with
 * PF_E_INTERRUPTED when progress() says so; it may be NULL */
int pf_survey_read(struct pf_survey *survey, const char *paths, const struct pf_survey *other,
                   int (*progress)(void *context, uint64_t done, uint64_t total), void *context,
                   struct pf_error *error);
/* 1: counts that come from sets of hashes are estimates */
int  pf_survey_estimates(const struct pf_survey *survey);
/* What most good records are; AUTO if there are none */
enum pf_record_form pf_survey_form(const struct pf_survey *survey);
#endif
