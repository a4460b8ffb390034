/* Adapters of models, references, and what is computed with and trained when weights are not plain floats. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "model.h"
#include "prefpga/internal/kmath.h"

static struct pf_model *borrow(const struct pf_model *model)
{
	struct pf_model *view = calloc(1, sizeof *view);
	if (!view)
		return NULL;
	*view = (struct pf_model){ .config = model->config,
		                   .layout = model->layout,
		                   .param = model->param,
		                   .half = model->half,
		                   .rounded = model->rounded,
		                   .borrowed = 1,
		                   .version = model->version,
		                   .stored = model->stored };
	return view;
}

struct pf_model *pf_model_reference(const struct pf_model *model)
{
	struct pf_model *copy;
	if (model->lora || model->half)
		return borrow(model);
	if ((model->rounded ? pf_model_alloc_half : pf_model_alloc)(&model->config, &copy, NULL) != 0)
		return NULL;
	if (!model->rounded)
		memcpy(copy->param, model->param, model->layout.size * sizeof *model->param);
	for (uint64_t i = 0; model->rounded && i < model->layout.size; i++)
		copy->half[i] = pf_bf16_any(model->param[i]);
	pf_model_touch(copy);
	return copy;
}

static int no_adapter(struct pf_model *model, struct pf_error *error)
{
	free(model->lora);
	free(model->adapter);
	model->lora = NULL;
	model->adapter = NULL;
	return pf_fail(error, -ENOMEM, "adapter: out of memory");
}

int pf_model_adapt(struct pf_model *model, const struct pf_lora_options *options, uint64_t seed, struct pf_error *error)
{
	if (!(model->lora = calloc(1, sizeof *model->lora)))
		return no_adapter(model, error);
	int code = pf_lora_init(model->lora, &model->layout, options, error);
	if (code != 0)
		return code;
	if (!(model->adapter = pf_floats_alloc(model->lora->layout.size))) {
		pf_lora_fini(model->lora);
		return no_adapter(model, error);
	}
	pf_lora_start(model->lora, seed, model->adapter);
	return 0;
}

int pf_model_adapt_from(struct pf_model *model, const char *directory, struct pf_error *error)
{
	if (!(model->lora = calloc(1, sizeof *model->lora)))
		return no_adapter(model, error);
	int code = pf_lora_load(directory, &model->layout, model->lora, &model->adapter, error);
	if (code == 0)
		return 0;
	free(model->lora);
	model->lora = NULL;
	return code;
}

int pf_model_merge(struct pf_model *model, unsigned threads, struct pf_error *error)
{
	if (!model->param)
		return pf_fail(error, PF_E_UNSUPPORTED,
		               "merge: weights held as bfloat16 would round what the adapter adds");
	if (!model->lora)
		return 0;
	pf_lora_merge(model->lora, model->adapter, threads, model->param);
	pf_model_touch(model);
	pf_lora_fini(model->lora);
	free(model->lora);
	free(model->adapter);
	model->lora = NULL;
	model->adapter = NULL;
	return 0;
}

struct pf_weights pf_model_weights(const struct pf_model *model)
{
	return (struct pf_weights){ .param = model->param, .half = model->half, .rounded = model->rounded,
		.lora = model->lora, .adapter = model->adapter };
}

const float *pf_model_head(const struct pf_model *model, float **room)
{
	const uint64_t at = model->layout.head, count = (uint64_t)model->config.vocab * model->config.dim;
	if (!model->half && !model->rounded)
		return model->param + at;
	if (!*room && !(*room = pf_floats_alloc(count)))
		return NULL;
	for (uint64_t i = 0; i < count; i++)
		(*room)[i] = pf_from_bf16(model->half ? model->half[at + i] : pf_bf16_any(model->param[at + i]));
	return *room;
}

struct pf_trained pf_model_trained(const struct pf_model *model)
{
	if (model->lora)
		return (struct pf_trained){ &model->lora->layout, model->adapter };
	return (struct pf_trained){ &model->layout, model->param };
}
