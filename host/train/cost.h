/* cost.h: what the head of one chunk costs, in each possible way: the one written cost model, which decides between the
 * host alone ("do not offload"), ready logits, and the fused head with spilled or recomputed logits.
 *
 * T tokens, V words, D numbers of a hidden state; F = 2 T V D operations a product.
 *   host       F a product, 1 to 3 of them, at the host's rate of products (pf_cost_host_flops: measured; backend cpu
 *              keeps everything else in cache)
 *   logits     8 blocks: the host multiplies, 4 T V bytes go in, logprob; for gradients logit_grad, 4 T V bytes come
 *              out, and the host multiplies them back. Blocks overlap
 *   spill,     hidden states in, linear_logprob on every unit, records out; coefficients in, linear_grad, dhidden out.
 *   recompute  W goes in first and dW comes out last where the optimizer is the host's. Units share the tokens in
 *              blocks of 64; runs that add to one dW follow each other. Or they share the words (shards), and nobody
 *              waits: what is faster is taken. An optimizer on the card follows when all of dW is there
 * The last three are schedules played by pf_cycles_play on the figures of card_facts.def and the loops of cycles.def:
 * link, memory banks and units (a unit's array makes 256 multiply-adds a cycle of fp32 and bf16, 2,048 of MXINT8) limit
 * them. Everything but the host's rate is therefore modelled and uncalibrated; callers say so. A way whose memory the
 * card lacks is not possible, nor is recompute of MXINT8, whose way back is bf16's from the logits that were kept. Host
 * and ready logits compute in float32 whatever the precision.
 *
 * Thread-safe, but for pf_cost_host_flops, which keeps the processors busy for a moment. */
#ifndef PF_TRAIN_COST_H
#define PF_TRAIN_COST_H
#include "precision.h"
#include "prefpga/device.h"
#include "prefpga/reports.h"

enum pf_cost_way { PF_COST_HOST, PF_COST_LOGITS, PF_COST_SPILL, PF_COST_RECOMPUTE, PF_COST_WAYS };

/* What is to be computed: one chunk */
struct pf_cost_head {
	uint32_t tokens, vocab, dim;
	int      backward;             /* dhidden is wanted */
	int      dweight;              /* dW too: the head is trained */
	int      moves;                /* W goes in and dW comes out with the chunk: the optimizer is the host's */
	enum pf_precision precision;   /* of the fused head's products; rows lie on the card in its form, padded */
	int      optimizer;            /* the head's optimizer is the card's (one card, fp32, not moves): head_norm and
	                                * head_adamw behind dW, and two moments beside W. The host's plan has none */
};

/* Where: equal cards with `cus` units each beside a host */
struct pf_cost_place {
	struct pf_cycles_card card;
	uint32_t devices, cus;
	double   host_flops;           /* operations/s of the host's products */
	const struct pf_reports *reports;      /* of the kernels' synthesis; NULL: what is derived from the sources */
};

struct pf_cost_plan {
	int      possible;
	uint32_t shards;               /* 1: units share the tokens; else so many share the words */
	double   seconds;
	double   host_s, link_s, card_s;       /* in which each was busy; they overlap */
	double   bytes_in, bytes_out;  /* over the link */
	double   card_bytes;           /* of memory on a card */
};
struct pf_cost {
	struct pf_cost_plan plan[PF_COST_WAYS];
	enum pf_cost_way best;         /* of all; HOST: do not offload */
	enum pf_cost_way best_card;    /* of the others */
};

/* "host", "logits", "spill", "recompute" */
const char *pf_cost_way_name(enum pf_cost_way way);
/* PF_E_RANGE for sizes that no head has, PF_E_MEMORY when no way fits a card's memory (plan HOST is filled in then).
 * Equal times: the way named first */
int pf_cost(const struct pf_cost_place *place, const struct pf_cost_head *head, struct pf_cost *cost,
            struct pf_error *error);
/* The schedule behind a plan of pf_cost, by its way and shards. *job: malloc, the caller frees; of way HOST there are
 * none */
int pf_cost_schedule(const struct pf_cost_place *place, const struct pf_cost_head *head, enum pf_cost_way way,
                     uint32_t shards, struct pf_job **job, size_t *jobs, struct pf_error *error);
/* The card in cards.def that a device is or simulates, NULL if none */
const char *pf_cost_card_of(const struct pf_device_facts *facts);
/* Rate of the host's float products on `threads` threads (0: all), measured: the best of some, in some 20 ms */
double pf_cost_host_flops(unsigned threads);
/* One sentence for people: what is fastest, by how much, and which of the figures are modelled */
void pf_cost_say(const struct pf_cost *cost, const char *card, const struct pf_cost_place *place, char *text,
                 size_t room);
#endif
