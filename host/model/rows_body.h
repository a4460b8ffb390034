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

static void norm(size_t rows, size_t dim, const REAL *x, const REAL *w, REAL eps, REAL *y,
                 REAL *rstd)
{
	for (size_t i = 0; i < rows; i++, x += dim, y += dim) {
		const REAL r = real_inverse_sqrt(dot(x, x, dim) / (REAL)dim + eps);
		for (size_t j = 0; j < dim; j++)
			y[j] = x[j] * r * w[j];
		rstd[i] = r;
	}
}

static REAL norm_pull(size_t dim, const REAL *x, const REAL *w, const REAL *dy)
{
	REAL s[LANES] = { 0 };
	size_t j = 0;
	for (; j + LANES <= dim; j += LANES)
		for (int l = 0; l < LANES; l++)
			s[l] += dy[j + l] * w[j + l] * x[j + l];
	for (int l = 0; j < dim; j++, l++)
		s[l] += dy[j] * w[j] * x[j];
	return lanes_sum(s);
}

static void norm_grad(size_t rows, size_t dim, const REAL *x, const REAL *w, const REAL *rstd,
                      const REAL *dy, REAL *restrict dx, REAL *restrict dw, REAL *restrict y)
{
	for (size_t i = 0; i < rows; i++, x += dim, dy += dim, dx += dim, y += dim) {
		const REAL r = rstd[i], pull = norm_pull(dim, x, w, dy) * r * r / (REAL)dim;
		for (size_t j = 0; j < dim; j++) {
			const REAL n = x[j] * r;
			dw[j] += dy[j] * n;
			dx[j] += r * (dy[j] * w[j] - x[j] * pull);
			y[j] = n * w[j];
		}
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

static size_t seen(const struct PF_T(scores) *a, size_t row)
{
	const ptrdiff_t columns = a->first + (ptrdiff_t)(row / a->group) + 1;
	return columns < 0 ? 0 : (size_t)columns < a->cols ? (size_t)columns : a->cols;
}

static void softmax(const struct PF_T(scores) *a, REAL *peak, REAL *total, REAL *rescale)
{
	for (size_t i = 0; i < a->rows; i++) {
		const size_t columns = seen(a, i);
		REAL *s = a->s + i * a->cols;
		const REAL before = peak[i], now = highest(s, columns, before);
		for (size_t j = 0; j < columns; j++)
			s[j] = real_exp(s[j] - now);
		for (size_t j = columns; j < a->cols; j++)
			s[j] = 0;
		rescale[i] = before == now ? 1 : real_exp(before - now);
		total[i] = total[i] * rescale[i] + sum(s, columns);
		peak[i] = now;
	}
}

static void softmax_grad(const struct PF_T(scores) *a, const REAL *peak, const REAL *inverse_sum,
                         const REAL *delta, REAL *restrict ds)
{
	for (size_t i = 0; i < a->rows; i++, ds += a->cols) {
		const size_t columns = seen(a, i);
		const REAL high = peak[i], inverse = inverse_sum[i], less = delta[i];
		REAL *restrict s = a->s + i * a->cols;
		for (size_t j = 0; j < columns; j++) {
			s[j] = real_exp(s[j] - high) * inverse;
			ds[j] = s[j] * (ds[j] - less);
		}
		for (size_t j = columns; j < a->cols; j++)
			s[j] = ds[j] = 0;
	}
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
	ROWS_LEVEL, norm, norm_grad, rotate, glu, glu_grad, softmax, softmax_grad, scale, dots,
};
