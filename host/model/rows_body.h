/* rows_body.h: the functions of rows.h for one element type and one instruction set level. The
 * including file defines BODY_BITS and ROWS_TABLE, the name of the table it defines. Deliberately
 * without an include guard. */
#include <math.h>
#include "prefpga/internal/kmath.h"
#include "prefpga/internal/kmath64.h"
#define REAL_BITS BODY_BITS
#include "real.h"

enum { LANES = 16 };

static inline REAL real_exp(REAL x)
{
#if REAL_BITS == 64
	return pf_exp64(x);
#else
	return pf_exp(x);
#endif
}

static inline REAL real_tanh(REAL x)
{
#if REAL_BITS == 64
	return tanh(x);
#else
	const float e = pf_expm1(-2.0f * fabsf(x)); /* -1 .. 0 */
	return copysignf(-e / (e + 2.0f), x);
#endif
}

static inline REAL real_inverse_sqrt(REAL x)
{
#if REAL_BITS == 64
	return 1.0 / sqrt(x);
#else
	return 1.0f / sqrtf(x);
#endif
}

static inline REAL lanes_sum(REAL s[LANES])
{
	for (int width = LANES / 2; width > 0; width /= 2)
		for (int l = 0; l < width; l++)
			s[l] += s[l + width];
	return s[0];
}

static inline REAL dot(const REAL *a, const REAL *b, size_t count)
{
	REAL s[LANES] = { 0 };
	size_t i = 0;
	for (; i + LANES <= count; i += LANES)
		for (int l = 0; l < LANES; l++)
			s[l] += a[i + l] * b[i + l];
	for (int l = 0; i < count; i++, l++)
		s[l] += a[i] * b[i];
	return lanes_sum(s);
}

static inline REAL sum(const REAL *a, size_t count)
{
	REAL s[LANES] = { 0 };
	size_t i = 0;
	for (; i + LANES <= count; i += LANES)
		for (int l = 0; l < LANES; l++)
			s[l] += a[i + l];
	for (int l = 0; i < count; i++, l++)
		s[l] += a[i];
	return lanes_sum(s);
}

static inline REAL highest(const REAL *a, size_t count, REAL start)
{
	REAL m[LANES];
	size_t i = 0;
	for (int l = 0; l < LANES; l++)
		m[l] = start;
	for (; i + LANES <= count; i += LANES)
		for (int l = 0; l < LANES; l++)
			m[l] = a[i + l] > m[l] ? a[i + l] : m[l];
	for (int l = 0; i < count; i++, l++)
		m[l] = a[i] > m[l] ? a[i] : m[l];
	for (int l = 1; l < LANES; l++)
		m[0] = m[l] > m[0] ? m[l] : m[0];
	return m[0];
}

static REAL square(const REAL *x, REAL mean, size_t count)
{
	REAL s[LANES] = { 0 };
	size_t i = 0;
	for (; i + LANES <= count; i += LANES)
		for (int l = 0; l < LANES; l++)
			s[l] += (x[i + l] - mean) * (x[i + l] - mean);
	for (int l = 0; i < count; i++, l++)
		s[l] += (x[i] - mean) * (x[i] - mean);
	return lanes_sum(s);
}

static void norm_centered(const struct PF_T(norm) *n, size_t rows, const REAL *x, REAL *y, REAL *rstd)
{
	const size_t dim = n->dim;
	for (size_t i = 0; i < rows; i++, x += dim, y += dim) {
		const REAL mean = sum(x, dim) / (REAL)dim;
		const REAL r = real_inverse_sqrt(square(x, mean, dim) / (REAL)dim + n->eps);
		for (size_t j = 0; j < dim; j++)
			y[j] = (x[j] - mean) * r * (n->base + n->w[j]) + (n->b ? n->b[j] : 0);
		rstd[i] = r;
	}
}

static void norm(const struct PF_T(norm) *n, size_t rows, const REAL *x, REAL *y, REAL *rstd)
{
	const size_t dim = n->dim;
	const REAL *w = n->w, base = n->base;
	if (n->centered) {
		norm_centered(n, rows, x, y, rstd);
		return;
	}
	for (size_t i = 0; i < rows; i++, x += dim, y += dim) {
		const REAL r = real_inverse_sqrt(dot(x, x, dim) / (REAL)dim + n->eps);
		for (size_t j = 0; j < dim; j++)
			y[j] = x[j] * r * (base + w[j]);
		rstd[i] = r;
	}
}

/* Sum of dy (base + w) (x - mean) */
static REAL norm_pull(const struct PF_T(norm) *n, const REAL *x, REAL mean, const REAL *dy)
{
	const size_t dim = n->dim;
	const REAL *w = n->w, base = n->base;
	REAL s[LANES] = { 0 };
	size_t j = 0;
	for (; j + LANES <= dim; j += LANES)
		for (int l = 0; l < LANES; l++)
			s[l] += dy[j + l] * (base + w[j + l]) * (x[j + l] - mean);
	for (int l = 0; j < dim; j++, l++)
		s[l] += dy[j] * (base + w[j]) * (x[j] - mean);
	return lanes_sum(s);
}

/* Sum of dy (base + w) */
static REAL norm_lift(const struct PF_T(norm) *n, const REAL *dy)
{
	REAL s[LANES] = { 0 };
	size_t j = 0;
	for (; j + LANES <= n->dim; j += LANES)
		for (int l = 0; l < LANES; l++)
			s[l] += dy[j + l] * (n->base + n->w[j + l]);
	for (int l = 0; j < n->dim; j++, l++)
		s[l] += dy[j] * (n->base + n->w[j]);
	return lanes_sum(s);
}

static void norm_grad(const struct PF_T(norm) *n, size_t rows, const REAL *x, const REAL *rstd, const REAL *dy,
                      REAL *restrict dx, REAL *restrict dw, REAL *restrict db, REAL *restrict y)
{
	const size_t dim = n->dim;
	const REAL *w = n->w, base = n->base;
	for (size_t i = 0; i < rows; i++, x += dim, dy += dim, dx += dim, y += dim) {
		const REAL r = rstd[i], mean = n->centered ? sum(x, dim) / (REAL)dim : 0;
		const REAL pull = norm_pull(n, x, mean, dy) * r * r / (REAL)dim;
		const REAL lift = n->centered ? norm_lift(n, dy) / (REAL)dim : 0;
		for (size_t j = 0; j < dim; j++) {
			const REAL normed = (x[j] - mean) * r;
			dw[j] += dy[j] * normed;
			dx[j] += r * (dy[j] * (base + w[j]) - lift - (x[j] - mean) * pull);
			y[j] = normed * (base + w[j]);
		}
		for (size_t j = 0; db && j < dim; j++)
			db[j] += dy[j];
	}
}

static void rotate_row(const struct PF_T(rotation) *a, const REAL *restrict from, REAL *restrict to,
                       const REAL *restrict table)
{
	const size_t half = a->half;
	for (size_t h = 0; h < a->heads; h++, from += 2 * half, to += 2 * half)
		for (size_t j = 0; j < half; j++) {
			const REAL c = table[j], s = a->sign * table[half + j];
			to[j] = from[j] * c - from[half + j] * s;
			to[half + j] = from[half + j] * c + from[j] * s;
		}
}

static void rotate(const struct PF_T(rotation) *a)
{
	for (size_t i = 0; i < a->rows; i++)
		rotate_row(a, a->from + i * a->from_stride, a->to + i * a->to_stride,
		           a->table + a->position[i] * 2 * a->half);
}

static void glu(size_t rows, size_t ffn, const REAL *gate_up, REAL *restrict out)
{
	for (size_t i = 0; i < rows; i++, gate_up += 2 * ffn, out += ffn)
		for (size_t j = 0; j < ffn; j++)
			out[j] = gate_up[j] / (1 + real_exp(-gate_up[j])) * gate_up[ffn + j];
}

static void glu_grad(size_t rows, size_t ffn, const REAL *gate_up, const REAL *dout,
                     REAL *restrict dgate_up, REAL *restrict out)
{
	for (size_t i = 0; i < rows;
	     i++, gate_up += 2 * ffn, dgate_up += 2 * ffn, dout += ffn, out += ffn)
		for (size_t j = 0; j < ffn; j++) {
			const REAL g = gate_up[j], u = gate_up[ffn + j], s = 1 / (1 + real_exp(-g));
			dgate_up[j] = dout[j] * u * s * (1 + g * (1 - s));
			dgate_up[ffn + j] = dout[j] * g * s;
			out[j] = g * s * u;
		}
}

#define GELU_ROOT ((REAL)0.79788456080286535588) /* sqrt(2 / pi) */
#define GELU_CUBE ((REAL)0.044715)

/* (1 + tanh u) / 2 is the logistic function of 2 u */
static inline REAL gelu_gate(REAL x)
{
	return 1 / (1 + real_exp(-2 * GELU_ROOT * (x + GELU_CUBE * x * x * x)));
}

static inline REAL gelu_slope(REAL x, REAL gate)
{
	return gate + x * gate * (1 - gate) * 2 * GELU_ROOT * (1 + 3 * GELU_CUBE * x * x);
}

static void geglu(size_t rows, size_t ffn, const REAL *gate_up, REAL *restrict out)
{
	for (size_t i = 0; i < rows; i++, gate_up += 2 * ffn, out += ffn)
		for (size_t j = 0; j < ffn; j++)
			out[j] = gate_up[j] * gelu_gate(gate_up[j]) * gate_up[ffn + j];
}

static void geglu_grad(size_t rows, size_t ffn, const REAL *gate_up, const REAL *dout,
                       REAL *restrict dgate_up, REAL *restrict out)
{
	for (size_t i = 0; i < rows;
	     i++, gate_up += 2 * ffn, dgate_up += 2 * ffn, dout += ffn, out += ffn)
		for (size_t j = 0; j < ffn; j++) {
			const REAL g = gate_up[j], u = gate_up[ffn + j], s = gelu_gate(g);
			dgate_up[j] = dout[j] * u * gelu_slope(g, s);
			dgate_up[ffn + j] = dout[j] * g * s;
			out[j] = g * s * u;
		}
}

static void gelu(size_t rows, size_t ffn, const REAL *up, REAL *restrict out)
{
	for (size_t i = 0; i < rows * ffn; i++)
		out[i] = up[i] * gelu_gate(up[i]);
}

static void gelu_grad(size_t rows, size_t ffn, const REAL *up, const REAL *dout, REAL *restrict dup,
                      REAL *restrict out)
{
	for (size_t i = 0; i < rows * ffn; i++) {
		const REAL s = gelu_gate(up[i]);
		dup[i] = dout[i] * gelu_slope(up[i], s);
		out[i] = up[i] * s;
	}
}

/* Columns [low, high) that a row sees */
struct sight {
	size_t low, high;
};

static struct sight seen(const struct PF_T(scores) *a, size_t row)
{
	const ptrdiff_t columns = a->first + (ptrdiff_t)(row / a->group) + 1,
	                hidden = a->window ? columns - (ptrdiff_t)a->window : 0;
	struct sight s = { 0, columns < 0 ? 0 : (size_t)columns < a->cols ? (size_t)columns : a->cols };
	if (hidden > 0)
		s.low = (size_t)hidden < s.high ? (size_t)hidden : s.high;
	return s;
}

static void softmax(const struct PF_T(scores) *a, REAL *peak, REAL *total, REAL *rescale)
{
	for (size_t i = 0; i < a->rows; i++) {
		const struct sight c = seen(a, i);
		REAL *s = a->s + i * a->cols;
		const REAL before = peak[i], now = highest(s + c.low, c.high - c.low, before);
		for (size_t j = 0; j < c.low; j++)
			s[j] = 0;
		for (size_t j = c.low; j < c.high; j++)
			s[j] = real_exp(s[j] - now);
		for (size_t j = c.high; j < a->cols; j++)
			s[j] = 0;
		rescale[i] = before == now ? 1 : real_exp(before - now);
		total[i] = total[i] * rescale[i] + sum(s + c.low, c.high - c.low);
		peak[i] = now;
	}
}

static void softmax_grad(const struct PF_T(scores) *a, const REAL *peak, const REAL *inverse_sum,
                         const REAL *delta, REAL *restrict ds)
{
	for (size_t i = 0; i < a->rows; i++, ds += a->cols) {
		const struct sight c = seen(a, i);
		const REAL high = peak[i], inverse = inverse_sum[i], less = delta[i];
		REAL *restrict s = a->s + i * a->cols;
		for (size_t j = 0; j < c.low; j++)
			s[j] = ds[j] = 0;
		for (size_t j = c.low; j < c.high; j++) {
			s[j] = real_exp(s[j] - high) * inverse;
			ds[j] = s[j] * (ds[j] - less);
		}
		for (size_t j = c.high; j < a->cols; j++)
			s[j] = ds[j] = 0;
	}
}

static void softcap(size_t count, REAL cap, REAL *x, REAL *slope)
{
	for (size_t i = 0; i < count; i++) {
		const REAL t = real_tanh(x[i] / cap);
		x[i] = cap * t;
		if (slope)
			slope[i] = (1 - t) * (1 + t);
	}
}

static void multiply(size_t count, const REAL *restrict factor, REAL *restrict x)
{
	for (size_t i = 0; i < count; i++)
		x[i] *= factor[i];
}

static void add_row(size_t rows, size_t dim, const REAL *restrict row, REAL *restrict x)
{
	for (size_t i = 0; i < rows; i++, x += dim)
		for (size_t j = 0; j < dim; j++)
			x[j] += row[j];
}

static void sum_rows(size_t rows, size_t dim, const REAL *restrict x, REAL *restrict row)
{
	for (size_t i = 0; i < rows; i++, x += dim)
		for (size_t j = 0; j < dim; j++)
			row[j] += x[j];
}

static void scale(size_t rows, size_t dim, const REAL *factor, REAL *x)
{
	for (size_t i = 0; i < rows; i++, x += dim)
		for (size_t j = 0; j < dim; j++)
			x[j] *= factor[i];
}

static void dots(size_t rows, size_t dim, const REAL *a, const REAL *b, REAL *out)
{
	for (size_t i = 0; i < rows; i++)
		out[i] = dot(a + i * dim, b + i * dim, dim);
}

const struct PF_T(rows) ROWS_TABLE = {
	ROWS_LEVEL, norm,         norm_grad, rotate, glu,     glu_grad, geglu,   geglu_grad, gelu,
	gelu_grad,  softmax,      softmax_grad, scale,  dots, softcap,  multiply, add_row,   sum_rows,
};
