#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "tests/cmocka.h"
#include "tests/kernels.h"

/* ---- builds ---- */
#undef PF_KERNEL_SUFFIX
#define PF_KERNEL_SUFFIX _s1
PF_KERNELS(PF_PROTOTYPE)
#undef PF_KERNEL_SUFFIX
#define PF_KERNEL_SUFFIX _s3
PF_KERNELS(PF_PROTOTYPE)
#undef PF_KERNEL_SUFFIX
#define PF_KERNEL_SUFFIX _s64
PF_KERNELS(PF_PROTOTYPE)
#undef PF_KERNEL_SUFFIX
#define PF_KERNEL_SUFFIX _half
PF_KERNELS(PF_PROTOTYPE)

#define BUILD_MEMBER_BUILT(kernel, suffix) .kernel = PF_PASTE3(pf_k_, kernel, suffix),
#define BUILD_MEMBER_RESERVED(kernel, suffix)
#define BUILD_MEMBER_1(kernel, file, state, lanes, brief) BUILD_MEMBER_##state(kernel, _s1)
#define BUILD_MEMBER_3(kernel, file, state, lanes, brief) BUILD_MEMBER_##state(kernel, _s3)
#define BUILD_MEMBER_64(kernel, file, state, lanes, brief) BUILD_MEMBER_##state(kernel, _s64)
#define BUILD_MEMBER_HALF(kernel, file, state, lanes, brief) BUILD_MEMBER_##state(kernel, _half)
const struct kernel_build kernel_builds[KERNEL_BUILDS] = {
	{ .step = 1, PF_KERNELS(BUILD_MEMBER_1) },
	{ .step = 3, PF_KERNELS(BUILD_MEMBER_3) },
	{ .step = 64, PF_KERNELS(BUILD_MEMBER_64) },
	{ .step = 1, PF_KERNELS(BUILD_MEMBER_HALF) },
};

/* ---- rows of logits ---- */
const char *const logit_kind_names[LOGITS_KINDS] = {
	"wide", "model", "strong", "certain", "equal", "up", "down", "one zero", "masked", "huge", "low", "tiny",
};

uint32_t random_bits(uint64_t *state)
{
	*state = *state * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)(*state >> 32);
}

double random_unit(uint64_t *state)
{
	return random_bits(state) * 0x1p-32;
}

static double random_normal(uint64_t *state)
{
	return sqrt(-2 * log(random_unit(state) + 0x1p-40)) * cos(6.283185307179586 * random_unit(state));
}

static float random_tiny(uint64_t *state)
{
	union { uint32_t u; float f; } tiny = { random_bits(state) & 0x807fffffu };
	return random_bits(state) & 1 ? tiny.f : random_bits(state) & 1 ? -0.0f : 0.0f;
}

static float draw(enum logit_kind kind, uint32_t v, uint32_t vocab, uint64_t *state)
{
	switch (kind) {
	case LOGITS_WIDE:     return (float)(100 * random_unit(state) - 50);
	case LOGITS_MODEL:    return (float)(3 * random_normal(state) - 2);
	case LOGITS_STRONG:   return v == vocab / 2 ? 20 : (float)(3 * random_normal(state) - 5);
	case LOGITS_CERTAIN:  return v == vocab / 2 ? 30 : (float)(random_normal(state) - 16);
	case LOGITS_EQUAL:    return 7.25f;
	case LOGITS_UP:       return (float)(-50 + 100.0 * v / vocab);
	case LOGITS_DOWN:     return (float)(50 - 100.0 * v / vocab);
	case LOGITS_ONE_ZERO: return v == 0 ? 0 : -12;
	case LOGITS_MASKED:
		return v != vocab / 2 && random_bits(state) % 3 ? -INFINITY : (float)(5 * random_normal(state));
	case LOGITS_HUGE:     return (float)(20000 * random_unit(state) - 10000);
	case LOGITS_LOW:      return (float)(-10990 + 5 * random_unit(state));
	default:              return random_tiny(state);
	}
}

void logits_make(struct logits *l, int bf16, uint32_t rows, uint32_t vocab, uint32_t pad)
{
	l->bf16 = bf16;
	l->rows = rows;
	l->vocab = vocab;
	l->lanes = bf16 ? 32 : 16;
	l->beats = (vocab + l->lanes - 1) / l->lanes + pad;
	l->z = calloc((size_t)rows * vocab, sizeof *l->z);
	l->beat = aligned_alloc(PF_BEAT_BYTES, ((size_t)rows * l->beats + !l->beats) * PF_BEAT_BYTES);
	assert_true(l->z && l->beat);
	memset(l->beat, 0xff, (size_t)rows * l->beats * PF_BEAT_BYTES);
}

void logits_set(struct logits *l, uint32_t row, uint32_t index, float value)
{
	size_t at = (size_t)row * l->beats * l->lanes + index;
	union { float f; uint32_t u; } word = { value };
	if (l->bf16) {
		word.u &= 0xffff0000u;
		((uint16_t *)l->beat)[at] = (uint16_t)(word.u >> 16);
	} else {
		((uint32_t *)l->beat)[at] = word.u;
	}
	l->z[(size_t)row * l->vocab + index] = (double)word.f;
}

void logits_fill(struct logits *l, uint32_t row, enum logit_kind kind, uint64_t *state)
{
	for (uint32_t v = 0; v < l->vocab; v++)
		logits_set(l, row, v, draw(kind, v, l->vocab, state));
}

void logits_free(struct logits *l)
{
	free(l->beat);
	free(l->z);
}

double logits_lane(const struct logits *l, const void *beat, uint32_t row, uint32_t index)
{
	size_t at = (size_t)row * l->beats * l->lanes + index;
	union { uint32_t u; float f; } word;
	word.u = l->bf16 ? (uint32_t)((const uint16_t *)beat)[at] << 16 : ((const uint32_t *)beat)[at];
	return (double)word.f;
}

/* ---- calls ---- */
void run_logprob(const struct kernel_build *build, const struct logits *l, const int32_t *target, uint32_t flags,
                 struct pf_row *row)
{
	if (l->bf16)
		build->logprob_bf16(l->beat, target, row, l->rows, l->vocab, l->beats, flags);
	else
		build->logprob(l->beat, target, row, l->rows, l->vocab, l->beats, flags);
}

void run_logit_grad(const struct kernel_build *build, const struct logits *l, const int32_t *target, const float *coef,
                    const struct pf_row *row, void *dz)
{
	if (l->bf16)
		build->logit_grad_bf16(l->beat, target, coef, row, dz, l->rows, l->vocab, l->beats);
	else
		build->logit_grad(l->beat, target, coef, row, dz, l->rows, l->vocab, l->beats);
}
