#include "tests/model_folder.h"
#include <stdio.h>
#include "tests/cmocka.h"
#include "tests/model_shape.h"

const struct pf_model_config small_shape = { MODEL_SHAPE(19, 10, 2, 4, 2, 6, 14, 128, 5e5, 1e-5, 0, 1, 2) };
const struct pf_model_config tied_shape = { MODEL_SHAPE(33, 8, 1, 2, 2, 4, 9, 64, 10000, 1e-6, 1, -1, -1) };

struct pf_model *create_model(const struct pf_model_config *config, uint64_t seed)
{
	struct pf_model *model = NULL;
	struct pf_error error = { 0 };
	if (pf_model_create(config, seed, &model, &error) != 0)
		fail_msg("%s", error.text);
	return model;
}

struct pf_model *load_model(const char *folder)
{
	struct pf_model *model = NULL;
	struct pf_error error = { 0 };
	if (pf_model_load(folder, &model, &error) != 0)
		fail_msg("%s", error.text);
	return model;
}

void assert_same_model(const struct pf_model *a, const struct pf_model *b)
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

const char *in_folder(const char *folder, const char *file)
{
	static char path[8][4096];
	static unsigned next;
	char *to = path[next++ % 8];
	assert_true(snprintf(to, sizeof *path, "%s/%s", folder, file) < (int)sizeof *path);
	return to;
}

void write_text(const char *path, const char *text)
{
	FILE *file = fopen(path, "wb");
	assert_non_null(file);
	fputs(text, file);
	assert_int_equal(fclose(file), 0);
}
