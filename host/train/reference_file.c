#include "reference_file.h"
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "../corpus/reader.h"
#include "../model/replace.h"
#include "../model/safetensors.h"

static const char *const pair_names[2] = { "ref_chosen_logps", "ref_rejected_logps" };
static const char one_name[] = "reference_logps";
static const char *const split_names[PF_SPLITS] = { "train", "held" };

/* ---- tables ---- */

int pf_reference_table_init(struct pf_reference_table *t, struct pf_error *error)
{
	const uint64_t entries = t->samples * t->sides;

	t->sum = malloc((entries + 1) * sizeof *t->sum);
	if (!t->sum)
		return pf_fail(error, -ENOMEM, "no memory for the log-probs of %" PRIu64 " samples", t->samples);
	for (uint64_t i = 0; i < entries; i++)
		t->sum[i] = PF_REFERENCE_NONE;
	return 0;
}

void pf_reference_table_free(struct pf_reference_table *t)
{
	free(t->sum);
	t->sum = NULL;
}

int pf_reference_table_put(struct pf_reference_table *t, uint64_t sample, unsigned side, double nats,
                           struct pf_error *error)
{
	if (sample >= t->samples)
		return pf_fail(error, PF_E_DATA,
			       "sample %" PRIu64 ", but the data have %" PRIu64 " in this split; were they read with "
			       "the same options?",
			       sample, t->samples);
	if (side >= t->sides)
		return pf_fail(error, PF_E_DATA, "sample %" PRIu64 ": more than %u log-probs", sample, t->sides);
	if (!(nats <= 1e-3 && nats > -0x1p31))
		return pf_fail(error, PF_E_DATA,
			       "sample %" PRIu64 ": %g is no sum of log-probs: it must be negative and finite", sample,
			       nats);
	if (t->sum[sample * t->sides + side] != PF_REFERENCE_NONE)
		return pf_fail(error, PF_E_DATA, "sample %" PRIu64 " is there twice", sample);
	t->sum[sample * t->sides + side] = (int64_t)llround(ldexp(nats, 32));
	return 0;
}

static double nats_of(int64_t sum)
{
	return sum == PF_REFERENCE_NONE ? NAN : ldexp((double)sum, -32);
}

/* What a file says of a table's numbers: the key, or that they are not this program's */
static void key_text(const struct pf_reference_table *t, char text[32])
{
	snprintf(text, 32, t->origin ? "imported %016" PRIx64 : "%016" PRIx64, t->origin ? t->origin : t->key);
}

static int ends_with(const char *path, const char *end)
{
	const size_t length = strlen(path), tail = strlen(end);

	return length >= tail && strcmp(path + length - tail, end) == 0;
}

/* ---- JSON lines ---- */

static json_t *ranking_json(const struct pf_reference_table *t, uint64_t sample)
{
	json_t *list = json_array();

	for (unsigned side = 0; side < t->sides; side++)
		if (t->sum[sample * t->sides + side] != PF_REFERENCE_NONE)
			json_array_append_new(list, json_real(nats_of(t->sum[sample * t->sides + side])));
	return list;
}

static json_t *sample_json(const struct pf_reference_table *t, uint64_t sample, int held)
{
	const int64_t *sum = &t->sum[sample * t->sides];
	json_t *json = json_pack("{s:I}", "sample", (json_int_t)sample);
	char key[32];

	if (held)
		json_object_set_new(json, "split", json_string(split_names[PF_SPLIT_HELD]));
	for (unsigned side = 0; t->pairs && side < 2; side++)
		json_object_set_new(json, pair_names[side], json_real(nats_of(sum[side])));
	if (!t->pairs)
		json_object_set_new(json, one_name,
				    t->sides == 1 ? json_real(nats_of(sum[0])) : ranking_json(t, sample));
	key_text(t, key);
	json_object_set_new(json, "key", json_string(key));
	return json;
}

static int write_lines(struct pf_replace *file, const struct pf_reference_table *table, struct pf_error *error)
{
	int code = 0;

	for (int split = 0; !code && split < PF_SPLITS; split++)
		for (uint64_t i = 0; !code && i < table[split].samples; i++) {
			json_t *json = sample_json(&table[split], i, split == PF_SPLIT_HELD);
			char *text = json ? json_dumps(json, JSON_COMPACT | JSON_REAL_PRECISION(17)) : NULL;

			code = text ? pf_replace_write(file, text, strlen(text), error)
				    : pf_fail(error, -ENOMEM, "no memory for a line");
			if (!code)
				code = pf_replace_write(file, "\n", 1, error);
			free(text);
			json_decref(json);
		}
	return code;
}

static int write_jsonl(const char *path, const struct pf_reference_table *table, struct pf_error *error)
{
	struct pf_replace *file;
	int code = pf_replace_open(path, &file, error);

	if (code)
		return code;
	code = write_lines(file, table, error);
	if (!code)
		return pf_replace_commit(file, error);
	pf_replace_abandon(file);
	return code;
}

static int check_key(const char *key, const struct pf_reference_table *t, struct pf_error *error)
{
	char want[20];

	snprintf(want, sizeof want, "%016" PRIx64, t->key);
	if (key && strcmp(key, want) == 0)
		return 0;
	return pf_fail(error, PF_E_MISMATCH,
		       "key %.40s, but these weights, data and options have %s: not their log-probs. "
		       "--foreign takes numbers of another program, and every run says so",
		       key ? key : "is missing", want);
}

static int put_json(struct pf_reference_table *t, uint64_t sample, unsigned side, const json_t *value, const char *name,
                    struct pf_error *error)
{
	if (!json_is_number(value))
		return pf_fail(error, PF_E_DATA, "field \"%s\" %s", name, value ? "must be a number" : "is missing");
	return pf_reference_table_put(t, sample, side, json_number_value(value), error);
}

static int put_object(struct pf_reference_table *t, uint64_t sample, const json_t *json, struct pf_error *error)
{
	const json_t *list = json_object_get(json, one_name);
	int code = 0;

	for (unsigned side = 0; t->pairs && !code && side < 2; side++)
		code = put_json(t, sample, side, json_object_get(json, pair_names[side]), pair_names[side], error);
	if (t->pairs)
		return code;
	if (t->sides == 1 || !json_is_array(list))
		return t->sides == 1 ? put_json(t, sample, 0, list, one_name, error)
		                     : pf_fail(error, PF_E_DATA, "field \"%s\" must be a list of numbers", one_name);
	for (unsigned side = 0; !code && side < json_array_size(list); side++)
		code = put_json(t, sample, side, json_array_get(list, side), one_name, error);
	return code;
}

static int find_split(const json_t *json, int *split, struct pf_error *error)
{
	const json_t *name = json_object_get(json, "split");

	for (*split = 0; *split < PF_SPLITS; ++*split)
		if (!name || (json_is_string(name) && strcmp(json_string_value(name), split_names[*split]) == 0))
			return 0;
	return pf_fail(error, PF_E_DATA, "field \"split\" must be \"train\" or \"held\"");
}

static int put_line(const json_t *json, struct pf_reference_table *table, uint64_t *next, int foreign,
                    struct pf_error *error)
{
	const json_t *number = json_object_get(json, "sample");
	int split, code;

	if (!json_is_object(json))
		return pf_fail(error, PF_E_DATA, "a line must be an object");
	code = find_split(json, &split, error);
	if (!code && !foreign)
		code = check_key(json_string_value(json_object_get(json, "key")), &table[split], error);
	if (!code && number && (!json_is_integer(number) || json_integer_value(number) < 0))
		code = pf_fail(error, PF_E_DATA, "field \"sample\" must be a number from 0 on");
	if (code)
		return code;
	return put_object(&table[split], number ? (uint64_t)json_integer_value(number) : next[split]++, json, error);
}

int pf_reference_line(const char *text, size_t length, struct pf_reference_table *table, uint64_t *next, int foreign,
                      struct pf_error *error)
{
	json_error_t where;
	json_t *json = json_loadb(text, length, JSON_REJECT_DUPLICATES, &where);
	int code;

	if (!json)
		return pf_fail(error, PF_E_DATA, "column %d: %s", where.column, where.text);
	code = put_line(json, table, next, foreign, error);
	json_decref(json);
	return code;
}

static int read_jsonl(const char *path, struct pf_reference_table *table, int foreign, struct pf_error *error)
{
	uint64_t next[PF_SPLITS] = { 0 };
	struct pf_reader *reader;
	struct pf_line line;
	char where[512];
	int code = pf_reader_open(path, NULL, NULL, &reader, error);

	if (code)
		return code;
	while ((code = pf_reader_next(reader, &line, error)) == 1) {
		if (strspn(line.text, " \t\r") >= line.length)
			continue;
		code = pf_reference_line(line.text, line.length, table, next, foreign, error);
		if (code) {
			pf_reader_where(reader, &line, where, sizeof where);
			pf_fail_in(error, "%s", where);
			break;
		}
	}
	pf_reader_close(reader);
	return code;
}

/* ---- safetensors ---- */

static void tensor_name(const struct pf_reference_table *t, int split, unsigned side, char name[64])
{
	snprintf(name, 64, "%s%s", split == PF_SPLIT_HELD ? "held." : "", t->pairs ? pair_names[side] : one_name);
}

/* Completions of the widest sample */
static unsigned widest(const struct pf_reference_table *t)
{
	unsigned most = 1;

	for (uint64_t i = 0; i < t->samples * t->sides; i++)
		if (t->sum[i] != PF_REFERENCE_NONE && i % t->sides + 1 > most)
			most = (unsigned)(i % t->sides) + 1;
	return most;
}

/* Tensors of a split; 0: declares them, 1: writes them */
static int put_split(struct pf_safetensors_writer *w, const struct pf_reference_table *t, int split, int write,
                     struct pf_error *error)
{
	const unsigned tensors = t->pairs ? 2 : 1, columns = t->pairs ? 1 : widest(t);
	const uint64_t shape[2] = { t->samples, columns };
	char name[64], key[32];
	int code = 0;

	if (!t->samples)
		return 0;
	key_text(t, key);
	if (!write)
		code = pf_safetensors_annotate(w, split == PF_SPLIT_HELD ? "held.key" : "key", key, error);
	for (unsigned k = 0; !code && k < tensors; k++) {
		tensor_name(t, split, k, name);
		if (!write)
			code = pf_safetensors_declare(w, name, PF_F64, t->sides > 2 ? 2 : 1, shape, error);
		for (uint64_t i = 0; write && !code && i < t->samples * columns; i++) {
			const double nats = nats_of(t->sum[i / columns * t->sides + k + i % columns]);

			code = pf_safetensors_write(w, &nats, sizeof nats, error);
		}
	}
	return code;
}

static int write_tensors(const char *path, const struct pf_reference_table *table, struct pf_error *error)
{
	struct pf_safetensors_writer *w;
	int code = pf_safetensors_create(path, &w, error);

	if (code)
		return code;
	for (int pass = 0; pass < 2; pass++)
		for (int split = 0; !code && split < PF_SPLITS; split++)
			code = put_split(w, &table[split], split, pass, error);
	if (!code)
		return pf_safetensors_commit(w, error);
	pf_safetensors_abandon(w);
	return code;
}

static int check_shape(const struct pf_safetensor *tensor, const struct pf_reference_table *t, struct pf_error *error)
{
	const unsigned rank = t->sides > 2 ? 2 : 1;

	if (tensor->type != PF_F64 && tensor->type != PF_F32)
		return pf_fail(error, PF_E_TYPE, "tensor %s must be F64 or F32", tensor->name);
	if (tensor->rank == rank && tensor->shape[0] == t->samples && (rank == 1 || tensor->shape[1] <= t->sides))
		return 0;
	return pf_fail(error, PF_E_SHAPE,
		       "tensor %s must be [%" PRIu64 "%s]: the data have that many samples in this split; were "
		       "they read with the same options?",
		       tensor->name, t->samples, rank > 1 ? ", completions" : "");
}

static double element(const struct pf_safetensor *tensor, uint64_t i)
{
	double wide;
	float narrow;

	if (tensor->type == PF_F64) {
		memcpy(&wide, (const char *)tensor->data + i * sizeof wide, sizeof wide);
		return wide;
	}
	memcpy(&narrow, (const char *)tensor->data + i * sizeof narrow, sizeof narrow);
	return (double)narrow;
}

static int take_tensor(const struct pf_safetensor *tensor, struct pf_reference_table *t, unsigned side,
                       struct pf_error *error)
{
	const uint64_t columns = t->sides > 2 ? tensor->shape[1] : 1;
	int code = check_shape(tensor, t, error);

	for (uint64_t i = 0; !code && i < tensor->elements; i++) {
		const double nats = element(tensor, i);

		if (t->sides <= 2 || !isnan(nats))
			code = pf_reference_table_put(t, i / columns, side + (unsigned)(i % columns), nats, error);
		if (code)
			pf_fail_in(error, "tensor %s", tensor->name);
	}
	return code;
}

int pf_reference_tensors(const struct pf_safetensors *file, struct pf_reference_table *table, int foreign,
                         struct pf_error *error)
{
	char name[64];
	int code = 0;

	for (int split = 0; !code && split < PF_SPLITS; split++) {
		struct pf_reference_table *t = &table[split];

		if (t->samples && !foreign)
			code =
			    check_key(pf_safetensors_note(file, split == PF_SPLIT_HELD ? "held.key" : "key"), t, error);
		for (unsigned side = 0; t->samples && !code && side < (t->pairs ? 2u : 1u); side++) {
			const struct pf_safetensor *tensor;

			tensor_name(t, split, side, name);
			tensor = pf_safetensors_find(file, name);
			code = tensor ? take_tensor(tensor, t, side, error)
				      : pf_fail(error, PF_E_DATA, "there is no tensor %s", name);
		}
	}
	return code;
}

static int read_tensors(const char *path, struct pf_reference_table *table, int foreign, struct pf_error *error)
{
	struct pf_safetensors *file;
	int code = pf_safetensors_open(path, &file, error);

	if (code)
		return code;
	code = pf_reference_tensors(file, table, foreign, error);
	if (code)
		pf_fail_in(error, "%s", path);
	pf_safetensors_close(file);
	return code;
}

/* ---- both ---- */

int pf_reference_file_write(const char *path, const struct pf_reference_table *table, struct pf_error *error)
{
	if (ends_with(path, ".safetensors"))
		return write_tensors(path, table, error);
	if (ends_with(path, ".jsonl"))
		return write_jsonl(path, table, error);
	return pf_fail(error, PF_E_ARGUMENT, "%s: the name must end in .jsonl or .safetensors, which says the form",
		       path);
}

int pf_reference_file_read(const char *path, struct pf_reference_table *table, int foreign, struct pf_error *error)
{
	return ends_with(path, ".safetensors") ? read_tensors(path, table, foreign, error)
	                                       : read_jsonl(path, table, foreign, error);
}

int pf_reference_of_record(const struct pf_record *record, unsigned which, double *nats)
{
	const json_t *json = record->json, *value;

	if (record->form == PF_RECORD_PAIRS)
		value = json_object_get(json, pair_names[which]);
	else if (record->form == PF_RECORD_RANKINGS)
		value = json_array_get(json_object_get(json, one_name), which);
	else
		value = json_object_get(json, one_name);
	*nats = json_number_value(value);
	return json_is_number(value);
}
