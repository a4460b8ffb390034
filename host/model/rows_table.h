/* rows_table.h: struct pf_rows for one element type; included by rows.h, hence without a guard of
 * its own. */

/* Where rotary positions are applied: rows of `heads` vectors of 2 half elements each */
struct PF_T(rotation) {
	size_t rows, heads, half;
	const REAL *from; /* row i begins at from + i from_stride */
	REAL *to;
	size_t from_stride, to_stride;
	const uint32_t *position; /* [rows] */
	const REAL *table;        /* [positions, 2 half]: cosines, then sines */
	REAL sign;                /* 1: rotate, -1: rotate back */
};

/* A block of attention scores: rows are (token, head of the group), columns are keys */
struct PF_T(scores) {
	size_t rows, cols, group;
	ptrdiff_t first; /* row i sees columns 0 .. first + i / group */
	REAL *s; /* [rows, cols] scores in, weights out; what a row does not see becomes 0 */
};

struct PF_T(rows) {
	const char *level;
	/* y = x rstd w with rstd = 1 / sqrt(mean x^2 + eps), over rows of dim elements */
	void (*norm)(size_t rows, size_t dim, const REAL *x, const REAL *w, REAL eps, REAL *y,
	             REAL *rstd);
	/* dx += , dw += ; y is formed again */
	void (*norm_grad)(size_t rows, size_t dim, const REAL *x, const REAL *w, const REAL *rstd,
	                  const REAL *dy, REAL *dx, REAL *dw, REAL *y);
	void (*rotate)(const struct PF_T(rotation) *rotation);
	/* out[rows, ffn] = silu(gate) up, of gate_up[rows, 2 ffn] */
	void (*glu)(size_t rows, size_t ffn, const REAL *gate_up, REAL *out);
	/* dgate_up from dout; out is formed again */
	void (*glu_grad)(size_t rows, size_t ffn, const REAL *gate_up, const REAL *dout,
	                 REAL *dgate_up, REAL *out);
	/* s = exp(s - peak) for the running peak[rows] and sum[rows] of an online softmax;
	 * rescale[rows]: what earlier results are to be multiplied by */
	void (*softmax)(const struct PF_T(scores) *scores, REAL *peak, REAL *sum, REAL *rescale);
	/* s = exp(s - peak) inverse_sum, ds = s (ds - delta) */
	void (*softmax_grad)(const struct PF_T(scores) *scores, const REAL *peak,
	                     const REAL *inverse_sum, const REAL *delta, REAL *ds);
	/* x[i, :] *= factor[i] */
	void (*scale)(size_t rows, size_t dim, const REAL *factor, REAL *x);
	/* out[i] = sum a[i, :] b[i, :] */
	void (*dots)(size_t rows, size_t dim, const REAL *a, const REAL *b, REAL *out);
};
