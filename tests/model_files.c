/* A model on disk: round trips bit for bit, other makers' files in every precision and in shards,
 * and what is refused. */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "cmocka.h"
#include "host/model/config.h"
#include "host/model/model.h"
#include "scratch.h"

static const struct pf_model_config small = { 19, 10, 2, 4, 2, 6, 14, 128, 5e5, 1e-5, 0, 1, 2 };
static const struct pf_model_config tied = { 33, 8, 1, 2, 2, 4, 9, 64, 10000, 1e-6, 1, -1, -1 };

static struct pf_model *create(const struct pf_model_config *config, uint64_t seed)
{
	struct pf_model *model = NULL;
	struct pf_error error = { 0 };
	if (pf_model_create(config, seed, &model, &error) != 0)
		fail_msg("%s", error.text);
	return model;
}

static void assert_equal(const struct pf_model *a, const struct pf_model *b)
{
	assert_memory_equal(&a->config.rope_theta, &b->config.rope_theta, 2 * sizeof(double));
	assert_true(a->config.vocab == b->config.vocab && a->config.dim == b->config.dim &&
	            a->config.layers == b->config.layers && a->config.heads == b->config.heads &&
	            a->config.kv_heads == b->config.kv_heads &&
	            a->config.head_dim == b->config.head_dim && a->config.ffn == b->config.ffn &&
	            a->config.max_positions == b->config.max_positions &&
	            a->config.tied == b->config.tied && a->config.bos == b->config.bos &&
	            a->config.eos == b->config.eos);
	assert_true(a->layout.size == b->layout.size);
	assert_memory_equal(a->param, b->param, a->layout.size * sizeof(float));
}

static void test_round_trip(void **state)
{
	const struct pf_model_config *const configs[] = { &small, &tied };
	(void)state;
	for (size_t i = 0; i < 2; i++) {
		struct pf_model *model = create(configs[i], 4), *read = NULL;
		struct pf_error error = { 0 };
		const char *path = scratch_path(i ? "tied" : "small");
		assert_int_equal(pf_model_save(model, path, &error), 0);
		assert_int_equal(pf_model_save(model, path, &error), 0); /* and over itself */
		assert_int_equal(pf_model_load(path, &read, &error), 0);
		assert_equal(model, read);
		pf_model_close(model);
		pf_model_close(read);
	}
}

/* The seed decides the bits; a tensor's values have the deviation that the header promises */
static void test_initial_values(void **state)
{
	static const struct pf_model_config c = { 300, 128,   2,    4, 2,  32, 256,
	                                          64,  10000, 1e-5, 0, -1, -1 };
	struct pf_model *model = create(&c, 9), *same = create(&c, 9), *other = create(&c, 10);
	(void)state;
	assert_memory_equal(model->param, same->param, model->layout.size * sizeof(float));
	assert_true(memcmp(model->param, other->param, model->layout.size * sizeof(float)) != 0);
	assert_int_equal(
	        pf_model_parameters(model),
	        2 * 300 * 128 + 128 +
	                2 * (2 * 128 + 128 * 128 + 2 * 64 * 128 + 128 * 128 + 3 * 128 * 256));
	for (unsigned i = 0; i < model->layout.tensors; i++) {
		const struct pf_tensor *t = &model->layout.tensor[i];
		const double count = (double)pf_tensor_elements(t);
		double mean = 0, square = 0,
		       wanted = t->role == PF_TENSOR_RESIDUAL ? 0.5 / sqrt(t->cols)
		                                              : 1 / sqrt(t->cols);
		for (uint64_t j = 0; j < pf_tensor_elements(t); j++) {
			mean += model->param[t->offset + j] / count;
			square += pow(model->param[t->offset + j], 2) / count;
		}
		if (t->role == PF_TENSOR_NORM) {
			assert_true(fabs(mean - 1) < 1e-12 && fabs(square - 1) < 1e-12);
			continue;
		}
		assert_true(fabs(mean) < 5 * wanted / sqrt(count));
		assert_true(fabs(sqrt(square) / wanted - 1) < 5 / sqrt(count));
	}
	pf_model_close(model);
	pf_model_close(same);
	pf_model_close(other);
}

/* The upper half of a float, and the nearest half for normal values */
static uint16_t bfloat(float x)
{
	uint32_t word;
	memcpy(&word, &x, sizeof word);
	return (uint16_t)(word >> 16);
}

/* Writes the layout's tensors first .. last in a type other than ours: F64, BF16, or F16 (values
 * chosen to fit exactly) */
static void write_shard(const struct pf_model *model, const char *path, enum pf_dtype type,
                        unsigned first, unsigned last, const char *extra)
{
	static const uint64_t one[] = { 1 };
	struct pf_safetensors_writer *w;
	assert_int_equal(pf_safetensors_create(path, &w, NULL), 0);
	for (unsigned i = first; i < last; i++) {
		const struct pf_tensor *t = &model->layout.tensor[i];
		const uint64_t shape[] = { t->rows, t->cols };
		const int vector = t->role == PF_TENSOR_NORM;
		assert_int_equal(pf_safetensors_declare(w, t->name, type, vector ? 1 : 2,
		                                        shape + vector, NULL),
		                 0);
	}
	if (extra)
		assert_int_equal(pf_safetensors_declare(w, extra, PF_F32, 1, one, NULL), 0);
	for (unsigned i = first; i < last; i++)
		for (uint64_t j = 0; j < pf_tensor_elements(&model->layout.tensor[i]); j++) {
			const float x = model->param[model->layout.tensor[i].offset + j];
			const double wide = x;
			const uint16_t narrow = type == PF_F16
			                                ? (uint16_t)(x == 1.0f ? 0x3c00 : 0xb800)
			                                : bfloat(x);
			const void *from = type == PF_F64 ? (const void *)&wide : &narrow;
			assert_int_equal(pf_safetensors_write(w, from, pf_dtype_bytes(type), NULL),
			                 0);
		}
	if (extra)
		assert_int_equal(pf_safetensors_write(w, "\0\0\0\0", 4, NULL), 0);
	assert_int_equal(pf_safetensors_commit(w, NULL), 0);
}

static const char *in(const char *folder, const char *file)
{
	static char path[8][4096];
	static unsigned next;
	char *to = path[next++ % 8];
	assert_true(snprintf(to, sizeof *path, "%s/%s", folder, file) < (int)sizeof *path);
	return to;
}

/* A folder with the model's config and nothing else */
static const char *folder_of(const struct pf_model *model, const char *name)
{
	static char path[4096];
	snprintf(path, sizeof path, "%s", scratch_path(name));
	mkdir(path, 0777);
	assert_int_equal(pf_config_write(&model->config, in(path, "config.json"), NULL), 0);
	return path;
}

static void test_precisions(void **state)
{
	static const enum pf_dtype types[] = { PF_F64, PF_BF16, PF_F16 };
	(void)state;
	for (size_t i = 0; i < 3; i++) {
		struct pf_model *model = create(&small, 4), *read = NULL;
		const char *folder = folder_of(model, "precision");
		for (uint64_t j = 0; j < model->layout.size;
		     j++) { /* values that the type holds exactly */
			uint32_t word;
			memcpy(&word, &model->param[j], sizeof word);
			word &= types[i] == PF_BF16 ? 0xffff0000u : 0xffffffffu;
			memcpy(&model->param[j], &word, sizeof word);
			if (types[i] == PF_F16 && model->param[j] != 0.0f &&
			    model->param[j] != 1.0f)
				model->param[j] = -0.5f;
		}
		write_shard(model, in(folder, "model.safetensors"), types[i], 0,
		            model->layout.tensors, NULL);
		assert_int_equal(pf_model_load(folder, &read, NULL), 0);
		assert_equal(model, read);
		pf_model_close(model);
		pf_model_close(read);
	}
}

static void write_text(const char *path, const char *text)
{
	FILE *file = fopen(path, "wb");
	assert_non_null(file);
	fputs(text, file);
	assert_int_equal(fclose(file), 0);
}

/* Two shards and an index; names in the index that leave the folder, or a tensor in no shard, are
 * refused */
static void test_shards(void **state)
{
	static const char index[] = "model.safetensors.index.json";
	struct pf_model *model = create(&small, 4), *read = NULL;
	const char *folder = folder_of(model, "shards");
	const unsigned half = model->layout.tensors / 2;
	struct pf_error error = { 0 };
	(void)state;
	write_shard(model, in(folder, "a.safetensors"), PF_F64, 0, half, NULL);
	write_shard(model, in(folder, "b.safetensors"), PF_F64, half, model->layout.tensors,
	            "model.layers.0.self_attn.rotary_emb.inv_freq");
	write_text(
	        in(folder, index),
	        "{\"weight_map\":{\"x\":\"a.safetensors\",\"y\":\"b.safetensors\",\"z\":\"a.safetensors\"}}");
	assert_int_equal(pf_model_load(folder, &read, &error), 0);
	assert_equal(model, read);
	pf_model_close(read);
	write_text(in(folder, index), "{\"weight_map\":{\"x\":\"a.safetensors\"}}");
	assert_int_equal(pf_model_load(folder, &read, &error), PF_E_FORMAT);
	assert_non_null(strstr(error.text, "missing"));
	write_text(in(folder, index), "{\"weight_map\":{\"x\":\"../shards/a.safetensors\"}}");
	assert_int_equal(pf_model_load(folder, &read, &error), PF_E_FORMAT);
	assert_non_null(strstr(error.text, "file of this directory"));
	write_text(in(folder, index), "{\"weight_map\":{\"x\":3}}");
	assert_int_equal(pf_model_load(folder, &read, &error), PF_E_FORMAT);
	write_text(in(folder, index), "{\"weight_map\":");
	assert_int_equal(pf_model_load(folder, &read, &error), PF_E_FORMAT);
	assert_non_null(strstr(error.text, "index.json:1"));
	pf_model_close(model);
}

static void test_wrong_weights(void **state)
{
	struct pf_model *model = create(&small, 4), *read = NULL;
	struct pf_model_config wider = small;
	const char *folder = folder_of(model, "wrong");
	const char *weights = in(folder, "model.safetensors");
	struct pf_error error = { 0 };
	(void)state;
	assert_int_equal(pf_model_load(folder, &read, &error), -ENOENT);
	assert_non_null(strstr(error.text, "model.safetensors"));
	write_shard(model, weights, PF_F64, 0, model->layout.tensors,
	            "model.layers.0.self_attn.q_proj.bias");
	assert_int_equal(pf_model_load(folder, &read, &error), PF_E_UNSUPPORTED);
	assert_non_null(strstr(error.text, "q_proj.bias"));
	write_shard(model, weights, PF_F64, 0, model->layout.tensors, NULL);
	wider.ffn++;
	assert_int_equal(pf_config_write(&wider, in(folder, "config.json"), NULL), 0);
	assert_int_equal(pf_model_load(folder, &read, &error), PF_E_SHAPE);
	assert_non_null(strstr(error.text, "gate_proj.weight: config.json asks for 15 x 10"));
	unlink(in(folder, "config.json"));
	assert_int_equal(pf_model_load(folder, &read, &error), -ENOENT);
	assert_non_null(strstr(error.text, "config.json"));
	pf_model_close(model);
}

/* A tied model may bring a copy of its head */
static void test_tied_head(void **state)
{
	struct pf_model *model = create(&tied, 4), *read = NULL;
	const char *folder = folder_of(model, "tied_head");
	(void)state;
	write_shard(model, in(folder, "model.safetensors"), PF_F64, 0, model->layout.tensors,
	            "lm_head.weight");
	assert_int_equal(pf_model_load(folder, &read, NULL), 0);
	assert_equal(model, read);
	assert_true(read->layout.head == read->layout.embed);
	pf_model_close(model);
	pf_model_close(read);
}

#define BASE \
	"{\"model_type\":\"llama\",\"vocab_size\":260,\"hidden_size\":64,\"num_hidden_layers\":2," \
	"\"num_attention_heads\":4,\"intermediate_size\":128,\"max_position_embeddings\":512"

static int parse(const char *text, struct pf_model_config *config, struct pf_error *error)
{
	return pf_config_parse(text, strlen(text), "config.json", config, error);
}

static void test_config_defaults(void **state)
{
	struct pf_model_config c;
	(void)state;
	assert_int_equal(parse(BASE "}", &c, NULL), 0);
	assert_true(c.kv_heads == 4 && c.head_dim == 16 && c.rope_theta == 10000 &&
	            c.norm_eps == 1e-6 && !c.tied);
	assert_true(c.bos == -1 && c.eos == -1);
	assert_int_equal(
	        parse(BASE
	              ",\"num_key_value_heads\":2,\"head_dim\":32,\"rope_theta\":7,\"eos_token_id\":[5,6],"
	              "\"bos_token_id\":null,\"tie_word_embeddings\":true,\"rms_norm_eps\":1e-5,"
	              "\"rope_scaling\":null,\"hidden_act\":\"silu\",\"attention_bias\":false}",
	              &c, NULL),
	        0);
	assert_true(c.kv_heads == 2 && c.head_dim == 32 && c.rope_theta == 7 &&
	            c.norm_eps == 1e-5 && c.tied && c.eos == 5);
	assert_int_equal(parse(BASE
	                       ",\"rope_parameters\":{\"rope_theta\":9,\"rope_type\":\"default\"}}",
	                       &c, NULL),
	                 0);
	assert_true(c.rope_theta == 9);
}

static void test_config_refusals(void **state)
{
	static const struct {
		const char *text, *word;
	} bad[] = {
		{ "", "config.json:" },
		{ "[]", "object" },
		{ "{}", "model_type" },
		{ "{\"model_type\":\"gpt2\"}", "gpt2" },
		{ "{\"model_type\":\"llama\"}", "vocab_size is missing" },
		{ BASE ",\"num_key_value_heads\":3}", "no multiple" },
		{ BASE ",\"head_dim\":15}", "odd" },
		{ BASE ",\"num_key_value_heads\":0}", "num_key_value_heads" },
		{ BASE ",\"num_key_value_heads\":2.0}", "whole number" },
		{ BASE ",\"head_dim\":1024}", "from 2 to 512" },
		{ BASE ",\"rope_theta\":\"x\"}", "rope_theta" },
		{ BASE ",\"rope_theta\":0.5}", "rope_theta" },
		{ BASE ",\"rms_norm_eps\":0}", "rms_norm_eps" },
		{ BASE ",\"eos_token_id\":260}", "260 tokens" },
		{ BASE ",\"eos_token_id\":-1}", "token id" },
		{ BASE ",\"attention_bias\":true}", "attention_bias" },
		{ BASE ",\"mlp_bias\":true}", "mlp_bias" },
		{ BASE ",\"hidden_act\":\"gelu\"}", "gelu" },
		{ BASE ",\"sliding_window\":100}", "sliding_window" },
		{ BASE ",\"rope_scaling\":{\"type\":\"linear\"}}", "rope_scaling" },
		{ BASE ",\"rope_parameters\":{\"rope_type\":\"llama3\"}}", "llama3" },
		{ BASE ",\"hidden_size\":64}", "duplicate" },
	};
	(void)state;
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		struct pf_model_config c;
		struct pf_error error = { 0 };
		int code = parse(bad[i].text, &c, &error);
		if (code >= 0 || !strstr(error.text, bad[i].word))
			fail_msg("%s: %d %s", bad[i].text, code, error.text);
	}
}

static void test_create_refusals(void **state)
{
	struct pf_model_config c = small;
	struct pf_model *model;
	(void)state;
	c.vocab = 1;
	assert_int_equal(pf_model_create(&c, 1, &model, NULL), PF_E_RANGE);
	c = small;
	c.norm_eps = NAN;
	assert_int_equal(pf_model_create(&c, 1, &model, NULL), PF_E_RANGE);
	pf_model_close(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trip),      cmocka_unit_test(test_initial_values),
		cmocka_unit_test(test_precisions),      cmocka_unit_test(test_shards),
		cmocka_unit_test(test_wrong_weights),   cmocka_unit_test(test_tied_head),
		cmocka_unit_test(test_config_defaults), cmocka_unit_test(test_config_refusals),
		cmocka_unit_test(test_create_refusals),
	};
	scratch_open("model_files");
	return cmocka_run_group_tests(tests, NULL, NULL);
}
