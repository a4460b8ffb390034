/* The fused head on backend cpu against BLAS's own products, in one run: useful operations (2 T V D forward, 6 T V D
 * forward and backward) as a part of the best SGEMM rate among 2048^3, 4096^3 and T x 4096 x D (a tile), medians over
 * the repeats. `recompute` counts the same useful operations: it does 2 T V D more. The *_cpu columns put processor
 * time in place of wall time: what they say holds on a machine that is busy with other work. Prints CSV.
 * `prefpga bench` times the same works on any device, after comparing them with a plain reference, beside a product
 * that fits the cache.
 *
 * usage: bench_head [repeats [threads]]               default 5, 0: all processors */
#include <cblas.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "host/model/parallel.h"
#include "host/train/fused.h"
#include "prefpga/device.h"
#ifdef _OPENMP
#include <omp.h>
#endif

enum { REPEATS_MOST = 99, WAYS = 4 };
enum { SGEMM, FORWARD, SPILL, RECOMPUTE };

struct bench {
	struct pf_device *device;
	struct pf_fused  *fused[2];            /* spill, recompute */
	uint32_t          rows, vocab, dim;
	unsigned          threads, repeats;
	float            *hidden, *weight, *dhidden, *dweight, *coef;
	int32_t          *target;
	double            wall[WAYS][REPEATS_MOST], cpu[WAYS][REPEATS_MOST];   /* GFLOP/s */
};

static void must(int code, const struct pf_error *error)
{
	if (!code)
		return;
	fprintf(stderr, "bench_head: %s\n", error->text[0] ? error->text : pf_error_text(code));
	exit(1);
}

static double clock_of(clockid_t id)
{
	struct timespec t;
	clock_gettime(id, &t);
	return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static float *array(size_t count)
{
	void *memory = NULL;
	if (posix_memalign(&memory, 4096, count * sizeof(float)))
		exit(1);
	return memory;
}

static void fill(float *to, size_t count, float size)
{
	uint64_t state = 88172645463325252u;
	for (size_t i = 0; i < count; i++) {
		state = state * 6364136223846793005u + 1442695040888963407u;
		to[i] = size * ((float)(state >> 40) * 0x1p-23f - 1);
	}
}

/* ---- the products alone ---- */
static double sgemm(unsigned threads, int m, int n, int k, const float *a, const float *b, float *c, double *cpu)
{
#ifdef _OPENMP
	omp_set_num_threads((int)threads);
#else
	openblas_set_num_threads((int)threads);
#endif
	const double wall = clock_of(CLOCK_MONOTONIC), used = clock_of(CLOCK_PROCESS_CPUTIME_ID);
	cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, m, n, k, 1, a, k, b, k, 0, c, n);
	const double flops = 2e-9 * m * n * (double)k;
	*cpu = flops / (clock_of(CLOCK_PROCESS_CPUTIME_ID) - used) * threads;
	return flops / (clock_of(CLOCK_MONOTONIC) - wall);
}

/* Best of the three shapes; b->hidden and W are large enough for the last */
static double best_sgemm(struct bench *b, float *square, double *cpu)
{
	double best = 0;
	*cpu = 0;
	for (int i = 0; i < 3; i++) {
		const int n = i == 0 ? 2048 : 4096;
		const size_t at = (size_t)n * (size_t)n;
		double own, rate = i < 2 ? sgemm(b->threads, n, n, n, square, square + at, square + 2 * at, &own)
		                         : sgemm(b->threads, (int)b->rows, 4096, (int)b->dim, b->hidden, b->weight,
		                                 square, &own);
		best = rate > best ? rate : best;
		*cpu = own > *cpu ? own : *cpu;
	}
	return best;
}

/* ---- the head ---- */
static void forward(struct bench *b, struct pf_fused *fused)
{
	const struct pf_fused_weight weight = { b->weight, NULL, 1, PF_PRECISION_FP32 };
	const struct pf_fused_tokens tokens = { b->hidden, b->target, NULL, b->rows, 0, 0, 0 };
	struct pf_error error = { 0 };
	must(pf_fused_forward(fused, &weight, &tokens, NULL, NULL, &error), &error);
	must(pf_fused_wait(fused, &error), &error);
}

static void backward(struct bench *b, struct pf_fused *fused)
{
	struct pf_error error = { 0 };
	must(pf_fused_backward(fused, b->coef, b->dhidden, b->dweight, NULL, &error), &error);
	must(pf_fused_wait(fused, &error), &error);
}

static void time_head(struct bench *b, unsigned i)
{
	const double flops = 2e-9 * b->rows * (double)b->vocab * b->dim;
	for (int way = 0; way < 2; way++) {
		const double wall = clock_of(CLOCK_MONOTONIC), cpu = clock_of(CLOCK_PROCESS_CPUTIME_ID);
		forward(b, b->fused[way]);
		const double wall_half = clock_of(CLOCK_MONOTONIC), cpu_half = clock_of(CLOCK_PROCESS_CPUTIME_ID);
		backward(b, b->fused[way]);
		if (way == 1) {                                    /* forward alone: nothing is spilled */
			b->wall[FORWARD][i] = flops / (wall_half - wall);
			b->cpu[FORWARD][i] = flops / (cpu_half - cpu) * b->threads;
		}
		b->wall[SPILL + way][i] = 3 * flops / (clock_of(CLOCK_MONOTONIC) - wall);
		b->cpu[SPILL + way][i] = 3 * flops / (clock_of(CLOCK_PROCESS_CPUTIME_ID) - cpu) * b->threads;
	}
}

static void open_bench(struct bench *b, uint32_t rows, uint32_t vocab, uint32_t dim)
{
	const struct pf_device_options options = { .threads = b->threads };
	struct pf_error error = { 0 };
	b->rows = rows;
	b->vocab = vocab;
	b->dim = dim;
	must(pf_device_open("cpu", &options, &b->device, &error), &error);
	for (int way = 0; way < 2; way++) {
		const struct pf_fused_options fused = { .device = b->device, .vocab = vocab, .dim = dim, .backward = 1,
			.way = way ? PF_WAY_RECOMPUTE : PF_WAY_SPILL, .form = PF_FUSED_PLAIN };
		must(pf_fused_open(&fused, &b->fused[way], &error), &error);
	}
	const size_t hidden = (size_t)rows * dim, weight = (size_t)vocab * dim;
	b->hidden = array(hidden);
	b->dhidden = array(hidden);
	b->weight = array(weight);
	b->dweight = array(weight);
	b->coef = array(rows);
	b->target = malloc(rows * sizeof *b->target);
	fill(b->hidden, hidden, 1);
	fill(b->weight, weight, 0.1f);
	fill(b->coef, rows, 1);
	memset(b->dweight, 0, weight * sizeof *b->dweight);
	memset(b->dhidden, 0, hidden * sizeof *b->dhidden);
	for (uint32_t t = 0; t < rows; t++)
		b->target[t] = (int32_t)((uint64_t)t * 7919 % vocab);
}

static void close_bench(struct bench *b)
{
	float *all[] = { b->hidden, b->dhidden, b->weight, b->dweight, b->coef };
	pf_fused_close(b->fused[0]);
	pf_fused_close(b->fused[1]);
	pf_device_close(b->device);
	for (int i = 0; i < 5; i++)
		free(all[i]);
	free(b->target);
}

static int ascending(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

static double median(double *value, unsigned count)
{
	qsort(value, count, sizeof *value, ascending);
	return value[count / 2];
}

static void bench_shape(uint32_t vocab, uint32_t dim, unsigned threads, unsigned repeats)
{
	static struct bench b;
	double wall[WAYS], cpu[WAYS];
	b = (struct bench){ .threads = threads, .repeats = repeats };
	open_bench(&b, 1024, vocab, dim);
	float *square = array((size_t)3 * 4096 * 4096);
	fill(square, (size_t)3 * 4096 * 4096, 1);
	best_sgemm(&b, square, &cpu[0]);
	time_head(&b, 0);
	for (unsigned i = 0; i < repeats; i++) {
		b.wall[SGEMM][i] = best_sgemm(&b, square, &b.cpu[SGEMM][i]);
		time_head(&b, i);
	}
	for (int w = 0; w < WAYS; w++) {
		wall[w] = median(b.wall[w], repeats);
		cpu[w] = median(b.cpu[w], repeats);
	}
	printf("%s,f32,%u,%u,%u,%u,%u,%.1f,%.1f,%.1f,%.1f,%.3f,%.3f,%.3f,%.3f,%.3f,%.3f\n",
	       pf_device_facts(b.device)->variant, dim, vocab, b.rows, threads, repeats, wall[SGEMM], wall[FORWARD],
	       wall[SPILL], wall[RECOMPUTE], wall[FORWARD] / wall[SGEMM], wall[SPILL] / wall[SGEMM],
	       wall[RECOMPUTE] / wall[SGEMM], cpu[FORWARD] / cpu[SGEMM], cpu[SPILL] / cpu[SGEMM],
	       cpu[RECOMPUTE] / cpu[SGEMM]);
	fflush(stdout);
	free(square);
	close_bench(&b);
}

static uint32_t number(int argc, char **argv, int i, uint32_t otherwise)
{
	return argc > i ? (uint32_t)strtoul(argv[i], NULL, 10) : otherwise;
}

int main(int argc, char **argv)
{
	static const uint32_t shapes[][2] = { { 151936, 896 }, { 128256, 2048 }, { 32000, 4096 } };
	const unsigned repeats = number(argc, argv, 1, 5), threads = pf_threads(number(argc, argv, 2, 0));
	if (repeats < 1 || repeats > REPEATS_MOST) {
		fprintf(stderr, "bench_head: repeats: 1 to %d\n", REPEATS_MOST);
		return 1;
	}
	printf("variant,type,dim,vocabulary,rows,threads,repeats,sgemm_gflops,forward_gflops,spill_gflops,"
	       "recompute_gflops,forward_part,spill_part,recompute_part,forward_part_cpu,spill_part_cpu,"
	       "recompute_part_cpu\n");
	for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
		bench_shape(shapes[i][0], shapes[i][1], threads, repeats);
	return 0;
}
