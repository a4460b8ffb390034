/* shards.h: the weights of a model directory, in one file or as model.safetensors.index.json lists
 * them. */
#ifndef PF_MODEL_SHARDS_H
#define PF_MODEL_SHARDS_H
#include "model.h"

/* Fills model->param. Every tensor of the layout must be there once, and nothing that would be
 * ignored: tensors that the model of config.json does not have are errors, except constants (of
 * rotary positions, GPT-2's causal mask) and the copy of a tied head */
int pf_shards_load(const char *directory, struct pf_model *model, struct pf_error *error);

/* Every tensor of the weights' files, from their headers alone; `file` is its path */
typedef void (*pf_tensor_fn)(void *context, const char *file, const struct pf_safetensor *tensor);
int pf_shards_visit(const char *directory, pf_tensor_fn each, void *context, struct pf_error *error);

/* Files of an index, each once */
struct pf_index {
	char **file;
	size_t files;
};
/* text[bytes]: {"weight_map": {tensor: file, ...}}. Files are names in the index's own folder. `where` names the text
 * in messages. Frees with pf_index_free; nothing is to be freed after a failure */
int pf_index_parse(const char *text, size_t bytes, const char *where, struct pf_index *index, struct pf_error *error);
void pf_index_free(struct pf_index *index);
#endif
