/* kernels.h: the kernels of hls/ called directly, in builds of different PF_STEP, and rows of logits for them. */
#ifndef PF_TESTS_KERNELS_H
#define PF_TESTS_KERNELS_H
#include <stdint.h>
#include "prefpga/internal/kernels.h"

/* One build: the built kernels of kernels.def by name */
struct kernel_build {
	uint32_t step;
#define KERNEL_MEMBER_BUILT(kernel) void (*kernel)(PF_ARGS_##kernel(PF_PARAM, PF_COMMA));
#define KERNEL_MEMBER_RESERVED(kernel)
#define KERNEL_MEMBER(kernel, file, state, lanes, brief) KERNEL_MEMBER_##state(kernel)
	PF_KERNELS(KERNEL_MEMBER)
#undef KERNEL_MEMBER
};
enum { KERNEL_BUILDS = 4 };
extern const struct kernel_build kernel_builds[KERNEL_BUILDS];       /* steps 1, 3, 64; 1 with half the array */

/* ---- rows of logits ---- */
enum logit_kind {
	LOGITS_WIDE,                   /* uniform in [-50, 50] */
	LOGITS_MODEL,                  /* normal, like a model's */
	LOGITS_STRONG,                 /* one token 25 above the rest */
	LOGITS_CERTAIN,                /* one token 40 and more above the rest */
	LOGITS_EQUAL,
	LOGITS_UP,                     /* ascending from -50 to 50 */
	LOGITS_DOWN,
	LOGITS_ONE_ZERO,               /* 0 once, -12 elsewhere */
	LOGITS_MASKED,                 /* two thirds -inf */
	LOGITS_HUGE,                   /* uniform in +-10000 */
	LOGITS_LOW,                    /* just above -PF_LOGIT_LIMIT */
	LOGITS_TINY,                   /* zeros of both signs and subnormals */
	LOGITS_KINDS
};
extern const char *const logit_kind_names[LOGITS_KINDS];

/* rows x vocab logits of one lane type; what lies beyond the vocabulary is NaN. z: the exact values of the lanes */
struct logits {
	int      bf16;
	uint32_t rows, vocab, lanes, beats;    /* lanes of a beat; beats of a row */
	void    *beat;
	double  *z;
};
uint32_t random_bits(uint64_t *state);
double   random_unit(uint64_t *state);        /* [0, 1) */
/* pad: beats of a row beyond those it needs */
void logits_make(struct logits *l, int bf16, uint32_t rows, uint32_t vocab, uint32_t pad);
void logits_set(struct logits *l, uint32_t row, uint32_t index, float value);
void logits_fill(struct logits *l, uint32_t row, enum logit_kind kind, uint64_t *state);
void logits_free(struct logits *l);
/* Lane `index` of a row of beats in the same layout */
double logits_lane(const struct logits *l, const void *beat, uint32_t row, uint32_t index);

void run_logprob(const struct kernel_build *build, const struct logits *l, const int32_t *target, uint32_t flags,
                 struct pf_row *row);
void run_logit_grad(const struct kernel_build *build, const struct logits *l, const int32_t *target, const float *coef,
                    const struct pf_row *row, void *dz);
#endif
