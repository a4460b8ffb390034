/* Adapters: an adapted model computes what the model with W + scale B A does, its gradients are the numerical ones,
 * files are PEFT's, merged weights equal adapted ones; weights held or used as bfloat16 equal the rounded model. */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include "cmocka.h"
#include "host/model/decoder.h"
#include "host/model/lora.h"
#include "host/model/model.h"
#include "model_families.h"
#include "model_naive.h"
#include "prefpga/internal/kmath.h"
#include "scratch.h"
#include "tests/worst.h"

static const struct pf_model_config plain = { MODEL_SHAPE(13, 10, 2, 6, 2, 4, 7, 512, 1e4, 1e-5, 0, -1, -1) };
static const int lengths[] = { 1, 9, 40 };

struct fixture {
	const struct pf_model_config *c;
	struct pf_layout layout;
	struct pf_lora lora;
	struct naive_batch batch;
	double *param, *merged, *adapter, *grad, *dhidden;
	struct pf_decoder_f64 *decoder;
};

static void fixture_open(struct fixture *f, const struct pf_model_config *c, const char *targets, uint32_t rank)
{
	const struct pf_lora_options options = { rank, 3, targets, 0 };
	struct pf_error error = { 0 };
	unsigned seed = 9;
	*f = (struct fixture){ .c = c };
	assert_int_equal(pf_layout_init(&f->layout, c, NULL), 0);
	if (pf_lora_init(&f->lora, &f->layout, &options, &error) != 0)
		fail_msg("%s", error.text);
	naive_batch_fill(&f->batch, lengths, 3, c->vocab, 7);
	const struct pf_decoder_options decoder = { (uint32_t)f->batch.tokens, 0, 2, 1 };
	f->param = malloc(f->layout.size * sizeof *f->param);
	f->merged = malloc(f->layout.size * sizeof *f->merged);
	f->adapter = calloc(f->lora.layout.size, sizeof *f->adapter);
	f->grad = calloc(f->lora.layout.size, sizeof *f->grad);
	f->dhidden = malloc((size_t)f->batch.tokens * c->dim * sizeof *f->dhidden);
	naive_params(&f->layout, 0.4, 3, f->param);
	for (uint64_t i = 0; i < f->lora.layout.size; i++)
		f->adapter[i] = 0.3 * naive_random(&seed);
	for (int i = 0; i < f->batch.tokens * (int)c->dim; i++)
		f->dhidden[i] = naive_random(&seed);
	assert_int_equal(pf_decoder_open_f64(c, &f->layout, &decoder, &f->decoder, NULL), 0);
}

static void fixture_close(struct fixture *f)
{
	pf_decoder_close_f64(f->decoder);
	pf_lora_fini(&f->lora);
	pf_layout_fini(&f->layout);
	naive_batch_free(&f->batch);
	free(f->param);
	free(f->merged);
	free(f->adapter);
	free(f->grad);
	free(f->dhidden);
}

/* W + scale B A by the names of the adapter's tensors */
static void merge(struct fixture *f)
{
	const struct pf_layout *l = &f->lora.layout;
	memcpy(f->merged, f->param, f->layout.size * sizeof *f->merged);
	for (unsigned i = 0; i < l->tensors; i += 2) {
		const struct pf_tensor *a = &l->tensor[i], *b = &l->tensor[i + 1];
		char name[96];
		snprintf(name, sizeof name, "%s", a->name + strlen("base_model.model."));
		strcpy(strstr(name, ".lora_A.weight"), ".weight");
		const struct pf_tensor *w = pf_layout_find(&f->layout, name);
		assert_true(w && w->rows == b->rows && w->cols == a->cols && a->rows == b->cols);
		for (uint32_t r = 0; r < w->rows; r++)
			for (uint32_t c = 0; c < w->cols; c++)
				for (uint32_t k = 0; k < a->rows; k++)
					f->merged[w->offset + (uint64_t)r * w->cols + c] +=
					        3.0 / a->rows * f->adapter[b->offset + (uint64_t)r * b->cols + k] *
					        f->adapter[a->offset + (uint64_t)k * a->cols + c];
	}
}

static double value(struct fixture *f, const struct pf_weights_f64 *w)
{
	double sum = 0;
	struct pf_error error = { 0 };
	if (pf_decoder_forward_with_f64(f->decoder, w, f->batch.ids, f->batch.offsets, 3, &error) != 0)
		fail_msg("%s", error.text);
	for (int i = 0; i < f->batch.tokens * (int)f->c->dim; i++)
		sum += f->dhidden[i] * pf_decoder_hidden_f64(f->decoder)[i];
	return sum;
}

static double numeric(struct fixture *f, const struct pf_weights_f64 *w, uint64_t index)
{
	static const double at[] = { -2, -1, 1, 2 }, weight[] = { 1, -8, 8, -1 };
	const double kept = f->adapter[index], h = 1e-4;
	double sum = 0;
	for (int k = 0; k < 4; k++) {
		f->adapter[index] = kept + at[k] * h;
		sum += weight[k] * value(f, w);
	}
	f->adapter[index] = kept;
	return sum / (12 * h);
}

static double worst;

static void adapted(const struct pf_model_config *c, const char *targets, uint32_t rank)
{
	struct fixture f;
	fixture_open(&f, c, targets, rank);
	const struct pf_weights_f64 w = { .param = f.param, .lora = &f.lora, .adapter = f.adapter };
	merge(&f);
	value(&f, &w);
	double *hidden = malloc((size_t)f.batch.tokens * c->dim * sizeof *hidden);
	for (int i = 0; i < 3; i++)
		naive_hidden(c, &f.layout, f.merged, f.batch.ids + f.batch.offsets[i], lengths[i],
		             hidden + (size_t)f.batch.offsets[i] * c->dim);
	for (int i = 0; i < f.batch.tokens * (int)c->dim; i++)
		assert_true(fabs(hidden[i] - pf_decoder_hidden_f64(f.decoder)[i]) <= 1e-11 * (1 + fabs(hidden[i])));
	assert_int_equal(pf_decoder_backward_f64(f.decoder, f.dhidden, f.grad, NULL), 0);
	double most = 0;
	for (uint64_t i = 0; i < f.lora.layout.size; i++)
		most = worst_of(most, fabs(f.grad[i]));
	assert_true(most > 1e-3);
	for (unsigned t = 0; t < f.lora.layout.tensors; t++) {
		const struct pf_tensor *tensor = &f.lora.layout.tensor[t];
		for (uint64_t i = t % 3; i < pf_tensor_elements(tensor); i += 13) {
			const double n = numeric(&f, &w, tensor->offset + i), got = f.grad[tensor->offset + i],
			             error = fabs(got - n) / fmax(fabs(n), 0.01 * most);
			if (!(error <= 1e-6))
				fail_msg("%s[%llu]: %.12g, numerically %.12g", tensor->name, (unsigned long long)i, got,
				         n);
			worst = worst_of(worst, error);
		}
	}
	free(hidden);
	fixture_close(&f);
}

static void test_adapted(void **state)
{
	(void)state;
	worst = 0;
	adapted(&plain, "q_proj,v_proj", 3);
	adapted(&plain, "all-linear", 2);
	adapted(&plain, "mlp.down_proj", 1);
	for (int i = 0; i < FAMILIES; i++)
		adapted(families[i], "all-linear", 2);
	adapted(&family_gpt2, "c_attn,mlp.c_proj", 4);
	print_message("gradient: largest relative difference %.1e\n", worst);
}

/* Weights held as bfloat16, and weights rounded as they are used, both equal a model of rounded weights; in float, bit
 * for bit */
static void test_rounded(void **state)
{
	(void)state;
	for (int i = -1; i < FAMILIES; i++) {
		struct fixture f;
		fixture_open(&f, i < 0 ? &plain : families[i], "all-linear", 2);
		const size_t count = (size_t)f.batch.tokens * f.c->dim;
		float *param = pf_floats_alloc(f.layout.size), *rounded = pf_floats_alloc(f.layout.size),
		      *hidden = malloc(count * sizeof *hidden), *grad[2];
		uint16_t *half = malloc(f.layout.size * sizeof *half);
		struct pf_decoder *d;
		const struct pf_decoder_options options = { (uint32_t)f.batch.tokens, 0, 2, 1 };
		float *dhidden = pf_floats_alloc(count);
		for (uint64_t j = 0; j < f.layout.size; j++) {
			param[j] = (float)f.param[j];
			rounded[j] = pf_from_bf16(half[j] = pf_bf16(param[j]));
		}
		for (size_t j = 0; j < count; j++)
			dhidden[j] = (float)f.dhidden[j];
		for (int g = 0; g < 2; g++)
			grad[g] = pf_floats_alloc(f.layout.size);
		assert_int_equal(pf_decoder_open(f.c, &f.layout, &options, &d, NULL), 0);
		assert_int_equal(pf_decoder_forward(d, rounded, f.batch.ids, f.batch.offsets, 3, NULL), 0);
		memcpy(hidden, pf_decoder_hidden(d), count * sizeof *hidden);
		assert_int_equal(pf_decoder_backward(d, dhidden, grad[0], NULL), 0);
		const struct pf_weights held = { .half = half }, used = { .param = param, .rounded = 1 };
		assert_int_equal(pf_decoder_forward_with(d, &held, f.batch.ids, f.batch.offsets, 3, NULL), 0);
		assert_memory_equal(hidden, pf_decoder_hidden(d), count * sizeof *hidden);
		assert_int_equal(pf_decoder_forward_with(d, &used, f.batch.ids, f.batch.offsets, 3, NULL), 0);
		assert_memory_equal(hidden, pf_decoder_hidden(d), count * sizeof *hidden);
		assert_int_equal(pf_decoder_backward(d, dhidden, grad[1], NULL), 0);
		assert_memory_equal(grad[0], grad[1], f.layout.size * sizeof(float));
		pf_decoder_close(d);
		free(param);
		free(rounded);
		free(hidden);
		free(half);
		free(dhidden);
		free(grad[0]);
		free(grad[1]);
		fixture_close(&f);
	}
}

/* A fresh adapter changes nothing; its values are uniform within 1 / sqrt(in); merged weights are those of the adapted
 * model; what is saved is loaded bit for bit */
static void test_files(void **state)
{
	const struct pf_lora_options options = { 4, 8, "q_proj,down_proj", 1 };
	struct pf_model *model;
	struct pf_lora lora, read;
	struct pf_error error = { 0 };
	char folder[4096];
	float *adapter, *again;
	(void)state;
	snprintf(folder, sizeof folder, "%s", scratch_path("adapter"));
	assert_int_equal(pf_model_create(&plain, 1, &model, NULL), 0);
	assert_int_equal(pf_lora_init(&lora, &model->layout, &options, &error), 0);
	assert_true(lora.scale == 4 && lora.targets == 4);
	adapter = pf_floats_alloc(lora.layout.size);
	pf_lora_start(&lora, 5, adapter);
	for (unsigned i = 0; i < lora.layout.tensors; i++) {
		const struct pf_tensor *t = &lora.layout.tensor[i];
		double most = 0;
		for (uint64_t j = 0; j < pf_tensor_elements(t); j++)
			most = worst_of(most, fabs(adapter[t->offset + j]));
		assert_true(i % 2 ? most == 0 : most > 0.5 / sqrt(t->cols) && most <= 1 / sqrt(t->cols));
	}
	assert_string_equal(lora.layout.tensor[1].name,
	                    "base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight");
	for (uint64_t j = 0; j < pf_tensor_elements(&lora.layout.tensor[1]); j++)
		adapter[lora.layout.tensor[1].offset + j] = 0.25f;
	assert_int_equal(pf_lora_save(&lora, adapter, "base", 0, folder, &error), 0);
	if (pf_lora_load(folder, &model->layout, &read, &again, &error) != 0)
		fail_msg("%s", error.text);
	assert_true(read.rank == 4 && read.alpha == 8 && read.rooted && read.scale == lora.scale && read.targets == 4);
	assert_string_equal(read.modules, "q_proj,down_proj");
	assert_memory_equal(adapter, again, lora.layout.size * sizeof *adapter);
	pf_lora_fini(&read);
	free(again);
	assert_int_equal(pf_lora_load(scratch_path("none"), &model->layout, &read, &again, &error), -ENOENT);
	pf_lora_fini(&lora);
	free(adapter);
	pf_model_close(model);
}

static void test_refusals(void **state)
{
	static const struct { const char *text, *word; } bad[] = {
		{ "", "adapter_config.json:" }, { "[]", "object" }, { "{}", "r must" },
		{ "{\"r\":0,\"lora_alpha\":1,\"target_modules\":[\"a\"]}", "r must" },
		{ "{\"r\":1e9,\"lora_alpha\":1,\"target_modules\":[\"a\"]}", "r must" },
		{ "{\"r\":4,\"target_modules\":[\"a\"]}", "lora_alpha" },
		{ "{\"r\":4,\"lora_alpha\":1}", "target_modules" },
		{ "{\"r\":4,\"lora_alpha\":1,\"target_modules\":\".*proj\"}", "target_modules" },
		{ "{\"r\":4,\"lora_alpha\":1,\"target_modules\":[3]}", "entry 0" },
		{ "{\"r\":4,\"lora_alpha\":1,\"target_modules\":[\"a\"],\"use_dora\":true}", "use_dora" },
		{ "{\"r\":4,\"lora_alpha\":1,\"target_modules\":[\"a\"],\"modules_to_save\":[\"lm_head\"]}", "modules_to_save" },
		{ "{\"r\":4,\"lora_alpha\":1,\"target_modules\":[\"a\"],\"bias\":\"all\"}", "bias" },
		{ "{\"r\":4,\"lora_alpha\":1,\"target_modules\":[\"a\"],\"peft_type\":\"IA3\"}", "IA3" },
	};
	struct pf_layout layout;
	struct pf_error error = { 0 };
	(void)state;
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		struct pf_lora_options o;
		char *targets;
		if (pf_lora_parse(bad[i].text, strlen(bad[i].text), "adapter_config.json", &o, &targets, &error) >= 0 ||
		    !strstr(error.text, bad[i].word) || targets)
			fail_msg("%s: %s", bad[i].text, error.text);
	}
	assert_int_equal(pf_layout_init(&layout, &plain, NULL), 0);
	const struct pf_lora_options unknown = { 4, 8, "q_proj,c_attn", 0 }, none = { 4, 8, "", 0 };
	struct pf_lora lora;
	assert_int_equal(pf_lora_init(&lora, &layout, &unknown, &error), PF_E_ARGUMENT);
	assert_non_null(strstr(error.text, "c_attn"));
	pf_lora_fini(&lora);
	assert_int_equal(pf_lora_init(&lora, &layout, &none, &error), PF_E_ARGUMENT);
	pf_lora_fini(&lora);
	pf_layout_fini(&layout);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_adapted), cmocka_unit_test(test_rounded),
		                            cmocka_unit_test(test_files), cmocka_unit_test(test_refusals) };
	scratch_open("model_lora");
	return cmocka_run_group_tests(tests, NULL, NULL);
}
