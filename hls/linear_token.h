/* linear_token.h: what linear_grad knows of a token, and its gradient by a raw logit: dz (kernels.def). */
#ifndef PF_HLS_LINEAR_TOKEN_H
#define PF_HLS_LINEAR_TOKEN_H
#include "linear_words.h"

/* What a token's record and coefficient say: dz = p (c + extra + entropy z), at the target -c rest + p (extra +
 * entropy z) */
struct pf_token { float inv, c, extra, at_target, rest; int32_t exp2; uint32_t live, target; };

static inline struct pf_token pf_token_of(float c, const struct pf_row *row, int32_t target, float zloss, float entropy)
{
	struct pf_token k = { 0 };
	if (target < 0 || row->status != 0)
		return k;
	const float lse = row->max + row->log_sum;
	k.live = 1;
	k.target = (uint32_t)target;
	k.inv = row->inv;
	k.exp2 = (int32_t)(0u - (uint32_t)row->exp2 - PF_BIAS);
	k.c = (pf_bits(c) & PF_F32_ABS) < 0x7e800000u ? pf_same(c) : pf_float(PF_F32_NAN);
	k.extra = 2.0f * zloss * lse + entropy * (row->entropy - lse);
	k.rest = row->rest;
	k.at_target = pf_same(-(k.c * row->rest));
	return k;
}

/* dz; *share: |p - onehot|, what the filter asks for */
static inline float pf_token_dz(const struct pf_token *k, float raw, const struct pf_form *form, float entropy,
                                uint32_t v, float *share)
{
	float slope, left;
	const float z = pf_form_logit(raw, form, &slope);
	const uint32_t at = pf_exp_at(z, &left);
	const float p = pf_scaled_power(left, at, k->inv, k->exp2);
	const float more = k->extra + entropy * (p > 0.0f ? z : 0.0f);
	const float dz = v == k->target ? k->at_target + p * more : p * (k->c + more);
	const float far = v == k->target ? k->rest : p;
	*share = k->live ? far : 0.0f;
	return k->live && (pf_bits(raw) & PF_F32_ABS) < PF_F32_INF ? pf_same(dz * slope) : 0.0f;
}

static void pf_tokens_read(const int32_t *target, const float *coef, const struct pf_row *row, uint32_t n, float zloss,
                           float entropy, struct pf_token token[PF_TOKENS], uint32_t live[PF_TOKENS])
{
tokens:
	for (uint32_t t = 0; t < PF_TOKENS; t++) {
#pragma HLS PIPELINE II=2
		const struct pf_row none = { .status = PF_ROW_IGNORED };
		const struct pf_row record = t < n ? row[t] : none;
		token[t] = pf_token_of(t < n ? coef[t] : 0.0f, &record, t < n ? target[t] : PF_IGNORE, zloss, entropy);
		live[t] = token[t].live;
	}
}
#endif
