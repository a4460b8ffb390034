#include "tests/word_pairs.h"
#include <stdio.h>
#include "tests/cmocka.h"
#include "tests/scratch.h"

struct word_pairs word_pairs;

int word_pairs_open(const char *test, int pairs, uint32_t length)
{
	static const char *const word[] = { "red", "blue", "green", "wide" };
	const struct pf_corpus_options options = { .want = PF_RECORD_PAIRS, .cut = { .max_length = length } };
	struct pf_error error;
	char text[2048];
	size_t n = 0;
	scratch_open(test);
	for (int i = 0; i < pairs; i++)
		n += (size_t)snprintf(text + n, sizeof text - n,
		                      "{\"prompt\": \"%s %s:\", \"chosen\": \" a %s thing, please\", "
		                      "\"rejected\": \" %s sea\"}\n",
		                      word[i % 4], word[i / 4], word[i % 4], word[(i + 1) % 4]);
	if (pf_tokenizer_open("bytes", &word_pairs.tokenizer, &error) ||
	    pf_loss_parse("sigmoid:beta=0.1", &word_pairs.loss, &error) ||
	    pf_corpus_open(scratch_text("pairs.jsonl", text), word_pairs.tokenizer, &options, &word_pairs.corpus,
	                   &error))
		fail_msg("%s", error.text);
	return 0;
}

int word_pairs_close(void **state)
{
	(void)state;
	pf_corpus_close(word_pairs.corpus);
	return 0;
}
