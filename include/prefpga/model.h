/* model.h: a language model: its shape, its weights on disk, text from it.
 *
 * A model is a directory in Hugging Face form: config.json and model.safetensors (or its shards and
 * model.safetensors.index.json), of Llama (also 3.x), Mistral, Qwen2, Qwen3, Gemma-2 or GPT-2.
 * Weights are read as F32, F16, BF16 or F64 and computed with in float.
 *
 * Threads: a model may be read by several threads at a time; nothing here has global state. */
#ifndef PREFPGA_MODEL_H
#define PREFPGA_MODEL_H
#include <stdint.h>
#include "error.h"
#include "view.h"
#ifdef __cplusplus
extern "C" {
#endif

/* Whose names a model has in config.json and in its weights. What it computes is said by the fields of its config */
enum pf_family {
	PF_FAMILY_LLAMA,
	PF_FAMILY_MISTRAL,
	PF_FAMILY_QWEN2,
	PF_FAMILY_QWEN3,
	PF_FAMILY_GEMMA2,
	PF_FAMILY_GPT2
};
enum pf_norm_kind {
	PF_NORM_RMS,      /* x / rms(x) w */
	PF_NORM_RMS_PLUS, /* x / rms(x) (1 + w) */
	PF_NORM_LAYER     /* (x - mean) / deviation w + bias */
};
enum pf_mlp_kind {
	PF_MLP_SILU_GATED, /* down(silu(gate x) up x) */
	PF_MLP_GELU_GATED, /* down(gelu(gate x) up x), gelu by tanh */
	PF_MLP_GELU        /* down(gelu(up x)) */
};
enum pf_position_kind {
	PF_POSITION_ROPE,
	PF_POSITION_ROPE_LINEAR, /* angles divided by rope_factor */
	PF_POSITION_ROPE_LLAMA3, /* low frequencies divided by rope_factor, Llama 3.1 */
	PF_POSITION_LEARNED      /* a vector per position, added to the embedding */
};
enum { PF_BIAS_QKV = 1, PF_BIAS_OUT = 2, PF_BIAS_MLP = 4 };

/* Shape and features of a model. Fields of value 0 are what a plain Llama has: RMSNorm, rotary
 * positions, grouped-query attention, SwiGLU, no biases */
struct pf_model_config {
	uint32_t vocab, dim, layers;
	uint32_t heads, kv_heads; /* query heads; key/value heads, a divisor of heads */
	uint32_t head_dim;        /* even with rotary positions; heads x head_dim need not be dim */
	uint32_t ffn;             /* width of the MLP */
	uint32_t max_positions;   /* longest sequence */
	double rope_theta, norm_eps;
	int tied;         /* 1: the head is the embedding */
	int32_t bos, eos; /* token ids, -1: none */

	enum pf_family family;
	enum pf_norm_kind norm;
	enum pf_mlp_kind mlp;
	enum pf_position_kind positions;
	double rope_factor, rope_low, rope_high; /* of scaled rotary positions: factor, low and high frequency's */
	uint32_t rope_original;                  /* original_max_position_embeddings */
	unsigned biases;                         /* PF_BIAS_ bits */
	int qk_norm;                             /* 1: queries and keys pass a norm over head_dim before positions */
	int post_norms;                          /* 1: what attention and MLP add passes a norm first */
	int scaled_embedding;                    /* 1: embeddings are multiplied by sqrt(dim) */
	double attention_scalar;                 /* scores are divided by its root; 0: head_dim */
	double attention_cap, logit_cap;         /* x becomes cap tanh(x / cap); 0: no cap */
	uint32_t window;                         /* a token sees the last so many tokens, itself included; 0: all */
	uint32_t window_from, window_every;      /* of the window: first layer, and every how many-th (0: 1) */
};

struct pf_model;

/* A new model. Matrices, embedding and head are normal with deviation 1/sqrt(columns), the matrices
 * that end a residual branch divided by sqrt(2 layers); norms begin
 * as the identity, biases at 0. Equal config and seed give
 * equal bits */
PF_API int pf_model_create(const struct pf_model_config *config, uint64_t seed,
                           struct pf_model **model, struct pf_error *error);
/* Errors name the file, the tensor or key, and what was expected */
PF_API int pf_model_load(const char *directory, struct pf_model **model, struct pf_error *error);
struct pf_model_save_options {
	enum pf_dtype type;   /* PF_F32, or PF_F16 and PF_BF16 with rounding to nearest even */
	uint64_t shard_bytes; /* most tensor bytes of a file, unless one tensor has more; 0: one file */
};
/* Makes the directory if needed. Each file appears whole or not at all. Of a model that was loaded all keys of its
 * config.json are kept, and its tokenizer's files are copied along */
PF_API int pf_model_save_as(const struct pf_model *model, const struct pf_model_save_options *options,
                            const char *directory, struct pf_error *error);
/* In one file of F32; of an adapted model the adapter alone */
PF_API int pf_model_save(const struct pf_model *model, const char *directory,
                         struct pf_error *error);
/* Type of the weights in the files that the model was loaded from; PF_F32 for a new one */
PF_API enum pf_dtype pf_model_stored(const struct pf_model *model);
PF_API void pf_model_close(struct pf_model *model); /* NULL is allowed */
PF_API const struct pf_model_config *pf_model_shape(const struct pf_model *model);
PF_API uint64_t pf_model_parameters(const struct pf_model *model);

struct pf_sampling {
	double temperature;  /* 0: the most probable token */
	double top_p;        /* in (0, 1]; 1: the whole distribution */
	uint64_t seed;       /* sequence i draws from its own stream (seed, i) */
	uint32_t max_tokens; /* new tokens per sequence */
	int32_t eos;         /* ends a sequence and is delivered; -1: none */
	unsigned threads;    /* 0: all processors */
};

/* Receives each new token as it is drawn. 0: go on, 1: this sequence is complete, negative: stop
 * all, returned */
typedef int (*pf_token_fn)(void *context, uint32_t sequence, int32_t token);

/* Continues seqs prompts at once, ids[offsets[i] .. offsets[i + 1]), none empty. A sequence also
 * ends at max_positions. Results do not depend on threads, nor, beyond rounding, on what else is in
 * the batch */
PF_API int pf_generate(const struct pf_model *model, const struct pf_sampling *sampling,
                       const int32_t *ids, const uint32_t *offsets, uint32_t seqs,
                       pf_token_fn token, void *context, struct pf_error *error);
#ifdef __cplusplus
}
#endif
#endif
