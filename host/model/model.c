#include "model.h"
#include <errno.h>
#include <math.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "config.h"
#include "random.h"
#include "shards.h"

enum { ALIGN_BYTES = 64 };

float *pf_floats_alloc(uint64_t count)
{
	if (count > (SIZE_MAX - ALIGN_BYTES) / sizeof(float))
		return NULL;
	size_t bytes = ((size_t)count * sizeof(float) + ALIGN_BYTES - 1) / ALIGN_BYTES *
	               ALIGN_BYTES;
	float *floats = aligned_alloc(ALIGN_BYTES, bytes > 0 ? bytes : ALIGN_BYTES);
	if (floats)
		memset(floats, 0, bytes);
	return floats;
}

static int alloc_model(const struct pf_model_config *config, int half, struct pf_model **out, struct pf_error *error)
{
	int code = pf_config_check(config, "model", error);
	if (code != 0)
		return code;
	struct pf_model *model = calloc(1, sizeof *model);
	if (!model)
		return pf_fail(error, -ENOMEM, "model: out of memory");
	model->config = *config;
	code = pf_layout_init(&model->layout, config, error);
	if (code == 0 && half)
		model->half = calloc(model->layout.size, sizeof *model->half);
	else if (code == 0)
		model->param = pf_floats_alloc(model->layout.size);
	if (code == 0 && !model->param && !model->half)
		code = pf_fail(error, -ENOMEM, "model: out of memory for %llu parameters",
		               (unsigned long long)model->layout.parameters);
	if (code != 0)
		pf_model_close(model);
	else
		*out = model;
	return code;
}

void pf_model_touch(struct pf_model *model)
{
	static atomic_uint_fast64_t last;
	model->version = atomic_fetch_add(&last, 1) + 1;
}

int pf_model_alloc(const struct pf_model_config *config, struct pf_model **out, struct pf_error *error)
{
	return alloc_model(config, 0, out, error);
}

int pf_model_alloc_half(const struct pf_model_config *config, struct pf_model **out, struct pf_error *error)
{
	return alloc_model(config, 1, out, error);
}

void pf_model_close(struct pf_model *model)
{
	if (!model)
		return;
	if (!model->borrowed) {
		pf_layout_fini(&model->layout);
		free(model->param);
		free(model->half);
	}
	if (model->lora)
		pf_lora_fini(model->lora);
	free(model->lora);
	free(model->adapter);
	free(model->text);
	free(model->source);
	free(model);
}

const struct pf_model_config *pf_model_shape(const struct pf_model *model)
{
	return &model->config;
}

uint64_t pf_model_parameters(const struct pf_model *model)
{
	return model->layout.parameters;
}

static double deviation(const struct pf_tensor *t, unsigned layers)
{
	const double inputs = t->role == PF_TENSOR_RESIDUAL ? 2.0 * layers * t->cols : t->cols;
	return 1.0 / sqrt(inputs);
}

/* Each tensor draws from its own stream, so its values do not depend on the sizes of the others */
static void init_tensor(const struct pf_tensor *t, const struct pf_model_config *config, uint64_t seed, uint64_t stream,
                        float *value)
{
	const float vector = t->role == PF_TENSOR_NORM && config->norm != PF_NORM_RMS_PLUS ? 1.0f : 0.0f;
	const uint64_t elements = pf_tensor_elements(t);
	const double scale = deviation(t, config->layers);
	struct pf_random random;
	pf_random_seed(&random, seed, stream);
	for (uint64_t i = 0; i < elements; i++)
		value[i] = pf_tensor_decays(t) ? (float)(scale * pf_random_normal(&random)) : vector;
}

int pf_model_create(const struct pf_model_config *config, uint64_t seed, struct pf_model **out,
                    struct pf_error *error)
{
	struct pf_model *model;
	int code = pf_model_alloc(config, &model, error);
	if (code != 0)
		return code;
	for (unsigned i = 0; i < model->layout.tensors; i++) {
		const struct pf_tensor *t = &model->layout.tensor[i];
		init_tensor(t, config, seed, i, model->param + t->offset);
	}
	pf_model_touch(model);
	*out = model;
	return 0;
}

static char *path_in(const char *directory, const char *name)
{
	size_t length = strlen(directory) + strlen(name) + 2;
	char *path = malloc(length);
	if (path)
		snprintf(path, length, "%s/%s", directory, name);
	return path;
}

static int load_model(const char *directory, int half, struct pf_model **out, struct pf_error *error)
{
	struct pf_model_config config;
	struct pf_model *model = NULL;
	char *path = path_in(directory, "config.json"), *text = NULL;
	int code = path ? pf_config_load(path, &config, &text, error)
	                : pf_fail(error, -ENOMEM, "%s: out of memory", directory);
	free(path);
	code = code != 0 ? code : alloc_model(&config, half, &model, error);
	if (code != 0) {
		free(text);
		return code;
	}
	model->text = text;
	model->source = strdup(directory);
	code = model->source ? pf_shards_load(directory, model, error)
	                     : pf_fail(error, -ENOMEM, "%s: out of memory", directory);
	pf_model_touch(model);
	if (code != 0)
		pf_model_close(model);
	else
		*out = model;
	return code;
}

int pf_model_load(const char *directory, struct pf_model **model, struct pf_error *error)
{
	return load_model(directory, 0, model, error);
}

int pf_model_load_half(const char *directory, struct pf_model **model, struct pf_error *error)
{
	return load_model(directory, 1, model, error);
}

enum pf_dtype pf_model_stored(const struct pf_model *model)
{
	return model->stored;
}
