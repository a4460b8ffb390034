/* A model on disk, as it is saved here: initial values, round trips bit for bit, in 16 bits, in shards, over other
 * files, with what is kept beside the weights. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "tests/cmocka.h"
#include "tests/model_families.h"
#include "tests/model_folder.h"
#include "tests/scratch.h"

static void test_round_trip(void **state)
{
	(void)state;
	for (int i = -2; i < FAMILIES; i++) {
		struct pf_model *model = create_model(i == -2 ? &small_shape : i == -1 ? &tied_shape : families[i], 4);
		struct pf_model *read = NULL;
		struct pf_error error = { 0 };
		char name[32];
		snprintf(name, sizeof name, "round_%d", i);
		const char *path = scratch_path(name);
		for (uint64_t j = 0; j < model->layout.size; j++) /* vectors too shall differ from their start */
			model->param[j] += 1e-3f * (float)(j % 61);
		for (unsigned t = 1; t < model->layout.tensors; t++) /* gaps stay zero */
			for (uint64_t j = model->layout.tensor[t - 1].offset +
			                  pf_tensor_elements(&model->layout.tensor[t - 1]);
			     j < model->layout.tensor[t].offset; j++)
				model->param[j] = 0;
		for (uint64_t j = model->layout.tensor[model->layout.tensors - 1].offset +
		                  pf_tensor_elements(&model->layout.tensor[model->layout.tensors - 1]);
		     j < model->layout.size; j++)
			model->param[j] = 0;
		if (pf_model_save(model, path, &error) != 0)
			fail_msg("%s", error.text);
		assert_int_equal(pf_model_save(model, path, &error), 0); /* and over itself */
		assert_int_equal(pf_model_load(path, &read, &error), 0);
		assert_same_model(model, read);
		pf_model_close(model);
		pf_model_close(read);
	}
}

/* The seed decides the bits; a tensor's values have the deviation that the header promises */
static void test_initial_values(void **state)
{
	static const struct pf_model_config c = { MODEL_SHAPE(300, 128, 2, 4, 2, 32, 256, 64, 10000, 1e-5, 0, -1, -1) };
	struct pf_model *model = create_model(&c, 9), *same = create_model(&c, 9), *other = create_model(&c, 10);
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

static void save_as(const struct pf_model *model, enum pf_dtype type, uint64_t shard_bytes, const char *folder)
{
	const struct pf_model_save_options options = { type, shard_bytes };
	struct pf_error error = { 0 };
	if (pf_model_save_as(model, &options, folder, &error) != 0)
		fail_msg("%s", error.text);
}

static size_t file_bytes(const char *path, char **bytes)
{
	FILE *file = fopen(path, "rb");
	struct stat facts;
	assert_true(file && fstat(fileno(file), &facts) == 0);
	*bytes = malloc((size_t)facts.st_size + 1);
	assert_int_equal(fread(*bytes, 1, (size_t)facts.st_size, file), facts.st_size);
	fclose(file);
	return (size_t)facts.st_size;
}

/* A NaN with all bits set, as erased memory has them, is none the less one in 16 bits */
static void test_nans(void **state)
{
	static const enum pf_dtype types[] = { PF_BF16, PF_F16, PF_F32 };
	struct pf_model *model = create_model(families[0], 12);
	char path[4096];
	(void)state;
	memset(model->param, 0xff, 2 * sizeof *model->param);
	snprintf(path, sizeof path, "%s", scratch_path("nans"));
	for (size_t t = 0; t < 3; t++) {
		save_as(model, types[t], 0, path);
		struct pf_model *loaded = load_model(path);
		assert_true(isnan(loaded->param[0]) && isnan(loaded->param[1]) && isfinite(loaded->param[2]));
		pf_model_close(loaded);
	}
	pf_model_close(model);
}

/* Rounded once to 16 bits, then saved and loaded again: the same file, in one piece and in shards */
static void test_halves(void **state)
{
	static const enum pf_dtype types[] = { PF_BF16, PF_F16, PF_F32 };
	(void)state;
	for (int f = 0; f < FAMILIES; f++)
		for (size_t t = 0; t < 3; t++) {
			struct pf_model *model = create_model(families[f], 11);
			char first[4096], second[4096], third[4096];
			snprintf(first, sizeof first, "%s", scratch_path("half_1"));
			snprintf(second, sizeof second, "%s", scratch_path("half_2"));
			snprintf(third, sizeof third, "%s", scratch_path("half_3"));
			save_as(model, types[t], 0, first);
			struct pf_model *once = load_model(first);
			assert_int_equal(pf_model_stored(once), types[t]);
			for (uint64_t i = 0; i < model->layout.size;
			     i++) /* to nearest: half a unit in the last place */
				assert_true(fabsf(once->param[i] - model->param[i]) <=
				            fabsf(model->param[i]) * (types[t] == PF_BF16 ? 0x1p-8f : 0x1p-11f) +
				                    0x1p-25f);
			save_as(once, types[t], 300, second);
			assert_int_not_equal(access(in_folder(second, "model.safetensors"), F_OK), 0);
			struct pf_model *twice = load_model(second);
			assert_same_model(once, twice);
			save_as(twice, types[t], 0, third);
			scratch_same(first, third, "model.safetensors");
			scratch_same(first, third, "config.json");
			pf_model_close(model);
			pf_model_close(once);
			pf_model_close(twice);
		}
}

/* Saved over shards, over fewer shards and over one file: what is loaded is what was saved last */
static void test_saved_over(void **state)
{
	static const uint64_t limits[] = { 200, 2000, 0, 500 };
	char path[4096];
	(void)state;
	snprintf(path, sizeof path, "%s", scratch_path("over"));
	for (size_t i = 0; i < 4; i++) {
		struct pf_model *model = create_model(&small_shape, 20 + i);
		save_as(model, PF_F32, limits[i], path);
		struct pf_model *read = load_model(path);
		assert_same_model(model, read);
		assert_int_equal(access(in_folder(path, "model.safetensors"), F_OK) == 0, limits[i] == 0);
		assert_int_equal(access(in_folder(path, "model.safetensors.index.json"), F_OK) == 0, limits[i] != 0);
		assert_true(limits[i] != 0 || scratch_count("over") == 2); /* no shards stay behind */
		pf_model_close(model);
		pf_model_close(read);
	}
}

/* Keys that mean nothing here stay, and so do the files of the tokenizer */
static void test_kept(void **state)
{
	struct pf_model *model = create_model(&small_shape, 4);
	char from[4096], to[4096];
	(void)state;
	snprintf(from, sizeof from, "%s", scratch_path("kept_from"));
	snprintf(to, sizeof to, "%s", scratch_path("kept_to"));
	save_as(model, PF_F32, 0, from);
	pf_model_close(model);
	write_text(in_folder(from, "config.json"),
	           "{\"model_type\":\"llama\",\"vocab_size\":19,\"hidden_size\":10,\"num_hidden_layers\":2,"
	           "\"num_attention_heads\":4,\"num_key_value_heads\":2,\"head_dim\":6,\"intermediate_size\":14,"
	           "\"max_position_embeddings\":128,\"rope_theta\":5e5,\"rms_norm_eps\":1e-5,\"bos_token_id\":1,"
	           "\"eos_token_id\":[2,3],\"use_cache\":true,\"x-unknown\":{\"a\":[1,null]},\"torch_dtype\":"
	           "\"float16\"}");
	write_text(in_folder(from, "tokenizer.json"), "{\"words\":1}");
	model = load_model(from);
	save_as(model, PF_BF16, 0, to);
	char *text;
	const size_t length = file_bytes(in_folder(to, "config.json"), &text);
	text[length] = '\0';
	assert_non_null(strstr(text, "x-unknown"));
	assert_non_null(strstr(text, "use_cache"));
	assert_non_null(strstr(text, "bfloat16"));
	free(text);
	scratch_same(from, to, "tokenizer.json");
	assert_int_not_equal(access(in_folder(to, "merges.txt"), F_OK), 0);
	pf_model_close(model);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_initial_values),
		cmocka_unit_test(test_halves),
		cmocka_unit_test(test_nans),
		cmocka_unit_test(test_saved_over),
		cmocka_unit_test(test_kept),
	};
	scratch_open("model_files");
	return cmocka_run_group_tests(tests, NULL, NULL);
}
