/* half.h: 16-bit floating point to float, exactly. Thread-safe. */
#ifndef PF_MODEL_HALF_H
#define PF_MODEL_HALF_H
#include <stdint.h>
#include <string.h>

static inline float pf_word_float(uint32_t word)
{
	float value;
	memcpy(&value, &word, sizeof value);
	return value;
}

/* bfloat16: the upper half of a float */
static inline float pf_bfloat_float(uint16_t bits)
{
	return pf_word_float((uint32_t)bits << 16);
}

/* IEEE binary16, with subnormals, infinities and NaNs */
static inline float pf_half_float(uint16_t bits)
{
	uint32_t sign = (uint32_t)(bits & 0x8000u) << 16, exponent = (bits >> 10) & 31u,
	         fraction = bits & 0x3ffu;
	if (exponent == 31)
		return pf_word_float(sign | 0x7f800000u | fraction << 13);
	if (exponent > 0)
		return pf_word_float(sign | (exponent + 112) << 23 | fraction << 13);
	float value = (float)fraction * 0x1p-24f;
	return sign ? -value : value;
}
#endif
