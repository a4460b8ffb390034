/* How fast logprob, then logit_grad go over [T,V] logits well beyond the caches, against the time that 3 T V elements
 * take at the rate of a plain copy loop, measured between them in the same run: they must read T V elements, read them
 * again and write as many. Every figure is measured, the median over the repeats. Prints CSV.
 *
 * usage: bench_logprob [megabytes [threads [repeats [device...]]]]      default 1024, 0: all and then 1, 7
 * Every device has `threads` threads: cpu splits a run among them, sim has a compute unit for each, which share the
 * rows in pieces of PIECE (an offset of 4 KiB in the narrowest array): as many for each, where there are enough. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include "host/model/parallel.h"
#include "host/train/seconds.h"
#include "prefpga/device.h"
#include "prefpga/internal/kernels.h"
#include "tests/bench/copy_loop.h"

enum { REPEATS_MOST = 99, PIECE = 1024, PIECES_MOST = 4096 };

struct series { const char *name; double second[REPEATS_MOST]; };

struct bench {
	struct pf_device *device;
	const char       *spec;
	int               bf16;
	uint32_t          rows, vocab, stride;
	unsigned          threads, repeats;
	struct pf_buf    *z, *dz, *target, *coef, *row;
	char             *from, *to;           /* host arrays of the copy loop */
	size_t            bytes;               /* of the logits */
	struct series     copy, logprob, grad, in_place;
	double            mean_logp;
};

static void must(int code, const struct pf_error *error)
{
	if (!code)
		return;
	fprintf(stderr, "bench_logprob: %s\n", error && error->text[0] ? error->text : pf_error_text(code));
	exit(1);
}

/* ---- data ---- */
struct fill { char *to; size_t lanes; int bf16; };

/* Like a model's logits: sums of uniform numbers, deviation about 3 */
static void fill_row(void *context, size_t t, unsigned worker)
{
	const struct fill *f = context;
	uint64_t state = 88172645463325252ull ^ (t + 1) * 0x9e3779b97f4a7c15ull;
	(void)worker;
	for (size_t i = 0; i < f->lanes; i++) {
		union { float value; uint32_t bits; } x = { -6 };
		state ^= state << 13;
		state ^= state >> 7;
		state ^= state << 17;
		for (int k = 0; k < 4; k++)
			x.value += 3 * (float)(state >> 16 * k & 0xffff) * 0x1p-16f;
		if (f->bf16)
			((uint16_t *)f->to)[t * f->lanes + i] = (uint16_t)(x.bits >> 16);
		else
			((float *)f->to)[t * f->lanes + i] = x.value;
	}
}

static void *host_array(size_t bytes)
{
	void *array = NULL;
	if (posix_memalign(&array, 2 << 20, bytes))
		must(PF_E_MEMORY, NULL);
	madvise(array, bytes, MADV_HUGEPAGE);          /* as the device's own memory */
	return array;
}

static struct pf_buf *buffer(struct bench *b, int kernel, unsigned arg, size_t bytes, const void *from)
{
	struct pf_error error = { 0 };
	struct pf_ticket ticket = { 0 };
	struct pf_buf *buf;
	must(pf_buf_alloc(b->device, kernel, arg, bytes, &buf, &error), &error);
	if (from) {
		pf_copy_in(buf, 0, from, bytes, NULL, &ticket);
		must(pf_wait(&ticket, &error), &error);
	}
	return buf;
}

static void open_arrays(struct bench *b)
{
	const int logprob = b->bf16 ? PF_KERNEL_logprob_bf16 : PF_KERNEL_logprob;
	const int grad = b->bf16 ? PF_KERNEL_logit_grad_bf16 : PF_KERNEL_logit_grad;
	int32_t *target = host_array(b->rows * sizeof *target);
	float *coef = host_array(b->rows * sizeof *coef);
	b->from = host_array(b->bytes);
	b->to = host_array(b->bytes);
	struct fill fill = { b->from, (size_t)b->stride * (b->bf16 ? 32 : 16), b->bf16 };
	pf_parallel(b->threads, b->rows, fill_row, &fill);
	memset(b->to, 0, b->bytes);
	for (uint32_t t = 0; t < b->rows; t++) {
		target[t] = (int32_t)((uint64_t)t * 7919 % b->vocab);
		coef[t] = 0.1f;
	}
	b->z = buffer(b, logprob, PF_ARG_logprob_z, b->bytes, b->from);
	b->target = buffer(b, logprob, PF_ARG_logprob_target, b->rows * sizeof *target, target);
	b->row = buffer(b, logprob, PF_ARG_logprob_out, b->rows * sizeof(struct pf_row), NULL);
	b->coef = buffer(b, grad, PF_ARG_logit_grad_coef, b->rows * sizeof *coef, coef);
	b->dz = buffer(b, grad, PF_ARG_logit_grad_dz, b->bytes, b->to);
	free(target);
	free(coef);
}

static void close_arrays(struct bench *b)
{
	struct pf_buf *buf[] = { b->z, b->dz, b->target, b->coef, b->row };
	for (int i = 0; i < 5; i++)
		pf_buf_free(buf[i]);
	free(b->from);
	free(b->to);
}

/* ---- what is timed ---- */
static void copy_piece(void *context, size_t i, unsigned worker)
{
	const struct bench *b = context;
	const size_t piece = 1 << 20, at = i * piece;
	(void)worker;
	copy_loop((float *)(b->to + at), (const float *)(b->from + at),
	          (b->bytes - at < piece ? b->bytes - at : piece) / 4);
}

static double time_copy(struct bench *b)
{
	double start = pf_seconds();
	pf_parallel(b->threads, (b->bytes + (1 << 20) - 1) >> 20, copy_piece, b);
	return pf_seconds() - start;
}

/* The arguments of one piece: buffers of rows begin at row `first` */
static void place(struct pf_arg *arg, struct pf_buf *buf, uint64_t first, uint64_t row_bytes)
{
	arg->buf = buf;
	arg->offset = first * row_bytes;
}

static void logprob_piece(const struct bench *b, uint32_t first, uint32_t rows, struct pf_arg *arg)
{
	place(&arg[PF_ARG_logprob_z], b->z, first, (uint64_t)b->stride * PF_BEAT_BYTES);
	place(&arg[PF_ARG_logprob_target], b->target, first, sizeof(int32_t));
	place(&arg[PF_ARG_logprob_out], b->row, first, sizeof(struct pf_row));
	arg[PF_ARG_logprob_rows].val.u32 = rows;
	arg[PF_ARG_logprob_vocab].val.u32 = b->vocab;
	arg[PF_ARG_logprob_stride].val.u32 = b->stride;
}

static void grad_piece(const struct bench *b, struct pf_buf *dz, uint32_t first, uint32_t rows, struct pf_arg *arg)
{
	place(&arg[PF_ARG_logit_grad_z], b->z, first, (uint64_t)b->stride * PF_BEAT_BYTES);
	place(&arg[PF_ARG_logit_grad_target], b->target, first, sizeof(int32_t));
	place(&arg[PF_ARG_logit_grad_coef], b->coef, first, sizeof(float));
	place(&arg[PF_ARG_logit_grad_row], b->row, first, sizeof(struct pf_row));
	place(&arg[PF_ARG_logit_grad_dz], dz, first, (uint64_t)b->stride * PF_BEAT_BYTES);
	arg[PF_ARG_logit_grad_rows].val.u32 = rows;
	arg[PF_ARG_logit_grad_vocab].val.u32 = b->vocab;
	arg[PF_ARG_logit_grad_stride].val.u32 = b->stride;
}

/* All rows through logprob, or through logit_grad into dz: one run, or one of every piece where several units wait */
static double time_run(struct bench *b, struct pf_buf *dz)
{
	static struct pf_ticket ticket[PIECES_MOST];
	const int logprob = b->bf16 ? PF_KERNEL_logprob_bf16 : PF_KERNEL_logprob;
	const int grad = b->bf16 ? PF_KERNEL_logit_grad_bf16 : PF_KERNEL_logit_grad;
	const uint32_t most = pf_device_cus(b->device, logprob) > 1 ? PIECE : b->rows;
	unsigned pieces = 0;
	double start = pf_seconds();
	for (uint32_t first = 0; first < b->rows && pieces < PIECES_MOST; first += most, pieces++) {
		const uint32_t rows = b->rows - first < most ? b->rows - first : most;
		struct pf_arg arg[PF_ARGS_MAX] = { { 0 } };
		ticket[pieces] = (struct pf_ticket){ 0 };
		if (dz)
			grad_piece(b, dz, first, rows, arg);
		else
			logprob_piece(b, first, rows, arg);
		pf_run(b->device, dz ? grad : logprob, arg, dz ? PF_ARG_logit_grad_COUNT : PF_ARG_logprob_COUNT, NULL,
		       &ticket[pieces]);
	}
	for (unsigned i = 0; i < pieces; i++) {
		struct pf_error error = { 0 };
		must(pf_wait(&ticket[i], &error), &error);
	}
	return pf_seconds() - start;
}

static double mean_logp(struct bench *b)
{
	struct pf_row *row = host_array(b->rows * sizeof *row);
	struct pf_ticket ticket = { 0 };
	struct pf_error error = { 0 };
	double sum = 0;
	pf_copy_out(b->row, 0, row, b->rows * sizeof *row, NULL, &ticket);
	must(pf_wait(&ticket, &error), &error);
	for (uint32_t t = 0; t < b->rows; t++)
		sum += (double)row[t].logp_q32 * 0x1p-32;
	free(row);
	return sum / b->rows;
}

/* In place last: its logits are then those gradients, which cost the same */
static void measure(struct bench *b)
{
	time_copy(b);
	time_run(b, NULL);
	time_run(b, b->dz);
	b->mean_logp = mean_logp(b);
	for (unsigned i = 0; i < b->repeats; i++) {
		b->copy.second[i] = time_copy(b);
		b->logprob.second[i] = time_run(b, NULL);
		b->grad.second[i] = time_run(b, b->dz);
	}
	for (unsigned i = 0; i < b->repeats; i++)
		b->in_place.second[i] = time_run(b, b->z);
}

/* ---- results ---- */
static int ascending(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

static double median(struct series *s, unsigned count)
{
	qsort(s->second, count, sizeof s->second[0], ascending);
	return s->second[count / 2];
}

static void print_header(void)
{
	printf("device,variant,type,vocabulary,rows,threads,repeats,copy_gb_per_s,logprob_s,logit_grad_s,in_place_s,"
	       "elements_per_s,ratio_to_copy,ratio_in_place,mean_logp\n");
}

static void print_row(struct bench *b)
{
	const double copy = median(&b->copy, b->repeats), logprob = median(&b->logprob, b->repeats);
	const double grad = median(&b->grad, b->repeats), in_place = median(&b->in_place, b->repeats);
	const double bound = 1.5 * copy;       /* 3 T V elements, of which the loop moved 2 T V */
	printf("%s,%s,%s,%u,%u,%u,%u,%.2f,%.4f,%.4f,%.4f,%.3e,%.3f,%.3f,%.7f\n", b->spec,
	       pf_device_facts(b->device)->variant, b->bf16 ? "bf16" : "f32", b->vocab, b->rows, b->threads, b->repeats,
	       2e-9 * (double)b->bytes / copy, logprob, grad, in_place, (double)b->rows * b->vocab / (logprob + grad),
	       (logprob + grad) / bound, (logprob + in_place) / bound, b->mean_logp);
	fflush(stdout);
}

static void bench_one(const char *spec, int bf16, uint32_t vocab, size_t bytes, unsigned threads, unsigned repeats)
{
	const struct pf_device_options options = { .threads = threads };
	struct bench b = { .spec = spec, .bf16 = bf16, .vocab = vocab, .threads = threads, .repeats = repeats };
	struct pf_error error = { 0 };
	int code = pf_device_open(spec, &options, &b.device, &error);
	if (code == PF_E_ABSENT || code == PF_E_UNKNOWN) {
		fprintf(stderr, "bench_logprob: left out: %s\n", error.text);
		return;
	}
	must(code, &error);
	b.stride = (vocab + (bf16 ? 31 : 15)) / (bf16 ? 32 : 16);
	b.rows = (uint32_t)(bytes / ((size_t)b.stride * PF_BEAT_BYTES));
	if (b.rows >= PIECE * threads)
		b.rows -= b.rows % (PIECE * threads);
	b.bytes = (size_t)b.rows * b.stride * PF_BEAT_BYTES;
	open_arrays(&b);
	measure(&b);
	print_row(&b);
	close_arrays(&b);
	pf_device_close(b.device);
}

static void bench_all(const char *const *spec, int specs, size_t bytes, unsigned threads, unsigned repeats)
{
	for (int bf16 = 0; bf16 < 2; bf16++)
		for (uint32_t vocab = 32000; vocab <= 128256; vocab += 128256 - 32000)
			for (int i = 0; i < specs; i++)
				bench_one(spec[i], bf16, vocab, bytes, threads, repeats);
}

int main(int argc, char **argv)
{
	static const char *const several[] = { "cpu", "cpu:avx2", "sim", "cpu:baseline" };
	const size_t bytes = (size_t)(argc > 1 ? atof(argv[1]) : 1024) << 20;
	const unsigned threads = argc > 2 ? (unsigned)atoi(argv[2]) : 0;
	const int wanted = argc > 3 ? atoi(argv[3]) : 7;
	const unsigned repeats = wanted < 1 ? 1 : wanted > REPEATS_MOST ? REPEATS_MOST : (unsigned)wanted;
	print_header();
	if (argc > 4) {
		bench_all((const char *const *)argv + 4, argc - 4, bytes, pf_threads(threads), repeats);
		return 0;
	}
	if (threads != 1)
		bench_all(several, 4, bytes, pf_threads(threads), repeats);
	bench_all(several, 3, bytes, 1, repeats);
	return 0;
}
