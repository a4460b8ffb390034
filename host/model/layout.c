#include "layout.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ALIGN = 16, LAYER_TENSORS = 9 };

/* The array while it is laid out */
struct plan {
	struct pf_layout *layout;
	uint64_t next;
};

static uint64_t plan_align(struct plan *plan)
{
	plan->next = (plan->next + ALIGN - 1) / ALIGN * ALIGN;
	return plan->next;
}

static uint64_t plan_add(struct plan *plan, const char *name, uint64_t rows, uint64_t cols,
                         enum pf_tensor_role role)
{
	struct pf_tensor *t = &plan->layout->tensor[plan->layout->tensors++];
	snprintf(t->name, sizeof t->name, "%s", name);
	t->offset = plan->next;
	t->rows = (uint32_t)rows;
	t->cols = (uint32_t)cols;
	t->role = role;
	plan->next += rows * cols;
	plan->layout->parameters += rows * cols;
	return t->offset;
}

static uint64_t plan_layer_add(struct plan *plan, unsigned layer, const char *part, uint64_t rows,
                               uint64_t cols, enum pf_tensor_role role)
{
	char name[64];
	snprintf(name, sizeof name, "model.layers.%u.%s.weight", layer, part);
	return plan_add(plan, name, rows, cols, role);
}

static void plan_layer(struct plan *plan, unsigned i, const struct pf_model_config *c)
{
	struct pf_layer_layout *layer = &plan->layout->layer[i];
	const uint64_t dim = c->dim, q = (uint64_t)c->heads * c->head_dim,
	               kv = (uint64_t)c->kv_heads * c->head_dim;
	plan_align(plan);
	layer->norm1 = plan_layer_add(plan, i, "input_layernorm", 1, dim, PF_TENSOR_NORM);
	plan_align(plan);
	layer->qkv = plan_layer_add(plan, i, "self_attn.q_proj", q, dim, PF_TENSOR_MATRIX);
	plan_layer_add(plan, i, "self_attn.k_proj", kv, dim, PF_TENSOR_MATRIX);
	plan_layer_add(plan, i, "self_attn.v_proj", kv, dim, PF_TENSOR_MATRIX);
	plan_align(plan);
	layer->out = plan_layer_add(plan, i, "self_attn.o_proj", dim, q, PF_TENSOR_RESIDUAL);
	plan_align(plan);
	layer->norm2 = plan_layer_add(plan, i, "post_attention_layernorm", 1, dim, PF_TENSOR_NORM);
	plan_align(plan);
	layer->gate_up = plan_layer_add(plan, i, "mlp.gate_proj", c->ffn, dim, PF_TENSOR_MATRIX);
	plan_layer_add(plan, i, "mlp.up_proj", c->ffn, dim, PF_TENSOR_MATRIX);
	plan_align(plan);
	layer->down = plan_layer_add(plan, i, "mlp.down_proj", dim, c->ffn, PF_TENSOR_RESIDUAL);
}

int pf_layout_init(struct pf_layout *layout, const struct pf_model_config *c,
                   struct pf_error *error)
{
	memset(layout, 0, sizeof *layout);
	layout->layers = c->layers;
	layout->layer = calloc(c->layers, sizeof *layout->layer);
	layout->tensor = calloc((size_t)c->layers * LAYER_TENSORS + 3, sizeof *layout->tensor);
	if (!layout->layer || !layout->tensor)
		return pf_fail(error, -ENOMEM, "model: out of memory for the names of its tensors");
	struct plan plan = { layout, 0 };
	layout->embed = plan_add(&plan, "model.embed_tokens.weight", c->vocab, c->dim,
	                         PF_TENSOR_EMBED);
	for (unsigned i = 0; i < c->layers; i++)
		plan_layer(&plan, i, c);
	plan_align(&plan);
	layout->norm = plan_add(&plan, "model.norm.weight", 1, c->dim, PF_TENSOR_NORM);
	plan_align(&plan);
	layout->head = c->tied ? layout->embed
	                       : plan_add(&plan, "lm_head.weight", c->vocab, c->dim,
	                                  PF_TENSOR_HEAD);
	layout->size = plan_align(&plan);
	return 0;
}

void pf_layout_fini(struct pf_layout *layout)
{
	free(layout->layer);
	free(layout->tensor);
	memset(layout, 0, sizeof *layout);
}

uint64_t pf_tensor_elements(const struct pf_tensor *tensor)
{
	return (uint64_t)tensor->rows * tensor->cols;
}

int pf_tensor_decays(const struct pf_tensor *tensor)
{
	return tensor->role != PF_TENSOR_NORM;
}

/* The shape on disk; returns the rank */
static unsigned tensor_shape(const struct pf_tensor *t, uint64_t shape[2])
{
	unsigned rank = t->role == PF_TENSOR_NORM ? 1 : 2;
	shape[0] = rank == 1 ? t->cols : t->rows;
	shape[1] = t->cols;
	return rank;
}

int pf_layout_declare(const struct pf_layout *layout, const char *prefix,
                      struct pf_safetensors_writer *writer, struct pf_error *error)
{
	for (unsigned i = 0; i < layout->tensors; i++) {
		char name[128];
		uint64_t shape[2];
		unsigned rank = tensor_shape(&layout->tensor[i], shape);
		snprintf(name, sizeof name, "%.60s%s", prefix, layout->tensor[i].name);
		int code = pf_safetensors_declare(writer, name, PF_F32, rank, shape, error);
		if (code != 0)
			return code;
	}
	return 0;
}

int pf_layout_write(const struct pf_layout *layout, const float *flat,
                    struct pf_safetensors_writer *writer, struct pf_error *error)
{
	for (unsigned i = 0; i < layout->tensors; i++) {
		const struct pf_tensor *t = &layout->tensor[i];
		int code = pf_safetensors_write(writer, flat + t->offset,
		                                pf_tensor_elements(t) * sizeof *flat, error);
		if (code != 0)
			return code;
	}
	return 0;
}

static int fill_tensor(const struct pf_tensor *t, const struct pf_safetensor *stored,
                       const char *where, float *flat, struct pf_error *error)
{
	uint64_t shape[2];
	unsigned rank = tensor_shape(t, shape);
	if (stored->rank != rank || memcmp(stored->shape, shape, rank * sizeof *shape) != 0)
		return pf_fail(error, PF_E_SHAPE,
		               "%s: tensor %s: config.json asks for %u x %u (rank %u)", where,
		               stored->name, t->rows, t->cols, rank);
	int code = pf_safetensor_floats(stored, flat + t->offset, error);
	if (code)
		pf_fail_in(error, "%s", where);
	return code;
}

int pf_layout_fill(const struct pf_layout *layout, const char *prefix,
                   const struct pf_safetensors *file, float *flat, uint8_t *seen,
                   struct pf_error *error)
{
	for (unsigned i = 0; i < layout->tensors; i++) {
		const struct pf_tensor *t = &layout->tensor[i];
		char name[128];
		snprintf(name, sizeof name, "%.60s%s", prefix, t->name);
		const struct pf_safetensor *stored = pf_safetensors_find(file, name);
		int code = stored ? fill_tensor(t, stored, pf_safetensors_where(file), flat, error)
		                  : 0;
		if (code != 0)
			return code;
		seen[i] |= stored != NULL;
	}
	return 0;
}

const char *pf_layout_missing(const struct pf_layout *layout, const uint8_t *seen)
{
	for (unsigned i = 0; i < layout->tensors; i++)
		if (!seen[i])
			return layout->tensor[i].name;
	return NULL;
}
