/* What a token's part of the vocabulary is as struct pf_shard: sums in double as the integers that kernels count in
 * (row_sum.h), so that shards of every backend merge. All of a sum may lie in the highest bins: only its value
 * matters. */
#include "cpu.h"
#pragma GCC diagnostic ignored "-Wunused-label"        /* labels name loops for HLS */
#include "prefpga/internal/row_sum.h"

#define LN2 0.693147180559945309

/* A value in units of the highest bin as four integers */
static void put(double value, int64_t bin[PF_BINS])
{
	for (int w = 0; w < PF_BINS; w++) {
		const double whole = floor(value);
		bin[w] = (int64_t)whole;
		value = (value - whole) * 0x1p16;
	}
}

/* The target's term exactly as kernels count it: the record subtracts it again */
static void add_target(float target, struct pf_shard *s)
{
	float left;
	const uint32_t at = pf_exp_at(target, &left), down = (uint32_t)s->top - (at >> 4);
	if (at != 0 && down < PF_BINS)
		s->sum[down] += pf_term_shifted(pf_exp_term(left), at);
}

/* Sum of e^z (z - foot) by bins: what the record adds up is the same whichever bin holds what */
static void put_moment(const struct pf_cpu_part *p, double target, struct pf_shard *s)
{
	const int32_t exponent = 16 * (s->top - PF_SUM_BIN0) - 24;
	const double foot = (exponent + 24) * LN2;
	double sum = ldexp(p->moment + p->sum * ((double)p->shift - foot), p->base - exponent);
	if (target > -(double)PF_LOGIT_LIMIT)
		sum += exp(target - foot) * 0x1p24 * (target - foot);
	for (int w = 1; w < PF_BINS; w++)
		sum += ldexp((double)s->sum[w], -16 * w) * (16 * w * LN2);     /* lower bins have lower feet */
	put(sum, s->moment);
}

static void put_square(const struct pf_cpu_part *p, double target, struct pf_shard *s)
{
	const int32_t exponent = 16 * (s->top_p2 - (int32_t)((uint32_t)PF_BIAS >> 3)) - 25;
	double sum = ldexp(p->square, 2 * p->base - exponent);
	if (target > -(double)PF_LOGIT_LIMIT)
		sum += exp(2 * target - exponent * LN2);
	put(sum, s->sum_p2);
}

static void put_sums(const struct pf_cpu_linear *h, const struct pf_cpu_part *p, float target, struct pf_shard *s)
{
	float left;
	const uint32_t place = pf_exp_at(s->max, &left);
	if (place == 0)
		return;
	s->top = (int32_t)(place >> 4);
	s->top_p2 = (int32_t)(place >> 3);
	const double largest = p->max == s->max ? (double)pf_term_shifted(pf_exp_term(left), place) : 0;
	const double others = ldexp(p->sum, p->base + 24 - 16 * (s->top - PF_SUM_BIN0));
	put(others < largest ? largest : others, s->sum);
	add_target(target, s);
	if (h->stats) {
		put_moment(p, (double)target, s);
		put_square(p, (double)target, s);
	}
}

void pf_cpu_shard(const struct pf_cpu_linear *h, const struct pf_cpu_part *p, uint32_t t, struct pf_shard *out)
{
	const uint32_t y = (uint32_t)h->target[t];
	const float target = y < h->vocab ? p->target : -INFINITY;
	const int wins = y < h->vocab && (target > p->max || (target == p->max && y < p->top));
	struct pf_shard s = { .top = PF_TOP_NONE, .top_p2 = PF_TOP_NONE, .max = wins ? target : p->max,
		              .argmax = wins ? y : p->top, .target = y < h->vocab ? p->target : 0 };
	if (h->target[t] < 0) {
		s = (struct pf_shard){ .status = PF_ROW_IGNORED };
	} else if (!(p->max < PF_LOGIT_LIMIT && target < PF_LOGIT_LIMIT && p->sum == p->sum)) {
		s.status = PF_ROW_RANGE;
	} else {
		put_sums(h, p, target, &s);
		if (h->stats)
			s.logits = p->min > -PF_LOGIT_LIMIT ? (int64_t)floor(p->logits * 0x1p24) : INT64_MIN;
	}
	*out = s;
}
