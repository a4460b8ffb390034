#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include "replace.h"
#include "safetensors.h"

enum { ALIGN = 8 }; /* the data begin at a multiple of this, the header is padded with blanks */

struct pf_safetensors_writer {
	char *where;
	struct pf_replace *file;
	json_t *header, *notes;
	uint64_t declared, written;
	int begun; /* the header is out */
};

static void writer_free(struct pf_safetensors_writer *w)
{
	json_decref(w->header);
	json_decref(w->notes);
	free(w->where);
	free(w);
}

int pf_safetensors_create(const char *path, struct pf_safetensors_writer **out,
                          struct pf_error *error)
{
	struct pf_safetensors_writer *w = calloc(1, sizeof *w);
	if (!w)
		return pf_fail(error, -ENOMEM, "%s: out of memory", path);
	w->where = strdup(path);
	w->header = json_object();
	w->notes = json_object();
	int code = w->where && w->header && w->notes
	                   ? pf_replace_open(path, &w->file, error)
	                   : pf_fail(error, -ENOMEM, "%s: out of memory", path);
	if (code != 0)
		writer_free(w);
	else
		*out = w;
	return code;
}

static int late(const struct pf_safetensors_writer *w, struct pf_error *error)
{
	if (!w->begun)
		return 0;
	return pf_fail(error, PF_E_ARGUMENT, "%s: declarations come before the first data",
	               w->where);
}

int pf_safetensors_annotate(struct pf_safetensors_writer *w, const char *key, const char *value,
                            struct pf_error *error)
{
	int code = late(w, error);
	if (code == 0 && json_object_set_new(w->notes, key, json_string(value)) != 0)
		return pf_fail(error, PF_E_DATA, "%s: metadata %.200s is not UTF-8", w->where, key);
	return code;
}

static json_t *entry_json(enum pf_dtype type, unsigned rank, const uint64_t *shape, uint64_t begin,
                          uint64_t end)
{
	json_t *list = json_array();
	for (unsigned i = 0; i < rank; i++)
		json_array_append_new(list, json_integer((json_int_t)shape[i]));
	return json_pack("{s:s, s:o, s:[I, I]}", "dtype", pf_safetensors_type_name(type), "shape",
	                 list, "data_offsets", (json_int_t)begin, (json_int_t)end);
}

int pf_safetensors_declare(struct pf_safetensors_writer *w, const char *name, enum pf_dtype type,
                           unsigned rank, const uint64_t *shape, struct pf_error *error)
{
	uint64_t elements, bytes, end;
	int code = late(w, error);
	if (code != 0)
		return code;
	if (!pf_safetensors_type_name(type) || rank > PF_SAFETENSORS_RANK_MAX ||
	    strcmp(name, "__metadata__") == 0 || json_object_get(w->header, name))
		return pf_fail(error, PF_E_ARGUMENT,
		               "%s: tensor %.200s: name used twice or reserved, or type or rank "
		               "unknown",
		               w->where, name);
	if (pf_safetensors_size(type, rank, shape, &elements, &bytes) != 0 ||
	    __builtin_add_overflow(w->declared, bytes, &end) || end > INT64_MAX)
		return pf_fail(error, PF_E_RANGE, "%s: tensor %.200s is too large", w->where, name);
	if (json_object_set_new(w->header, name, entry_json(type, rank, shape, w->declared, end)) !=
	    0)
		return pf_fail(error, PF_E_DATA, "%s: tensor %.200s: name is not UTF-8", w->where,
		               name);
	w->declared = end;
	return 0;
}

static int write_header(struct pf_safetensors_writer *w, struct pf_error *error)
{
	if (json_object_size(w->notes) > 0)
		json_object_set(w->header, "__metadata__", w->notes);
	char *text = json_dumps(w->header, JSON_COMPACT);
	if (!text)
		return pf_fail(error, -ENOMEM, "%s: out of memory for the header", w->where);
	size_t length = strlen(text), padding = (ALIGN - length % ALIGN) % ALIGN;
	uint64_t stored = length + padding;
	int code = pf_replace_write(w->file, &stored, sizeof stored, error);
	code = code != 0 ? code : pf_replace_write(w->file, text, length, error);
	code = code != 0 ? code : pf_replace_write(w->file, "        ", padding, error);
	free(text);
	w->begun = 1;
	return code;
}

int pf_safetensors_write(struct pf_safetensors_writer *w, const void *data, size_t bytes,
                         struct pf_error *error)
{
	int code = w->begun ? 0 : write_header(w, error);
	if (code != 0)
		return code;
	if (bytes > w->declared - w->written)
		return pf_fail(error, PF_E_SHAPE, "%s: more data than the %llu bytes declared",
		               w->where, (unsigned long long)w->declared);
	w->written += bytes;
	return pf_replace_write(w->file, data, bytes, error);
}

int pf_safetensors_commit(struct pf_safetensors_writer *w, struct pf_error *error)
{
	int code = w->begun ? 0 : write_header(w, error);
	if (code == 0 && w->written != w->declared)
		code = pf_fail(error, PF_E_SHAPE,
		               "%s: %llu of %llu declared bytes were written; nothing was replaced",
		               w->where, (unsigned long long)w->written,
		               (unsigned long long)w->declared);
	if (code == 0)
		code = pf_replace_commit(w->file, error);
	else
		pf_replace_abandon(w->file);
	writer_free(w);
	return code;
}

void pf_safetensors_abandon(struct pf_safetensors_writer *w)
{
	if (!w)
		return;
	pf_replace_abandon(w->file);
	writer_free(w);
}
