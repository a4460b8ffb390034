/* pref_lane.h: the operations of PF_OPS (abi.h) on one lane: one item, doubles. Kernel pref and the host's machine for
 * steps beyond a launch (host/train/loss_whole.c) share them, and so their bits.
 *
 * Whatever comes out at or below 2^-1022 is 0, so the bits do not depend on flushing. Comparisons with NaN are false,
 * min and max of NaN are NaN. `x` is the top of the stack, y and z lie below it. */
#ifndef PF_INTERNAL_PREF_LANE_H
#define PF_INTERNAL_PREF_LANE_H
#include "abi.h"
#include "kmath.h"
#include "kmath64.h"

static inline double pf_from_q32(int64_t q) { return (double)q * 0x1p-32; }
static inline double pf_widen(float x) { return (double)pf_same(x); }

/* Exact unless the difference itself leaves 64 bits, which sums of log-probabilities do not */
static inline double pf_difference(int64_t a, int64_t b)
{
	return pf_from_q32((int64_t)((uint64_t)a - (uint64_t)b));
}

static inline double pf_sign(uint32_t kind)
{
	return (kind & PF_ITEM_CHOSEN ? 1.0 : 0.0) - (kind & PF_ITEM_REJECTED ? 1.0 : 0.0);
}

static inline double pf_lane_item(uint32_t op, uint32_t operand, const struct pf_item *it)
{
	switch (op) {
	case PF_OP_L: return pf_from_q32(it->policy);
	case PF_OP_R: return pf_from_q32(it->reference);
	case PF_OP_OLD: return pf_from_q32(it->old);
	case PF_OP_U: return pf_difference(it->policy, it->reference);
	case PF_OP_N: return (double)it->n;
	case PF_OP_SIGN: return pf_sign(it->kind);
	case PF_OP_IS: return it->kind & operand ? 1.0 : 0.0;
	case PF_OP_SCORE: return pf_widen(it->score);
	case PF_OP_MARGIN: return pf_widen(it->margin);
	case PF_OP_WEIGHT: return pf_widen(it->weight);
	case PF_OP_ADV: return pf_widen(it->advantage);
	default: return 0.0;
	}
}

static inline double pf_nan_or(double a, double b, double value) { return a != a ? a : b != b ? b : value; }
static inline double pf_min(double a, double b) { return pf_nan_or(a, b, a < b ? a : b); }
static inline double pf_max(double a, double b) { return pf_nan_or(a, b, a > b ? a : b); }

static inline double pf_lane_binary(uint32_t op, double y, double x)
{
	switch (op) {
	case PF_OP_ADD: return pf_flush64(y + x);
	case PF_OP_SUB: return pf_flush64(y - x);
	case PF_OP_MUL: return pf_flush64(y * x);
	case PF_OP_DIV: return pf_flush64(y / x);
	case PF_OP_MIN: return pf_min(y, x);
	case PF_OP_MAX: return pf_max(y, x);
	case PF_OP_LT: return y < x ? 1.0 : 0.0;
	case PF_OP_LE: return y <= x ? 1.0 : 0.0;
	case PF_OP_EQ: return y == x ? 1.0 : 0.0;
	default: return 0.0;
	}
}

static inline double pf_lane_unary(uint32_t op, double x)
{
	switch (op) {
	case PF_OP_NEG: return -x;
	case PF_OP_ABS: return pf_float64(pf_bits64(x) & PF_F64_ABS);
	case PF_OP_EXP: return pf_exp64(x);
	case PF_OP_LOG: return pf_log64(x);
	case PF_OP_LOG1P: return pf_log1p64(x);
	case PF_OP_EXPM1: return pf_expm1_64(x);
	case PF_OP_SIGMOID: return pf_sigmoid64(x);
	case PF_OP_SOFTPLUS: return pf_softplus64(x);
	case PF_OP_LOG1MEXP: return pf_log1mexp64(x);
	default: return 0.0;
	}
}

/* What an operation that takes `takes` slots leaves on top; `given`: a scalar or a register */
static inline double pf_lane(uint32_t op, uint32_t operand, uint32_t takes, const struct pf_item *it, double given,
                             double x, double y, double z)
{
	switch (op) {
	case PF_OP_CONST:
	case PF_OP_PAR:
	case PF_OP_SCALAR:
	case PF_OP_LOAD: return given;
	case PF_OP_DUP: return x;
	case PF_OP_SWAP:
	case PF_OP_OVER: return y;
	case PF_OP_SELECT: return z != 0.0 ? y : x;
	default: break;
	}
	if (takes == 0)
		return pf_lane_item(op, operand, it);
	return takes == 1 ? pf_lane_unary(op, x) : pf_lane_binary(op, y, x);
}
#endif
