/* Datasets: which records are usable, for what, how they are split, what the hash and the memory are of. */
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "tests/cmocka.h"
#include "tests/corpus_scratch.h"
#include "tests/scratch.h"
#include "prefpga/internal/abi.h"

static void assert_refused(const char *path, const struct pf_corpus_options *options, const char *says)
{
	struct pf_corpus *corpus;

	assert_true(pf_corpus_open(path, corpus_tokenizer, options, &corpus, &corpus_error) < 0);
	assert_null(corpus);
	if (!strstr(corpus_error.text, says))
		fail_msg("\"%s\" is not in \"%s\"", says, corpus_error.text);
}

/* ---- bad records ---- */

static const char mixed[] = "{\"prompt\":\"p\",\"chosen\":\"a\",\"rejected\":\"b\"}\n"
			    "\n"
			    "{\"prompt\":\"p\",\"chosen\":\"a\",\"rejected\":\n"
			    "{\"prompt\":\"p\",\"chosen\":\"a\"}\n"
			    "  \t\r\n"
			    "{\"prompt\":\"p\",\"chosen\":\"\",\"rejected\":\"b\"}\n"
			    "{\"prompt\":\"p\",\"chosen\":\"same\",\"rejected\":\"same\"}\n"
			    "{\"chosen\":\"x\",\"rejected\":\"y\"}\n"
			    "{\"prompt\":\"0123456789012345678901234567890123456789012345678901234567890123\","
                            "\"chosen\":\"a\",\"rejected\":\"b\"}\n"
			    "{\"prompt\":\"p\",\"chosen\":"
                            "\"01234567890123456789012345678901234567890123456789012345678901234\",\"rejected\":\"b\"}";

static void bad_records_are_counted_when_dropped(void **state)
{
	struct pf_corpus_options options = corpus_options();
	const struct pf_corpus_counts *counts;
	struct pf_corpus *corpus;
	char told[512];

	(void)state;
	options.drop = 1;
	corpus = corpus_open(scratch_text("mixed", mixed), &options);
	counts = pf_corpus_counts(corpus);
	assert_int_equal(counts->records, 8);
	assert_int_equal(pf_corpus_count(corpus, PF_SPLIT_TRAIN), 2);
	for (int fault = PF_FAULT_JSON; fault <= PF_FAULT_TRUNCATED; fault++)
		assert_int_equal(counts->faults[fault], 1);
	assert_true(counts->truncated == 1 && counts->longest == 64 && counts->chosen == 2 && counts->rejected == 2);
	pf_corpus_describe(corpus, told, sizeof told);
	assert_non_null(strstr(told, "8 records (pairs), 2 samples; 1 sequences truncated by 4 tokens in all; dropped "
	                             "1 with not valid JSON"));
	assert_true(pf_corpus_describe(corpus, told, 10) > 10 && strlen(told) == 9);
	pf_corpus_close(corpus);
}

static void bad_records_are_errors_otherwise(void **state)
{
	struct pf_corpus_options options = corpus_options();

	(void)state;
	assert_refused(scratch_text("mixed", mixed), &options, "mixed:3: the JSON object is not complete");
	assert_non_null(strstr(corpus_error.text, "--bad-rows drop"));
	assert_refused(scratch_text("same", "\n{\"prompt\":\"\",\"chosen\":\"a\",\"rejected\":\"a\"}"), &options,
	               "same:2: chosen and rejected");
	assert_refused(scratch_text("none", ""), &options, "none: no record in it; a record is one JSON object a line");
	assert_refused(scratch_text("lost", "{\"chosen\":\"a\",\"rejected\":\"b\"}"), &options,
	               "no role marker in the common beginning");
	options.cut.max_length = 1;
	assert_refused(scratch_path("mixed"), &options, "at least 2");
	assert_true(pf_corpus_open(scratch_path("mixed"), corpus_tokenizer, &options, &(struct pf_corpus *){ 0 },
	                           NULL) < 0);
}

static void the_form_must_serve(void **state)
{
	struct pf_corpus_options options = corpus_options();

	(void)state;
	options.want = PF_RECORD_PAIRS;
	assert_refused(write_singles("singles", 3), &options,
	               "singles:1: the records are binary, but pairs are needed");
	options = corpus_options();
	options.form = PF_RECORD_SFT;
	assert_refused(write_pairs("pairs", 0, 3), &options, "pairs:1: field \"completion\" is missing");
}

/* ---- other uses of records ---- */

static void pairs_serve_sft_and_binary(void **state)
{
	struct pf_corpus_options options = corpus_options();
	struct pf_pack pack = { 0 };
	struct pf_corpus *corpus;

	(void)state;
	write_pairs("pairs", 0, 5);
	options.want = PF_RECORD_SFT;
	corpus = corpus_open(scratch_path("pairs"), &options);
	assert_int_equal(pf_corpus_count(corpus, PF_SPLIT_TRAIN), 5);
	assert_int_equal(pf_corpus_pack(corpus, PF_SPLIT_TRAIN, 2, &pack, &corpus_error), 0);
	assert_true(pack.sequences == 1 && pack.scored[0] == strlen("yes 4") + 1);
	pf_corpus_close(corpus);
	pf_pack_clear(&pack);
	options.want = PF_RECORD_BINARY;
	corpus = corpus_open(scratch_path("pairs"), &options);
	assert_int_equal(pf_corpus_count(corpus, PF_SPLIT_TRAIN), 10);
	assert_int_equal(pf_corpus_form(corpus), PF_RECORD_BINARY);
	for (uint64_t i = 0; i < 10; i++)
		assert_int_equal(pf_corpus_pack(corpus, PF_SPLIT_TRAIN, i, &pack, &corpus_error), 0);
	for (size_t i = 0; i < 10; i++) {
		assert_int_equal(pack.member[i].kind, i % 2 ? PF_ITEM_REJECTED : PF_ITEM_CHOSEN);
		assert_int_equal(pack.groups[i + 1], i + 1);
	}
	assert_int_equal(pf_corpus_pack(corpus, PF_SPLIT_TRAIN, 10, &pack, &corpus_error), PF_E_RANGE);
	pf_corpus_close(corpus);
	pf_pack_free(&pack);
}

static void sft_takes_what_is_desirable(void **state)
{
	struct pf_corpus_options options = corpus_options();
	struct pf_corpus *corpus;

	(void)state;
	options.want = PF_RECORD_SFT;
	corpus = corpus_open(write_singles("singles", 9), &options);
	assert_int_equal(pf_corpus_count(corpus, PF_SPLIT_TRAIN), 6);
	assert_int_equal(pf_corpus_counts(corpus)->faults[PF_FAULT_UNWANTED], 3);
	pf_corpus_close(corpus);
	corpus = corpus_open(
		scratch_text("ranked", "{\"prompt\":\"p\",\"completions\":[\"a\",\"bb\",\"ccc\"],\"scores\":[1,3,2]}"),
		&options);
	assert_int_equal(pf_corpus_counts(corpus)->scored, 3);
	pf_corpus_close(corpus);
}

static void a_changed_file_is_noticed(void **state)
{
	struct pf_corpus_options options = corpus_options();
	struct pf_corpus *corpus = corpus_open(write_pairs("pairs", 0, 9000), &options);
	struct pf_sample sample;

	(void)state;
	*strstr(corpus_text, "\"p1\"") = 'x';
	scratch_text("pairs", corpus_text);
	assert_true(pf_corpus_load(corpus, PF_SPLIT_TRAIN, 1, &sample, &corpus_error) < 0);
	assert_non_null(strstr(corpus_error.text, "pairs:2: "));
	assert_non_null(strstr(corpus_error.text, "did the file change"));
	pf_corpus_close(corpus);
}

/* ---- splits ---- */

static void prompt_at(struct pf_corpus *corpus, enum pf_split split, uint64_t i, char out[32])
{
	struct pf_sample sample;

	assert_int_equal(pf_corpus_load(corpus, split, i, &sample, &corpus_error), 0);
	snprintf(out, 32, "%.*s", (int)sample.record.prompt.length, sample.record.prompt.text);
	pf_sample_free(&sample);
}

static void prompts_of(struct pf_corpus *corpus, enum pf_split split, char *held, unsigned limit)
{
	memset(held, 0, limit);
	for (uint64_t i = 0; i < pf_corpus_count(corpus, split); i++) {
		char prompt[32];

		prompt_at(corpus, split, i, prompt);
		held[atoi(prompt + 1)]++;
	}
}

/* Each pair twice: both copies on one side; the sides are everything; more records do not move what is there */
static void equal_prompts_stay_together(void **state)
{
	struct pf_corpus_options options = corpus_options();
	char paths[2200], held[3000], train[3000], later[3000];
	struct pf_corpus *corpus;

	(void)state;
	options.holdout = 0.1;
	options.seed = 5;
	snprintf(paths, sizeof paths, "%s,%s", write_pairs("first", 0, 2000), write_pairs("second", 0, 2000));
	corpus = corpus_open(paths, &options);
	assert_int_equal(pf_corpus_count(corpus, PF_SPLIT_TRAIN) + pf_corpus_count(corpus, PF_SPLIT_HELD), 4000);
	assert_in_range(pf_corpus_count(corpus, PF_SPLIT_HELD), 2 * 140, 2 * 260);
	prompts_of(corpus, PF_SPLIT_HELD, held, sizeof held);
	prompts_of(corpus, PF_SPLIT_TRAIN, train, sizeof train);
	for (unsigned i = 0; i < 2000; i++)
		assert_true((held[i] == 2 && train[i] == 0) || (held[i] == 0 && train[i] == 2));
	pf_corpus_close(corpus);
	snprintf(paths, sizeof paths, "%s,%s", write_pairs("first", 1000, 3000), write_pairs("second", 0, 1000));
	corpus = corpus_open(paths, &options);
	prompts_of(corpus, PF_SPLIT_HELD, later, sizeof later);
	for (unsigned i = 0; i < 2000; i++)
		assert_int_equal(later[i] != 0, held[i] != 0);
	pf_corpus_close(corpus);
}

static void a_split_without_one_side_is_refused(void **state)
{
	struct pf_corpus_options options = corpus_options();

	(void)state;
	options.holdout = 0.5;
	assert_refused(scratch_text("one", "{\"prompt\":\"p\",\"chosen\":\"yes\",\"rejected\":\"no\"}"), &options,
	               "change --holdout or use --eval-data");
}

/* ---- hash ---- */

static uint64_t hash_of(const char *path, const struct pf_corpus_options *options)
{
	struct pf_corpus *corpus = corpus_open(path, options);
	uint64_t hash = pf_corpus_hash(corpus, PF_SPLIT_TRAIN);

	pf_corpus_close(corpus);
	return hash;
}

static void the_hash_is_that_of_what_is_computed(void **state)
{
	struct pf_corpus_options options = corpus_options(), cut = corpus_options(), longer = corpus_options();
	uint64_t plain;
	const char *path;

	(void)state;
	options.drop = 1;
	plain = hash_of(write_pairs("pairs", 0, 50), &options);
	assert_true(plain == hash_of(scratch_path("pairs"), &options));
	path = scratch_gzip("pairs.gz", corpus_text, corpus_used);
	assert_true(plain == hash_of(path, &options));
	corpus_text_add("\n\nbroken\n");
	assert_true(plain == hash_of(scratch_text("pairs_bad", corpus_text), &options));
	longer.cut.max_length = 65;
	assert_true(plain == hash_of(scratch_path("pairs"), &longer));
	cut.cut.max_length = 6;
	assert_true(plain != hash_of(scratch_path("pairs"), &cut));
	assert_true(plain != hash_of(write_pairs("other", 1, 51), &options));
	assert_true(hash_of(scratch_text("x", "{\"prompt\":\"ab\",\"completion\":\"c\"}"), &options) !=
	            hash_of(scratch_text("y", "{\"prompt\":\"a\",\"completion\":\"bc\"}"), &options));
}

/* ---- memory: the index only ---- */

static void memory_does_not_grow_with_the_texts(void **state)
{
	enum { RECORDS = 3000, LENGTH = 8000 };
	struct pf_corpus_options options = corpus_options();
	struct pf_corpus *corpus;
	size_t before;
	FILE *file = fopen(scratch_path("large"), "wb");

	(void)state;
	for (unsigned i = 0; i < RECORDS; i++)
		fprintf(file, "{\"prompt\":\"%u\",\"completion\":\"%0*u\"}\n", i, LENGTH, i);
	fclose(file);
	before = mallinfo2().uordblks + mallinfo2().hblkhd;
	corpus = corpus_open(scratch_path("large"), &options);
	assert_int_equal(pf_corpus_count(corpus, PF_SPLIT_TRAIN), RECORDS);
	assert_true(mallinfo2().uordblks + mallinfo2().hblkhd - before < (1 << 20) || mallinfo2().arena == 0);
	pf_corpus_close(corpus);
}

static int stop_at_once(void *context, uint64_t done, uint64_t total)
{
	assert_true(done <= total);
	++*(int *)context;
	return 1;
}

static void opening_can_be_interrupted(void **state)
{
	struct pf_corpus_options options = corpus_options();
	int calls = 0;

	(void)state;
	options.progress = stop_at_once;
	options.context = &calls;
	assert_refused(write_pairs("many", 0, 3000), &options, "interrupted");
	assert_int_equal(calls, 1);
}

static int prepare(void **state)
{
	(void)state;
	return corpus_prepare("corpus_usable");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(bad_records_are_counted_when_dropped),
		cmocka_unit_test(bad_records_are_errors_otherwise),
		cmocka_unit_test(the_form_must_serve),
		cmocka_unit_test(pairs_serve_sft_and_binary),
		cmocka_unit_test(sft_takes_what_is_desirable),
		cmocka_unit_test(a_changed_file_is_noticed),
		cmocka_unit_test(equal_prompts_stay_together),
		cmocka_unit_test(a_split_without_one_side_is_refused),
		cmocka_unit_test(the_hash_is_that_of_what_is_computed),
		cmocka_unit_test(memory_does_not_grow_with_the_texts),
		cmocka_unit_test(opening_can_be_interrupted),
	};

	return cmocka_run_group_tests(tests, prepare, NULL);
}
