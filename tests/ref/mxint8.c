#include "mxint8.h"
#include <math.h>
#include <string.h>

enum { BLOCK = 32, BEAT = 64 };

/* Bytes of a row */
static uint32_t row_bytes(uint32_t beats)
{
	const uint32_t codes = 2 * beats;
	return BEAT * beats + (codes + BEAT - 1) / BEAT * BEAT;
}

static void pack_block(const float *x, uint32_t count, int8_t *element, uint8_t *code)
{
	double largest = 0;
	int finite = 1, power;
	for (uint32_t i = 0; i < count; i++) {
		finite &= isfinite(x[i]) != 0;
		largest = fmax(largest, fabs((double)x[i]));
	}
	if (!finite)
		*code = 255;
	if (!finite || largest < 0x1p-126)
		return;
	frexp(largest, &power);                        /* largest in [2^(power - 1), 2^power) */
	*code = (uint8_t)(power - 1 + 127);
	for (uint32_t i = 0; i < count; i++)
		element[i] = (int8_t)fmax(-127, fmin(127, nearbyint(ldexp((double)x[i], 6 - (power - 1)))));
}

void ref_mx_pack(const float *x, uint32_t count, uint32_t beats, uint8_t *row)
{
	memset(row, 0, row_bytes(beats));
	for (uint32_t first = 0; first < count; first += BLOCK)
		pack_block(x + first, count - first < BLOCK ? count - first : BLOCK, (int8_t *)row + first,
		           row + BEAT * beats + first / BLOCK);
}

void ref_mx_unpack(const uint8_t *row, uint32_t beats, float *x)
{
	for (uint32_t i = 0; i < BEAT * beats; i++) {
		const uint8_t code = row[BEAT * beats + i / BLOCK];
		x[i] = code == 255 ? NAN : (float)ldexp((double)(int8_t)row[i], code - 127 - 6);
	}
}

float ref_mx_dot(const uint8_t *a, const uint8_t *b, uint32_t beats)
{
	float sum = 0;
	for (uint32_t k = 0; k < 2 * beats; k++) {
		const int ea = a[BEAT * beats + k], eb = b[BEAT * beats + k], power = ea + eb - 266;
		long dot = 0;
		for (uint32_t i = k * BLOCK; i < (k + 1) * BLOCK; i++)
			dot += (long)(int8_t)a[i] * (int8_t)b[i];
		float term = power < -126 ? 0 : (float)ldexp((double)dot, power);
		if (power > 127 || ea == 255 || eb == 255)
			term = NAN;
		sum += term;
	}
	return sum;
}
