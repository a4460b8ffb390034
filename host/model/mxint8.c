#include "mxint8.h"
#include <string.h>
#include "prefpga/internal/abi.h"
#include "prefpga/internal/kmath.h"
#include "prefpga/internal/kmath64.h"

enum { BLOCK = PF_MX_BLOCK, NOT_FINITE = 255, POINT = 6 };     /* POINT: binary places of an element */

static uint32_t beats_of(uint32_t cols)
{
	return (cols + PF_BEAT_BYTES - 1) / PF_BEAT_BYTES;
}

uint64_t pf_mx_row_bytes(uint32_t cols)
{
	return (uint64_t)PF_MX_BEATS(beats_of(cols)) * PF_BEAT_BYTES;
}

/* To nearest even: 1.5 2^52 leaves a double no binary places */
static int8_t element_of(double scaled)
{
	const double whole = scaled + 0x1.8p52 - 0x1.8p52;
	return (int8_t)(whole > 127 ? 127 : whole < -127 ? -127 : whole);
}

/* The block's exponent */
static uint8_t pack_block(const float *x, uint32_t count, int8_t *element)
{
	uint32_t largest = 0;
	for (uint32_t i = 0; i < count; i++) {
		const uint32_t size = pf_bits(x[i]) & PF_F32_ABS;
		largest = size > largest ? size : largest;
	}
	const uint32_t exponent = largest >> 23;
	if (exponent == 0 || exponent == NOT_FINITE)
		return (uint8_t)exponent;
	const double scale = pf_float64((uint64_t)(1023 + 127 + POINT - exponent) << 52);
	for (uint32_t i = 0; i < count; i++)
		element[i] = element_of((double)x[i] * scale);
	return (uint8_t)exponent;
}

uint64_t pf_mx_pack(const float *from, uint64_t rows, uint32_t cols, void *to)
{
	const uint64_t bytes = pf_mx_row_bytes(cols), elements = (uint64_t)beats_of(cols) * PF_BEAT_BYTES;
	uint64_t bad = rows;
	memset(to, 0, rows * bytes);
	for (uint64_t r = 0; r < rows; r++) {
		char *row = (char *)to + r * bytes;
		for (uint32_t d = 0; d < cols; d += BLOCK) {
			const uint32_t count = cols - d < BLOCK ? cols - d : BLOCK;
			const uint8_t exponent = pack_block(from + r * cols + d, count, (int8_t *)row + d);
			row[elements + d / BLOCK] = (char)exponent;
			bad = exponent == NOT_FINITE && r < bad ? r : bad;
		}
	}
	return bad;
}
