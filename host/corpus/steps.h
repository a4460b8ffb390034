/* steps.h: what a tokenizer does to a text before its vocabulary sees it: changes (normalizers) and cuts
 * (pre-tokenizers), one after another, each on every piece of the one before. Steps are filled by one thread, then
 * thread-safe; a run belongs to one thread. The meaning of each is that of the tokenizers library of Hugging Face. */
#ifndef PF_CORPUS_STEPS_H
#define PF_CORPUS_STEPS_H
#include "buffer.h"
#include "pattern.h"
#include "text.h"

#define PF_STEPS_MAX 16u

enum pf_step_kind {
	PF_STEP_NFC,
	PF_STEP_REPLACE,               /* every match of the pattern by `text` */
	PF_STEP_PREPEND,               /* `text` before a piece */
	PF_STEP_SPLIT                  /* at the matches of the pattern */
};
/* What becomes of a match: a piece of its own, nothing, the end of the piece before it, the beginning of the one behind
 * it, one piece with neighbouring matches */
enum pf_split_rule { PF_SPLIT_ISOLATED, PF_SPLIT_REMOVED, PF_SPLIT_PREVIOUS, PF_SPLIT_NEXT, PF_SPLIT_CONTIGUOUS };

struct pf_step {
	enum pf_step_kind  kind;
	struct pf_pattern *pattern;    /* REPLACE, SPLIT */
	char              *text;       /* REPLACE, PREPEND */
	size_t             length;
	enum pf_split_rule rule;
	int                invert;     /* SPLIT: what lies between matches counts as match */
	int                if_missing; /* PREPEND: not where the piece begins with it already */
	int                if_first;   /* PREPEND: only where the text begins */
};
struct pf_steps { struct pf_step step[PF_STEPS_MAX]; unsigned count; };

struct pf_piece { const char *text; size_t length; int first; };        /* first: it begins where the text begins */

struct pf_steps_run {
	int               continues;   /* the text goes on from one before it: nothing is put in front of it */
	struct pf_matcher *matcher;
	struct pf_buffer  buffer[PF_STEPS_MAX];
	int             (*take)(void *context, struct pf_piece piece);          /* not 0: stops with it */
	void             *context;
};

void pf_steps_free(struct pf_steps *steps);
/* Hands the pieces of a piece to run->take, in order; empty ones are left out. 0, -ENOMEM, PF_E_DATA (a pattern gave
 * up), or what `take` returned. The run's matcher and buffers are kept for the next call */
int  pf_steps_run(const struct pf_steps *steps, struct pf_steps_run *run, struct pf_piece piece);
void pf_steps_run_free(struct pf_steps_run *run);
#endif
