/* The fused head in bf16 and MXINT8: the quantizer against another one; log-probs and gradients against double at the
 * numbers as they were rounded, on the simulated card and on the host; what rounding itself costs, at a smaller size
 * than tests/bench/bench_precision.c; bytes a token on the link; what is refused. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "tests/cmocka.h"
#include "host/train/head.h"
#include "host/train/precision.h"
#include "tests/ref/linear.h"
#include "tests/ref/mxint8.h"

static uint64_t state;

static double uniform(void)
{
	state = state * 6364136223846793005u + 1442695040888963407u;
	return (double)(state >> 11) * 0x1p-53;
}

static double normal(void)
{
	return sqrt(-2 * log(uniform() + 0x1p-60)) * cos(6.283185307179586 * uniform());
}

static void *room(size_t bytes)
{
	void *memory = aligned_alloc(64, (bytes + 127) / 64 * 64);
	assert_non_null(memory);
	memset(memory, 0xff, (bytes + 127) / 64 * 64);
	return memory;
}

/* ---- the quantizer ---- */
static float any_float(void)
{
	state = state * 6364136223846793005u + 1442695040888963407u;
	const uint32_t bits = (uint32_t)(state >> 32);
	float x;
	memcpy(&x, &bits, sizeof x);
	return isfinite(x) ? x : 1;
}

static void same_rows(const float *x, uint32_t rows, uint32_t cols)
{
	const uint64_t bytes = pf_precision_row_bytes(PF_PRECISION_MXINT8, cols);
	uint8_t *got = room(rows * bytes), *want = room(bytes);
	assert_int_equal(pf_precision_depth(PF_PRECISION_MXINT8, cols), (cols + 63) / 64);
	pf_precision_pack(PF_PRECISION_MXINT8, x, rows, cols, got);
	for (uint32_t r = 0; r < rows; r++) {
		ref_mx_pack(x + (size_t)r * cols, cols, (cols + 63) / 64, want);
		assert_memory_equal(got + r * bytes, want, bytes);
	}
	free(got);
	free(want);
}

static void quantizers_agree(void **unused)
{
	static const uint32_t widths[] = { 1, 31, 32, 33, 64, 65, 96, 2080, 4096 };
	static const float edges[] = { 0, -0.0f, 0x1p-149f, -0x1p-126f, 0x1.fffffep-127f, 0x1.fffffep127f, -0x1p127f, 1,
		                       127.0f / 128, 127.4f / 64, 127.5f / 64, 127.6f / 64, 0.5f / 64, 1.5f / 64,
		                       2.5f / 64, -0.5f / 64, -1.5f / 64 };
	enum { ROWS = 5, MOST = 4096 };
	float *x = room(ROWS * MOST * sizeof *x);
	(void)unused;
	state = 3;
	for (size_t w = 0; w < sizeof widths / sizeof *widths; w++)
		for (int kind = 0; kind < 3; kind++) {
			for (uint32_t i = 0; i < ROWS * widths[w]; i++) {
				const size_t edge = (size_t)(uniform() * (sizeof edges / sizeof *edges));
				x[i] = kind == 0 ? (float)normal() : kind == 1 ? any_float() : edges[edge];
			}
			same_rows(x, ROWS, widths[w]);
		}
	free(x);
}

static void what_is_not_finite_is_found(void **unused)
{
	enum { ROWS = 3, COLS = 70 };
	float x[ROWS * COLS];
	uint8_t row[ROWS * 192];
	(void)unused;
	for (int i = 0; i < ROWS * COLS; i++)
		x[i] = (float)i;
	assert_int_equal(pf_precision_row_bytes(PF_PRECISION_MXINT8, COLS), 192);
	assert_int_equal(pf_precision_pack(PF_PRECISION_MXINT8, x, ROWS, COLS, row), ROWS);
	x[COLS + 40] = NAN;
	x[2 * COLS] = -INFINITY;
	same_rows(x, ROWS, COLS);
	assert_int_equal(pf_precision_pack(PF_PRECISION_MXINT8, x, ROWS, COLS, row), 1);
}

/* ---- a head on a device ---- */
struct shape { uint32_t rows, vocab, dim; };
struct head {
	struct shape   s;
	float         *hidden, *weight, *bias, *coef, *dhidden, *dweight, *dbias;
	int32_t       *target;
	struct pf_row *row;
};
static const struct pf_fused_form bent = { 1.25f, 20, 0.8f, 0.01f, 0.05f }, plain = PF_FUSED_PLAIN;

static void head_make(struct head *h, struct shape s)
{
	const size_t th = (size_t)s.rows * s.dim, vd = (size_t)s.vocab * s.dim;
	*h = (struct head){ s, room(th * 4), room(vd * 4), room(s.vocab * 4), room(s.rows * 4), room(th * 4),
		            room(vd * 4), room(s.vocab * 4), room(s.rows * 4), room(s.rows * sizeof(struct pf_row)) };
	state = 11;
	for (size_t i = 0; i < th; i++)
		h->hidden[i] = (float)normal();
	for (size_t i = 0; i < vd; i++)
		h->weight[i] = (float)(3 / sqrt(s.dim) * normal());
	for (uint32_t v = 0; v < s.vocab; v++)
		h->bias[v] = (float)normal();
	for (uint32_t t = 0; t < s.rows; t++) {
		h->coef[t] = (float)normal();
		h->target[t] = t % 9 == 8 ? PF_IGNORE : (int32_t)(uniform() * s.vocab);
	}
	memset(h->dweight, 0, vd * 4);
	memset(h->dbias, 0, s.vocab * 4);
}

static void head_free(struct head *h)
{
	void *all[] = { h->hidden, h->weight, h->bias, h->coef, h->dhidden, h->dweight, h->dbias, h->target, h->row };
	for (size_t i = 0; i < sizeof all / sizeof *all; i++)
		free(all[i]);
}

static struct pf_device *open_device(const char *spec)
{
	struct pf_device *device;
	struct pf_error error;
	if (pf_device_open(spec, NULL, &device, &error))
		fail_msg("%s", error.text);
	return device;
}

static void run(struct head *h, const char *spec, enum pf_precision precision, enum pf_way way,
                const struct pf_fused_form *form)
{
	struct pf_device *device = open_device(spec);
	const struct pf_fused_options options = { .device = device, .vocab = h->s.vocab, .dim = h->s.dim, .bias = 1,
		                                  .backward = 1, .precision = precision, .way = way, .form = *form };
	const struct pf_fused_weight weight = { h->weight, h->bias, 1, precision };
	const struct pf_fused_tokens tokens = { h->hidden, h->target, NULL, h->s.rows, 0, 0, 0 };
	struct pf_fused *fused;
	struct pf_error error;
	if (pf_fused_open(&options, &fused, &error) ||
	    pf_fused_forward(fused, &weight, &tokens, NULL, h->row, &error) || pf_fused_wait(fused, &error) ||
	    pf_fused_backward(fused, h->coef, h->dhidden, h->dweight, h->dbias, &error) || pf_fused_wait(fused, &error))
		fail_msg("%s %s: %s", spec, pf_precision_name(precision), error.text);
	pf_fused_close(fused);
	assert_int_equal(pf_device_close(device), 0);
}

/* ---- the same in double ---- */

/* The numbers as a precision has them */
static float *rounded(enum pf_precision precision, const float *from, uint32_t rows, uint32_t dim)
{
	const uint32_t beats = (dim + 63) / 64;
	float *to = room((size_t)rows * dim * sizeof *to), *wide = room(beats * 64 * sizeof *wide);
	uint8_t *packed = room(beats * 64 * 2);
	for (uint32_t r = 0; r < rows; r++) {
		ref_mx_pack(from + (size_t)r * dim, dim, beats, packed);
		ref_mx_unpack(packed, beats, wide);
		for (uint32_t d = 0; d < dim; d++) {
			const float x = from[(size_t)r * dim + d];
			to[(size_t)r * dim + d] = precision == PF_PRECISION_MXINT8 ? wide[d]
			                          : precision == PF_PRECISION_BF16
			                                  ? (float)ref_from_bf16(ref_to_bf16((double)x)) : x;
		}
	}
	free(wide);
	free(packed);
	return to;
}

struct wanted { double *logp, *dhidden, *dweight, *dbias, *dhidden_size, *dweight_size; };

/* dz of one row from its logits */
static void row_dz(const struct ref_linear *l, uint32_t t, double c, double *z, double *dz, double *logp)
{
	struct ref_row row;
	ref_linear_logits(l, t, z);
	ref_logprob(z, l->vocab, l->target[t], &row);
	*logp = (double)row.logp;
	const double lse = (double)(row.max + row.log_sum), H = (double)row.entropy;
	for (uint32_t v = 0; v < l->vocab; v++) {
		const double p = exp(z[v] - lse), y = z[v] * l->temperature / (l->softcap > 0 ? l->softcap : 1);
		const double slope = l->scale / l->temperature * (l->softcap > 0 ? 1 - y * y : 1);
		const double own = v == (uint32_t)l->target[t] ? -(double)row.rest : p;
		dz[v] = slope * (c * own + p * (2 * l->zloss * lse + l->entropy * (z[v] - lse + H)));
	}
}

/* Logits of the numbers in `forward`, products of the way back with those in `back` */
static struct wanted wanted_of(const struct head *h, enum pf_precision forward, enum pf_precision back,
                               const struct pf_fused_form *form)
{
	const uint32_t T = h->s.rows, V = h->s.vocab, D = h->s.dim;
	float *hf = rounded(forward, h->hidden, T, D), *wf = rounded(forward, h->weight, V, D);
	float *hb = rounded(back, h->hidden, T, D), *wb = rounded(back, h->weight, V, D);
	const struct ref_linear l = { hf, wf, h->bias, h->target, T, D, V, (double)form->scale, (double)form->softcap,
		                      (double)form->temperature, (double)form->zloss, (double)form->entropy };
	struct wanted w = { calloc(T, 8), calloc((size_t)T * D, 8), calloc((size_t)V * D, 8), calloc(V, 8),
		            calloc((size_t)T * D, 8), calloc((size_t)V * D, 8) };
	double *z = room(V * 8), *dz = room(V * 8);
	for (uint32_t t = 0; t < T; t++) {
		if (h->target[t] < 0)
			continue;
		row_dz(&l, t, (double)h->coef[t], z, dz, &w.logp[t]);
		for (uint32_t v = 0; v < V; v++) {
			w.dbias[v] += dz[v];
			for (uint32_t d = 0; d < D; d++) {
				const size_t td = (size_t)t * D + d, vd = (size_t)v * D + d;
				w.dhidden[td] += dz[v] * (double)wb[vd];
				w.dhidden_size[td] += fabs(dz[v] * (double)wb[vd]);
				w.dweight[vd] += dz[v] * (double)hb[td];
				w.dweight_size[vd] += fabs(dz[v] * (double)hb[td]);
			}
		}
	}
	void *all[] = { hf, wf, hb, wb, z, dz };
	for (size_t i = 0; i < sizeof all / sizeof *all; i++)
		free(all[i]);
	return w;
}

static void wanted_free(struct wanted *w)
{
	void *all[] = { w->logp, w->dhidden, w->dweight, w->dbias, w->dhidden_size, w->dweight_size };
	for (size_t i = 0; i < sizeof all / sizeof *all; i++)
		free(all[i]);
}

static void within(const char *what, size_t i, double got, double want, double bound)
{
	if (!(fabs(got - want) <= bound))
		fail_msg("%s[%zu] is %.9g, in double %.9g, bound %.3g", what, i, got, want, bound);
}

/* Half a unit of bf16 for dhidden; the rest is fp32's */
static void check_at_rounded(const struct head *h, const struct wanted *w, enum pf_precision precision)
{
	const size_t th = (size_t)h->s.rows * h->s.dim, vd = (size_t)h->s.vocab * h->s.dim;
	const double half = precision == PF_PRECISION_FP32 ? 0 : 0x1.01p-8;
	for (uint32_t t = 0; t < h->s.rows; t++)
		within("logp", t, (double)h->row[t].logp, w->logp[t], h->target[t] < 0 ? 0 : 1e-5);
	for (size_t i = 0; i < th; i++)
		within("dhidden", i, (double)h->dhidden[i], w->dhidden[i],
		       half * fabs(w->dhidden[i]) + 1e-5 * w->dhidden_size[i]);
	for (size_t i = 0; i < vd; i++)
		within("dweight", i, (double)h->dweight[i], w->dweight[i], 1e-5 * w->dweight_size[i]);
	for (uint32_t v = 0; v < h->s.vocab; v++)
		within("dbias", v, (double)h->dbias[v], w->dbias[v], 1e-5);
}

static void numbers_are_those_of_the_rounded(void **unused)
{
	static const char *const devices[] = { "sim:@v1", "sim:u55c*2", "cpu", "cpu:baseline" };
	static const struct shape shapes[] = { { 70, 150, 33 }, { 9, 70, 64 }, { 530, 40, 16 } };
	(void)unused;
	for (size_t s = 0; s < 3; s++)
		for (int p = 0; p < PF_PRECISIONS; p++) {
			const enum pf_precision precision = (enum pf_precision)p;
			const struct pf_fused_form *form = s ? &plain : &bent;
			struct head first;
			head_make(&first, shapes[s]);
			struct wanted w = wanted_of(&first, precision, pf_precision_back(precision), form);
			head_free(&first);
			for (int i = 0; i < 8; i++) {
				const enum pf_way way = i % 2 ? PF_WAY_RECOMPUTE : PF_WAY_SPILL;
				struct head h;
				if (precision == PF_PRECISION_MXINT8 && way == PF_WAY_RECOMPUTE)
					continue;
				head_make(&h, shapes[s]);
				run(&h, devices[i / 2], precision, way, form);
				check_at_rounded(&h, &w, precision);
				head_free(&h);
			}
			wanted_free(&w);
		}
}

/* ---- what rounding costs ---- */
static double norm_of(const float *got, const double *want, size_t count)
{
	double error = 0, size = 0;
	for (size_t i = 0; i < count; i++) {
		const double e = (got ? (double)got[i] : 0) - want[i];
		error += e * e;
		size += want[i] * want[i];
	}
	return sqrt(error / size);
}

/* Random numbers with logits of deviation 3: log-probs in nats, gradients as |error| / |gradient| */
static void rounding_costs_what_is_said(void **unused)
{
	static const struct { double logp, dhidden, dweight; } bound[PF_PRECISIONS] = {
		[PF_PRECISION_FP32] = { 1e-5, 1e-5, 1e-5 },
		[PF_PRECISION_BF16] = { 0.04, 0.005, 0.005 },
		[PF_PRECISION_MXINT8] = { 0.15, 0.015, 0.015 },
	};
	const struct shape s = { 40, 2000, 256 };
	struct head h;
	(void)unused;
	head_make(&h, s);
	struct wanted w = wanted_of(&h, PF_PRECISION_FP32, PF_PRECISION_FP32, &plain);
	for (int p = 0; p < PF_PRECISIONS; p++) {
		double worst = 0;
		head_free(&h);
		head_make(&h, s);
		run(&h, "sim", (enum pf_precision)p, PF_WAY_SPILL, &plain);
		for (uint32_t t = 0; t < s.rows; t++)
			worst = fmax(worst, h.target[t] < 0 ? 0 : fabs((double)h.row[t].logp - w.logp[t]));
		const double dh = norm_of(h.dhidden, w.dhidden, s.rows * s.dim);
		const double dw = norm_of(h.dweight, w.dweight, s.vocab * s.dim);
		print_message("%s: logp %.2g nat, dhidden %.2g, dW %.2g\n", pf_precision_name((enum pf_precision)p),
		              worst, dh, dw);
		assert_true(worst <= bound[p].logp && dh <= bound[p].dhidden && dw <= bound[p].dweight);
		assert_true(p == PF_PRECISION_FP32 || (worst > 1e-5 && dh > 1e-5 && dw > 1e-5));       /* it was rounded */
	}
	head_free(&h);
	wanted_free(&w);
}

/* ---- the link ---- */

/* An untied head that stays: forward and backward of a step in bf16 move 2 D bytes a token in, 2 D out, and at most 64
 * beside, for sequences of 4 tokens and more */
static void a_token_of_bf16_costs_4_d_bytes_and_64(void **unused)
{
	enum { DIM = 128, VOCAB = 500, TOKENS = 400, EACH = 4, SEQS = TOKENS / EACH };
	struct pf_device *device = open_device("sim:u55c*1");
	const struct pf_head_options options = { .device = &device, .devices = 1, .vocab = VOCAB, .dim = DIM,
		                                 .fused = 1, .backward = 1, .precision = PF_PRECISION_BF16 };
	struct pf_span span[SEQS];
	struct pf_seq sum[SEQS];
	double grad[SEQS];
	struct pf_device_counts before, after;
	struct pf_head *head;
	struct pf_error error;
	struct head h;
	(void)unused;
	head_make(&h, (struct shape){ TOKENS, VOCAB, DIM });
	for (uint32_t s = 0; s < SEQS; s++) {
		span[s] = (struct pf_span){ s * EACH, (s + 1) * EACH, (s + 1) * EACH, 0 };
		grad[s] = normal();
	}
	const struct pf_head_input input = { h.hidden, h.weight, h.target, span, TOKENS, SEQS, 0, 1, 1,
		                             PF_PRECISION_BF16, 0 };
	if (pf_head_open(&options, &head, &error))
		fail_msg("%s", error.text);
	pf_device_counts(device, &before);
	for (int step = 0; step < 2; step++) {
		before = step ? after : before;
		if (pf_head_forward(head, &input, sum, NULL, &error) ||
		    pf_head_backward(head, grad, h.dhidden, NULL, &error))
			fail_msg("%s", error.text);
		pf_device_counts(device, &after);
	}
	const double in = (double)(after.bytes_in - before.bytes_in) / TOKENS;
	const double out = (double)(after.bytes_out - before.bytes_out) / TOKENS;
	print_message("D = %d: %.1f bytes a token in, %.1f out, of %d + 64\n", DIM, in, out, 4 * DIM);
	assert_true(in >= 2 * DIM && out >= 2 * DIM);          /* something was counted */
	assert_true(in + out <= 4 * DIM + 64);
	pf_head_close(head);
	pf_device_close(device);
	head_free(&h);
}

/* ---- what is refused ---- */
static void impossible_wishes_are_refused(void **unused)
{
	struct pf_device *device = open_device("cpu");
	struct pf_fused_options options = { .device = device, .vocab = 70, .dim = 64, .backward = 1,
		                            .precision = PF_PRECISION_MXINT8, .way = PF_WAY_RECOMPUTE, .form = plain };
	struct pf_fused *fused;
	struct pf_error error;
	struct head h;
	(void)unused;
	head_make(&h, (struct shape){ 9, 70, 64 });
	assert_int_equal(pf_fused_open(&options, &fused, &error), PF_E_UNSUPPORTED);
	assert_non_null(strstr(error.text, "--way spill"));
	options.way = PF_WAY_AUTO;
	options.memory_bytes = 1;                              /* no room for the logits, which mxint8 needs */
	assert_int_equal(pf_fused_open(&options, &fused, &error), 0);
	struct pf_fused_weight weight = { h.weight, NULL, 1, PF_PRECISION_MXINT8 };
	const struct pf_fused_tokens tokens = { h.hidden, h.target, NULL, 9, 0, 0, 0 };
	assert_int_equal(pf_fused_forward(fused, &weight, &tokens, NULL, h.row, &error), 0);
	assert_int_equal(pf_fused_wait(fused, &error), 0);
	assert_int_equal(pf_fused_backward(fused, h.coef, h.dhidden, NULL, NULL, &error), PF_E_MEMORY);
	h.weight[3 * 64 + 5] = NAN;
	weight.version = 2;
	assert_int_equal(pf_fused_forward(fused, &weight, &tokens, NULL, h.row, &error), PF_E_DATA);
	assert_non_null(strstr(error.text, "row 3 of the head's weight"));
	h.weight[3 * 64 + 5] = 0;
	h.hidden[5] = NAN;                                     /* a token of its own: a row without a number, as ever */
	weight.version = 3;
	assert_int_equal(pf_fused_forward(fused, &weight, &tokens, NULL, h.row, &error), 0);
	assert_int_equal(pf_fused_wait(fused, &error), 0);
	assert_int_equal(h.row[0].status, PF_ROW_RANGE);
	assert_int_equal(h.row[1].status, 0);
	assert_int_equal(pf_precision_find("fp16"), -1);
	pf_fused_close(fused);
	pf_device_close(device);
	head_free(&h);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(quantizers_agree),
		cmocka_unit_test(what_is_not_finite_is_found),
		cmocka_unit_test(numbers_are_those_of_the_rounded),
		cmocka_unit_test(rounding_costs_what_is_said),
		cmocka_unit_test(a_token_of_bf16_costs_4_d_bytes_and_64),
		cmocka_unit_test(impossible_wishes_are_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
