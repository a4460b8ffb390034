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
	size_t window; /* of these only the last so many; 0: all */
};

/* A norm over rows of dim elements: y = (x - mean) rstd (base + w) + b with rstd = 1 / sqrt(mean (x - mean)^2 + eps) */
struct PF_T(norm) {
	size_t dim;
	const REAL *w, *b; /* b NULL: none */
	REAL eps, base;
	int centered; /* 0: the mean is taken to be 0 */
};

struct PF_T(rows) {
	const char *level;
	/* y may be x */
	void (*norm)(const struct PF_T(norm) *norm, size_t rows, const REAL *x, REAL *y, REAL *rstd);
	/* dx += , dw += , db += (NULL: none); y is formed again, without b */
	void (*norm_grad)(const struct PF_T(norm) *norm, size_t rows, const REAL *x, const REAL *rstd,
	                  const REAL *dy, REAL *dx, REAL *dw, REAL *db, REAL *y);
	void (*rotate)(const struct PF_T(rotation) *rotation);
	/* out[rows, ffn] = silu(gate) up, of gate_up[rows, 2 ffn] */
	void (*glu)(size_t rows, size_t ffn, const REAL *gate_up, REAL *out);
	/* dgate_up from dout; out is formed again */
	void (*glu_grad)(size_t rows, size_t ffn, const REAL *gate_up, const REAL *dout,
	                 REAL *dgate_up, REAL *out);
	/* The same with gelu(gate) up, and out[rows, ffn] = gelu(up) of up[rows, ffn]; gelu by tanh (Hendrycks and
	 * Gimpel 2016, section 2) */
	void (*geglu)(size_t rows, size_t ffn, const REAL *gate_up, REAL *out);
	void (*geglu_grad)(size_t rows, size_t ffn, const REAL *gate_up, const REAL *dout, REAL *dgate_up, REAL *out);
	void (*gelu)(size_t rows, size_t ffn, const REAL *up, REAL *out);
	void (*gelu_grad)(size_t rows, size_t ffn, const REAL *up, const REAL *dout, REAL *dup, REAL *out);
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
	/* x = cap tanh(x / cap); slope[count], the derivative, may be NULL */
	void (*softcap)(size_t count, REAL cap, REAL *x, REAL *slope);
	/* x[i] *= factor[i] */
	void (*multiply)(size_t count, const REAL *factor, REAL *x);
	/* x[i, :] += row and row += sum x[i, :] */
	void (*add_row)(size_t rows, size_t dim, const REAL *row, REAL *x);
	void (*sum_rows)(size_t rows, size_t dim, const REAL *x, REAL *row);
};
