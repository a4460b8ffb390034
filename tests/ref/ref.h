/* ref.h: the plain reference of every built kernel, for tests only.
 *
 * Written from abi.h's text alone: long double, libm, no tricks, no code of ours. Inputs are the same records that the
 * kernels read; results are wide, so that a test measures the kernel's error and not the reference's.
 * Where a row has no number (status), the reference says NaN, -inf or 0 as abi.h does.
 * Thread-safe. Functions that need memory abort the test program when there is none. */
#ifndef PF_TESTS_REF_H
#define PF_TESTS_REF_H
#include <stddef.h>
#include <stdint.h>
#include "prefpga/internal/abi.h"

/* ---- numbers ---- */
double ref_from_bf16(uint16_t bits);
double ref_from_f16(uint16_t bits);
/* Nearest, ties to even; NaN stays NaN */
uint16_t ref_to_bf16(double value);
uint16_t ref_to_f16(double value);
/* One unit in the last place of fp32 at |value|, not below the smallest normal's */
double ref_ulp32(double value);

/* ---- logprob ---- */
struct ref_row {
	long double logp, max, log_sum, target, rest;      /* log_sum = log sum exp(z - max); rest = 1 - p(target) */
	long double entropy, mean, log_sum_p2;             /* always computed */
	uint32_t    argmax, status;                        /* enum pf_row_status */
};
/* One row of logits z[vocab] */
void ref_logprob(const double *z, uint32_t vocab, int32_t target, struct ref_row *out);

/* ---- logit_grad: dz[vocab] = c (softmax(z) - onehot(target)) from the logits themselves; 0 for rows of any status */
void ref_logit_grad(const double *z, uint32_t vocab, int32_t target, double c, long double *dz);

/* ---- seq_sum ---- */
struct ref_seq {
	int64_t     logp, logp_tail;                       /* exact */
	long double entropy, log_weight, mean_logit;       /* nats; a kernel may differ by n * 2^-32 */
	uint32_t    n, hits, status;
};
/* Bad rows add their n and status only; a span outside the rows has status PF_ROW_RANGE and nothing else */
void ref_seq_sum(const struct pf_row *row, uint32_t rows, const struct pf_span *span, struct ref_seq *out);

/* ---- pref ---- */
struct ref_item_out {
	long double loss, grad;
	uint32_t    status, group;
};
/* Runs a well-formed program (aborts on another). The loss of a group is that of its first item. A group with a bad
 * member is invalid as a whole: loss NaN, grad 0, for every member */
void ref_pref(const double *par, const uint32_t *prog, const struct pf_item *item, uint32_t items,
              const uint32_t *group, uint32_t groups, struct ref_item_out *out);
/* One program from word `start` on, component c, over all items: result[items] */
void ref_pref_run(const double *par, const uint32_t *prog, uint32_t start, unsigned component,
                  const struct pf_item *item, uint32_t items, const uint32_t *group, uint32_t groups,
                  long double *result);

/* The same, and how far each branch was from going the other way: a - b where a program compares a and b, takes the
 * smaller or larger one, or ranks; a at |a|. In the order of execution, lane by lane, behind gaps->count; the memory
 * grows and is the caller's to free. gaps may be NULL */
struct ref_gap  { uint32_t at; long double difference; };      /* at: word of prog[] */
struct ref_gaps { struct ref_gap *gap; size_t count, room; };
void ref_pref_branches(const double *par, const uint32_t *prog, uint32_t start, unsigned component,
                       const struct pf_item *item, uint32_t items, const uint32_t *group, uint32_t groups,
                       long double *result, struct ref_gaps *gaps);

/* ---- coef: c[rows] = -grad, times `tail` from split on; 0 outside the spans ---- */
void ref_coef(const struct pf_item_out *item, const struct pf_span *span, uint32_t seqs, uint32_t rows,
              double tail, double *c);
#endif
