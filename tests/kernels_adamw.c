/* head_adamw and head_norm called directly: the square root against the C library's, whole steps bit for bit against
 * the same formula with the C library, against the reference where numbers are subnormal, equal bits from every build,
 * and norms against long double. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "tests/cmocka.h"
#include "tests/kernels.h"
#include "tests/ref/adamw.h"
#include "tests/seed.h"

enum { V = 67, D = 32, N = V * D };

struct state { float *weight, *moment1, *moment2, *dweight; };

static float *floats(uint64_t count)
{
	float *memory = aligned_alloc(64, (size_t)(count * 4 + 63) / 64 * 64);
	assert_non_null(memory);
	return memory;
}

static struct state state_open(uint64_t count)
{
	return (struct state){ floats(count), floats(count), floats(count), floats(count) };
}

static void state_close(struct state *s)
{
	free(s->weight);
	free(s->moment1);
	free(s->moment2);
	free(s->dweight);
}

static float any(uint64_t *seed, int low, int high)
{
	const double size = ldexp(1 + random_unit(seed), low + (int)(random_bits(seed) % (uint32_t)(high - low + 1)));
	return (float)(random_bits(seed) & 1 ? size : -size);
}

static void *port(float *array, uint32_t vocab, uint32_t depth, uint32_t p)
{
	const uint32_t share = PF_PORT_SHARE(vocab);
	const uint64_t first = p * share < vocab ? p * share : vocab;
	return array + first * depth * 16;
}

#define PORT(array, p) port(array, vocab, depth, p)
#define PORTS(array) PORT(array, 0), PORT(array, 1), PORT(array, 2), PORT(array, 3)

static void step(int build, struct state *s, uint32_t vocab, uint32_t depth, const struct ref_adamw_factors *f)
{
	kernel_builds[build].head_adamw(PORTS(s->weight), PORTS(s->moment1), PORTS(s->moment2), PORTS(s->dweight),
	                                vocab, depth, (float)f->beta1, (float)f->beta2, (float)f->rest1,
	                                (float)f->rest2, (float)f->grad, (float)f->rate, (float)f->root,
	                                (float)f->epsilon, (float)f->keep);
}

/* Of factors as a training has them; floats, so that the reference sees what the kernel does */
static const struct ref_adamw_factors factors = { 0.9f,  0.999f, 0.1f,  0.001f,       0.75f,
	                                          0.01f, 3.5f,   1e-8f, 0.9990234375f };

/* 1 / sqrt(v) comes out of a step in which nothing else happens; of neighbours in [1, 4) all reciprocals differ */
static void square_roots(void **unused)
{
	enum { ROOTS = 1 << 16 };
	const struct ref_adamw_factors f = { 1, 1, 0, 0, 1, 1, 1, 0, 0 };
	struct state s = state_open(ROOTS);
	uint64_t seed = seed_of(1);
	(void)unused;
	for (int pass = 0; pass < 12; pass++) {
		for (uint32_t i = 0; i < ROOTS; i++) {
			const uint32_t bits = pass < 8 ? 0x3f800000u + ((uint32_t)pass * ROOTS + i) * 29 % 0x1000000u
			                               : 0x00800000u + random_bits(&seed) % 0x7e800000u;
			memcpy(&s.moment2[i], &bits, 4);
			s.weight[i] = 5;
			s.moment1[i] = -1;
			s.dweight[i] = 3;
		}
		step(pass % KERNEL_BUILDS, &s, ROOTS / 16, 1, &f);
		for (uint32_t i = 0; i < ROOTS; i++) {
			const float want = 1.0f / sqrtf(s.moment2[i]);
			if (memcmp(&s.weight[i], &want, 4) != 0)
				fail_msg("1 / sqrt(%.9g) is %.9g, not %.9g", (double)s.moment2[i], (double)s.weight[i],
				         (double)want);
		}
	}
	state_close(&s);
}

static void special_roots(void **unused)
{
	const struct ref_adamw_factors f = { 1, 1, 0, 0, 1, 1, 1, 1, 0 };
	const float in[16] = { 0.0f, -0.0f, 1e-40f, INFINITY, -1.0f, NAN, 4.0f, 0x1p-126f };
	const float want[8] = { 1, 1, 1, 0, NAN, NAN, 1.0f / 3, 1.0f / (1 + 0x1p-63f) };
	struct state s = state_open(16);
	(void)unused;
	for (int i = 0; i < 16; i++) {
		s.moment2[i] = in[i];
		s.moment1[i] = -1;
		s.weight[i] = s.dweight[i] = 0;
	}
	step(0, &s, 1, 1, &f);
	for (int i = 0; i < 8; i++)
		assert_true(isnan(want[i]) ? isnan(s.weight[i]) : s.weight[i] == want[i]);
	state_close(&s);
}

static void fill(struct state *s, uint64_t *seed, int least)
{
	for (uint32_t i = 0; i < N; i++) {
		s->weight[i] = any(seed, -12, 0);
		s->moment1[i] = any(seed, least, -3);
		s->moment2[i] = fabsf(any(seed, least, -3));
		s->dweight[i] = any(seed, least, 0);
	}
}

static void copy(const struct state *from, struct state *to)
{
	memcpy(to->weight, from->weight, N * 4);
	memcpy(to->moment1, from->moment1, N * 4);
	memcpy(to->moment2, from->moment2, N * 4);
	memcpy(to->dweight, from->dweight, N * 4);
}

/* No number is subnormal: the formula in C, as host/train/adamw.c has it */
static void a_step_is_the_formula(void **unused)
{
	const float b1 = (float)factors.beta1, b2 = (float)factors.beta2, keep = (float)factors.keep;
	const float r1 = (float)factors.rest1, r2 = (float)factors.rest2, root = (float)factors.root;
	struct state first = state_open(N), s = state_open(N);
	uint64_t seed = seed_of(2);
	(void)unused;
	fill(&first, &seed, -40);
	for (int b = 0; b < KERNEL_BUILDS; b++) {
		copy(&first, &s);
		step(b, &s, V, D / 16, &factors);
		for (uint32_t i = 0; i < N; i++) {
			const float g = first.dweight[i] * (float)factors.grad;
			const float m = b1 * first.moment1[i] + r1 * g, v = b2 * first.moment2[i] + r2 * (g * g);
			const float w = keep * first.weight[i] -
			                (float)factors.rate * m / (sqrtf(v) * root + (float)factors.epsilon);
			assert_memory_equal(&s.moment1[i], &m, 4);
			assert_memory_equal(&s.moment2[i], &v, 4);
			assert_memory_equal(&s.weight[i], &w, 4);
		}
	}
	state_close(&first);
	state_close(&s);
}

static void near(const char *what, uint32_t i, float got, long double want, long double off)
{
	if (!(fabsl((long double)got - want) <= off))
		fail_msg("%s[%u] is %.9g, the reference says %.9Lg, bound %.3Lg", what, i, (double)got, want, off);
}

static void tiny_numbers_stay_within_the_bound(void **unused)
{
	struct state first = state_open(N), s = state_open(N), other = state_open(N);
	uint64_t seed = seed_of(3);
	(void)unused;
	fill(&first, &seed, -140);
	copy(&first, &s);
	step(0, &s, V, D / 16, &factors);
	for (uint32_t i = 0; i < N; i++) {
		struct ref_adamw off;
		const struct ref_adamw want = ref_adamw(&factors, (double)first.weight[i], (double)first.moment1[i],
		                                        (double)first.moment2[i], (double)first.dweight[i], &off);
		near("moment1", i, s.moment1[i], want.moment1, off.moment1);
		near("moment2", i, s.moment2[i], want.moment2, off.moment2);
		near("weight", i, s.weight[i], want.weight, off.weight);
	}
	for (int b = 1; b < KERNEL_BUILDS; b++) {
		copy(&first, &other);
		step(b, &other, V, D / 16, &factors);
		assert_memory_equal(s.weight, other.weight, N * 4);
		assert_memory_equal(s.moment1, other.moment1, N * 4);
		assert_memory_equal(s.moment2, other.moment2, N * 4);
	}
	state_close(&first);
	state_close(&s);
	state_close(&other);
}

static void norms(void **unused)
{
	struct state s = state_open(N);
	uint64_t seed = seed_of(4);
	(void)unused;
	for (uint32_t vocab = 1; vocab <= V; vocab += 11)
		for (uint32_t depth = 1; depth <= 2; depth++) {
			double square[KERNEL_BUILDS][PF_WEIGHT_PORTS];
			fill(&s, &seed, -60);
			for (int b = 0; b < KERNEL_BUILDS; b++)
				kernel_builds[b].head_norm(PORTS(s.dweight), square[b], vocab, depth);
			for (uint32_t p = 0; p < PF_WEIGHT_PORTS; p++) {
				const long double want = ref_square(port(s.dweight, vocab, depth, p),
				                                    PF_PORT_ROWS(vocab, p) * depth * 16);
				if (!(fabsl((long double)square[0][p] - want) <= 64 * 0x1p-53L * want))
					fail_msg("port %u: %.17g, not %.17Lg", p, square[0][p], want);
			}
			assert_memory_equal(square[0], square[1], sizeof square[0]);
			assert_memory_equal(square[0], square[2], sizeof square[0]);
		}
	state_close(&s);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(square_roots),
		cmocka_unit_test(special_roots),
		cmocka_unit_test(a_step_is_the_formula),
		cmocka_unit_test(tiny_numbers_stay_within_the_bound),
		cmocka_unit_test(norms),
	};
	return seed_take(&argc, argv) ? 2 : cmocka_run_group_tests(tests, NULL, NULL);
}
