/* kmath.h: elementary functions in fp32 with one meaning everywhere: kernels, simulator, host. kmath64.h has the
 * doubles.
 *
 * Only + - * / (round to nearest even), comparisons and integer operations; build with -ffp-contract=off. Subnormal
 * arguments count as 0, results below 2^-126 are 0 of their sign, and no subnormal intermediate reaches a result, so
 * the bits do not depend on flush-to-zero modes. Infinities and NaN behave as in C's Annex F.
 * Constants: polynomials are minimax fits with coefficients rounded one after the other, lowest first.
 *
 * Largest error over every fp32 argument whose result is normal (tests/kmath.c asserts it, `kmath --all` over all):
 *	PF_EXP_ULP  PF_EXPM1_ULP  PF_LOG_ULP  PF_LOG1P_ULP  PF_SIGMOID_ULP  PF_SOFTPLUS_ULP */
#ifndef PF_INTERNAL_KMATH_H
#define PF_INTERNAL_KMATH_H
#include <stdint.h>

#define PF_EXP_ULP      1.20
#define PF_EXPM1_ULP    1.45
#define PF_LOG_ULP      0.85
#define PF_LOG1P_ULP    0.85
#define PF_SIGMOID_ULP  2.45
#define PF_SOFTPLUS_ULP 1.75

#define PF_F32_INF    0x7f800000u
#define PF_F32_NAN    0x7fc00000u
#define PF_F32_SIGN   0x80000000u
#define PF_F32_ABS    0x7fffffffu

#define PF_LOG2E      0x1.715476p+0f
#define PF_LN2_HI     0x1.63p-1f       /* 9 bits: n * HI is exact for |n| < 2^15 */
#define PF_LN2_LO    -0x1.bd0106p-13f
#define PF_MAGIC      0x1.8p23f        /* adding it rounds to an integer */
#define PF_SQRT_HALF  0x3f3504f3u      /* bits of sqrt(1/2) */
#define PF_TINY       0x33000000u      /* bits of 2^-25: below, expm1(x) = log1p(x) = x */

union pf_f32_word { float f; uint32_t u; };
static inline uint32_t pf_bits(float f) { union pf_f32_word w; w.f = f; return w.u; }
static inline float pf_float(uint32_t u) { union pf_f32_word w; w.u = u; return w.f; }

/* x = k ln2 + r, |r| <= 0.3467, for |x| < 11356 */
static inline float pf_exp_reduce(float x, int32_t *k)
{
	float t = x * PF_LOG2E + PF_MAGIC;
	float n = t - PF_MAGIC;
	*k = (int32_t)(pf_bits(t) - pf_bits(PF_MAGIC));
	return (x - n * PF_LN2_HI) - n * PF_LN2_LO;
}

/* unit * exp(r) for |r| <= 0.3467: in unit * [0.70, 1.42]. A power of two as unit changes no rounding */
static inline float pf_exp_poly(float r, const float unit)
{
	float p = 0x1.6ac38cp-10f * unit;
	p = p * r + 0x1.123da8p-7f * unit;
	p = p * r + 0x1.555858p-5f * unit;
	p = p * r + 0x1.55548cp-3f * unit;
	p = p * r + 0x1.fffffcp-2f * unit;
	p = p * r + unit;
	return p * r + unit;
}

/* f 2^k for normal or zero f; below 2^-126: zero, above the range: infinity, of f's sign */
static inline float pf_scale(float f, int32_t k)
{
	uint32_t b = pf_bits(f), sign = b & PF_F32_SIGN;
	int32_t e = (int32_t)((b >> 23) & 255u);
	if (e == 0 || e + k < 1)
		return pf_float(sign);
	if (e + k > 254)
		return pf_float(sign | PF_F32_INF);
	return pf_float(b + ((uint32_t)k << 23));
}

/* x with NaN and what is beyond the ends replaced by an end; comparisons, because min and max differ on NaN */
static inline float pf_clamp(float x, float low, float high)
{
	float c = x < high ? x : high;
	return c > low ? c : low;
}

/* e^x */
static inline float pf_exp(float x)
{
	int32_t k;
	float r = pf_exp_reduce(pf_clamp(x, -88.0f, 88.8f), &k);
	float y = pf_scale(pf_exp_poly(r, 1.0f), k);
	return x != x ? x : y;
}

/* x where f(x) = x to the last bit: zero if subnormal */
static inline float pf_same(float x)
{
	uint32_t b = pf_bits(x);
	return pf_float(b & PF_F32_INF ? b : b & PF_F32_SIGN);
}

/* e^r - 1 = r + what is returned, |r| <= 0.3467 */
static inline float pf_expm1_poly(float r)
{
	float q = 0x1.3b8acep-13f;
	q = q * r + 0x1.6d2e4ap-10f;
	q = q * r + 0x1.1155a8p-7f;
	q = q * r + 0x1.555502p-5f;
	q = q * r + 0x1.55552cp-3f;
	return 0.5f * r * r + r * (r * r * q);
}

/* e^x - 1 */
static inline float pf_expm1(float x)
{
	int32_t k;
	if (x != x)
		return x;
	if ((pf_bits(x) & PF_F32_ABS) < PF_TINY)
		return pf_same(x);
	float r = pf_exp_reduce(pf_clamp(x, -18.0f, 88.8f), &k);
	float e = r + pf_expm1_poly(r);
	if (k == 0)
		return e;
	if (k > 24)
		return pf_scale(1.0f + e, k);
	float unit = pf_float((uint32_t)(127 + k) << 23), inverse = pf_float((uint32_t)(127 - k) << 23);
	return (e + (1.0f - inverse)) * unit;
}

/* log(1 + f) + c for f in [-0.2929, 0.4143] and small c */
static inline float pf_log_poly(float f, float c)
{
	float s = f / (2.0f + f), z = s * s, h = 0.5f * f * f;
	float R = 0x1.f13b28p-3f;
	R = R * z + 0x1.23d3e0p-2f;
	R = R * z + 0x1.999c26p-2f;
	R = R * z + 0x1.555554p-1f;
	return f - (h - (s * (h + R * z) + c));
}

/* x = 2^k (1 + f), f in [-0.2929, 0.4143], for normal x > 0 */
static inline float pf_log_reduce(float x, int32_t *k)
{
	uint32_t b = pf_bits(x) + (0x3f800000u - PF_SQRT_HALF);
	*k = (int32_t)(b >> 23) - 127;
	return pf_float((b & 0x7fffffu) + PF_SQRT_HALF) - 1.0f;
}

/* log x */
static inline float pf_log(float x)
{
	int32_t k;
	uint32_t b = pf_bits(x);
	if ((b & PF_F32_INF) == 0)
		return pf_float(PF_F32_SIGN | PF_F32_INF);
	if (b >= PF_F32_INF)
		return b == PF_F32_INF ? x : pf_float(PF_F32_NAN);
	float f = pf_log_reduce(x, &k), n = (float)k;
	return n * PF_LN2_HI + pf_log_poly(f, n * PF_LN2_LO);
}

/* log(1 + x) for x >= 0.4142 or -1 < x <= -0.2928: the sum is rounded, then mended */
static inline float pf_log1p_far(float x)
{
	int32_t k;
	float u = 1.0f + x;
	float lost = x < 1.0f ? x - (u - 1.0f) : 1.0f - (u - x);
	float f = pf_log_reduce(u, &k), n = (float)k;
	return n * PF_LN2_HI + pf_log_poly(f, n * PF_LN2_LO + lost / u);
}

/* log(1 + x) */
static inline float pf_log1p(float x)
{
	uint32_t b = pf_bits(x);
	if ((b & PF_F32_ABS) < PF_TINY)
		return pf_same(x);
	if (b == PF_F32_INF || x != x)
		return x;
	if (x <= -1.0f)
		return pf_float(x == -1.0f ? PF_F32_SIGN | PF_F32_INF : PF_F32_NAN);
	if (x > -0.2928f && x < 0.4142f)
		return pf_log_poly(x, 0.0f);
	return pf_log1p_far(x);
}

/* 1 / (1 + e^-x) */
static inline float pf_sigmoid(float x)
{
	float e = pf_exp(x < 0.0f ? x : -x);
	return (x < 0.0f ? e : 1.0f) / (1.0f + e);
}

/* log(1 + e^x) */
static inline float pf_softplus(float x)
{
	float e = pf_log1p(pf_exp(x < 0.0f ? x : -x));
	return x > 0.0f ? x + e : e;
}

/* bfloat16, nearest even, of what is finite, infinite or the NaN above */
static inline uint16_t pf_bf16(float f)
{
	uint32_t b = pf_bits(f);
	return (uint16_t)((b + 0x7fffu + (b >> 16 & 1u)) >> 16);
}
/* The same of any float, as files may hold them: the rounding above would carry a NaN with all bits set over to 0 */
static inline uint16_t pf_bf16_any(float f)
{
	return (pf_bits(f) & PF_F32_ABS) > PF_F32_INF ? PF_F32_NAN >> 16 : pf_bf16(f);
}
static inline float pf_from_bf16(uint16_t b) { return pf_float((uint32_t)b << 16); }
#endif
