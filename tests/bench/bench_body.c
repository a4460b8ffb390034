/* How fast the policy body trains: tokens a second and GFLOP/s of forward, backward and AdamW, as a
 * part of what BLAS's SGEMM reaches on 1024 x 1024 matrices, one per thread, in the same run. All
 * figures are measured; operations are counted by formula (matrix products and the causal half of
 * attention). Prints CSV.
 *
 * usage: bench_body [threads [seconds per case [case]]] */
#include <cblas.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "host/model/decoder.h"
#include "host/model/model.h"
#include "host/model/parallel.h"
#include "host/model/random.h"
#include "host/train/adamw.h"
#include "tests/model_shape.h"

struct shape {
	const char *name;
	struct pf_model_config config;
	uint32_t seqs, least, most; /* sequences of least .. most tokens */
};

/* vocab dim layers heads kv_heads head_dim ffn positions theta eps tied bos eos */
static const struct shape shapes[] = {
	{ "demo-128", { MODEL_SHAPE(260, 128, 4, 4, 4, 32, 352, 1024, 10000, 1e-5, 1, -1, -1) }, 32, 64, 200 },
	{ "demo-128-8", { MODEL_SHAPE(260, 128, 4, 4, 4, 32, 352, 1024, 10000, 1e-5, 1, -1, -1) }, 8, 64, 200 },
	{ "demo-160-gqa",
	  { MODEL_SHAPE(260, 160, 4, 5, 1, 32, 384, 1024, 10000, 1e-5, 1, -1, -1) },
	  32,
	  64,
	  200 },
	{ "demo-256", { MODEL_SHAPE(260, 256, 4, 8, 4, 32, 704, 1024, 10000, 1e-5, 1, -1, -1) }, 32, 64, 200 },
	{ "layer-768", { MODEL_SHAPE(260, 768, 1, 12, 4, 64, 2048, 4096, 10000, 1e-5, 1, -1, -1) }, 8, 256, 512 },
	{ "long-4096", { MODEL_SHAPE(260, 256, 2, 4, 2, 64, 704, 4096, 10000, 1e-5, 1, -1, -1) }, 2, 4096, 4096 },
};

static double now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

enum { PEAK_SIZE = 1024, PEAK_PIECES = 8 };

static void peak_piece(void *context, size_t index, unsigned worker)
{
	float *m = (float *)context + (size_t)worker * 3 * PEAK_SIZE * PEAK_SIZE;
	(void)index;
	cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, PEAK_SIZE, PEAK_SIZE, PEAK_SIZE, 1,
	            m, PEAK_SIZE, m + PEAK_SIZE * PEAK_SIZE, PEAK_SIZE, 0,
	            m + 2 * PEAK_SIZE * PEAK_SIZE, PEAK_SIZE);
}

/* GFLOP/s of one round; m: [threads, 3] matrices */
static double peak_gflops(unsigned threads, float *m)
{
	const double begin = now();
	pf_parallel(threads, PEAK_PIECES, peak_piece, m);
	return PEAK_PIECES * 2.0 * PEAK_SIZE * PEAK_SIZE * PEAK_SIZE / (now() - begin) * 1e-9;
}

struct run {
	const struct shape *shape;
	struct pf_model *model;
	struct pf_decoder *decoder;
	struct pf_adamw adamw;
	float *grad, *dhidden, *square;
	int32_t *ids;
	uint32_t *offsets, tokens;
	double flops; /* of a forward */
};

static void fill_batch(struct run *r)
{
	const struct shape *s = r->shape;
	const struct pf_model_config *c = &s->config;
	const double q = (double)c->heads * c->head_dim, kv = (double)c->kv_heads * c->head_dim;
	const double token = 2.0 * c->dim * (2 * q + 2 * kv + 3.0 * c->ffn);
	struct pf_random random;
	pf_random_seed(&random, 1, 0);
	r->offsets = calloc(s->seqs + 1, sizeof *r->offsets);
	for (uint32_t i = 0; i < s->seqs; i++) {
		double length = s->least + (double)pf_random_below(&random, s->most - s->least + 1);
		r->offsets[i + 1] = r->offsets[i] + (uint32_t)length;
		r->flops += c->layers * (token * length + 4.0 * q * length * (length + 1) / 2);
	}
	r->tokens = r->offsets[s->seqs];
	r->ids = malloc(r->tokens * sizeof *r->ids);
	for (uint32_t i = 0; i < r->tokens; i++)
		r->ids[i] = (int32_t)pf_random_below(&random, c->vocab);
}

static int run_open(struct run *r, unsigned threads, struct pf_error *error)
{
	const struct pf_adamw_options adamw = { 0.9, 0.999, 1e-8, 0.01, 1.0, threads };
	fill_batch(r);
	const struct pf_decoder_options options = { r->tokens, 0, threads, 1 };
	int code = pf_model_create(&r->shape->config, 1, &r->model, error);
	code = code != 0 ? code
	                 : pf_decoder_open(&r->shape->config, &r->model->layout, &options,
	                                   &r->decoder, error);
	code = code != 0 ? code : pf_adamw_init(&r->adamw, &r->model->layout, &adamw, error);
	if (code != 0)
		return code;
	r->grad = pf_floats_alloc(r->model->layout.size);
	r->dhidden = pf_floats_alloc((uint64_t)r->tokens * r->shape->config.dim);
	for (uint64_t i = 0; i < (uint64_t)r->tokens * r->shape->config.dim; i++)
		r->dhidden[i] = 1e-3f * (float)((int)(i * 7 % 13) - 6);
	r->square = pf_floats_alloc((uint64_t)threads * 3 * PEAK_SIZE * PEAK_SIZE);
	return r->grad && r->dhidden && r->square ? 0 : pf_fail(error, -1, "out of memory");
}

static void run_close(struct run *r)
{
	pf_decoder_close(r->decoder);
	pf_adamw_fini(&r->adamw);
	pf_model_close(r->model);
	free(r->grad);
	free(r->dhidden);
	free(r->square);
	free(r->ids);
	free(r->offsets);
}

struct best {
	double forward, backward, adamw; /* seconds */
	double peak;                     /* GFLOP/s */
};

static double least(double a, double b)
{
	return a < b ? a : b;
}

/* The fastest of the steps that fit the time; SGEMM takes turns with them, for the same luck */
static int measure(struct run *r, unsigned threads, double seconds, struct best *best,
                   struct pf_error *error)
{
	*best = (struct best){ 1e30, 1e30, 1e30, 0 };
	for (double end = now() + seconds; now() < end;) {
		const double start = now();
		int code = pf_decoder_forward(r->decoder, r->model->param, r->ids, r->offsets,
		                              r->shape->seqs, error);
		const double forward = now();
		code = code != 0 ? code : pf_decoder_backward(r->decoder, r->dhidden, r->grad, error);
		const double backward = now();
		code = code != 0 ? code : pf_adamw_step(&r->adamw, 0.0, r->model->param, r->grad, NULL);
		if (code != 0)
			return code;
		best->adamw = least(best->adamw, now() - backward);
		best->forward = least(best->forward, forward - start);
		best->backward = least(best->backward, backward - forward);
		best->peak = -least(-best->peak, -peak_gflops(threads, r->square));
	}
	return 0;
}

static void print(const struct run *r, unsigned threads, const struct best *best)
{
	const double train = best->forward + best->backward, gflops = 3 * r->flops / train * 1e-9;
	struct pf_blas_facts blas;
	pf_blas_facts(&blas);
	printf("%s,%s,%u,%llu,%u,%.2f,%.2f,%.3f,%.0f,%.1f,%.1f,%.3f,%.1f\n", r->shape->name, blas.core,
	       threads, (unsigned long long)r->model->layout.parameters, r->tokens,
	       best->forward * 1e3, best->backward * 1e3, best->adamw * 1e3,
	       r->tokens / (train + best->adamw), gflops, best->peak, gflops / best->peak,
	       (double)pf_decoder_bytes(r->decoder) / (1 << 20));
	fflush(stdout);
}

static int bench(const struct shape *shape, unsigned threads, double seconds,
                 struct pf_error *error)
{
	struct run r = { .shape = shape };
	struct best best;
	int code = run_open(&r, threads, error);
	code = code != 0 ? code : measure(&r, threads, seconds, &best, error);
	if (code == 0)
		print(&r, threads, &best);
	run_close(&r);
	return code;
}

int main(int argc, char **argv)
{
	const unsigned threads = pf_threads(argc > 1 ? (unsigned)atoi(argv[1]) : 0);
	const double seconds = argc > 2 ? atof(argv[2]) : 2.0;
	struct pf_error error = { 0 };
	printf("case,blas_core,threads,parameters,tokens,forward_ms,backward_ms,adamw_ms,"
	       "train_tokens_per_s,train_gflops,"
	       "sgemm_peak_gflops,part_of_peak,workspace_mib\n");
	for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
		if (argc > 3 && strcmp(argv[3], shapes[i].name) != 0)
			continue;
		if (bench(&shapes[i], threads, seconds, &error) != 0) {
			fprintf(stderr, "%s: %s\n", shapes[i].name, error.text);
			return 1;
		}
	}
	return 0;
}
