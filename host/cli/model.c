/* Verb model: what is in a checkpoint, what training it takes, and adapters added up. */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include "cli.h"
#include "host/model/config.h"
#include "host/model/config_family.h"
#include "host/model/decoder.h"
#include "host/model/model.h"
#include "host/model/shards.h"

enum { CHUNK_TOKENS = 8192 };          /* of the trainer, if no group has more */

struct inspection {
	struct pf_model_config config;
	struct pf_layout layout;
	uint8_t *seen;                 /* [layout.tensors] */
	json_t *tensors, *unknown;     /* of the files */
	uint64_t bytes;
	char type[16];                 /* of all tensors, or "mixed" */
};

static void take_tensor(void *context, const char *file, const struct pf_safetensor *t)
{
	struct inspection *in = context;
	const char *slash = strrchr(file, '/'), *type = pf_safetensors_type_name(t->type);
	const struct pf_tensor *known = pf_layout_find(&in->layout, t->name);
	json_t *shape = json_array();
	for (unsigned i = 0; i < t->rank; i++)
		json_array_append_new(shape, json_integer((json_int_t)t->shape[i]));
	json_array_append_new(in->tensors, json_pack("{s:s, s:s, s:o, s:s}", "name", t->name, "dtype", type, "shape",
	                                             shape, "file", slash ? slash + 1 : file));
	in->bytes += t->bytes;
	if (!*in->type)
		snprintf(in->type, sizeof in->type, "%s", type);
	else if (strcmp(in->type, type) != 0)
		strcpy(in->type, "mixed");
	if (known)
		in->seen[known - in->layout.tensor] = 1;
	else
		json_array_append_new(in->unknown, json_string(t->name));
}

static int inspect(const char *directory, struct inspection *in, struct pf_error *error)
{
	char path[4096];
	snprintf(path, sizeof path, "%s/config.json", directory);
	int code = pf_config_read(path, &in->config, error);
	if (!code)
		code = pf_layout_init(&in->layout, &in->config, error);
	if (code)
		return code;
	in->seen = calloc(in->layout.tensors, 1);
	in->tensors = json_array();
	in->unknown = json_array();
	if (!in->seen || !in->tensors || !in->unknown)
		return pf_fail(error, PF_E_MEMORY, "%s: no memory for %u tensors", directory, in->layout.tensors);
	return pf_shards_visit(directory, take_tensor, in, error);
}

static void inspection_free(struct inspection *in)
{
	pf_layout_fini(&in->layout);
	free(in->seen);
	json_decref(in->tensors);
	json_decref(in->unknown);
}

static json_t *missing(const struct inspection *in)
{
	json_t *list = json_array();
	for (unsigned i = 0; i < in->layout.tensors; i++)
		if (!in->seen[i])
			json_array_append_new(list, json_string(in->layout.tensor[i].name));
	return list;
}

/* ---- what training takes ---- */

/* Sequences of a batch of pairs, as long as they may be; computed in chunks of whole pairs */
static uint32_t chunk_tokens(const struct pf_options *o, uint32_t length)
{
	const uint64_t pair = 2ull * length, batch = pair * (uint64_t)o->batch,
	               chunk = pair > CHUNK_TOKENS ? pair : CHUNK_TOKENS;
	return (uint32_t)(batch < chunk ? batch : chunk);
}

static int memory(const struct inspection *in, const struct pf_options *o, json_t **json, struct pf_error *error)
{
	const struct pf_model_config *c = &in->config;
	const uint32_t length = (uint64_t)o->max_length < c->max_positions ? (uint32_t)o->max_length : c->max_positions;
	const uint32_t tokens = chunk_tokens(o, length);
	const struct pf_decoder_options body = { tokens, length, (unsigned)o->threads, 1 };
	const uint64_t flat = in->layout.size * sizeof(float), hidden = 3ull * tokens * c->dim * sizeof(float);
	const uint64_t logits = (uint64_t)tokens * c->vocab * sizeof(float),
		       head = (uint64_t)c->vocab * c->dim * sizeof(float);
	uint64_t activations;
	int code = pf_decoder_plan(c, &in->layout, &body, &activations, error);
	if (code)
		return code;
	*json = json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "batch", (json_int_t)o->batch,
	                  "max_length", (json_int_t)length, "chunk_tokens", (json_int_t)tokens, "weights",
	                  (json_int_t)flat, "reference", (json_int_t)flat, "gradient", (json_int_t)flat, "adamw",
	                  (json_int_t)(2 * flat), "activations", (json_int_t)(activations + hidden), "total",
	                  (json_int_t)(5 * flat + activations + hidden), "device_logits_at_once", (json_int_t)logits);
	json_object_set_new(*json, "device_head_weight", json_integer((json_int_t)head));
	return 0;
}

/* Tokens that token `place` sees in a layer, on average over a sequence */
static double mean_seen(const struct pf_model_config *c, unsigned layer, double length)
{
	const unsigned every = c->window_every ? c->window_every : 1;
	const double w = c->window;
	if (!c->window || layer < c->window_from || (layer - c->window_from) % every || w >= length)
		return (length + 1) / 2;
	return (w * (w + 1) / 2 + (length - w) * w) / length;
}

/* Multiplications and additions of matrix products, forward, per token, every token scored */
static json_t *flops(const struct inspection *in, double length)
{
	const struct pf_model_config *c = &in->config;
	const double head = 2.0 * c->vocab * c->dim, q = (double)c->heads * c->head_dim;
	double body = 0;
	for (unsigned i = 0; i < in->layout.tensors; i++) {
		const struct pf_tensor *t = &in->layout.tensor[i];
		if (t->role == PF_TENSOR_MATRIX || t->role == PF_TENSOR_RESIDUAL)
			body += 2.0 * (double)pf_tensor_elements(t);
	}
	for (unsigned i = 0; i < c->layers; i++)
		body += 4 * q * mean_seen(c, i, length);
	return json_pack("{s:f, s:f, s:f}", "body_per_token", body, "head_per_token", head, "head_share",
	                 head / (head + body));
}

/* ---- results ---- */

static int report(const struct inspection *in, const char *directory, const struct pf_options *o, json_t **json,
                  struct pf_error *error)
{
	json_t *plan;
	char shape[512];
	int code = memory(in, o, &plan, error);
	if (code)
		return code;
	pf_config_describe(&in->config, shape, sizeof shape);
	const double length = (double)json_integer_value(json_object_get(plan, "max_length"));
	*json = json_pack("{s:s, s:s, s:s, s:s, s:I, s:I, s:s, s:b, s:o, s:o, s:o, s:O, s:O}", "directory", directory,
	                  "family", pf_config_family_name(in->config.family), "architecture",
	                  pf_config_architecture(in->config.family), "shape", shape, "parameters",
	                  (json_int_t)in->layout.parameters, "bytes", (json_int_t)in->bytes, "dtype", in->type, "tied",
	                  in->config.tied, "memory", plan, "flops", flops(in, length), "missing", missing(in),
	                  "unknown", in->unknown, "tensors", in->tensors);
	return 0;
}

static void print_names(const json_t *names, const char *title)
{
	size_t i;
	json_t *name;
	json_array_foreach((json_t *)names, i, name) printf("%s: %s\n", title, json_string_value(name));
}

static void print_bytes(const json_t *plan, const char *key, const char *what)
{
	printf("  %-12s %10.1f MiB  %s\n", key, (double)json_integer_value(json_object_get(plan, key)) / (1 << 20),
	       what);
}

static void print_tensors(const json_t *tensors)
{
	size_t i;
	json_t *t;
	json_array_foreach((json_t *)tensors, i, t) {
		char *shape = json_dumps(json_object_get(t, "shape"), JSON_COMPACT);
		printf("  %-56s %-5s %s\n", json_string_value(json_object_get(t, "name")),
		       json_string_value(json_object_get(t, "dtype")), shape ? shape : "");
		free(shape);
	}
}

static void print_text(const json_t *json)
{
	const json_t *plan = json_object_get(json, "memory"), *work = json_object_get(json, "flops");
	printf("%s (%s): %s\n", json_string_value(json_object_get(json, "family")),
	       json_string_value(json_object_get(json, "architecture")),
	       json_string_value(json_object_get(json, "shape")));
	printf("parameters: %lld, head %s; files: %lld bytes of %s\ntensors:\n",
	       (long long)json_integer_value(json_object_get(json, "parameters")),
	       json_is_true(json_object_get(json, "tied")) ? "tied to the embedding" : "of its own",
	       (long long)json_integer_value(json_object_get(json, "bytes")),
	       json_string_value(json_object_get(json, "dtype")));
	print_tensors(json_object_get(json, "tensors"));
	print_names(json_object_get(json, "missing"), "missing");
	print_names(json_object_get(json, "unknown"), "not part of the model");
	printf("memory to train with --batch %lld, sequences of %lld, %lld tokens at once:\n",
	       (long long)json_integer_value(json_object_get(plan, "batch")),
	       (long long)json_integer_value(json_object_get(plan, "max_length")),
	       (long long)json_integer_value(json_object_get(plan, "chunk_tokens")));
	print_bytes(plan, "weights", "float32");
	print_bytes(plan, "reference", "if the loss compares with one");
	print_bytes(plan, "gradient", "");
	print_bytes(plan, "adamw", "two moments");
	print_bytes(plan, "activations", "and the way back");
	print_bytes(plan, "total", "of the host");
	printf("device: %.1f MiB of logits if all were there at once (blocks are enough), %.1f MiB of the head's "
	       "weight\n",
	       (double)json_integer_value(json_object_get(plan, "device_logits_at_once")) / (1 << 20),
	       (double)json_integer_value(json_object_get(plan, "device_head_weight")) / (1 << 20));
	printf("head: %.1f %% of the forward's operations when every token is scored (%.4g of %.4g a token)\n",
	       100 * json_real_value(json_object_get(work, "head_share")),
	       json_real_value(json_object_get(work, "head_per_token")),
	       json_real_value(json_object_get(work, "head_per_token")) +
	               json_real_value(json_object_get(work, "body_per_token")));
}

static int verb_inspect(const struct pf_options *o, const char *directory)
{
	struct inspection in = { .bytes = 0 };
	struct pf_error error = { 0 };
	json_t *json = NULL;
	int code = inspect(directory, &in, &error);
	if (!code)
		code = report(&in, directory, o, &json, &error);
	if (!code && strcmp(o->format, "json") == 0)
		json_dumpf(json, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(9)), putchar('\n');
	else if (!code)
		print_text(json);
	json_decref(json);
	inspection_free(&in);
	return code ? pf_cli_fail(o, &error) : PF_EXIT_OK;
}

/* auto: as the model was stored */
static enum pf_dtype save_type(const struct pf_options *o, const struct pf_model *model)
{
	const enum pf_dtype stored = pf_model_stored(model);
	if (strcmp(o->save_dtype, "auto") == 0)
		return stored == PF_F16 || stored == PF_BF16 ? stored : PF_F32;
	return strcmp(o->save_dtype, "bf16") == 0 ? PF_BF16 : strcmp(o->save_dtype, "f16") == 0 ? PF_F16 : PF_F32;
}

static int merge(const struct pf_options *o, const char *directory, struct pf_error *error)
{
	struct pf_model *model = NULL;
	int code = pf_model_load(directory, &model, error);
	if (!code)
		code = pf_model_adapt_from(model, o->adapter, error);
	if (!code)
		code = pf_model_merge(model, (unsigned)o->threads, error);
	if (!code) {
		const struct pf_model_save_options options = { save_type(o, model), o->shard_size };
		code = pf_model_save_as(model, &options, o->out, error);
	}
	pf_model_close(model);
	return code;
}

static int verb_merge(const struct pf_options *o, const char *directory)
{
	struct pf_error error = { 0 };
	if (!o->adapter || !o->out)
		return pf_cli_usage(o,
		                    "merge needs --adapter, the adapter's folder, and --out, the folder of the result");
	return merge(o, directory, &error) ? pf_cli_fail(o, &error) : PF_EXIT_OK;
}

int pf_verb_model(const struct pf_options *o)
{
	if (strcmp(o->argument[0], "inspect") == 0)
		return verb_inspect(o, o->argument[1]);
	if (strcmp(o->argument[0], "merge") == 0)
		return verb_merge(o, o->argument[1]);
	return pf_cli_usage(o, "%s: inspect and merge is what there is", o->argument[0]);
}
