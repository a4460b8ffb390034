/* row_sum.h: exact, order-independent sums of exponentials.
 *
 * e^z = p 2^k with a 25-bit p, so p 2^(24 + k mod 16) is an integer. It is added, without rounding, to the 64-bit integer
 * of the 16 exponents with equal floor(k / 16): its bin. Only the four highest bins seen so far are kept, bin b in slot
 * b mod 4; a slot is cleared when the window moves past its bin. In the end the slots hold exactly the sums of the
 * elements in the four highest bins, whatever the order, the lanes, the tiles or the shards were; what was dropped is
 * below V 2^-48 of the sum. Room: an element is below 2^40, so 2^23 elements fit.
 *
 * The state of a row is struct pf_shard (abi.h):
 *	sum[], top         sum of e^z in units of 2^(16 bin + PF_SUM_ORIGIN)
 *	moment[], top      sum of e^z (z - foot of its bin), same units, each element cut to an integer
 *	sum_p2[], top_p2   sum of e^2z in units of 2^(16 bin + PF_SQUARE_ORIGIN); its bins are eight exponents k wide
 *	logits             sum of z in Q39.24 */
#ifndef PF_HLS_ROW_SUM_H
#define PF_HLS_ROW_SUM_H
#include "prefpga/internal/abi.h"
#include "prefpga/internal/kmath.h"
#include "prefpga/internal/kmath64.h"

#define PF_BINS           4
#define PF_BIAS           16384        /* makes every exponent positive */
#define PF_SUM_ORIGIN     (-PF_BIAS - 24)
#define PF_SQUARE_ORIGIN  (-2 * PF_BIAS - 25)
#define PF_SUM_BIN(k)     ((k) >> 4)
#define PF_SQUARE_BIN(k)  ((k) >> 3)

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

/* e^z = p 2^(k - PF_BIAS), and what the reduction leaves of z. A logit of probability 0: p = 0, k = 0 */
struct pf_power { float p, left; int32_t k; };
static inline struct pf_power pf_power(float z)
{
	struct pf_power e;
	int32_t k;
	int live = z > -PF_LOGIT_LIMIT;
	e.left = pf_exp_reduce(live ? z : 0.0f, &k);
	e.p = live ? pf_exp_poly(e.left) : 0.0f;
	e.k = live ? k + PF_BIAS : 0;
	return e;
}

/* The integers of an element */
static inline int64_t pf_term(struct pf_power e)
{
	uint32_t m = (uint32_t)(e.p * 0x1p24f);
	return (int64_t)((uint64_t)m << (e.k & 15));
}
static inline int64_t pf_moment_term(struct pf_power e)
{
	float above = (float)(e.k & 15) * 0x1.62e43p-1f + e.left;
	float t = e.p * above;
	return (int64_t)pf_scale(t, 24 + (e.k & 15));
}
static inline int64_t pf_square_term(struct pf_power e)
{
	uint32_t m = (uint32_t)(e.p * e.p * 0x1p25f);
	return (int64_t)((uint64_t)m << (2 * (e.k & 7)));
}

/* The bin that slot j holds: the one of top, top - 1, top - 2, top - 3 that is j modulo 4 */
static inline int32_t pf_slot_bin(int32_t top, int j) { return top - ((top - j) & (PF_BINS - 1)); }

/* Moves a window up from bin `from` to bin `to` */
static inline void pf_bins_move(int64_t bin[PF_BINS], int32_t from, int32_t to)
{
slots:
	for (int j = 0; j < PF_BINS; j++) {
#pragma HLS UNROLL factor=4
		bin[j] = pf_slot_bin(to, j) == pf_slot_bin(from, j) ? bin[j] : 0;
	}
}

/* The bins as one number in units of 2^(16 top) */
static inline double pf_bins_value(const int64_t bin[PF_BINS], int32_t top)
{
	double low = (double)bin[(top - 3) & 3] * 0x1p-16 + (double)bin[(top - 2) & 3];
	double high = (double)bin[(top - 1) & 3] * 0x1p-16 + (double)bin[top & 3];
	return low * 0x1p-32 + high;
}
#endif
