#include "lora.h"
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "logits.h"
#include "random.h"

enum { ALIGN = 16 };
#define ALL "all-linear"

static int is_matrix(const struct pf_tensor *t)
{
	return t->role == PF_TENSOR_MATRIX || t->role == PF_TENSOR_RESIDUAL;
}

/* "model.layers.0.self_attn.q_proj.weight": length without ".weight" */
static int path_length(const struct pf_tensor *t)
{
	return (int)(strlen(t->name) - strlen(".weight"));
}

/* Whether a module's path ends with the name, as a whole component */
static int fits(const struct pf_tensor *t, const char *name, size_t length)
{
	const size_t path = (size_t)path_length(t);
	return length > 0 && length <= path && strncmp(t->name + path - length, name, length) == 0 &&
	       (length == path || t->name[path - length - 1] == '.');
}

static int wanted(const struct pf_tensor *t, const char *list)
{
	if (!is_matrix(t))
		return 0;
	if (strcmp(list, ALL) == 0)
		return 1;
	for (const char *name = list; *name; name += strspn(name, ",")) {
		const size_t length = strcspn(name, ",");
		if (fits(t, name, length))
			return 1;
		name += length;
	}
	return 0;
}

/* Every name of the list must fit something */
static int check_list(const struct pf_layout *model, const char *list, struct pf_error *error)
{
	for (const char *name = list; strcmp(list, ALL) != 0 && *name; name += strspn(name, ",")) {
		const size_t length = strcspn(name, ",");
		int found = 0;
		for (unsigned i = 0; i < model->tensors && !found; i++)
			found = is_matrix(&model->tensor[i]) && fits(&model->tensor[i], name, length);
		if (!found)
			return pf_fail(error, PF_E_ARGUMENT,
			               "adapter: no matrix of this model is called %.*s; the first is %.*s",
			               (int)length, name, path_length(&model->tensor[1]), model->tensor[1].name);
		name += length;
	}
	return *list ? 0 : pf_fail(error, PF_E_ARGUMENT, "adapter: no targets; name modules, or " ALL);
}

static void place(const struct pf_layout *model, struct pf_lora_target *t)
{
	while (t->weight >= model->layer[t->layer].end)
		t->layer++;
	const struct pf_layer_layout *l = &model->layer[t->layer];
	uint64_t nearest = 0;
	for (int part = 0; part < PF_PARTS; part++)
		if (l->part[part] != PF_ABSENT && l->part[part] <= t->weight && l->part[part] >= nearest) {
			nearest = l->part[part];
			t->part = (enum pf_part)part;
		}
}

static uint64_t add_tensor(struct pf_lora *lora, const struct pf_tensor *of, const char *which, uint32_t rows,
                           uint32_t cols)
{
	struct pf_layout *l = &lora->layout;
	struct pf_tensor *t = &l->tensor[l->tensors++];
	*t = (struct pf_tensor){ .offset = l->size, .rows = rows, .cols = cols, .role = PF_TENSOR_MATRIX };
	snprintf(t->name, sizeof t->name, "base_model.model.%.*s.%s.weight", path_length(of), of->name, which);
	l->parameters += (uint64_t)rows * cols;
	l->size += ((uint64_t)rows * cols + ALIGN - 1) / ALIGN * ALIGN;
	return t->offset;
}

/* The last component of a module's path, once */
static int add_module(struct pf_lora *lora, const struct pf_tensor *t, struct pf_error *error)
{
	const int path = path_length(t);
	int begin = path;
	while (begin > 0 && t->name[begin - 1] != '.')
		begin--;
	const size_t length = (size_t)(path - begin), have = lora->modules ? strlen(lora->modules) : 0;
	for (const char *m = lora->modules; m && *m; m += strspn(m, ",")) {
		const size_t other = strcspn(m, ",");
		if (other == length && strncmp(m, t->name + begin, length) == 0)
			return 0;
		m += other;
	}
	char *grown = realloc(lora->modules, have + length + 2);
	if (!grown)
		return pf_fail(error, -ENOMEM, "adapter: out of memory");
	lora->modules = grown;
	sprintf(grown + have, "%s%.*s", have ? "," : "", (int)length, t->name + begin);
	return 0;
}

static int add_target(struct pf_lora *lora, const struct pf_layout *model, const struct pf_tensor *t,
                      struct pf_error *error)
{
	struct pf_lora_target *target = &lora->target[lora->targets++];
	*target = (struct pf_lora_target){ .weight = t->offset, .out = t->rows, .in = t->cols };
	place(model, target);
	target->a = add_tensor(lora, t, "lora_A", lora->rank, t->cols);
	target->b = add_tensor(lora, t, "lora_B", t->rows, lora->rank);
	return add_module(lora, t, error);
}

int pf_lora_init(struct pf_lora *lora, const struct pf_layout *model, const struct pf_lora_options *o,
                 struct pf_error *error)
{
	*lora = (struct pf_lora){ .rank = o->rank, .alpha = o->alpha, .rooted = o->rooted };
	if (o->rank < 1 || o->rank > 1024)
		return pf_fail(error, PF_E_RANGE, "adapter: rank %u; it must be from 1 to 1024", o->rank);
	if (!(o->alpha > 0.0 && o->alpha <= 1e6))
		return pf_fail(error, PF_E_RANGE, "adapter: alpha %g; it must be above 0", o->alpha);
	lora->scale = o->alpha / (o->rooted ? sqrt(o->rank) : o->rank);
	int code = check_list(model, o->targets, error);
	if (code != 0)
		return code;
	lora->target = calloc(model->tensors, sizeof *lora->target);
	lora->layout.tensor = calloc(2 * (size_t)model->tensors, sizeof *lora->layout.tensor);
	if (!lora->target || !lora->layout.tensor)
		return pf_fail(error, -ENOMEM, "adapter: out of memory");
	for (unsigned i = 0; code == 0 && i < model->tensors; i++)
		if (wanted(&model->tensor[i], o->targets))
			code = add_target(lora, model, &model->tensor[i], error);
	return code;
}

void pf_lora_fini(struct pf_lora *lora)
{
	pf_layout_fini(&lora->layout);
	free(lora->target);
	free(lora->modules);
	*lora = (struct pf_lora){ 0 };
}

void pf_lora_start(const struct pf_lora *lora, uint64_t seed, float *adapter)
{
	memset(adapter, 0, lora->layout.size * sizeof *adapter);
	for (unsigned i = 0; i < lora->targets; i++) {
		const struct pf_lora_target *t = &lora->target[i];
		struct pf_random random;
		pf_random_seed(&random, seed, i);
		for (uint64_t j = 0; j < (uint64_t)lora->rank * t->in; j++)
			adapter[t->a + j] = (float)((2 * pf_random_unit(&random) - 1) / sqrt(t->in));
	}
}

void pf_lora_merge(const struct pf_lora *lora, const float *adapter, unsigned threads, float *param)
{
	for (unsigned i = 0; i < lora->targets; i++) {
		const struct pf_lora_target *t = &lora->target[i];
		const struct pf_product p = {
			.m = t->out,
			.n = t->in,
			.k = lora->rank,
			.alpha = (float)lora->scale,
			.beta = 1,
			.a = adapter + t->b,
			.lda = lora->rank,
			.b = adapter + t->a,
			.ldb = t->in,
			.c = param + t->weight,
			.ldc = t->in,
		};
		pf_matmul(threads, &p);
	}
}
