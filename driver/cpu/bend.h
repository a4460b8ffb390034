/* bend.h: raw logits to logits in a row of a tile: bias, scale, softcap, temperature; included once per instruction
 * set. */
#ifndef PF_CPU_BEND_H
#define PF_CPU_BEND_H
#include "cpu.h"
#include "vexp.h"

/* tanh x and 1 - tanh^2 x; absolute errors 1.2e-7 and 3e-7 of the value. Not for infinite x */
PF_INLINE pf_vec bend_tanh(pf_vec x, pf_vec *slope)
{
	const struct vexp e = vexp_base(0);
	const pf_vec one = vec_set(1), a = vec_max(vec_sub(vec_set(0), x), x);
	const pf_vec q = vexp(&e, vec_mul(vec_set(-2), a)), s = vec_div(one, vec_add(one, q));
	const pf_vec far = vec_mul(vec_mul(vec_sub(one, q), s), vec_div(x, a));
	const pf_vec y = vec_min(vec_mul(x, x), one);
	pf_vec near = vec_fma(vec_set(0x1.664f48p-6f), y, vec_set(-0x1.ba1ba2p-5f));           /* 62/2835, -17/315 */
	near = vec_fma(near, y, vec_set(0x1.111112p-3f));                                      /* 2/15 */
	near = vec_fma(near, y, vec_set(-0x1.555556p-2f));
	near = vec_fma(vec_mul(near, y), x, x);
	*slope = vec_mul(vec_mul(vec_set(4), q), vec_mul(s, s));
	const pf_vec is_far = vec_above(a, vec_set(0.25f), one);
	return vec_add(vec_above(a, vec_set(0.25f), far), vec_mul(vec_sub(one, is_far), near));
}

static int bend_needed(const struct pf_cpu_linear *h)
{
	return h->bias || h->form.scale != 1 || h->form.softcap > 0 || h->form.inverse_temperature != 1;
}

/* z[words] and, unless NULL, slope[words], the derivative of z by the raw logit; both on 64 bytes with room for
 * PF_CPU_TILE_WORDS. A raw logit of -inf stays -inf, others that are not finite become NaN under a softcap */
static void bend_row(const struct pf_cpu_linear *h, const float *raw, uint32_t word, uint32_t words, float *z,
                     float *slope)
{
	const struct pf_cpu_form f = h->form;
	_Alignas(64) float kept[PF_CPU_TILE_WORDS];
	for (uint32_t v = 0; v < words; v++)
		kept[v] = h->bias ? raw[v] + h->bias[word + v] : raw[v];
	for (uint32_t v = words; v % 16; v++)
		kept[v] = 0;
	if (!(f.softcap > 0)) {
		for (uint32_t v = 0; v < words; v++)
			z[v] = kept[v] == -INFINITY ? kept[v] : kept[v] * f.scale * f.inverse_temperature;
		for (uint32_t v = 0; slope && v < words; v++)
			slope[v] = f.scale * f.inverse_temperature;
		return;
	}
	const pf_vec in = vec_set(f.scale / f.softcap), out = vec_set(f.softcap * f.inverse_temperature);
	const pf_vec steep = vec_set(f.scale * f.inverse_temperature);
	for (uint32_t v = 0; v < words; v += PF_VEC) {
		pf_vec bend, t = bend_tanh(vec_mul(vec_load(kept + v), in), &bend);
		vec_store(z + v, vec_mul(t, out));
		if (slope)
			vec_store(slope + v, vec_mul(bend, steep));
	}
	for (uint32_t v = 0; v < words; v++) {
		z[v] = kept[v] == -INFINITY ? kept[v] : fabsf(kept[v]) < INFINITY ? z[v] : NAN;
		if (slope)
			slope[v] = fabsf(kept[v]) < INFINITY ? slope[v] : 0;
	}
}
#endif
