/* The fused head's kernels of bf16 and MXINT8 called directly. bf16: the bits of the fp32 kernels for the same numbers,
 * so that everything tests/kernels_linear.c shows holds for them too. MXINT8: the bits of plain integers and ldexp, and
 * at the edges of its exponents. Both from every build, spilled and recomputed. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "tests/cmocka.h"
#include "tests/kernels.h"
#include "tests/ref/mxint8.h"
#include "tests/ref/ref.h"
#include "tests/seed.h"

struct shape { uint32_t rows, vocab, depth, mode; };

/* Rows of one head; `beats` of a row of hidden or W, in the format they are in */
struct head {
	struct shape   s;
	uint32_t       beats, pitch;           /* pitch: beats from row to row */
	unsigned char *hidden, *weight, *dhidden;
	float         *dweight, *dbias, *raw, *bias, *coef;
	int32_t       *target;
	struct pf_row *row;
	void          *shard, *filtered;       /* not looked at here */
};

static void *room(uint64_t bytes)
{
	void *memory = aligned_alloc(64, (size_t)(bytes + 127) / 64 * 64);
	assert_non_null(memory);
	memset(memory, 0xff, (size_t)(bytes + 127) / 64 * 64);         /* NaN: nothing counts on zeros */
	return memory;
}

static double normal(uint64_t *seed)
{
	return sqrt(-2 * log(random_unit(seed) + 0x1p-40)) * cos(6.283185307179586 * random_unit(seed));
}

static void head_make(struct head *h, struct shape s, uint32_t beats, uint32_t pitch)
{
	*h = (struct head){ .s = s, .beats = beats, .pitch = pitch };
	h->hidden = room((uint64_t)s.rows * pitch * 64);
	h->weight = room((uint64_t)s.vocab * pitch * 64);
	h->dhidden = room((uint64_t)s.rows * pitch * 64);
	h->dweight = room((uint64_t)s.vocab * pitch * 128);
	h->dbias = room(s.vocab * 4);
	h->raw = room(PF_RAW_BEATS(s.rows, s.vocab) * 64);
	h->bias = room(s.vocab * 4);
	h->coef = room(s.rows * 4);
	h->target = room(s.rows * 4);
	h->row = room(s.rows * sizeof *h->row);
	h->shard = room(s.rows * sizeof(struct pf_shard));
	h->filtered = room(s.rows * sizeof(struct pf_filtered) + 64);
}

static void head_free(struct head *h)
{
	void *all[] = { h->hidden, h->weight, h->dhidden, h->dweight, h->dbias, h->raw, h->bias, h->coef, h->target,
		        h->row, h->shard, h->filtered };
	for (size_t i = 0; i < sizeof all / sizeof *all; i++)
		free(all[i]);
}

static void fill_small(struct head *h, uint64_t *seed)
{
	for (uint32_t v = 0; v < h->s.vocab; v++)
		h->bias[v] = (float)normal(seed);
	for (uint32_t t = 0; t < h->s.rows; t++) {
		h->coef[t] = (float)normal(seed);
		h->target[t] = t % 11 == 10 ? PF_IGNORE : (int32_t)(random_bits(seed) % h->s.vocab);
	}
}

static void *port(const struct head *h, void *array, uint32_t p, uint32_t pitch)
{
	const uint32_t share = PF_PORT_SHARE(h->s.vocab);
	return (char *)array + (uint64_t)(p * share < h->s.vocab ? p * share : h->s.vocab) * pitch * 64;
}
#define PORTS(h, array, pitch) port(h, array, 0, pitch), port(h, array, 1, pitch), port(h, array, 2, pitch), \
	port(h, array, 3, pitch)

static void same(const char *what, const void *a, const void *b, size_t bytes)
{
	if (memcmp(a, b, bytes) != 0)
		fail_msg("%s differ", what);
}

/* ---- bf16 ---- */
static void forward_f32(const struct head *h)
{
	kernel_builds[2].linear_logprob((void *)h->hidden, PORTS(h, h->weight, h->pitch), h->bias, h->target, h->row,
	                                (void *)h->raw, h->s.rows, h->beats, h->s.vocab, h->s.mode, 0.75f, 5, 0.8125f,
	                                h->shard);
}

static void backward_f32(const struct head *h)
{
	kernel_builds[2].linear_grad((void *)h->hidden, PORTS(h, h->weight, h->pitch), h->bias, h->target, h->coef,
	                             h->row, (void *)h->raw, (void *)h->dhidden, PORTS(h, h->dweight, h->pitch),
	                             h->dbias, h->s.rows, h->beats, h->s.vocab, h->s.mode, 0.75f, 5, 0.8125f, 0.0625f,
	                             0.125f, h->filtered, 0);
}

static void forward_bf16(const struct head *h, int build)
{
	kernel_builds[build].linear_logprob_bf16((void *)h->hidden, PORTS(h, h->weight, h->pitch), h->bias, h->target,
	                                         h->row, (void *)h->raw, h->s.rows, h->beats, h->s.vocab, h->s.mode,
	                                         0.75f, 5, 0.8125f, h->shard);
}

static void backward_bf16(const struct head *h, int build, uint32_t mode)
{
	kernel_builds[build].linear_grad_bf16((void *)h->hidden, PORTS(h, h->weight, h->pitch), h->bias, h->target,
	                                      h->coef, h->row, (void *)h->raw, (void *)h->dhidden,
	                                      PORTS(h, h->dweight, 2 * h->pitch), h->dbias, h->s.rows, h->beats,
	                                      h->s.vocab, mode, 0.75f, 5, 0.8125f, 0.0625f, 0.125f, h->filtered, 0);
}

/* The same numbers in both heads; rows of the fp32 one are twice as many beats */
static void fill_pair(struct head *wide, struct head *half, uint64_t *seed)
{
	const struct { unsigned char *wide, *half; uint32_t rows; double sigma; } part[] = {
		{ wide->hidden, half->hidden, half->s.rows, 1 },
		{ wide->weight, half->weight, half->s.vocab, 3 / sqrt(half->s.depth) },
	};
	const uint32_t lanes = half->beats * 32;
	for (int i = 0; i < 2; i++)
		for (size_t k = 0; k < (size_t)part[i].rows * lanes; k++) {
			const uint16_t bits = k % lanes < half->s.depth ? ref_to_bf16(part[i].sigma * normal(seed)) : 0;
			((uint16_t *)(void *)part[i].half)[k] = bits;
			((float *)(void *)part[i].wide)[k] = (float)ref_from_bf16(bits);
		}
	fill_small(half, seed);
	memcpy(wide->bias, half->bias, half->s.vocab * 4);
	memcpy(wide->coef, half->coef, half->s.rows * 4);
	memcpy(wide->target, half->target, half->s.rows * 4);
}

static void same_gradients(const struct head *wide, const struct head *half)
{
	const size_t lanes = (size_t)half->beats * 32;
	for (size_t i = 0; i < half->s.rows * lanes; i++)
		assert_int_equal(((uint16_t *)(void *)half->dhidden)[i],
		                 ref_to_bf16((double)((float *)(void *)wide->dhidden)[i]));
	same("dweight", wide->dweight, half->dweight, half->s.vocab * lanes * 4);
	same("dbias", wide->dbias, half->dbias, half->s.vocab * 4);
}

static void bf16_has_the_bits_of_the_same_numbers_as_fp32(void **state)
{
	enum { ALL = PF_LINEAR_STATS | PF_LINEAR_BIAS | PF_LINEAR_RAW | PF_LINEAR_DWEIGHT };
	static const struct shape shapes[] = {
		{ 1, 1, 1, ALL }, { 5, 66, 31, ALL }, { 66, 127, 64, ALL }, { 130, 70, 33, ALL }, { 3, 300, 200, ALL },
	};
	uint64_t seed = seed_of(31);
	(void)state;
	for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
		const uint32_t beats = (shapes[i].depth + 31) / 32;
		struct head wide, half;
		head_make(&wide, shapes[i], 2 * beats, 2 * beats);
		head_make(&half, shapes[i], beats, beats);
		fill_pair(&wide, &half, &seed);
		forward_f32(&wide);
		backward_f32(&wide);
		for (int b = 0; b < KERNEL_BUILDS; b++) {
			forward_bf16(&half, b);
			same("rows", wide.row, half.row, half.s.rows * sizeof *half.row);
			same("raw logits", wide.raw, half.raw, PF_RAW_BEATS(half.s.rows, half.s.vocab) * 64);
			backward_bf16(&half, b, ALL);
			same_gradients(&wide, &half);
			backward_bf16(&half, b, ALL & ~PF_LINEAR_RAW);
			same_gradients(&wide, &half);
		}
		head_free(&wide);
		head_free(&half);
	}
}

/* ---- MXINT8 ---- */
static void forward_mx(const struct head *h, int build)
{
	kernel_builds[build].linear_logprob_mxint8((void *)h->hidden, PORTS(h, h->weight, h->pitch), h->bias, h->target,
	                                           h->row, (void *)h->raw, h->s.rows, h->beats, h->s.vocab, h->s.mode,
	                                           1, 0, 1, h->shard);
}

/* Raw logit of a token and a word where kernels.def's two kernels agree that it lies: tile of 64 words, row by row */
static float raw_of(const struct head *h, uint32_t t, uint32_t v)
{
	const uint32_t share = PF_PORT_SHARE(h->s.vocab), p = v / share, r = v % share;
	const uint64_t tile = (uint64_t)(t / 64) * PF_TILES(h->s.vocab) + r / 16;
	return h->raw[(tile * 64 + p * 16 + r % 16) * 64 + t % 64];
}

static void check_raw(const struct head *h)
{
	for (uint32_t t = 0; t < h->s.rows; t++)
		for (uint32_t v = 0; v < h->s.vocab; v++) {
			const float want = ref_mx_dot(h->hidden + (size_t)t * h->pitch * 64,
			                              h->weight + (size_t)v * h->pitch * 64, h->beats) +
			                   (h->s.mode & PF_LINEAR_BIAS ? h->bias[v] : 0.0f);
			const float got = raw_of(h, t, v);
			if (isnan(want) ? !isnan(got) : !(got == want))
				fail_msg("raw logit of token %u, word %u: %.9g, not %.9g", t, v, (double)got,
				         (double)want);
		}
}

static void fill_mx(unsigned char *to, uint32_t rows, const struct head *h, double sigma, uint64_t *seed)
{
	float x[8192] = { 0 };
	for (uint32_t r = 0; r < rows; r++) {
		for (uint32_t d = 0; d < h->s.depth; d++)
			x[d] = (float)(sigma * normal(seed) * exp2(random_bits(seed) % 9));
		ref_mx_pack(x, h->s.depth, h->beats, to + (size_t)r * h->pitch * 64);
	}
}

static void mxint8_has_the_bits_of_plain_integers(void **state)
{
	enum { ALL = PF_LINEAR_STATS | PF_LINEAR_BIAS | PF_LINEAR_RAW };
	static const struct shape shapes[] = {
		{ 1, 1, 1, ALL },   { 5, 66, 32, PF_LINEAR_RAW }, { 66, 127, 64, ALL },
		{ 70, 70, 33, ALL }, { 3, 130, 2100, ALL },
	};
	uint64_t seed = seed_of(32);
	(void)state;
	for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
		const uint32_t beats = (shapes[i].depth + 63) / 64;
		struct head h;
		head_make(&h, shapes[i], beats, PF_MX_BEATS(beats));
		fill_mx(h.hidden, h.s.rows, &h, 1, &seed);
		fill_mx(h.weight, h.s.vocab, &h, 0.05 / sqrt(h.s.depth), &seed);
		fill_small(&h, &seed);
		struct pf_row *row = room(h.s.rows * sizeof *row);
		for (int b = 0; b < KERNEL_BUILDS; b++) {
			forward_mx(&h, b);
			check_raw(&h);
			if (b == 0)
				memcpy(row, h.row, h.s.rows * sizeof *row);
			same("rows", row, h.row, h.s.rows * sizeof *row);
		}
		free(row);
		head_free(&h);
	}
}

/* Exponents whose sums fall out of range on either side, NaN's, and -128, which the packer does not make */
static void mxint8_keeps_to_its_word_at_the_edges(void **state)
{
	static const uint8_t codes[] = { 0, 1, 5, 127, 133, 139, 200, 253, 254, 255 };
	enum { CODES = sizeof codes };
	const struct shape s = { CODES, CODES, 64, PF_LINEAR_RAW };
	uint64_t seed = seed_of(33);
	struct head h;
	(void)state;
	head_make(&h, s, 1, 2);
	fill_small(&h, &seed);
	for (int i = 0; i < 2 * CODES; i++) {
		unsigned char *row = (i < CODES ? h.hidden : h.weight) + i % CODES * 128;
		memset(row, 0, 128);
		for (int d = 0; d < 64; d++)
			row[d] = (unsigned char)(d % 3 ? 0x80 : random_bits(&seed));
		row[64] = codes[i % CODES];
		row[65] = codes[(i + i / CODES) % CODES];
	}
	for (int b = 0; b < KERNEL_BUILDS; b++) {
		forward_mx(&h, b);
		check_raw(&h);
		for (uint32_t t = 0; t < CODES; t++)
			assert_true(h.target[t] < 0 || codes[t] != 255 || h.row[t].status & PF_ROW_RANGE);
	}
	head_free(&h);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(bf16_has_the_bits_of_the_same_numbers_as_fp32),
		cmocka_unit_test(mxint8_has_the_bits_of_plain_integers),
		cmocka_unit_test(mxint8_keeps_to_its_word_at_the_edges),
	};
	return seed_take(&argc, argv) ? 2 : cmocka_run_group_tests(tests, NULL, NULL);
}
