/* lora.h: low-rank adapters: beside a frozen matrix W[out, in] a trained product, W + scale B A.
 *
 * Source: Hu et al. 2021, "LoRA: Low-Rank Adaptation of Large Language Models", eq. 3; names, initial values and files
 * are those of Hugging Face's PEFT: A[rank, in] uniform within 1 / sqrt(in) (Kaiming's with a = sqrt 5), B[out, rank] zero,
 * scale alpha / rank (alpha / sqrt(rank) with use_rslora), no dropout. An adapter's parameters are a flat array with a
 * layout of its own, which optimizer and checkpoints take as they take a model's.
 *
 * Read-only after init, then thread-safe. */
#ifndef PF_MODEL_LORA_H
#define PF_MODEL_LORA_H
#include "layout.h"

#define PF_LORA_CONFIG  "adapter_config.json"
#define PF_LORA_WEIGHTS "adapter_model.safetensors"

struct pf_lora_options {
	uint32_t rank;
	double alpha;
	const char *targets; /* names of modules as PEFT takes them, "q_proj,v_proj,mlp.c_proj"; "all-linear": every matrix but
	                      * embeddings and head */
	int rooted;          /* 1: scale is alpha / sqrt(rank) */
};

struct pf_lora_target {
	unsigned layer;
	enum pf_part part;
	uint64_t weight; /* of the matrix in the model's flat array */
	uint32_t out, in;
	uint64_t a, b;   /* in the adapter's: A[rank, in], B[out, rank] */
};

struct pf_lora {
	uint32_t rank;
	double alpha, scale;
	int rooted;
	char *modules;           /* the targets' names, each once, separated by commas */
	struct pf_layout layout; /* of the adapter's tensors */
	struct pf_lora_target *target;
	unsigned targets;        /* in the order of layers */
};

/* Fails when a name fits no matrix. Frees with fini, also after a failure */
int pf_lora_init(struct pf_lora *lora, const struct pf_layout *model, const struct pf_lora_options *options,
                 struct pf_error *error);
void pf_lora_fini(struct pf_lora *lora);
/* Initial values: the adapted model computes what the model does */
void pf_lora_start(const struct pf_lora *lora, uint64_t seed, float *adapter);
/* Adds what the adapter adds to the model's flat array */
void pf_lora_merge(const struct pf_lora *lora, const float *adapter, unsigned threads, float *param);

/* adapter_config.json: text[bytes]; *targets (freed by the caller, NULL after an error) backs options->targets. What would
 * change the computation and is not built is an error that names the key */
int pf_lora_parse(const char *text, size_t bytes, const char *where, struct pf_lora_options *options, char **targets,
                  struct pf_error *error);
/* adapter_config.json and adapter_model.safetensors. base: path of the model, for others to find; NULL: not said */
int pf_lora_save(const struct pf_lora *lora, const float *adapter, const char *base, int transposed, const char *directory,
                 struct pf_error *error);
/* Inits lora for a model of that layout and fills *adapter (freed with free()). Nothing is to be freed after a failure */
int pf_lora_load(const char *directory, const struct pf_layout *model, struct pf_lora *lora, float **adapter,
                 struct pf_error *error);
#endif
