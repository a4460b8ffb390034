/* linear_logprob and linear_grad called directly: bounds against the reference at every tail of tiles and pieces, equal
 * bits from every build, both ways back, cuts between launches, rows that do not count, finite differences. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "tests/cmocka.h"
#include "tests/kernels.h"
#include "tests/ref/linear.h"
#include "tests/seed.h"

struct shape { uint32_t rows, vocab, depth; };

/* A head with everything its kernels read and write; arrays of beats are padded as the ABI wants */
struct head {
	struct ref_linear want;                /* hidden, weight tight: [T, D], [V, D] */
	uint32_t          beats, mode;
	float            *hidden, *weight, *bias, *tight_hidden, *tight_weight, *dhidden, *dweight, *dbias, *coef, *raw;
	int32_t          *target;
	struct pf_row    *row;
	struct pf_shard  *shard;
	struct pf_filtered *filtered;
	float             filter;
};

static float *floats(uint64_t count)
{
	float *memory = aligned_alloc(64, (size_t)(count * 4 + 127) / 64 * 64);
	assert_non_null(memory);
	memset(memory, 0xff, (size_t)(count * 4 + 127) / 64 * 64);      /* NaN: nothing counts on zeros */
	return memory;
}

static double normal(uint64_t *seed)
{
	return sqrt(-2 * log(random_unit(seed) + 0x1p-40)) * cos(6.283185307179586 * random_unit(seed));
}

static void fill(float *tight, float *padded, uint32_t rows, uint32_t depth, uint32_t beats, double sigma,
                 uint64_t *seed)
{
	for (uint32_t r = 0; r < rows; r++) {
		memset(padded + (size_t)r * beats * 16, 0, (size_t)beats * 64);
		for (uint32_t d = 0; d < depth; d++)
			padded[(size_t)r * beats * 16 + d] = tight[(size_t)r * depth + d] =
				(float)(sigma * normal(seed));
	}
}

static void head_make(struct head *h, struct shape s, uint32_t mode, double sigma, uint64_t *seed)
{
	const uint32_t beats = (s.depth + 15) / 16;
	memset(h, 0, sizeof *h);
	h->beats = beats;
	h->mode = mode;
	h->hidden = floats((uint64_t)s.rows * beats * 16);
	h->tight_hidden = floats((uint64_t)s.rows * s.depth);
	h->weight = floats((uint64_t)s.vocab * beats * 16);
	h->tight_weight = floats((uint64_t)s.vocab * s.depth);
	h->dhidden = floats((uint64_t)s.rows * beats * 16);
	h->dweight = floats((uint64_t)s.vocab * beats * 16);
	h->bias = floats(s.vocab);
	h->dbias = floats(s.vocab);
	h->coef = floats(s.rows);
	h->raw = floats(PF_RAW_BEATS(s.rows, s.vocab) * 16);
	h->target = calloc(s.rows + 1, sizeof *h->target);
	h->row = calloc(s.rows + 1, sizeof *h->row);
	h->shard = calloc(s.rows + 1, sizeof *h->shard);
	h->filtered = calloc(s.rows + 4, sizeof *h->filtered);
	assert_true(h->target && h->row && h->shard && h->filtered);
	fill(h->tight_hidden, h->hidden, s.rows, s.depth, beats, 1, seed);
	fill(h->tight_weight, h->weight, s.vocab, s.depth, beats, sigma / sqrt(s.depth), seed);
	for (uint32_t v = 0; v < s.vocab; v++)
		h->bias[v] = (float)normal(seed);
	for (uint32_t t = 0; t < s.rows; t++) {
		h->target[t] = (int32_t)(random_bits(seed) % s.vocab);
		h->coef[t] = (float)normal(seed);
	}
	h->want = (struct ref_linear){ h->tight_hidden,
		                       h->tight_weight,
		                       mode & PF_LINEAR_BIAS ? h->bias : NULL,
		                       h->target,
		                       s.rows,
		                       s.depth,
		                       s.vocab,
		                       1,
		                       0,
		                       1,
		                       0,
		                       0 };
}

static void head_free(struct head *h)
{
	void *all[] = { h->hidden,  h->weight, h->bias, h->tight_hidden, h->tight_weight, h->dhidden,
		        h->dweight, h->dbias,  h->coef, h->raw,          h->target,       h->row,
		        h->shard,   h->filtered };
	for (size_t i = 0; i < sizeof all / sizeof *all; i++)
		free(all[i]);
}

/* Element d of row r of a padded array */
static double element(const struct head *h, const float *padded, uint32_t r, uint32_t d)
{
	return (double)padded[(size_t)r * h->beats * 16 + d];
}

/* Where port p's rows of a [V, D] array begin */
static void *port(const struct head *h, float *array, uint32_t p)
{
	const uint32_t share = PF_PORT_SHARE(h->want.vocab);
	const uint64_t first = p * share < h->want.vocab ? p * share : h->want.vocab;
	return array + first * h->beats * 16;
}

/* Tokens [begin, end), a multiple of 64 first */
static void forward(const struct head *h, int build, uint32_t begin, uint32_t end)
{
	const struct ref_linear *w = &h->want;
	const uint64_t at = (uint64_t)begin * h->beats * 16;
	kernel_builds[build].linear_logprob(
		(const void *)(h->hidden + at), port(h, h->weight, 0), port(h, h->weight, 1), port(h, h->weight, 2),
		port(h, h->weight, 3), h->bias, h->target + begin, h->row + begin,
		(void *)(h->raw + PF_RAW_BEATS(begin, w->vocab) * 16), end - begin, h->beats, w->vocab, h->mode,
		(float)w->scale, (float)w->softcap, (float)w->temperature, (void *)(h->shard + begin));
}

static void backward(const struct head *h, int build, uint32_t begin, uint32_t end, uint32_t mode)
{
	const struct ref_linear *w = &h->want;
	const uint64_t at = (uint64_t)begin * h->beats * 16;
	kernel_builds[build].linear_grad(
		(const void *)(h->hidden + at), port(h, h->weight, 0), port(h, h->weight, 1), port(h, h->weight, 2),
		port(h, h->weight, 3), h->bias, h->target + begin, h->coef + begin, h->row + begin,
		(const void *)(h->raw + PF_RAW_BEATS(begin, w->vocab) * 16), (void *)(h->dhidden + at),
		port(h, h->dweight, 0), port(h, h->dweight, 1), port(h, h->dweight, 2), port(h, h->dweight, 3),
		h->dbias, end - begin, h->beats, w->vocab, mode, (float)w->scale, (float)w->softcap,
		(float)w->temperature, (float)w->zloss, (float)w->entropy, (void *)(h->filtered + begin),
		h->filter);
}

/* ---- bounds ---- */
static double worst_logp, worst_grad;          /* shares of the bounds */

static void within(const char *what, uint32_t at, double got, long double want, double bound, double *worst)
{
	double error = isnan(want) ? !isnan(got) : isinf(want) ? got != (double)want : (double)fabsl(got - want);
	if (!(error <= bound))
		fail_msg("%s[%u] is %.9g, the reference says %.9Lg, bound %.3g", what, at, got, want, bound);
	*worst = fmax(*worst, bound > 0 ? error / bound : 0);
}

static void check_forward(const struct head *h)
{
	const struct ref_linear *w = &h->want;
	double *z = calloc(w->vocab, sizeof *z);
	assert_non_null(z);
	for (uint32_t t = 0; t < w->rows; t++) {
		struct ref_row want;
		const double e = 2 * ref_linear_logit_error(ref_linear_logits(w, t, z));
		ref_logprob(z, w->vocab, w->target[t], &want);
		assert_int_equal(h->row[t].status, want.status);
		within("logp", t, (double)h->row[t].logp, want.logp, e + 1e-6, &worst_logp);
		within("max", t, (double)h->row[t].max, want.max, e, &worst_logp);
		if (!(h->row[t].status & (PF_ROW_RANGE | PF_ROW_EMPTY | PF_ROW_IGNORED))) {
			assert_true(h->row[t].argmax < w->vocab);
			assert_true(z[h->row[t].argmax] >= (double)want.max - 2 * e);
		}
		if (h->mode & PF_LINEAR_STATS && want.status == 0) {
			within("entropy", t, (double)h->row[t].entropy, want.entropy,
			       (e + 4e-6) * (2 + (double)want.log_sum), &worst_logp);
			within("mean", t, (double)h->row[t].mean, want.mean, e + 4e-6, &worst_logp);
		}
	}
	free(z);
}

static void check_backward(const struct head *h)
{
	const struct ref_linear *w = &h->want;
	const size_t th = (size_t)w->rows * w->depth, vd = (size_t)w->vocab * w->depth;
	long double *all = calloc(2 * (th + vd + w->vocab) + 1, sizeof *all);
	assert_non_null(all);
	const struct ref_linear_grad g = { all, all + th, all + 2 * th, all + 2 * th + vd, all + 2 * (th + vd),
	                                   all + 2 * (th + vd) + w->vocab };
	const double size = ref_linear_grad(w, h->coef, &g);
	const double share = ref_linear_share(size);
	for (uint32_t i = 0; i < th; i++)
		within("dhidden", i, element(h, h->dhidden, i / w->depth, i % w->depth), g.dhidden[i],
		       share * (double)g.dhidden_size[i] + 0x1p-120, &worst_grad);
	for (uint32_t i = 0; h->mode & PF_LINEAR_DWEIGHT && i < vd; i++)
		within("dweight", i, element(h, h->dweight, i / w->depth, i % w->depth), g.dweight[i],
		       share * (double)g.dweight_size[i] + 0x1p-120, &worst_grad);
	for (uint32_t v = 0; h->mode & PF_LINEAR_BIAS && v < w->vocab; v++)
		within("dbias", v, (double)h->dbias[v], g.dbias[v], share * (double)g.dbias_size[v] + 0x1p-120,
		       &worst_grad);
	free(all);
}

static const uint32_t all_modes = PF_LINEAR_STATS | PF_LINEAR_BIAS | PF_LINEAR_RAW | PF_LINEAR_DWEIGHT;

static void bounds_hold_at_every_tail(void **state)
{
	static const struct shape shapes[] = {
		{ 1, 1, 1 }, { 1, 2, 3 }, { 2, 5, 16 }, { 3, 17, 17 }, { 63, 63, 15 }, { 64, 64, 64 }, { 65, 65, 65 },
		{ 5, 66, 80 }, { 7, 127, 63 }, { 4, 129, 128 }, { 9, 255, 33 }, { 3, 257, 200 }, { 2, 1000, 96 },
		{ 130, 70, 40 },
	};
	uint64_t seed = seed_of(11);
	(void)state;
	for (size_t i = 0; i < 2 * sizeof shapes / sizeof *shapes; i++) {
		struct head h;
		head_make(&h, shapes[i / 2], i & 1 ? all_modes : PF_LINEAR_DWEIGHT, 3, &seed);
		if (i & 1) {
			h.want.scale = 0.75;
			h.want.softcap = 5;
			h.want.temperature = 0.8125;
			h.want.zloss = 0.0625;
			h.want.entropy = 0.125;
		}
		forward(&h, (int)i % KERNEL_BUILDS, 0, h.want.rows);
		check_forward(&h);
		backward(&h, (int)i % KERNEL_BUILDS, 0, h.want.rows, h.mode);
		check_backward(&h);
		head_free(&h);
	}
	print_message("worst: logp %.2f, gradients %.2f of the bound\n", worst_logp, worst_grad);
}

/* ---- equal bits ---- */
static void same(const char *what, const void *a, const void *b, size_t bytes)
{
	if (memcmp(a, b, bytes) != 0)
		fail_msg("%s differ", what);
}

static void builds_ways_and_cuts_agree(void **state)
{
	static const struct shape shapes[] = { { 1, 1, 1 }, { 70, 67, 70 }, { 192, 301, 100 } };
	uint64_t seed = seed_of(12);
	(void)state;
	for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
		struct head h;
		head_make(&h, shapes[i], all_modes, 2, &seed);
		h.want.softcap = i & 1 ? 30 : 0;
		const size_t rows = h.want.rows * sizeof *h.row, th = (size_t)h.want.rows * h.beats * 64;
		const size_t vd = (size_t)h.want.vocab * h.beats * 64;
		struct pf_row *row = malloc(rows);
		float *dhidden = malloc(th), *dweight = malloc(vd);
		assert_true(row && dhidden && dweight);
		forward(&h, 0, 0, h.want.rows);
		backward(&h, 0, 0, h.want.rows, h.mode);
		memcpy(row, h.row, rows);
		memcpy(dhidden, h.dhidden, th);
		memcpy(dweight, h.dweight, vd);
		for (int b = 0; b < 2 * KERNEL_BUILDS; b++) {          /* spilled, then recomputed, block by block */
			const uint32_t mode = b < KERNEL_BUILDS ? h.mode : h.mode & ~(uint32_t)PF_LINEAR_RAW;
			memset(h.dweight, 0x55, vd);
			for (uint32_t t = 0; t < h.want.rows; t += PF_TOKENS) {
				const uint32_t end = h.want.rows - t < PF_TOKENS ? h.want.rows : t + PF_TOKENS;
				forward(&h, b % KERNEL_BUILDS, t, end);
				backward(&h, b % KERNEL_BUILDS, t, end, mode | (t ? PF_LINEAR_ADD : 0));
			}
			same("rows", row, h.row, rows);
			same("dhidden", dhidden, h.dhidden, th);
			same("dweight", dweight, h.dweight, vd);
		}
		free(row);
		free(dhidden);
		free(dweight);
		head_free(&h);
	}
}

/* ---- rows and words that do not count ---- */
static void bad_rows_reach_nobody(void **state)
{
	uint64_t seed = seed_of(13);
	struct head h;
	(void)state;
	head_make(&h, (struct shape){ 70, 90, 20 }, all_modes, 2, &seed);
	for (uint32_t d = 0; d < 20; d++) {
		h.hidden[3 * h.beats * 16 + d] = h.tight_hidden[3 * 20 + d] = d == 7 ? NAN : 1;
		h.hidden[66 * h.beats * 16 + d] = h.tight_hidden[66 * 20 + d] = d == 7 ? INFINITY : 1;
		h.hidden[9 * h.beats * 16 + d] = h.tight_hidden[9 * 20 + d] = NAN;
	}
	h.target[9] = PF_IGNORE;
	h.target[10] = 90;
	h.target[11] = INT32_MAX;
	h.bias[5] = h.bias[89] = -INFINITY;
	h.target[12] = 5;                                      /* a forbidden token */
	h.want.softcap = 4;
	forward(&h, 2, 0, 70);
	assert_int_equal(h.row[3].status, PF_ROW_RANGE);
	assert_int_equal(h.row[9].status, PF_ROW_IGNORED);
	assert_int_equal(h.row[10].status, PF_ROW_TARGET);
	assert_int_equal(h.row[12].status, PF_ROW_MASKED);
	check_forward(&h);
	backward(&h, 2, 0, 70, h.mode);
	check_backward(&h);
	for (uint32_t d = 0; d < 20; d++)
		assert_true(element(&h, h.dhidden, 3, d) == 0 && element(&h, h.dhidden, 9, d) == 0 &&
		            element(&h, h.dweight, 5, d) == 0);
	for (uint32_t v = 0; v < 90; v++)
		h.bias[v] = -INFINITY;
	forward(&h, 2, 0, 70);
	assert_int_equal(h.row[0].status, PF_ROW_EMPTY);
	backward(&h, 2, 0, 70, h.mode);
	check_backward(&h);
	head_free(&h);
}

/* Saturated: tanh is 1 to the last bit of many logits, its slope is not 0 but exact */
static void softcap_saturates(void **state)
{
	uint64_t seed = seed_of(14);
	struct head h;
	(void)state;
	head_make(&h, (struct shape){ 8, 50, 24 }, all_modes, 30, &seed);
	h.want.softcap = 2;
	forward(&h, 1, 0, 8);
	check_forward(&h);
	backward(&h, 1, 0, 8, h.mode);
	check_backward(&h);
	for (uint32_t t = 0; t < 8; t++)
		assert_true(h.row[t].max <= 2);
	head_free(&h);
}

/* The first of equal logits wins, whatever port it lies behind */
static void argmax_is_the_smallest_index(void **state)
{
	uint64_t seed = seed_of(15);
	(void)state;
	for (uint32_t vocab = 1; vocab < 300; vocab += 23)
		for (uint32_t first = 0; first < vocab; first += 7) {
			struct head h;
			head_make(&h, (struct shape){ 1, vocab, 2 }, PF_LINEAR_BIAS, 0, &seed);
			for (uint32_t v = 0; v < vocab; v++)
				h.bias[v] = v < first ? -1 : 2;
			for (int b = 0; b < KERNEL_BUILDS; b++) {
				forward(&h, b, 0, 1);
				assert_int_equal(h.row[0].argmax, first);
			}
			head_free(&h);
		}
}

/* ---- the reference itself: central differences in long double ---- */
static void differences_confirm_the_reference(void **state)
{
	uint64_t seed = seed_of(16);
	struct head h;
	(void)state;
	head_make(&h, (struct shape){ 3, 7, 5 }, all_modes, 2, &seed);
	h.want.scale = 1.25;
	h.want.softcap = 3;
	h.want.temperature = 0.75;
	h.want.zloss = 0.01;
	h.want.entropy = 0.05;
	h.target[1] = PF_IGNORE;
	h.bias[2] = -INFINITY;
	long double all[2 * (15 + 35 + 7)];
	const struct ref_linear_grad g = { all, all + 15, all + 30, all + 65, all + 100, all + 107 };
	ref_linear_grad(&h.want, h.coef, &g);
	const struct { float *at; const long double *want; uint32_t count; } part[] = {
		{ h.tight_hidden, g.dhidden, 15 }, { h.tight_weight, g.dweight, 35 }, { h.bias, g.dbias, 7 },
	};
	for (int k = 0; k < 3; k++)
		for (uint32_t i = 0; i < part[k].count; i++) {
			const float kept = part[k].at[i], high = kept + 0x1p-8f, low = kept - 0x1p-8f;
			long double value[2];
			if (isinf(kept))
				continue;
			part[k].at[i] = high;
			value[0] = ref_linear_value(&h.want, h.coef);
			part[k].at[i] = low;
			value[1] = ref_linear_value(&h.want, h.coef);
			part[k].at[i] = kept;
			assert_true(fabsl((value[0] - value[1]) / ((long double)high - low) - part[k].want[i]) <=
			            3e-4L);
		}
	head_free(&h);
}

/* ---- what a model has: D = 4,096, V = 151,936 with --model, else fewer words: the reference is slow ---- */
static int model_size;

static void model_size_stays_within_1e_5(void **state)
{
	const struct shape s = model_size ? (struct shape){ 4, 151936, 4096 } : (struct shape){ 2, 6000, 4096 };
	uint64_t seed = seed_of(17);
	struct head h;
	double worst = 0, *z = calloc(s.vocab, sizeof *z);
	(void)state;
	assert_non_null(z);
	head_make(&h, s, 0, 3, &seed);
	forward(&h, 2, 0, s.rows);
	for (uint32_t t = 0; t < s.rows; t++) {
		struct ref_row want;
		ref_linear_logits(&h.want, t, z);
		ref_logprob(z, s.vocab, h.target[t], &want);
		assert_true(fabsl(h.row[t].logp - want.logp) <= 1e-5L);
		worst = fmax(worst, (double)fabsl(h.row[t].logp - want.logp));
	}
	print_message("V = %u, D = %u: logp within %.2g\n", s.vocab, s.depth, worst);
	free(z);
	head_free(&h);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(bounds_hold_at_every_tail), cmocka_unit_test(builds_ways_and_cuts_agree),
		cmocka_unit_test(bad_rows_reach_nobody), cmocka_unit_test(softcap_saturates),
		cmocka_unit_test(argmax_is_the_smallest_index), cmocka_unit_test(differences_confirm_the_reference),
		cmocka_unit_test(model_size_stays_within_1e_5),
	};
	model_size = argc > 1 && strcmp(argv[1], "--model") == 0;
	return seed_take(&argc, argv) ? 2 : cmocka_run_group_tests(tests, NULL, NULL);
}
