#include "config.h"
#include <errno.h>
#include <glob.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "config_family.h"
#include "text.h"

static uint32_t *whole_of(struct pf_model_config *config, const struct pf_config_whole *w)
{
	return (uint32_t *)(void *)((char *)config + w->place);
}

static const char *key_of(const struct pf_config_whole *w, enum pf_family family)
{
	return family == PF_FAMILY_GPT2 && w->gpt2 ? w->gpt2 : w->key;
}

static int check_wholes(const struct pf_model_config *config, const char *where,
                        struct pf_error *error)
{
	for (size_t i = 0; i < PF_CONFIG_WHOLES; i++) {
		const struct pf_config_whole *w = &pf_config_wholes[i];
		uint32_t value = *(const uint32_t *)(const void *)((const char *)config + w->place);
		if (value < w->low || value > w->high)
			return pf_fail(error, PF_E_RANGE, "%s: %s is %u; it must be from %u to %u",
			               where, key_of(w, config->family), value, w->low, w->high);
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

static int check_number(double value, double low, double high, const char *key, const char *where,
                        struct pf_error *error)
{
	if (value >= low && value <= high)
		return 0;
	return pf_fail(error, PF_E_RANGE, "%s: %s is %g; it must be from %g to %g", where, key, value, low, high);
}

static int check_rope(const struct pf_model_config *c, const char *where, struct pf_error *error)
{
	if (c->positions == PF_POSITION_LEARNED)
		return 0;
	if (c->head_dim % 2 != 0)
		return pf_fail(error, PF_E_RANGE, "%s: head_dim %u is odd; rotary positions need pairs", where,
		               c->head_dim);
	int code = check_number(c->rope_theta, 1.0, 1e12, "rope_theta", where, error);
	if (code == 0 && c->positions != PF_POSITION_ROPE)
		code = check_number(c->rope_factor, 1.0, 1e6, "rope_scaling: factor", where, error);
	if (code != 0 || c->positions != PF_POSITION_ROPE_LLAMA3)
		return code;
	code = check_number(c->rope_low, 1e-3, 1e6, "rope_scaling: low_freq_factor", where, error);
	code = code != 0 ? code : check_number(c->rope_high, 1e-3, 1e6, "rope_scaling: high_freq_factor", where, error);
	code = code != 0 ? code : check_number(c->rope_original, 1, 1u << 24,
	                                       "rope_scaling: original_max_position_embeddings", where, error);
	if (code == 0 && c->rope_high <= c->rope_low)
		code = pf_fail(error, PF_E_RANGE,
		               "%s: rope_scaling: high_freq_factor %g must be above low_freq_factor %g", where,
		               c->rope_high, c->rope_low);
	return code;
}

static int check_optional(double value, double low, double high, const char *key, const char *where,
                          struct pf_error *error)
{
	return value == 0.0 ? 0 : check_number(value, low, high, key, where, error);
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
	code = check_rope(config, where, error);
	code = code != 0 ? code : check_number(config->norm_eps, 1e-12, 0.1,
	                                       config->norm == PF_NORM_LAYER ? "layer_norm_epsilon" : "rms_norm_eps",
	                                       where, error);
	code = code != 0 ? code
	                 : check_optional(config->attention_scalar, 1e-3, 1e6, "query_pre_attn_scalar", where, error);
	code = code != 0 ? code
	                 : check_optional(config->attention_cap, 1e-3, 1e6, "attn_logit_softcapping", where, error);
	code = code != 0 ? code : check_optional(config->logit_cap, 1e-3, 1e4, "final_logit_softcapping", where, error);
	code = code != 0 ? code : check_token(config->bos, config->vocab, "bos_token_id", where, error);
	return code != 0 ? code
	                 : check_token(config->eos, config->vocab, "eos_token_id", where, error);
}

static int read_wholes(const json_t *root, const char *where, struct pf_model_config *config,
                       struct pf_error *error)
{
	for (size_t i = 0; i < PF_CONFIG_WHOLES; i++) {
		const struct pf_config_whole *w = &pf_config_wholes[i];
		const char *key = key_of(w, config->family);
		const json_t *value = json_object_get(root, key);
		int absent = !value || json_is_null(value);
		if (absent && w->required && *whole_of(config, w) == 0)
			return pf_fail(error, PF_E_FORMAT, "%s: %s is missing", where, key);
		if (absent)
			continue;
		json_int_t number = json_integer_value(value);
		if (!json_is_integer(value) || number < w->low || number > w->high)
			return pf_fail(error, PF_E_RANGE,
			               "%s: %s must be a whole number from %u to %u", where, key,
			               w->low, w->high);
		*whole_of(config, w) = (uint32_t)number;
	}
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

/* What follows from other fields when the file does not say it */
static int derive(struct pf_model_config *c, const char *where, struct pf_error *error)
{
	if (c->kv_heads == 0)
		c->kv_heads = c->heads;
	if (c->head_dim == 0 && c->dim % c->heads != 0)
		return pf_fail(error, PF_E_RANGE,
		               "%s: head_dim is missing, and hidden_size %u is no multiple of %u heads",
		               where, c->dim, c->heads);
	if (c->head_dim == 0)
		c->head_dim = c->dim / c->heads;
	if (c->ffn == 0 && c->family != PF_FAMILY_GPT2)
		return pf_fail(error, PF_E_FORMAT, "%s: intermediate_size is missing", where);
	if (c->ffn == 0)
		c->ffn = 4 * c->dim;
	return 0;
}

static int read_root(const json_t *root, const char *where, struct pf_model_config *config,
                     struct pf_error *error)
{
	if (!json_is_object(root))
		return pf_fail(error, PF_E_FORMAT, "%s: not a JSON object", where);
	int code = pf_config_family(root, where, config, error);
	code = code != 0 ? code : read_wholes(root, where, config, error);
	code = code != 0 ? code : derive(config, where, error);
	code = code != 0 ? code : pf_config_features(root, where, config, error);
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

/* What people name instead of a model: nothing, an adapter, a run that was interrupted */
static int fail_absent(const char *path, struct pf_error *error)
{
	const char *slash = strrchr(path, '/');
	const int length = slash ? (int)(slash - path) : 0;
	const char *folder = slash ? path : ".";
	char near[4096];
	glob_t found = { 0 };
	snprintf(near, sizeof near, "%.*s", length ? length : 1, folder);
	if (access(near, F_OK) != 0)
		return pf_fail(error, -ENOENT, "%s: no such folder; a model directory has a config.json", near);
	snprintf(near, sizeof near, "%.*sadapter_config.json", slash ? length + 1 : 0, path);
	if (access(near, F_OK) == 0)
		return pf_fail(error, -ENOENT,
		               "%.*s: an adapter (LoRA), not a model: name the model that it was trained on, and "
		               "--adapter %.*s; `prefpga model merge` makes one model of both",
		               length, path, length, path);
	snprintf(near, sizeof near, "%.*scheckpoint-*/config.json", slash ? length + 1 : 0, path);
	const char *last = glob(near, 0, NULL, &found) == 0 ? found.gl_pathv[found.gl_pathc - 1] : NULL;
	const int code =
		last ? pf_fail(error, -ENOENT,
	                       "%s: %s; the run in this folder is not finished: --resume goes on with it, and its last "
	                       "checkpoint is a model too: %.*s",
	                       path, strerror(ENOENT), (int)(strrchr(last, '/') - last), last)
	             : pf_fail(error, -ENOENT, "%s: %s; a model directory has a config.json", path, strerror(ENOENT));
	globfree(&found);
	return code;
}

int pf_config_load(const char *path, struct pf_model_config *config, char **text, struct pf_error *error)
{
	int code = pf_text_read(path, text, error);
	if (code == -ENOENT)
		return fail_absent(path, error);
	code = code != 0 ? code : pf_config_parse(*text, strlen(*text), path, config, error);
	if (code != 0) {
		free(*text);
		*text = NULL;
	}
	return code;
}

int pf_config_read(const char *path, struct pf_model_config *config, struct pf_error *error)
{
	char *text;
	int code = pf_config_load(path, config, &text, error);
	free(text);
	return code;
}

int pf_config_equal(const struct pf_model_config *a, const struct pf_model_config *b)
{
	return a->vocab == b->vocab && a->dim == b->dim && a->layers == b->layers && a->heads == b->heads &&
	       a->kv_heads == b->kv_heads && a->head_dim == b->head_dim && a->ffn == b->ffn && a->tied == b->tied &&
	       a->rope_theta == b->rope_theta && a->norm_eps == b->norm_eps && a->family == b->family &&
	       a->norm == b->norm && a->mlp == b->mlp && a->positions == b->positions &&
	       a->rope_factor == b->rope_factor && a->rope_low == b->rope_low && a->rope_high == b->rope_high &&
	       a->rope_original == b->rope_original && a->biases == b->biases && a->qk_norm == b->qk_norm &&
	       a->post_norms == b->post_norms && a->scaled_embedding == b->scaled_embedding &&
	       a->attention_scalar == b->attention_scalar && a->attention_cap == b->attention_cap &&
	       a->logit_cap == b->logit_cap && a->window == b->window && a->window_from == b->window_from &&
	       a->window_every == b->window_every;
}

static int is_plain(const struct pf_model_config *c)
{
	struct pf_model_config plain = { .vocab = c->vocab, .dim = c->dim, .layers = c->layers, .heads = c->heads,
		.kv_heads = c->kv_heads, .head_dim = c->head_dim, .ffn = c->ffn, .tied = c->tied,
		.rope_theta = c->rope_theta, .norm_eps = c->norm_eps };
	return pf_config_equal(c, &plain);
}

int pf_config_describe(const struct pf_model_config *c, char *out, size_t size)
{
	int n = snprintf(
		out, size, "vocabulary %u, width %u, %u layers, %u heads (%u key/value) of %u, ffn %u, rope %g, eps %g",
		c->vocab, c->dim, c->layers, c->heads, c->kv_heads, c->head_dim, c->ffn, c->rope_theta, c->norm_eps);
	if (is_plain(c))
		return n;
	const size_t at = (size_t)n < size ? (size_t)n : size;
	return n + snprintf(out + at, size - at,
	                    ", %s, norm %d, MLP %d, biases %u%s%s%s, positions %d (%.17g %.17g %.17g %u), "
	                    "window %u (from layer %u, every %u), scalar %.17g, caps %.17g %.17g",
	                    pf_config_family_name(c->family), (int)c->norm, (int)c->mlp, c->biases,
	                    c->qk_norm ? ", norms of heads" : "", c->post_norms ? ", norms after" : "",
	                    c->scaled_embedding ? ", scaled embedding" : "", (int)c->positions, c->rope_factor,
	                    c->rope_low, c->rope_high, c->rope_original, c->window, c->window_from, c->window_every,
	                    c->attention_scalar, c->attention_cap, c->logit_cap);
}
