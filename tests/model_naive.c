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

static const double *layer_tensor(const struct pf_layout *layout, const double *param,
                                  unsigned layer, const char *part)
{
	char name[96];
	snprintf(name, sizeof name, "model.layers.%u.%s.weight", layer, part);
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

static void rmsnorm(const double *w, const double *x, unsigned dim, double eps, double *y)
{
	double mean = 0;
	for (unsigned i = 0; i < dim; i++)
		mean += x[i] * x[i] / dim;
	for (unsigned i = 0; i < dim; i++)
		y[i] = w[i] * (x[i] / sqrt(mean + eps));
}

/* x cos + rotate_half(x) sin, with the angles of both halves equal */
static void rope(double *x, unsigned head_dim, int position, double theta)
{
	double turned[512];
	const unsigned half = head_dim / 2;
	for (unsigned i = 0; i < head_dim; i++) {
		const double angle = position / pow(theta, 2.0 * (i % half) / head_dim);
		const double other = i < half ? -x[i + half] : x[i - half];
		turned[i] = x[i] * cos(angle) + other * sin(angle);
	}
	memcpy(x, turned, head_dim * sizeof *x);
}

static void attend(const struct pf_model_config *c, const double *q, const double *k,
                   const double *v, int t, double *o)
{
	const unsigned hd = c->head_dim, group = c->heads / c->kv_heads;
	double *p = malloc(((size_t)t + 1) * sizeof *p);
	for (unsigned h = 0; h < c->heads; h++) {
		const size_t width = (size_t)c->kv_heads * hd, at = (size_t)(h / group) * hd;
		double high = -INFINITY, sum = 0;
		for (int s = 0; s <= t; s++) {
			p[s] = 0;
			for (unsigned i = 0; i < hd; i++)
				p[s] += q[h * hd + i] * k[s * width + at + i] / sqrt(hd);
			high = fmax(high, p[s]);
		}
		for (int s = 0; s <= t; s++)
			sum += p[s] = exp(p[s] - high);
		for (unsigned i = 0; i < hd; i++) {
			o[h * hd + i] = 0;
			for (int s = 0; s <= t; s++)
				o[h * hd + i] += p[s] / sum * v[s * width + at + i];
		}
	}
	free(p);
}

static void attention_block(const struct pf_model_config *c, const struct pf_layout *layout,
                            const double *param, unsigned layer, double *x, int n)
{
	const unsigned dim = c->dim, q_dim = c->heads * c->head_dim,
	               kv_dim = c->kv_heads * c->head_dim;
	double *y = malloc(dim * sizeof *y), *o = malloc(q_dim * sizeof *o);
	double *q = malloc((size_t)n * q_dim * sizeof *q),
	       *k = malloc((size_t)n * kv_dim * sizeof *k);
	double *v = malloc((size_t)n * kv_dim * sizeof *v);
	for (int t = 0; t < n; t++) {
		rmsnorm(layer_tensor(layout, param, layer, "input_layernorm"), x + (size_t)t * dim,
		        dim, c->norm_eps, y);
		linear(layer_tensor(layout, param, layer, "self_attn.q_proj"), y, q_dim, dim,
		       q + (size_t)t * q_dim);
		linear(layer_tensor(layout, param, layer, "self_attn.k_proj"), y, kv_dim, dim,
		       k + (size_t)t * kv_dim);
		linear(layer_tensor(layout, param, layer, "self_attn.v_proj"), y, kv_dim, dim,
		       v + (size_t)t * kv_dim);
		for (unsigned h = 0; h < c->heads; h++)
			rope(q + (size_t)t * q_dim + h * c->head_dim, c->head_dim, t,
			     c->rope_theta);
		for (unsigned h = 0; h < c->kv_heads; h++)
			rope(k + (size_t)t * kv_dim + h * c->head_dim, c->head_dim, t,
			     c->rope_theta);
	}
	for (int t = 0; t < n; t++) {
		attend(c, q + (size_t)t * q_dim, k, v, t, o);
		linear(layer_tensor(layout, param, layer, "self_attn.o_proj"), o, dim, q_dim, y);
		for (unsigned i = 0; i < dim; i++)
			x[(size_t)t * dim + i] += y[i];
	}
	free(y);
	free(o);
	free(q);
	free(k);
	free(v);
}

static void mlp_block(const struct pf_model_config *c, const struct pf_layout *layout,
                      const double *param, unsigned layer, double *x)
{
	double *y = malloc(c->dim * sizeof *y), *gate = malloc(c->ffn * sizeof *gate),
	       *up = malloc(c->ffn * sizeof *up);
	rmsnorm(layer_tensor(layout, param, layer, "post_attention_layernorm"), x, c->dim,
	        c->norm_eps, y);
	linear(layer_tensor(layout, param, layer, "mlp.gate_proj"), y, c->ffn, c->dim, gate);
	linear(layer_tensor(layout, param, layer, "mlp.up_proj"), y, c->ffn, c->dim, up);
	for (unsigned i = 0; i < c->ffn; i++)
		gate[i] = gate[i] / (1 + exp(-gate[i])) * up[i];
	linear(layer_tensor(layout, param, layer, "mlp.down_proj"), gate, c->dim, c->ffn, y);
	for (unsigned i = 0; i < c->dim; i++)
		x[i] += y[i];
	free(y);
	free(gate);
	free(up);
}

void naive_hidden(const struct pf_model_config *c, const struct pf_layout *layout,
                  const double *param, const int32_t *ids, int n, double *hidden)
{
	double *x = malloc(((size_t)n * c->dim + 1) * sizeof *x);
	for (int t = 0; t < n; t++)
		memcpy(x + (size_t)t * c->dim,
		       tensor(layout, param, "model.embed_tokens.weight") + (size_t)ids[t] * c->dim,
		       c->dim * sizeof *x);
	for (unsigned layer = 0; layer < c->layers; layer++) {
		attention_block(c, layout, param, layer, x, n);
		for (int t = 0; t < n; t++)
			mlp_block(c, layout, param, layer, x + (size_t)t * c->dim);
	}
	for (int t = 0; t < n; t++)
		rmsnorm(tensor(layout, param, "model.norm.weight"), x + (size_t)t * c->dim, c->dim,
		        c->norm_eps, hidden + (size_t)t * c->dim);
	free(x);
}

double naive_loss(const struct pf_model_config *c, const struct pf_layout *layout,
                  const double *param, const double *hidden, const int32_t *target,
                  const double *coef, int n, double *dhidden, double *grad)
{
	const char *name = c->tied ? "model.embed_tokens.weight" : "lm_head.weight";
	const double *head = tensor(layout, param, name);
	double *dhead = grad ? grad + (head - param) : NULL, *z = malloc(c->vocab * sizeof *z),
	       loss = 0;
	for (int t = 0; t < n; t++) {
		const double *h = hidden + (size_t)t * c->dim;
		double high = -INFINITY, sum = 0;
		linear(head, h, c->vocab, c->dim, z);
		for (unsigned i = 0; i < c->vocab; i++)
			high = fmax(high, z[i]);
		for (unsigned i = 0; i < c->vocab; i++)
			sum += exp(z[i] - high);
		loss += coef[t] * (z[target[t]] - high - log(sum));
		for (unsigned i = 0; grad && i < c->vocab; i++) {
			const double dz = coef[t] * ((int)i == target[t]) -
			                  coef[t] * exp(z[i] - high) / sum;
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
