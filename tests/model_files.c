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
#include "host/train/checkpoint.h"
#include "model_families.h"
#include "scratch.h"

static const struct pf_model_config small = { MODEL_SHAPE(19, 10, 2, 4, 2, 6, 14, 128, 5e5, 1e-5, 0, 1, 2) };
static const struct pf_model_config tied = { MODEL_SHAPE(33, 8, 1, 2, 2, 4, 9, 64, 10000, 1e-6, 1, -1, -1) };

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
	(void)state;
	for (int i = -2; i < FAMILIES; i++) {
		struct pf_model *model = create(i == -2 ? &small : i == -1 ? &tied : families[i], 4), *read = NULL;
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
		assert_equal(model, read);
		pf_model_close(model);
		pf_model_close(read);
	}
}

/* The seed decides the bits; a tensor's values have the deviation that the header promises */
static void test_initial_values(void **state)
{
	static const struct pf_model_config c = { MODEL_SHAPE(300, 128, 2, 4, 2, 32, 256, 64, 10000, 1e-5, 0, -1, -1) };
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

static struct pf_model *load(const char *folder)
{
	struct pf_model *model = NULL;
	struct pf_error error = { 0 };
	if (pf_model_load(folder, &model, &error) != 0)
		fail_msg("%s", error.text);
	return model;
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

/* Rounded once to 16 bits, then saved and loaded again: the same file, in one piece and in shards */
static void test_halves(void **state)
{
	static const enum pf_dtype types[] = { PF_BF16, PF_F16, PF_F32 };
	(void)state;
	for (int f = 0; f < FAMILIES; f++)
		for (size_t t = 0; t < 3; t++) {
			struct pf_model *model = create(families[f], 11);
			char first[4096], second[4096], third[4096];
			snprintf(first, sizeof first, "%s", scratch_path("half_1"));
			snprintf(second, sizeof second, "%s", scratch_path("half_2"));
			snprintf(third, sizeof third, "%s", scratch_path("half_3"));
			save_as(model, types[t], 0, first);
			struct pf_model *once = load(first);
			assert_int_equal(pf_model_stored(once), types[t]);
			for (uint64_t i = 0; i < model->layout.size;
			     i++) /* to nearest: half a unit in the last place */
				assert_true(fabsf(once->param[i] - model->param[i]) <=
				            fabsf(model->param[i]) * (types[t] == PF_BF16 ? 0x1p-8f : 0x1p-11f) +
				                    0x1p-25f);
			save_as(once, types[t], 300, second);
			assert_int_not_equal(access(in(second, "model.safetensors"), F_OK), 0);
			struct pf_model *twice = load(second);
			assert_equal(once, twice);
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
		struct pf_model *model = create(&small, 20 + i);
		save_as(model, PF_F32, limits[i], path);
		struct pf_model *read = load(path);
		assert_equal(model, read);
		assert_int_equal(access(in(path, "model.safetensors"), F_OK) == 0, limits[i] == 0);
		assert_int_equal(access(in(path, "model.safetensors.index.json"), F_OK) == 0, limits[i] != 0);
		assert_true(limits[i] != 0 || scratch_count("over") == 2); /* no shards stay behind */
		pf_model_close(model);
		pf_model_close(read);
	}
}

/* Keys that mean nothing here stay, and so do the files of the tokenizer */
static void test_kept(void **state)
{
	struct pf_model *model = create(&small, 4);
	char from[4096], to[4096];
	(void)state;
	snprintf(from, sizeof from, "%s", scratch_path("kept_from"));
	snprintf(to, sizeof to, "%s", scratch_path("kept_to"));
	save_as(model, PF_F32, 0, from);
	pf_model_close(model);
	write_text(in(from, "config.json"),
	           "{\"model_type\":\"llama\",\"vocab_size\":19,\"hidden_size\":10,\"num_hidden_layers\":2,"
	           "\"num_attention_heads\":4,\"num_key_value_heads\":2,\"head_dim\":6,\"intermediate_size\":14,"
	           "\"max_position_embeddings\":128,\"rope_theta\":5e5,\"rms_norm_eps\":1e-5,\"bos_token_id\":1,"
	           "\"eos_token_id\":[2,3],\"use_cache\":true,\"x-unknown\":{\"a\":[1,null]},\"torch_dtype\":"
	           "\"float16\"}");
	write_text(in(from, "tokenizer.json"), "{\"words\":1}");
	model = load(from);
	save_as(model, PF_BF16, 0, to);
	char *text;
	const size_t length = file_bytes(in(to, "config.json"), &text);
	text[length] = '\0';
	assert_non_null(strstr(text, "x-unknown"));
	assert_non_null(strstr(text, "use_cache"));
	assert_non_null(strstr(text, "bfloat16"));
	free(text);
	scratch_same(from, to, "tokenizer.json");
	assert_int_not_equal(access(in(to, "merges.txt"), F_OK), 0);
	pf_model_close(model);
}

/* Names without the family's prefix, as bodies are saved, and GPT-2's mask */
static void test_prefix(void **state)
{
	struct pf_model *model = create(&family_gpt2, 4), *read = NULL;
	struct pf_safetensors_writer *w;
	const uint64_t one[] = { 1 };
	char folder[4096];
	(void)state;
	snprintf(folder, sizeof folder, "%s", scratch_path("prefix"));
	mkdir(folder, 0777);
	assert_int_equal(pf_config_write(&model->config, in(folder, "config.json"), NULL), 0);
	assert_int_equal(pf_safetensors_create(in(folder, "model.safetensors"), &w, NULL), 0);
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
	read = load(folder);
	assert_equal(model, read);
	pf_model_close(model);
	pf_model_close(read);
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
	assert_int_equal(pf_config_write(&small, scratch_path("config.json"), &at), 0);
	assert_int_equal(mkfifo(scratch_path("model.safetensors.index.json"), 0666), 0);
	refuses(pf_model_load(scratch_path(""), &model, &at), "index.json: not a regular file");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trip),      cmocka_unit_test(test_initial_values),
		cmocka_unit_test(test_precisions),      cmocka_unit_test(test_shards),
		cmocka_unit_test(test_wrong_weights),   cmocka_unit_test(test_tied_head),
		cmocka_unit_test(test_halves),          cmocka_unit_test(test_saved_over),
		cmocka_unit_test(test_kept),            cmocka_unit_test(test_prefix),
		cmocka_unit_test(test_what_is_no_file),
	};
	scratch_open("model_files");
	return cmocka_run_group_tests(tests, NULL, NULL);
}
