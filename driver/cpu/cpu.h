/* cpu.h: the words inside backend `cpu`.
 *
 * logprob and logit_grad exist once per instruction set (logprob.c and logit_grad.c, compiled with different target
 * flags); the other kernels are plain C. All of them work on a range of rows, sequences or everything, need no lock and
 * keep no state; cpu.c spreads row ranges over threads. Rows never share a sum, so neither the number of threads nor
 * the split changes a bit; the instruction set does, within the bounds that tests/cpu.c states. */
#ifndef PF_CPU_H
#define PF_CPU_H
#include <stddef.h>
#include "prefpga/internal/abi.h"

struct pf_cpu_logprob {
	const char    *z;              /* [T, V], rows `stride` bytes apart, each on a 64-byte boundary */
	const int32_t *target;
	struct pf_row *out;
	size_t         stride;
	uint32_t       vocab, flags;
	int            bf16;
};
struct pf_cpu_logit_grad {
	const char          *z;
	const int32_t       *target;
	const float         *coef;
	const struct pf_row *row;
	char                *dz;       /* may be z */
	size_t               stride;
	uint32_t             vocab;
	int                  bf16;
	int                  stream;   /* 1: dz is not wanted in cache */
};

struct pf_cpu_level {
	const char *name;
	int       (*present)(void);
	void      (*logprob)(const struct pf_cpu_logprob *job, uint32_t begin, uint32_t end);
	void      (*logit_grad)(const struct pf_cpu_logit_grad *job, uint32_t begin, uint32_t end);
};
/* Levels built into this library, the fastest first; each L(name) has an object in CMakeLists.txt */
#if defined(__x86_64__)
#define PF_CPU_LEVELS(L) L(avx512) L(avx2) L(baseline)
#else
#define PF_CPU_LEVELS(L) L(baseline)
#endif
#define PF_CPU_PASTE_(a, b) a##_##b
#define PF_CPU_PASTE(a, b) PF_CPU_PASTE_(a, b)
#define PF_CPU_PROTOTYPES(level) \
	void pf_cpu_logprob_##level(const struct pf_cpu_logprob *job, uint32_t begin, uint32_t end); \
	void pf_cpu_logit_grad_##level(const struct pf_cpu_logit_grad *job, uint32_t begin, uint32_t end);
PF_CPU_LEVELS(PF_CPU_PROTOTYPES)

/* One sequence */
void pf_cpu_seq_sum(const struct pf_row *row, uint32_t rows, const struct pf_span *span, struct pf_seq *out);
void pf_cpu_coef(const struct pf_item_out *item, const struct pf_span *span, float *out, uint32_t rows, uint32_t seqs,
                 float tail);

struct pf_cpu_pref {
	const double         *par;
	const uint32_t       *prog;
	const struct pf_item *item;
	const uint32_t       *group;
	struct pf_item_out   *out;
	uint32_t              words, items, groups;
};
/* Returns 0 or -ENOMEM; a malformed program shows in the items' statuses */
int pf_cpu_pref(const struct pf_cpu_pref *job);
#endif
