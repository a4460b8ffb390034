/* cpu.h: the words inside backend `cpu`.
 *
 * logprob, logit_grad and the row work of the fused head exist once per instruction set (logprob.c, logit_grad.c,
 * linear_scan.c, linear_dz.c, linear_operand.c, compiled with different target flags); the products of the fused head
 * are BLAS's (linear.c), but those of MXINT8, the other kernels plain C. All of them work on a range of rows, sequences
 * or everything, need no lock and keep no state; cpu.c spreads row ranges over threads. Rows never share a sum, so
 * neither the number of threads nor the split changes a bit; the instruction set does, within the bounds that
 * tests/cpu.c states. */
#ifndef PF_CPU_H
#define PF_CPU_H
#include <math.h>
#include <stddef.h>
#include "prefpga/internal/abi.h"

struct pf_cpu_logprob {
	const char    *z;              /* [T, V], rows `stride` bytes apart, each on a 64-byte boundary */
	const int32_t *target;
	struct pf_row *out;
	size_t         stride;
	uint32_t       vocab, flags;
	int            bf16;
};
struct pf_cpu_logit_grad {
	const char          *z;
	const int32_t       *target;
	const float         *coef;
	const struct pf_row *row;
	char                *dz;       /* may be z */
	size_t               stride;
	uint32_t             vocab;
	int                  bf16;
	int                  stream;   /* 1: dz is not wanted in cache */
};

/* ---- the fused head: linear_logprob, linear_grad ---- */
struct pf_cpu_form {                   /* raw logit + bias to logit: scale, softcap (0: none), 1 / temperature */
	float scale, softcap, inverse_temperature;
};
enum pf_cpu_format { PF_CPU_F32, PF_CPU_BF16, PF_CPU_MXINT8 };  /* of hidden, W and dhidden */
struct pf_cpu_linear {
	enum pf_cpu_format   format;
	const char          *hidden;   /* [T, depth], rows of row_bytes */
	const char          *weight[PF_WEIGHT_PORTS];  /* rows of the four ports, [V, depth] in all */
	size_t               row_bytes;
	const float         *bias;     /* [V] or NULL */
	const int32_t       *target;
	struct pf_row       *row;      /* [T]: written by logprob, read by grad */
	struct pf_shard     *shard;    /* [T]: written by logprob instead of row, or NULL */
	float               *raw;      /* [T, raw_ld]: products alone, or NULL; port p from column p raw_ld / 4 on */
	size_t               raw_ld;
	const float         *coef;     /* from here on for grad */
	char                *dhidden;
	float               *dweight[PF_WEIGHT_PORTS]; /* [0] NULL: frozen */
	float               *dbias;    /* or NULL */
	uint32_t             rows, depth, vocab;       /* depth: elements of a row, padding included */
	int                  stats, add;
	float                zloss, entropy;
	struct pf_filtered  *filtered; /* [T], or NULL: no filter; turns add to it */
	float                filter;
	struct pf_cpu_form   form;
};
/* What is known of a token after some of the vocabulary: exp(z) 2^-base without the target, see scan.h */
struct pf_cpu_part {
	double   sum, square, moment, logits;
	float    max, min, shift, target;      /* target: its logit, or -inf while it has not passed */
	int32_t  base;
	uint32_t top;                          /* smallest index of max */
};
/* Rows [token, token + tokens) x words [word, word + words) of raw logits, `ld` floats from row to row, on 64 bytes */
struct pf_cpu_tile {
	const struct pf_cpu_linear *head;
	float                      *raw;
	size_t                      ld;
	uint32_t                    token, tokens, word, words;
	struct pf_cpu_part         *part;      /* [tokens]: scanned words are added to them */
};
enum { PF_CPU_TILE_TOKENS = 512, PF_CPU_TILE_WORDS = 512 };    /* most of a tile; words a multiple of 64 */
/* raw[tokens, words] of MXINT8 rows; room is the caller's */
enum { PF_CPU_MX_CHUNK = 8 };
struct pf_cpu_mx_room {
	int16_t pair[PF_CPU_MX_CHUNK * PF_MX_BLOCK / 2][PF_CPU_TILE_WORDS][2];
	int32_t exponent[PF_CPU_MX_CHUNK][PF_CPU_TILE_WORDS];
};
struct pf_cpu_mx {
	const uint8_t         *hidden, *weight;
	size_t                 row_bytes, elements;    /* exponents lie behind the elements of a row */
	uint32_t               tokens, words;
	float                 *raw;
	size_t                 ld;
	struct pf_cpu_mx_room *room;
};
#define PF_CPU_PART_NONE { .max = -INFINITY, .min = INFINITY, .target = -INFINITY }

struct pf_cpu_level {
	const char *name;
	int       (*present)(void);
	void      (*logprob)(const struct pf_cpu_logprob *job, uint32_t begin, uint32_t end);
	void      (*logit_grad)(const struct pf_cpu_logit_grad *job, uint32_t begin, uint32_t end);
	void      (*tile_scan)(const struct pf_cpu_tile *tile);
	/* Records of tokens [begin, end) from `parts` parts each, part i of token t at part[i * stride + t - begin] */
	void      (*tile_finish)(const struct pf_cpu_linear *head, const struct pf_cpu_part *part, uint32_t parts,
	                         size_t stride, uint32_t begin, uint32_t end);
	/* dz over the raw logits; columns up to a multiple of 16 become 0. Whether the filter kept any of it */
	int       (*tile_dz)(const struct pf_cpu_tile *tile, float *dz, size_t ld);
	/* bf16 rows `pitch` elements apart to fp32 [rows, cols]; and back, to nearest even */
	void      (*widen)(const uint16_t *from, size_t pitch, uint32_t rows, uint32_t cols, float *to);
	void      (*narrow)(const float *from, size_t count, uint16_t *to);
	void      (*mx_product)(const struct pf_cpu_mx *job);
};
/* Levels built into this library, the fastest first; each L(name) has an object in CMakeLists.txt */
#if defined(__x86_64__)
#define PF_CPU_LEVELS(L) L(avx512) L(avx2) L(baseline)
#else
#define PF_CPU_LEVELS(L) L(baseline)
#endif
#define PF_CPU_PASTE_(a, b) a##_##b
#define PF_CPU_PASTE(a, b) PF_CPU_PASTE_(a, b)
#define PF_CPU_PROTOTYPES(level) \
	void pf_cpu_logprob_##level(const struct pf_cpu_logprob *job, uint32_t begin, uint32_t end); \
	void pf_cpu_logit_grad_##level(const struct pf_cpu_logit_grad *job, uint32_t begin, uint32_t end); \
	void pf_cpu_tile_scan_##level(const struct pf_cpu_tile *tile); \
	void pf_cpu_tile_finish_##level(const struct pf_cpu_linear *head, const struct pf_cpu_part *part, \
	                                uint32_t parts, size_t stride, uint32_t begin, uint32_t end); \
	int  pf_cpu_tile_dz_##level(const struct pf_cpu_tile *tile, float *dz, size_t ld); \
	void pf_cpu_widen_##level(const uint16_t *from, size_t pitch, uint32_t rows, uint32_t cols, float *to); \
	void pf_cpu_narrow_##level(const float *from, size_t count, uint16_t *to); \
	void pf_cpu_mx_product_##level(const struct pf_cpu_mx *job);
PF_CPU_LEVELS(PF_CPU_PROTOTYPES)

/* The whole launch; products are single-threaded BLAS calls in turns of the pool. 0 or -ENOMEM */
struct pf_cpu_pool;
int pf_cpu_linear_logprob(const struct pf_cpu_level *level, struct pf_cpu_pool *pool, const struct pf_cpu_linear *head);
int pf_cpu_linear_grad(const struct pf_cpu_level *level, struct pf_cpu_pool *pool, const struct pf_cpu_linear *head);

/* ---- products (linear_product.c) ---- */
struct pf_cpu_words { uint32_t port, first, words; };          /* words [first, first + words) of one port */
struct pf_cpu_dz { const float *dz; size_t ld; uint32_t tokens; };
/* Memory that a product wants for operands that are not fp32 */
size_t pf_cpu_product_room(const struct pf_cpu_linear *head);
/* raw[tokens, words] = hidden weight^T, of one tile at most */
void pf_cpu_product(const struct pf_cpu_level *level, const struct pf_cpu_linear *head, uint32_t token, uint32_t tokens,
                    const struct pf_cpu_words *words, float *raw, size_t ld, void *room);
/* dhidden[tokens, depth] = beta dhidden + dz weight[words]: of one tile's tokens at most. 0 or -ENOMEM */
int pf_cpu_product_back(const struct pf_cpu_level *level, const struct pf_cpu_linear *head,
                        const struct pf_cpu_words *from, const struct pf_cpu_dz *dz, float beta, float *dhidden);
/* Element `column` of row `row` of a bf16 matrix with the head's rows */
const uint16_t *pf_cpu_half(const char *matrix, const struct pf_cpu_linear *head, size_t row, uint32_t column);

/* What is known of token t after the shard's whole vocabulary, as kernels say it */
void pf_cpu_shard(const struct pf_cpu_linear *head, const struct pf_cpu_part *all, uint32_t t, struct pf_shard *out);

/* ---- the head's optimizer: head_adamw, head_norm ---- */
struct pf_cpu_adamw {
	const float *dweight[PF_WEIGHT_PORTS];
	float       *weight[PF_WEIGHT_PORTS], *moment1[PF_WEIGHT_PORTS], *moment2[PF_WEIGHT_PORTS];
	double      *square;           /* [4], of head_norm, which looks at dweight alone */
	uint32_t     vocab, depth;     /* depth: elements of a row */
	float        beta1, beta2, rest1, rest2, grad, rate, root, epsilon, keep;
};
void pf_cpu_head_adamw(struct pf_cpu_pool *pool, const struct pf_cpu_adamw *adamw);
void pf_cpu_head_norm(struct pf_cpu_pool *pool, const struct pf_cpu_adamw *adamw);

/* One sequence */
void pf_cpu_seq_sum(const struct pf_row *row, uint32_t rows, const struct pf_span *span, struct pf_seq *out);
void pf_cpu_coef(const struct pf_item_out *item, const struct pf_span *span, float *out, uint32_t rows, uint32_t seqs,
                 float tail);

struct pf_cpu_pref {
	const double         *par;
	const uint32_t       *prog;
	const struct pf_item *item;
	const uint32_t       *group;
	struct pf_item_out   *out;
	uint32_t              words, items, groups;
};
/* Returns 0 or -ENOMEM; a malformed program shows in the items' statuses */
int pf_cpu_pref(const struct pf_cpu_pref *job);
#endif
