/* What the gradient's filter saves on the host: a forward and a backward of the fused head with and without it, turn
 * by turn, medians; and what it drops. Words follow Zipf's law (probability about 1 / rank, with normal deviations of
 * the logits from token to token), either in the order of their ranks, as merges of a byte-pair tokenizer roughly are,
 * or in any order. Device cpu forms no products of a tile of 512 words in which all is dropped; the words of such
 * tiles are `saved`. Prints CSV.
 *
 * usage: bench_filter [T V D]                         default 1024 32000 1024 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include "tests/bench/bench_numbers.h"
#include "host/train/fused.h"
#include "host/train/seconds.h"

enum { TURNS = 5 };

struct bench {
	uint32_t tokens, vocab, dim;
	float   *hidden, *weight, *coef, *dhidden, *dweight;
	int32_t *target;
	uint32_t *rank;                        /* [V] of a word, from 0 */
};

static void shuffle(struct bench *b)
{
	for (uint32_t v = b->vocab - 1; v > 0; v--) {
		const uint32_t other = (uint32_t)(uniform() * (v + 1)), keep = b->rank[v];
		b->rank[v] = b->rank[other];
		b->rank[other] = keep;
	}
}

/* logit = -log(rank) through the first number of a row, and a deviation of 2 through the others */
static void make(struct bench *b, int any_order)
{
	const double side = sqrt(2 / sqrt(b->dim - 1.0));
	for (uint32_t v = 0; v < b->vocab; v++)
		b->rank[v] = v;
	if (any_order)
		shuffle(b);
	for (size_t i = 0; i < (size_t)b->vocab * b->dim; i++)
		b->weight[i] = i % b->dim ? normal(side) : (float)-log(b->rank[i / b->dim] + 1.0);
	for (uint32_t t = 0; t < b->tokens; t++) {
		for (uint32_t d = 0; d < b->dim; d++)
			b->hidden[(size_t)t * b->dim + d] = d ? normal(side) : 1;
		const uint32_t wanted = (uint32_t)exp(uniform() * log(b->vocab)) - 1;  /* of ranks, by Zipf's law */
		b->target[t] = 0;
		for (uint32_t v = 0; v < b->vocab; v++)
			b->target[t] = b->rank[v] == wanted ? (int32_t)v : b->target[t];
		b->coef[t] = normal(1);
	}
}

/* Seconds of a forward and of its backward */
static void turn(const struct bench *b, struct pf_fused *fused, double *seconds, double *back)
{
	const struct pf_fused_weight weight = { b->weight, NULL, 1, PF_PRECISION_FP32 };
	const struct pf_fused_tokens tokens = { b->hidden, b->target, NULL, b->tokens, 0, 0, 0 };
	struct pf_error error = { 0 };
	const double began = pf_seconds();
	must(pf_fused_forward(fused, &weight, &tokens, NULL, NULL, &error), &error);
	must(pf_fused_wait(fused, &error), &error);
	const double middle = pf_seconds();
	must(pf_fused_backward(fused, b->coef, b->dhidden, b->dweight, NULL, &error), &error);
	must(pf_fused_wait(fused, &error), &error);
	*back = pf_seconds() - middle;
	*seconds = pf_seconds() - began;
}

static int by_size(const void *a, const void *b)
{
	const double d = *(const double *)a - *(const double *)b;
	return (d > 0) - (d < 0);
}

static double median(double *of)
{
	qsort(of, TURNS, sizeof *of, by_size);
	return of[TURNS / 2];
}

static struct pf_fused *open_head(struct pf_device *device, const struct bench *b, float filter)
{
	const struct pf_fused_options options = { .device = device, .vocab = b->vocab, .dim = b->dim, .backward = 1,
		                                  .form = PF_FUSED_PLAIN, .filter = filter };
	struct pf_error error = { 0 };
	struct pf_fused *fused = NULL;
	must(pf_fused_open(&options, &fused, &error), &error);
	return fused;
}

static void row(struct pf_device *device, const struct bench *b, const char *order, float eps)
{
	struct pf_fused *plain = open_head(device, b, 0), *filtered = open_head(device, b, eps);
	double whole[2][TURNS], back[2][TURNS];
	struct pf_left_out out = { 0 };
	for (int i = -1; i < TURNS; i++) {             /* the first is not counted */
		turn(b, plain, &whole[0][i < 0 ? 0 : i], &back[0][i < 0 ? 0 : i]);
		turn(b, filtered, &whole[1][i < 0 ? 0 : i], &back[1][i < 0 ? 0 : i]);
	}
	pf_left_out_count(&out, pf_fused_filtered(filtered), b->target, b->tokens);
	const double words = (double)out.tokens * b->vocab;
	printf("%s,%u,%u,%u,%g,%.6f,%.6f,%.4f,%.4f,%.4f,%.4f,%.4f,%.4f\n", order, b->tokens, b->vocab, b->dim,
	       (double)eps, out.mass / (double)out.tokens, out.most, (double)out.words / words,
	       (double)out.saved / words, median(back[0]), median(back[1]), median(whole[0]), median(whole[1]));
	fflush(stdout);
	pf_fused_close(plain);
	pf_fused_close(filtered);
}

int main(int argc, char **argv)
{
	static const float eps[] = { 0x1p-12f, 0.002f };
	struct bench b = { 1024, 32000, 1024, NULL, NULL, NULL, NULL, NULL, NULL, NULL };
	struct pf_device *device = NULL;
	struct pf_error error = { 0 };
	if (argc == 4) {
		b.tokens = (uint32_t)strtoul(argv[1], NULL, 10);
		b.vocab = (uint32_t)strtoul(argv[2], NULL, 10);
		b.dim = (uint32_t)strtoul(argv[3], NULL, 10);
	}
	if (argc != 1 && (argc != 4 || b.tokens == 0 || b.vocab < 2 || b.dim < 2)) {
		fprintf(stderr, "usage: bench_filter [T V D]\n");
		return 2;
	}
	b.hidden = array((size_t)b.tokens * b.dim * sizeof *b.hidden);
	b.dhidden = array((size_t)b.tokens * b.dim * sizeof *b.dhidden);
	b.weight = array((size_t)b.vocab * b.dim * sizeof *b.weight);
	b.dweight = array((size_t)b.vocab * b.dim * sizeof *b.dweight);
	b.coef = array(b.tokens * sizeof *b.coef);
	b.target = array(b.tokens * sizeof *b.target);
	b.rank = array(b.vocab * sizeof *b.rank);
	for (size_t i = 0; i < (size_t)b.vocab * b.dim; i++)
		b.dweight[i] = 0;
	must(pf_device_open("cpu", NULL, &device, &error), &error);
	puts("order,T,V,D,filter,dropped_mean,dropped_max,dropped_words,saved_words,backward_s,backward_filtered_s,"
	     "step_s,step_filtered_s");
	for (int any = 0; any < 2; any++) {
		make(&b, any);
		for (size_t i = 0; i < sizeof eps / sizeof *eps; i++)
			row(device, &b, any ? "any" : "by rank", eps[i]);
	}
	pf_device_close(device);
	free(b.hidden), free(b.dhidden), free(b.weight), free(b.dweight), free(b.coef), free(b.target), free(b.rank);
	return 0;
}
