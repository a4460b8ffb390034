/* Each allocation and each thread in turn fails: every function of the model returns an error with a text, frees what
 * it took (LeakSanitizer watches) and leaves no half-written file; without threads the results are the same.
 * Linked with --wrap for malloc, calloc, aligned_alloc, strdup, pthread_create. */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "cmocka.h"
#include "host/model/decoder.h"
#include "host/model/model.h"
#include "host/model/parallel.h"
#include "model_shape.h"
#include "host/train/adamw.h"
#include "scratch.h"

enum { NEVER = -1 };
static int countdown = NEVER, no_threads;

static int runs_out(void)
{
	return countdown >= 0 && countdown-- == 0;
}

void *__real_malloc(size_t bytes);
void *__real_calloc(size_t count, size_t bytes);
void *__real_aligned_alloc(size_t align, size_t bytes);
char *__real_strdup(const char *text);
int __real_pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*body)(void *),
                          void *argument);
void *__wrap_malloc(size_t bytes);
void *__wrap_calloc(size_t count, size_t bytes);
void *__wrap_aligned_alloc(size_t align, size_t bytes);
char *__wrap_strdup(const char *text);
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*body)(void *),
                          void *argument);

void *__wrap_malloc(size_t bytes)
{
	return runs_out() ? NULL : __real_malloc(bytes);
}

void *__wrap_calloc(size_t count, size_t bytes)
{
	return runs_out() ? NULL : __real_calloc(count, bytes);
}

void *__wrap_aligned_alloc(size_t align, size_t bytes)
{
	return runs_out() ? NULL : __real_aligned_alloc(align, bytes);
}

char *__wrap_strdup(const char *text)
{
	return runs_out() ? NULL : __real_strdup(text);
}

int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*body)(void *),
                          void *argument)
{
	return no_threads ? EAGAIN : __real_pthread_create(thread, attr, body, argument);
}

static const struct pf_model_config config = { MODEL_SHAPE(19, 10, 2, 4, 2, 6, 14, 64, 1e4, 1e-5, 0, 1, 2) };
static struct pf_model *model; /* for what needs one */
static char folder[4096], adapter_folder[4096], state_path[4096];

static int attempt_create(struct pf_error *error)
{
	struct pf_model *made = NULL;
	int code = pf_model_create(&config, 1, &made, error);
	if (code == 0)
		pf_model_close(made);
	return code;
}

static int attempt_save(struct pf_error *error)
{
	return pf_model_save(model, folder, error);
}

static int attempt_load(struct pf_error *error)
{
	struct pf_model *made = NULL;
	int code = pf_model_load(folder, &made, error);
	if (code == 0)
		pf_model_close(made);
	return code;
}

static int attempt_decoder(struct pf_error *error)
{
	const struct pf_decoder_options options = { 8, 0, 2, 1 };
	struct pf_decoder *decoder = NULL;
	int code = pf_decoder_open(&config, &model->layout, &options, &decoder, error);
	pf_decoder_close(decoder);
	return code;
}

static int keep(void *context, uint32_t sequence, int32_t token)
{
	(void)context;
	(void)sequence;
	(void)token;
	return 0;
}

static int attempt_generate(struct pf_error *error)
{
	static const int32_t ids[] = { 1, 2, 3 };
	static const uint32_t offsets[] = { 0, 1, 3 };
	const struct pf_sampling sampling = { 1, 0.9, 1, 3, -1, 1 };
	return pf_generate(model, &sampling, ids, offsets, 2, keep, NULL, error);
}

static int attempt_half(struct pf_error *error)
{
	struct pf_model *made = NULL;
	int code = pf_model_load_half(folder, &made, error);
	if (code == 0)
		pf_model_close(made);
	return code;
}

/* A copy, adapted, used, saved and loaded; the decoder's window is one of the allocations */
static int attempt_adapter(struct pf_error *error)
{
	static const int32_t ids[] = { 1, 2, 3 };
	static const uint32_t offsets[] = { 0, 3 };
	const struct pf_lora_options lora = { 2, 4, "all-linear", 0 };
	const struct pf_decoder_options options = { 8, 0, 1, 0 };
	struct pf_model *base = pf_model_reference(model), *again = base ? pf_model_reference(model) : NULL;
	struct pf_decoder *decoder = NULL;
	int code = again ? pf_model_adapt(base, &lora, 1, error) : pf_fail(error, -ENOMEM, "no copy");
	code = code != 0 ? code : pf_decoder_open(&config, &base->layout, &options, &decoder, error);
	if (code == 0) {
		const struct pf_weights weights = pf_model_weights(base);
		code = pf_decoder_forward_with(decoder, &weights, ids, offsets, 1, error);
	}
	code = code != 0 ? code : pf_model_save(base, adapter_folder, error);
	code = code != 0 ? code : pf_model_adapt_from(again, adapter_folder, error);
	pf_decoder_close(decoder);
	pf_model_close(again);
	pf_model_close(base);
	return code;
}

static int attempt_adamw(struct pf_error *error)
{
	const struct pf_adamw_options options = { 0.9, 0.99, 1e-8, 0, 0, 1 };
	struct pf_adamw adamw;
	struct pf_safetensors_writer *writer = NULL;
	int code = pf_adamw_init(&adamw, &model->layout, &options, error);
	code = code != 0 ? code : pf_safetensors_create(state_path, &writer, error);
	code = code != 0 ? code : pf_adamw_declare(&adamw, writer, error);
	code = code != 0 ? code : pf_adamw_write(&adamw, writer, error);
	if (code == 0)
		code = pf_safetensors_commit(writer, error);
	else
		pf_safetensors_abandon(writer);
	pf_adamw_fini(&adamw);
	return code;
}

static int attempt_adamw_read(struct pf_error *error)
{
	const struct pf_adamw_options options = { 0.9, 0.99, 1e-8, 0, 0, 1 };
	struct pf_adamw adamw;
	struct pf_safetensors *file = NULL;
	int code = pf_adamw_init(&adamw, &model->layout, &options, error);
	code = code != 0 ? code : pf_safetensors_open(state_path, &file, error);
	code = code != 0 ? code : pf_adamw_read(&adamw, file, error);
	pf_safetensors_close(file);
	pf_adamw_fini(&adamw);
	return code;
}

/* The n-th allocation fails, for n from 0 until nothing fails any more */
static void every_allocation(int (*attempt)(struct pf_error *error))
{
	int code = -1, n = 0;
	for (; code != 0; n++) {
		struct pf_error error = { 0 };
		countdown = n;
		code = attempt(&error);
		countdown = NEVER;
		assert_true(code == 0 || (code == -ENOMEM && strlen(error.text) > 0));
		assert_true(n < 1000);
	}
	assert_true(n > 1);
}

static void test_memory(void **state)
{
	char partial[4200];
	(void)state;
	every_allocation(attempt_create);
	every_allocation(attempt_save);
	snprintf(partial, sizeof partial, "%s/model.safetensors.partial", folder);
	assert_int_equal(access(partial, F_OK), -1);
	snprintf(partial, sizeof partial, "%s/config.json.partial", folder);
	assert_int_equal(access(partial, F_OK), -1);
	every_allocation(attempt_load);
	every_allocation(attempt_decoder);
	every_allocation(attempt_half);
	every_allocation(attempt_generate);
	every_allocation(attempt_adapter);
	every_allocation(attempt_adamw);
	every_allocation(attempt_adamw_read);
}

static void count(void *context, size_t index, unsigned worker)
{
	((unsigned *)context)[index] += worker + 1;
}

/* Runs first: afterwards the pool has its threads */
static void test_no_threads(void **state)
{
	unsigned done[50] = { 0 };
	(void)state;
	no_threads = 1;
	pf_parallel(4, 50, count, done);
	no_threads = 0;
	for (int i = 0; i < 50; i++)
		assert_int_equal(done[i], 1);
	pf_parallel(4, 50, count, done);
	for (int i = 0; i < 50; i++)
		assert_in_range(done[i], 2, 5);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_no_threads),
	                                    cmocka_unit_test(test_memory) };
	scratch_open("model_faults");
	snprintf(folder, sizeof folder, "%s", scratch_path("model"));
	snprintf(adapter_folder, sizeof adapter_folder, "%s", scratch_path("adapter"));
	snprintf(state_path, sizeof state_path, "%s", scratch_path("state"));
	if (pf_model_create(&config, 3, &model, NULL) != 0)
		return 1;
	int failed = cmocka_run_group_tests(tests, NULL, NULL);
	pf_model_close(model);
	return failed;
}
