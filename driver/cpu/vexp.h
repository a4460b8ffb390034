/* vexp.h: exp of vectors, relative to a power of two.
 *
 *	exp(z) = p 2^n,  n = round(z log2 e),  p = polynomial of r = z - n ln 2,  |r| <= 0.3467
 *
 * The large part of ln 2 has 9 bits, so z - n ln 2 loses nothing however large z is: no two logits are ever
 * subtracted, and a row's common factor is an exact power of two. Relative error of p below 1.2e-7.
 * 2^n is a factor, not an addition to the exponent, which would turn a NaN with low bits into a number. */
#ifndef PF_CPU_VEXP_H
#define PF_CPU_VEXP_H
#include "vec.h"

#define VEXP_LOG2E 0x1.715476p+0f
#define VEXP_LN2_HI 0x1.63p-1f
#define VEXP_LN2_LO -0x1.bd0106p-13f
#define VEXP_MAGIC (0x1.8p23f + 127)   /* adding it rounds to an integer; 127: bias of exponents */

/* A row's factor 2^base, |base| < 2^15 */
struct vexp { pf_vec magic, low; };

PF_INLINE struct vexp vexp_base(int32_t base)
{
	struct vexp e;
	e.magic = vec_set(VEXP_MAGIC - (float)base);
	e.low = vec_set((float)base * 0.693147182f - 87.0f);
	return e;
}

/* exp(z) 2^-base for z <= (base + 126) ln 2; below base ln 2 - 87: exp(-87) instead of less. NaN stays NaN */
PF_INLINE pf_vec vexp(const struct vexp *e, pf_vec z)
{
	pf_vec x = vec_max(e->low, z);
	pf_vec k = vec_fma(x, vec_set(VEXP_LOG2E), e->magic);
	pf_vec n = vec_sub(k, e->magic);
	pf_vec r = vec_fma(n, vec_set(-VEXP_LN2_LO), vec_fma(n, vec_set(-VEXP_LN2_HI), x));
	pf_vec p = vec_fma(vec_set(0x1.6ac38cp-10f), r, vec_set(0x1.123da8p-7f));
	p = vec_fma(p, r, vec_set(0x1.555858p-5f));
	p = vec_fma(p, r, vec_set(0x1.55548cp-3f));
	p = vec_fma(p, r, vec_set(0x1.fffffcp-2f));
	p = vec_fma(p, r, vec_set(1.0f));
	return vec_mul(vec_fma(p, r, vec_set(1.0f)), vec_power(k));
}
#endif
