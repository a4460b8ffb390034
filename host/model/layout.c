#include "layout.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "half_rows.h"
#include "prefpga/internal/kmath.h"

enum { ALIGN = 16, LAYER_TENSORS = 24 };

/* The array while it is laid out */
struct plan {
	struct pf_layout *layout;
	const struct pf_model_config *config;
	uint64_t next;
	unsigned layer;
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
	t->transposed = plan->config->family == PF_FAMILY_GPT2 &&
	                (role == PF_TENSOR_MATRIX || role == PF_TENSOR_RESIDUAL);
	plan->next += rows * cols;
	plan->layout->parameters += rows * cols;
	return t->offset;
}

/* ---- names: Llama's, and where a family differs ---- */

/* By part; several names are tensors that follow one another */
static const char *const llama_names[PF_PARTS] = {
	[PF_PART_NORM1] = "input_layernorm",
	[PF_PART_QKV] = "self_attn.q_proj self_attn.k_proj self_attn.v_proj",
	[PF_PART_Q_NORM] = "self_attn.q_norm",
	[PF_PART_K_NORM] = "self_attn.k_norm",
	[PF_PART_OUT] = "self_attn.o_proj",
	[PF_PART_NORM2] = "post_attention_layernorm",
	[PF_PART_UP] = "mlp.gate_proj mlp.up_proj",
	[PF_PART_DOWN] = "mlp.down_proj",
};
/* Gemma-2: one of Llama's names means another norm */
static const char *const post_norm_names[PF_PARTS] = {
	[PF_PART_POST1] = "post_attention_layernorm",
	[PF_PART_NORM2] = "pre_feedforward_layernorm",
	[PF_PART_POST2] = "post_feedforward_layernorm",
};
static const char *const gpt2_names[PF_PARTS] = {
	[PF_PART_NORM1] = "ln_1", [PF_PART_QKV] = "attn.c_attn", [PF_PART_OUT] = "attn.c_proj",
	[PF_PART_NORM2] = "ln_2", [PF_PART_UP] = "mlp.c_fc",     [PF_PART_DOWN] = "mlp.c_proj",
};

static const char *names_of(const struct pf_model_config *c, enum pf_part part)
{
	if (c->family == PF_FAMILY_GPT2)
		return gpt2_names[part];
	return c->post_norms && post_norm_names[part] ? post_norm_names[part] : llama_names[part];
}

/* "model." or "transformer.": what files of a body without a head leave out */
static const char *prefix_of(const struct pf_tensor *t)
{
	return strncmp(t->name, "transformer.", 12) == 0 ? "transformer."
	       : strncmp(t->name, "model.", 6) == 0      ? "model."
	                                                 : "";
}

/* ---- layers ---- */

struct shape {
	enum pf_part part;
	enum pf_tensor_role role;
	uint64_t rows[3], cols; /* of each tensor of the part's list; a list of one name has the sum of the rows */
};

/* Adds the tensors of a part; `of` is the part whose names it shares, ending ".weight" or ".bias" */
static void plan_part(struct plan *plan, const struct shape *s, enum pf_part of, const char *ending)
{
	const char *list = names_of(plan->config, of), *prefix = plan->config->family == PF_FAMILY_GPT2
	                                                                        ? "transformer.h" : "model.layers";
	const int vectors = s->role == PF_TENSOR_BIAS;
	struct pf_layer_layout *layer = &plan->layout->layer[plan->layer];
	const int several = strchr(list, ' ') != NULL;
	plan_align(plan);
	layer->part[s->part] = plan->next;
	for (int i = 0; *list; i++) {
		const size_t length = strcspn(list, " ");
		const uint64_t rows = several ? s->rows[i] : s->rows[0] + s->rows[1] + s->rows[2];
		char name[64];
		snprintf(name, sizeof name, "%s.%u.%.*s.%s", prefix, plan->layer, (int)length, list, ending);
		plan_add(plan, name, vectors ? 1 : rows, vectors ? rows : s->cols, s->role);
		list += length + (list[length] == ' ');
	}
}

static void plan_norm(struct plan *plan, enum pf_part part, uint64_t dim, int has_bias)
{
	const struct shape weight = { part, PF_TENSOR_NORM, { 1, 0, 0 }, dim };
	const struct shape bias = { part + 1, PF_TENSOR_BIAS, { dim, 0, 0 }, 1 };
	plan_part(plan, &weight, part, "weight");
	if (has_bias)
		plan_part(plan, &bias, part, "bias");
}

static void plan_linear(struct plan *plan, struct shape weight, int has_bias)
{
	struct shape bias = weight;
	plan_part(plan, &weight, weight.part, "weight");
	bias.part = weight.part + 1;
	bias.role = PF_TENSOR_BIAS;
	if (has_bias)
		plan_part(plan, &bias, weight.part, "bias");
}

static void plan_layer(struct plan *plan, unsigned i, const struct pf_model_config *c)
{
	struct pf_layer_layout *layer = &plan->layout->layer[i];
	const uint64_t dim = c->dim, q = (uint64_t)c->heads * c->head_dim, kv = (uint64_t)c->kv_heads * c->head_dim,
	               gate = c->mlp == PF_MLP_GELU ? 0 : c->ffn;
	const int centered = c->norm == PF_NORM_LAYER;
	for (int part = 0; part < PF_PARTS; part++)
		layer->part[part] = PF_ABSENT;
	layer->begin = plan_align(plan);
	plan->layer = i;
	plan_norm(plan, PF_PART_NORM1, dim, centered);
	plan_linear(plan, (struct shape){ PF_PART_QKV, PF_TENSOR_MATRIX, { q, kv, kv }, dim }, c->biases & PF_BIAS_QKV);
	if (c->qk_norm) {
		plan_norm(plan, PF_PART_Q_NORM, c->head_dim, 0);
		plan_norm(plan, PF_PART_K_NORM, c->head_dim, 0);
	}
	plan_linear(plan, (struct shape){ PF_PART_OUT, PF_TENSOR_RESIDUAL, { dim, 0, 0 }, q }, c->biases & PF_BIAS_OUT);
	if (c->post_norms)
		plan_norm(plan, PF_PART_POST1, dim, 0);
	plan_norm(plan, PF_PART_NORM2, dim, centered);
	plan_linear(plan,
	            (struct shape){ PF_PART_UP, PF_TENSOR_MATRIX, { gate ? gate : c->ffn, gate ? c->ffn : 0, 0 }, dim },
	            c->biases & PF_BIAS_MLP);
	plan_linear(plan, (struct shape){ PF_PART_DOWN, PF_TENSOR_RESIDUAL, { dim, 0, 0 }, c->ffn },
	            c->biases & PF_BIAS_MLP);
	if (c->post_norms)
		plan_norm(plan, PF_PART_POST2, dim, 0);
	layer->end = plan_align(plan);
}

static void plan_ends(struct plan *plan, const struct pf_model_config *c)
{
	struct pf_layout *l = plan->layout;
	const int gpt2 = c->family == PF_FAMILY_GPT2;
	plan_align(plan);
	l->norm = plan_add(plan, gpt2 ? "transformer.ln_f.weight" : "model.norm.weight", 1, c->dim, PF_TENSOR_NORM);
	if (c->norm == PF_NORM_LAYER) {
		plan_align(plan);
		l->norm_bias =
			plan_add(plan, gpt2 ? "transformer.ln_f.bias" : "model.norm.bias", 1, c->dim, PF_TENSOR_BIAS);
	}
	plan_align(plan);
	l->head = c->tied ? l->embed : plan_add(plan, "lm_head.weight", c->vocab, c->dim, PF_TENSOR_HEAD);
	l->size = plan_align(plan);
}

int pf_layout_init(struct pf_layout *layout, const struct pf_model_config *c,
                   struct pf_error *error)
{
	const int gpt2 = c->family == PF_FAMILY_GPT2;
	memset(layout, 0, sizeof *layout);
	layout->layers = c->layers;
	layout->position = layout->norm_bias = PF_ABSENT;
	layout->layer = calloc(c->layers, sizeof *layout->layer);
	layout->tensor = calloc((size_t)c->layers * LAYER_TENSORS + 5, sizeof *layout->tensor);
	if (!layout->layer || !layout->tensor)
		return pf_fail(error, -ENOMEM, "model: out of memory for the names of its tensors");
	struct plan plan = { .layout = layout, .config = c };
	layout->embed = plan_add(&plan, gpt2 ? "transformer.wte.weight" : "model.embed_tokens.weight", c->vocab, c->dim,
	                         PF_TENSOR_EMBED);
	if (c->positions == PF_POSITION_LEARNED) {
		plan_align(&plan);
		layout->position = plan_add(&plan, gpt2 ? "transformer.wpe.weight" : "model.embed_positions.weight",
		                            c->max_positions, c->dim, PF_TENSOR_POSITION);
	}
	for (unsigned i = 0; i < c->layers; i++)
		plan_layer(&plan, i, c);
	plan_ends(&plan, c);
	return 0;
}

void pf_layout_fini(struct pf_layout *layout)
{
	free(layout->layer);
	free(layout->tensor);
	memset(layout, 0, sizeof *layout);
}

void pf_layout_freeze_head(struct pf_layout *layout)
{
	layout->frozen_head = 1;
	for (unsigned i = 0; i < layout->tensors; i++)
		layout->tensor[i].frozen |= layout->tensor[i].offset == layout->head;
}

uint64_t pf_tensor_elements(const struct pf_tensor *tensor)
{
	return (uint64_t)tensor->rows * tensor->cols;
}

int pf_tensor_decays(const struct pf_tensor *tensor)
{
	return tensor->role != PF_TENSOR_NORM && tensor->role != PF_TENSOR_BIAS;
}

uint64_t pf_tensor_bytes(const struct pf_tensor *tensor, enum pf_dtype type)
{
	return pf_tensor_elements(tensor) * pf_dtype_bytes(type);
}

/* The shape on disk; returns the rank */
static unsigned tensor_shape(const struct pf_tensor *t, uint64_t shape[2])
{
	unsigned rank = pf_tensor_decays(t) ? 2 : 1;
	shape[0] = rank == 1 || t->transposed ? t->cols : t->rows;
	shape[1] = t->transposed ? t->rows : t->cols;
	return rank;
}

static int declare(const struct pf_tensor *t, const char *prefix, enum pf_dtype type,
                   struct pf_safetensors_writer *writer, struct pf_error *error)
{
	char name[160];
	uint64_t shape[2];
	unsigned rank = tensor_shape(t, shape);
	snprintf(name, sizeof name, "%.60s%s", prefix, t->name);
	return pf_safetensors_declare(writer, name, type, rank, shape, error);
}

int pf_layout_declare(const struct pf_layout *layout, const char *prefix,
                      struct pf_safetensors_writer *writer, struct pf_error *error)
{
	int code = 0;
	for (unsigned i = 0; code == 0 && i < layout->tensors; i++)
		code = declare(&layout->tensor[i], prefix, PF_F32, writer, error);
	return code;
}

int pf_layout_declare_as(const struct pf_layout *layout, unsigned first, unsigned count, enum pf_dtype type,
                         struct pf_safetensors_writer *writer, struct pf_error *error)
{
	int code = 0;
	for (unsigned i = first; code == 0 && i < first + count; i++)
		code = declare(&layout->tensor[i], "", type, writer, error);
	return code;
}

/* ---- elements on their way to a file ---- */

enum { PIECE = 1 << 14 };

/* Elements [begin, begin + count) of the tensor as it lies on disk */
static void gather(const struct pf_tensor *t, const float *value, uint64_t begin, size_t count, float *to)
{
	if (!t->transposed) {
		memcpy(to, value + begin, count * sizeof *to);
		return;
	}
	for (size_t i = 0; i < count; i++)
		to[i] = value[(begin + i) % t->rows * t->cols + (begin + i) / t->rows];
}

static int write_tensor(const struct pf_tensor *t, enum pf_dtype type, const float *value,
                        struct pf_safetensors_writer *writer, struct pf_error *error)
{
	const uint64_t elements = pf_tensor_elements(t);
	float wide[PIECE];
	uint16_t half[PIECE];
	if (type == PF_F32 && !t->transposed)
		return pf_safetensors_write(writer, value, elements * sizeof *value, error);
	int code = 0;
	for (uint64_t at = 0; code == 0 && at < elements; at += PIECE) {
		const size_t count = elements - at < PIECE ? (size_t)(elements - at) : PIECE;
		gather(t, value, at, count, wide);
		if (type == PF_F16)
			pf_halves_round(wide, half, count);
		for (size_t i = 0; type == PF_BF16 && i < count; i++)
			half[i] = pf_bf16_any(wide[i]);
		code = pf_safetensors_write(writer, type == PF_F32 ? (const void *)wide : half,
		                            count * pf_dtype_bytes(type), error);
	}
	return code;
}

int pf_layout_write_as(const struct pf_layout *layout, unsigned first, unsigned count, enum pf_dtype type,
                       const float *flat, struct pf_safetensors_writer *writer, struct pf_error *error)
{
	int code = 0;
	for (unsigned i = first; code == 0 && i < first + count; i++)
		code = write_tensor(&layout->tensor[i], type, flat + layout->tensor[i].offset, writer, error);
	return code;
}

int pf_layout_write(const struct pf_layout *layout, const float *flat,
                    struct pf_safetensors_writer *writer, struct pf_error *error)
{
	return pf_layout_write_as(layout, 0, layout->tensors, PF_F32, flat, writer, error);
}

/* Where tensors go: one of both */
struct flat {
	float *wide;
	uint16_t *half;
};

/* As it is if the file has bfloat16, else by way of floats */
static int fill_half(const struct pf_tensor *t, const struct pf_safetensor *stored, uint16_t *half,
                     struct pf_error *error)
{
	const uint64_t elements = pf_tensor_elements(t);
	if (stored->type == PF_BF16 && !t->transposed)
		return pf_safetensor_copy(stored, half);
	float *wide = malloc(elements * sizeof *wide + 1);
	if (!wide)
		return pf_fail(error, -ENOMEM, "tensor %s: out of memory", t->name);
	int code = t->transposed ? pf_safetensor_floats_transposed(stored, wide, error)
	                         : pf_safetensor_floats(stored, wide, error);
	for (uint64_t i = 0; code == 0 && i < elements; i++)
		half[i] = pf_bf16_any(wide[i]);
	free(wide);
	return code;
}

static int fill_tensor(const struct pf_tensor *t, const struct pf_safetensor *stored,
                       const char *where, struct flat to, struct pf_error *error)
{
	uint64_t shape[2];
	unsigned rank = tensor_shape(t, shape);
	if (stored->rank != rank || memcmp(stored->shape, shape, rank * sizeof *shape) != 0)
		return pf_fail(error, PF_E_SHAPE,
		               "%s: tensor %s: config.json asks for %llu x %llu (rank %u)", where,
		               stored->name, rank == 1 ? 1ull : (unsigned long long)shape[0],
		               (unsigned long long)shape[rank - 1], rank);
	int code = to.half          ? fill_half(t, stored, to.half + t->offset, error)
	           : t->transposed ? pf_safetensor_floats_transposed(stored, to.wide + t->offset, error)
	                           : pf_safetensor_floats(stored, to.wide + t->offset, error);
	if (code)
		pf_fail_in(error, "%s", where);
	return code;
}

static const struct pf_safetensor *find_stored(const struct pf_safetensors *file, const char *prefix,
                                               const struct pf_tensor *t)
{
	char name[160];
	snprintf(name, sizeof name, "%.60s%s", prefix, t->name);
	const struct pf_safetensor *stored = pf_safetensors_find(file, name);
	if (stored)
		return stored;
	snprintf(name, sizeof name, "%.60s%s", prefix, t->name + strlen(prefix_of(t)));
	return pf_safetensors_find(file, name);
}

const struct pf_tensor *pf_layout_find(const struct pf_layout *layout, const char *name)
{
	for (unsigned i = 0; i < layout->tensors; i++) {
		const struct pf_tensor *t = &layout->tensor[i];
		if (strcmp(t->name, name) == 0 || strcmp(t->name + strlen(prefix_of(t)), name) == 0)
			return t;
	}
	return NULL;
}

static int fill_all(const struct pf_layout *layout, const char *prefix, const struct pf_safetensors *file,
                    struct flat to, uint8_t *seen, struct pf_error *error)
{
	for (unsigned i = 0; i < layout->tensors; i++) {
		const struct pf_tensor *t = &layout->tensor[i];
		const struct pf_safetensor *stored = find_stored(file, prefix, t);
		int code = stored ? fill_tensor(t, stored, pf_safetensors_where(file), to, error) : 0;
		if (code != 0)
			return code;
		seen[i] |= stored != NULL;
	}
	return 0;
}

int pf_layout_fill(const struct pf_layout *layout, const char *prefix,
                   const struct pf_safetensors *file, float *flat, uint8_t *seen,
                   struct pf_error *error)
{
	return fill_all(layout, prefix, file, (struct flat){ flat, NULL }, seen, error);
}

int pf_layout_fill_half(const struct pf_layout *layout, const struct pf_safetensors *file, uint16_t *half,
                        uint8_t *seen, struct pf_error *error)
{
	return fill_all(layout, "", file, (struct flat){ NULL, half }, seen, error);
}

const char *pf_layout_missing(const struct pf_layout *layout, const uint8_t *seen)
{
	for (unsigned i = 0; i < layout->tensors; i++)
		if (!seen[i])
			return layout->tensor[i].name;
	return NULL;
}
