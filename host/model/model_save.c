/* A model to its folder: weights in one file or in shards with an index, config.json, and the files beside them. */
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "config.h"
#include "model.h"
#include "replace.h"
#include "shards.h"
#include "text.h"

enum { PATH_MOST = 4096 };
static const char single[] = "model.safetensors", index_name[] = "model.safetensors.index.json";

/* What else a model's folder holds: copied along so that other programs load the copy too */
static const char *const companions[] = {
	"tokenizer.json",
	"tokenizer_config.json",
	"special_tokens_map.json",
	"added_tokens.json",
	"vocab.json",
	"merges.txt",
	"tokenizer.model",
	"chat_template.jinja",
	"chat_template.json",
	"generation_config.json",
};
enum { COMPANIONS = sizeof companions / sizeof *companions };

struct saving {
	const struct pf_model *model;
	const char *directory;
	struct pf_model_save_options options;
	unsigned shards;
	json_t *map;      /* tensor -> file, of shards */
	json_t *written;  /* file -> true */
	uint64_t bytes;   /* of all tensors */
};

static int path_to(const struct saving *s, const char *name, char *path, struct pf_error *error)
{
	if (snprintf(path, PATH_MOST, "%s/%s", s->directory, name) < PATH_MOST)
		return 0;
	return pf_fail(error, PF_E_RANGE, "%s: path too long", s->directory);
}

/* Tensors from `first` that fit one file, at least one */
static unsigned fitting(const struct saving *s, unsigned first)
{
	const struct pf_layout *l = &s->model->layout;
	uint64_t bytes = 0;
	unsigned count = 0;
	for (; first + count < l->tensors; count++) {
		bytes += pf_tensor_bytes(&l->tensor[first + count], s->options.type);
		if (count > 0 && bytes > s->options.shard_bytes)
			break;
	}
	return count;
}

static int save_tensors(const struct saving *s, const char *name, unsigned first, unsigned count,
                        struct pf_error *error)
{
	struct pf_safetensors_writer *writer;
	const struct pf_model *m = s->model;
	char path[PATH_MOST];
	int code = path_to(s, name, path, error);
	code = code != 0 ? code : pf_safetensors_create(path, &writer, error);
	if (code != 0)
		return code;
	code = pf_safetensors_annotate(writer, "format", "pt", error); /* what Python readers look for */
	code = code != 0 ? code : pf_layout_declare_as(&m->layout, first, count, s->options.type, writer, error);
	code = code != 0 ? code
	                 : pf_layout_write_as(&m->layout, first, count, s->options.type, m->param, writer, error);
	if (code == 0)
		return pf_safetensors_commit(writer, error);
	pf_safetensors_abandon(writer);
	return code;
}

static void shard_name(unsigned shard, unsigned shards, char name[64])
{
	snprintf(name, 64, "model-%05u-of-%05u.safetensors", shard + 1, shards);
}

static int save_shard(struct saving *s, unsigned shard, unsigned first, unsigned count, struct pf_error *error)
{
	const struct pf_layout *l = &s->model->layout;
	char name[64];
	shard_name(shard, s->shards, name);
	json_object_set_new(s->written, name, json_true());
	for (unsigned i = first; i < first + count; i++) {
		json_object_set_new(s->map, l->tensor[i].name, json_string(name));
		s->bytes += pf_tensor_bytes(&l->tensor[i], s->options.type);
	}
	return save_tensors(s, name, first, count, error);
}

static int save_index(const struct saving *s, struct pf_error *error)
{
	char path[PATH_MOST];
	json_t *root =
		json_pack("{s:{s:I}, s:O}", "metadata", "total_size", (json_int_t)s->bytes, "weight_map", s->map);
	char *text = root ? json_dumps(root, JSON_INDENT(2) | JSON_SORT_KEYS) : NULL;
	int code =
		text ? path_to(s, index_name, path, error) : pf_fail(error, -ENOMEM, "%s: out of memory", s->directory);
	code = code != 0 ? code : pf_text_write(path, text, error);
	free(text);
	json_decref(root);
	return code;
}

static void remove_file(const struct saving *s, const char *name)
{
	char path[PATH_MOST], partial[PATH_MOST + 16];
	if (path_to(s, name, path, NULL) != 0)
		return;
	unlink(path);
	snprintf(partial, sizeof partial, "%s.partial", path);
	unlink(partial);
}

/* Programs differ in which of two sets of weights they take, so only the new one may stay */
static void remove_stale(const struct saving *s, const struct pf_index *before)
{
	for (size_t i = 0; i < before->files; i++)
		if (!json_object_get(s->written, before->file[i]) && strncmp(before->file[i], "model-", 6) == 0)
			remove_file(s, before->file[i]);
	remove_file(s, s->shards > 1 ? single : index_name);
}

static int save_shards(struct saving *s, struct pf_error *error)
{
	const unsigned tensors = s->model->layout.tensors;
	unsigned shard = 0;
	int code = 0;
	for (unsigned i = 0; code == 0 && i < tensors; shard++) {
		const unsigned count = fitting(s, i);
		code = save_shard(s, shard, i, count, error);
		i += count;
	}
	return code != 0 ? code : save_index(s, error);
}

/* Shards of a model that this one replaces */
static void read_before(const struct saving *s, struct pf_index *before)
{
	char path[PATH_MOST], *text = NULL;
	*before = (struct pf_index){ 0 };
	if (path_to(s, index_name, path, NULL) == 0 && access(path, F_OK) == 0 && pf_text_read(path, &text, NULL) == 0)
		pf_index_parse(text, strlen(text), path, before, NULL);
	free(text);
}

static int save_weights(struct saving *s, struct pf_error *error)
{
	const unsigned tensors = s->model->layout.tensors;
	struct pf_index before;
	for (unsigned i = 0; i < tensors; i += fitting(s, i))
		s->shards++;
	s->map = json_object();
	s->written = json_object();
	read_before(s, &before);
	int code = !s->map || !s->written ? pf_fail(error, -ENOMEM, "%s: out of memory", s->directory)
	           : s->shards > 1        ? save_shards(s, error)
	                                  : save_tensors(s, single, 0, tensors, error);
	if (code == 0)
		remove_stale(s, &before);
	pf_index_free(&before);
	json_decref(s->map);
	json_decref(s->written);
	return code;
}

/* ---- what lies beside the weights ---- */

static int copy_file(const char *from, const char *to, struct pf_error *error)
{
	struct pf_replace *out;
	char block[1 << 14];
	size_t n;
	FILE *in = fopen(from, "rb");
	if (!in)
		return errno == ENOENT ? 0 : pf_fail(error, -errno, "%s: %s", from, strerror(errno));
	int code = pf_replace_open(to, &out, error);
	if (code == 0) {
		while (code == 0 && (n = fread(block, 1, sizeof block, in)) > 0)
			code = pf_replace_write(out, block, n, error);
		if (code == 0 && ferror(in))
			code = pf_fail(error, -EIO, "%s: cannot be read", from);
		if (code == 0)
			code = pf_replace_commit(out, error);
		else
			pf_replace_abandon(out);
	}
	fclose(in);
	return code;
}

static int copy_companions(const struct saving *s, struct pf_error *error)
{
	char from[PATH_MOST], to[PATH_MOST];
	int code = 0;
	for (int i = 0; code == 0 && s->model->source && i < COMPANIONS; i++) {
		code = path_to(s, companions[i], to, error);
		if (code == 0 && snprintf(from, sizeof from, "%s/%s", s->model->source, companions[i]) < PATH_MOST &&
		    !pf_replace_same(from, to))
			code = copy_file(from, to, error);
	}
	return code;
}

static int save_config(const struct saving *s, struct pf_error *error)
{
	char path[PATH_MOST];
	int code = path_to(s, "config.json", path, error);
	return code != 0 ? code
	                 : pf_config_write_as(&s->model->config, s->model->text, s->options.type, path, error);
}

int pf_model_save_as(const struct pf_model *model, const struct pf_model_save_options *options, const char *directory,
                     struct pf_error *error)
{
	struct saving s = { .model = model, .directory = directory, .options = *options };
	if (model->lora)
		return pf_lora_save(model->lora, model->adapter, model->source, model->config.family == PF_FAMILY_GPT2,
		                    directory, error);
	if (!model->param)
		return pf_fail(error, PF_E_UNSUPPORTED, "%s: weights held as bfloat16 are not saved", directory);
	if (options->type != PF_F32 && options->type != PF_F16 && options->type != PF_BF16)
		return pf_fail(error, PF_E_TYPE, "%s: weights are saved as F32, F16 or BF16", directory);
	if (s.options.shard_bytes == 0)
		s.options.shard_bytes = UINT64_MAX;
	if (mkdir(directory, 0777) != 0 && errno != EEXIST)
		return pf_fail(error, -errno, "%s: cannot make the directory: %s", directory,
		               strerror(errno));
	int code = save_weights(&s, error);
	code = code != 0 ? code : save_config(&s, error);
	return code != 0 ? code : copy_companions(&s, error);
}

int pf_model_save(const struct pf_model *model, const char *directory, struct pf_error *error)
{
	const struct pf_model_save_options options = { PF_F32, 0 };
	return pf_model_save_as(model, &options, directory, error);
}

void pf_model_unlink(const char *directory)
{
	const struct saving s = { .directory = directory };
	remove_file(&s, single);
	remove_file(&s, "config.json");
	remove_file(&s, PF_LORA_CONFIG);
	remove_file(&s, PF_LORA_WEIGHTS);
	for (int i = 0; i < COMPANIONS; i++)
		remove_file(&s, companions[i]);
}
