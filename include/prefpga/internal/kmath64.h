/* kmath64.h: the functions of kmath.h in double, and log(1 - e^x), for kernel pref: few values, any range.
 *
 * The rules of kmath.h hold: + - * /, comparisons, integers; same bits everywhere; subnormals count as 0 and results
 * below 2^-1022 are 0. Polynomials are plain series (1/n!, 2/(2n+1)), cut off below 2^-56 of the result.
 *
 * Relative error of every function: below PF_F64_BOUND. Why: in exp, r carries 2^-55 and 1 + (r + ..) two roundings
 * more, together 2^-52.2; sigmoid adds two roundings: 2^-51.2. In expm1 the sum e + (1 - 2^-k) amplifies the error of e
 * at most 1 / 0.207 times (k = 1): 2^-51.2. In log the quotient, the product and two sums: 2^-52. log(1 - e^x) divides
 * the error of expm1 by |log| >= 0.693: 2^-50.7, and 2^-52 of log: 2^-50.3. tests/kmath64.c measures at most 2^-51.5
 * (MPFR). */
#ifndef PF_INTERNAL_KMATH64_H
#define PF_INTERNAL_KMATH64_H
#include <stdint.h>

#define PF_F64_BOUND  0x1p-50

#define PF_F64_INF    0x7ff0000000000000u
#define PF_F64_NAN    0x7ff8000000000000u
#define PF_F64_SIGN   0x8000000000000000u
#define PF_F64_ABS    0x7fffffffffffffffu
#define PF_F64_ONE    0x3ff0000000000000u
#define PF_F64_MIN    0x0010000000000000u      /* 2^-1022 */

#define PF_LOG2E_64      0x1.71547652b82fep+0
#define PF_LN2_HI_64     0x1.62e42fee00000p-1  /* 32 bits: n * HI is exact for |n| < 2^21 */
#define PF_LN2_LO_64     0x1.a39ef35793c76p-33
#define PF_MAGIC_64      0x1.8p52
#define PF_SQRT_HALF_64  0x3fe6a09e667f3bcdu
#define PF_TINY_64       0x3c90000000000000u   /* 2^-54 */

union pf_f64_word { double f; uint64_t u; };
static inline uint64_t pf_bits64(double f) { union pf_f64_word w; w.f = f; return w.u; }
static inline double pf_float64(uint64_t u) { union pf_f64_word w; w.u = u; return w.f; }

/* x = k ln2 + r, |r| <= 0.3467, for |x| < 2^20 */
static inline double pf_exp_reduce64(double x, int32_t *k)
{
	double t = x * PF_LOG2E_64 + PF_MAGIC_64;
	double n = t - PF_MAGIC_64;
	*k = (int32_t)(uint32_t)(pf_bits64(t) - pf_bits64(PF_MAGIC_64));
	return (x - n * PF_LN2_HI_64) - n * PF_LN2_LO_64;
}

/* e^r - 1 = r + what is returned, |r| <= 0.3467 */
static inline double pf_expm1_poly64(double r)
{
	double q = 1.0 / 6227020800;
	q = q * r + 1.0 / 479001600;
	q = q * r + 1.0 / 39916800;
	q = q * r + 1.0 / 3628800;
	q = q * r + 1.0 / 362880;
	q = q * r + 1.0 / 40320;
	q = q * r + 1.0 / 5040;
	q = q * r + 1.0 / 720;
	q = q * r + 1.0 / 120;
	q = q * r + 1.0 / 24;
	q = q * r + 1.0 / 6;
	return 0.5 * r * r + r * (r * r * q);
}

/* f 2^k for normal or zero f; below 2^-1022: zero, above the range: infinity, of f's sign */
static inline double pf_scale64(double f, int32_t k)
{
	uint64_t b = pf_bits64(f), sign = b & PF_F64_SIGN;
	int32_t e = (int32_t)((b >> 52) & 2047u);
	if (e == 0 || e + k < 1)
		return pf_float64(sign);
	if (e + k > 2046)
		return pf_float64(sign | PF_F64_INF);
	return pf_float64(b + ((uint64_t)(uint32_t)k << 52));
}

/* x with NaN and what is beyond the ends replaced by an end */
static inline double pf_clamp64(double x, double low, double high)
{
	double c = x < high ? x : high;
	return c > low ? c : low;
}

static inline double pf_exp64(double x)
{
	int32_t k;
	double r = pf_exp_reduce64(pf_clamp64(x, -710.0, 710.0), &k);
	double y = pf_scale64(1.0 + (r + pf_expm1_poly64(r)), k);
	return x != x ? x : y;
}

/* Zero of x's sign if x is subnormal or, so that flushing before or after rounding is the same, 2^-1022 itself */
static inline double pf_flush64(double x)
{
	uint64_t b = pf_bits64(x);
	return pf_float64((b & PF_F64_ABS) > PF_F64_MIN ? b : b & PF_F64_SIGN);
}

static inline double pf_expm1_64(double x)
{
	int32_t k;
	if (x != x)
		return x;
	if ((pf_bits64(x) & PF_F64_ABS) < PF_TINY_64)
		return pf_flush64(x);
	double r = pf_exp_reduce64(pf_clamp64(x, -40.0, 710.0), &k);
	double e = r + pf_expm1_poly64(r);
	if (k == 0)
		return e;
	if (k > 53)
		return pf_scale64(1.0 + e, k);
	double unit = pf_scale64(1.0, k), inverse = pf_scale64(1.0, -k);
	return (e + (1.0 - inverse)) * unit;
}

/* log(1 + f) + c for f in [-0.2929, 0.4143] and small c */
static inline double pf_log_poly64(double f, double c)
{
	double s = f / (2.0 + f), z = s * s, h = 0.5 * f * f;
	double R = 2.0 / 21;
	R = R * z + 2.0 / 19;
	R = R * z + 2.0 / 17;
	R = R * z + 2.0 / 15;
	R = R * z + 2.0 / 13;
	R = R * z + 2.0 / 11;
	R = R * z + 2.0 / 9;
	R = R * z + 2.0 / 7;
	R = R * z + 2.0 / 5;
	R = R * z + 2.0 / 3;
	return f - (h - (s * (h + R * z) + c));
}

/* x = 2^k (1 + f), f in [-0.2929, 0.4143], for normal x > 0 */
static inline double pf_log_reduce64(double x, int32_t *k)
{
	uint64_t b = pf_bits64(x) + (PF_F64_ONE - PF_SQRT_HALF_64);
	*k = (int32_t)(b >> 52) - 1023;
	return pf_float64((b & 0xfffffffffffffu) + PF_SQRT_HALF_64) - 1.0;
}

static inline double pf_log64(double x)
{
	int32_t k;
	uint64_t b = pf_bits64(x);
	if ((b & PF_F64_INF) == 0)
		return pf_float64(PF_F64_SIGN | PF_F64_INF);
	if (b >= PF_F64_INF)
		return b == PF_F64_INF ? x : pf_float64(PF_F64_NAN);
	double f = pf_log_reduce64(x, &k), n = (double)k;
	return n * PF_LN2_HI_64 + pf_log_poly64(f, n * PF_LN2_LO_64);
}

static inline double pf_log1p_far64(double x)
{
	int32_t k;
	double u = 1.0 + x;
	double lost = x < 1.0 ? x - (u - 1.0) : 1.0 - (u - x);
	double f = pf_log_reduce64(u, &k), n = (double)k;
	return n * PF_LN2_HI_64 + pf_log_poly64(f, n * PF_LN2_LO_64 + lost / u);
}

static inline double pf_log1p64(double x)
{
	uint64_t b = pf_bits64(x);
	if ((b & PF_F64_ABS) < PF_TINY_64)
		return pf_flush64(x);
	if (b == PF_F64_INF || x != x)
		return x;
	if (x <= -1.0)
		return pf_float64(x == -1.0 ? PF_F64_SIGN | PF_F64_INF : PF_F64_NAN);
	if (x > -0.2928 && x < 0.4142)
		return pf_log_poly64(x, 0.0);
	return pf_log1p_far64(x);
}

static inline double pf_sigmoid64(double x)
{
	double e = pf_exp64(x < 0.0 ? x : -x);
	return (x < 0.0 ? e : 1.0) / (1.0 + e);
}

static inline double pf_softplus64(double x)
{
	double e = pf_log1p64(pf_exp64(x < 0.0 ? x : -x));
	return x > 0.0 ? x + e : e;
}

/* log(1 - e^x) for x < 0; -infinity at 0, NaN above */
static inline double pf_log1mexp64(double x)
{
	if (!(pf_flush64(x) <= 0.0))
		return pf_float64(PF_F64_NAN);
	if (x > -0.6931471805599453)
		return pf_log64(-pf_expm1_64(x));
	return pf_log1p64(-pf_exp64(x));
}
#endif
