#include "shards.h"
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { PATH_MOST = 4096 };

static int ends_with(const char *text, const char *end)
{
	size_t length = strlen(text), tail = strlen(end);
	return length >= tail && strcmp(text + length - tail, end) == 0;
}

static int is_known(const struct pf_model *model, const char *name)
{
	for (unsigned i = 0; i < model->layout.tensors; i++)
		if (strcmp(model->layout.tensor[i].name, name) == 0)
			return 1;
	return ends_with(name, ".rotary_emb.inv_freq") ||
	       (model->config.tied && strcmp(name, "lm_head.weight") == 0);
}

static int load_file(const char *path, struct pf_model *model, uint8_t *seen,
                     struct pf_error *error)
{
	struct pf_safetensors *file;
	int code = pf_safetensors_open(path, &file, error);
	if (code != 0)
		return code;
	for (size_t i = 0; i < pf_safetensors_count(file) && code == 0; i++) {
		const char *name = pf_safetensors_at(file, i)->name;
		if (!is_known(model, name))
			code = pf_fail(error, PF_E_UNSUPPORTED,
			               "%s: tensor %.200s is not part of the Llama model that "
			               "config.json describes",
			               path, name);
	}
	code = code != 0 ? code
	                 : pf_layout_fill(&model->layout, "", file, model->param, seen, error);
	pf_safetensors_close(file);
	return code;
}

static int load_shard(const char *directory, const char *name, struct pf_model *model,
                      uint8_t *seen, struct pf_error *error)
{
	char path[PATH_MOST];
	if (strchr(name, '/') ||
	    snprintf(path, sizeof path, "%s/%s", directory, name) >= (int)sizeof path)
		return pf_fail(error, PF_E_FORMAT,
		               "%s: shard name %.200s must be a file of this directory", directory,
		               name);
	return load_file(path, model, seen, error);
}

/* weight_map says tensor -> file; each file is read once */
static int load_map(const char *directory, const char *index, const json_t *root,
                    struct pf_model *model, uint8_t *seen, struct pf_error *error)
{
	const char *tensor, *name;
	json_t *file, *map = json_object_get(root, "weight_map"), *done = json_object();
	int code = json_is_object(map)
	                   ? 0
	                   : pf_fail(error, PF_E_FORMAT, "%s: weight_map is missing", index);
	json_object_foreach(map, tensor, file)
	{
		name = json_string_value(file);
		if (code == 0 && !name)
			code = pf_fail(error, PF_E_FORMAT,
			               "%s: weight_map: %.200s has no file name", index, tensor);
		if (code == 0 && !json_object_get(done, name)) {
			json_object_set_new(done, name, json_true());
			code = load_shard(directory, name, model, seen, error);
		}
	}
	json_decref(done);
	return code;
}

static int load_index(const char *directory, const char *index, struct pf_model *model,
                      uint8_t *seen, struct pf_error *error)
{
	json_error_t fault;
	json_t *root = json_load_file(index, JSON_REJECT_DUPLICATES, &fault);
	if (!root)
		return pf_fail(error, PF_E_FORMAT, "%s:%d: %s", index, fault.line, fault.text);
	int code = load_map(directory, index, root, model, seen, error);
	json_decref(root);
	return code;
}

int pf_shards_load(const char *directory, struct pf_model *model, struct pf_error *error)
{
	char index[PATH_MOST];
	uint8_t *seen = calloc(model->layout.tensors, 1);
	if (!seen)
		return pf_fail(error, -ENOMEM, "%s: out of memory", directory);
	int length = snprintf(index, sizeof index, "%s/model.safetensors.index.json", directory);
	int code = length < (int)sizeof index && access(index, F_OK) == 0
	                   ? load_index(directory, index, model, seen, error)
	                   : load_shard(directory, "model.safetensors", model, seen, error);
	const char *missing = pf_layout_missing(&model->layout, seen);
	if (code == 0 && missing)
		code = pf_fail(error, PF_E_FORMAT, "%s: tensor %s is missing from the weights",
		               directory, missing);
	free(seen);
	return code;
}
