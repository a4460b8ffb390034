/* row_finish.h: from the integers of a row (row_sum.h) to its record. In double, so that what remains is the error of
 * the exponentials. Near certainty everything is formed from what is left without the largest element: no
 * cancellation. */
#ifndef PF_INTERNAL_ROW_FINISH_H
#define PF_INTERNAL_ROW_FINISH_H
#include "kmath64.h"
#include "row_sum.h"

#define PF_LN2_64 0x1.62e42fefa39efp-1

/* The window as one number in units of 2^(16 top) */
static inline double pf_bins_value(const int64_t bin[PF_BINS])
{
	const double low = (double)bin[3] * 0x1p-16 + (double)bin[2];
	const double high = (double)bin[1] * 0x1p-16 + (double)bin[0];
	return low * 0x1p-32 + high;
}

/* One exponential: e^2z as well as e^z */
struct pf_term { int32_t q, q_p2; uint32_t at; float left; };

static inline struct pf_term pf_term_of(float z)
{
	struct pf_term t;
	t.at = pf_exp_at(z, &t.left);
	t.q = pf_exp_term(t.left);
	t.q_p2 = pf_square_term(t.q);
	return t;
}

/* The same without one term */
static inline double pf_bins_rest(const int64_t bin[PF_BINS], int32_t top, int32_t q, uint32_t at)
{
	int64_t rest[PF_BINS];
#pragma HLS ARRAY_PARTITION variable=rest complete
window:
	for (uint32_t w = 0; w < PF_BINS; w++) {
#pragma HLS UNROLL factor=4
		rest[w] = bin[w] - ((uint32_t)top - w == at >> 4 ? pf_term_shifted(q, at) : 0);
	}
	return pf_bins_value(rest);
}

/* One term in units of 2^(16 top) */
static inline double pf_term_value(int32_t q, uint32_t at, int32_t top)
{
	const uint32_t down = (uint32_t)top - (at >> 4);
	return down < 60 ? pf_scale64((double)pf_term_shifted(q, at), -16 * (int32_t)down) : 0.0;
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

/* sum = 2^exp2 / inv */
static inline void pf_row_sum(double sum, int32_t top, struct pf_row *row)
{
	const uint64_t b = pf_bits64(sum);
	row->inv = (float)(1.0 / pf_float64((b & 0xfffffffffffffu) | PF_F64_ONE));
	row->exp2 = (int32_t)(b >> 52) - 1023 - 24 + 16 * (top - PF_SUM_BIN0);
	if (row->inv == 0.5f) {
		row->inv = 1.0f;
		row->exp2++;
	}
}

/* log sum e^(z - max): from the rest when that is the smaller part */
static inline double pf_row_log_sum(const struct pf_shard *s, double sum)
{
	struct pf_term t = pf_term_of(s->max);
	double rest = pf_bins_rest(s->sum, s->top, t.q, t.at), largest = (double)pf_term_shifted(t.q, t.at);
	if (rest < largest)
		return pf_log1p64(rest / largest);
	return pf_log64(sum) + ((double)(16 * (s->top - PF_SUM_BIN0) - 24) * PF_LN2_64 - (double)s->max);
}

static inline void pf_row_target(const struct pf_shard *s, double sum, double log_sum, struct pf_row *row)
{
	const struct pf_term t = pf_term_of(s->target);
	double rest = pf_bins_rest(s->sum, s->top, t.q, t.at), own = pf_term_value(t.q, t.at, s->top);
	double logp = (double)s->target - (double)s->max - log_sum;
	if (rest < own)
		logp = -pf_log1p64(rest / own);
	row->target = s->target;
	row->rest = pf_narrow(rest / sum);
	row->logp_q32 = pf_q32(logp);
	row->logp = pf_narrow(logp);
}

static inline void pf_row_no_target(uint32_t status, struct pf_row *row)
{
	int masked = status & PF_ROW_MASKED;
	row->logp_q32 = PF_Q32_NONE;
	row->logp = row->target = pf_float(masked ? PF_F32_SIGN | PF_F32_INF : PF_F32_NAN);
	row->rest = masked ? 1.0f : pf_float(PF_F32_NAN);
}

/* sum p (max - z), formed without the largest term, which contributes nothing */
static inline double pf_row_below(const struct pf_shard *s, double sum)
{
	const struct pf_term t = pf_term_of(s->max);
	const int64_t own = pf_term_shifted(t.q, t.at);
	const int64_t own_moment = pf_term_shifted(pf_moment_term(t.q, t.at, t.left), t.at);
	double below = 0.0;
window:
	for (int32_t w = PF_BINS - 1; w >= 0; w--) {
#pragma HLS UNROLL factor=4
		const double foot = (double)(16 * (s->top - w - PF_SUM_BIN0)) * PF_LN2_64;
		const double n = (double)(s->sum[w] - (w == 0 ? own : 0));
		const double m = (double)(s->moment[w] - (w == 0 ? own_moment : 0));
		below = below * 0x1p-16 + (n * ((double)s->max - foot) - m);
	}
	return below > 0.0 ? below / sum : 0.0;
}

static inline void pf_row_stats(const struct pf_shard *s, double sum, double log_sum, uint32_t vocab,
                                struct pf_row *row)
{
	const struct pf_term t = pf_term_of(s->max);
	double square = (double)pf_term_shifted(t.q_p2, 2 * t.at);
	double rest = pf_bins_rest(s->sum_p2, s->top_p2, t.q_p2, 2 * t.at);
	row->entropy = pf_narrow(log_sum + pf_row_below(s, sum));
	row->log_sum_p2 = pf_narrow(pf_log1p64(rest / square) - 2.0 * log_sum);
	row->mean = pf_narrow((double)s->logits * 0x1p-24 / (double)vocab);
	if (s->logits == INT64_MIN)
		row->mean = pf_float(PF_F32_SIGN | PF_F32_INF);
}

static inline void pf_row_nan(struct pf_row *row, uint32_t flags)
{
	const float nan = pf_float(PF_F32_NAN), stat = flags & PF_WANT_STATS ? nan : 0.0f;
	pf_row_no_target(PF_ROW_TARGET, row);
	row->max = row->log_sum = nan;
	row->entropy = row->mean = row->log_sum_p2 = stat;
}

/* The final status of a whole row, whose state says RANGE or nothing */
static inline uint32_t pf_row_status_of(const struct pf_shard *s, int32_t target, uint32_t vocab)
{
	uint32_t status = s->status;
	if (status == 0 && !(s->max > -PF_LOGIT_LIMIT))
		status = PF_ROW_EMPTY;
	if ((uint32_t)target >= vocab)
		return status | PF_ROW_TARGET;
	if (status == 0 && !(s->target > -PF_LOGIT_LIMIT))
		status = PF_ROW_MASKED;
	return status;
}

/* The record of a row whose state has its final status */
static inline void pf_row_finish(const struct pf_shard *s, uint32_t vocab, uint32_t flags, struct pf_row *row)
{
	const struct pf_row zero = { 0 };
	*row = zero;
	row->status = s->status;
	if (s->status & PF_ROW_IGNORED)
		return;
	if (s->status & (PF_ROW_RANGE | PF_ROW_EMPTY)) {
		pf_row_nan(row, flags);
		return;
	}
	const double sum = pf_bins_value(s->sum), log_sum = pf_row_log_sum(s, sum);
	pf_row_sum(sum, s->top, row);
	row->max = s->max;
	row->log_sum = pf_narrow(log_sum);
	row->argmax = s->argmax;
	if (s->status & (PF_ROW_TARGET | PF_ROW_MASKED))
		pf_row_no_target(s->status, row);
	else
		pf_row_target(s, sum, log_sum, row);
	if (flags & PF_WANT_STATS)
		pf_row_stats(s, sum, log_sum, vocab, row);
}
#endif
