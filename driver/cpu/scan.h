/* scan.h: the scan of a row of logits and its record, for logprob.c and linear_scan.c; included once per instruction
 * set.
 *
 * One pass, block by block: a block's exponentials are summed in fp32, at most 10 roundings deep, in units of the row's
 * power of two; a new maximum raises that power and the block is done again. Across blocks sums are double. The target
 * is left out of them and added in double at the end, so 1 - p(target) keeps its relative precision when p is near
 * 1. */
#ifndef PF_CPU_SCAN_H
#define PF_CPU_SCAN_H
#include "cpu.h"
#include "vexp.h"

enum { STEP = 4 * PF_VEC, BLOCK = 8 * STEP };  /* lanes of a turn of the inner loops, most lanes of a block */
#define LN2 0.693147180559945309
#define NEAR_LIMIT (-PF_LOGIT_LIMIT + 200.0f)  /* below it, logits that count as -inf could weigh in */

struct row {
	const char *z;
	uint32_t    vocab, target;
	int         bf16, stats, careful;
};

struct scan {
	double   sum[PF_VEC];          /* exp(z) 2^-base, without the target */
	double   square[PF_VEC];       /* its square */
	double   moment[PF_VEC];       /* exp(z) 2^-base (z - shift) */
	double   logits[PF_VEC];       /* z, with the target; the last three for PF_WANT_STATS */
	float    max, min, shift;      /* of all but the target (max, until finish); shift = base ln 2, rounded */
	int32_t  base;
	uint32_t top;                  /* first lane of the block that holds max */
};

struct totals { double sum, others, square, moment, logits; };

static int alive(float z)
{
	return z > -PF_LOGIT_LIMIT;
}

PF_INLINE pf_vec load(const char *z, uint32_t lane, int bf16)
{
	return bf16 ? vec_load_bf16((const uint16_t *)z + lane) : vec_load((const float *)z + lane);
}

/* Sum of the block's exponentials in units of 2^base, and its largest logit. A sum is of use only if base fits that */
PF_INLINE pf_vec block_sum(const char *z, uint32_t lanes, int bf16, int32_t base, float *largest)
{
	const struct vexp e = vexp_base(base);
	pf_vec max = vec_set(-INFINITY), s[4] = { vec_set(0), vec_set(0), vec_set(0), vec_set(0) };
	for (uint32_t i = 0; i < lanes; i += STEP)
		for (uint32_t j = 0; j < 4; j++) {
			const uint32_t lane = i + j * PF_VEC;
			const pf_vec x = load(z, lane, bf16);
			vec_fetch(z + (size_t)lane * (bf16 ? 2 : 4));
			max = vec_max(x, max);
			s[j] = vec_add(s[j], vexp(&e, x));
		}
	*largest = vec_largest(max);
	return vec_add(vec_add(s[0], s[1]), vec_add(s[2], s[3]));
}

PF_INLINE void block_stats(const char *z, uint32_t lanes, int bf16, struct scan *scan)
{
	const struct vexp e = vexp_base(scan->base);
	const pf_vec shift = vec_set(scan->shift);
	for (uint32_t i = 0; i < lanes; i += STEP) {
		pf_vec square = vec_set(0), moment = vec_set(0);
		for (uint32_t j = 0; j < STEP; j += PF_VEC) {
			pf_vec x = vec_max(e.low, load(z, i + j, bf16)), p = vexp(&e, x);
			square = vec_fma(p, p, square);
			moment = vec_fma(p, vec_sub(x, shift), moment);
		}
		vec_accumulate(scan->square, square);
		vec_accumulate(scan->moment, moment);
	}
}

PF_INLINE void block_logits(const char *z, int bf16, struct scan *scan)
{
	pf_vec sum = vec_set(0), min = vec_set(INFINITY);
	for (uint32_t i = 0; i < BLOCK; i += PF_VEC) {
		sum = vec_add(sum, load(z, i, bf16));
		min = vec_min(load(z, i, bf16), min);
	}
	vec_accumulate(scan->logits, sum);
	float least = -vec_largest(vec_sub(vec_set(0), min));
	scan->min = least < scan->min ? least : scan->min;
}

/* The same for lanes [first, end) */
static void some_logits(const struct row *row, uint32_t first, uint32_t end, struct scan *scan)
{
	for (uint32_t v = first; v < end; v++) {
		float x = vec_logit(row->z, row->bf16, v);
		scan->logits[0] += (double)x;
		scan->min = x < scan->min ? x : scan->min;
	}
}

/* Moves the sums to the power of two of a new maximum. NaN survives */
static void raise_base(struct scan *scan, float max)
{
	float bounded = max < PF_LOGIT_LIMIT ? max : PF_LOGIT_LIMIT;
	int32_t base = alive(max) ? (int32_t)lrintf(bounded * VEXP_LOG2E) : 0;
	float shift = (float)((double)base * LN2);
	double factor = alive(scan->max) ? ldexp(1, scan->base - base) : 0;
	for (int i = 0; i < PF_VEC; i++) {
		scan->moment[i] += scan->sum[i] * ((double)scan->shift - (double)shift);
		scan->moment[i] *= factor;
		scan->square[i] *= factor * factor;
		scan->sum[i] *= factor;
	}
	scan->max = max;
	scan->base = base;
	scan->shift = shift;
}

PF_INLINE void add_block(const char *z, uint32_t lanes, int bf16, uint32_t first, int stats, struct scan *scan)
{
	float max;
	pf_vec sum = block_sum(z, lanes, bf16, scan->base, &max);
	if (max > scan->max) {                                 /* rare, except in ascending rows */
		raise_base(scan, max);
		scan->top = first;
		sum = block_sum(z, lanes, bf16, scan->base, &max);
	}
	vec_accumulate(scan->sum, sum);
	if (stats)
		block_stats(z, lanes, bf16, scan);
}

static void copy_logits(const struct row *row, uint32_t first, uint32_t end, float *copy)
{
	if (!row->bf16)
		memcpy(copy, (const float *)row->z + first, (end - first) * sizeof *copy);
	for (uint32_t v = first; v < end && row->bf16; v++)
		copy[v - first] = vec_logit(row->z, row->bf16, v);
	for (uint32_t i = 0; i < end - first && row->careful; i++)
		copy[i] = copy[i] <= -PF_LOGIT_LIMIT ? -INFINITY : copy[i];
}

/* Lanes [first, end) padded with -inf; the target, and in a careful row what counts as -inf, left out */
static void add_copied(const struct row *row, uint32_t first, uint32_t end, struct scan *scan)
{
	_Alignas(64) float copy[BLOCK];
	const uint32_t lanes = (end - first + STEP - 1) / STEP * STEP;
	copy_logits(row, first, end, copy);
	for (uint32_t i = end - first; i < lanes; i++)
		copy[i] = -INFINITY;
	if (row->target - first < end - first)
		copy[row->target - first] = -INFINITY;
	add_block((const char *)copy, lanes, 0, first, row->stats, scan);
	if (row->stats)
		some_logits(row, first, end, scan);
}

PF_INLINE void add_row(const struct row *row, int bf16, int stats, struct scan *scan)
{
	for (uint32_t first = 0; first < row->vocab; first += BLOCK) {
		uint32_t end = row->vocab - first < BLOCK ? row->vocab : first + BLOCK;
		const char *z = row->z + (size_t)first * (bf16 ? 2 : 4);
		if (end - first < BLOCK || row->target - first < BLOCK || row->careful) {
			add_copied(row, first, end, scan);
			continue;
		}
		add_block(z, BLOCK, bf16, first, stats, scan);
		if (stats)
			block_logits(z, bf16, scan);
	}
}

static void scan_row(const struct row *row, struct scan *scan)
{
	*scan = (struct scan){ .max = -INFINITY, .min = INFINITY };
	if (row->bf16 && row->stats)
		add_row(row, 1, 1, scan);
	else if (row->bf16)
		add_row(row, 1, 0, scan);
	else if (row->stats)
		add_row(row, 0, 1, scan);
	else
		add_row(row, 0, 0, scan);
}

/* ---- from sums to the record ---- */
static uint32_t row_status(const struct row *row, const struct scan *scan, float target)
{
	double sum = 0;
	for (int i = 0; i < PF_VEC; i++)
		sum += scan->sum[i];
	uint32_t status = row->target < row->vocab ? 0 : PF_ROW_TARGET;
	if (!(scan->max < PF_LOGIT_LIMIT && target < PF_LOGIT_LIMIT && sum == sum))
		return status | PF_ROW_RANGE;
	if (!alive(scan->max) && !alive(target))
		return status | PF_ROW_EMPTY;
	return status || alive(target) ? status : PF_ROW_MASKED;
}

static struct totals add_target(struct scan *scan, float target)
{
	struct totals t = { 0 };
	if (target > scan->max)
		raise_base(scan, target);
	double d = (double)target - scan->base * LN2;
	double e = alive(target) ? exp(d) : 0;
	for (int i = 0; i < PF_VEC; i++) {
		t.others += scan->sum[i];
		t.square += scan->square[i];
		t.moment += scan->moment[i];
		t.logits += scan->logits[i];
	}
	t.sum = t.others + e;
	t.square += e * e;
	t.moment += e > 0 ? e * ((double)target - (double)scan->shift) : 0;
	return t;
}

static double within(double x, double low, double high)
{
	return x < low ? low : x > high ? high : x;
}

static void write_sum(const struct totals *t, const struct scan *scan, float target, uint32_t vocab,
                      struct pf_row *out)
{
	int exponent;
	float inv = (float)(0.5 / frexp(t->sum, &exponent));
	double log_sum = log(t->sum) + (scan->base * LN2 - (double)scan->max);
	if (target == scan->max)
		log_sum = log1p(t->others / (t->sum - t->others));
	out->max = scan->max;
	out->log_sum = (float)within(log_sum, 0, log(vocab));
	out->inv = inv > 0.5f ? inv : 0x1.000002p-1f;
	out->exp2 = scan->base + exponent - 1;
}

static void write_target(const struct totals *t, const struct scan *scan, float target, struct pf_row *out)
{
	double rest = t->others / t->sum;
	double logp = rest < 0.5 ? log1p(-rest) : (double)target - scan->base * LN2 - log(t->sum);
	int masked = !alive(target);
	out->target = masked ? -INFINITY : target;
	out->rest = (float)rest;
	out->logp = masked ? -INFINITY : (float)logp;
	out->logp_q32 = masked ? PF_Q32_NONE : llrint(logp * 0x1p32);
}

static void write_stats(const struct row *row, const struct totals *t, const struct scan *scan, struct pf_row *out)
{
	double log_sum = log(t->sum);
	double entropy = log_sum + (scan->base * LN2 - (double)scan->shift) - t->moment / t->sum;
	out->entropy = (float)within(entropy, 0, log(row->vocab));
	out->mean = alive(scan->min) ? (float)(t->logits / row->vocab) : -INFINITY;
	out->log_sum_p2 = (float)within(log(t->square) - 2 * log_sum, -log(row->vocab), 0);
}

static void write_none(struct pf_row *out, int stats)
{
	out->logp_q32 = PF_Q32_NONE;
	out->logp = out->max = out->log_sum = out->target = out->rest = NAN;
	if (stats)
		out->entropy = out->mean = out->log_sum_p2 = NAN;
}

/* top: index of the largest logit */
static void finish(const struct row *row, struct scan *scan, float target, uint32_t top, struct pf_row *out)
{
	out->status = row_status(row, scan, target);
	if (out->status & (PF_ROW_RANGE | PF_ROW_EMPTY)) {
		write_none(out, row->stats);
		return;
	}
	const struct totals t = add_target(scan, target);
	write_sum(&t, scan, target, row->vocab, out);
	out->argmax = top;
	write_target(&t, scan, target, out);
	if (row->stats)
		write_stats(row, &t, scan, out);
	if (out->status & PF_ROW_TARGET) {
		out->logp_q32 = PF_Q32_NONE;
		out->logp = out->target = out->rest = NAN;
	}
}
#endif
