/* shards.h: the weights of a model directory, in one file or as model.safetensors.index.json lists
 * them. */
#ifndef PF_MODEL_SHARDS_H
#define PF_MODEL_SHARDS_H
#include "model.h"

/* Fills model->param. Every tensor of the layout must be there once, and nothing that would be
 * ignored: tensors of no plain Llama model are errors, except the constants of rotary positions and
 * the copy of a tied head */
int pf_shards_load(const char *directory, struct pf_model *model, struct pf_error *error);
#endif
