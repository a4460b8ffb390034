/* model.h: what the host's rooms see of a model beyond prefpga/model.h: its flat parameters and
 * their layout. */
#ifndef PF_MODEL_MODEL_H
#define PF_MODEL_MODEL_H
#include "layout.h"
#include "prefpga/model.h"

struct pf_model {
	struct pf_model_config config;
	struct pf_layout layout;
	float *param; /* [layout.size], 64-byte aligned */
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
/* Copies bytes; NULL when out of memory */
struct pf_model *pf_model_copy(const struct pf_model *model);
/* Removes what pf_model_save leaves in a folder, and nothing else */
void pf_model_unlink(const char *directory);
/* count floats, zero, 64-byte aligned, or NULL; freed with free() */
float *pf_floats_alloc(uint64_t count);
#endif
