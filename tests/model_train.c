/* What training changes and what it leaves: adapters, a frozen head, bfloat16 weights with float32 masters; through the
 * program. Argument: the program. */
#include <jansson.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "cmocka.h"
#include "host/model/model.h"
#include "host/model/safetensors.h"
#include "prefpga/internal/kmath.h"
#include "scratch.h"

static const char *program;

/* Runs `cd FOLDER && PREFPGA ARGUMENTS`; its exit code */
static int run(const char *arguments, ...)
{
	char command[8192];
	int at = snprintf(command, sizeof command, "cd '%s' && '%s' ", scratch_path(""), program);
	va_list list;
	va_start(list, arguments);
	at += vsnprintf(command + at, sizeof command - (size_t)at, arguments, list);
	va_end(list);
	snprintf(command + at, sizeof command - (size_t)at, " > out.txt 2> err.txt");
	const int status = system(command);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void succeed(int code)
{
	char text[2048] = "";
	FILE *file = code ? fopen(scratch_path("err.txt"), "r") : NULL;
	if (file) {
		text[fread(text, 1, sizeof text - 1, file)] = '\0';
		fclose(file);
	}
	if (code)
		fail_msg("exit code %d: %s", code, text);
}

static struct pf_safetensors *open_file(const char *name)
{
	struct pf_safetensors *file;
	struct pf_error error = { 0 };
	if (pf_safetensors_open(scratch_path(name), &file, &error) != 0)
		fail_msg("%s", error.text);
	return file;
}

static int same_tensor(const struct pf_safetensors *a, const struct pf_safetensors *b, const char *name)
{
	const struct pf_safetensor *x = pf_safetensors_find(a, name), *y = pf_safetensors_find(b, name);
	assert_true(x && y && x->type == y->type && x->bytes == y->bytes);
	return memcmp(x->data, y->data, x->bytes) == 0;
}

static void assert_same_tensors(const char *one, const char *other)
{
	struct pf_safetensors *a = open_file(one), *b = open_file(other);
	assert_int_equal(pf_safetensors_count(a), pf_safetensors_count(b));
	for (size_t i = 0; i < pf_safetensors_count(a); i++)
		assert_true(same_tensor(a, b, pf_safetensors_at(a, i)->name));
	pf_safetensors_close(a);
	pf_safetensors_close(b);
}

static double eval_key(const char *key, const char *arguments)
{
	json_error_t fault;
	succeed(run("eval --reference base --data pairs.jsonl --loss sigmoid:beta=0.5 --device cpu --format json "
	            "--cache none %s",
	            arguments));
	json_t *json = json_load_file(scratch_path("out.txt"), 0, &fault);
	const double loss = json_real_value(json_object_get(json, key));
	assert_true(json && fabs(loss) > 0);
	json_decref(json);
	return loss;
}

#define TRAIN "train --data pairs.jsonl --loss sigmoid:beta=0.5 --device cpu --batch 4 --lr 3e-3 --schedule constant " \
              "--warmup-steps 0 "

static int set_up(void **state)
{
	FILE *file = fopen(scratch_path("pairs.jsonl"), "w");
	(void)state;
	for (int i = 0; file && i < 20; i++)
		fprintf(file, "{\"prompt\":\"p%d \",\"chosen\":\"yes %d\",\"rejected\":\"no no %d\"}\n", i, i * 7 % 11,
		        i);
	if (!file || fclose(file) != 0)
		return 1;
	succeed(run("sft --data pairs.jsonl --device cpu --steps 2 --dim 24 --layers 2 --heads 4 --kv-heads 2 --ffn 40 "
	            "--max-length 64 --out base"));
	succeed(run("sft --data pairs.jsonl --device cpu --steps 2 --dim 24 --layers 2 --heads 4 --kv-heads 2 --ffn 40 "
	            "--max-length 64 --tied=0 --out untied"));
	return 0;
}

/* Only the adapter is trained and saved; interrupted and resumed it is the same; applied and merged it computes the
 * same */
static void test_adapter(void **state)
{
	(void)state;
	succeed(run(TRAIN "--model base --lora 3 --lora-alpha 12 --steps 6 --out whole"));
	succeed(run(TRAIN "--model base --lora 3 --lora-alpha 12 --steps 3 --out parts"));
	succeed(run(TRAIN "--model base --lora 3 --lora-alpha 12 --steps 6 --out parts --resume"));
	assert_same_tensors("whole/adapter_model.safetensors", "parts/adapter_model.safetensors");
	assert_int_not_equal(access(scratch_path("whole/model.safetensors"), F_OK), 0);
	assert_int_not_equal(run(TRAIN "--model base --lora 4 --steps 9 --out parts --resume"), 0);

	struct pf_safetensors *optimizer = open_file("whole/checkpoint-000006/optimizer.safetensors"),
	                      *adapter = open_file("whole/adapter_model.safetensors");
	assert_int_equal(pf_safetensors_count(optimizer), 2 * pf_safetensors_count(adapter));
	pf_safetensors_close(optimizer);
	pf_safetensors_close(adapter);

	succeed(run("model merge base --adapter whole --out merged"));
	const double before = eval_key("loss", "--model base"),
		     applied = eval_key("loss", "--model base --adapter whole"),
		     merged = eval_key("loss", "--model merged");
	assert_true(fabs(before - log(2)) <= 1e-6);
	assert_true(applied < before - 0.05);
	assert_true(fabs(applied - merged) <= 1e-5);

	succeed(run(TRAIN "--model base --adapter whole --steps 2 --out further"));
	assert_int_not_equal(run(TRAIN "--model base --adapter whole --lora 2 --steps 2 --out wrong"), 0);
	assert_int_not_equal(run(TRAIN "--model base --lora 2 --lora-targets c_attn --steps 2 --out wrong"), 0);
}

static void frozen(const char *model, const char *kept, const char *out)
{
	char path[2][4096];
	succeed(run(TRAIN "--model %s --freeze-head --weight-decay 0.1 --steps 4 --out %s", model, out));
	snprintf(path[0], sizeof path[0], "%s/model.safetensors", model);
	snprintf(path[1], sizeof path[1], "%s/model.safetensors", out);
	struct pf_safetensors *before = open_file(path[0]), *after = open_file(path[1]);
	for (size_t i = 0; i < pf_safetensors_count(before); i++) {
		const char *name = pf_safetensors_at(before, i)->name;
		assert_int_equal(same_tensor(before, after, name), strcmp(name, kept) == 0);
	}
	pf_safetensors_close(before);
	pf_safetensors_close(after);
}

/* What inspect says of the base is what its files hold */
static void test_inspect(void **state)
{
	json_error_t fault;
	(void)state;
	succeed(run("model inspect base --batch 2 --max-length 32 --format json"));
	json_t *json = json_load_file(scratch_path("out.txt"), 0, &fault);
	struct pf_safetensors *file = open_file("base/model.safetensors");
	uint64_t elements = 0;
	for (size_t i = 0; i < pf_safetensors_count(file); i++)
		elements += pf_safetensors_at(file, i)->elements;
	const json_t *memory = json_object_get(json, "memory"), *flops = json_object_get(json, "flops");
	const double q = 24, kv = 12, ffn = 40, layers = 2,
	             body = layers * (2 * 24 * (2 * q + 2 * kv + 3 * ffn) + 4 * q * 33 / 2), head = 2 * 259 * 24;
	assert_true(json_integer_value(json_object_get(json, "parameters")) == (json_int_t)elements);
	assert_true(json_integer_value(json_object_get(json, "bytes")) == (json_int_t)(4 * elements));
	assert_string_equal(json_string_value(json_object_get(json, "dtype")), "F32");
	assert_int_equal(json_array_size(json_object_get(json, "tensors")), pf_safetensors_count(file));
	assert_int_equal(json_array_size(json_object_get(json, "missing")), 0);
	assert_int_equal(json_array_size(json_object_get(json, "unknown")), 0);
	assert_int_equal(json_integer_value(json_object_get(memory, "chunk_tokens")), 2 * 2 * 32);
	assert_true(json_integer_value(json_object_get(memory, "weights")) >= (json_int_t)(4 * elements));
	assert_true(fabs(json_real_value(json_object_get(flops, "head_share")) - head / (head + body)) <= 1e-6);
	pf_safetensors_close(file);
	json_decref(json);
	assert_int_not_equal(run("model inspect nowhere"), 0);
}

static void test_frozen_head(void **state)
{
	(void)state;
	frozen("base", "model.embed_tokens.weight", "frozen_tied");
	frozen("untied", "lm_head.weight", "frozen_untied");
}

/* Masters live on in checkpoints, so resumption is exact; what is saved at the end are the weights computed with */
static void test_masters(void **state)
{
	(void)state;
	succeed(run(TRAIN "--model base --weights bf16 --steps 6 --out masters"));
	succeed(run(TRAIN "--model base --weights bf16 --steps 3 --out halves"));
	succeed(run(TRAIN "--model base --weights bf16 --steps 6 --out halves --resume"));
	assert_same_tensors("masters/model.safetensors", "halves/model.safetensors");
	assert_same_tensors("masters/checkpoint-000006/model.safetensors",
	                    "halves/checkpoint-000006/model.safetensors");
	struct pf_safetensors *saved = open_file("masters/model.safetensors"),
	                      *master = open_file("masters/checkpoint-000006/model.safetensors");
	uint64_t finer = 0;
	for (size_t i = 0; i < pf_safetensors_count(saved); i++) {
		const struct pf_safetensor *s = pf_safetensors_at(saved, i), *m = pf_safetensors_find(master, s->name);
		assert_true(m && s->type == PF_BF16 && m->type == PF_F32 && s->elements == m->elements);
		for (uint64_t j = 0; j < s->elements; j++) {
			uint16_t half;
			float wide;
			memcpy(&half, (const char *)s->data + 2 * j, 2);
			memcpy(&wide, (const char *)m->data + 4 * j, 4);
			assert_int_equal(half, pf_bf16(wide));
			finer += pf_from_bf16(half) != wide;
		}
	}
	assert_true(finer > 1000);
	pf_safetensors_close(saved);
	pf_safetensors_close(master);
	/* the rounded model alone computes what the run computed with */
	const double alone = eval_key("logps/chosen", "--model masters"),
	             rounded = eval_key("logps/chosen", "--model masters/checkpoint-000006 --weights bf16"),
	             exact = eval_key("logps/chosen", "--model masters/checkpoint-000006");
	assert_true(fabs(alone - rounded) <= 1e-7 * fabs(alone) && fabs(alone - exact) > 1e-5 * fabs(alone));
	succeed(run(TRAIN "--model base --weights bf16 --lora 2 --steps 2 --out both"));
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_adapter), cmocka_unit_test(test_frozen_head),
		                            cmocka_unit_test(test_masters),
		                            cmocka_unit_test(test_inspect) };
	if (argc < 2)
		return 2;
	program = argv[1];
	scratch_open("model_train");
	return cmocka_run_group_tests(tests, set_up, NULL);
}
