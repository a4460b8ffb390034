/* Every instruction set level gives the same bits, and these are the formulas' values. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "cmocka.h"
#include "host/model/rows.h"

enum { ROWS = 5, WIDTH_MOST = 77 };

/* Everything the functions write, for one width */
struct result {
	float y[ROWS * WIDTH_MOST], rstd[ROWS], dx[ROWS * WIDTH_MOST], dw[WIDTH_MOST],
	        again[ROWS * WIDTH_MOST];
	float rotated[ROWS * 2 * WIDTH_MOST], back[ROWS * 2 * WIDTH_MOST];
	float glu[ROWS * WIDTH_MOST], dglu[ROWS * 2 * WIDTH_MOST], glu_again[ROWS * WIDTH_MOST];
	float s[ROWS * WIDTH_MOST], peak[ROWS], sum[ROWS], rescale[ROWS], ds[ROWS * WIDTH_MOST],
	        weights[ROWS * WIDTH_MOST];
	float scaled[ROWS * WIDTH_MOST], dots[ROWS];
	float layer[ROWS * WIDTH_MOST], layer_rstd[ROWS], layer_dx[ROWS * WIDTH_MOST], layer_dw[WIDTH_MOST],
	        layer_db[WIDTH_MOST], layer_again[ROWS * WIDTH_MOST], plus[ROWS * WIDTH_MOST], plus_rstd[ROWS];
	float geglu[ROWS * WIDTH_MOST], dgeglu[ROWS * 2 * WIDTH_MOST], geglu_again[ROWS * WIDTH_MOST];
	float gelu[ROWS * WIDTH_MOST], dgelu[ROWS * WIDTH_MOST], gelu_again[ROWS * WIDTH_MOST];
	float capped[ROWS * WIDTH_MOST], slope[ROWS * WIDTH_MOST], sums[WIDTH_MOST], windowed[ROWS * WIDTH_MOST],
	        window_peak[ROWS], window_sum[ROWS];
};

static float a[ROWS * 2 * WIDTH_MOST], b[ROWS * 2 * WIDTH_MOST], w[WIDTH_MOST],
        table[64 * 2 * WIDTH_MOST];
static const uint32_t position[ROWS] = { 0, 1, 2, 17, 63 };

static void fill(float *x, size_t count, unsigned seed, float scale)
{
	for (size_t i = 0; i < count; i++) {
		seed = seed * 1664525u + 1013904223u;
		x[i] = scale * ((float)(seed >> 8) / (1 << 23) - 1.0f);
	}
}

static void run(const struct pf_rows *rows, size_t width, struct result *r)
{
	memset(r, 0, sizeof *r);
	const struct pf_norm plain = { width, w, NULL, 1e-5f, 0, 0 };
	rows->norm(&plain, ROWS, a, r->y, r->rstd);
	rows->norm_grad(&plain, ROWS, a, r->rstd, b, r->dx, r->dw, NULL, r->again);
	struct pf_rotation rotation = { ROWS,      1,         width,    a,     r->rotated,
	                                2 * width, 2 * width, position, table, 1 };
	rows->rotate(&rotation);
	rotation.from = r->rotated;
	rotation.to = r->back;
	rotation.sign = -1;
	rows->rotate(&rotation);
	rows->glu(ROWS, width, a, r->glu);
	rows->glu_grad(ROWS, width, a, b, r->dglu, r->glu_again);
	const struct pf_scores scores = { ROWS, width, 2, (ptrdiff_t)width / 2 - 1, r->s, 0 };
	memcpy(r->s, a, ROWS * width * sizeof *a);
	for (int i = 0; i < ROWS; i++)
		r->peak[i] = i == 1 ? 0.5f : -INFINITY;
	rows->softmax(&scores, r->peak, r->sum, r->rescale);
	const struct pf_scores again = { ROWS, width, 2, (ptrdiff_t)width / 2 - 1, r->weights, 0 };
	memcpy(r->weights, a, ROWS * width * sizeof *a);
	memcpy(r->ds, b, ROWS * width * sizeof *b);
	rows->softmax_grad(&again, r->peak, r->sum, r->rstd, r->ds);
	memcpy(r->scaled, b, ROWS * width * sizeof *b);
	rows->scale(ROWS, width, r->rstd, r->scaled);
	rows->dots(ROWS, width, a, b, r->dots);
}

/* What only some families use */
static void run_more(const struct pf_rows *rows, size_t width, struct result *r)
{
	const struct pf_norm layer = { width, w, table, 1e-5f, 0, 1 }, plus = { width, w, NULL, 1e-5f, 1, 0 };
	const struct pf_scores window = { ROWS, width, 2, (ptrdiff_t)width / 2 - 1, r->windowed, 3 };
	float rescale[ROWS];
	rows->norm(&layer, ROWS, a, r->layer, r->layer_rstd);
	rows->norm_grad(&layer, ROWS, a, r->layer_rstd, b, r->layer_dx, r->layer_dw, r->layer_db, r->layer_again);
	rows->norm(&plus, ROWS, a, r->plus, r->plus_rstd);
	rows->geglu(ROWS, width, a, r->geglu);
	rows->geglu_grad(ROWS, width, a, b, r->dgeglu, r->geglu_again);
	rows->gelu(ROWS, width, a, r->gelu);
	rows->gelu_grad(ROWS, width, a, b, r->dgelu, r->gelu_again);
	memcpy(r->capped, a, ROWS * width * sizeof *a);
	rows->softcap(ROWS * width, 1.5f, r->capped, r->slope);
	rows->sum_rows(ROWS, width, a, r->sums);
	rows->add_row(ROWS, width, w, r->scaled);
	rows->multiply(ROWS * width, a, r->scaled);
	memcpy(r->windowed, a, ROWS * width * sizeof *a);
	for (int i = 0; i < ROWS; i++)
		r->window_peak[i] = -INFINITY;
	rows->softmax(&window, r->window_peak, r->window_sum, rescale);
}

static void test_levels(void **state)
{
	struct result *first = malloc(sizeof *first), *other = malloc(sizeof *other);
	(void)state;
	for (float scale = 0.1f; scale < 1000.0f; scale *= 10.0f)
		for (size_t width = 1; width <= WIDTH_MOST; width++) {
			fill(a, ROWS * 2 * WIDTH_MOST, (unsigned)width, scale);
			run(pf_rows_level(0), width, first);
			run_more(pf_rows_level(0), width, first);
			for (unsigned i = 1; pf_rows_level(i); i++) {
				run(pf_rows_level(i), width, other);
				run_more(pf_rows_level(i), width, other);
				if (memcmp(first, other, sizeof *first) != 0)
					fail_msg("level %s, width %zu, scale %g",
					         pf_rows_level(i)->level, width, scale);
			}
		}
	print_message("best level: %s\n", pf_rows_best()->level);
	free(first);
	free(other);
}

/* A sum of `terms` roundings of values whose magnitudes add up to `size` */
static void near(double got, double wanted, double size)
{
	if (!(fabs(got - wanted) <= 16 * 0x1p-24 * (fabs(wanted) + size)))
		fail_msg("%.9g, wanted %.9g", got, wanted);
}

static void check_norm(const struct result *r, size_t n)
{
	for (size_t i = 0; i < ROWS; i++) {
		double square = 0, pull = 0, size = 0;
		for (size_t j = 0; j < n; j++) {
			const double x = a[i * n + j], term = (double)b[i * n + j] * w[j] * x;
			square += x * x;
			pull += term;
			size += fabs(term);
		}
		const double rstd = 1 / sqrt(square / n + 1e-5);
		near(r->rstd[i], rstd, 0);
		for (size_t j = 0; j < n; j++) {
			const double x = a[i * n + j], own = rstd * b[i * n + j] * w[j],
			             cube = rstd * rstd * rstd / n;
			near(r->y[i * n + j], x * rstd * w[j], 0);
			near(r->again[i * n + j], x * rstd * w[j], 0);
			near(r->dx[i * n + j], own - x * cube * pull,
			     fabs(own) + fabs(x) * cube * size);
		}
	}
}

/* y = (x - mean) rstd w + bias, and the derivative of sum y b */
static void check_layer_norm(const struct result *r, size_t n)
{
	for (size_t i = 0; i < ROWS; i++) {
		double mean = 0, square = 0, size = 0, lift = 0, pull = 0, pulls = 0, lifts = 0;
		for (size_t j = 0; j < n; j++) {
			mean += (double)a[i * n + j] / (double)n;
			size += fabs(a[i * n + j]) / (double)n;
		}
		for (size_t j = 0; j < n; j++)
			square += pow(a[i * n + j] - mean, 2) / (double)n;
		const double rstd = 1 / sqrt(square + 1e-5);
		near(r->layer_rstd[i], rstd, rstd * rstd * rstd * sqrt(square) * size);
		for (size_t j = 0; j < n; j++) {
			const double hat = (a[i * n + j] - mean) * rstd, g = (double)b[i * n + j] * w[j];
			lift += g / (double)n;
			lifts += fabs(g) / (double)n;
			pull += g * hat / (double)n;
			pulls += fabs(g * hat) / (double)n;
		}
		for (size_t j = 0; j < n; j++) {
			const double hat = (a[i * n + j] - mean) * rstd, g = (double)b[i * n + j] * w[j],
			             big = (fabs(a[i * n + j]) + size) * rstd * (1 + rstd * size);
			near(r->layer[i * n + j], hat * w[j] + table[j], big * fabs(w[j]) + fabs(table[j]));
			near(r->layer_again[i * n + j], hat * w[j], big * fabs(w[j]));
			near(r->layer_dx[i * n + j], rstd * (g - lift - hat * pull),
			     rstd * (1 + rstd * size) * (fabs(g) + lifts + big * pulls));
		}
	}
}

static void check_sums(const struct result *r, size_t n)
{
	for (size_t j = 0; j < n; j++) {
		double sum = 0, size = 0, db = 0, dbs = 0;
		for (size_t i = 0; i < ROWS; i++) {
			sum += a[i * n + j];
			size += fabs(a[i * n + j]);
			db += b[i * n + j];
			dbs += fabs(b[i * n + j]);
		}
		near(r->sums[j], sum, size);
		near(r->layer_db[j], db, dbs);
	}
}

static double gelu_of(double x)
{
	return 0.5 * x * (1 + tanh(sqrt(2 / acos(-1.0)) * (x + 0.044715 * x * x * x)));
}

static double gelu_slope_of(double x)
{
	const double k = sqrt(2 / acos(-1.0)), t = tanh(k * (x + 0.044715 * x * x * x));
	return 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * k * (1 + 3 * 0.044715 * x * x);
}

/* The gate (1 + tanh u) / 2 is computed with an error of a few units times 1 + |u| */
static void check_gelu(const struct result *r, size_t n)
{
	for (size_t i = 0; i < ROWS; i++)
		for (size_t j = 0; j < n; j++) {
			const double g = a[i * 2 * n + j], u = a[i * 2 * n + n + j], d = b[i * n + j], x = a[i * n + j];
			const double loose = 1 + fabs(g) + pow(fabs(g), 3), tight = 1 + fabs(x) + pow(fabs(x), 3);
			near(r->geglu[i * n + j], gelu_of(g) * u, fabs(gelu_of(g) * u) * loose);
			near(r->geglu_again[i * n + j], gelu_of(g) * u, fabs(gelu_of(g) * u) * loose);
			near(r->dgeglu[i * 2 * n + j], d * u * gelu_slope_of(g), fabs(d * u) * loose);
			near(r->dgeglu[i * 2 * n + n + j], d * gelu_of(g), fabs(d * gelu_of(g)) * loose);
			near(r->gelu[i * n + j], gelu_of(x), fabs(gelu_of(x)) * tight);
			near(r->gelu_again[i * n + j], gelu_of(x), fabs(gelu_of(x)) * tight);
			near(r->dgelu[i * n + j], d * gelu_slope_of(x), fabs(d) * tight);
			near(r->capped[i * n + j], 1.5 * tanh(x / 1.5), 0);
			near(r->slope[i * n + j], 1 - pow(tanh(x / 1.5), 2), 1);
		}
}

/* Row i sees at most three columns, up to first + i / 2 */
static void check_window(const struct result *r, size_t n)
{
	for (size_t i = 0; i < ROWS; i++) {
		const ptrdiff_t last = (ptrdiff_t)n / 2 - 1 + (ptrdiff_t)i / 2;
		double peak = -INFINITY;
		for (ptrdiff_t j = 0; j < (ptrdiff_t)n; j++)
			if (j <= last && j > last - 3)
				peak = fmax(peak, a[i * n + (size_t)j]);
		for (ptrdiff_t j = 0; j < (ptrdiff_t)n; j++)
			near(r->windowed[i * n + (size_t)j],
			     j <= last && j > last - 3 ? exp(a[i * n + (size_t)j] - peak) : 0.0, 0);
	}
}

static void check_glu(const struct result *r, size_t n)
{
	for (size_t i = 0; i < ROWS; i++)
		for (size_t j = 0; j < n; j++) {
			const double g = a[i * 2 * n + j], u = a[i * 2 * n + n + j],
			             d = b[i * n + j], s = 1 / (1 + exp(-g));
			near(r->glu[i * n + j], g * s * u, 0);
			near(r->glu_again[i * n + j], g * s * u, 0);
			near(r->dglu[i * 2 * n + n + j], d * g * s, 0);
			near(r->dglu[i * 2 * n + j], d * u * s * (1 + g * (1 - s)),
			     fabs(d * u * s) * (1 + fabs(g)));
		}
}

/* Row 1 starts from a peak of 0.5 and an empty sum, the others from nothing; row i sees up to
 * column first + i / 2 */
static void check_softmax(const struct result *r, size_t n)
{
	for (size_t i = 0; i < ROWS; i++) {
		const ptrdiff_t last = (ptrdiff_t)n / 2 - 1 + (ptrdiff_t)i / 2;
		double peak = i == 1 ? 0.5 : -INFINITY, sum = 0;
		for (size_t j = 0; j < n && (ptrdiff_t)j <= last; j++)
			peak = fmax(peak, a[i * n + j]);
		assert_true(r->peak[i] == (float)peak);
		for (size_t j = 0; j < n; j++) {
			const double p = (ptrdiff_t)j <= last ? exp(a[i * n + j] - peak) : 0.0;
			near(r->s[i * n + j], p, 0);
			sum += p;
			const double weight = p * r->sum[i], own = b[i * n + j];
			near(r->weights[i * n + j], weight, 0);
			near(r->ds[i * n + j], weight * (own - r->rstd[i]),
			     weight * (fabs(own) + r->rstd[i]));
		}
		near(r->sum[i], sum, 0);
	}
}

static void check_rotation(const struct result *r, size_t n)
{
	for (size_t i = 0; i < ROWS; i++)
		for (size_t j = 0; j < n; j++) {
			const double x = a[i * 2 * n + j], y = a[i * 2 * n + n + j];
			const double c = table[position[i] * 2 * n + j],
			             s = table[position[i] * 2 * n + n + j];
			near(r->rotated[i * 2 * n + j], x * c - y * s, fabs(x) + fabs(y));
			near(r->rotated[i * 2 * n + n + j], y * c + x * s, fabs(x) + fabs(y));
			near(r->back[i * 2 * n + j], x, fabs(x) + fabs(y));
		}
}

static void test_values(void **state)
{
	static const size_t widths[] = { 2, 15, 16, 17, 32, 77 };
	struct result *r = malloc(sizeof *r);
	(void)state;
	for (size_t i = 0; i < sizeof widths / sizeof *widths; i++) {
		const size_t n = widths[i];
		fill(a, ROWS * 2 * WIDTH_MOST, 11, 3.0f);
		for (size_t p = 0; p < 64; p++)
			for (size_t j = 0; j < n; j++) {
				table[p * 2 * n + j] = (float)cos((double)p / (j + 1.0));
				table[p * 2 * n + n + j] = (float)sin((double)p / (j + 1.0));
			}
		run(pf_rows_best(), n, r);
		check_norm(r, n);
		check_glu(r, n);
		check_softmax(r, n);
		check_rotation(r, n);
		run_more(pf_rows_best(), n, r);
		check_layer_norm(r, n);
		check_sums(r, n);
		check_gelu(r, n);
		check_window(r, n);
	}
	free(r);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_levels),
	                                    cmocka_unit_test(test_values) };
	fill(b, ROWS * 2 * WIDTH_MOST, 2, 1.0f);
	fill(w, WIDTH_MOST, 3, 2.0f);
	fill(table, 64 * 2 * WIDTH_MOST, 4, 1.0f);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
