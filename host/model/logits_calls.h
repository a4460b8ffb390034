/* logits_calls.h: the functions of logits.h for one element type; included by logits.h, hence
 * without a guard. */

/* C[m, n]; op(A) is [m, k], op(B) is [k, n]; ld: elements from row to row as stored */
struct PF_T(product) {
	int transpose_a, transpose_b;
	size_t m, n, k;
	REAL alpha, beta;
	const REAL *a, *b;
	REAL *c;
	size_t lda, ldb, ldc;
};
void PF_T(matmul)(unsigned threads, const struct PF_T(product) *product);

/* The head: hidden[T, D], weight[V, D], z and dz[T, stride >= V] */
struct PF_T(head_shape) {
	size_t tokens, vocab, dim, stride;
};
/* z = hidden weight^T; columns from V on are not touched */
void PF_T(logits)(unsigned threads, const struct PF_T(head_shape) *shape, const REAL *hidden,
                  const REAL *weight, REAL *z);
/* dhidden = dz weight; dweight += dz^T hidden, or NULL for a frozen head. With a tied head, dweight
 * is the gradient of the embedding, and the body's backward adds to the same */
void PF_T(logits_grad)(unsigned threads, const struct PF_T(head_shape) *shape, const REAL *dz,
                       const REAL *hidden, const REAL *weight, REAL *dhidden, REAL *dweight);

/* The cap of a head's logits: z = cap tanh(z / cap). The other way: z must be the logits before the cap and is spent,
 * dz is multiplied by the derivative */
void PF_T(logits_cap)(unsigned threads, const struct PF_T(head_shape) *shape, double cap, REAL *z);
void PF_T(logits_cap_grad)(unsigned threads, const struct PF_T(head_shape) *shape, double cap, REAL *z, REAL *dz);

/* to[i, :] = from[row[i], :] and its reverse, to[row[i], :] += from[i, :], over rows of dim
 * elements */
void PF_T(rows_gather)(const REAL *from, size_t dim, const uint32_t *row, size_t count, REAL *to);
void PF_T(rows_scatter)(const REAL *from, size_t dim, const uint32_t *row, size_t count, REAL *to);
