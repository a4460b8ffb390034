/* row_finish.h: from the integers of a row (row_sum.h) to its record. In double, so that what remains is the error of
 * the exponentials. Near certainty everything is formed from what is left without the largest element: no cancellation. */
#ifndef PF_HLS_ROW_FINISH_H
#define PF_HLS_ROW_FINISH_H
#include "row_sum.h"

#define PF_LN2_64 0x1.62e42fefa39efp-1

/* The bins without one element */
static inline double pf_bins_rest(const int64_t bin[PF_BINS], int32_t top, int64_t term, int32_t of)
{
	int64_t rest[PF_BINS];
slots:
	for (int j = 0; j < PF_BINS; j++) {
#pragma HLS UNROLL factor=4
		rest[j] = bin[j] - (pf_slot_bin(top, j) == of ? term : 0);
	}
	return pf_bins_value(rest, top);
}

/* One element in units of 2^(16 top): top >= its bin */
static inline double pf_term_value(int64_t term, int32_t of, int32_t top)
{
	int32_t down = top - of;
	return down < 60 ? pf_scale64((double)term, -16 * down) : 0.0;
}

/* Nats as Q31.32, to nearest */
static inline int64_t pf_q32(double x)
{
	double t = x * 0x1p32;
	return (int64_t)(t < 0.0 ? t - 0.5 : t + 0.5);
}

/* double to float; what rounds below 2^-126 is 0 */
static inline float pf_narrow(double x)
{
	double a = x < 0.0 ? -x : x;
	return a < 0x1p-126 ? 0.0f : (float)x;
}

static inline void pf_row_sum(double sum, int32_t top, struct pf_row *row)
{
	uint64_t b = pf_bits64(sum);
	int32_t e = (int32_t)(b >> 52) - 1023;
	row->inv = (float)(1.0 / pf_float64((b & 0xfffffffffffffu) | PF_F64_ONE));
	row->exp2 = e + 16 * top + PF_SUM_ORIGIN;
	if (row->inv == 0.5f) {
		row->inv = 1.0f;
		row->exp2++;
	}
}

/* log sum e^(z - max): from the rest when that is the smaller part */
static inline double pf_row_log_sum(double sum, double rest, double largest, int32_t top, float max)
{
	if (rest < largest)
		return pf_log1p64(rest / largest);
	return pf_log64(sum) + ((double)(16 * top + PF_SUM_ORIGIN) * PF_LN2_64 - (double)max);
}

static inline void pf_row_target(const struct pf_shard *s, double sum, double log_sum, struct pf_row *row)
{
	struct pf_power e = pf_power(s->target);
	double rest = pf_bins_rest(s->sum, s->top, pf_term(e), PF_SUM_BIN(e.k));
	double own = pf_term_value(pf_term(e), PF_SUM_BIN(e.k), s->top);
	double logp = (double)s->target - (double)s->max - log_sum;
	if (rest < own)
		logp = -pf_log1p64(rest / own);
	row->rest = pf_narrow(rest / sum);
	row->logp_q32 = pf_q32(logp);
	row->logp = pf_narrow(logp);
	if (s->status & PF_ROW_MASKED) {
		row->logp_q32 = PF_Q32_NONE;
		row->logp = pf_float(PF_F32_SIGN | PF_F32_INF);
	}
}

/* Mean distance of the logits below max, under p: sum p (max - z) without the largest element */
static inline double pf_row_below(const struct pf_shard *s, struct pf_power e, double sum)
{
	double below = 0.0;
	int64_t term = pf_term(e), moment = pf_moment_term(e);
bins:
	for (int w = PF_BINS - 1; w >= 0; w--) {
#pragma HLS UNROLL factor=4
		int j = (s->top - w) & (PF_BINS - 1);
		double foot = (double)(16 * (s->top - w) - PF_BIAS) * PF_LN2_64;
		double n = (double)(s->sum[j] - (w == 0 ? term : 0));
		double m = (double)(s->moment[j] - (w == 0 ? moment : 0));
		below = below * 0x1p-16 + (n * ((double)s->max - foot) - m);
	}
	return below > 0.0 ? below / sum : 0.0;
}

static inline void pf_row_stats(const struct pf_shard *s, double sum, double log_sum, uint32_t vocab,
                                struct pf_row *row)
{
	struct pf_power e = pf_power(s->max);
	double square = (double)pf_square_term(e);
	double rest = pf_bins_rest(s->sum_p2, s->top_p2, pf_square_term(e), PF_SQUARE_BIN(e.k));
	row->entropy = pf_narrow(log_sum + pf_row_below(s, e, sum));
	row->log_sum_p2 = pf_narrow(pf_log1p64(rest / square) - 2.0 * log_sum);
	row->mean = pf_narrow((double)s->logits * 0x1p-24 / (double)vocab);
	if (s->logits == INT64_MIN)
		row->mean = pf_float(PF_F32_SIGN | PF_F32_INF);
}

static inline void pf_row_nan(struct pf_row *row, uint32_t flags)
{
	float nan = pf_float(PF_F32_NAN), stat = flags & PF_WANT_STATS ? nan : 0.0f;
	row->logp_q32 = PF_Q32_NONE;
	row->logp = row->max = row->log_sum = row->target = row->rest = nan;
	row->entropy = row->mean = row->log_sum_p2 = stat;
}

static inline void pf_row_finish(const struct pf_shard *s, uint32_t vocab, uint32_t flags, struct pf_row *row)
{
	struct pf_row zero = { 0 };
	*row = zero;
	row->status = s->status;
	if (s->status & PF_ROW_IGNORED)
		return;
	if (s->status & (PF_ROW_RANGE | PF_ROW_EMPTY)) {
		pf_row_nan(row, flags);
		return;
	}
	struct pf_power e = pf_power(s->max);
	double sum = pf_bins_value(s->sum, s->top), largest = (double)pf_term(e);
	double rest = pf_bins_rest(s->sum, s->top, pf_term(e), s->top);
	double log_sum = pf_row_log_sum(sum, rest, largest, s->top, s->max);
	pf_row_sum(sum, s->top, row);
	row->max = s->max;
	row->log_sum = pf_narrow(log_sum);
	row->target = s->target;
	row->argmax = s->argmax;
	if (s->status & PF_ROW_TARGET) {
		row->logp_q32 = PF_Q32_NONE;
		row->logp = row->target = row->rest = pf_float(PF_F32_NAN);
	} else {
		pf_row_target(s, sum, log_sum, row);
	}
	if (flags & PF_WANT_STATS)
		pf_row_stats(s, sum, log_sum, vocab, row);
}
#endif
