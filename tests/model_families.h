/* model_families.h: a small model of each family, with every feature that families differ in. Caps are low and windows
 * short, so that they act. */
#ifndef PF_TESTS_MODEL_FAMILIES_H
#define PF_TESTS_MODEL_FAMILIES_H
#include "model_shape.h"

static const struct pf_model_config family_qwen3 = { MODEL_SHAPE(17, 12, 2, 4, 2, 6, 9, 512, 1e4, 1e-6, 1, -1, -1),
	.family = PF_FAMILY_QWEN3, .qk_norm = 1 };
static const struct pf_model_config family_qwen2 = { MODEL_SHAPE(15, 12, 3, 4, 2, 4, 11, 512, 1e4, 1e-6, 0, -1, -1),
	.family = PF_FAMILY_QWEN2, .biases = PF_BIAS_QKV, .window = 100, .window_from = 1, .window_every = 1 };
static const struct pf_model_config family_llama3 = { MODEL_SHAPE(14, 10, 1, 2, 1, 16, 9, 512, 1e4, 1e-5, 1, -1, -1),
	.positions = PF_POSITION_ROPE_LLAMA3, .rope_factor = 8, .rope_low = 1, .rope_high = 4, .rope_original = 64,
	.biases = PF_BIAS_QKV | PF_BIAS_OUT | PF_BIAS_MLP };
static const struct pf_model_config family_linear = { MODEL_SHAPE(14, 10, 1, 2, 2, 8, 9, 512, 1e4, 1e-5, 1, -1, -1),
	.positions = PF_POSITION_ROPE_LINEAR, .rope_factor = 4 };
static const struct pf_model_config family_mistral = { MODEL_SHAPE(14, 10, 2, 4, 2, 4, 9, 512, 1e4, 1e-5, 0, -1, -1),
	.family = PF_FAMILY_MISTRAL, .window = 3, .window_every = 1 };
static const struct pf_model_config family_gemma2 = { MODEL_SHAPE(19, 12, 3, 4, 2, 6, 13, 512, 1e4, 1e-6, 1, -1, -1),
	.family = PF_FAMILY_GEMMA2, .norm = PF_NORM_RMS_PLUS, .mlp = PF_MLP_GELU_GATED, .post_norms = 1,
	.scaled_embedding = 1, .attention_scalar = 9, .attention_cap = 0.4, .logit_cap = 0.7, .window = 130,
	.window_every = 2 };
static const struct pf_model_config family_gpt2 = { MODEL_SHAPE(16, 12, 2, 3, 3, 4, 20, 512, 1e4, 1e-5, 1, -1, -1),
	.family = PF_FAMILY_GPT2, .norm = PF_NORM_LAYER, .mlp = PF_MLP_GELU, .positions = PF_POSITION_LEARNED,
	.biases = PF_BIAS_QKV | PF_BIAS_OUT | PF_BIAS_MLP };
static const struct pf_model_config *const families[] = {
	&family_qwen3, &family_qwen2, &family_llama3, &family_linear, &family_mistral, &family_gemma2, &family_gpt2,
};
enum { FAMILIES = sizeof families / sizeof *families };
#endif
