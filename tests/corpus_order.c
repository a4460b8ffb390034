/* corpus_order.c: datasets: what is usable, how it is split, which samples each step sees. */
#include <malloc.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "tests/cmocka.h"
#include "tests/scratch.h"
#include "host/corpus/batch.h"
#include "prefpga/internal/abi.h"

static const struct pf_tokenizer *tokenizer;
static struct pf_error error;
static char text[1 << 20];
static size_t used;

static void start_text(void)
{
	used = 0;
	*text = 0;
}

PF_PRINTF(1, 2) static void add_text(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	used += (size_t)vsnprintf(text + used, sizeof text - used, format, arguments);
	va_end(arguments);
	assert_true(used < sizeof text);
}

static struct pf_corpus_options defaults(void)
{
	return (struct pf_corpus_options){ .cut = { .max_length = 64 }, .cache = scratch_path("cache") };
}

static struct pf_corpus *open_with(const char *path, const struct pf_corpus_options *options)
{
	struct pf_corpus *corpus;

	if (pf_corpus_open(path, tokenizer, options, &corpus, &error))
		fail_msg("%s", error.text);
	return corpus;
}

static void assert_refused(const char *path, const struct pf_corpus_options *options, const char *says)
{
	struct pf_corpus *corpus;

	assert_true(pf_corpus_open(path, tokenizer, options, &corpus, &error) < 0);
	assert_null(corpus);
	if (!strstr(error.text, says))
		fail_msg("\"%s\" is not in \"%s\"", says, error.text);
}

static const char *write_pairs(const char *name, unsigned from, unsigned to)
{
	start_text();
	for (unsigned i = from; i < to; i++)
		add_text("{\"prompt\":\"p%u\",\"chosen\":\"yes %u\",\"rejected\":\"n%u\"}\n", i, i * i, i);
	return scratch_text(name, text);
}

static const char *write_singles(const char *name, unsigned count)
{
	start_text();
	for (unsigned i = 0; i < count; i++)
		add_text("{\"prompt\":\"%c\",\"completion\":\"%c\",\"label\":%s}\n", 'a' + i % 26, 'A' + i % 26,
		         i % 3 ? "true" : "false");
	return scratch_text(name, text);
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
	struct pf_corpus_options options = defaults();
	const struct pf_corpus_counts *counts;
	struct pf_corpus *corpus;
	char told[512];

	(void)state;
	options.drop = 1;
	corpus = open_with(scratch_text("mixed", mixed), &options);
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
	struct pf_corpus_options options = defaults();

	(void)state;
	assert_refused(scratch_text("mixed", mixed), &options, "mixed:3: the JSON object is not complete");
	assert_non_null(strstr(error.text, "--bad-rows drop"));
	assert_refused(scratch_text("same", "\n{\"prompt\":\"\",\"chosen\":\"a\",\"rejected\":\"a\"}"), &options,
	               "same:2: chosen and rejected");
	assert_refused(scratch_text("none", ""), &options, "no usable record (0 records");
	assert_refused(scratch_text("lost", "{\"chosen\":\"a\",\"rejected\":\"b\"}"), &options,
	               "no role marker in the common beginning");
	options.cut.max_length = 1;
	assert_refused(scratch_path("mixed"), &options, "at least 2");
	assert_true(pf_corpus_open(scratch_path("mixed"), tokenizer, &options, &(struct pf_corpus *){ 0 }, NULL) < 0);
}

static void the_form_must_serve(void **state)
{
	struct pf_corpus_options options = defaults();

	(void)state;
	options.want = PF_RECORD_PAIRS;
	assert_refused(write_singles("singles", 3), &options,
	               "singles:1: the records are binary, but pairs are needed");
	options = defaults();
	options.form = PF_RECORD_SFT;
	assert_refused(write_pairs("pairs", 0, 3), &options, "pairs:1: field \"completion\" is missing");
}

/* ---- other uses of records ---- */

static void pairs_serve_sft_and_binary(void **state)
{
	struct pf_corpus_options options = defaults();
	struct pf_pack pack = { 0 };
	struct pf_corpus *corpus;

	(void)state;
	write_pairs("pairs", 0, 5);
	options.want = PF_RECORD_SFT;
	corpus = open_with(scratch_path("pairs"), &options);
	assert_int_equal(pf_corpus_count(corpus, PF_SPLIT_TRAIN), 5);
	assert_int_equal(pf_corpus_pack(corpus, PF_SPLIT_TRAIN, 2, &pack, &error), 0);
	assert_true(pack.sequences == 1 && pack.scored[0] == strlen("yes 4") + 1);
	pf_corpus_close(corpus);
	pf_pack_clear(&pack);
	options.want = PF_RECORD_BINARY;
	corpus = open_with(scratch_path("pairs"), &options);
	assert_int_equal(pf_corpus_count(corpus, PF_SPLIT_TRAIN), 10);
	assert_int_equal(pf_corpus_form(corpus), PF_RECORD_BINARY);
	for (uint64_t i = 0; i < 10; i++)
		assert_int_equal(pf_corpus_pack(corpus, PF_SPLIT_TRAIN, i, &pack, &error), 0);
	for (size_t i = 0; i < 10; i++) {
		assert_int_equal(pack.member[i].kind, i % 2 ? PF_ITEM_REJECTED : PF_ITEM_CHOSEN);
		assert_int_equal(pack.groups[i + 1], i + 1);
	}
	assert_int_equal(pf_corpus_pack(corpus, PF_SPLIT_TRAIN, 10, &pack, &error), PF_E_RANGE);
	pf_corpus_close(corpus);
	pf_pack_free(&pack);
}

static void sft_takes_what_is_desirable(void **state)
{
	struct pf_corpus_options options = defaults();
	struct pf_corpus *corpus;

	(void)state;
	options.want = PF_RECORD_SFT;
	corpus = open_with(write_singles("singles", 9), &options);
	assert_int_equal(pf_corpus_count(corpus, PF_SPLIT_TRAIN), 6);
	assert_int_equal(pf_corpus_counts(corpus)->faults[PF_FAULT_UNWANTED], 3);
	pf_corpus_close(corpus);
	corpus = open_with(
		scratch_text("ranked", "{\"prompt\":\"p\",\"completions\":[\"a\",\"bb\",\"ccc\"],\"scores\":[1,3,2]}"),
		&options);
	assert_int_equal(pf_corpus_counts(corpus)->scored, 3);
	pf_corpus_close(corpus);
}

static void a_changed_file_is_noticed(void **state)
{
	struct pf_corpus_options options = defaults();
	struct pf_corpus *corpus = open_with(write_pairs("pairs", 0, 9000), &options);
	struct pf_sample sample;

	(void)state;
	*strstr(text, "\"p1\"") = 'x';
	scratch_text("pairs", text);
	assert_true(pf_corpus_load(corpus, PF_SPLIT_TRAIN, 1, &sample, &error) < 0);
	assert_non_null(strstr(error.text, "pairs:2: "));
	assert_non_null(strstr(error.text, "did the file change"));
	pf_corpus_close(corpus);
}

/* ---- splits ---- */

static void prompt_at(struct pf_corpus *corpus, enum pf_split split, uint64_t i, char out[32])
{
	struct pf_sample sample;

	assert_int_equal(pf_corpus_load(corpus, split, i, &sample, &error), 0);
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
	struct pf_corpus_options options = defaults();
	char paths[2200], held[3000], train[3000], later[3000];
	struct pf_corpus *corpus;

	(void)state;
	options.holdout = 0.1;
	options.seed = 5;
	snprintf(paths, sizeof paths, "%s,%s", write_pairs("first", 0, 2000), write_pairs("second", 0, 2000));
	corpus = open_with(paths, &options);
	assert_int_equal(pf_corpus_count(corpus, PF_SPLIT_TRAIN) + pf_corpus_count(corpus, PF_SPLIT_HELD), 4000);
	assert_in_range(pf_corpus_count(corpus, PF_SPLIT_HELD), 2 * 140, 2 * 260);
	prompts_of(corpus, PF_SPLIT_HELD, held, sizeof held);
	prompts_of(corpus, PF_SPLIT_TRAIN, train, sizeof train);
	for (unsigned i = 0; i < 2000; i++)
		assert_true((held[i] == 2 && train[i] == 0) || (held[i] == 0 && train[i] == 2));
	pf_corpus_close(corpus);
	snprintf(paths, sizeof paths, "%s,%s", write_pairs("first", 1000, 3000), write_pairs("second", 0, 1000));
	corpus = open_with(paths, &options);
	prompts_of(corpus, PF_SPLIT_HELD, later, sizeof later);
	for (unsigned i = 0; i < 2000; i++)
		assert_int_equal(later[i] != 0, held[i] != 0);
	pf_corpus_close(corpus);
}

static void a_split_without_one_side_is_refused(void **state)
{
	struct pf_corpus_options options = defaults();

	(void)state;
	options.holdout = 0.5;
	assert_refused(scratch_text("one", "{\"prompt\":\"p\",\"chosen\":\"yes\",\"rejected\":\"no\"}"), &options,
	               "change --holdout or use --eval-data");
}

/* ---- hash ---- */

static uint64_t hash_of(const char *path, const struct pf_corpus_options *options)
{
	struct pf_corpus *corpus = open_with(path, options);
	uint64_t hash = pf_corpus_hash(corpus, PF_SPLIT_TRAIN);

	pf_corpus_close(corpus);
	return hash;
}

static void the_hash_is_that_of_what_is_computed(void **state)
{
	struct pf_corpus_options options = defaults(), cut = defaults(), longer = defaults();
	uint64_t plain;
	const char *path;

	(void)state;
	options.drop = 1;
	plain = hash_of(write_pairs("pairs", 0, 50), &options);
	assert_true(plain == hash_of(scratch_path("pairs"), &options));
	path = scratch_gzip("pairs.gz", text, used);
	assert_true(plain == hash_of(path, &options));
	add_text("\n\nbroken\n");
	assert_true(plain == hash_of(scratch_text("pairs_bad", text), &options));
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
	struct pf_corpus_options options = defaults();
	struct pf_corpus *corpus;
	size_t before;
	FILE *file = fopen(scratch_path("large"), "wb");

	(void)state;
	for (unsigned i = 0; i < RECORDS; i++)
		fprintf(file, "{\"prompt\":\"%u\",\"completion\":\"%0*u\"}\n", i, LENGTH, i);
	fclose(file);
	before = mallinfo2().uordblks + mallinfo2().hblkhd;
	corpus = open_with(scratch_path("large"), &options);
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
	struct pf_corpus_options options = defaults();
	int calls = 0;

	(void)state;
	options.progress = stop_at_once;
	options.context = &calls;
	assert_refused(write_pairs("many", 0, 3000), &options, "interrupted");
	assert_int_equal(calls, 1);
}

/* ---- steps ---- */

static struct pf_sampler sampler_of(struct pf_corpus *corpus, struct pf_sampler_options options)
{
	struct pf_sampler sampler;

	if (pf_sampler_open(&sampler, corpus, PF_SPLIT_TRAIN, &options, &error))
		fail_msg("%s", error.text);
	return sampler;
}

static void an_epoch_sees_every_sample_once(void **state)
{
	struct pf_corpus_options options = defaults();
	struct pf_corpus *corpus = open_with(write_pairs("pairs", 0, 103), &options);
	struct pf_sampler sampler =
		sampler_of(corpus, (struct pf_sampler_options){ .seed = 3, .batch = 4, .accumulate = 2, .shuffle = 1 });
	struct pf_pack pack = { 0 };
	unsigned differ = 0;

	(void)state;
	assert_true(sampler.steps == 13 && sampler.per_step == 8);
	assert_true(pf_sampler_steps(&sampler, 1) == 13 && pf_sampler_steps(&sampler, 2.5) == 33 &&
	            pf_sampler_steps(&sampler, 0) == 1);
	for (uint64_t epoch = 0; epoch < 3; epoch++) {
		unsigned seen[103] = { 0 };

		for (uint64_t s = 0; s < sampler.steps; s++) {
			struct pf_step step;

			assert_int_equal(pf_sampler_step(&sampler, epoch * sampler.steps + s, &pack, &step, &error), 0);
			assert_true(step.epoch == epoch && step.position == s * 8 && step.mismatched == 0);
			assert_true(step.groups == (s == 12 ? 7 : 8) && step.sequences == 2 * step.groups);
			assert_true(step.scored == pf_pack_scored(&pack, 0, pack.sequences));
			for (size_t i = 0; i < pack.sequences; i += 2) {
				assert_int_equal(pack.member[i].sample, pack.member[i + 1].sample);
				seen[pack.member[i].sample]++;
				differ += pack.member[i].sample != s * 8 + i / 2;
			}
		}
		for (unsigned i = 0; i < 103; i++)
			assert_int_equal(seen[i], 1);
	}
	assert_true(differ > 250);
	pf_pack_free(&pack);
	pf_corpus_close(corpus);
}

static void assert_same_pack(const struct pf_pack *a, const struct pf_pack *b)
{
	assert_true(a->ids.count == b->ids.count && a->sequences == b->sequences && a->group_count == b->group_count);
	assert_memory_equal(a->ids.id, b->ids.id, a->ids.count * sizeof *a->ids.id);
	assert_memory_equal(a->offsets, b->offsets, (a->sequences + 1) * sizeof *a->offsets);
	assert_memory_equal(a->first, b->first, a->sequences * sizeof *a->first);
	assert_memory_equal(a->scored, b->scored, a->sequences * sizeof *a->scored);
	assert_memory_equal(a->groups, b->groups, (a->group_count + 1) * sizeof *a->groups);
}

/* A run that stops after any step and starts anew, from newly opened files, sees what the uninterrupted one sees; so
 * does one whose batch is split by accumulation */
static void a_resumed_run_continues_exactly(void **state)
{
	struct pf_sampler_options six = { .seed = 11, .batch = 6, .accumulate = 1, .shuffle = 1, .mismatched = 1 },
				  split = six;
	struct pf_corpus_options options = defaults();
	struct pf_pack pack = { 0 }, other = { 0 };
	struct pf_corpus *corpus, *again;
	struct pf_sampler sampler, resumed;
	struct pf_step a, b;

	(void)state;
	options.holdout = 0.2;
	split.batch = 2;
	split.accumulate = 3;
	corpus = open_with(write_singles("singles", 40), &options);
	sampler = sampler_of(corpus, six);
	for (uint64_t stop = 0; stop < 2 * sampler.steps; stop++) {
		again = open_with(scratch_path("singles"), &options);
		resumed = sampler_of(again, split);
		assert_int_equal(pf_sampler_step(&sampler, stop, &pack, &a, &error), 0);
		assert_int_equal(pf_sampler_step(&resumed, stop, &other, &b, &error), 0);
		assert_memory_equal(&a, &b, sizeof a);
		assert_same_pack(&pack, &other);
		pf_corpus_close(again);
	}
	pf_pack_free(&pack);
	pf_pack_free(&other);
	pf_corpus_close(corpus);
}

/* Completion of a sequence of write_singles: the token after bos and the one-byte prompt */
static int32_t token_of(const struct pf_pack *pack, size_t i, size_t place)
{
	return pack->ids.id[pack->offsets[i] + place];
}

static void assert_mismatches(uint32_t samples, uint32_t batch, int rotation)
{
	struct pf_corpus_options options = defaults();
	struct pf_corpus *corpus = open_with(write_singles("singles", samples), &options);
	struct pf_sampler sampler =
		sampler_of(corpus, (struct pf_sampler_options){
					   .seed = 2, .batch = batch, .accumulate = 1, .shuffle = 1,
					   .mismatched = rotation });
	struct pf_pack pack = { 0 };
	struct pf_step step;

	for (uint64_t s = 0; s < 2 * sampler.steps; s++) {
		assert_int_equal(pf_sampler_step(&sampler, s, &pack, &step, &error), 0);
		assert_int_equal(step.mismatched, samples > 1 ? step.groups : 0);
		assert_true(pack.group_count == step.groups + step.mismatched);
		for (size_t i = 0; i < step.mismatched; i++) {
			size_t k = step.sequences + i;
			size_t other = (i + step.groups - (size_t)rotation) % step.groups;

			assert_int_equal(token_of(&pack, k, 1), token_of(&pack, i, 1));
			assert_int_not_equal(token_of(&pack, k, 2), token_of(&pack, i, 2));
			assert_true(step.groups == 1 || token_of(&pack, k, 2) == token_of(&pack, other, 2));
			assert_true(pack.member[k].mismatched == 1 && pack.member[i].mismatched == 0);
		}
	}
	pf_pack_free(&pack);
	pf_corpus_close(corpus);
}

/* Even and odd steps, trailing steps of one, steps of one, a dataset of one */
static void mismatched_completions_are_never_the_own(void **state)
{
	(void)state;
	for (uint32_t samples = 1; samples <= 11; samples++)
		for (uint32_t batch = 1; batch <= 6; batch++)
			for (int rotation = -1; rotation <= 1; rotation += 2)
				assert_mismatches(samples, batch, rotation);
}

/* What the batches of a step see of each other: nothing, as if each were a step */
static void partners_may_come_from_the_batch(void **state)
{
	struct pf_corpus_options options = defaults();
	struct pf_sampler_options alone = { .seed = 2, .batch = 3, .accumulate = 1, .shuffle = 1, .mismatched = 1 },
				  step = alone;
	struct pf_pack pack = { 0 }, batch = { 0 };
	struct pf_step a, b;

	(void)state;
	step.accumulate = 4;
	step.within = 1;
	for (uint32_t samples = 1; samples <= 25; samples++)
		for (int rotation = -1; rotation <= 1; rotation += 2) {
			struct pf_corpus *corpus = open_with(write_singles("singles", samples), &options);
			alone.mismatched = step.mismatched = rotation;
			struct pf_sampler whole = sampler_of(corpus, step), small = sampler_of(corpus, alone);
			for (uint64_t s = 0, k = 0; s < whole.steps; s++) {
				assert_int_equal(pf_sampler_step(&whole, s, &pack, &a, &error), 0);
				for (size_t i = 0; i < a.mismatched; i++) {
					if (i % 3 == 0)
						assert_int_equal(pf_sampler_step(&small, k++, &batch, &b, &error), 0);
					assert_int_equal(token_of(&pack, a.sequences + i, 1),
					                 token_of(&batch, b.sequences + i % 3, 1));
					assert_int_equal(token_of(&pack, a.sequences + i, 2),
					                 token_of(&batch, b.sequences + i % 3, 2));
				}
			}
			pf_corpus_close(corpus);
		}
	pf_pack_free(&pack);
	pf_pack_free(&batch);
}

static void wrong_samplers_are_refused(void **state)
{
	struct pf_corpus_options options = defaults();
	struct pf_corpus *corpus = open_with(write_pairs("pairs", 0, 3), &options);
	struct pf_sampler_options wrong = { .batch = 1, .accumulate = 1, .mismatched = 1 };
	struct pf_sampler sampler;

	(void)state;
	assert_true(pf_sampler_open(&sampler, corpus, PF_SPLIT_TRAIN, &wrong, &error) < 0);
	assert_non_null(strstr(error.text, "with a label"));
	wrong.mismatched = 0;
	assert_true(pf_sampler_open(&sampler, corpus, PF_SPLIT_HELD, &wrong, &error) < 0);
	wrong.accumulate = 0;
	assert_true(pf_sampler_open(&sampler, corpus, PF_SPLIT_TRAIN, &wrong, &error) < 0);
	pf_corpus_close(corpus);
}

static int prepare(void **state)
{
	(void)state;
	scratch_open("corpus_order");
	return pf_tokenizer_open("bytes", &tokenizer, NULL);
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
		cmocka_unit_test(an_epoch_sees_every_sample_once),
		cmocka_unit_test(a_resumed_run_continues_exactly),
		cmocka_unit_test(mismatched_completions_are_never_the_own),
		cmocka_unit_test(partners_may_come_from_the_batch),
		cmocka_unit_test(wrong_samplers_are_refused),
	};

	return cmocka_run_group_tests(tests, prepare, NULL);
}
