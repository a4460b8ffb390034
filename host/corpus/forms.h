/* forms.h: one line of JSON to one record: which fields make what, and what can be wrong with it.
 *
 *	pairs     prompt, chosen, rejected [margin, weight, score_chosen, score_rejected]
 *	          chosen, rejected: the prompt is their common beginning up to the last role marker in it ("\n\nAssistant:")
 *	binary    prompt, completion, label (true: desirable) [weight]
 *	sft       prompt, completion [weight]; or text alone
 *	rankings  prompt, completions (best first) [scores: higher is better, in any order; ties allowed]
 *	groups    prompt, completions, rewards or advantages (a number each) [old_logps: for each a list with the log-prob of
 *	          every token of the completion, its end included, under the policy that sampled it; weight]
 *
 * Instead of texts there can be lists of chat messages (messages.h). Further fields are ignored. Thread-safe. */
#ifndef PF_CORPUS_FORMS_H
#define PF_CORPUS_FORMS_H
#include <stddef.h>
#include "chat.h"
#include "prefpga/error.h"
#include "text.h"

enum pf_record_form { PF_RECORD_AUTO, PF_RECORD_PAIRS, PF_RECORD_BINARY, PF_RECORD_SFT, PF_RECORD_RANKINGS,
	PF_RECORD_GROUPS };

/* Why a record is no use. F(name, always dropped, text of the count). Those not always dropped are errors unless the
 * user wants bad rows dropped */
#define PF_FAULTS(F) \
	F(JSON,      0, "not valid JSON") \
	F(FIELD,     0, "a field missing or of the wrong type") \
	F(EMPTY,     0, "an empty completion") \
	F(IDENTICAL, 0, "chosen equal to rejected") \
	F(BOUNDARY,  1, "no role marker in the common beginning of chosen and rejected") \
	F(TRUNCATED, 1, "nothing left of a completion after truncation") \
	F(UNWANTED,  1, "undesirable samples, which sft has no use for")
enum pf_fault {
	PF_FAULT_NONE,
#define PF_FAULT_ENUM(name, dropped, text) PF_FAULT_##name,
	PF_FAULTS(PF_FAULT_ENUM)
#undef PF_FAULT_ENUM
	PF_FAULT_COUNT
};
int         pf_fault_dropped(enum pf_fault fault);      /* 1: such a record is only ever counted */
const char *pf_fault_text(enum pf_fault fault);

#define PF_COMPLETIONS_MAX 64u
struct pf_record {                               /* texts point into `json` */
	enum pf_record_form   form;
	struct pf_text prompt;
	unsigned       completions;                     /* pairs: chosen, rejected; rankings: as in the file; else 1 */
	struct pf_text completion[PF_COMPLETIONS_MAX];
	float          score[PF_COMPLETIONS_MAX];       /* rankings without scores: count, count - 1, ..., 1; groups: rewards;
	                                                 * else 0 */
	float          advantage[PF_COMPLETIONS_MAX];   /* groups, NaN: none given */
	const void    *old[PF_COMPLETIONS_MAX];         /* groups: the JSON list of old_logps, or NULL */
	float          margin, weight;                  /* 0 and 1 when the fields are missing */
	int            desirable;                       /* binary: the label; otherwise 1 */
	void          *json;                            /* owns the texts */
};

/* Parses text[length]. form AUTO: found from the fields. marker: NULL for the usual ones. chat: the template that makes
 * texts of messages. Returns 0, or an error whose text lacks only file and line; *fault says of what class (NONE: it is
 * not the record's: no memory, no chat template). Free the record after success */
int  pf_record_read(const char *text, size_t length, enum pf_record_form form, const char *marker, enum pf_chat chat,
                    struct pf_record *record, enum pf_fault *fault, struct pf_error *error);
void pf_record_free(struct pf_record *record);
/* The completion with the highest score, the first of equals; 0 for pairs and singles */
unsigned pf_record_best(const struct pf_record *record);

/* Log-probs that completion i of groups came with: how many, and that of token t */
size_t pf_record_old_count(const struct pf_record *record, unsigned i);
double pf_record_old(const struct pf_record *record, unsigned i, size_t t);

/* Bytes of the prompt in two conversations: up to and with the last role marker that lies wholly within their common
 * beginning; 0 if there is none */
size_t pf_prompt_length(struct pf_text chosen, struct pf_text rejected, const char *marker);
/* "pairs" and so on; "auto" */
const char *pf_record_form_name(enum pf_record_form form);
int pf_record_form_find(const char *name);                     /* -1: unknown */
#endif
