/* Which samples of a dataset each step sees. */
#include <string.h>
#include "tests/cmocka.h"
#include "tests/corpus_scratch.h"
#include "tests/scratch.h"

static struct pf_sampler sampler_of(struct pf_corpus *corpus, struct pf_sampler_options options)
{
	struct pf_sampler sampler;

	if (pf_sampler_open(&sampler, corpus, PF_SPLIT_TRAIN, &options, &corpus_error))
		fail_msg("%s", corpus_error.text);
	return sampler;
}

static void take_step(const struct pf_sampler *sampler, uint64_t number, struct pf_pack *pack, struct pf_step *step)
{
	assert_int_equal(pf_sampler_step(sampler, number, pack, step, &corpus_error), 0);
}

static void an_epoch_sees_every_sample_once(void **state)
{
	struct pf_corpus_options options = corpus_options();
	struct pf_corpus *corpus = corpus_open(write_pairs("pairs", 0, 103), &options);
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

			take_step(&sampler, epoch * sampler.steps + s, &pack, &step);
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
	struct pf_corpus_options options = corpus_options();
	struct pf_pack pack = { 0 }, other = { 0 };
	struct pf_corpus *corpus, *again;
	struct pf_sampler sampler, resumed;
	struct pf_step a, b;

	(void)state;
	options.holdout = 0.2;
	split.batch = 2;
	split.accumulate = 3;
	corpus = corpus_open(write_singles("singles", 40), &options);
	sampler = sampler_of(corpus, six);
	for (uint64_t stop = 0; stop < 2 * sampler.steps; stop++) {
		again = corpus_open(scratch_path("singles"), &options);
		resumed = sampler_of(again, split);
		take_step(&sampler, stop, &pack, &a);
		take_step(&resumed, stop, &other, &b);
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
	struct pf_corpus_options options = corpus_options();
	struct pf_corpus *corpus = corpus_open(write_singles("singles", samples), &options);
	struct pf_sampler sampler =
		sampler_of(corpus, (struct pf_sampler_options){
					   .seed = 2, .batch = batch, .accumulate = 1, .shuffle = 1,
					   .mismatched = rotation });
	struct pf_pack pack = { 0 };
	struct pf_step step;

	for (uint64_t s = 0; s < 2 * sampler.steps; s++) {
		take_step(&sampler, s, &pack, &step);
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
	struct pf_corpus_options options = corpus_options();
	struct pf_sampler_options alone = { .seed = 2, .batch = 3, .accumulate = 1, .shuffle = 1, .mismatched = 1 },
				  step = alone;
	struct pf_pack pack = { 0 }, batch = { 0 };
	struct pf_step a, b;

	(void)state;
	step.accumulate = 4;
	step.within = 1;
	for (uint32_t samples = 1; samples <= 25; samples++)
		for (int rotation = -1; rotation <= 1; rotation += 2) {
			struct pf_corpus *corpus = corpus_open(write_singles("singles", samples), &options);
			alone.mismatched = step.mismatched = rotation;
			struct pf_sampler whole = sampler_of(corpus, step), small = sampler_of(corpus, alone);
			for (uint64_t s = 0, k = 0; s < whole.steps; s++) {
				take_step(&whole, s, &pack, &a);
				for (size_t i = 0; i < a.mismatched; i++) {
					if (i % 3 == 0)
						take_step(&small, k++, &batch, &b);
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
	struct pf_corpus_options options = corpus_options();
	struct pf_corpus *corpus = corpus_open(write_pairs("pairs", 0, 3), &options);
	struct pf_sampler_options wrong = { .batch = 1, .accumulate = 1, .mismatched = 1 };
	struct pf_sampler sampler;

	(void)state;
	assert_true(pf_sampler_open(&sampler, corpus, PF_SPLIT_TRAIN, &wrong, &corpus_error) < 0);
	assert_non_null(strstr(corpus_error.text, "with a label"));
	wrong.mismatched = 0;
	assert_true(pf_sampler_open(&sampler, corpus, PF_SPLIT_HELD, &wrong, &corpus_error) < 0);
	wrong.accumulate = 0;
	assert_true(pf_sampler_open(&sampler, corpus, PF_SPLIT_TRAIN, &wrong, &corpus_error) < 0);
	pf_corpus_close(corpus);
}

static int prepare(void **state)
{
	(void)state;
	return corpus_prepare("corpus_order");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_epoch_sees_every_sample_once),
		cmocka_unit_test(a_resumed_run_continues_exactly),
		cmocka_unit_test(mismatched_completions_are_never_the_own),
		cmocka_unit_test(partners_may_come_from_the_batch),
		cmocka_unit_test(wrong_samplers_are_refused),
	};

	return cmocka_run_group_tests(tests, prepare, NULL);
}
