/* shard.h: the head over devices, or several times over one, that share the vocabulary: each part holds a range of
 * words, its W, dW and logits, and sees every token.
 *
 * A forward leaves the raw state of every token and range (struct pf_shard), integers that merge without rounding, so
 * log-probs, sums and records have the bits of one device with all words, for any number of ranges; dW and dbias
 * too, since a word's sums are over tokens. dhidden is a sum over words: the parts' results are added in the order of
 * ranges, in fp32, so its last bits belong to the number of ranges. (Backend cpu counts in double: within its bound
 * instead.) Against one device, dhidden differs by at most both forms' roundings: (2 V / 64 + 128) 2^-24 of its sum
 * of absolute terms.
 *
 * Ranges are cut at multiples of 64 words; there are at most V / 64. Over the link go, beside what fused.h says,
 * 128 bytes a token and range out, 64 in. One thread per object; no waiting between calls: they return when done. */
#ifndef PF_TRAIN_SHARD_H
#define PF_TRAIN_SHARD_H
#include "fused.h"

struct pf_shards;

/* part[i] lies on device[i]; options.device is not looked at */
int  pf_shards_open(const struct pf_fused_options *options, struct pf_device *const *device, unsigned parts,
                    struct pf_shards **shards, struct pf_error *error);
void pf_shards_close(struct pf_shards *shards);                /* NULL is allowed */
/* As pf_fused_forward and pf_fused_backward with a wait behind them */
int  pf_shards_forward(struct pf_shards *shards, const struct pf_fused_weight *weight,
                       const struct pf_fused_tokens *tokens, struct pf_seq *sum, struct pf_row *row,
                       struct pf_error *error);
int  pf_shards_backward(struct pf_shards *shards, const float *coef, float *dhidden, float *dweight, float *dbias,
                        struct pf_error *error);
void pf_shards_forget(struct pf_shards *shards, const float *weight, enum pf_precision precision);     /* as of fused.h */
/* What the filter left out of the last backward, [T], over all ranges; NULL without one */
const struct pf_filtered *pf_shards_filtered(const struct pf_shards *shards);
unsigned pf_shards_parts(const struct pf_shards *shards);
enum pf_way pf_shards_way(const struct pf_shards *shards, const char **why);   /* of the first part */
uint64_t pf_shards_peak(const struct pf_shards *shards);       /* device memory of all parts together */

/* Adds the state of words that are counted from `first` on to `all`, the state of other words; `owner`: the target is
 * one of these words */
void pf_shard_add(struct pf_shard *all, const struct pf_shard *part, uint32_t first, int owner);
/* The record of a token, from its state over all words; flags: PF_WANT_STATS */
void pf_shard_finish(struct pf_shard *all, int32_t target, uint32_t vocab, uint32_t flags, struct pf_row *row);
#endif
