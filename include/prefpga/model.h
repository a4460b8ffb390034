/* model.h: a language model of the Llama family: its shape, its weights on disk, text from it.
 *
 * A model is a directory in Hugging Face form: config.json and model.safetensors (or its shards and
 * model.safetensors.index.json). Weights are read as F32, F16, BF16 or F64, kept and saved as F32.
 *
 * Threads: a model may be read by several threads at a time; nothing here has global state. */
#ifndef PREFPGA_MODEL_H
#define PREFPGA_MODEL_H
#include <stdint.h>
#include "error.h"
#ifdef __cplusplus
extern "C" {
#endif

/* Shape of a model: RMSNorm, rotary positions, grouped-query attention, SwiGLU */
struct pf_model_config {
	uint32_t vocab, dim, layers;
	uint32_t heads, kv_heads; /* query heads; key/value heads, a divisor of heads */
	uint32_t head_dim;        /* even; heads x head_dim need not be dim */
	uint32_t ffn;             /* width of the SwiGLU */
	uint32_t max_positions;   /* longest sequence */
	double rope_theta, norm_eps;
	int tied;         /* 1: the head is the embedding */
	int32_t bos, eos; /* token ids, -1: none */
};

struct pf_model;

/* A new model. Matrices, embedding and head are normal with deviation 1/sqrt(columns), the matrices
 * that end a residual branch divided by sqrt(2 layers); norms are 1. Equal config and seed give
 * equal bits */
PF_API int pf_model_create(const struct pf_model_config *config, uint64_t seed,
                           struct pf_model **model, struct pf_error *error);
/* Errors name the file, the tensor or key, and what was expected */
PF_API int pf_model_load(const char *directory, struct pf_model **model, struct pf_error *error);
/* Makes the directory if needed. Each file appears whole or not at all */
PF_API int pf_model_save(const struct pf_model *model, const char *directory,
                         struct pf_error *error);
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
