#include "tests/corpus_scratch.h"
#include <stdarg.h>
#include <stdio.h>
#include "tests/cmocka.h"
#include "tests/scratch.h"

const struct pf_tokenizer *corpus_tokenizer;
struct pf_error corpus_error;
char corpus_text[1 << 20];
size_t corpus_used;

int corpus_prepare(const char *test)
{
	scratch_open(test);
	return pf_tokenizer_open("bytes", &corpus_tokenizer, NULL);
}

void corpus_text_start(void)
{
	corpus_used = 0;
	*corpus_text = 0;
}

void corpus_text_add(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	corpus_used += (size_t)vsnprintf(corpus_text + corpus_used, sizeof corpus_text - corpus_used, format,
	                                 arguments);
	va_end(arguments);
	assert_true(corpus_used < sizeof corpus_text);
}

struct pf_corpus_options corpus_options(void)
{
	return (struct pf_corpus_options){ .cut = { .max_length = 64 }, .cache = scratch_path("cache") };
}

struct pf_corpus *corpus_open(const char *path, const struct pf_corpus_options *options)
{
	struct pf_corpus *corpus;

	if (pf_corpus_open(path, corpus_tokenizer, options, &corpus, &corpus_error))
		fail_msg("%s", corpus_error.text);
	return corpus;
}

const char *write_pairs(const char *name, unsigned from, unsigned to)
{
	corpus_text_start();
	for (unsigned i = from; i < to; i++)
		corpus_text_add("{\"prompt\":\"p%u\",\"chosen\":\"yes %u\",\"rejected\":\"n%u\"}\n", i, i * i, i);
	return scratch_text(name, corpus_text);
}

const char *write_singles(const char *name, unsigned count)
{
	corpus_text_start();
	for (unsigned i = 0; i < count; i++)
		corpus_text_add("{\"prompt\":\"%c\",\"completion\":\"%c\",\"label\":%s}\n", 'a' + i % 26, 'A' + i % 26,
		                i % 3 ? "true" : "false");
	return scratch_text(name, corpus_text);
}
