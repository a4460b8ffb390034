/* layout.h: where the parameters of a model lie in one flat array, and what they are called.
 *
 * Weights, gradients and optimizer moments are flat arrays of layout.size elements with the same
 * offsets. Groups begin at multiples of 16 elements; q, k, v lie back to back, and so do gate and
 * up, so that each group is one matrix. The gaps belong to nobody and stay zero. Names are those of
 * Llama in Hugging Face's files. Read-only after init, then thread-safe. */
#ifndef PF_MODEL_LAYOUT_H
#define PF_MODEL_LAYOUT_H
#include <stddef.h>
#include "prefpga/model.h"
#include "safetensors.h"

enum pf_tensor_role {
	PF_TENSOR_EMBED,
	PF_TENSOR_NORM,
	PF_TENSOR_MATRIX,
	PF_TENSOR_RESIDUAL,
	PF_TENSOR_HEAD
};

struct pf_tensor {
	char name[64];
	uint64_t offset;
	uint32_t rows, cols;      /* [rows, cols]; norms have one row and are vectors on disk */
	enum pf_tensor_role role; /* RESIDUAL: a matrix that ends a residual branch */
};

/* Offsets of one layer's groups */
struct pf_layer_layout {
	uint64_t norm1;   /* [D] */
	uint64_t qkv;     /* [(H + 2 KV) head_dim, D] */
	uint64_t out;     /* [D, H head_dim] */
	uint64_t norm2;   /* [D] */
	uint64_t gate_up; /* [2 F, D] */
	uint64_t down;    /* [D, F] */
};

struct pf_layout {
	uint64_t size;              /* elements of the flat array */
	uint64_t parameters;        /* without the gaps */
	uint64_t embed, norm, head; /* [V, D], [D], [V, D]; head == embed when tied */
	unsigned layers, tensors;
	struct pf_layer_layout *layer;
	struct pf_tensor *tensor; /* in the order of offsets */
};

/* config must have passed pf_config_check. Frees with pf_layout_fini, also after a failure */
int pf_layout_init(struct pf_layout *layout, const struct pf_model_config *config,
                   struct pf_error *error);
void pf_layout_fini(struct pf_layout *layout);
uint64_t pf_tensor_elements(const struct pf_tensor *tensor);
/* 1 if weight decay applies: matrices, embedding and head, not norms */
int pf_tensor_decays(const struct pf_tensor *tensor);

/* A flat array as tensors "<prefix><name>" of type F32: declare, then write in the same order; fill
 * reads them back */
int pf_layout_declare(const struct pf_layout *layout, const char *prefix,
                      struct pf_safetensors_writer *writer, struct pf_error *error);
int pf_layout_write(const struct pf_layout *layout, const float *flat,
                    struct pf_safetensors_writer *writer, struct pf_error *error);
/* Fills the tensors that *file holds and sets their seen[tensor] to 1; shapes must match */
int pf_layout_fill(const struct pf_layout *layout, const char *prefix,
                   const struct pf_safetensors *file, float *flat, uint8_t *seen,
                   struct pf_error *error);
/* The name of a tensor with seen 0, or NULL */
const char *pf_layout_missing(const struct pf_layout *layout, const uint8_t *seen);
#endif
