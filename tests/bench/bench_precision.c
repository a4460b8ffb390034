/* What the fused head's precisions cost in accuracy, on cpu and on the simulated card, against sums in double and long
 * double at the numbers as they were before rounding: log-probs in nats, gradients as |error| / |gradient| over the
 * whole array. Hidden states and W are normal, logits have a deviation of 3: in heads of trained models sizes are less
 * even within 32 numbers, which costs mxint8 more. Prints CSV.
 *
 * usage: bench_precision [T V D]                      default 8 151936 4096: 10 GB of memory, some minutes */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "tests/bench/bench_numbers.h"
#include "host/train/fused.h"
#include "prefpga/device.h"

struct bench {
	uint32_t       rows, vocab, dim;
	float         *hidden, *weight, *coef, *dhidden, *dweight;
	int32_t       *target;
	struct pf_row *row;
	double        *dz;                     /* [T, V] */
	long double   *logp, *dhidden_want;
};

static void make(struct bench *b)
{
	const size_t th = (size_t)b->rows * b->dim, vd = (size_t)b->vocab * b->dim;
	b->hidden = array(th * sizeof *b->hidden);
	b->dhidden = array(th * sizeof *b->dhidden);
	b->weight = array(vd * sizeof *b->weight);
	b->dweight = array(vd * sizeof *b->dweight);
	b->coef = array(b->rows * sizeof *b->coef);
	b->target = array(b->rows * sizeof *b->target);
	b->row = array(b->rows * sizeof *b->row);
	b->dz = array((size_t)b->rows * b->vocab * sizeof *b->dz);
	b->logp = array(b->rows * sizeof *b->logp);
	b->dhidden_want = array(th * sizeof *b->dhidden_want);
	for (size_t i = 0; i < th; i++)
		b->hidden[i] = normal(1);
	for (size_t i = 0; i < vd; i++)
		b->weight[i] = normal(3 / sqrt(b->dim));
	for (uint32_t t = 0; t < b->rows; t++) {
		b->coef[t] = normal(1);
		b->target[t] = (int32_t)(uniform() * b->vocab);
	}
}

/* ---- the reference ---- */

/* Blocks of 64 in double, which products of floats are exact in; their sums in long double */
static double dot(const float *x, const float *y, uint32_t dim)
{
	long double sum = 0;
	for (uint32_t d = 0; d < dim; d += 64) {
		double part = 0;
		for (uint32_t i = d; i < dim && i < d + 64; i++)
			part += (double)x[i] * (double)y[i];
		sum += part;
	}
	return (double)sum;
}

/* dz from the logits in dz */
static void finish_row(struct bench *b, uint32_t t)
{
	double *z = b->dz + (size_t)t * b->vocab, most = z[0];
	long double sum = 0;
	for (uint32_t v = 0; v < b->vocab; v++)
		most = fmax(most, z[v]);
	for (uint32_t v = 0; v < b->vocab; v++)
		sum += expl((long double)z[v] - most);
	const long double lse = most + logl(sum);
	b->logp[t] = z[b->target[t]] - lse;
	for (uint32_t v = 0; v < b->vocab; v++)
		z[v] = (double)(b->coef[t] * (expl(z[v] - lse) - (v == (uint32_t)b->target[t])));
}

static void reference(struct bench *b)
{
	for (uint32_t v = 0; v < b->vocab; v++)
		for (uint32_t t = 0; t < b->rows; t++)
			b->dz[(size_t)t * b->vocab + v] = dot(b->hidden + (size_t)t * b->dim,
			                                      b->weight + (size_t)v * b->dim, b->dim);
	for (uint32_t t = 0; t < b->rows; t++)
		finish_row(b, t);
	double *part = array((size_t)b->rows * b->dim * sizeof *part);
	for (uint32_t first = 0; first < b->vocab; first += 64) {
		memset(part, 0, (size_t)b->rows * b->dim * sizeof *part);
		for (uint32_t v = first; v < b->vocab && v < first + 64; v++)
			for (uint32_t t = 0; t < b->rows; t++)
				for (uint32_t d = 0; d < b->dim; d++)
					part[(size_t)t * b->dim + d] += b->dz[(size_t)t * b->vocab + v] *
					                                (double)b->weight[(size_t)v * b->dim + d];
		for (size_t i = 0; i < (size_t)b->rows * b->dim; i++)
			b->dhidden_want[i] += part[i];
	}
	free(part);
}

/* ---- one device ---- */
static double weight_error(const struct bench *b)
{
	double error = 0, size = 0;
	for (uint32_t v = 0; v < b->vocab; v++)
		for (uint32_t d = 0; d < b->dim; d++) {
			double want = 0;
			for (uint32_t t = 0; t < b->rows; t++)
				want += b->dz[(size_t)t * b->vocab + v] * (double)b->hidden[(size_t)t * b->dim + d];
			const double e = (double)b->dweight[(size_t)v * b->dim + d] - want;
			error += e * e;
			size += want * want;
		}
	return sqrt(error / size);
}

static double hidden_error(const struct bench *b)
{
	long double error = 0, size = 0;
	for (size_t i = 0; i < (size_t)b->rows * b->dim; i++) {
		error += (b->dhidden[i] - b->dhidden_want[i]) * (b->dhidden[i] - b->dhidden_want[i]);
		size += b->dhidden_want[i] * b->dhidden_want[i];
	}
	return (double)sqrtl(error / size);
}

static void print_row(const struct bench *b, const char *spec, enum pf_precision precision)
{
	double worst = 0, squares = 0;
	for (uint32_t t = 0; t < b->rows; t++) {
		const double e = (double)fabsl(b->row[t].logp - b->logp[t]);
		worst = fmax(worst, e);
		squares += e * e;
	}
	printf("%s,%s,%u,%u,%u,%.3g,%.3g,%.3g,%.3g\n", spec, pf_precision_name(precision), b->rows, b->vocab, b->dim,
	       worst, sqrt(squares / b->rows), hidden_error(b), weight_error(b));
	fflush(stdout);
}

static void measure(struct bench *b, const char *spec, enum pf_precision precision)
{
	struct pf_device *device;
	struct pf_fused *fused;
	struct pf_error error = { 0 };
	const struct pf_device_options patient = { .watchdog_ms = 3600000 };
	must(pf_device_open(spec, &patient, &device, &error), &error);
	const struct pf_fused_options options = { .device = device, .vocab = b->vocab, .dim = b->dim, .backward = 1,
		                                  .precision = precision, .form = PF_FUSED_PLAIN };
	const struct pf_fused_weight weight = { b->weight, NULL, 1, precision };
	const struct pf_fused_tokens tokens = { b->hidden, b->target, NULL, b->rows, 0, 0, 0 };
	memset(b->dweight, 0, (size_t)b->vocab * b->dim * sizeof *b->dweight);
	must(pf_fused_open(&options, &fused, &error), &error);
	must(pf_fused_forward(fused, &weight, &tokens, NULL, b->row, &error), &error);
	must(pf_fused_wait(fused, &error), &error);
	must(pf_fused_backward(fused, b->coef, b->dhidden, b->dweight, NULL, &error), &error);
	must(pf_fused_wait(fused, &error), &error);
	pf_fused_close(fused);
	must(pf_device_close(device), &error);
	print_row(b, spec, precision);
}

int main(int argc, char **argv)
{
	static const char *const devices[] = { "cpu", "sim:u250" }; /* whose memory takes W and dW */
	struct bench b = { .rows = argc > 3 ? (uint32_t)atoi(argv[1]) : 8,
		           .vocab = argc > 3 ? (uint32_t)atoi(argv[2]) : 151936,
		           .dim = argc > 3 ? (uint32_t)atoi(argv[3]) : 4096 };
	make(&b);
	reference(&b);
	printf("device,precision,tokens,vocabulary,dim,logp_error_max_nat,logp_error_rms_nat,dhidden_error_relative,"
	       "dweight_error_relative\n");
	for (int i = 0; i < 2; i++)
		for (int p = 0; p < PF_PRECISIONS; p++)
			measure(&b, devices[i], (enum pf_precision)p);
	return 0;
}
