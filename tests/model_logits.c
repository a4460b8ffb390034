/* Products cut into tiles, and the head forward and backward, against straight loops. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "cmocka.h"
#include "host/model/logits.h"
#include "model_naive.h"

static double *noise(size_t count, unsigned seed)
{
	double *x = malloc((count + 1) * sizeof *x);
	for (size_t i = 0; i < count; i++)
		x[i] = naive_random(&seed);
	return x;
}

/* m and n around the tiles' edges, every transposition, strides wider than the rows, sums onto what
 * is there */
static void product(int ta, int tb, size_t m, size_t n, size_t k)
{
	const size_t lda = (ta ? m : k) + 1, ldb = (tb ? k : n) + 2, ldc = n + 3;
	double *a = noise((ta ? k : m) * lda, 1), *b = noise((tb ? n : k) * ldb, 2),
	       *c = noise(m * ldc, 3);
	double *wanted = malloc((m * ldc + 1) * sizeof *wanted);
	memcpy(wanted, c, m * ldc * sizeof *c);
	for (size_t i = 0; i < m; i++)
		for (size_t j = 0; j < n; j++) {
			double sum = 0;
			for (size_t l = 0; l < k; l++)
				sum += a[ta ? l * lda + i : i * lda + l] *
				       b[tb ? j * ldb + l : l * ldb + j];
			wanted[i * ldc + j] = 0.5 * wanted[i * ldc + j] - 2 * sum;
		}
	const struct pf_product_f64 p = { ta, tb, m, n, k, -2, 0.5, a, b, c, lda, ldb, ldc };
	pf_matmul_f64(2, &p);
	for (size_t i = 0; i < m * ldc; i++)
		if (!(fabs(c[i] - wanted[i]) <= 1e-15 * (double)(k + 4)))
			fail_msg("%d %d %zu %zu %zu: element %zu", ta, tb, m, n, k, i);
	free(a);
	free(b);
	free(c);
	free(wanted);
}

static void test_products(void **state)
{
	static const size_t sizes[][3] = { { 1, 1, 1 },     { 255, 3, 7 },  { 256, 512, 5 },
	                                   { 257, 513, 4 }, { 3, 1100, 2 }, { 0, 5, 3 },
	                                   { 600, 1, 9 } };
	(void)state;
	for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
		for (int t = 0; t < 4; t++)
			product(t & 1, t >> 1, sizes[i][0], sizes[i][1], sizes[i][2]);
}

/* dz = any, so the head's gradient is linear: check the three products and that columns past V stay
 */
static void test_head(void **state)
{
	enum { T = 9, V = 530, D = 12, S = 544 };
	const struct pf_head_shape_f64 shape = { T, V, D, S };
	double *hidden = noise(T * D, 1), *weight = noise(V * D, 2), *z = noise(T * S, 3),
	       *dz = noise(T * S, 4);
	double *dhidden = noise(T * D, 5), *dweight = noise(V * D, 6), *before = noise(V * D, 6),
	       *rest = noise(T * S, 3);
	(void)state;
	pf_logits_f64(2, &shape, hidden, weight, z);
	pf_logits_grad_f64(2, &shape, dz, hidden, weight, dhidden, dweight);
	for (int t = 0; t < T; t++)
		for (int i = 0; i < S; i++) {
			double sum = 0;
			for (int j = 0; i < V && j < D; j++)
				sum += hidden[t * D + j] * weight[i * D + j];
			assert_true(fabs(z[t * S + i] - (i < V ? sum : rest[t * S + i])) <= 1e-13);
		}
	for (int j = 0; j < D; j++) {
		for (int t = 0; t < T; t++) {
			double sum = 0;
			for (int i = 0; i < V; i++)
				sum += dz[t * S + i] * weight[i * D + j];
			assert_true(fabs(dhidden[t * D + j] - sum) <= 1e-12);
		}
		for (int i = 0; i < V; i++) {
			double sum = before[i * D + j];
			for (int t = 0; t < T; t++)
				sum += dz[t * S + i] * hidden[t * D + j];
			assert_true(fabs(dweight[i * D + j] - sum) <= 1e-13);
		}
	}
	memcpy(before, dweight, V * D * sizeof *before);
	pf_logits_grad_f64(1, &shape, dz, hidden, weight, dhidden, NULL);
	assert_memory_equal(before, dweight, V * D * sizeof *before);
	double *all[] = { hidden, weight, z, dz, dhidden, dweight, before, rest };
	for (size_t i = 0; i < sizeof all / sizeof *all; i++)
		free(all[i]);
}

static void test_rows(void **state)
{
	static const uint32_t row[] = { 4, 0, 4 };
	float from[15], to[9], back[15] = { 0 };
	(void)state;
	for (int i = 0; i < 15; i++)
		from[i] = (float)i;
	pf_rows_gather(from, 3, row, 3, to);
	assert_memory_equal(to, from + 12, 3 * sizeof *to);
	assert_memory_equal(to + 3, from, 3 * sizeof *to);
	pf_rows_scatter(to, 3, row, 3, back);
	assert_true(back[12] == 24.0f && back[14] == 28.0f && back[1] == 1.0f && back[5] == 0.0f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_products),
		cmocka_unit_test(test_head),
		cmocka_unit_test(test_rows),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
