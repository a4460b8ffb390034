#include "plain.h"
#include <math.h>

double pf_plain_lse(const double *z, uint32_t vocab)
{
	double top = -INFINITY, sum = 0;
	for (uint32_t v = 0; v < vocab; v++)
		top = fmax(top, z[v]);
	for (uint32_t v = 0; v < vocab; v++)
		sum += exp(z[v] - top);
	return top + log(sum);
}

double pf_plain_logits(const float *h, const float *weight, uint32_t vocab, uint32_t dim, double *z)
{
	double largest = 0;
	for (uint32_t v = 0; v < vocab; v++) {
		double size = 0;
		z[v] = 0;
		for (uint32_t d = 0; d < dim; d++) {
			const double product = (double)h[d] * (double)weight[(uint64_t)v * dim + d];
			z[v] += product;
			size += fabs(product);
		}
		largest = fmax(largest, size);
	}
	return 0x1p-24 * (64 + dim / 64.0) * largest;
}

double pf_plain_dpo(double beta, double d, double *slope)
{
	*slope = -beta / (1 + exp(beta * d));
	return beta * d > 0 ? log1p(exp(-beta * d)) : log1p(exp(beta * d)) - beta * d;
}
