/* fused.h: the head on one device without logits on the host: kernels linear_logprob and linear_grad with everything
 * they need around them.
 *
 * W stays on the device while it is the same (pointer, version and precision): three sets, so that policy, its other
 * form for the way back of mxint8, and reference take turns. Precision is W's, forward by forward (precision.h). A
 * device that sees the host's memory works in it where the form is the same: fp32's W, hidden and dhidden, and dW, are
 * not copied then. Tokens are shared by the device's compute units, and on the way forward words too where tokens are
 * too few (fused_cut.c); where dW is wanted their backward runs follow each other, so that its sums have one order.
 * Rows whose D is not a multiple of 16 (bf16: 32, mxint8: 64) are padded on the way.
 *
 * Forward and backward only submit; pf_fused_wait makes their results valid, and must come between them, and before
 * the caller's arrays change. One thread per object. */
#ifndef PF_TRAIN_FUSED_H
#define PF_TRAIN_FUSED_H
#include "prefpga/device.h"
#include "prefpga/internal/abi.h"
#include "adamw.h"
#include "precision.h"

struct pf_fused;

/* How linear_grad comes by the logits: from device memory, where forward left 4 V bytes a token, or once more from the
 * products. AUTO: spill when the chunk's logits fit the memory given, since reading 4 V bytes costs any device less
 * than 2 D V operations (LOSSES: F < D B / 4) */
enum pf_way { PF_WAY_AUTO, PF_WAY_SPILL, PF_WAY_RECOMPUTE };

/* Logits are softcap tanh(scale raw / softcap) / temperature, without tanh for softcap 0; the loss has, per token that
 * counts, zloss lse^2 - entropy H beside -c logp */
struct pf_fused_form { float scale, softcap, temperature, zloss, entropy; };
#define PF_FUSED_PLAIN { 1, 0, 1, 0, 0 }

struct pf_fused_options {
	struct pf_device    *device;
	uint32_t             vocab, dim;
	int                  bias;
	int                  backward;         /* pf_fused_backward will be called: what it reads stays */
	enum pf_precision    precision;        /* most forwards'; its kernels must be there */
	enum pf_way          way;              /* after a forward of mxint8 there is no way back but spill */
	uint64_t             memory_bytes;     /* for raw logits, at most; 0: half of the device's */
	struct pf_fused_form form;
	float                filter;           /* of linear_grad (kernels.def); 0: none. Not with zloss or entropy */
};

/* weight[V, D], bias[V] or NULL. version: another number whenever the numbers changed; 0: always taken as changed */
struct pf_fused_weight { const float *weight, *bias; uint64_t version; enum pf_precision precision; };

struct pf_fused_tokens {
	const float          *hidden;          /* [T, D] */
	const int32_t        *target;          /* [T] */
	const struct pf_span *span;            /* [seqs], within [0, T); NULL with seqs 0 */
	uint32_t              tokens, seqs;
	uint32_t              flags;           /* PF_WANT_STATS; always taken with an entropy bonus */
	int                   forward_only;    /* 1: no backward follows: logits are not left, its kernel is not needed */
};

int  pf_fused_open(const struct pf_fused_options *options, struct pf_fused **fused, struct pf_error *error);
void pf_fused_close(struct pf_fused *fused);                   /* NULL is allowed */
/* sum[seqs], row[T]: either may be NULL. T may be 0 */
int pf_fused_forward(struct pf_fused *fused, const struct pf_fused_weight *weight, const struct pf_fused_tokens *tokens,
                     struct pf_seq *sum, struct pf_row *row, struct pf_error *error);
/* A device that holds a range of the vocabulary: V of the options is the range's, targets count from its beginning, and
 * those of other ranges are at least V. forward_shard leaves states in state[T]; the records that all ranges' states
 * merge to (shard.h) come back by merged, which must come before backward. sum as in forward, or NULL */
int pf_fused_forward_shard(struct pf_fused *fused, const struct pf_fused_weight *weight,
                           const struct pf_fused_tokens *tokens, struct pf_shard *state, struct pf_error *error);
int pf_fused_merged(struct pf_fused *fused, const struct pf_row *row, struct pf_seq *sum, struct pf_error *error);
/* For the last forward: coef[T]; dhidden[T, D] is overwritten, dweight[V, D] and dbias[V] are added to, or NULL */
int  pf_fused_backward(struct pf_fused *fused, const float *coef, float *dhidden, float *dweight, float *dbias,
                       struct pf_error *error);
int  pf_fused_wait(struct pf_fused *fused, struct pf_error *error);
/* Gives back the device memory of a W that is not needed for now; the next forward brings it again. Not while something
 * is to be waited for */
void pf_fused_forget(struct pf_fused *fused, const float *weight, enum pf_precision precision);
/* ---- the optimizer's state on the device: W and both moments live there, dW never leaves it ----
 * keep: from W and the moments m, v [V, D] on, until close. W must be given with the same pointer and version from then
 * on; backward with dweight NULL adds to the step's dW there. square: |dW|^2 of the step. update: AdamW; the next dW
 * begins at 0. bring: W and moments to the host's arrays. Each returns when done. Not on devices that see the host's
 * memory, nor with a bias */
int pf_fused_keep(struct pf_fused *fused, const struct pf_fused_weight *weight, const float *m, const float *v,
                  struct pf_error *error);
int pf_fused_kept_square(struct pf_fused *fused, double *square, struct pf_error *error);
int pf_fused_kept_update(struct pf_fused *fused, const struct pf_adamw_factors *factors, struct pf_error *error);
int pf_fused_kept_bring(struct pf_fused *fused, float *weight, float *m, float *v, struct pf_error *error);

/* What a filter left out, over tokens that count: sums and the largest */
struct pf_left_out { uint64_t tokens; double mass, most; uint64_t words, saved; };
void pf_left_out_count(struct pf_left_out *sum, const struct pf_filtered *filtered, const int32_t *target,
                       uint32_t tokens);       /* adds [T] of one backward; filtered NULL: nothing */
void pf_left_out_add(struct pf_left_out *sum, const struct pf_left_out *more);
/* What the filter left out of the last backward, [T]; NULL without one. Valid until the next */
const struct pf_filtered *pf_fused_filtered(const struct pf_fused *fused);
/* What the last forward decided, and why: a static text */
enum pf_way pf_fused_way(const struct pf_fused *fused, const char **why);
/* 1: works in the caller's memory, W to dW; not while another adds to the same dW, then */
int pf_fused_in_place(const struct pf_fused *fused);
/* Most device memory in use at a time, of what the object allocated (not of adopted memory) */
uint64_t pf_fused_peak(const struct pf_fused *fused);
#endif
