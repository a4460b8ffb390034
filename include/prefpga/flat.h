/* flat.h: log-probs, gradients and losses for callers that are no C compilers: Python's ctypes, cffi, Julia, Lua.
 *
 * Every argument is a number, a C string, an opaque pointer, or a pointer to an array of numbers. No struct
 * crosses the border, so nothing can drift when this library grows: what a release has keeps its signature; what
 * changes gets a new name, and pf_flat_version tells which names there are. examples/torch_head.py is a caller.
 *
 * Errors: functions return 0 or a negative code, and then put the message into text[size] (text may be NULL).
 * Ownership: arrays are the caller's and are not looked at after the call, except where a head says so. Arrays are
 * dense, in C order, and need no alignment beyond their type's.
 * Threads: different devices and heads in parallel; one head belongs to one thread at a time.
 *
 * Sequences are rows offset[i] .. offset[i + 1] - 1 of the matrix; offset[sequences + 1] begins with 0 and ends
 * with the number of rows. A sum of log-probs is in nats as Q31.32, that is, an integer of 2^-32 nat: exact in any
 * order. */
#ifndef PREFPGA_FLAT_H
#define PREFPGA_FLAT_H
#include <stdint.h>
#include "device.h"
#ifdef __cplusplus
extern "C" {
#endif

enum { PF_FLAT_VERSION = 3 };
/* PF_FLAT_VERSION of the library that is loaded; rises when functions are added: 2 with pf_flat_head_open_as,
 * 3 with prompt_tokens of pf_flat_loss (before the first release) */
PF_API int pf_flat_version(void);
/* Number behind a name, -1 if unknown. Types of logits: "f32", "f16", "bf16". Kinds of items: "chosen",
 * "rejected", "extra", "prompt". Bits of pf_flat_loss_needs: "reference", "z0", "delta", "tokens", "per_item",
 * "per_token", "own_weights", "tail", "coupled", "prompts" */
PF_API int pf_flat_number(const char *name);

/* pf_device_open; memory_bytes and threads 0: all. NULL after an error. Close with pf_device_close */
PF_API struct pf_device *pf_flat_open(const char *spec, uint64_t memory_bytes, uint32_t threads, char *text,
                                      uint64_t size);

/* sum[sequences], and logp[rows] in nats if it is not NULL, of logits[rows, vocab]. target[rows]: ids; a negative
 * one is not scored. The rows are streamed through the device in chunks of some MiB; nothing of the matrix is
 * kept. PF_E_NOT_FINITE names the first row without a finite log-prob */
PF_API int pf_flat_logps(struct pf_device *device, const void *logits, int type, uint64_t rows, uint64_t vocab,
                         const int32_t *target, const uint64_t *offset, uint64_t sequences, int64_t *sum, float *logp,
                         char *text, uint64_t size);
/* dlogits[rows, vocab] in the logits' type, from grad[sequences] = dL/d(sum): grad (onehot - softmax) on scored
 * rows, 0 on others. dlogits may be logits itself: each row is then overwritten after its last use */
PF_API int pf_flat_logps_grad(struct pf_device *device, const void *logits, int type, uint64_t rows, uint64_t vocab,
                              const int32_t *target, const uint64_t *offset, uint64_t sequences, const double *grad,
                              void *dlogits, char *text, uint64_t size);

/* The same from hidden[rows, dim] and weight[vocab, dim], float32, without logits[rows, vocab] in the caller's
 * memory: a head is workspace for one shape, over one device. memory_bytes 0: half of the device's */
struct pf_flat_head;
PF_API struct pf_flat_head *pf_flat_head_open(struct pf_device *device, uint32_t vocab, uint32_t dim,
                                              uint64_t memory_bytes, uint32_t threads, char *text, uint64_t size);
/* The same with products in "fp32", "bf16" (hidden states and weight rounded, sums in float32, dhidden comes back
 * rounded) or "mxint8" (8-bit integers with a power of two per 32, forward; the way back is bf16's). All arrays stay
 * float32 */
PF_API struct pf_flat_head *pf_flat_head_open_as(struct pf_device *device, const char *precision, uint32_t vocab,
                                                 uint32_t dim, uint64_t memory_bytes, uint32_t threads, char *text,
                                                 uint64_t size);
PF_API void pf_flat_head_close(struct pf_flat_head *head);      /* NULL is allowed */
/* Every target is scored. hidden and weight must stay as they are until _grad or the next forward; target and
 * offset need not */
PF_API int pf_flat_head_logps(struct pf_flat_head *head, const float *hidden, const float *weight,
                              const int32_t *target, uint64_t rows, const uint64_t *offset, uint64_t sequences,
                              int64_t *sum, char *text, uint64_t size);
/* Of the last forward. dhidden[rows, dim] is overwritten; dweight[vocab, dim] is added to, and may be NULL */
PF_API int pf_flat_head_logps_grad(struct pf_flat_head *head, const double *grad, float *dhidden, float *dweight,
                                   char *text, uint64_t size);

/* Name of loss number i, NULL past the last; and of what it is computed: "pair", "binary", "triple", "list", "rollout"
 * or "tokens", NULL if there is no such loss */
PF_API const char *pf_flat_loss_name(uint32_t i);
PF_API const char *pf_flat_loss_form(const char *loss);
/* Sum of the bits of what a loss ("ipo:beta=0.2", as in loss.h) needs, or a negative code. per_item: each item has its
 * own loss; per_token: items are tokens, groups sequences; own_weights: weights are the policy's own (WPO); tail: sums
 * are those of LD-DPO; coupled: a step must be evaluated in one call; prompts: items of kind "prompt" count, as do
 * prompt_tokens; the others are scalars of a step */
PF_API int pf_flat_loss_needs(const char *loss, char *text, uint64_t size);
/* *value of a parameter ("beta", "weight") of component number `component`; PF_E_UNKNOWN if that loss has none */
PF_API int pf_flat_loss_parameter(const char *loss, uint32_t component, const char *name, double *value, char *text,
                                  uint64_t size);
/* A loss over items[count] in groups[group_count + 1] (first item of each group, then count); loss.h says what items,
 * groups and the scalars of a step are. reference, old, score, margin and advantage may be NULL: zeros; weight: ones.
 * *total: the loss; grad[count]: dL/d(policy sum), in loss per nat; each[count], which may be NULL: of the item's
 * group or of the item, not divided. scored_tokens: of the step's chosen items; prompt_tokens: of its items of kind
 * "prompt". Only likelihood divides by them, and only likelihood of prompts by their sum. PF_E_NOT_FINITE when a group
 * has no finite loss */
PF_API int pf_flat_loss(struct pf_device *device, const char *loss, uint64_t count, const int64_t *policy,
                        const int64_t *reference, const int64_t *old, const uint32_t *tokens, const int32_t *kind,
                        const float *score, const float *margin, const float *weight, const float *advantage,
                        const uint32_t *groups, uint64_t group_count, double divisor, double z0, double delta,
                        double scored_tokens, double prompt_tokens, double *total, double *grad, double *each,
                        char *text, uint64_t size);
#ifdef __cplusplus
}
#endif
#endif
