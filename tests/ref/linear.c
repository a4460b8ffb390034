#include "linear.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

static void *numbers(size_t count, size_t size)
{
	void *memory = calloc(count + 1, size);
	if (!memory)
		abort();
	return memory;
}

static long double bent(const struct ref_linear *l, long double raw)
{
	if (raw == -INFINITY)
		return raw;
	if (!isfinite((double)raw))
		return NAN;
	raw *= l->scale;
	return (l->softcap > 0 ? l->softcap * tanhl(raw / l->softcap) : raw) / l->temperature;
}

/* d logit / d raw */
static long double slope(const struct ref_linear *l, long double raw)
{
	long double c = l->softcap > 0 ? coshl(raw * l->scale / l->softcap) : 1;
	return l->scale / l->temperature / (c * c);
}

static double raw_logits(const struct ref_linear *l, uint32_t row, long double *raw)
{
	double largest = 0;
	for (uint32_t v = 0; v < l->vocab; v++) {
		long double dot = l->bias ? l->bias[v] : 0, size = fabsl(dot);
		for (uint32_t d = 0; d < l->depth; d++) {
			long double term = (long double)l->hidden[(size_t)row * l->depth + d] *
			                   l->weight[(size_t)v * l->depth + d];
			dot += term;
			size += fabsl(term);
		}
		raw[v] = dot;
		size *= fabs(l->scale) / l->temperature;
		largest = isfinite((double)size) && (double)size > largest ? (double)size : largest;
	}
	return largest;
}

double ref_linear_logits(const struct ref_linear *l, uint32_t row, double *z)
{
	long double *raw = numbers(l->vocab, sizeof *raw);
	double size = raw_logits(l, row, raw);
	for (uint32_t v = 0; v < l->vocab; v++)
		z[v] = (double)bent(l, raw[v]);
	free(raw);
	return size;
}

/* dz / d raw and its size, of one row; 0 for rows that do not count */
static double row_grad(const struct ref_linear *l, uint32_t t, double c, long double *dz, long double *size)
{
	memset(dz, 0, l->vocab * sizeof *dz);
	memset(size, 0, l->vocab * sizeof *size);
	if (l->target[t] < 0)
		return 0;
	double *z = numbers(l->vocab, sizeof *z);
	long double *raw = numbers(l->vocab, sizeof *raw);
	double dots = raw_logits(l, t, raw);
	struct ref_row row;
	for (uint32_t v = 0; v < l->vocab; v++)
		z[v] = (double)bent(l, raw[v]);
	ref_logprob(z, l->vocab, l->target[t], &row);
	const long double lse = row.max + row.log_sum, H = row.entropy;
	for (uint32_t v = 0; v < l->vocab; v++) {
		if (row.status != 0 || z[v] <= -(double)PF_LOGIT_LIMIT)
			continue;
		long double p = expl(z[v] - lse), s = slope(l, raw[v]);
		int hit = v == (uint32_t)l->target[t];
		dz[v] = s * (c * (hit ? -row.rest : p) + p * (2 * l->zloss * lse + l->entropy * (z[v] - lse + H)));
		size[v] =
			fabsl(s) * (fabs(c) * (hit ? row.rest : p) +
		                    p * (fabsl(2 * l->zloss * lse) + fabs(l->entropy) * (fabs(z[v]) + fabsl(lse) + H)));
	}
	free(z);
	free(raw);
	return dots;
}

static void add_row(const struct ref_linear *l, uint32_t t, const long double *dz, const long double *size,
                    const struct ref_linear_grad *out)
{
	for (uint32_t v = 0; v < l->vocab; v++) {
		out->dbias[v] += dz[v];
		out->dbias_size[v] += size[v];
		for (uint32_t d = 0; d < l->depth && size[v] > 0; d++) {
			const size_t th = (size_t)t * l->depth + d, vd = (size_t)v * l->depth + d;
			out->dhidden[th] += dz[v] * l->weight[vd];
			out->dhidden_size[th] += size[v] * fabsl((long double)l->weight[vd]);
			out->dweight[vd] += dz[v] * l->hidden[th];
			out->dweight_size[vd] += size[v] * fabsl((long double)l->hidden[th]);
		}
	}
}

double ref_linear_grad(const struct ref_linear *l, const float *coef, const struct ref_linear_grad *out)
{
	const size_t hidden = (size_t)l->rows * l->depth * sizeof(long double);
	const size_t weight = (size_t)l->vocab * l->depth * sizeof(long double);
	long double *dz = numbers(l->vocab, sizeof *dz), *size = numbers(l->vocab, sizeof *size);
	double dots = 0;
	memset(out->dhidden, 0, hidden);
	memset(out->dhidden_size, 0, hidden);
	memset(out->dweight, 0, weight);
	memset(out->dweight_size, 0, weight);
	memset(out->dbias, 0, l->vocab * sizeof(long double));
	memset(out->dbias_size, 0, l->vocab * sizeof(long double));
	for (uint32_t t = 0; t < l->rows; t++) {
		dots = fmax(dots, row_grad(l, t, (double)coef[t], dz, size));
		add_row(l, t, dz, size, out);
	}
	free(dz);
	free(size);
	return dots;
}

long double ref_linear_value(const struct ref_linear *l, const float *coef)
{
	double *z = numbers(l->vocab, sizeof *z);
	long double value = 0;
	for (uint32_t t = 0; t < l->rows; t++) {
		struct ref_row row;
		ref_linear_logits(l, t, z);
		ref_logprob(z, l->vocab, l->target[t], &row);
		long double lse = row.max + row.log_sum;
		if (row.status == 0)
			value += -coef[t] * row.logp + l->zloss * lse * lse - l->entropy * row.entropy;
	}
	free(z);
	return value;
}

double ref_linear_logit_error(double size)
{
	return 4 * 0x1p-24 * size;
}

double ref_linear_share(double size)
{
	return 4 * ref_linear_logit_error(size) + (4 + 16) * 0x1p-24;
}
