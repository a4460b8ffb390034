/* scorer.h: log-probs of packed sequences under a model, and the way back.
 *
 * The body runs on the host, the head on the devices (head.h). A scorer is workspace: policy and reference, which have
 * one shape, take turns in it, so the reference costs weights but no activations. One thread per scorer. */
#ifndef PF_TRAIN_SCORER_H
#define PF_TRAIN_SCORER_H
#include "../corpus/pack.h"
#include "../model/model.h"
#include "head.h"
#include "../report/trace.h"

struct pf_scorer;

/* Seconds of wall time since the scorer was opened */
struct pf_scorer_times { double body, head; };

struct pf_scorer_options {
	struct pf_device *const *device;
	unsigned devices;
	uint64_t memory_bytes;         /* of each device; 0: half of it */
	uint32_t max_tokens;           /* of a chunk */
	uint32_t max_length;           /* of a sequence */
	unsigned threads;              /* 0: all processors */
	int      backward;             /* 1: pf_scorer_backward will be called */
	int      per_token;            /* 1: sums and gradients are those of single scored tokens, in order, not of sequences */
	int      tails;                /* 1: what a sequence has beyond the shortest of its group is its tail, */
	double   tail;                 /* whose tokens get so much of the sequence's gradient */
	struct pf_trace *trace;        /* gets body and head as phases; may be NULL */
	int      logits;               /* 1: the head in the form whose logits cross the link (head.h) */
	enum pf_way way;               /* of the fused form, as the next ones */
	enum pf_precision precision;   /* of the head's products */
	const struct pf_model *reference;      /* never gone back through, its head computed in another one; or NULL */
	enum pf_precision reference_precision;
	float    filter;               /* head.h, as the next one */
	unsigned shards;
};

int  pf_scorer_open(const struct pf_model_config *config, const struct pf_layout *layout,
                    const struct pf_scorer_options *options, struct pf_scorer **scorer, struct pf_error *error);
void pf_scorer_close(struct pf_scorer *scorer);                 /* NULL is allowed */
/* sum[chunk->sequences, or chunk->scored if per token]; prompt (may be NULL, and is if per token) [chunk->sequences]:
 * of what pf_pack_prompt counts in chosen sequences, zeros for others; row (may be NULL) [all of these places]; flags
 * as in abi.h. The model has the scorer's shape */
int pf_scorer_forward(struct pf_scorer *scorer, const struct pf_model *model, const struct pf_pack *pack,
                      const struct pf_chunk *chunk, uint32_t flags, struct pf_seq *sum, struct pf_seq *prompt,
                      struct pf_row *row, struct pf_error *error);
/* Adds to gradient, the flat array of what the model trains (pf_model_trained): grad and prompt, as long as the sums of
 * the last forward (and NULL like these) = dL/d(sum of logp) */
int pf_scorer_backward(struct pf_scorer *scorer, const double *grad, const double *prompt, float *gradient,
                       struct pf_error *error);
/* The reference will not be computed for a while: its head leaves the devices until it is */
void pf_scorer_forget_reference(struct pf_scorer *scorer);
/* The optimizer's state of the model's head on the device (head.h): from the model and the moments m, v, flat arrays of
 * its layout, until close; the head's part of gradients is not formed then. The head is not tied, and computed with as
 * it lies. bring: back to such arrays, param and moments */
int pf_scorer_keep(struct pf_scorer *scorer, const struct pf_model *model, const float *m, const float *v,
                   struct pf_error *error);
struct pf_fused *pf_scorer_kept(const struct pf_scorer *scorer);       /* NULL: the host has it */
int pf_scorer_bring(struct pf_scorer *scorer, float *param, float *m, float *v, struct pf_error *error);
/* What the filter left out of the last backward (fused.h) */
struct pf_left_out pf_scorer_left_out(const struct pf_scorer *scorer);
struct pf_scorer_times pf_scorer_times(const struct pf_scorer *scorer);        /* NULL: zeros */
#endif
