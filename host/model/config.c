#include "config.h"
#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include "replace.h"

/* Whole-number fields; one that is not required is derived when missing */
struct whole {
	const char *key;
	size_t place;
	uint32_t low, high;
	int required;
};
#define WHOLE(key, field, low, high, required) \
	{ key, offsetof(struct pf_model_config, field), low, high, required }
static const struct whole wholes[] = {
	WHOLE("vocab_size", vocab, 2, 1u << 18, 1),
	WHOLE("hidden_size", dim, 1, 1u << 14, 1),
	WHOLE("num_hidden_layers", layers, 1, 512, 1),
	WHOLE("num_attention_heads", heads, 1, 512, 1),
	WHOLE("num_key_value_heads", kv_heads, 1, 512, 0),
	WHOLE("head_dim", head_dim, 2, 512, 0),
	WHOLE("intermediate_size", ffn, 1, 1u << 17, 1),
	WHOLE("max_position_embeddings", max_positions, 1, 1u << 24, 1),
};
enum { WHOLES = sizeof wholes / sizeof *wholes };

static uint32_t *whole_of(struct pf_model_config *config, const struct whole *w)
{
	return (uint32_t *)(void *)((char *)config + w->place);
}

static int check_wholes(const struct pf_model_config *config, const char *where,
                        struct pf_error *error)
{
	for (size_t i = 0; i < WHOLES; i++) {
		const struct whole *w = &wholes[i];
		uint32_t value = *(const uint32_t *)(const void *)((const char *)config + w->place);
		if (value < w->low || value > w->high)
			return pf_fail(error, PF_E_RANGE, "%s: %s is %u; it must be from %u to %u",
			               where, w->key, value, w->low, w->high);
	}
	return 0;
}

static int check_token(int32_t token, uint32_t vocab, const char *key, const char *where,
                       struct pf_error *error)
{
	if (token >= -1 && token < (int64_t)vocab)
		return 0;
	return pf_fail(error, PF_E_RANGE, "%s: %s is %d; the vocabulary has %u tokens", where, key,
	               token, vocab);
}

int pf_config_check(const struct pf_model_config *config, const char *where, struct pf_error *error)
{
	int code = check_wholes(config, where, error);
	if (code != 0)
		return code;
	if (config->heads % config->kv_heads != 0)
		return pf_fail(error, PF_E_RANGE,
		               "%s: num_attention_heads %u is no multiple of num_key_value_heads %u",
		               where, config->heads, config->kv_heads);
	if (config->head_dim % 2 != 0)
		return pf_fail(error, PF_E_RANGE,
		               "%s: head_dim %u is odd; rotary positions need pairs", where,
		               config->head_dim);
	if (!(config->rope_theta >= 1.0 && config->rope_theta <= 1e12))
		return pf_fail(error, PF_E_RANGE, "%s: rope_theta is %g; it must be from 1 to 1e12",
		               where, config->rope_theta);
	if (!(config->norm_eps >= 1e-12 && config->norm_eps <= 0.1))
		return pf_fail(error, PF_E_RANGE,
		               "%s: rms_norm_eps is %g; it must be from 1e-12 to 0.1", where,
		               config->norm_eps);
	code = check_token(config->bos, config->vocab, "bos_token_id", where, error);
	return code != 0 ? code
	                 : check_token(config->eos, config->vocab, "eos_token_id", where, error);
}

static int read_wholes(const json_t *root, const char *where, struct pf_model_config *config,
                       struct pf_error *error)
{
	for (size_t i = 0; i < WHOLES; i++) {
		const struct whole *w = &wholes[i];
		const json_t *value = json_object_get(root, w->key);
		int absent = !value || json_is_null(value);
		if (absent && w->required)
			return pf_fail(error, PF_E_FORMAT, "%s: %s is missing", where, w->key);
		if (absent)
			continue;
		json_int_t number = json_integer_value(value);
		if (!json_is_integer(value) || number < w->low || number > w->high)
			return pf_fail(error, PF_E_RANGE,
			               "%s: %s must be a whole number from %u to %u", where, w->key,
			               w->low, w->high);
		*whole_of(config, w) = (uint32_t)number;
	}
	return 0;
}

static int read_number(const json_t *root, const char *key, const char *where, double *number,
                       struct pf_error *error)
{
	const json_t *value = json_object_get(root, key);
	if (!value || json_is_null(value))
		return 0;
	if (!json_is_number(value))
		return pf_fail(error, PF_E_FORMAT, "%s: %s must be a number", where, key);
	*number = json_number_value(value);
	return 0;
}

/* Token ids may be null or, in some models, a list of alternatives whose first is the usual one */
static int read_token(const json_t *root, const char *key, const char *where, int32_t *token,
                      struct pf_error *error)
{
	const json_t *value = json_object_get(root, key);
	if (json_is_array(value))
		value = json_array_get(value, 0);
	*token = -1;
	if (!value || json_is_null(value))
		return 0;
	json_int_t number = json_integer_value(value);
	if (!json_is_integer(value) || number < 0 || number > INT32_MAX)
		return pf_fail(error, PF_E_FORMAT, "%s: %s must be a token id", where, key);
	*token = (int32_t)number;
	return 0;
}

/* A key that must be absent, null, or this: else the model computes something else */
static int expect(const json_t *root, const char *key, const json_t *wanted, const char *where,
                  struct pf_error *error)
{
	const json_t *value = json_object_get(root, key);
	if (!value || json_is_null(value) || (wanted && json_equal(value, wanted)))
		return 0;
	char *text = json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY);
	int code = pf_fail(error, PF_E_UNSUPPORTED,
	                   "%s: %s is %.200s, which is not built; plain Llama models are", where,
	                   key, text ? text : "unreadable");
	free(text);
	return code;
}

static int read_family(const json_t *root, const char *where, struct pf_error *error)
{
	const char *type = json_string_value(json_object_get(root, "model_type"));
	if (!type || (strcmp(type, "llama") != 0 && strcmp(type, "mistral") != 0))
		return pf_fail(error, PF_E_UNSUPPORTED,
		               "%s: model_type is %s; llama and mistral are read", where,
		               type ? type : "missing");
	json_t *no = json_false(), *silu = json_string("silu");
	int code = expect(root, "attention_bias", no, where, error);
	code = code != 0 ? code : expect(root, "mlp_bias", no, where, error);
	code = code != 0 ? code : expect(root, "hidden_act", silu, where, error);
	code = code != 0 ? code : expect(root, "sliding_window", NULL, where, error);
	json_decref(silu);
	return code;
}

/* Older files have rope_theta beside a null rope_scaling, newer ones both in rope_parameters */
static int read_rope(const json_t *root, const char *where, struct pf_model_config *config,
                     struct pf_error *error)
{
	const json_t *rope = json_object_get(root, "rope_parameters");
	json_t *plain = json_string("default");
	config->rope_theta = 10000.0;
	int code = read_number(root, "rope_theta", where, &config->rope_theta, error);
	code = code != 0 ? code : expect(root, "rope_scaling", NULL, where, error);
	code = code != 0 ? code : expect(rope, "rope_type", plain, where, error);
	code = code != 0 ? code
	                 : read_number(rope, "rope_theta", where, &config->rope_theta, error);
	json_decref(plain);
	return code;
}

static int read_root(const json_t *root, const char *where, struct pf_model_config *config,
                     struct pf_error *error)
{
	if (!json_is_object(root))
		return pf_fail(error, PF_E_FORMAT, "%s: not a JSON object", where);
	int code = read_family(root, where, error);
	code = code != 0 ? code : read_wholes(root, where, config, error);
	if (code != 0)
		return code;
	if (config->kv_heads == 0)
		config->kv_heads = config->heads;
	if (config->head_dim == 0 && config->dim % config->heads != 0)
		return pf_fail(error, PF_E_RANGE,
		               "%s: head_dim is missing, and hidden_size %u is no multiple of %u heads",
		               where, config->dim, config->heads);
	if (config->head_dim == 0)
		config->head_dim = config->dim / config->heads;
	config->tied = json_is_true(json_object_get(root, "tie_word_embeddings"));
	config->norm_eps = 1e-6;
	code = read_number(root, "rms_norm_eps", where, &config->norm_eps, error);
	code = code != 0 ? code : read_rope(root, where, config, error);
	code = code != 0 ? code : read_token(root, "bos_token_id", where, &config->bos, error);
	code = code != 0 ? code : read_token(root, "eos_token_id", where, &config->eos, error);
	return code != 0 ? code : pf_config_check(config, where, error);
}

static int parsed(json_t *root, const json_error_t *fault, const char *where,
                  struct pf_model_config *config, struct pf_error *error)
{
	if (!root)
		return pf_fail(error, PF_E_FORMAT, "%s:%d: %s", where, fault->line, fault->text);
	struct pf_model_config read = { 0 };
	int code = read_root(root, where, &read, error);
	json_decref(root);
	if (code == 0)
		*config = read;
	return code;
}

int pf_config_parse(const char *text, size_t bytes, const char *where,
                    struct pf_model_config *config, struct pf_error *error)
{
	json_error_t fault;
	json_t *root = json_loadb(text, bytes, JSON_REJECT_DUPLICATES, &fault);
	return parsed(root, &fault, where, config, error);
}

int pf_config_read(const char *path, struct pf_model_config *config, struct pf_error *error)
{
	json_error_t fault;
	errno = 0;
	FILE *file = fopen(path, "rb");
	if (!file)
		return pf_fail(error, -errno, "%s: %s; a model directory has a config.json", path,
		               strerror(errno));
	json_t *root = json_loadf(file, JSON_REJECT_DUPLICATES, &fault);
	fclose(file);
	return parsed(root, &fault, path, config, error);
}

static json_t *token_json(int32_t token)
{
	return token < 0 ? json_null() : json_integer(token);
}

static json_t *config_json(const struct pf_model_config *c)
{
	return json_pack(
	        "{s:[s], s:s, s:s, s:s, s:b, s:b, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:f, s:f, "
	        "s:n, s:b, s:o, s:o}",
	        "architectures", "LlamaForCausalLM", "model_type", "llama", "hidden_act", "silu",
	        "torch_dtype", "float32", "attention_bias", 0, "mlp_bias", 0, "vocab_size",
	        (int)c->vocab, "hidden_size", (int)c->dim, "num_hidden_layers", (int)c->layers,
	        "num_attention_heads", (int)c->heads, "num_key_value_heads", (int)c->kv_heads,
	        "head_dim", (int)c->head_dim, "intermediate_size", (int)c->ffn,
	        "max_position_embeddings", (int)c->max_positions, "rope_theta", c->rope_theta,
	        "rms_norm_eps", c->norm_eps, "rope_scaling", "tie_word_embeddings", c->tied,
	        "bos_token_id", token_json(c->bos), "eos_token_id", token_json(c->eos));
}

static int write_text(const char *path, char *text, struct pf_error *error)
{
	struct pf_replace *file;
	size_t length = strlen(text);
	text[length++] = '\n'; /* in the place of the terminator */
	int code = pf_replace_open(path, &file, error);
	if (code != 0)
		return code;
	code = pf_replace_write(file, text, length, error);
	if (code == 0)
		return pf_replace_commit(file, error);
	pf_replace_abandon(file);
	return code;
}

int pf_config_write(const struct pf_model_config *config, const char *path, struct pf_error *error)
{
	int code = pf_config_check(config, path, error);
	if (code != 0)
		return code;
	json_t *root = config_json(config);
	char *text = root ? json_dumps(root, JSON_INDENT(2) | JSON_REAL_PRECISION(17)) : NULL;
	code = text ? write_text(path, text, error)
	            : pf_fail(error, -ENOMEM, "%s: out of memory", path);
	free(text);
	json_decref(root);
	return code;
}

int pf_config_equal(const struct pf_model_config *a, const struct pf_model_config *b)
{
	return a->vocab == b->vocab && a->dim == b->dim && a->layers == b->layers && a->heads == b->heads &&
	       a->kv_heads == b->kv_heads && a->head_dim == b->head_dim && a->ffn == b->ffn && a->tied == b->tied &&
	       a->rope_theta == b->rope_theta && a->norm_eps == b->norm_eps;
}

int pf_config_describe(const struct pf_model_config *c, char *out, size_t size)
{
	return snprintf(out, size, "vocabulary %u, width %u, %u layers, %u heads (%u key/value) of %u, ffn %u, rope %g, eps %g",
	                c->vocab, c->dim, c->layers, c->heads, c->kv_heads, c->head_dim, c->ffn, c->rope_theta, c->norm_eps);
}
