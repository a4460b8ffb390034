/* layout.h: where the parameters of a model lie in one flat array, and what they are called.
 *
 * Weights, gradients and optimizer moments are flat arrays of layout.size elements with the same
 * offsets. Groups begin at multiples of 16 elements; q, k, v lie back to back, and so do gate and
 * up, and their biases, so that each group is one matrix. The gaps belong to nobody and stay zero.
 * Names are those of the model's family in Hugging Face's files. Matrices are [outputs, inputs];
 * GPT-2's files hold them the other way round. Read-only after init, then thread-safe.
 *
 * To add a family: a row in config_family.c, and in layout.c its names if they differ. */
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
	PF_TENSOR_HEAD,
	PF_TENSOR_BIAS,
	PF_TENSOR_POSITION
};

struct pf_tensor {
	char name[96];
	uint64_t offset;
	uint32_t rows, cols;      /* [rows, cols]; norms and biases have one row and are vectors on disk */
	enum pf_tensor_role role; /* RESIDUAL: a matrix that ends a residual branch */
	int transposed;           /* 1: [cols, rows] on disk */
	int frozen;               /* 1: not trained; its gradient stays zero */
};

/* What a layer consists of, in the order of the flat array */
enum pf_part {
	PF_PART_NORM1, PF_PART_NORM1_BIAS, /* [D] before attention */
	PF_PART_QKV, PF_PART_QKV_BIAS,     /* [(H + 2 KV) head_dim, D] */
	PF_PART_Q_NORM, PF_PART_K_NORM,    /* [head_dim] */
	PF_PART_OUT, PF_PART_OUT_BIAS,     /* [D, H head_dim] */
	PF_PART_POST1,                     /* [D] after attention */
	PF_PART_NORM2, PF_PART_NORM2_BIAS, /* [D] before the MLP */
	PF_PART_UP, PF_PART_UP_BIAS,       /* [2 F, D], gate above up, or [F, D] without a gate */
	PF_PART_DOWN, PF_PART_DOWN_BIAS,   /* [D, F] */
	PF_PART_POST2,                     /* [D] after the MLP */
	PF_PARTS
};
#define PF_ABSENT UINT64_MAX /* the offset of what a model does not have */

struct pf_layer_layout {
	uint64_t part[PF_PARTS]; /* offsets */
	uint64_t begin, end;     /* of the layer's part of the flat array */
};

struct pf_layout {
	uint64_t size;              /* elements of the flat array */
	uint64_t parameters;        /* without the gaps */
	uint64_t embed, norm, head; /* [V, D], [D], [V, D]; head == embed when tied */
	uint64_t position, norm_bias; /* [max_positions, D], [D]; or PF_ABSENT */
	int frozen_head;            /* the head's tensor is frozen */
	unsigned layers, tensors;
	struct pf_layer_layout *layer;
	struct pf_tensor *tensor; /* in the order of offsets */
};

/* config must have passed pf_config_check. Frees with pf_layout_fini, also after a failure */
int pf_layout_init(struct pf_layout *layout, const struct pf_model_config *config,
                   struct pf_error *error);
void pf_layout_fini(struct pf_layout *layout);
/* Freezes the head; with a tied head that is the embedding, which then has no gradient from either side */
void pf_layout_freeze_head(struct pf_layout *layout);
uint64_t pf_tensor_elements(const struct pf_tensor *tensor);
/* 1 if weight decay applies: matrices, embeddings and head, not norms and biases */
int pf_tensor_decays(const struct pf_tensor *tensor);

/* A flat array as tensors "<prefix><name>" of type F32: declare, then write in the same order; fill
 * reads them back, also from files whose names lack the family's own prefix ("model.", "transformer.") */
int pf_layout_declare(const struct pf_layout *layout, const char *prefix,
                      struct pf_safetensors_writer *writer, struct pf_error *error);
int pf_layout_write(const struct pf_layout *layout, const float *flat,
                    struct pf_safetensors_writer *writer, struct pf_error *error);
/* Fills the tensors that *file holds and sets their seen[tensor] to 1; shapes must match */
int pf_layout_fill(const struct pf_layout *layout, const char *prefix,
                   const struct pf_safetensors *file, float *flat, uint8_t *seen,
                   struct pf_error *error);
/* The same into an array of bfloat16, rounded to nearest even where the file has more */
int pf_layout_fill_half(const struct pf_layout *layout, const struct pf_safetensors *file, uint16_t *half,
                        uint8_t *seen, struct pf_error *error);
/* Tensors [first, first + count) as that type; F32, or F16 and BF16 with rounding to nearest even */
int pf_layout_declare_as(const struct pf_layout *layout, unsigned first, unsigned count, enum pf_dtype type,
                         struct pf_safetensors_writer *writer, struct pf_error *error);
int pf_layout_write_as(const struct pf_layout *layout, unsigned first, unsigned count, enum pf_dtype type,
                       const float *flat, struct pf_safetensors_writer *writer, struct pf_error *error);
/* Bytes of one tensor in a file */
uint64_t pf_tensor_bytes(const struct pf_tensor *tensor, enum pf_dtype type);
/* The tensor that a file calls `name`, with or without the family's prefix, or NULL */
const struct pf_tensor *pf_layout_find(const struct pf_layout *layout, const char *name);
/* The name of a tensor with seen 0, or NULL */
const char *pf_layout_missing(const struct pf_layout *layout, const uint8_t *seen);
#endif
