/* Results against the reference: what every backend promises, exact or not.
 * logp, log_sum: 1e-6 + 1 ULP; rest, inv: 1e-6 relative (rest: and V 2^-48); statistics 4e-6 (mean: 2e-6 of mean |z|,
 * and 2^-24); gradients 1e-6 |c|, in bf16 half an ULP more; sums of integers exact, of statistics n 2^-32; losses 4 u
 * relative, u = 2^-24; whatever is below 2^-126 may be 0. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "tests/cmocka.h"
#include "tests/conformance.h"
#include "tests/ref/adamw.h"
#include "tests/ref/mxint8.h"
#include "tests/ref/ref.h"

static char wrong[256];

static int off(const char *what, uint32_t index, double got, long double want, double bound)
{
	int ok = isnan(want) ? isnan(got) : isinf(want) ? got == (double)want : fabsl(got - want) <= bound;
	if (!ok)
		snprintf(wrong, sizeof wrong, "%s[%u] is %.12g, the reference says %.12Lg, bound %.3g", what, index,
		         got, want, bound);
	return !ok;
}

static double number_at(const unsigned char *from, uint32_t i)
{
	return (double)((const float *)(const void *)from)[i];
}

static int differs(const char *what, uint32_t index, long long got, long long want)
{
	if (got != want)
		snprintf(wrong, sizeof wrong, "%s[%u] is %lld, the reference says %lld", what, index, got, want);
	return got != want;
}

static double lane(const struct conf_case *c, const unsigned char *from, uint64_t at)
{
	return pf_kernel_rows[c->kernel].lanes == 32 ? ref_from_bf16(((const uint16_t *)(const void *)from)[at])
	                                             : (double)((const float *)(const void *)from)[at];
}

/* ---- logprob ---- */
static double mean_size(const double *z, uint32_t vocab)
{
	double sum = 0;
	for (uint32_t v = 0; v < vocab; v++)
		sum += isfinite(z[v]) ? fabs(z[v]) : 0;
	return sum / vocab;
}

static int judge_stats(uint32_t t, const struct pf_row *got, const struct ref_row *want, double size)
{
	return off("entropy", t, (double)got->entropy, want->entropy, 4e-6) ||
	       off("mean", t, (double)got->mean, want->mean, 2e-6 * size + 0x1p-24) ||
	       off("log_sum_p2", t, (double)got->log_sum_p2, want->log_sum_p2, 4e-6);
}

/* Logits that differ by less than 2^-124 may count as equal */
static int judge_argmax(uint32_t t, uint32_t vocab, const struct pf_row *got, const struct ref_row *want,
                        const double *z)
{
	if (got->argmax < vocab && fabs(z[got->argmax] - z[want->argmax]) < 0x1p-124 &&
	    z[got->argmax] != z[want->argmax])
		return 0;
	return differs("argmax", t, got->argmax, want->argmax);
}

static int judge_row(uint32_t t, uint32_t vocab, const struct pf_row *got, const struct ref_row *want)
{
	int64_t none = got->status & PF_ROW_IGNORED ? 0 : PF_Q32_NONE;
	if (differs("status", t, got->status, want->status) ||
	    off("logp", t, (double)got->logp, want->logp, 1e-6 + ref_ulp32((double)want->logp)) ||
	    off("log_sum", t, (double)got->log_sum, want->log_sum, 1e-6 + ref_ulp32((double)want->log_sum)) ||
	    off("rest", t, (double)got->rest, want->rest, 1e-6 * (double)want->rest + vocab * 0x1p-48) ||
	    off("max", t, (double)got->max, want->max, 0x1p-126) ||
	    off("target", t, (double)got->target, want->target, 0x1p-126))
		return 1;
	if (!isfinite(want->logp) || got->status & PF_ROW_IGNORED)
		return differs("logp_q32", t, got->logp_q32, none);
	return off("logp_q32", t, ldexp((double)got->logp_q32, -32), want->logp, 1e-6 + 0x1p-32) ||
	       off("inv, exp2", t, got->exp2 * 0.693147180559945309 - log((double)got->inv), want->max + want->log_sum,
	           1e-6);
}

static int judge_logprob(const struct conf_case *c, unsigned char *const *output)
{
	const uint32_t rows = c->value[PF_ARG_logprob_rows], vocab = c->value[PF_ARG_logprob_vocab];
	const uint64_t lanes = c->value[PF_ARG_logprob_stride] * pf_kernel_rows[c->kernel].lanes;
	const int32_t *target = (const int32_t *)(void *)c->input[PF_ARG_logprob_target];
	const struct pf_row *got = (const struct pf_row *)(void *)output[PF_ARG_logprob_out];
	double *z = calloc(vocab, sizeof *z);
	int bad = 0;
	assert_non_null(z);
	for (uint32_t t = 0; t < rows && !bad; t++) {
		struct ref_row want;
		for (uint32_t v = 0; v < vocab; v++)
			z[v] = lane(c, c->input[PF_ARG_logprob_z], t * lanes + v);
		ref_logprob(z, vocab, target[t], &want);
		if (!(c->value[PF_ARG_logprob_flags] & PF_WANT_STATS) || want.status & PF_ROW_IGNORED)
			want.entropy = want.mean = want.log_sum_p2 = 0;
		bad = judge_argmax(t, vocab, &got[t], &want, z) || judge_row(t, vocab, &got[t], &want) ||
		      judge_stats(t, &got[t], &want, mean_size(z, vocab));
	}
	free(z);
	return bad;
}

/* ---- logit_grad ---- */
static int judge_grad_row(const struct conf_case *c, const unsigned char *dz, uint32_t t, const double *z,
                          long double *want)
{
	const uint32_t vocab = c->value[PF_ARG_logit_grad_vocab];
	const uint32_t lanes = c->value[PF_ARG_logit_grad_stride] * pf_kernel_rows[c->kernel].lanes;
	const double coef = (double)((const float *)(void *)c->input[PF_ARG_logit_grad_coef])[t];
	const double half_ulp = lanes && pf_kernel_rows[c->kernel].lanes == 32 ? 0x1p-8 : 0;
	ref_logit_grad(z, vocab, ((const int32_t *)(void *)c->input[PF_ARG_logit_grad_target])[t], coef, want);
	for (uint32_t v = 0; v < lanes; v++) {
		long double w = v < vocab ? want[v] : 0;
		if (off("dz", t * vocab + v, lane(c, dz, (uint64_t)t * lanes + v), w,
		        1e-6 * fabs(coef) + half_ulp * (double)fabsl(w) + 0x1p-125))
			return 1;
	}
	return 0;
}

static int judge_logit_grad(const struct conf_case *c, unsigned char *const *output)
{
	const uint32_t rows = c->value[PF_ARG_logit_grad_rows], vocab = c->value[PF_ARG_logit_grad_vocab];
	const uint64_t lanes = c->value[PF_ARG_logit_grad_stride] * pf_kernel_rows[c->kernel].lanes;
	double *z = calloc(vocab, sizeof *z);
	long double *want = calloc(vocab, sizeof *want);
	int bad = 0;
	assert_true(z && want);
	for (uint32_t t = 0; t < rows && !bad; t++) {
		for (uint32_t v = 0; v < vocab; v++)
			z[v] = lane(c, c->input[PF_ARG_logit_grad_z], t * lanes + v);
		bad = judge_grad_row(c, output[PF_ARG_logit_grad_dz], t, z, want);
	}
	free(z);
	free(want);
	return bad;
}

/* ---- seq_sum ---- */
static int judge_seq_sum(const struct conf_case *c, unsigned char *const *output)
{
	const struct pf_row *row = (const struct pf_row *)(void *)c->input[PF_ARG_seq_sum_row];
	const struct pf_span *span = (const struct pf_span *)(void *)c->input[PF_ARG_seq_sum_span];
	const struct pf_seq *got = (const struct pf_seq *)(void *)output[PF_ARG_seq_sum_out];
	for (uint32_t q = 0; q < c->value[PF_ARG_seq_sum_seqs]; q++, got++) {
		struct ref_seq want;
		ref_seq_sum(row, c->value[PF_ARG_seq_sum_rows], &span[q], &want);
		double bound = (want.n + 1) * 0x1p-32;
		if (differs("status", q, got->status, want.status) || differs("n", q, got->n, want.n) ||
		    differs("hits", q, got->hits, want.hits) || differs("logp", q, got->logp, want.logp) ||
		    differs("logp_tail", q, got->logp_tail, want.logp_tail) ||
		    off("entropy", q, ldexp((double)got->entropy, -32), want.entropy, bound) ||
		    off("log_weight", q, (double)ldexpl(got->log_weight, -32), want.log_weight, 2 * bound) ||
		    off("mean_logit", q, ldexp((double)got->mean_logit, -32), want.mean_logit, bound))
			return 1;
	}
	return 0;
}

/* ---- coef ---- */
static int judge_coef(const struct conf_case *c, unsigned char *const *output)
{
	const uint32_t rows = c->value[PF_ARG_coef_rows];
	const float *got = (const float *)(void *)output[PF_ARG_coef_out];
	const float *tail = (const float *)(const void *)&c->value[PF_ARG_coef_tail];
	double *want = calloc(rows + 1, sizeof *want);
	int bad = 0;
	assert_non_null(want);
	ref_coef((const struct pf_item_out *)(void *)c->input[PF_ARG_coef_item],
	         (const struct pf_span *)(void *)c->input[PF_ARG_coef_span], c->value[PF_ARG_coef_seqs], rows,
	         (double)*tail, want);
	for (uint32_t t = 0; t < rows && !bad; t++)
		bad = off("c", t, (double)got[t], (long double)(float)want[t], 0x1p-24 * fabs(want[t]) + 0x1p-126);
	free(want);
	return bad;
}

/* ---- pref ---- */
static int judge_pref(const struct conf_case *c, unsigned char *const *output)
{
	const uint32_t items = c->value[PF_ARG_pref_items];
	const struct pf_item_out *got = (const struct pf_item_out *)(void *)output[PF_ARG_pref_out];
	struct ref_item_out *want = calloc(items + 1, sizeof *want);
	int bad = 0;
	assert_non_null(want);
	ref_pref((const double *)(void *)c->input[PF_ARG_pref_par],
	         (const uint32_t *)(void *)c->input[PF_ARG_pref_prog],
	         (const struct pf_item *)(void *)c->input[PF_ARG_pref_item], items,
	         (const uint32_t *)(void *)c->input[PF_ARG_pref_group], c->value[PF_ARG_pref_groups], want);
	for (uint32_t i = 0; i < items && !bad; i++)
		bad = differs("status", i, got[i].status, want[i].status) ||
		      differs("group", i, got[i].group, want[i].group) ||
		      off("loss", i, got[i].loss, want[i].loss, 0x1p-22 * fabs((double)want[i].loss) + 0x1p-126) ||
		      off("grad", i, got[i].grad, want[i].grad, 0x1p-22 * fabs((double)want[i].grad) + 0x1p-126);
	free(want);
	return bad;
}

/* ---- the fused head ---- */
static double float_of(uint32_t bits)
{
	float value;
	memcpy(&value, &bits, sizeof value);
	return (double)value;
}

/* Rows of `beats` beats as floats, behind what `to` has already. The padding is 0, so padded rows are as good as tight
 * ones */
static float *widen(const struct conf_case *c, unsigned arg, uint64_t rows, uint32_t beats, float *to)
{
	const unsigned lanes = pf_kernel_rows[c->kernel].lanes;
	for (uint64_t r = 0; r < rows; r++, to += (size_t)beats * lanes) {
		const unsigned char *from = c->input[arg] + r * (c->bytes[arg] / rows);
		if (lanes == 64)
			ref_mx_unpack(from, beats, to);
		for (uint32_t d = 0; lanes < 64 && d < beats * lanes; d++)
			to[d] = (float)lane(c, from, d);
	}
	return to;
}

void conf_head_make(const struct conf_case *c, struct conf_head *h)
{
	const int grad = c->kernel == PF_KERNEL_linear_grad || c->kernel == PF_KERNEL_linear_grad_bf16;
	const uint32_t *value = &c->value[grad ? PF_ARG_linear_grad_rows : PF_ARG_linear_logprob_rows];
	const uint32_t rows = value[0], depth = value[1] * pf_kernel_rows[c->kernel].lanes, vocab = value[2];
	h->hidden = calloc((size_t)rows * depth + 1, sizeof *h->hidden);
	h->weight = calloc((size_t)vocab * depth + 1, sizeof *h->weight);
	assert_true(h->hidden && h->weight);
	widen(c, PF_ARG_linear_grad_hidden, rows, value[1], h->hidden);
	float *to = h->weight;
	for (unsigned p = 0; p < PF_WEIGHT_PORTS; p++)
		to = widen(c, PF_ARG_linear_grad_weight + p, PF_PORT_ROWS(vocab, p), value[1], to);
	h->ref = (struct ref_linear){
		h->hidden,
		h->weight,
		value[3] & PF_LINEAR_BIAS ? (const float *)(void *)c->input[PF_ARG_linear_grad_bias] : NULL,
		(const int32_t *)(void *)c->input[PF_ARG_linear_grad_target],
		rows,
		depth,
		vocab,
		float_of(value[4]),
		float_of(value[5]),
		float_of(value[6]),
		grad ? float_of(value[7]) : 0,
		grad ? float_of(value[8]) : 0,
	};
}

void conf_head_free(struct conf_head *h)
{
	free(h->hidden);
	free(h->weight);
}

static int judge_head_row(const struct conf_head *h, uint32_t t, double *z, const struct pf_row *got, int stats)
{
	struct ref_row want;
	const double e = 2 * ref_linear_logit_error(ref_linear_logits(&h->ref, t, z)) + 1e-6;
	ref_logprob(z, h->ref.vocab, h->ref.target[t], &want);
	if (differs("status", t, got->status, want.status))
		return 1;
	if (want.status & PF_ROW_IGNORED)
		return 0;
	return off("logp", t, (double)got->logp, want.logp, e) || off("max", t, (double)got->max, want.max, e) ||
	       off("log_sum", t, (double)got->log_sum, want.log_sum, 2 * e) ||
	       off("target", t, (double)got->target, want.target, e) ||
	       off("rest", t, (double)got->rest, want.rest, 2 * e * (double)want.rest + h->ref.vocab * 0x1p-48) ||
	       (isfinite(want.logp) && off("logp_q32", t, ldexp((double)got->logp_q32, -32), want.logp, e)) ||
	       (isfinite(want.max) &&
	        off("z[argmax]", t, got->argmax < h->ref.vocab ? z[got->argmax] : NAN, want.max, 2 * e)) ||
	       (stats && (off("entropy", t, (double)got->entropy, want.entropy, e * (2 + (double)want.log_sum)) ||
	                  off("mean", t, (double)got->mean, want.mean, e) ||
	                  off("log_sum_p2", t, (double)got->log_sum_p2, want.log_sum_p2, 4 * e)));
}

static int judge_linear_logprob(const struct conf_case *c, unsigned char *const *output)
{
	const struct pf_row *got = (const struct pf_row *)(void *)output[PF_ARG_linear_logprob_out];
	struct conf_head h;
	double *z = calloc(c->value[PF_ARG_linear_logprob_vocab], sizeof *z);
	int bad = 0;
	assert_non_null(z);
	conf_head_make(c, &h);
	for (uint32_t t = 0; t < h.ref.rows && !bad; t++)
		bad = judge_head_row(&h, t, z, &got[t], c->value[PF_ARG_linear_logprob_mode] & PF_LINEAR_STATS);
	conf_head_free(&h);
	free(z);
	return bad;
}

/* got[i] against base[i] + want[i]; base may be NULL */
static int off_sums(const char *what, const unsigned char *got, const unsigned char *base, uint64_t count,
                    const long double *want, const long double *size, double share)
{
	for (uint64_t i = 0; i < count; i++) {
		const double b = base ? (double)((const float *)(const void *)base)[i] : 0;
		if (off(what, (uint32_t)i, (double)((const float *)(const void *)got)[i], b + want[i],
		        share * (double)size[i] + 0x1p-23 * fabs(b) + 0x1p-120))
			return 1;
	}
	return 0;
}

/* dhidden in the kernel's lane type: in bf16 half a unit more */
static int judge_dhidden(const struct conf_case *c, const struct conf_head *h, const unsigned char *got,
                         const struct ref_linear_grad *g, double share)
{
	const double half = pf_kernel_rows[c->kernel].lanes == 32 ? 0x1.01p-8 : 0;
	for (uint64_t i = 0; i < (uint64_t)h->ref.rows * h->ref.depth; i++)
		if (off("dhidden", (uint32_t)i, lane(c, got, i), g->dhidden[i],
		        share * (double)g->dhidden_size[i] + half * fabs((double)g->dhidden[i]) + 0x1p-120))
			return 1;
	return 0;
}

static int judge_gradients(const struct conf_case *c, const struct conf_head *h, unsigned char *const *output,
                           const struct ref_linear_grad *g, double share)
{
	const uint32_t mode = c->value[PF_ARG_linear_grad_mode], add = mode & PF_LINEAR_ADD, depth = h->ref.depth;
	uint64_t at = 0;
	int bad = judge_dhidden(c, h, output[PF_ARG_linear_grad_dhidden], g, share);
	for (unsigned p = 0; !bad && mode & PF_LINEAR_DWEIGHT && p < PF_WEIGHT_PORTS; p++) {
		const unsigned arg = PF_ARG_linear_grad_dweight + p;
		const uint64_t count = PF_PORT_ROWS(h->ref.vocab, p) * depth;
		bad = off_sums("dweight", output[arg], add ? c->input[arg] : NULL, count, g->dweight + at,
		               g->dweight_size + at, share);
		at += count;
	}
	if (!bad && mode & PF_LINEAR_BIAS)
		bad = off_sums("dbias", output[PF_ARG_linear_grad_dbias],
		               add ? c->input[PF_ARG_linear_grad_dbias] : NULL, h->ref.vocab, g->dbias, g->dbias_size,
		               share);
	return bad;
}

static int judge_linear_grad(const struct conf_case *c, unsigned char *const *output)
{
	struct conf_head h;
	conf_head_make(c, &h);
	const size_t th = (size_t)h.ref.rows * h.ref.depth, vd = (size_t)h.ref.vocab * h.ref.depth, v = h.ref.vocab;
	long double *all = calloc(2 * (th + vd + v) + 1, sizeof *all);
	assert_non_null(all);
	const struct ref_linear_grad g = { all, all + th, all + 2 * th, all + 2 * th + vd, all + 2 * (th + vd),
	                                   all + 2 * (th + vd) + v };
	const double size = ref_linear_grad(&h.ref, (const float *)(void *)c->input[PF_ARG_linear_grad_coef], &g);
	int bad = judge_gradients(c, &h, output, &g, ref_linear_share(size));
	free(all);
	conf_head_free(&h);
	return bad;
}

static int judge_head_adamw(const struct conf_case *c, unsigned char *const *output)
{
	const uint32_t *v = &c->value[PF_ARG_head_adamw_beta1];
	const struct ref_adamw_factors f = { float_of(v[0]), float_of(v[1]), float_of(v[2]),
		                             float_of(v[3]), float_of(v[4]), float_of(v[5]),
		                             float_of(v[6]), float_of(v[7]), float_of(v[8]) };
	const unsigned w = PF_ARG_head_adamw_weight0, m = PF_ARG_head_adamw_moment10, q = PF_ARG_head_adamw_moment20;
	int bad = 0;
	for (unsigned p = 0; p < PF_WEIGHT_PORTS; p++)
		for (uint32_t i = 0; !bad && i < c->bytes[w + p] / sizeof(float); i++) {
			struct ref_adamw far;
			const struct ref_adamw want =
				ref_adamw(&f, number_at(c->input[w + p], i), number_at(c->input[m + p], i),
			                  number_at(c->input[q + p], i),
			                  number_at(c->input[PF_ARG_head_adamw_dweight0 + p], i), &far);
			bad = off("weight", i, number_at(output[w + p], i), want.weight, (double)far.weight) ||
			      off("moment1", i, number_at(output[m + p], i), want.moment1, (double)far.moment1) ||
			      off("moment2", i, number_at(output[q + p], i), want.moment2, (double)far.moment2);
		}
	return bad;
}

static int judge_head_norm(const struct conf_case *c, unsigned char *const *output)
{
	const double *got = (const double *)(void *)output[PF_ARG_head_norm_square];
	int bad = 0;
	for (unsigned p = 0; !bad && p < PF_WEIGHT_PORTS; p++) {
		const unsigned arg = PF_ARG_head_norm_dweight0 + p;
		const float *in = (const float *)(void *)c->input[arg];
		const long double want = ref_square(in, c->bytes[arg] / sizeof *in);
		bad = off("square", p, got[p], want, 64 * 0x1p-53 * (double)want);
	}
	return bad;
}

const char *conf_judge(const struct conf_case *c, unsigned char *const *output)
{
	static int (*const judge[PF_KERNEL_COUNT])(const struct conf_case *, unsigned char *const *) = {
		[PF_KERNEL_logprob] = judge_logprob, [PF_KERNEL_logprob_bf16] = judge_logprob,
		[PF_KERNEL_seq_sum] = judge_seq_sum, [PF_KERNEL_pref] = judge_pref, [PF_KERNEL_coef] = judge_coef,
		[PF_KERNEL_logit_grad] = judge_logit_grad, [PF_KERNEL_logit_grad_bf16] = judge_logit_grad,
		[PF_KERNEL_head_adamw] = judge_head_adamw, [PF_KERNEL_head_norm] = judge_head_norm,
		[PF_KERNEL_linear_logprob] = judge_linear_logprob, [PF_KERNEL_linear_grad] = judge_linear_grad,
		[PF_KERNEL_linear_logprob_bf16] = judge_linear_logprob,
		[PF_KERNEL_linear_grad_bf16] = judge_linear_grad,
		[PF_KERNEL_linear_logprob_mxint8] = judge_linear_logprob,
	};
	assert_non_null(judge[c->kernel]);
	return judge[c->kernel](c, output) ? wrong : NULL;
}
