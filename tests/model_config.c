/* config.json: defaults of every family, what is refused and with which words. */
#include <math.h>
#include <string.h>
#include "cmocka.h"
#include "host/model/config.h"
#include "host/model/model.h"
#include "model_families.h"
#include "scratch.h"

static const struct pf_model_config small = { MODEL_SHAPE(19, 10, 2, 4, 2, 6, 14, 128, 5e5, 1e-5, 0, 1, 2) };


#define BASE \
	"{\"model_type\":\"llama\",\"vocab_size\":260,\"hidden_size\":64,\"num_hidden_layers\":2," \
	"\"num_attention_heads\":4,\"intermediate_size\":128,\"max_position_embeddings\":512"

static int parse(const char *text, struct pf_model_config *config, struct pf_error *error)
{
	return pf_config_parse(text, strlen(text), "config.json", config, error);
}

static void test_config_defaults(void **state)
{
	struct pf_model_config c;
	(void)state;
	assert_int_equal(parse(BASE "}", &c, NULL), 0);
	assert_true(c.kv_heads == 4 && c.head_dim == 16 && c.rope_theta == 10000 &&
	            c.norm_eps == 1e-6 && !c.tied);
	assert_true(c.bos == -1 && c.eos == -1);
	assert_int_equal(
	        parse(BASE
	              ",\"num_key_value_heads\":2,\"head_dim\":32,\"rope_theta\":7,\"eos_token_id\":[5,6],"
	              "\"bos_token_id\":null,\"tie_word_embeddings\":true,\"rms_norm_eps\":1e-5,"
	              "\"rope_scaling\":null,\"hidden_act\":\"silu\",\"attention_bias\":false}",
	              &c, NULL),
	        0);
	assert_true(c.kv_heads == 2 && c.head_dim == 32 && c.rope_theta == 7 &&
	            c.norm_eps == 1e-5 && c.tied && c.eos == 5);
	assert_int_equal(parse(BASE
	                       ",\"rope_parameters\":{\"rope_theta\":9,\"rope_type\":\"default\"}}",
	                       &c, NULL),
	                 0);
	assert_true(c.rope_theta == 9);
	assert_int_equal(parse(BASE
	                       ",\"attention_bias\":true,\"mlp_bias\":true,\"rope_scaling\":{\"rope_type\":\"llama3\","
	                       "\"factor\":32.0,\"low_freq_factor\":1.0,\"high_freq_factor\":4.0,"
	                       "\"original_max_position_embeddings\":8192}}",
	                       &c, NULL),
	                 0);
	assert_true(c.biases == (PF_BIAS_QKV | PF_BIAS_OUT | PF_BIAS_MLP) && c.positions == PF_POSITION_ROPE_LLAMA3 &&
	            c.rope_factor == 32 && c.rope_low == 1 && c.rope_high == 4 && c.rope_original == 8192);
}

#define SIZES \
	"\"vocab_size\":260,\"hidden_size\":64,\"num_hidden_layers\":4,\"num_attention_heads\":4," \
	"\"intermediate_size\":128,\"max_position_embeddings\":512"

/* What each family takes for keys that are not there, and how windows are said */
static void test_config_families(void **state)
{
	struct pf_model_config c;
	struct pf_error error = { 0 };
	(void)state;
	assert_int_equal(parse("{\"model_type\":\"mistral\"," SIZES "}", &c, NULL), 0);
	assert_true(c.window == 4096 && c.window_from == 0 && c.head_dim == 16 && !c.tied);
	assert_int_equal(
		parse("{\"model_type\":\"mistral\"," SIZES ",\"sliding_window\":null,\"head_dim\":20}", &c, NULL), 0);
	assert_true(c.window == 0 && c.head_dim == 20);
	assert_int_equal(parse("{\"model_type\":\"qwen2\"," SIZES ",\"sliding_window\":9}", &c, NULL), 0);
	assert_true(c.window == 0 && c.biases == PF_BIAS_QKV);
	assert_int_equal(parse("{\"model_type\":\"qwen2\"," SIZES ",\"sliding_window\":9,\"use_sliding_window\":true,"
	                       "\"max_window_layers\":2}", &c, NULL), 0);
	assert_true(c.window == 9 && c.window_from == 2 && c.window_every == 1);
	assert_int_equal(parse("{\"model_type\":\"qwen3\"," SIZES "}", &c, NULL), 0);
	assert_true(c.qk_norm && c.head_dim == 128 && c.biases == 0 && c.window == 0);
	assert_int_equal(parse("{\"model_type\":\"gemma2\"," SIZES "}", &c, NULL), 0);
	assert_true(c.tied && c.head_dim == 256 && c.attention_cap == 50 && c.logit_cap == 30 &&
	            c.attention_scalar == 256 && c.window == 4096 && c.window_every == 2 &&
	            c.norm == PF_NORM_RMS_PLUS && c.post_norms);
	assert_int_equal(parse("{\"model_type\":\"gemma2\"," SIZES ",\"final_logit_softcapping\":null,\"layer_types\":["
	                       "\"full_attention\",\"sliding_attention\",\"full_attention\",\"sliding_attention\"]}",
	                       &c, NULL),
	                 0);
	assert_true(c.logit_cap == 0 && c.window_from == 1 && c.window_every == 2);
	assert_int_equal(parse("{\"model_type\":\"gemma2\"," SIZES ",\"layer_types\":[\"full_attention\","
	                       "\"sliding_attention\",\"sliding_attention\",\"full_attention\"]}",
	                       &c, &error),
	                 PF_E_UNSUPPORTED);
	assert_non_null(strstr(error.text, "layer 3"));
	assert_int_equal(parse("{\"model_type\":\"gpt2\",\"vocab_size\":50,\"n_embd\":12,\"n_layer\":2,\"n_head\":3,"
	                       "\"n_positions\":16,\"n_inner\":null}", &c, NULL), 0);
	assert_true(c.ffn == 48 && c.tied && c.kv_heads == 3 && c.head_dim == 4 && c.positions == PF_POSITION_LEARNED &&
	            c.norm_eps == 1e-5);
	assert_int_equal(parse("{\"model_type\":\"gpt2\",\"vocab_size\":50,\"n_embd\":12,\"n_layer\":2,\"n_head\":3,"
	                       "\"n_positions\":16,\"scale_attn_by_inverse_layer_idx\":true}",
	                       &c, &error),
	                 PF_E_UNSUPPORTED);
	assert_non_null(strstr(error.text, "inverse_layer"));
}

/* A family's config.json cannot say what only others have */
static void test_config_mixed(void **state)
{
	struct pf_model_config c = small;
	struct pf_error error = { 0 };
	(void)state;
	c.qk_norm = 1;
	assert_int_equal(pf_config_write(&c, scratch_path("mixed.json"), &error), PF_E_UNSUPPORTED);
	assert_non_null(strstr(error.text, "llama"));
}

static void test_config_refusals(void **state)
{
	static const struct {
		const char *text, *word;
	} bad[] = {
		{ "", "config.json:" },
		{ "[]", "object" },
		{ "{}", "model_type" },
		{ "{\"model_type\":\"bert\"}", "bert" },
		{ "{\"model_type\":\"gpt2\"}", "vocab_size is missing" },
		{ "{\"model_type\":\"llama\"}", "vocab_size is missing" },
		{ BASE ",\"num_key_value_heads\":3}", "no multiple" },
		{ BASE ",\"head_dim\":15}", "odd" },
		{ BASE ",\"num_key_value_heads\":0}", "num_key_value_heads" },
		{ BASE ",\"num_key_value_heads\":2.0}", "whole number" },
		{ BASE ",\"head_dim\":1024}", "from 1 to 512" },
		{ BASE ",\"rope_theta\":\"x\"}", "rope_theta" },
		{ BASE ",\"rope_theta\":0.5}", "rope_theta" },
		{ BASE ",\"rms_norm_eps\":0}", "rms_norm_eps" },
		{ BASE ",\"eos_token_id\":260}", "260 tokens" },
		{ BASE ",\"eos_token_id\":-1}", "token id" },
		{ BASE ",\"attention_bias\":1}", "attention_bias must be true or false" },
		{ BASE ",\"mlp_bias\":\"x\"}", "mlp_bias" },
		{ BASE ",\"hidden_act\":\"gelu\"}", "gelu" },
		{ BASE ",\"sliding_window\":100}", "sliding_window" },
		{ BASE ",\"rope_scaling\":{\"type\":\"linear\"}}", "rope_scaling" },
		{ BASE ",\"rope_parameters\":{\"rope_type\":\"llama3\"}}", "llama3" },
		{ BASE ",\"rope_parameters\":{\"rope_type\":\"yarn\",\"factor\":2}}", "yarn" },
		{ BASE ",\"rope_scaling\":{\"rope_type\":\"llama3\",\"factor\":8}}", "low_freq_factor" },
		{ BASE ",\"rope_scaling\":{\"type\":\"linear\",\"factor\":0.5}}", "factor is 0.5" },
		{ BASE ",\"hidden_size\":64}", "duplicate" },
	};
	(void)state;
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		struct pf_model_config c;
		struct pf_error error = { 0 };
		int code = parse(bad[i].text, &c, &error);
		if (code >= 0 || !strstr(error.text, bad[i].word))
			fail_msg("%s: %d %s", bad[i].text, code, error.text);
	}
}

static void test_create_refusals(void **state)
{
	struct pf_model_config c = small;
	struct pf_model *model;
	(void)state;
	c.vocab = 1;
	assert_int_equal(pf_model_create(&c, 1, &model, NULL), PF_E_RANGE);
	c = small;
	c.norm_eps = NAN;
	assert_int_equal(pf_model_create(&c, 1, &model, NULL), PF_E_RANGE);
	pf_model_close(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_config_defaults), cmocka_unit_test(test_config_families),
		cmocka_unit_test(test_config_mixed),    cmocka_unit_test(test_config_refusals),
		cmocka_unit_test(test_create_refusals),
	};
	scratch_open("model_config");
	return cmocka_run_group_tests(tests, NULL, NULL);
}
