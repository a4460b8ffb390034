/* row_sum.h: exact, order-independent sums of exponentials.
 *
 * A term is an integer q, |q| < 2^28, at a position `at` (an exponent, biased to be positive): q 2^at. It is added,
 * without rounding, as q 2^(at mod 16) to the 64-bit integer of its bin, at / 16. Only the four highest bins seen so
 * far are kept, bin b in slot b mod 4; a slot is cleared when the window moves past its bin. In the end the slots hold
 * exactly the sums of the terms in the four highest bins, whatever the order, the lanes, the tiles or the shards were;
 * what was dropped of a sum of V exponentials is below V 2^-48 of it. Room: 2^18 terms of any kind fit.
 *
 * The finished state of a row is struct pf_shard (abi.h), bin top - w in element w; with e^z = p 2^k, 0.70 < p < 1.42:
 *	sum, top           e^z:            q = p 2^24 (exact), at = k + PF_BIAS
 *	moment, top        e^z (z - foot): q = p 2^24 (z - foot) cut to an integer;
 *	                   foot: natural logarithm of the bin's lowest 2^k
 *	sum_p2, top_p2     e^2z:           q = p^2 2^25, at = 2 (k + PF_BIAS)
 *	logits             sum of z in Q39.24, each cut; INT64_MIN: some z counts as -inf */
#ifndef PF_INTERNAL_ROW_SUM_H
#define PF_INTERNAL_ROW_SUM_H
#include "abi.h"
#include "kmath.h"

#define PF_BINS       4
#define PF_TOP_NONE   8                /* window of a row without terms: below any of theirs */
#define PF_BIAS       0x4b400000       /* the bits of PF_MAGIC: what pf_exp_reduce subtracts, the compiler need not */
#define PF_SUM_BIN0   (PF_BIAS >> 4)   /* bin of 2^0 */
#define PF_LN2_F32    0x1.62e43p-1f

/* Order of logits as unsigned integers: NaN of either sign and +inf on top, -inf is 0, -0 below +0 */
static inline uint32_t pf_key(float z)
{
	uint32_t b = pf_bits(z), negative = 0u - (b >> 31);
	return (b ^ (negative & PF_F32_ABS)) + (PF_F32_INF + 1u);
}
static inline float pf_key_logit(uint32_t key)
{
	uint32_t b = key - (PF_F32_INF + 1u), negative = 0u - (b >> 31);
	return pf_float(b ^ (negative & PF_F32_ABS));
}

/* Position of e^z, 0 if its probability counts as 0; *left: what the reduction leaves of z */
static inline uint32_t pf_exp_at(float z, float *left)
{
	const uint32_t live = 0u - (uint32_t)(z > -PF_LOGIT_LIMIT);
	int32_t k;
	*left = pf_exp_reduce(pf_float(pf_bits(z) & live), &k);
	return (uint32_t)(k + PF_BIAS) & live;
}

/* scale e^z 2^exp2, z reduced by pf_exp_at */
static inline float pf_scaled_power(float left, uint32_t at, float scale, int32_t exp2)
{
	const uint32_t g = pf_bits(pf_exp_poly(left, 1.0f) * scale);
	const uint32_t n = at + (uint32_t)exp2;
	const int32_t live = (int32_t)((g >> 23 & 255u) + n) > 0;
	return pf_float(at != 0 && live ? g + (n << 23) : 0u);
}

/* The integers of e^z, e^z (z - foot) and e^2z */
static inline int32_t pf_exp_term(float left) { return (int32_t)pf_exp_poly(left, 0x1p24f); }
static inline int32_t pf_moment_term(int32_t q, uint32_t at, float left)
{
	float above = (float)(int32_t)(at & 15u) * PF_LN2_F32 + left;
	return (int32_t)((float)q * above);
}
static inline int32_t pf_square_term(int32_t q)
{
	float p = (float)q;
	return (int32_t)(p * p * 0x1p-23f);
}

/* A term as it lies in its bin */
static inline int64_t pf_term_shifted(int32_t q, uint32_t at) { return (int64_t)q * (int64_t)(1u << (at & 15u)); }

/* The bin that slot j holds: the one of top, top - 1, top - 2, top - 3 that is j modulo 4 */
static inline uint32_t pf_slot_bin(uint32_t top, uint32_t j) { return top - ((top - j) & (PF_BINS - 1)); }

/* What the slots hold in the order of the window: bin top first */
static inline void pf_bins_window(const int64_t bin[PF_BINS], uint32_t top, int64_t window[PF_BINS])
{
window:
	for (uint32_t w = 0; w < PF_BINS; w++) {
#pragma HLS UNROLL factor=4
		window[w] = bin[(top - w) & (PF_BINS - 1)];
	}
}

/* Moves a window up from bin `from` to bin `to` */
static inline void pf_bins_move(int64_t bin[PF_BINS], uint32_t from, uint32_t to)
{
slots:
	for (uint32_t j = 0; j < PF_BINS; j++) {
#pragma HLS UNROLL factor=4
		bin[j] = pf_slot_bin(to, j) == pf_slot_bin(from, j) ? bin[j] : 0;
	}
}
#endif
