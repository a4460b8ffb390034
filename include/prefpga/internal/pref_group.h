/* pref_group.h: the reductions of PF_OPS over one group, the items [begin, end) of a vector; begin < end. Over all
 * items they serve the b-operations. The host's machine calls them on vectors longer than a launch.
 *
 * They add in the order of the items: that order is part of the numerics. The loop-carried double addition takes eight
 * cycles, hence II = 8; groups are small and partial sums would only change the order. NaN in gives NaN. */
#ifndef PF_INTERNAL_PREF_GROUP_H
#define PF_INTERNAL_PREF_GROUP_H
#include "pref_lane.h"

static inline double pf_group_sum(const double a[PF_ITEMS_MAX], uint32_t begin, uint32_t end)
{
	double sum = 0.0;
sum:
	for (uint32_t i = begin; i < end; i++) {
#pragma HLS PIPELINE II=8
#pragma HLS LOOP_TRIPCOUNT min=1 max=8192
		sum = pf_flush64(sum + a[i]);
	}
	return sum;
}

static inline double pf_group_max(const double a[PF_ITEMS_MAX], uint32_t begin, uint32_t end)
{
	double max = a[begin];
max:
	for (uint32_t i = begin; i < end; i++) {
#pragma HLS PIPELINE II=8
#pragma HLS LOOP_TRIPCOUNT min=1 max=8192
		max = pf_max(max, a[i]);
	}
	return max;
}

/* From the maximum, so that nothing overflows; an infinite maximum is the result */
static inline double pf_group_lse(const double a[PF_ITEMS_MAX], uint32_t begin, uint32_t end)
{
	const double max = pf_group_max(a, begin, end);
	double sum = 0.0;
	if (!(max - max == 0.0))
		return max;
sum:
	for (uint32_t i = begin; i < end; i++) {
#pragma HLS PIPELINE II=8
#pragma HLS LOOP_TRIPCOUNT min=1 max=8192
		sum += pf_exp64(a[i] - max);
	}
	return pf_flush64(max + pf_log64(sum));
}

static inline double pf_group_variance(const double a[PF_ITEMS_MAX], uint32_t begin, uint32_t end)
{
	const double n = (double)(end - begin), mean = pf_flush64(pf_group_sum(a, begin, end) / n);
	double sum = 0.0;
squares:
	for (uint32_t i = begin; i < end; i++) {
#pragma HLS PIPELINE II=8
#pragma HLS LOOP_TRIPCOUNT min=1 max=8192
		const double d = pf_flush64(a[i] - mean);
		sum = pf_flush64(sum + pf_flush64(d * d));
	}
	return end - begin < 2 ? sum : pf_flush64(sum / (n - 1.0));
}

static inline double pf_group_value(uint32_t op, const double a[PF_ITEMS_MAX], uint32_t begin, uint32_t end)
{
	switch (op) {
	case PF_OP_GSUM: return pf_group_sum(a, begin, end);
	case PF_OP_GMEAN: return pf_flush64(pf_group_sum(a, begin, end) / (double)(end - begin));
	case PF_OP_GMAX: return pf_group_max(a, begin, end);
	case PF_OP_GLSE: return pf_group_lse(a, begin, end);
	case PF_OP_GVAR: return pf_group_variance(a, begin, end);
	default: return (double)(end - begin);
	}
}

static inline double pf_group_rank(const double a[PF_ITEMS_MAX], uint32_t item, uint32_t begin, uint32_t end)
{
	const double own = a[item];
	uint32_t rank = 0, nan = 0;
others:
	for (uint32_t i = begin; i < end; i++) {
#pragma HLS PIPELINE II=1
#pragma HLS LOOP_TRIPCOUNT min=1 max=8192
		rank += a[i] > own || (a[i] == own && i < item);
		nan |= a[i] != a[i];
	}
	return nan ? pf_float64(PF_F64_NAN) : (double)rank;
}

static inline int pf_is_batch_op(uint32_t op) { return op >= PF_OP_BSUM && op <= PF_OP_BGET; }

static inline int pf_is_group_op(uint32_t op)
{
	switch (op) {
	case PF_OP_GSUM:
	case PF_OP_GMEAN:
	case PF_OP_GMAX:
	case PF_OP_GLSE:
	case PF_OP_GVAR:
	case PF_OP_GRANK:
	case PF_OP_GCOUNT: return 1;
	default: return 0;
	}
}
#endif
