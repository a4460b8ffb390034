/* The fused head on backend cpu, beyond what the conformance suite runs: shapes that cross every block, tile, stripe
 * and panel against the reference, spill and recompute; threads that change no bit; memory that does not grow with T
 * V. */
#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include "prefpga/internal/kernels.h"
#include "tests/cmocka.h"
#include "tests/ref/linear.h"
#include "tests/seed.h"
#include "prefpga/device.h"

/* ---- memory: everything that the library asks for while a kernel runs ---- */
static atomic_size_t asked;
int   __real_posix_memalign(void **memory, size_t align, size_t bytes);
int   __wrap_posix_memalign(void **memory, size_t align, size_t bytes);
void *__real_malloc(size_t bytes);
void *__wrap_malloc(size_t bytes);
void *__real_calloc(size_t count, size_t bytes);
void *__wrap_calloc(size_t count, size_t bytes);

int __wrap_posix_memalign(void **memory, size_t align, size_t bytes)
{
	atomic_fetch_add(&asked, bytes);
	return __real_posix_memalign(memory, align, bytes);
}

void *__wrap_malloc(size_t bytes)
{
	atomic_fetch_add(&asked, bytes);
	return __real_malloc(bytes);
}

void *__wrap_calloc(size_t count, size_t bytes)
{
	atomic_fetch_add(&asked, count * bytes);
	return __real_calloc(count, bytes);
}

/* ---- a head on the device; D is a multiple of 16, so arrays need no padding ---- */
enum {
	HIDDEN, WEIGHT, BIAS = WEIGHT + 4, TARGET, OUT, RAW, COEF, DHIDDEN, DWEIGHT, DBIAS = DWEIGHT + 4, SHARD,
	FILTERED, BUFFERS
};

struct head {
	struct pf_device *device;
	struct pf_buf    *buf[BUFFERS];
	uint32_t          rows, vocab, depth, mode;
	float             scale, softcap, temperature, zloss, entropy, filter;
};

static uint64_t state;

static double normal(void)
{
	double sum = 0;
	for (int i = 0; i < 12; i++) {
		state = state * 6364136223846793005u + 1442695040888963407u;
		sum += (double)(state >> 40) * 0x1p-24;
	}
	return sum - 6;
}

static void *at(const struct head *h, unsigned buffer)
{
	return pf_buf_map(h->buf[buffer]);
}

static void make_buffer(struct head *h, unsigned buffer, int kernel, unsigned arg, uint64_t bytes)
{
	struct pf_error error = { 0 };
	if (pf_buf_alloc(h->device, kernel, arg, bytes ? bytes : 1, &h->buf[buffer], &error))
		fail_msg("%s", error.text);
	memset(at(h, buffer), 0xff, bytes);
}

static void fill(float *to, uint64_t count, double sigma)
{
	for (uint64_t i = 0; i < count; i++)
		to[i] = (float)(sigma * normal());
}

static void head_open(struct head *h, uint32_t threads, uint32_t rows, uint32_t vocab, uint32_t depth, uint32_t mode)
{
	const struct pf_device_options options = { .threads = threads };
	const int forward = PF_KERNEL_linear_logprob, back = PF_KERNEL_linear_grad;
	struct pf_error error = { 0 };
	*h = (struct head){ .rows = rows, .vocab = vocab, .depth = depth, .mode = mode, .scale = 1, .temperature = 1 };
	if (pf_device_open("cpu", &options, &h->device, &error))
		fail_msg("%s", error.text);
	const uint64_t th = 4 * (uint64_t)rows * depth;
	make_buffer(h, HIDDEN, forward, PF_ARG_linear_logprob_hidden, th);
	make_buffer(h, DHIDDEN, back, PF_ARG_linear_grad_dhidden, th);
	for (unsigned p = 0; p < 4; p++) {
		const uint64_t part = 4 * PF_PORT_ROWS(vocab, p) * depth;
		make_buffer(h, WEIGHT + p, forward, PF_ARG_linear_logprob_weight + p, part);
		make_buffer(h, DWEIGHT + p, back, PF_ARG_linear_grad_dweight + p, part);
	}
	make_buffer(h, BIAS, forward, PF_ARG_linear_logprob_bias, 4 * vocab);
	make_buffer(h, DBIAS, back, PF_ARG_linear_grad_dbias, 4 * vocab);
	make_buffer(h, TARGET, forward, PF_ARG_linear_logprob_target, 4 * rows);
	make_buffer(h, OUT, forward, PF_ARG_linear_logprob_out, sizeof(struct pf_row) * rows);
	make_buffer(h, RAW, forward, PF_ARG_linear_logprob_raw,
	            mode & PF_LINEAR_RAW ? PF_RAW_BEATS(rows, vocab) * 64 : 0);
	make_buffer(h, COEF, back, PF_ARG_linear_grad_coef, 4 * rows);
	make_buffer(h, SHARD, forward, PF_ARG_linear_logprob_shard, sizeof(struct pf_shard) * rows);
	make_buffer(h, FILTERED, back, PF_ARG_linear_grad_filtered, sizeof(struct pf_filtered) * (rows + 3));
}

static void head_fill(struct head *h, uint64_t seed)
{
	int32_t *target = at(h, TARGET);
	state = seed;
	fill(at(h, HIDDEN), (uint64_t)h->rows * h->depth, 1);
	for (unsigned p = 0; p < 4; p++)
		fill(at(h, WEIGHT + p), PF_PORT_ROWS(h->vocab, p) * h->depth, 2 / sqrt(h->depth));
	fill(at(h, BIAS), h->vocab, 1);
	fill(at(h, COEF), h->rows, 1);
	for (uint32_t t = 0; t < h->rows; t++)
		target[t] = t % 50 == 49 ? PF_IGNORE : (int32_t)((uint64_t)t * 2654435761u % h->vocab);
	for (uint32_t t = 0; t < h->rows && h->vocab > 9000; t++)      /* the reference is slow */
		target[t] = t % 100 == 5 ? target[t] : PF_IGNORE;
}

static void head_close(struct head *h)
{
	for (unsigned i = 0; i < BUFFERS; i++)
		pf_buf_free(h->buf[i]);
	assert_int_equal(pf_device_close(h->device), 0);
}

static void must_run(const struct head *h, int kernel, const struct pf_arg *arg, unsigned count)
{
	struct pf_ticket ticket = { 0 };
	struct pf_error error = { 0 };
	pf_run(h->device, kernel, arg, count, NULL, &ticket);
	if (pf_wait(&ticket, &error))
		fail_msg("%s", error.text);
}

static void put(const struct head *h, struct pf_arg *arg, unsigned first, unsigned buffer, unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		arg[first + i].buf = h->buf[buffer + i];
}

static void forward(const struct head *h)
{
	struct pf_arg arg[PF_ARG_linear_logprob_COUNT] = { 0 };
	put(h, arg, PF_ARG_linear_logprob_hidden, HIDDEN, 1);
	put(h, arg, PF_ARG_linear_logprob_weight, WEIGHT, 4);
	put(h, arg, PF_ARG_linear_logprob_bias, BIAS, 1);
	put(h, arg, PF_ARG_linear_logprob_target, TARGET, 1);
	put(h, arg, PF_ARG_linear_logprob_out, OUT, 1);
	put(h, arg, PF_ARG_linear_logprob_raw, RAW, 1);
	arg[PF_ARG_linear_logprob_rows].val.u32 = h->rows;
	arg[PF_ARG_linear_logprob_depth].val.u32 = h->depth / 16;
	arg[PF_ARG_linear_logprob_vocab].val.u32 = h->vocab;
	arg[PF_ARG_linear_logprob_mode].val.u32 = h->mode;
	arg[PF_ARG_linear_logprob_scale].val.f32 = h->scale;
	arg[PF_ARG_linear_logprob_softcap].val.f32 = h->softcap;
	arg[PF_ARG_linear_logprob_temperature].val.f32 = h->temperature;
	put(h, arg, PF_ARG_linear_logprob_shard, SHARD, 1);
	must_run(h, PF_KERNEL_linear_logprob, arg, PF_ARG_linear_logprob_COUNT);
}

static void backward(const struct head *h, uint32_t mode)
{
	struct pf_arg arg[PF_ARG_linear_grad_COUNT] = { 0 };
	put(h, arg, PF_ARG_linear_grad_hidden, HIDDEN, 1);
	put(h, arg, PF_ARG_linear_grad_weight, WEIGHT, 4);
	put(h, arg, PF_ARG_linear_grad_bias, BIAS, 1);
	put(h, arg, PF_ARG_linear_grad_target, TARGET, 1);
	put(h, arg, PF_ARG_linear_grad_coef, COEF, 1);
	put(h, arg, PF_ARG_linear_grad_row, OUT, 1);
	put(h, arg, PF_ARG_linear_grad_raw, RAW, 1);
	put(h, arg, PF_ARG_linear_grad_dhidden, DHIDDEN, 1);
	put(h, arg, PF_ARG_linear_grad_dweight, DWEIGHT, 4);
	put(h, arg, PF_ARG_linear_grad_dbias, DBIAS, 1);
	arg[PF_ARG_linear_grad_rows].val.u32 = h->rows;
	arg[PF_ARG_linear_grad_depth].val.u32 = h->depth / 16;
	arg[PF_ARG_linear_grad_vocab].val.u32 = h->vocab;
	arg[PF_ARG_linear_grad_mode].val.u32 = mode;
	arg[PF_ARG_linear_grad_scale].val.f32 = h->scale;
	arg[PF_ARG_linear_grad_softcap].val.f32 = h->softcap;
	arg[PF_ARG_linear_grad_temperature].val.f32 = h->temperature;
	arg[PF_ARG_linear_grad_zloss].val.f32 = h->zloss;
	arg[PF_ARG_linear_grad_entropy].val.f32 = h->entropy;
	put(h, arg, PF_ARG_linear_grad_filtered, FILTERED, 1);
	arg[PF_ARG_linear_grad_filter].val.f32 = h->filter;
	must_run(h, PF_KERNEL_linear_grad, arg, PF_ARG_linear_grad_COUNT);
}

/* ---- against the reference ---- */
static void within(const char *what, uint64_t i, double got, long double want, double bound)
{
	double error = isnan(want) ? !isnan(got) : isinf(want) ? got != (double)want : (double)fabsl(got - want);
	if (!(error <= bound))
		fail_msg("%s[%llu] is %.9g, the reference says %.9Lg, bound %.3g", what, (unsigned long long)i, got,
		         want, bound);
}

/* The four parts of W or dW as one [V, D] */
static float *whole(const struct head *h, unsigned first)
{
	float *all = malloc(4 * (size_t)h->vocab * h->depth), *to = all;
	assert_non_null(all);
	for (unsigned p = 0; p < 4; to += PF_PORT_ROWS(h->vocab, p) * h->depth, p++)
		memcpy(to, at(h, first + p), 4 * PF_PORT_ROWS(h->vocab, p) * h->depth);
	return all;
}

static void check_rows(const struct head *h, const struct ref_linear *ref)
{
	const struct pf_row *row = at(h, OUT);
	double *z = malloc(h->vocab * sizeof *z);
	assert_non_null(z);
	for (uint32_t t = 0; t < h->rows; t++) {
		struct ref_row want;
		assert_true(ref->target[t] >= 0 || row[t].status == PF_ROW_IGNORED);
		if (ref->target[t] < 0)
			continue;
		const double e = 2 * ref_linear_logit_error(ref_linear_logits(ref, t, z)) + 1e-6;
		ref_logprob(z, h->vocab, ref->target[t], &want);
		assert_int_equal(row[t].status, want.status);
		within("logp", t, (double)row[t].logp, want.logp, e);
		if (want.status == 0 && h->mode & PF_LINEAR_STATS)
			within("entropy", t, (double)row[t].entropy, want.entropy, e * (2 + (double)want.log_sum));
		if (want.status == 0)
			assert_true(z[row[t].argmax] >= (double)want.max - 2 * e);
	}
	free(z);
}

static void check_gradients(const struct head *h, const struct ref_linear *ref)
{
	const size_t th = (size_t)h->rows * h->depth, vd = (size_t)h->vocab * h->depth;
	long double *all = calloc(2 * (th + vd + h->vocab), sizeof *all);
	float *dweight = whole(h, DWEIGHT);
	assert_non_null(all);
	const struct ref_linear_grad g = { all, all + th, all + 2 * th, all + 2 * th + vd, all + 2 * (th + vd),
	                                   all + 2 * (th + vd) + h->vocab };
	const double share = ref_linear_share(ref_linear_grad(ref, at(h, COEF), &g));
	for (size_t i = 0; i < th; i++)
		within("dhidden", i, (double)((float *)at(h, DHIDDEN))[i], g.dhidden[i],
		       share * (double)g.dhidden_size[i] + 0x1p-120);
	for (size_t i = 0; i < vd; i++)
		within("dweight", i, (double)dweight[i], g.dweight[i], share * (double)g.dweight_size[i] + 0x1p-120);
	for (size_t v = 0; h->mode & PF_LINEAR_BIAS && v < h->vocab; v++)
		within("dbias", v, (double)((float *)at(h, DBIAS))[v], g.dbias[v],
		       share * (double)g.dbias_size[v] + 0x1p-120);
	free(dweight);
	free(all);
}

static void both_ways_match_the_reference(void **unused)
{
	static const struct { uint32_t rows, vocab, depth; int bent; } shapes[] = {
		{ 520, 2100, 16, 1 }, { 2060, 70, 16, 0 }, { 1030, 16900, 16, 1 },
	};
	(void)unused;
	for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
		const uint32_t mode =
			PF_LINEAR_DWEIGHT | PF_LINEAR_RAW | (shapes[i].bent ? PF_LINEAR_BIAS | PF_LINEAR_STATS : 0);
		struct head h;
		head_open(&h, 0, shapes[i].rows, shapes[i].vocab, shapes[i].depth, mode);
		head_fill(&h, seed_of(7 + i));
		if (shapes[i].bent) {
			h.scale = 1.25f;
			h.softcap = 4;
			h.temperature = 0.8f;
			h.zloss = 0.01f;
			h.entropy = 0.05f;
		}
		float *weight = whole(&h, WEIGHT);
		const struct ref_linear ref = { at(&h, HIDDEN),
			                        weight,
			                        shapes[i].bent ? at(&h, BIAS) : NULL,
			                        at(&h, TARGET),
			                        h.rows,
			                        h.depth,
			                        h.vocab,
			                        (double)h.scale,
			                        (double)h.softcap,
			                        (double)h.temperature,
			                        (double)h.zloss,
			                        (double)h.entropy };
		forward(&h);
		check_rows(&h, &ref);
		backward(&h, mode);
		check_gradients(&h, &ref);
		backward(&h, mode & ~(uint32_t)PF_LINEAR_RAW);
		check_gradients(&h, &ref);
		free(weight);
		head_close(&h);
	}
}

static void threads_change_no_bit(void **unused)
{
	const uint32_t mode = PF_LINEAR_DWEIGHT | PF_LINEAR_BIAS | PF_LINEAR_STATS;
	struct head one, more;
	(void)unused;
	head_open(&one, 1, 700, 3000, 32, mode);
	head_open(&more, 3, 700, 3000, 32, mode);
	head_fill(&one, 5);
	head_fill(&more, 5);
	forward(&one);
	forward(&more);
	backward(&one, mode);
	backward(&more, mode);
	for (unsigned i = 0; i < BUFFERS; i++)
		assert_memory_equal(at(&one, i), at(&more, i), i == RAW ? 0 : pf_buf_bytes(one.buf[i]));
	head_close(&one);
	head_close(&more);
}

/* Bytes asked for by both kernels */
static size_t asked_by(uint32_t rows, uint32_t vocab)
{
	struct head h;
	head_open(&h, 2, rows, vocab, 16, PF_LINEAR_DWEIGHT);
	head_fill(&h, 3);
	const size_t before = atomic_load(&asked);
	forward(&h);
	backward(&h, h.mode);
	const size_t bytes = atomic_load(&asked) - before;
	head_close(&h);
	return bytes;
}

/* Without the spill that the caller gave: at most a panel (16 MiB), the turns' tiles one after the other (a tile is 1
 * MiB, there are 16 stripes), and 1 KiB a token */
static void memory_does_not_grow_with_tokens_times_words(void **unused)
{
	const size_t small = asked_by(512, 16384), wide = asked_by(512, 32768), tall = asked_by(1024, 16384);
	(void)unused;
	print_message("T = 512, V = 16,384: %zu bytes; twice V: %zu; twice T: %zu\n", small, wide, tall);
	assert_true(small <= (size_t)(16 + 16) * (1 << 20) + 512 * 1024 + 65536);
	assert_true(wide <= small + (16u << 20) && wide <= (size_t)(16 + 16) * (1 << 20) + 512 * 1024 + 65536);
	assert_true(tall <= (size_t)(16 + 32) * (1 << 20) + 1024 * 1024 + 65536);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(both_ways_match_the_reference), cmocka_unit_test(threads_change_no_bit),
		cmocka_unit_test(memory_does_not_grow_with_tokens_times_words),
	};
	return seed_take(&argc, argv) ? 2 : cmocka_run_group_tests(tests, NULL, NULL);
}
