#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "tests/ref/ref.h"

/* ---- numbers ---- */
double ref_from_bf16(uint16_t bits)
{
	uint32_t wide = (uint32_t)bits << 16;
	float value;
	memcpy(&value, &wide, sizeof value);
	return value;
}

double ref_from_f16(uint16_t bits)
{
	int exponent = bits >> 10 & 31, fraction = bits & 1023;
	double value = exponent == 31 ? (fraction ? NAN : INFINITY)
	               : exponent     ? ldexp(1024 + fraction, exponent - 25)
	                              : ldexp(fraction, -24);
	return bits >> 15 ? -value : value;
}

/* Nearest even on a grid of `digits` bits with smallest exponent `low` (of the value's ulp) */
static double on_grid(double value, int digits, int low)
{
	int exponent;
	if (value == 0 || !isfinite(value))
		return value;
	frexp(value, &exponent);
	int ulp = exponent - digits > low ? exponent - digits : low;
	return ldexp(nearbyint(ldexp(value, -ulp)), ulp);
}

uint16_t ref_to_bf16(double value)
{
	float rounded = (float)on_grid(value, 8, -133);
	uint32_t wide;
	memcpy(&wide, &rounded, sizeof wide);
	return isnan(value) ? 0x7fc0 : (uint16_t)(wide >> 16);
}

uint16_t ref_to_f16(double value)
{
	uint16_t sign = signbit(value) ? 0x8000 : 0;
	double size = fabs(on_grid(value, 11, -24));
	int exponent;
	if (isnan(value))
		return 0x7e00;
	if (size >= 65536)
		return sign | 0x7c00;
	if (size < ldexp(1, -14))
		return sign | (uint16_t)ldexp(size, 24);
	frexp(size, &exponent);
	return sign | (uint16_t)((exponent + 14) << 10 | ((int)ldexp(size, 11 - exponent) & 1023));
}

double ref_ulp32(double value)
{
	int exponent;
	frexp(value, &exponent);
	return ldexp(1, (exponent < -125 || value == 0 ? -125 : exponent) - 24);
}

/* ---- logprob ---- */
static int dead(double z)
{
	return z <= -(double)PF_LOGIT_LIMIT;
}

static uint32_t row_status(const double *z, uint32_t vocab, int32_t target)
{
	uint32_t status = 0, live = 0;
	if (target < 0)
		return PF_ROW_IGNORED;
	for (uint32_t v = 0; v < vocab; v++) {
		if (!(z[v] < PF_LOGIT_LIMIT))
			status |= PF_ROW_RANGE;
		live += !dead(z[v]);
	}
	if (!live)
		status |= PF_ROW_EMPTY;
	if ((uint32_t)target >= vocab)
		return status | PF_ROW_TARGET;
	return status || !dead(z[target]) ? status : PF_ROW_MASKED;
}

struct sums { long double all, others, squares, moment, logits; };

static struct sums row_sums(const double *z, uint32_t vocab, int32_t target, long double max)
{
	struct sums s = { 0 };
	for (uint32_t v = 0; v < vocab; v++) {
		long double x = (long double)z[v] - max, e = dead(z[v]) ? 0 : expl(x);
		s.all += e;
		s.others += v == (uint32_t)target ? 0 : e;
		s.squares += e * e;
		s.moment += dead(z[v]) ? 0 : e * x;
		s.logits += dead(z[v]) ? -INFINITY : z[v];
	}
	return s;
}

static void row_no_numbers(struct ref_row *out, long double value)
{
	out->logp = out->max = out->log_sum = out->target = out->rest = value;
	out->entropy = out->mean = out->log_sum_p2 = value;
	out->argmax = 0;
}

static void row_target(const double *z, int32_t target, const struct sums *s, struct ref_row *out)
{
	if (out->status & PF_ROW_TARGET) {
		out->logp = out->target = out->rest = NAN;
		return;
	}
	out->target = dead(z[target]) ? -INFINITY : z[target];
	out->rest = s->others / s->all;
	out->logp = out->rest < 0.5L ? log1pl(-out->rest) : out->target - out->max - out->log_sum;
}

void ref_logprob(const double *z, uint32_t vocab, int32_t target, struct ref_row *out)
{
	out->status = row_status(z, vocab, target);
	if (out->status & PF_ROW_IGNORED) {
		row_no_numbers(out, 0);
		return;
	}
	row_no_numbers(out, NAN);
	if (out->status & (PF_ROW_RANGE | PF_ROW_EMPTY))
		return;
	for (uint32_t v = 1; v < vocab; v++)
		if (z[v] > z[out->argmax])
			out->argmax = v;
	out->max = z[out->argmax];
	struct sums s = row_sums(z, vocab, target, out->max);
	out->log_sum = logl(s.all);
	out->entropy = out->log_sum - s.moment / s.all;
	out->mean = s.logits / vocab;
	out->log_sum_p2 = logl(s.squares) - 2 * out->log_sum;
	row_target(z, target, &s, out);
}

/* ---- logit_grad ---- */
void ref_logit_grad(const double *z, uint32_t vocab, int32_t target, double c, long double *dz)
{
	struct ref_row row;
	ref_logprob(z, vocab, target, &row);
	int none = row.status != 0;
	for (uint32_t v = 0; v < vocab; v++) {
		long double p = none || dead(z[v]) ? 0 : expl((long double)z[v] - row.max - row.log_sum);
		dz[v] = none ? 0 : c * (v == (uint32_t)target ? -row.rest : p);
	}
}

/* ---- seq_sum ---- */
static void seq_add(struct ref_seq *out, const struct pf_row *row, int tail)
{
	if (row->status & PF_ROW_IGNORED)
		return;
	out->n++;
	out->status |= row->status;
	if (row->status & PF_ROW_BAD)
		return;
	out->logp += row->logp_q32;
	out->logp_tail += tail ? row->logp_q32 : 0;
	out->log_weight += ldexpl(row->logp_q32, -32) - row->log_sum_p2;
	out->entropy += row->entropy;
	out->mean_logit += isfinite(row->mean) ? row->mean : 0;
	out->hits += row->target == row->max;
}

void ref_seq_sum(const struct pf_row *row, uint32_t rows, const struct pf_span *span, struct ref_seq *out)
{
	memset(out, 0, sizeof *out);
	if (span->begin > span->split || span->split > span->end || span->end > rows) {
		out->status = PF_ROW_RANGE;
		return;
	}
	for (uint32_t t = span->begin; t < span->end; t++)
		seq_add(out, &row[t], t >= span->split);
}

/* ---- coef ---- */
void ref_coef(const struct pf_item_out *item, const struct pf_span *span, uint32_t seqs, uint32_t rows,
              double tail, double *c)
{
	for (uint32_t t = 0; t < rows; t++)
		c[t] = 0;
	for (uint32_t b = 0; b < seqs; b++)
		for (uint32_t t = span[b].begin; t < span[b].end; t++)
			c[t] = -item[b].grad * (t < span[b].split ? 1 : tail);
}
