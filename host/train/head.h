/* head.h: the language-model head over devices: hidden states and a weight matrix in, log-probs and gradients out.
 *
 * Fused (head_fused.h): hidden states go to the devices, which form logits tile by tile; none are on the host.
 * Otherwise (head_logits.h) logits cross the link, as is right for kernels that take ready ones.
 *
 * One thread per head. The caller owns every array; arrays given to pf_head_forward must stay until the next
 * forward. */
#ifndef PF_TRAIN_HEAD_H
#define PF_TRAIN_HEAD_H
#include "prefpga/device.h"
#include "prefpga/internal/abi.h"
#include "fused.h"

struct pf_head;

/* What pf_head_forward works on */
struct pf_head_input {
	const float          *hidden;  /* [T, D] final hidden states of the scored tokens */
	const float          *weight;  /* [V, D] */
	const int32_t        *target;  /* [T] token ids */
	const struct pf_span *span;    /* [B] tokens of each sequence, ascending, covering [0, T) without gaps */
	uint32_t              tokens, seqs;
	uint32_t              flags;   /* PF_WANT_STATS: entropy, mean logit, log sum p^2 in the sums */
	float                 tail;    /* gradient of tokens from a span's split on, as a multiple of the span's (LD-DPO) */
	uint64_t              version; /* of weight, as in fused.h */
	enum pf_precision     precision;       /* of this forward's products; fused */
	int                   forward_only;    /* 1: no backward follows; fused */
};

struct pf_head_options {
	struct pf_device *const *device;       /* blocks go round the devices */
	unsigned devices;
	uint32_t vocab, dim;
	uint64_t memory_bytes;         /* at most so much of each device; 0: half of the smallest */
	unsigned threads;              /* of the host's products; 0: all processors */
	double   logit_cap;            /* logits are cap tanh(z / cap); 0: no cap */
	int      fused;                /* 1: logits never leave the devices */
	int      backward;             /* fused: pf_head_backward will be called */
	enum pf_way way;               /* fused */
	enum pf_precision precision;   /* fused: of most forwards */
	float    filter;               /* fused: of the gradient (fused.h); 0: none */
	unsigned shards;               /* fused: ranges of the vocabulary (shard.h), round the devices; 1: none, tokens are
	                                * shared; 0: none while W and dW fit each device, else one a device */
};

/* Not fused: fails with PF_E_MEMORY when not even three blocks of 16 rows fit */
int pf_head_open(const struct pf_head_options *options, struct pf_head **head, struct pf_error *error);
void pf_head_close(struct pf_head *head);                       /* NULL is allowed */

/* Phase 1. sum[B]; row[T] may be NULL. tokens may be 0 */
int pf_head_forward(struct pf_head *head, const struct pf_head_input *input, struct pf_seq *sum, struct pf_row *row,
                    struct pf_error *error);
/* Phase 3 for the last forward. grad[B] = dL/d(sum of logp); dhidden[T,D] is overwritten; dweight[V,D] is added to and
 * may be NULL (frozen head). Sequences with grad 0 cost no multiplication on their own, but blocks do */
int pf_head_backward(struct pf_head *head, const double *grad, float *dhidden, float *dweight, struct pf_error *error);
/* Gives back what devices hold of a W that is not needed for now (fused.h) */
void pf_head_forget(struct pf_head *head, const float *weight, enum pf_precision precision);
/* The optimizer's state on the device (fused.h); PF_E_UNSUPPORTED unless one device has all tokens and words. While it
 * is there, forward gets W by the same pointer and version, and backward NULL for dweight */
int pf_head_keep(struct pf_head *head, const float *weight, uint64_t version, const float *m, const float *v,
                 struct pf_error *error);
/* That device, once it is kept */
struct pf_fused *pf_head_kept(const struct pf_head *head);
/* What the filter left out of the last backward; zeros without one */
struct pf_left_out pf_head_left_out(const struct pf_head *head);
/* Ranges of the vocabulary; 1: tokens are shared */
unsigned pf_head_shards(const struct pf_head *head);
#endif
