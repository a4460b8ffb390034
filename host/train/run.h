/* run.h: what training and evaluation open together: scorer, objective, reference caches. Inner words of trainer.h. */
#ifndef PF_TRAIN_RUN_H
#define PF_TRAIN_RUN_H
#include "reference_file.h"
#include "trainer.h"

struct pf_running {
	const struct pf_run *run;
	struct pf_scorer    *scorer;
	struct pf_objective  objective;
	struct pf_pack       pack;
};

/* Objective and pack without workspace: enough for caches and samplers, nothing can be computed. Frees with close */
int  pf_running_describe(struct pf_running *running, const struct pf_run *run, const struct pf_model *model,
                         int backward, struct pf_error *error);
/* Workspace for a model of this shape; backward: gradients will be asked for. Frees with close, also after a failure */
int  pf_running_open(struct pf_running *running, const struct pf_run *run, const struct pf_model *model, int backward,
                     struct pf_error *error);
void pf_running_close(struct pf_running *running);
/* The cache of reference log-probs for a split of a corpus; *cache is NULL when nothing is to be kept */
int  pf_running_cache(const struct pf_running *running, const struct pf_corpus *corpus, enum pf_split split,
                      struct pf_reference **cache, struct pf_error *error);
/* The reference's log-probs of a whole split: out of the cache or computed. Fills a table whose samples, sides and
 * pairs are those of pf_running_table; progress as in pf_evaluate */
int  pf_running_reference(struct pf_running *running, struct pf_corpus *corpus, enum pf_split split,
                          struct pf_reference *cache, struct pf_reference_table *table,
                          void (*progress)(void *context, uint64_t done, uint64_t total), void *context,
                          struct pf_error *error);
/* Empty table for a split, with the cache's key */
int  pf_running_table(const struct pf_corpus *corpus, enum pf_split split, const struct pf_reference *cache,
                      struct pf_reference_table *table, struct pf_error *error);
/* Opens a sampler over a split with the run's batch and what its loss needs */
int  pf_running_sampler(const struct pf_running *running, struct pf_corpus *corpus, enum pf_split split, uint64_t seed,
                        int shuffle, uint32_t accumulate, struct pf_sampler *sampler, struct pf_error *error);
/* As pf_evaluate, in an open run whose objective's cache is set to the split's */
int  pf_running_evaluate(struct pf_running *running, const struct pf_held *held,
                         void (*progress)(void *context, uint64_t done, uint64_t total), void *context,
                         struct pf_tally *tally, struct pf_error *error);
#endif
