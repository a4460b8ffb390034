/* Writing config.json: for models of ours from the fields alone, for models that were read with every key they had. */
#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include "config.h"
#include "config_family.h"
#include "text.h"

static json_t *token_json(int32_t token)
{
	return token < 0 ? json_null() : json_integer(token);
}

static json_t *cap_json(double cap)
{
	return cap == 0.0 ? json_null() : json_real(cap);
}

static json_t *window_json(const struct pf_model_config *c)
{
	return c->window == 0 ? json_null() : json_integer(c->window);
}

static json_t *scaling_json(const struct pf_model_config *c)
{
	if (c->positions == PF_POSITION_ROPE_LINEAR)
		return json_pack("{s:s, s:f}", "rope_type", "linear", "factor", c->rope_factor);
	if (c->positions == PF_POSITION_ROPE_LLAMA3)
		return json_pack("{s:s, s:f, s:f, s:f, s:i}", "rope_type", "llama3", "factor", c->rope_factor,
		                 "low_freq_factor", c->rope_low, "high_freq_factor", c->rope_high,
		                 "original_max_position_embeddings", (int)c->rope_original);
	return json_null();
}

static json_t *usual_json(const struct pf_model_config *c)
{
	return json_pack(
	        "{s:[s], s:s, s:s, s:s, s:b, s:b, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:f, s:f, "
	        "s:o, s:b, s:o, s:o}",
	        "architectures", pf_config_architecture(c->family), "model_type", pf_config_family_name(c->family),
	        "hidden_act", c->mlp == PF_MLP_SILU_GATED ? "silu" : "gelu_pytorch_tanh",
	        "torch_dtype", "float32", "attention_bias", (c->biases & PF_BIAS_OUT) != 0, "mlp_bias",
	        (c->biases & PF_BIAS_MLP) != 0, "vocab_size",
	        (int)c->vocab, "hidden_size", (int)c->dim, "num_hidden_layers", (int)c->layers,
	        "num_attention_heads", (int)c->heads, "num_key_value_heads", (int)c->kv_heads,
	        "head_dim", (int)c->head_dim, "intermediate_size", (int)c->ffn,
	        "max_position_embeddings", (int)c->max_positions, "rope_theta", c->rope_theta,
	        "rms_norm_eps", c->norm_eps, "rope_scaling", scaling_json(c), "tie_word_embeddings", c->tied,
	        "bos_token_id", token_json(c->bos), "eos_token_id", token_json(c->eos));
}

static json_t *gpt2_json(const struct pf_model_config *c)
{
	return json_pack("{s:[s], s:s, s:s, s:s, s:i, s:i, s:i, s:i, s:i, s:i, s:f, s:b, s:o, s:o}", "architectures",
	                 pf_config_architecture(c->family), "model_type", pf_config_family_name(c->family),
	                 "activation_function", "gelu_new", "torch_dtype", "float32", "vocab_size", (int)c->vocab,
	                 "n_embd", (int)c->dim, "n_layer", (int)c->layers, "n_head", (int)c->heads, "n_inner",
	                 (int)c->ffn, "n_positions", (int)c->max_positions, "layer_norm_epsilon", c->norm_eps,
	                 "tie_word_embeddings", c->tied, "bos_token_id", token_json(c->bos), "eos_token_id",
	                 token_json(c->eos));
}

static void add_window(json_t *root, const struct pf_model_config *c)
{
	if (c->family == PF_FAMILY_MISTRAL || c->family == PF_FAMILY_GEMMA2)
		json_object_set_new(root, "sliding_window", window_json(c));
	if (c->family != PF_FAMILY_QWEN2 && c->family != PF_FAMILY_QWEN3)
		return;
	json_object_set_new(root, "use_sliding_window", json_boolean(c->window > 0));
	json_object_set_new(root, "sliding_window", window_json(c));
	json_object_set_new(root, "max_window_layers", json_integer(c->window > 0 ? c->window_from : c->layers));
}

static json_t *config_json(const struct pf_model_config *c)
{
	if (c->family == PF_FAMILY_GPT2)
		return gpt2_json(c);
	json_t *root = usual_json(c);
	add_window(root, c);
	if (c->family == PF_FAMILY_GEMMA2) {
		json_object_set_new(root, "hidden_activation", json_string("gelu_pytorch_tanh"));
		json_object_set_new(root, "query_pre_attn_scalar", json_real(c->attention_scalar));
		json_object_set_new(root, "attn_logit_softcapping", cap_json(c->attention_cap));
		json_object_set_new(root, "final_logit_softcapping", cap_json(c->logit_cap));
	}
	return root;
}

/* A family has keys for its own features only: what would be read back must be what is written */
static int check_text(const char *text, const struct pf_model_config *config, const char *path, struct pf_error *error)
{
	struct pf_model_config read;
	int code = pf_config_parse(text, strlen(text), path, &read, error);
	if (code == 0 && (!pf_config_equal(&read, config) || read.max_positions != config->max_positions))
		code = pf_fail(error, PF_E_UNSUPPORTED,
		               "%s: config.json of model_type %s has no keys for all features of this model", path,
		               pf_config_family_name(config->family));
	return code;
}

/* The type of the weights stands under one of two keys */
static void set_type(json_t *root, enum pf_dtype type)
{
	const char *key = json_object_get(root, "dtype") ? "dtype" : "torch_dtype";
	json_object_set_new(root, key,
	                    json_string(type == PF_BF16  ? "bfloat16"
	                                : type == PF_F16 ? "float16"
	                                                 : "float32"));
}

int pf_config_write_as(const struct pf_model_config *config, const char *known, enum pf_dtype type, const char *path,
                       struct pf_error *error)
{
	int code = pf_config_check(config, path, error);
	if (code != 0)
		return code;
	json_t *root = known ? json_loads(known, 0, NULL) : config_json(config);
	if (root)
		set_type(root, type);
	char *text = root ? json_dumps(root, JSON_INDENT(2) | JSON_REAL_PRECISION(17)) : NULL;
	code = text ? check_text(text, config, path, error)
	            : pf_fail(error, -ENOMEM, "%s: out of memory", path);
	if (code == 0)
		code = pf_text_write(path, text, error);
	free(text);
	json_decref(root);
	return code;
}

int pf_config_write(const struct pf_model_config *config, const char *path, struct pf_error *error)
{
	return pf_config_write_as(config, NULL, PF_F32, path, error);
}
