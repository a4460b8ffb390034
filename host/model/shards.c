#include "shards.h"
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "config_family.h"
#include "text.h"

enum { PATH_MOST = 4096, NAME_MOST = 255 };

static int ends_with(const char *text, const char *end)
{
	size_t length = strlen(text), tail = strlen(end);
	return length >= tail && strcmp(text + length - tail, end) == 0;
}

static int is_known(const struct pf_model *model, const char *name)
{
	if (pf_layout_find(&model->layout, name))
		return 1;
	if (model->config.family == PF_FAMILY_GPT2 &&
	    (ends_with(name, ".attn.bias") || ends_with(name, ".attn.masked_bias")))
		return 1; /* the causal mask */
	return ends_with(name, ".rotary_emb.inv_freq") ||
	       (model->config.tied && strcmp(name, "lm_head.weight") == 0);
}

typedef int (*file_fn)(void *context, const struct pf_safetensors *file, struct pf_error *error);

struct loading {
	struct pf_model *model;
	uint8_t *seen;
};

static int load_file(void *context, const struct pf_safetensors *file, struct pf_error *error)
{
	const struct loading *l = context;
	struct pf_model *model = l->model;
	for (size_t i = 0; i < pf_safetensors_count(file); i++) {
		const char *name = pf_safetensors_at(file, i)->name;
		if (!is_known(model, name))
			return pf_fail(error, PF_E_UNSUPPORTED,
			               "%s: tensor %.200s is not part of the %s model that config.json describes",
			               pf_safetensors_where(file), name, pf_config_family_name(model->config.family));
	}
	if (pf_safetensors_count(file) > 0)
		model->stored = pf_safetensors_at(file, 0)->type;
	return model->half ? pf_layout_fill_half(&model->layout, file, model->half, l->seen, error)
	                   : pf_layout_fill(&model->layout, "", file, model->param, l->seen, error);
}

static int open_shard(const char *directory, const char *name, file_fn each, void *context, struct pf_error *error)
{
	char path[PATH_MOST];
	struct pf_safetensors *file;
	if (snprintf(path, sizeof path, "%s/%s", directory, name) >= (int)sizeof path)
		return pf_fail(error, PF_E_RANGE, "%s: path too long", directory);
	int code = pf_safetensors_open(path, &file, error);
	if (code != 0)
		return code;
	code = each(context, file, error);
	pf_safetensors_close(file);
	return code;
}

/* Each file is named once, in the order of first mention */
static int add_file(struct pf_index *index, const char *name, const char *where, struct pf_error *error)
{
	if (!*name || strchr(name, '/') || strlen(name) > NAME_MOST)
		return pf_fail(error, PF_E_FORMAT, "%s: shard name %.200s must be a file of this directory", where,
		               name);
	for (size_t i = 0; i < index->files; i++)
		if (strcmp(index->file[i], name) == 0)
			return 0;
	char **grown = realloc(index->file, (index->files + 1) * sizeof *grown);
	if (grown)
		index->file = grown;
	if (!grown || !(grown[index->files] = strdup(name)))
		return pf_fail(error, -ENOMEM, "%s: out of memory", where);
	index->files++;
	return 0;
}

static int read_map(const json_t *root, const char *where, struct pf_index *index, struct pf_error *error)
{
	const char *tensor;
	json_t *file, *map = json_object_get(root, "weight_map");
	if (!json_is_object(map))
		return pf_fail(error, PF_E_FORMAT, "%s: weight_map is missing", where);
	int code = 0;
	json_object_foreach(map, tensor, file)
	{
		const char *name = json_string_value(file);
		if (code == 0)
			code = name ? add_file(index, name, where, error)
			            : pf_fail(error, PF_E_FORMAT, "%s: weight_map: %.200s has no file name", where,
			                      tensor);
	}
	if (code == 0 && index->files == 0)
		code = pf_fail(error, PF_E_FORMAT, "%s: weight_map names no file", where);
	return code;
}

int pf_index_parse(const char *text, size_t bytes, const char *where, struct pf_index *index, struct pf_error *error)
{
	json_error_t fault;
	json_t *root = json_loadb(text, bytes, JSON_REJECT_DUPLICATES, &fault);
	*index = (struct pf_index){ 0 };
	if (!root)
		return pf_fail(error, PF_E_FORMAT, "%s:%d: %s", where, fault.line, fault.text);
	int code = read_map(root, where, index, error);
	json_decref(root);
	if (code != 0)
		pf_index_free(index);
	return code;
}

void pf_index_free(struct pf_index *index)
{
	for (size_t i = 0; i < index->files; i++)
		free(index->file[i]);
	free(index->file);
	*index = (struct pf_index){ 0 };
}

static int open_index(const char *directory, const char *path, file_fn each, void *context, struct pf_error *error)
{
	struct pf_index index;
	char *text;
	int code = pf_text_read(path, &text, error);
	code = code != 0 ? code : pf_index_parse(text, strlen(text), path, &index, error);
	free(text);
	if (code != 0)
		return code;
	for (size_t i = 0; code == 0 && i < index.files; i++)
		code = open_shard(directory, index.file[i], each, context, error);
	pf_index_free(&index);
	return code;
}

/* The files that the index names, or the only one */
static int each_file(const char *directory, file_fn each, void *context, struct pf_error *error)
{
	char index[PATH_MOST];
	int length = snprintf(index, sizeof index, "%s/model.safetensors.index.json", directory);
	return length < (int)sizeof index && access(index, F_OK) == 0
	               ? open_index(directory, index, each, context, error)
	               : open_shard(directory, "model.safetensors", each, context, error);
}

int pf_shards_load(const char *directory, struct pf_model *model, struct pf_error *error)
{
	struct loading l = { model, calloc(model->layout.tensors, 1) };
	if (!l.seen)
		return pf_fail(error, -ENOMEM, "%s: out of memory", directory);
	int code = each_file(directory, load_file, &l, error);
	const char *missing = pf_layout_missing(&model->layout, l.seen);
	if (code == 0 && missing)
		code = pf_fail(error, PF_E_FORMAT, "%s: tensor %s is missing from the weights",
		               directory, missing);
	free(l.seen);
	return code;
}

struct visiting {
	pf_tensor_fn each;
	void *context;
};

static int visit_file(void *context, const struct pf_safetensors *file, struct pf_error *error)
{
	const struct visiting *v = context;
	(void)error;
	for (size_t i = 0; i < pf_safetensors_count(file); i++)
		v->each(v->context, pf_safetensors_where(file), pf_safetensors_at(file, i));
	return 0;
}

int pf_shards_visit(const char *directory, pf_tensor_fn each, void *context, struct pf_error *error)
{
	struct visiting v = { each, context };
	return each_file(directory, visit_file, &v, error);
}
