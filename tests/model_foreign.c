/* Other makers' models on disk: in every precision, in shards, without prefixes, with a copy of the head; and what is
 * refused. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "tests/cmocka.h"
#include "tests/model_families.h"
#include "tests/model_folder.h"
#include "tests/scratch.h"
#include "host/model/config.h"
#include "host/model/safetensors.h"
#include "host/train/checkpoint.h"

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

/* A folder with the model's config and nothing else */
static const char *folder_of(const struct pf_model *model, const char *name)
{
	static char path[4096];
	snprintf(path, sizeof path, "%s", scratch_path(name));
	mkdir(path, 0777);
	assert_int_equal(pf_config_write(&model->config, in_folder(path, "config.json"), NULL), 0);
	return path;
}

static void test_precisions(void **state)
{
	static const enum pf_dtype types[] = { PF_F64, PF_BF16, PF_F16 };
	(void)state;
	for (size_t i = 0; i < 3; i++) {
		struct pf_model *model = create_model(&small_shape, 4), *read = NULL;
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
		write_shard(model, in_folder(folder, "model.safetensors"), types[i], 0,
		            model->layout.tensors, NULL);
		assert_int_equal(pf_model_load(folder, &read, NULL), 0);
		assert_same_model(model, read);
		pf_model_close(model);
		pf_model_close(read);
	}
}

/* Two shards and an index; names in the index that leave the folder, or a tensor in no shard, are
 * refused */
static void test_shards(void **state)
{
	static const char index[] = "model.safetensors.index.json";
	struct pf_model *model = create_model(&small_shape, 4), *read = NULL;
	const char *folder = folder_of(model, "shards");
	const unsigned half = model->layout.tensors / 2;
	struct pf_error error = { 0 };
	(void)state;
	write_shard(model, in_folder(folder, "a.safetensors"), PF_F64, 0, half, NULL);
	write_shard(model, in_folder(folder, "b.safetensors"), PF_F64, half, model->layout.tensors,
	            "model.layers.0.self_attn.rotary_emb.inv_freq");
	write_text(
	        in_folder(folder, index),
	        "{\"weight_map\":{\"x\":\"a.safetensors\",\"y\":\"b.safetensors\",\"z\":\"a.safetensors\"}}");
	assert_int_equal(pf_model_load(folder, &read, &error), 0);
	assert_same_model(model, read);
	pf_model_close(read);
	write_text(in_folder(folder, index), "{\"weight_map\":{\"x\":\"a.safetensors\"}}");
	assert_int_equal(pf_model_load(folder, &read, &error), PF_E_FORMAT);
	assert_non_null(strstr(error.text, "missing"));
	write_text(in_folder(folder, index), "{\"weight_map\":{\"x\":\"../shards/a.safetensors\"}}");
	assert_int_equal(pf_model_load(folder, &read, &error), PF_E_FORMAT);
	assert_non_null(strstr(error.text, "file of this directory"));
	write_text(in_folder(folder, index), "{\"weight_map\":{\"x\":3}}");
	assert_int_equal(pf_model_load(folder, &read, &error), PF_E_FORMAT);
	write_text(in_folder(folder, index), "{\"weight_map\":");
	assert_int_equal(pf_model_load(folder, &read, &error), PF_E_FORMAT);
	assert_non_null(strstr(error.text, "index.json:1"));
	pf_model_close(model);
}

/* Names without the family's prefix, as bodies are saved, and GPT-2's mask */
static void test_prefix(void **state)
{
	struct pf_model *model = create_model(&family_gpt2, 4), *read = NULL;
	struct pf_safetensors_writer *w;
	const uint64_t one[] = { 1 };
	char folder[4096];
	(void)state;
	snprintf(folder, sizeof folder, "%s", scratch_path("prefix"));
	mkdir(folder, 0777);
	assert_int_equal(pf_config_write(&model->config, in_folder(folder, "config.json"), NULL), 0);
	assert_int_equal(pf_safetensors_create(in_folder(folder, "model.safetensors"), &w, NULL), 0);
	for (unsigned i = 0; i < model->layout.tensors; i++) {
		const struct pf_tensor *t = &model->layout.tensor[i];
		const uint64_t shape[] = { t->transposed || !pf_tensor_decays(t) ? t->cols : t->rows,
			                   t->transposed ? t->rows : t->cols };
		assert_int_equal(pf_safetensors_declare(w, t->name + strlen("transformer."), PF_F32,
		                                        pf_tensor_decays(t) ? 2 : 1, shape, NULL), 0);
	}
	assert_int_equal(pf_safetensors_declare(w, "h.0.attn.bias", PF_F32, 1, one, NULL), 0);
	for (unsigned i = 0; i < model->layout.tensors; i++) {
		const struct pf_tensor *t = &model->layout.tensor[i];
		for (uint64_t j = 0; j < pf_tensor_elements(t); j++) /* c_attn and its like are [inputs, outputs] */
			assert_int_equal(
				pf_safetensors_write(w,
			                             model->param + t->offset +
			                                     (t->transposed ? j % t->rows * t->cols + j / t->rows : j),
			                             4, NULL),
				0);
	}
	assert_int_equal(pf_safetensors_write(w, "\0\0\0\0", 4, NULL), 0);
	assert_int_equal(pf_safetensors_commit(w, NULL), 0);
	read = load_model(folder);
	assert_same_model(model, read);
	pf_model_close(model);
	pf_model_close(read);
}

static void test_wrong_weights(void **state)
{
	struct pf_model *model = create_model(&small_shape, 4), *read = NULL;
	struct pf_model_config wider = small_shape;
	const char *folder = folder_of(model, "wrong");
	const char *weights = in_folder(folder, "model.safetensors");
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
	assert_int_equal(pf_config_write(&wider, in_folder(folder, "config.json"), NULL), 0);
	assert_int_equal(pf_model_load(folder, &read, &error), PF_E_SHAPE);
	assert_non_null(strstr(error.text, "gate_proj.weight: config.json asks for 15 x 10"));
	unlink(in_folder(folder, "config.json"));
	assert_int_equal(pf_model_load(folder, &read, &error), -ENOENT);
	assert_non_null(strstr(error.text, "config.json"));
	pf_model_close(model);
}

/* A tied model may bring a copy of its head */
static void test_tied_head(void **state)
{
	struct pf_model *model = create_model(&tied_shape, 4), *read = NULL;
	const char *folder = folder_of(model, "tied_head");
	(void)state;
	write_shard(model, in_folder(folder, "model.safetensors"), PF_F64, 0, model->layout.tensors,
	            "lm_head.weight");
	assert_int_equal(pf_model_load(folder, &read, NULL), 0);
	assert_same_model(model, read);
	assert_true(read->layout.head == read->layout.embed);
	pf_model_close(model);
	pf_model_close(read);
}

static struct pf_error at;

static void refuses(int code, const char *says)
{
	if (code >= 0 || !strstr(at.text, says))
		fail_msg("%d, \"%s\", without \"%s\"", code, at.text, says);
	at.text[0] = '\0';
}

/* A FIFO without a writer where a file of ours is read is refused, not waited for; so are folders and devices */
static void test_what_is_no_file(void **state)
{
	struct pf_checkpoint checkpoint = { 0 };
	struct pf_model_config config;
	struct pf_model *model;
	(void)state;
	scratch_open("no_file");
	assert_int_equal(mkfifo(scratch_path("config.json"), 0666), 0);
	refuses(pf_config_read(scratch_path("config.json"), &config, &at), "config.json: not a regular file");
	refuses(pf_model_load(scratch_path(""), &model, &at), "config.json: not a regular file");
	refuses(pf_config_read("/dev/zero", &config, &at), "/dev/zero: not a regular file");
	refuses(pf_config_read(scratch_path(""), &config, &at), "Is a directory");
	refuses(pf_config_read(scratch_path("none.json"), &config, &at), "a model directory has a config.json");
	assert_int_equal(mkfifo(scratch_path("trainer_state.json"), 0666), 0);
	refuses(pf_checkpoint_load(scratch_path(""), NULL, NULL, &checkpoint, 0, NULL, NULL, &at),
	        "trainer_state.json: not a regular file");

	assert_int_equal(unlink(scratch_path("config.json")), 0);
	assert_int_equal(pf_config_write(&small_shape, scratch_path("config.json"), &at), 0);
	assert_int_equal(mkfifo(scratch_path("model.safetensors.index.json"), 0666), 0);
	refuses(pf_model_load(scratch_path(""), &model, &at), "index.json: not a regular file");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_precisions),
		cmocka_unit_test(test_shards),
		cmocka_unit_test(test_prefix),
		cmocka_unit_test(test_wrong_weights),
		cmocka_unit_test(test_tied_head),
		cmocka_unit_test(test_what_is_no_file),
	};
	scratch_open("model_foreign");
	return cmocka_run_group_tests(tests, NULL, NULL);
}
