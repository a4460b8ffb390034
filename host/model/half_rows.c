#include "half_rows.h"

union word { uint32_t bits; float value; };

/* The 15 bits moved up 13 are the float times 2^-112, for subnormals too */
static inline float widen(uint16_t half)
{
	const union word grow = { 0x77800000u };               /* 2^112 */
	union word w = { (uint32_t)(half & 0x7fffu) << 13 };
	uint32_t special = (half & 0x7c00u) == 0x7c00u ? 0x7f800000u : 0;
	w.value *= grow.value;
	w.bits |= special | (uint32_t)(half & 0x8000u) << 16;
	return w.value;
}

/* Below 2^-14 the sum with 1/2 has a half's subnormal unit as its last place; above, the exponent moves by 112 */
static inline uint16_t narrow(float wide)
{
	union word w = { .value = wide };
	const uint32_t sign = w.bits >> 16 & 0x8000u, size = w.bits & 0x7fffffffu;
	union word low = { size };
	low.value += 0.5f;
	uint32_t normal = (size - (112u << 23) + 0xfffu + (size >> 13 & 1)) >> 13;
	uint32_t half = size < 0x38800000u ? low.bits - 0x3f000000u : normal;
	half = size >= 0x477ff000u ? 0x7c00u : half;           /* 65520 and more */
	half = size > 0x7f800000u ? 0x7e00u : half;
	return (uint16_t)(sign | half);
}

void pf_halves_widen(const uint16_t *half, float *wide, size_t count)
{
	for (size_t i = 0; i < count; i++)
		wide[i] = widen(half[i]);
}

void pf_halves_round(const float *wide, uint16_t *half, size_t count)
{
	for (size_t i = 0; i < count; i++)
		half[i] = narrow(wide[i]);
}
