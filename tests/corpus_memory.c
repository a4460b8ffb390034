/* corpus_memory.c: every allocation of reading a dataset fails once; each time there is an error, no leak (seen by the
 * address sanitizer), no half-made copy, and the next attempt works. Linked with --wrap for the allocators; the
 * JSON library keeps its own, because version 2.14 does not survive all failures. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "tests/cmocka.h"
#include "tests/scratch.h"
#include "host/corpus/batch.h"

static long left = -1;                 /* allocations until one fails; negative: none does */

static int fails(void)
{
	return left >= 0 && left-- == 0;
}

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *old, size_t size);
char *__real_strdup(const char *text);
char *__real_strndup(const char *text, size_t length);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *old, size_t size);
char *__wrap_strdup(const char *text);
char *__wrap_strndup(const char *text, size_t length);

void *__wrap_malloc(size_t size)
{
	return fails() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t count, size_t size)
{
	return fails() ? NULL : __real_calloc(count, size);
}

void *__wrap_realloc(void *old, size_t size)
{
	return fails() ? NULL : __real_realloc(old, size);
}

char *__wrap_strdup(const char *text)
{
	return fails() ? NULL : __real_strdup(text);
}

char *__wrap_strndup(const char *text, size_t length)
{
	return fails() ? NULL : __real_strndup(text, length);
}

/* Half of the records are texts, half of them messages */
static const char *write_data(unsigned records)
{
	static char text[30000];
	size_t used = 0;

	for (unsigned i = 0; i < records; i++)
		used += (size_t)snprintf(
			text + used, sizeof text - used,
			i % 4 < 2
				? "{\"prompt\":\"p%u\",\"completion\":\"c%0*u\",\"label\":%s}\n"
				: "{\"prompt\":[{\"role\":\"user\",\"content\":[{\"text\":\"p\"},{\"text\":\"%u\"}]}],"
				  "\"completion\":[{\"role\":\"assistant\",\"content\":\"c%0*u\\u0301\"}],\"label\":%s}"
		                  "\n",
			i, 1 + (int)i * 3, i, i % 2 ? "true" : "false");
	return scratch_gzip("data.gz", text, used);
}

static int make_steps(struct pf_corpus *corpus, struct pf_error *error)
{
	struct pf_sampler_options order = { .batch = 7, .accumulate = 2, .shuffle = 1, .mismatched = 1 };
	struct pf_pack pack = { 0 };
	struct pf_sampler sampler;
	struct pf_step step;
	int status = pf_sampler_open(&sampler, corpus, PF_SPLIT_TRAIN, &order, error);

	for (uint64_t s = 0; s < 2 && !status; s++)
		status = pf_sampler_step(&sampler, s, &pack, &step, error);
	pf_pack_free(&pack);
	return status;
}

/* Opens, makes two steps, closes */
static int use(const char *name, const char *path, struct pf_error *error)
{
	struct pf_corpus_options options = {
		.cut = { .max_length = 300 }, .cache = scratch_path("cache"), .marker = "A:", .chat = PF_CHAT_CHATML
	};
	const struct pf_tokenizer *tokenizer;
	struct pf_corpus *corpus = NULL;
	int status = pf_tokenizer_open(name, &tokenizer, error);

	if (status)
		return status;
	status = pf_corpus_open(path, tokenizer, &options, &corpus, error);
	if (!status)
		status = make_steps(corpus, error);
	pf_corpus_close(corpus);
	pf_tokenizer_close(tokenizer);
	return status;
}

static void fail_each(const char *name, unsigned records)
{
	char path[1024];
	long failures = 0;
	int status = -1;

	snprintf(path, sizeof path, "%s", write_data(records));
	while (status) {
		struct pf_error error = { 0 };

		left = failures;
		status = use(name, path, &error);
		left = -1;
		assert_true(status <= 0 && (!status || *error.text));
		assert_true(scratch_count("cache") <= 1);
		failures += status != 0;
		assert_true(failures < 100000);
	}
	assert_true(failures > 20);
}

static void every_allocation_may_fail(void **state)
{
	(void)state;
	fail_each("bytes", 60);
}

static void every_allocation_of_a_tokenizer_may_fail(void **state)
{
	(void)state;
	scratch_open("corpus_memory");
	fail_each("tests/golden/qwen2", 4);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(every_allocation_may_fail),
		cmocka_unit_test(every_allocation_of_a_tokenizer_may_fail) };

	scratch_open("corpus_memory");
	return cmocka_run_group_tests(tests, NULL, NULL);
}
