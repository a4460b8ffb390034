/* AdamW against the published formulas in long double, clipping, refusal, its state on disk; the
 * schedules' values. */
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "cmocka.h"
#include "host/model/model.h"
#include "model_shape.h"
#include "host/train/adamw.h"
#include "host/train/schedule.h"
#include "scratch.h"

/* vocab dim layers heads kv_heads head_dim ffn positions theta eps tied bos eos; several chunks of
 * work */
static const struct pf_model_config config = { MODEL_SHAPE(700, 33, 2, 2, 1, 10, 51, 64, 10000, 1e-5, 0, -1, -1) };
static const struct pf_adamw_options usual = { 0.9, 0.95, 1e-8, 0.1, 0, 2 };

static float noise(unsigned *state)
{
	*state = *state * 1664525u + 1013904223u;
	return (float)(*state >> 8) / (1 << 23) - 1.0f;
}

static struct pf_model *fixture(void)
{
	struct pf_model *model = NULL;
	assert_int_equal(pf_model_create(&config, 1, &model, NULL), 0);
	return model;
}

/* Gradients of step `t`, of very different sizes; gaps stay 0 */
static void fill(const struct pf_layout *layout, unsigned t, float *grad)
{
	unsigned seed = t * 77 + 1;
	memset(grad, 0, layout->size * sizeof *grad);
	for (unsigned i = 0; i < layout->tensors; i++)
		for (uint64_t j = 0; j < pf_tensor_elements(&layout->tensor[i]); j++)
			grad[layout->tensor[i].offset + j] = noise(&seed) *
			                                     powf(10.0f, -(float)(j % 7));
}

static void init(struct pf_adamw *a, const struct pf_layout *layout,
                 const struct pf_adamw_options *o)
{
	struct pf_error error = { 0 };
	if (pf_adamw_init(a, layout, o, &error) != 0)
		fail_msg("%s", error.text);
}

/* Algorithm 2 of the paper, one element; m and v live in long double for the whole run */
struct wide {
	long double p, m, v;
};

static void wide_step(struct wide *w, const struct pf_adamw_options *o, long double rate, int t,
                      int decays, long double g)
{
	w->m = o->beta1 * w->m + (1 - (long double)o->beta1) * g;
	w->v = o->beta2 * w->v + (1 - (long double)o->beta2) * g * g;
	const long double m = w->m / (1 - powl(o->beta1, t)), v = w->v / (1 - powl(o->beta2, t));
	w->p -= rate * (m / (sqrtl(v) + o->epsilon) + (decays ? o->decay * w->p : 0));
}

/* 12 steps; every element within a few roundings a step of the element's own movement and size */
static void run_wide(const struct pf_adamw_options *o)
{
	struct pf_model *model = fixture();
	const struct pf_layout *layout = &model->layout;
	struct wide *wide = calloc(layout->size, sizeof *wide);
	float *grad = pf_floats_alloc(layout->size);
	struct pf_adamw a;
	init(&a, layout, o);
	for (uint64_t i = 0; i < layout->size; i++)
		wide[i].p = model->param[i];
	for (int t = 1; t <= 12; t++) {
		const double rate = 1e-2 / t;
		double norm;
		long double square = 0;
		fill(layout, (unsigned)t, grad);
		for (uint64_t i = 0; i < layout->size; i++)
			square += (long double)grad[i] * grad[i];
		const long double length = sqrtl(square);
		const long double scale = o->clip > 0 && length > o->clip ? o->clip / length : 1;
		assert_int_equal(pf_adamw_step(&a, rate, model->param, grad, &norm), 0);
		assert_true(fabsl(norm - length) <= 1e-14L * length);
		for (unsigned k = 0; k < layout->tensors; k++) {
			const struct pf_tensor *tensor = &layout->tensor[k];
			for (uint64_t i = tensor->offset;
			     i < tensor->offset + pf_tensor_elements(tensor); i++)
				wide_step(&wide[i], o, rate, t, tensor->role != PF_TENSOR_NORM,
				          grad[i] * scale);
		}
	}
	for (uint64_t i = 0; i < layout->size; i++) {
		const double p = (double)wide[i].p, moved = 12 * 1e-2;
		if (!(fabs(model->param[i] - p) <= 12 * 0x1p-24 * fabs(p) + 16 * 0x1p-24 * moved))
			fail_msg("element %llu: %.9g, wanted %.9g", (unsigned long long)i,
			         model->param[i], p);
	}
	pf_adamw_fini(&a);
	free(wide);
	free(grad);
	pf_model_close(model);
}

static void test_formula(void **state)
{
	struct pf_adamw_options o = usual;
	(void)state;
	run_wide(&o);
	o.decay = 0;
	o.clip = 0.5;
	run_wide(&o);
	o = (struct pf_adamw_options){ 0, 0, 1e-3, 0.01, 1e9, 1 };
	run_wide(&o);
}

/* The gaps of the layout stay zero, and any number of threads gives the same bits */
static void test_threads(void **state)
{
	struct pf_model *first = fixture(), *second = fixture();
	float *grad = pf_floats_alloc(first->layout.size);
	struct pf_adamw_options one = usual, three = usual;
	struct pf_adamw a, b;
	(void)state;
	one.threads = 1;
	three.threads = 3;
	one.clip = three.clip = 0.1;
	init(&a, &first->layout, &one);
	init(&b, &first->layout, &three);
	for (unsigned t = 0; t < 5; t++) {
		fill(&first->layout, t, grad);
		assert_int_equal(pf_adamw_step(&a, 1e-3, first->param, grad, NULL), 0);
		assert_int_equal(pf_adamw_step(&b, 1e-3, second->param, grad, NULL), 0);
	}
	assert_memory_equal(first->param, second->param, first->layout.size * sizeof(float));
	assert_memory_equal(a.v, b.v, first->layout.size * sizeof(float));
	for (unsigned i = 0; i < first->layout.tensors; i++)
		memset(first->param + first->layout.tensor[i].offset, 0,
		       pf_tensor_elements(&first->layout.tensor[i]) * sizeof(float));
	for (uint64_t i = 0; i < first->layout.size; i++)
		assert_true(first->param[i] == 0.0f);
	pf_adamw_fini(&a);
	pf_adamw_fini(&b);
	free(grad);
	pf_model_close(first);
	pf_model_close(second);
}

static void test_not_finite(void **state)
{
	static const float bad[] = { NAN, INFINITY, -INFINITY, FLT_MAX };
	struct pf_model *model = fixture(), *kept = pf_model_reference(model);
	float *grad = pf_floats_alloc(model->layout.size);
	struct pf_adamw a;
	(void)state;
	init(&a, &model->layout, &usual);
	for (size_t i = 0; i < 4; i++) {
		double norm = 0;
		fill(&model->layout, 1, grad);
		grad[5] = bad[i];
		assert_int_equal(pf_adamw_step(&a, 1e-3, model->param, grad, &norm),
		                 PF_E_NOT_FINITE);
		assert_true(i == 3 || !isfinite(norm));
	}
	assert_true(a.step == 0);
	assert_memory_equal(model->param, kept->param, model->layout.size * sizeof(float));
	a.options.clip = 1; /* large, but not after clipping */
	assert_int_equal(pf_adamw_step(&a, 1e-3, model->param, grad, NULL), 0);
	pf_adamw_fini(&a);
	free(grad);
	pf_model_close(model);
	pf_model_close(kept);
}

static void save(const struct pf_adamw *a, const char *path)
{
	struct pf_safetensors_writer *w;
	assert_int_equal(pf_safetensors_create(path, &w, NULL), 0);
	assert_int_equal(pf_adamw_declare(a, w, NULL), 0);
	assert_int_equal(pf_adamw_write(a, w, NULL), 0);
	assert_int_equal(pf_safetensors_commit(w, NULL), 0);
}

/* Saved, read and continued equals uninterrupted, to the last bit */
static void test_state(void **state)
{
	const char *path = scratch_path("adamw.safetensors");
	struct pf_model *model = fixture();
	float *grad = pf_floats_alloc(model->layout.size);
	struct pf_adamw a, b;
	struct pf_safetensors *file;
	(void)state;
	init(&a, &model->layout, &usual);
	for (unsigned t = 0; t < 3; t++) {
		fill(&model->layout, t, grad);
		assert_int_equal(pf_adamw_step(&a, 1e-3, model->param, grad, NULL), 0);
	}
	save(&a, path);
	struct pf_model *second = pf_model_reference(model);
	init(&b, &model->layout, &usual);
	assert_int_equal(pf_safetensors_open(path, &file, NULL), 0);
	assert_int_equal(pf_adamw_read(&b, file, NULL), 0);
	pf_safetensors_close(file);
	assert_true(b.step == 3);
	assert_int_equal(pf_adamw_step(&a, 1e-3, model->param, grad, NULL), 0);
	assert_int_equal(pf_adamw_step(&b, 1e-3, second->param, grad, NULL), 0);
	assert_memory_equal(model->param, second->param, model->layout.size * sizeof(float));
	pf_adamw_fini(&a);
	pf_adamw_fini(&b);
	free(grad);
	pf_model_close(model);
	pf_model_close(second);
}

static void test_foreign_state(void **state)
{
	const char *path = scratch_path("foreign.safetensors");
	struct pf_model *model = fixture();
	struct pf_safetensors_writer *w;
	struct pf_safetensors *file;
	struct pf_error error = { 0 };
	struct pf_adamw a;
	(void)state;
	init(&a, &model->layout, &usual);
	assert_int_equal(pf_safetensors_create(path, &w, NULL), 0);
	assert_int_equal(pf_safetensors_annotate(w, "adamw.step", "3x", NULL), 0);
	assert_int_equal(pf_safetensors_commit(w, NULL), 0);
	assert_int_equal(pf_safetensors_open(path, &file, NULL), 0);
	assert_int_equal(pf_adamw_read(&a, file, &error), PF_E_FORMAT);
	assert_non_null(strstr(error.text, "adamw.step"));
	pf_safetensors_close(file);
	assert_int_equal(pf_safetensors_create(path, &w, NULL), 0);
	assert_int_equal(pf_safetensors_annotate(w, "adamw.step", "3", NULL), 0);
	assert_int_equal(pf_safetensors_commit(w, NULL), 0);
	assert_int_equal(pf_safetensors_open(path, &file, NULL), 0);
	assert_int_equal(pf_adamw_read(&a, file, &error), PF_E_FORMAT);
	assert_non_null(strstr(error.text, "adamw.m.model.embed_tokens.weight is missing"));
	pf_safetensors_close(file);
	pf_adamw_fini(&a);
	pf_model_close(model);
}

static void test_options(void **state)
{
	struct pf_adamw_options bad[] = { usual, usual, usual, usual, usual };
	struct pf_layout layout;
	struct pf_adamw a;
	(void)state;
	assert_int_equal(pf_layout_init(&layout, &config, NULL), 0);
	bad[0].beta1 = 1.0;
	bad[1].beta2 = NAN;
	bad[2].epsilon = 0;
	bad[3].decay = -0.1;
	bad[4].clip = INFINITY;
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		assert_int_equal(pf_adamw_init(&a, &layout, &bad[i], NULL), PF_E_RANGE);
		pf_adamw_fini(&a);
	}
	pf_layout_fini(&layout);
}

static void near(double got, double wanted)
{
	assert_true(fabs(got - wanted) <= 1e-15 * (1 + fabs(wanted)));
}

static void test_schedules(void **state)
{
	struct pf_schedule s = { PF_SCHEDULE_COSINE, 2.0, 0.1, 4, 12 };
	enum pf_schedule_kind kind;
	struct pf_error error;
	(void)state;
	near(pf_schedule_rate(&s, 0), 2.0 / 5);
	near(pf_schedule_rate(&s, 3), 2.0 * 4 / 5);
	near(pf_schedule_rate(&s, 4), 2.0);
	near(pf_schedule_rate(&s, 8), 2.0 * (0.1 + 0.9 * 0.5));
	near(pf_schedule_rate(&s, 6), 2.0 * (0.1 + 0.9 * 0.5 * (1 + sqrt(0.5))));
	near(pf_schedule_rate(&s, 12), 0.2);
	near(pf_schedule_rate(&s, 1000000), 0.2);
	s.kind = PF_SCHEDULE_LINEAR;
	near(pf_schedule_rate(&s, 5), 2.0 * (0.1 + 0.9 * 7 / 8));
	near(pf_schedule_rate(&s, 12), 0.2);
	s.kind = PF_SCHEDULE_CONSTANT;
	near(pf_schedule_rate(&s, 1), 0.8);
	near(pf_schedule_rate(&s, 11), 2.0);
	near(pf_schedule_rate(&s, 99), 2.0);
	s = (struct pf_schedule){ PF_SCHEDULE_LINEAR, 1.0, 0.0, 0, 1 };
	near(pf_schedule_rate(&s, 0), 1.0);
	near(pf_schedule_rate(&s, 1), 0.0);
	s = (struct pf_schedule){ PF_SCHEDULE_COSINE, 1.0, 0.0, 10, 5 }; /* all warm-up */
	near(pf_schedule_rate(&s, 4), 5.0 / 11);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(
		        pf_schedule_find(pf_schedule_name((enum pf_schedule_kind)i), &kind, NULL),
		        0);
		assert_int_equal(kind, i);
	}
	assert_int_equal(pf_schedule_find("cosin", &kind, &error), PF_E_UNKNOWN);
	assert_non_null(strstr(error.text, "cosine"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_formula),       cmocka_unit_test(test_threads),
		cmocka_unit_test(test_not_finite),    cmocka_unit_test(test_state),
		cmocka_unit_test(test_foreign_state), cmocka_unit_test(test_options),
		cmocka_unit_test(test_schedules),
	};
	scratch_open("adamw");
	return cmocka_run_group_tests(tests, NULL, NULL);
}
