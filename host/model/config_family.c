#include "config_family.h"
#include <stdlib.h>
#include <string.h>

#define WHOLE(key, gpt2, field, low, high, required) \
	{ key, gpt2, offsetof(struct pf_model_config, field), low, high, required }
const struct pf_config_whole pf_config_wholes[PF_CONFIG_WHOLES] = {
	WHOLE("vocab_size", NULL, vocab, 2, 1u << 18, 1),
	WHOLE("hidden_size", "n_embd", dim, 1, 1u << 14, 1),
	WHOLE("num_hidden_layers", "n_layer", layers, 1, 512, 1),
	WHOLE("num_attention_heads", "n_head", heads, 1, 512, 1),
	WHOLE("num_key_value_heads", NULL, kv_heads, 1, 512, 0),
	WHOLE("head_dim", NULL, head_dim, 1, 512, 0),
	WHOLE("intermediate_size", "n_inner", ffn, 1, 1u << 17, 0),
	WHOLE("max_position_embeddings", "n_positions", max_positions, 1, 1u << 24, 1),
};

struct family {
	const char *type, *architecture;
	const char *activation, *activation_key; /* the only one of its MLP; "silu" in "hidden_act" */
	struct pf_model_config start;            /* for missing keys, and what the family always has */
};

/* Sources: configuration_<family>.py and modeling_<family>.py of Hugging Face's transformers, by their documented
 * defaults; Gemma-2: "Gemma 2: Improving Open Language Models at a Practical Size", 2024, section 2 */
static const struct family families[] = {
	[PF_FAMILY_LLAMA] = { "llama", "LlamaForCausalLM", "silu", "hidden_act",
		{ .norm_eps = 1e-6, .rope_theta = 10000 } },
	[PF_FAMILY_MISTRAL] = { "mistral", "MistralForCausalLM", "silu", "hidden_act",
		{ .norm_eps = 1e-6, .rope_theta = 10000, .window = 4096, .window_every = 1 } },
	[PF_FAMILY_QWEN2] = { "qwen2", "Qwen2ForCausalLM", "silu", "hidden_act",
		{ .norm_eps = 1e-6, .rope_theta = 10000, .biases = PF_BIAS_QKV, .window = 4096, .window_from = 28,
		  .window_every = 1 } },
	[PF_FAMILY_QWEN3] = { "qwen3", "Qwen3ForCausalLM", "silu", "hidden_act",
		{ .norm_eps = 1e-6, .rope_theta = 10000, .head_dim = 128, .qk_norm = 1, .window = 4096, .window_from = 28,
		  .window_every = 1 } },
	[PF_FAMILY_GEMMA2] = { "gemma2", "Gemma2ForCausalLM", "gelu_pytorch_tanh", "hidden_activation",
		{ .norm_eps = 1e-6, .rope_theta = 10000, .head_dim = 256, .norm = PF_NORM_RMS_PLUS,
		  .mlp = PF_MLP_GELU_GATED, .post_norms = 1, .scaled_embedding = 1, .attention_scalar = 256,
		  .attention_cap = 50, .logit_cap = 30, .window = 4096, .window_every = 2, .tied = 1 } },
	[PF_FAMILY_GPT2] = { "gpt2", "GPT2LMHeadModel", "gelu_new", "activation_function",
		{ .norm_eps = 1e-5, .rope_theta = 10000, .norm = PF_NORM_LAYER, .mlp = PF_MLP_GELU, .positions = PF_POSITION_LEARNED,
		  .biases = PF_BIAS_QKV | PF_BIAS_OUT | PF_BIAS_MLP, .tied = 1 } },
};
enum { FAMILIES = sizeof families / sizeof *families };

const char *pf_config_family_name(enum pf_family family)
{
	return families[family].type;
}

const char *pf_config_architecture(enum pf_family family)
{
	return families[family].architecture;
}

int pf_config_family(const json_t *root, const char *where, struct pf_model_config *config, struct pf_error *error)
{
	const char *type = json_string_value(json_object_get(root, "model_type"));
	for (int i = 0; type && i < FAMILIES; i++)
		if (strcmp(type, families[i].type) == 0) {
			*config = families[i].start;
			config->family = (enum pf_family)i;
			return 0;
		}
	return pf_fail(error, PF_E_UNSUPPORTED,
	               "%s: model_type is %.100s; llama, mistral, qwen2, qwen3, gemma2 and gpt2 are read", where,
	               type ? type : "missing");
}

/* ---- single keys: absent or null keeps what is there ---- */

static const json_t *given(const json_t *root, const char *key)
{
	const json_t *value = json_object_get(root, key);
	return json_is_null(value) ? NULL : value;
}

static int read_number(const json_t *root, const char *key, const char *where, double *number,
                       struct pf_error *error)
{
	const json_t *value = given(root, key);
	if (!value)
		return 0;
	if (!json_is_number(value))
		return pf_fail(error, PF_E_FORMAT, "%s: %s must be a number", where, key);
	*number = json_number_value(value);
	return 0;
}

static int read_flag(const json_t *root, const char *key, const char *where, int *flag, struct pf_error *error)
{
	const json_t *value = given(root, key);
	if (!value)
		return 0;
	if (!json_is_boolean(value))
		return pf_fail(error, PF_E_FORMAT, "%s: %s must be true or false", where, key);
	*flag = json_is_true(value);
	return 0;
}

/* A cap may be null: none */
static int read_cap(const json_t *root, const char *key, const char *where, double *cap, struct pf_error *error)
{
	if (json_is_null(json_object_get(root, key)))
		*cap = 0;
	return read_number(root, key, where, cap, error);
}

static int read_count(const json_t *root, const char *key, const char *where, uint32_t *count, struct pf_error *error)
{
	const json_t *value = given(root, key);
	json_int_t number = json_integer_value(value);
	if (!value)
		return 0;
	if (!json_is_integer(value) || number < 0 || number > 1 << 24)
		return pf_fail(error, PF_E_RANGE, "%s: %s must be a whole number from 0 to %d", where, key, 1 << 24);
	*count = (uint32_t)number;
	return 0;
}

/* A key that must be absent, null, or this: else the model computes something else */
static int expect(const json_t *root, const char *key, json_t *wanted, const char *where, struct pf_error *error)
{
	const json_t *value = given(root, key);
	char *text = !value || (wanted && json_equal(value, wanted))
	                     ? NULL
	                     : json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY);
	json_decref(wanted);
	if (!text)
		return 0;
	int code = pf_fail(error, PF_E_UNSUPPORTED, "%s: %s is %.200s, which is not built for this model_type", where,
	                   key, text);
	free(text);
	return code;
}

/* ---- groups of keys ---- */

static int read_llama3(const json_t *rope, const char *where, struct pf_model_config *c, struct pf_error *error)
{
	int code = read_number(rope, "low_freq_factor", where, &c->rope_low, error);
	code = code != 0 ? code : read_number(rope, "high_freq_factor", where, &c->rope_high, error);
	return code != 0 ? code
	                 : read_count(rope, "original_max_position_embeddings", where, &c->rope_original, error);
}

/* rope_scaling, or rope_parameters of newer files, which holds rope_theta too */
static int read_scaling(const json_t *root, const char *key, const char *where, struct pf_model_config *c,
                        struct pf_error *error)
{
	const json_t *rope = given(root, key);
	const char *type = json_string_value(json_object_get(rope, "rope_type"));
	if (!rope)
		return 0;
	if (!type)
		type = json_string_value(json_object_get(rope, "type"));
	int code = read_number(rope, "rope_theta", where, &c->rope_theta, error);
	if (code != 0 || (type && strcmp(type, "default") == 0))
		return code;
	if (!type || (strcmp(type, "linear") != 0 && strcmp(type, "llama3") != 0))
		return pf_fail(error, PF_E_UNSUPPORTED,
		               "%s: %s: rope_type is %.100s; default, linear and llama3 are built", where, key,
		               type ? type : "missing");
	c->positions = strcmp(type, "linear") == 0 ? PF_POSITION_ROPE_LINEAR : PF_POSITION_ROPE_LLAMA3;
	if (!given(rope, "factor"))
		return pf_fail(error, PF_E_FORMAT, "%s: %s: rope_type %s needs a factor", where, key, type);
	code = read_number(rope, "factor", where, &c->rope_factor, error);
	return code == 0 && c->positions == PF_POSITION_ROPE_LLAMA3 ? read_llama3(rope, where, c, error) : code;
}

static int read_rope(const json_t *root, const char *where, struct pf_model_config *c, struct pf_error *error)
{
	if (c->positions == PF_POSITION_LEARNED)
		return 0;
	int code = read_number(root, "rope_theta", where, &c->rope_theta, error);
	code = code != 0 ? code : read_scaling(root, "rope_scaling", where, c, error);
	return code != 0 ? code : read_scaling(root, "rope_parameters", where, c, error);
}

static int slides(const json_t *types, size_t i)
{
	const char *text = json_string_value(json_array_get(types, i));
	return !text ? -1 : strcmp(text, "sliding_attention") == 0 ? 1 : strcmp(text, "full_attention") == 0 ? 0 : -1;
}

/* layer_types names every layer; the pattern must be "from a layer on, every so many-th" */
static int read_layer_types(const json_t *root, const char *where, struct pf_model_config *c, struct pf_error *error)
{
	const json_t *types = given(root, "layer_types");
	uint32_t from = c->layers, every = 0;
	if (!types)
		return 0;
	if (json_array_size(types) != c->layers)
		return pf_fail(error, PF_E_FORMAT, "%s: layer_types must name each of the %u layers", where, c->layers);
	for (uint32_t i = c->layers; i-- > 0;)
		if (slides(types, i) == 1) {
			every = from < c->layers ? from - i : 1;
			from = i;
		}
	for (uint32_t i = 0; i < c->layers; i++)
		if (slides(types, i) != (i >= from && (i - from) % every == 0))
			return pf_fail(
				error, PF_E_UNSUPPORTED,
				"%s: layer_types: layer %u breaks the pattern of full_attention and sliding_attention",
				where, i);
	if (from == c->layers)
		c->window = 0;
	c->window_from = from;
	c->window_every = every;
	return 0;
}

static int read_window(const json_t *root, const char *where, struct pf_model_config *c, struct pf_error *error)
{
	int used = c->family != PF_FAMILY_QWEN2 && c->family != PF_FAMILY_QWEN3;
	if (c->window == 0)
		return expect(root, "sliding_window", NULL, where, error);
	int code = read_count(root, "sliding_window", where, &c->window, error);
	if (json_is_null(json_object_get(root, "sliding_window")))
		c->window = 0;
	code = code != 0 || used ? code : read_count(root, "max_window_layers", where, &c->window_from, error);
	code = code != 0 || used ? code : read_flag(root, "use_sliding_window", where, &used, error);
	c->window = used ? c->window : 0;
	code = code != 0 || c->window == 0 ? code : read_layer_types(root, where, c, error);
	if (c->window == 0)
		c->window_from = c->window_every = 0;
	return code;
}

static int read_biases(const json_t *root, const char *where, struct pf_model_config *c, struct pf_error *error)
{
	int attention = 0, mlp = 0;
	if (c->family == PF_FAMILY_GPT2 || c->family == PF_FAMILY_QWEN2)
		return 0;
	int code = read_flag(root, "attention_bias", where, &attention, error);
	code = code != 0 ? code : read_flag(root, "mlp_bias", where, &mlp, error);
	c->biases |= (attention ? PF_BIAS_QKV | PF_BIAS_OUT : 0u) | (mlp ? PF_BIAS_MLP : 0u);
	return code;
}

static int read_activation(const json_t *root, const char *where, const struct pf_model_config *c,
                           struct pf_error *error)
{
	const struct family *f = &families[c->family];
	const char *older = c->family == PF_FAMILY_GEMMA2 && !given(root, f->activation_key) ? "hidden_act"
	                                                                                     : f->activation_key;
	const char *text = json_string_value(json_object_get(root, older));
	/* one function under two names */
	if (text && c->mlp != PF_MLP_SILU_GATED &&
	    (strcmp(text, "gelu_new") == 0 || strcmp(text, "gelu_pytorch_tanh") == 0))
		return 0;
	return expect(root, older, json_string(f->activation), where, error);
}

static int read_gpt2(const json_t *root, const char *where, struct pf_error *error)
{
	int code = expect(root, "scale_attn_weights", json_true(), where, error);
	code = code != 0 ? code : expect(root, "scale_attn_by_inverse_layer_idx", json_false(), where, error);
	return code != 0 ? code : expect(root, "add_cross_attention", json_false(), where, error);
}

static int read_gemma2(const json_t *root, const char *where, struct pf_model_config *c, struct pf_error *error)
{
	int code = read_number(root, "query_pre_attn_scalar", where, &c->attention_scalar, error);
	code = code != 0 ? code : read_cap(root, "attn_logit_softcapping", where, &c->attention_cap, error);
	return code != 0 ? code : read_cap(root, "final_logit_softcapping", where, &c->logit_cap, error);
}

int pf_config_features(const json_t *root, const char *where, struct pf_model_config *c, struct pf_error *error)
{
	const char *eps = c->norm == PF_NORM_LAYER ? "layer_norm_epsilon" : "rms_norm_eps";
	int code = read_activation(root, where, c, error);
	code = code != 0 ? code : read_flag(root, "tie_word_embeddings", where, &c->tied, error);
	code = code != 0 ? code : read_number(root, eps, where, &c->norm_eps, error);
	code = code != 0 ? code : read_rope(root, where, c, error);
	code = code != 0 ? code : read_window(root, where, c, error);
	code = code != 0 ? code : read_biases(root, where, c, error);
	if (code == 0 && c->family == PF_FAMILY_GPT2)
		code = read_gpt2(root, where, error);
	if (code == 0 && c->family == PF_FAMILY_GEMMA2)
		code = read_gemma2(root, where, c, error);
	return code;
}
