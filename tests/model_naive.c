#include "model_naive.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const double *tensor(const struct pf_layout *layout, const double *param, const char *name)
{
	for (unsigned i = 0; i < layout->tensors; i++)
		if (strcmp(layout->tensor[i].name, name) == 0)
			return param + layout->tensor[i].offset;
	return NULL;
}

/* The tensor whose name in Llama's files ends so, under the name that the family's files have for it; NULL: none */
static const double *layer_tensor(const struct pf_model_config *c, const struct pf_layout *layout, const double *param,
                                  unsigned layer, const char *part, const char *ending)
{
	static const char *const gpt2[][2] = {
		{ "input_layernorm", "ln_1" },         { "self_attn.c_attn", "attn.c_attn" },
		{ "self_attn.o_proj", "attn.c_proj" }, { "post_attention_layernorm", "ln_2" },
		{ "mlp.up_proj", "mlp.c_fc" },         { "mlp.down_proj", "mlp.c_proj" }
	};
	char name[128];
	const int old = c->family == PF_FAMILY_GPT2;
	for (size_t i = 0; old && i < sizeof gpt2 / sizeof *gpt2; i++)
		if (strcmp(part, gpt2[i][0]) == 0)
			part = gpt2[i][1];
	snprintf(name, sizeof name, "%s.%u.%s.%s", old ? "transformer.h" : "model.layers", layer, part, ending);
	return tensor(layout, param, name);
}

/* y[out] = W[out, in] x[in] */
static void linear(const double *w, const double *x, unsigned out, unsigned in, double *y)
{
	for (unsigned i = 0; i < out; i++) {
		y[i] = 0;
		for (unsigned j = 0; j < in; j++)
			y[i] += w[(size_t)i * in + j] * x[j];
	}
}

static void add(const double *row, unsigned count, double *x)
{
	for (unsigned i = 0; row && i < count; i++)
		x[i] += row[i];
}

static void norm(const struct pf_model_config *c, const double *w, const double *bias, const double *x, unsigned dim,
                 double *y)
{
	double mean = 0, square = 0;
	for (unsigned i = 0; i < dim && c->norm == PF_NORM_LAYER; i++)
		mean += x[i] / dim;
	for (unsigned i = 0; i < dim; i++)
		square += (x[i] - mean) * (x[i] - mean) / dim;
	for (unsigned i = 0; i < dim; i++)
		y[i] = ((c->norm == PF_NORM_RMS_PLUS) + w[i]) * ((x[i] - mean) / sqrt(square + c->norm_eps)) +
		       (bias ? bias[i] : 0);
}

static double frequency(const struct pf_model_config *c, unsigned i)
{
	const double plain = 1 / pow(c->rope_theta, 2.0 * i / c->head_dim), length = 2 * acos(-1.0) / plain;
	if (c->positions == PF_POSITION_ROPE_LINEAR)
		return plain / c->rope_factor;
	if (c->positions == PF_POSITION_ROPE || length < c->rope_original / c->rope_high)
		return plain;
	if (length > c->rope_original / c->rope_low)
		return plain / c->rope_factor;
	const double part = (c->rope_original / length - c->rope_low) / (c->rope_high - c->rope_low);
	return (1 - part) * plain / c->rope_factor + part * plain;
}

/* x cos + rotate_half(x) sin, with the angles of both halves equal */
static void rope(const struct pf_model_config *c, double *x, int position)
{
	double turned[512];
	const unsigned half = c->head_dim / 2;
	if (c->positions == PF_POSITION_LEARNED)
		return;
	for (unsigned i = 0; i < c->head_dim; i++) {
		const double angle = position * frequency(c, i % half);
		const double other = i < half ? -x[i + half] : x[i - half];
		turned[i] = x[i] * cos(angle) + other * sin(angle);
	}
	memcpy(x, turned, c->head_dim * sizeof *x);
}

static int first_seen(const struct pf_model_config *c, unsigned layer, int t)
{
	const unsigned every = c->window_every ? c->window_every : 1;
	if (!c->window || layer < c->window_from || (layer - c->window_from) % every || t < (int)c->window)
		return 0;
	return t - (int)c->window + 1;
}

static void attend(const struct pf_model_config *c, unsigned layer, const double *q, const double *k,
                   const double *v, int t, double *o)
{
	const unsigned hd = c->head_dim, group = c->heads / c->kv_heads;
	const int from = first_seen(c, layer, t);
	double *p = malloc(((size_t)t + 1) * sizeof *p);
	for (unsigned h = 0; h < c->heads; h++) {
		const size_t width = (size_t)c->kv_heads * hd, at = (size_t)(h / group) * hd;
		double high = -INFINITY, sum = 0;
		for (int s = from; s <= t; s++) {
			p[s] = 0;
			for (unsigned i = 0; i < hd; i++)
				p[s] += q[h * hd + i] * k[s * width + at + i] /
				        sqrt(c->attention_scalar > 0 ? c->attention_scalar : hd);
			if (c->attention_cap > 0)
				p[s] = c->attention_cap * tanh(p[s] / c->attention_cap);
			high = fmax(high, p[s]);
		}
		for (int s = from; s <= t; s++)
			sum += p[s] = exp(p[s] - high);
		for (unsigned i = 0; i < hd; i++) {
			o[h * hd + i] = 0;
			for (int s = from; s <= t; s++)
				o[h * hd + i] += p[s] / sum * v[s * width + at + i];
		}
	}
	free(p);
}

/* One model's layer, and its parts by Llama's names */
struct place {
	const struct pf_model_config *c;
	const struct pf_layout *layout;
	const double *param;
	unsigned layer;
};

static const double *weight(const struct place *p, const char *part)
{
	return layer_tensor(p->c, p->layout, p->param, p->layer, part, "weight");
}

static const double *bias(const struct place *p, const char *part)
{
	return layer_tensor(p->c, p->layout, p->param, p->layer, part, "bias");
}

static void projection(const struct place *p, const char *part, const double *x, unsigned out, unsigned in, double *y)
{
	linear(weight(p, part), x, out, in, y);
	add(bias(p, part), out, y);
}

static void qkv(const struct place *p, const double *x, double *q, double *k, double *v)
{
	const unsigned dim = p->c->dim, q_dim = p->c->heads * p->c->head_dim, kv_dim = p->c->kv_heads * p->c->head_dim;
	if (p->c->family == PF_FAMILY_GPT2) {
		const double *w = weight(p, "self_attn.c_attn"), *b = bias(p, "self_attn.c_attn");
		double *const to[] = { q, k, v };
		for (unsigned i = 0; i < 3; i++) {
			linear(w + (size_t)i * dim * dim, x, dim, dim, to[i]);
			add(b + i * dim, dim, to[i]);
		}
		return;
	}
	projection(p, "self_attn.q_proj", x, q_dim, dim, q);
	projection(p, "self_attn.k_proj", x, kv_dim, dim, k);
	projection(p, "self_attn.v_proj", x, kv_dim, dim, v);
}

static void turn_heads(const struct place *p, const char *norm_name, unsigned heads, int t, double *x)
{
	const unsigned hd = p->c->head_dim;
	for (unsigned h = 0; h < heads; h++) {
		if (p->c->qk_norm)
			norm(p->c, weight(p, norm_name), NULL, x + h * hd, hd, x + h * hd);
		rope(p->c, x + h * hd, t);
	}
}

/* x += branch, through its norm if there is one */
static void add_branch(const struct place *p, const char *after, double *branch, double *x)
{
	if (p->c->post_norms)
		norm(p->c, weight(p, after), NULL, branch, p->c->dim, branch);
	add(branch, p->c->dim, x);
}

static void attention_block(const struct place *p, double *x, int n)
{
	const struct pf_model_config *c = p->c;
	const unsigned dim = c->dim, q_dim = c->heads * c->head_dim,
	               kv_dim = c->kv_heads * c->head_dim;
	double *y = malloc(dim * sizeof *y), *o = malloc(q_dim * sizeof *o);
	double *q = malloc((size_t)n * q_dim * sizeof *q),
	       *k = malloc((size_t)n * kv_dim * sizeof *k);
	double *v = malloc((size_t)n * kv_dim * sizeof *v);
	for (int t = 0; t < n; t++) {
		norm(c, weight(p, "input_layernorm"), bias(p, "input_layernorm"), x + (size_t)t * dim, dim, y);
		qkv(p, y, q + (size_t)t * q_dim, k + (size_t)t * kv_dim, v + (size_t)t * kv_dim);
		turn_heads(p, "self_attn.q_norm", c->heads, t, q + (size_t)t * q_dim);
		turn_heads(p, "self_attn.k_norm", c->kv_heads, t, k + (size_t)t * kv_dim);
	}
	for (int t = 0; t < n; t++) {
		attend(c, p->layer, q + (size_t)t * q_dim, k, v, t, o);
		projection(p, "self_attn.o_proj", o, dim, q_dim, y);
		add_branch(p, "post_attention_layernorm", y, x + (size_t)t * dim);
	}
	free(y);
	free(o);
	free(q);
	free(k);
	free(v);
}

static double gelu(double x)
{
	return 0.5 * x * (1 + tanh(sqrt(2 / acos(-1.0)) * (x + 0.044715 * x * x * x)));
}

static double activation(const struct pf_model_config *c, double x)
{
	return c->mlp == PF_MLP_SILU_GATED ? x / (1 + exp(-x)) : gelu(x);
}

static void mlp_block(const struct place *p, double *x)
{
	const struct pf_model_config *c = p->c;
	const char *before = c->post_norms ? "pre_feedforward_layernorm" : "post_attention_layernorm";
	double *y = malloc(c->dim * sizeof *y), *gate = malloc(c->ffn * sizeof *gate),
	       *up = malloc(c->ffn * sizeof *up);
	norm(c, weight(p, before), bias(p, before), x, c->dim, y);
	projection(p, "mlp.up_proj", y, c->ffn, c->dim, up);
	if (c->mlp != PF_MLP_GELU)
		projection(p, "mlp.gate_proj", y, c->ffn, c->dim, gate);
	for (unsigned i = 0; i < c->ffn; i++)
		gate[i] = c->mlp == PF_MLP_GELU ? gelu(up[i]) : activation(c, gate[i]) * up[i];
	projection(p, "mlp.down_proj", gate, c->dim, c->ffn, y);
	add_branch(p, "post_feedforward_layernorm", y, x);
	free(y);
	free(gate);
	free(up);
}

static const double *first_of(const struct pf_layout *layout, const double *param, const char *name, const char *other)
{
	const double *found = tensor(layout, param, name);
	return found ? found : tensor(layout, param, other);
}

static const double *embedding(const struct pf_layout *layout, const double *param)
{
	return first_of(layout, param, "model.embed_tokens.weight", "transformer.wte.weight");
}

void naive_hidden(const struct pf_model_config *c, const struct pf_layout *layout,
                  const double *param, const int32_t *ids, int n, double *hidden)
{
	const double *positions = tensor(layout, param, "transformer.wpe.weight");
	double *x = malloc(((size_t)n * c->dim + 1) * sizeof *x);
	for (int t = 0; t < n; t++)
		for (unsigned i = 0; i < c->dim; i++)
			x[(size_t)t * c->dim + i] = embedding(layout, param)[(size_t)ids[t] * c->dim + i] *
			                                    (c->scaled_embedding ? sqrt(c->dim) : 1) +
			                            (positions ? positions[(size_t)t * c->dim + i] : 0);
	for (unsigned layer = 0; layer < c->layers; layer++) {
		const struct place place = { c, layout, param, layer };
		attention_block(&place, x, n);
		for (int t = 0; t < n; t++)
			mlp_block(&place, x + (size_t)t * c->dim);
	}
	for (int t = 0; t < n; t++)
		norm(c, first_of(layout, param, "model.norm.weight", "transformer.ln_f.weight"),
		     tensor(layout, param, "transformer.ln_f.bias"), x + (size_t)t * c->dim, c->dim,
		     hidden + (size_t)t * c->dim);
	free(x);
}

double naive_loss(const struct pf_model_config *c, const struct pf_layout *layout,
                  const double *param, const double *hidden, const int32_t *target,
                  const double *coef, int n, double *dhidden, double *grad)
{
	const double *head = c->tied ? embedding(layout, param) : tensor(layout, param, "lm_head.weight");
	double *dhead = grad ? grad + (head - param) : NULL, *z = malloc(c->vocab * sizeof *z),
	       loss = 0;
	for (int t = 0; t < n; t++) {
		const double *h = hidden + (size_t)t * c->dim;
		double high = -INFINITY, sum = 0;
		linear(head, h, c->vocab, c->dim, z);
		for (unsigned i = 0; i < c->vocab; i++) {
			z[i] = c->logit_cap > 0 ? c->logit_cap * tanh(z[i] / c->logit_cap) : z[i];
			high = fmax(high, z[i]);
		}
		for (unsigned i = 0; i < c->vocab; i++)
			sum += exp(z[i] - high);
		loss += coef[t] * (z[target[t]] - high - log(sum));
		for (unsigned i = 0; grad && i < c->vocab; i++) {
			const double slope = c->logit_cap > 0 ? 1 - pow(z[i] / c->logit_cap, 2) : 1;
			const double dz = slope * coef[t] * (((int)i == target[t]) - exp(z[i] - high) / sum);
			for (unsigned j = 0; j < c->dim; j++) {
				dhidden[(size_t)t * c->dim + j] += dz *
				                                   head[(size_t)i * c->dim + j];
				dhead[(size_t)i * c->dim + j] += dz * h[j];
			}
		}
	}
	free(z);
	return loss;
}

double naive_random(unsigned *state)
{
	*state = *state * 1664525u + 1013904223u;
	return (double)(*state >> 8) / (1 << 23) - 1.0;
}

void naive_params(const struct pf_layout *layout, double scale, unsigned seed, double *param)
{
	memset(param, 0, layout->size * sizeof *param);
	for (unsigned i = 0; i < layout->tensors; i++) {
		const struct pf_tensor *t = &layout->tensor[i];
		for (uint64_t j = 0; j < (uint64_t)t->rows * t->cols; j++)
			param[t->offset + j] = (t->role == PF_TENSOR_NORM) +
			                       scale * naive_random(&seed);
	}
}

void naive_batch_fill(struct naive_batch *b, const int *lengths, int seqs, uint32_t vocab,
                      unsigned seed)
{
	b->seqs = seqs;
	b->offsets[0] = 0;
	for (int i = 0; i < seqs; i++)
		b->offsets[i + 1] = b->offsets[i] + (uint32_t)lengths[i];
	b->tokens = (int)b->offsets[seqs];
	const size_t n = (size_t)b->tokens + 1;
	b->ids = malloc(n * sizeof *b->ids);
	b->target = malloc(n * sizeof *b->target);
	b->coef = malloc(n * sizeof *b->coef);
	for (int t = 0; t < b->tokens; t++) {
		b->ids[t] = (int32_t)((naive_random(&seed) + 1) / 2 * vocab);
		b->target[t] = (int32_t)((naive_random(&seed) + 1) / 2 * vocab);
		b->coef[t] = naive_random(&seed);
	}
}

void naive_batch_free(struct naive_batch *b)
{
	free(b->ids);
	free(b->target);
	free(b->coef);
}
