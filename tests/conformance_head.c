/* The fused head's cases, and its optimizer's. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "tests/cmocka.h"
#include "tests/conformance_make.h"
#include "tests/ref/mxint8.h"

struct head_shape { uint32_t rows, vocab, depth, mode, form; };

static int is_grad(enum pf_kernel kernel)
{
	return kernel == PF_KERNEL_linear_grad || kernel == PF_KERNEL_linear_grad_bf16;
}

static float *floats_of(struct conf_case *c, unsigned arg)
{
	return (float *)(void *)c->input[arg];
}

static uint32_t bits_of(float value)
{
	uint32_t bits;
	memcpy(&bits, &value, sizeof bits);
	return bits;
}

static struct conf_case *add_head(enum pf_kernel kernel, const struct head_shape *s)
{
	static const struct { const char *name; float value[4]; } form[] = {   /* plain, bent, saturated, with extras */
		{ "scale", { 1, 0.75f, 2, 1.25f } }, { "softcap", { 0, 6, 1.5f, 0 } },
		{ "temperature", { 1, 0.8f, 1, 1.5f } },
	};
	char name[64];
	snprintf(name, sizeof name, "T=%u V=%u D=%u mode=%u form %u", s->rows, s->vocab, s->depth, s->mode, s->form);
	struct conf_case *c = conf_add(kernel, name);
	*conf_scalar(c, "rows") = s->rows;
	*conf_scalar(c, "vocab") = s->vocab;
	*conf_scalar(c, "depth") = (s->depth + pf_kernel_rows[kernel].lanes - 1) / pf_kernel_rows[kernel].lanes;
	*conf_scalar(c, "mode") = s->mode;
	for (size_t i = 0; i < sizeof form / sizeof *form; i++)
		*conf_scalar(c, form[i].name) = bits_of(form[i].value[s->form]);
	if (is_grad(kernel)) {
		*conf_scalar(c, "zloss") = bits_of(s->form == 3 ? 0.01f : 0);
		*conf_scalar(c, "entropy") = bits_of(s->form == 3 ? 0.05f : 0);
	}
	conf_fit(c);
	return c;
}

/* A row of the kernel's lane type from numbers */
static void put_row(const struct conf_case *c, unsigned char *to, const float *x, uint32_t depth)
{
	const unsigned lanes = pf_kernel_rows[c->kernel].lanes;
	if (lanes == 64)
		ref_mx_pack(x, depth, (depth + 63) / 64, to);
	for (uint32_t d = 0; lanes == 32 && d < depth; d++)
		((uint16_t *)(void *)to)[d] = ref_to_bf16((double)x[d]);
	if (lanes == 16)
		memcpy(to, x, depth * sizeof *x);
}

/* [rows, depth] in rows of whole beats; each `odd`-th row from 3 on, if not 0, begins with what is no number */
static void fill_matrix(struct conf_case *c, unsigned arg, uint64_t rows, uint32_t depth, double sigma, uint32_t odd)
{
	float *x = calloc(depth + 1, sizeof *x);
	assert_non_null(x);
	for (uint64_t r = 0; r < rows; r++) {
		for (uint32_t d = 0; d < depth; d++)
			x[d] = (float)conf_normal(sigma);
		if (odd && r >= 3 && (r - 3) % odd == 0)
			x[0] = r % 2 ? NAN : INFINITY;
		put_row(c, c->input[arg] + r * (c->bytes[arg] / rows), x, depth);
	}
	free(x);
}

/* All kernels of the head begin with the same arguments; form 2 has rows without numbers and forbidden words */
static void fill_head(struct conf_case *c, const struct head_shape *s)
{
	float *bias = floats_of(c, PF_ARG_linear_grad_bias);
	fill_matrix(c, PF_ARG_linear_grad_hidden, s->rows, s->depth, 1, s->form == 2 ? 17 : 0);
	for (unsigned p = 0; p < PF_WEIGHT_PORTS; p++)
		fill_matrix(c, PF_ARG_linear_grad_weight + p, PF_PORT_ROWS(s->vocab, p), s->depth, 3 / sqrt(s->depth),
		            0);
	for (uint32_t v = 0; s->mode & PF_LINEAR_BIAS && v < s->vocab; v++)
		bias[v] = s->form == 2 && v % 5 == 2 ? -INFINITY : (float)conf_normal(1);
	conf_targets((int32_t *)(void *)c->input[PF_ARG_linear_grad_target], s->rows, s->vocab);
}

/* Sums that are added to */
static void fill_sums(float *to, uint64_t count)
{
	for (uint64_t i = 0; i < count; i++)
		to[i] = (float)conf_normal(1);
}

/* The record that the way back reads, from the reference, so that every device gets the same bits */
static void fill_head_records(struct conf_case *c, const struct head_shape *s)
{
	struct conf_head h;
	struct pf_row *row = (struct pf_row *)(void *)c->input[PF_ARG_linear_grad_row];
	double *z = calloc(s->vocab, sizeof *z);
	assert_non_null(z);
	conf_head_make(c, &h);
	for (uint32_t t = 0; t < s->rows; t++) {
		struct ref_row want;
		ref_linear_logits(&h.ref, t, z);
		ref_logprob(z, s->vocab, h.ref.target[t], &want);
		row[t] = conf_record(z, s->vocab, h.ref.target[t]);
		row[t].entropy = row[t].status ? 0 : (float)want.entropy;
	}
	conf_head_free(&h);
	free(z);
}

static void forward_case(enum pf_kernel kernel, const struct head_shape *s)
{
	fill_head(add_head(kernel, s), s);
}

static void backward_case(enum pf_kernel kernel, const struct head_shape *s)
{
	struct conf_case *c = add_head(kernel, s);
	fill_head(c, s);
	for (uint32_t t = 0; t < s->rows; t++)
		floats_of(c, PF_ARG_linear_grad_coef)[t] = t % 7 == 5 ? 0 : (float)conf_normal(0.3);
	fill_head_records(c, s);
	for (unsigned p = 0; s->mode & PF_LINEAR_DWEIGHT && p < PF_WEIGHT_PORTS; p++)
		fill_sums(floats_of(c, PF_ARG_linear_grad_dweight + p), c->bytes[PF_ARG_linear_grad_dweight + p] / 4);
	if (s->mode & PF_LINEAR_BIAS)
		fill_sums(floats_of(c, PF_ARG_linear_grad_dbias), s->vocab);
}

static void head_case(const struct head_shape *s)
{
	struct head_shape forward = *s;
	forward.mode &= PF_LINEAR_STATS | PF_LINEAR_BIAS;      /* raw logits: each backend's own; see tests/cpu_linear.c */
	forward_case(PF_KERNEL_linear_logprob, &forward);
	forward_case(PF_KERNEL_linear_logprob_bf16, &forward);
	forward_case(PF_KERNEL_linear_logprob_mxint8, &forward);
	backward_case(PF_KERNEL_linear_grad, s);
	backward_case(PF_KERNEL_linear_grad_bf16, s);
}

/* States of a range, and the filter: their meaning is tests/shards.c's business, here only that bits agree */
static void head_bits(const struct head_shape *s)
{
	struct head_shape part = *s;
	part.mode = (s->mode & (PF_LINEAR_STATS | PF_LINEAR_BIAS)) | PF_LINEAR_SHARD;
	struct conf_case *c = add_head(PF_KERNEL_linear_logprob, &part);
	fill_head(c, &part);
	c->bits_only = 1;
	part.mode = (s->mode & ~(uint32_t)PF_LINEAR_RAW) | PF_LINEAR_FILTER;
	c = add_head(PF_KERNEL_linear_grad, &part);
	*conf_scalar(c, "filter") = bits_of(0.02f);
	fill_head(c, &part);
	for (uint32_t t = 0; t < s->rows; t++)
		floats_of(c, PF_ARG_linear_grad_coef)[t] = (float)conf_normal(0.3);
	fill_head_records(c, &part);
	for (unsigned p = 0; s->mode & PF_LINEAR_DWEIGHT && p < PF_WEIGHT_PORTS; p++)
		fill_sums(floats_of(c, PF_ARG_linear_grad_dweight + p), c->bytes[PF_ARG_linear_grad_dweight + p] / 4);
	for (uint32_t v = 0; s->mode & PF_LINEAR_BIAS && v < s->vocab; v++)
		floats_of(c, PF_ARG_linear_grad_dbias)[v] = (float)conf_normal(1);
	c->bits_only = 1;
}

/* ---- the head's optimizer ---- */
static const struct { const char *name; float value; } adamw_factors[] = {
	{ "beta1", 0.9f },  { "beta2", 0.99f }, { "rest1", 0.1f },     { "rest2", 0.01f }, { "grad", 0.5f },
	{ "rate", 0.003f }, { "root", 2.5f },   { "epsilon", 1e-8f }, { "keep", 0.999f },
};

static void adamw_case(uint32_t vocab, uint32_t depth)
{
	char name[64];
	snprintf(name, sizeof name, "V=%u beats=%u", vocab, depth);
	for (unsigned k = 0; k < 2; k++) {
		struct conf_case *c = conf_add(k ? PF_KERNEL_head_adamw : PF_KERNEL_head_norm, name);
		*conf_scalar(c, "vocab") = vocab;
		*conf_scalar(c, "depth") = depth;
		for (size_t i = 0; k && i < sizeof adamw_factors / sizeof *adamw_factors; i++)
			*conf_scalar(c, adamw_factors[i].name) = bits_of(adamw_factors[i].value);
		conf_fit(c);
		for (unsigned a = 0; a < pf_kernel_rows[c->kernel].count; a++)
			for (uint64_t i = 0; c->input[a] && i < c->bytes[a] / sizeof(float); i++)
				floats_of(c, a)[i] = (float)(conf_normal(1) * exp(conf_normal(8)));
		for (unsigned p = 0; k && p < PF_WEIGHT_PORTS; p++)
			for (uint64_t i = 0; i < c->bytes[PF_ARG_head_adamw_moment20 + p] / sizeof(float); i++)
				floats_of(c, PF_ARG_head_adamw_moment20 + p)[i] =
					fabsf(floats_of(c, PF_ARG_head_adamw_moment20 + p)[i]);
	}
}

/* ---- all ---- */
void conf_head_cases(void)
{
	enum { B = PF_LINEAR_BIAS, W = PF_LINEAR_DWEIGHT, A = PF_LINEAR_ADD, S = PF_LINEAR_STATS };
	static const struct head_shape shapes[] = {
		/* a tile has 64 words, 16 of each port; a tile of backend cpu 512, a block 512 */
		{ 0, 1, 1, 0, 0 },
		{ 1, 1, 1, W, 0 },
		{ 3, 2, 5, W | A, 0 },
		{ 2, 17, 16, B | W, 1 },
		{ 5, 63, 17, B | W | A | S, 3 },
		{ 64, 64, 64, W, 0 },
		{ 65, 65, 63, B | W | S, 2 },
		{ 66, 130, 80, B | W | A | S, 3 },
		{ 40, 257, 33, 0, 1 },
		{ 30, 1000, 96, B | W | S, 1 },
		{ 520, 90, 24, B | W | A | S, 2 },
		{ 4, 4500, 48, W | S, 0 },
		{ 9, 2100, 20, B | S, 3 },
		{ 70, 40, 1060, W, 0 },
	};
	for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
		head_case(&shapes[i]);
	head_bits(&(struct head_shape){ 70, 300, 40, B | W | A | S, 1 });
	head_bits(&(struct head_shape){ 5, 90, 17, 0, 2 });
	adamw_case(1, 1);
	adamw_case(67, 2);
	adamw_case(300, 17);
}
