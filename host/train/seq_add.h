/* seq_add.h: sums over a sequence from the sums over its parts: integers, so parts may come in any order. */
#ifndef PF_TRAIN_SEQ_ADD_H
#define PF_TRAIN_SEQ_ADD_H
#include "prefpga/internal/abi.h"

static inline void pf_seq_add(struct pf_seq *total, const struct pf_seq *part)
{
	total->logp += part->logp;
	total->logp_tail += part->logp_tail;
	total->entropy += part->entropy;
	total->log_weight += part->log_weight;
	total->mean_logit += part->mean_logit;
	total->n += part->n;
	total->hits += part->hits;
	total->status |= part->status;
}
#endif
