/* model.h: what the host's rooms see of a model beyond prefpga/model.h: its flat parameters and
 * their layout. */
#ifndef PF_MODEL_MODEL_H
#define PF_MODEL_MODEL_H
#include "decoder.h"
#include "lora.h"
#include "prefpga/model.h"

struct pf_model {
	struct pf_model_config config;
	struct pf_layout layout;
	float *param;   /* [layout.size], 64-byte aligned; or NULL: */
	uint16_t *half; /* the same as bfloat16, which nothing trains */
	int rounded;    /* 1: param are masters; what is computed with is rounded to bfloat16, to nearest even */
	struct pf_lora *lora; /* or NULL; trained instead of param */
	float *adapter; /* its flat array */
	int borrowed;   /* 1: layout and weights are another model's */
	uint64_t version; /* another number, in this process, whenever param changed; see pf_model_touch */
	/* of a model that was read: its config.json, the type of its weights, its folder; else NULL */
	char *text, *source;
	enum pf_dtype stored;
};

/* Call after changing param: gives a version that no model had before, so that whoever keeps a copy
 * of the weights knows. Thread-safe */
void pf_model_touch(struct pf_model *model);
/* A model whose parameters are all zero */
int pf_model_alloc(const struct pf_model_config *config, struct pf_model **model,
                   struct pf_error *error);
/* The same in bfloat16 */
int pf_model_alloc_half(const struct pf_model_config *config, struct pf_model **model, struct pf_error *error);
/* A frozen policy that computes what the model does now: a copy of its weights, in bfloat16 if it computes with these;
 * of an adapted model none, but its weights without the adapter, which must then outlive it. NULL when out of memory */
struct pf_model *pf_model_reference(const struct pf_model *model);
/* As pf_model_load, holding the weights as bfloat16: two bytes each, to be computed with but not trained or saved */
int pf_model_load_half(const char *directory, struct pf_model **model, struct pf_error *error);
/* Adds a fresh adapter, or one from a folder; the model's own weights are frozen then */
int pf_model_adapt(struct pf_model *model, const struct pf_lora_options *options, uint64_t seed,
                   struct pf_error *error);
int pf_model_adapt_from(struct pf_model *model, const char *directory, struct pf_error *error);
/* Adds what the adapter adds to the weights themselves, and drops it */
int pf_model_merge(struct pf_model *model, unsigned threads, struct pf_error *error);

/* What decoder.h takes */
struct pf_weights pf_model_weights(const struct pf_model *model);
/* The head's matrix [V, D] as it is computed with: in place, or written to *room, allocated when NULL and the caller's
 * to free. NULL when out of memory */
const float *pf_model_head(const struct pf_model *model, float **room);
/* What training changes */
struct pf_trained {
	const struct pf_layout *layout;
	float *param;
};
struct pf_trained pf_model_trained(const struct pf_model *model);
/* Removes what pf_model_save leaves in a folder, and nothing else */
void pf_model_unlink(const char *directory);
/* count floats, zero, 64-byte aligned, or NULL; freed with free() */
float *pf_floats_alloc(uint64_t count);
#endif
