/* Adapters in PEFT's form. */
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "folder.h"
#include "lora.h"
#include "model.h"
#include "text.h"

enum { PATH_MOST = 4096 };

static int path_to(const char *directory, const char *name, char *path, struct pf_error *error)
{
	if (snprintf(path, PATH_MOST, "%s/%s", directory, name) < PATH_MOST)
		return 0;
	return pf_fail(error, PF_E_RANGE, "%s: path too long", directory);
}

/* ---- adapter_config.json ---- */

static int is_nothing(const json_t *value)
{
	return !value || json_is_null(value) || json_is_false(value) ||
	       ((json_is_array(value) || json_is_object(value)) &&
	        json_array_size(value) + json_object_size(value) == 0);
}

/* Keys that change what an adapter computes or trains, in ways that are not built */
static int check_plain(const json_t *root, const char *where, struct pf_error *error)
{
	static const char *const unbuilt[] = {
		"use_dora",
		"modules_to_save",
		"rank_pattern",
		"alpha_pattern",
		"layers_to_transform",
		"layer_replication",
		"trainable_token_indices",
		"exclude_modules",
		"lora_bias",
		"target_parameters",
		"use_qalora",
	};
	const char *type = json_string_value(json_object_get(root, "peft_type")),
	           *bias = json_string_value(json_object_get(root, "bias"));
	if (type && strcmp(type, "LORA") != 0)
		return pf_fail(error, PF_E_UNSUPPORTED, "%s: peft_type %.50s; LORA is read", where, type);
	if (bias && strcmp(bias, "none") != 0)
		return pf_fail(error, PF_E_UNSUPPORTED, "%s: bias %.50s: adapters have no biases here", where, bias);
	for (size_t i = 0; i < sizeof unbuilt / sizeof *unbuilt; i++)
		if (!is_nothing(json_object_get(root, unbuilt[i])))
			return pf_fail(error, PF_E_UNSUPPORTED, "%s: %s is not built", where, unbuilt[i]);
	return 0;
}

/* A list of names, or "all-linear" */
static int read_targets(const json_t *root, const char *where, char **targets, struct pf_error *error)
{
	const json_t *value = json_object_get(root, "target_modules");
	const char *text = json_string_value(value);
	size_t i, length = 1;
	json_t *name;
	if (text && strcmp(text, "all-linear") == 0)
		return (*targets = strdup(text)) ? 0 : pf_fail(error, -ENOMEM, "%s: out of memory", where);
	json_array_foreach((json_t *)value, i, name)
	{
		const char *module = json_string_value(name);
		if (!module || !*module || strchr(module, ','))
			return pf_fail(error, PF_E_FORMAT, "%s: target_modules: entry %zu is no module's name", where,
			               i);
		length += strlen(module) + 1;
	}
	if (json_array_size(value) == 0)
		return pf_fail(error, PF_E_FORMAT, "%s: target_modules must be a list of names, or \"all-linear\"",
		               where);
	if (!(*targets = calloc(length, 1)))
		return pf_fail(error, -ENOMEM, "%s: out of memory", where);
	json_array_foreach((json_t *)value, i, name) strcat(strcat(*targets, i ? "," : ""), json_string_value(name));
	return 0;
}

static int read_options(const json_t *root, const char *where, struct pf_lora_options *o, char **targets,
                        struct pf_error *error)
{
	const json_t *alpha = json_object_get(root, "lora_alpha"), *rank = json_object_get(root, "r");
	if (!json_is_object(root))
		return pf_fail(error, PF_E_FORMAT, "%s: not a JSON object", where);
	int code = check_plain(root, where, error);
	if (code != 0)
		return code;
	if (!json_is_integer(rank) || json_integer_value(rank) < 1 || json_integer_value(rank) > 1024)
		return pf_fail(error, PF_E_RANGE, "%s: r must be a whole number from 1 to 1024", where);
	if (!json_is_number(alpha) || !(json_number_value(alpha) > 0.0 && json_number_value(alpha) <= 1e6))
		return pf_fail(error, PF_E_RANGE, "%s: lora_alpha must be a number above 0", where);
	*o = (struct pf_lora_options){ .rank = (uint32_t)json_integer_value(rank), .alpha = json_number_value(alpha),
		.rooted = json_is_true(json_object_get(root, "use_rslora")) };
	code = read_targets(root, where, targets, error);
	o->targets = *targets;
	return code;
}

int pf_lora_parse(const char *text, size_t bytes, const char *where, struct pf_lora_options *options, char **targets,
                  struct pf_error *error)
{
	json_error_t fault;
	json_t *root = json_loadb(text, bytes, JSON_REJECT_DUPLICATES, &fault);
	*targets = NULL;
	if (!root)
		return pf_fail(error, PF_E_FORMAT, "%s:%d: %s", where, fault.line, fault.text);
	int code = read_options(root, where, options, targets, error);
	json_decref(root);
	if (code != 0) {
		free(*targets);
		*targets = NULL;
	}
	return code;
}

static json_t *modules_json(const char *list)
{
	json_t *names = json_array();
	while (*list) {
		const size_t length = strcspn(list, ",");
		json_array_append_new(names, json_stringn(list, length));
		list += length + (list[length] == ',');
	}
	return names;
}

static int save_config(const struct pf_lora *l, const char *base, int transposed, const char *path,
                       struct pf_error *error)
{
	json_t *root = json_pack("{s:s, s:s, s:s?, s:i, s:f, s:f, s:o, s:s, s:b, s:b, s:b, s:b, s:n}", "peft_type",
	                         "LORA", "task_type", "CAUSAL_LM", "base_model_name_or_path", base, "r", (int)l->rank,
	                         "lora_alpha", l->alpha, "lora_dropout", 0.0, "target_modules",
	                         modules_json(l->modules), "bias", "none", "fan_in_fan_out", transposed, "use_rslora",
	                         l->rooted, "init_lora_weights", 1, "inference_mode", 1, "modules_to_save");
	char *text = root ? json_dumps(root, JSON_INDENT(2) | JSON_SORT_KEYS | JSON_REAL_PRECISION(17)) : NULL;
	int code = text ? pf_text_write(path, text, error) : pf_fail(error, -ENOMEM, "%s: out of memory", path);
	free(text);
	json_decref(root);
	return code;
}

/* ---- adapter_model.safetensors ---- */

int pf_lora_save(const struct pf_lora *l, const float *adapter, const char *base, int transposed, const char *directory,
                 struct pf_error *error)
{
	struct pf_safetensors_writer *w;
	char weights[PATH_MOST], config[PATH_MOST];
	int code = pf_folder_make(directory);
	if (code != 0)
		return pf_fail(error, code, "%s: cannot make the directory: %s", directory, strerror(-code));
	code = path_to(directory, PF_LORA_WEIGHTS, weights, error);
	code = code != 0 ? code : path_to(directory, PF_LORA_CONFIG, config, error);
	code = code != 0 ? code : pf_safetensors_create(weights, &w, error);
	if (code != 0)
		return code;
	code = pf_safetensors_annotate(w, "format", "pt", error);
	code = code != 0 ? code : pf_layout_declare(&l->layout, "", w, error);
	code = code != 0 ? code : pf_layout_write(&l->layout, adapter, w, error);
	if (code != 0) {
		pf_safetensors_abandon(w);
		return code;
	}
	code = pf_safetensors_commit(w, error);
	return code != 0 ? code : save_config(l, base, transposed, config, error);
}

static int fill(const struct pf_lora *l, const struct pf_safetensors *file, float *adapter, struct pf_error *error)
{
	const char *where = pf_safetensors_where(file), *missing;
	uint8_t *seen = calloc(l->layout.tensors, 1);
	int code = seen ? 0 : pf_fail(error, -ENOMEM, "%s: out of memory", where);
	for (size_t i = 0; code == 0 && i < pf_safetensors_count(file); i++)
		if (!pf_layout_find(&l->layout, pf_safetensors_at(file, i)->name))
			code = pf_fail(error, PF_E_UNSUPPORTED,
			               "%s: tensor %.200s belongs to no target of " PF_LORA_CONFIG, where,
			               pf_safetensors_at(file, i)->name);
	code = code != 0 ? code : pf_layout_fill(&l->layout, "", file, adapter, seen, error);
	if (code == 0 && (missing = pf_layout_missing(&l->layout, seen)))
		code = pf_fail(error, PF_E_FORMAT, "%s: tensor %s is missing", where, missing);
	free(seen);
	return code;
}

static int load_weights(const char *directory, const struct pf_lora *l, float *adapter, struct pf_error *error)
{
	struct pf_safetensors *file;
	char path[PATH_MOST];
	int code = path_to(directory, PF_LORA_WEIGHTS, path, error);
	code = code != 0 ? code : pf_safetensors_open(path, &file, error);
	if (code != 0)
		return code;
	code = fill(l, file, adapter, error);
	pf_safetensors_close(file);
	return code;
}

static int load_config(const char *directory, const struct pf_layout *model, struct pf_lora *l, struct pf_error *error)
{
	struct pf_lora_options options;
	char path[PATH_MOST], *text = NULL, *targets = NULL;
	int code = path_to(directory, PF_LORA_CONFIG, path, error);
	code = code != 0 ? code : pf_text_read(path, &text, error);
	if (code == -ENOENT)
		return pf_fail(error, code, "%s: %s; an adapter's folder has this file and " PF_LORA_WEIGHTS
		               ", as `prefpga train --lora` writes them", path, strerror(ENOENT));
	code = code != 0 ? code : pf_lora_parse(text, strlen(text), path, &options, &targets, error);
	code = code != 0 ? code : pf_lora_init(l, model, &options, error);
	free(text);
	free(targets);
	return code;
}

int pf_lora_load(const char *directory, const struct pf_layout *model, struct pf_lora *l, float **adapter,
                 struct pf_error *error)
{
	*l = (struct pf_lora){ 0 };
	*adapter = NULL;
	int code = load_config(directory, model, l, error);
	if (code == 0 && !(*adapter = pf_floats_alloc(l->layout.size)))
		code = pf_fail(error, -ENOMEM, "%s: out of memory", directory);
	code = code != 0 ? code : load_weights(directory, l, *adapter, error);
	if (code != 0) {
		pf_lora_fini(l);
		free(*adapter);
		*adapter = NULL;
	}
	return code;
}
