#include "batch.h"
#include <math.h>
#include "permute.h"

int pf_sampler_open(struct pf_sampler *sampler, struct pf_corpus *corpus, enum pf_split split,
                    const struct pf_sampler_options *options, struct pf_error *error)
{
	uint64_t samples = pf_corpus_count(corpus, split), per_step = (uint64_t)options->batch * options->accumulate;

	if (!samples)
		return pf_fail(error, PF_E_DATA, "no samples to draw from");
	if (!per_step)
		return pf_fail(error, PF_E_RANGE, "batch and accumulate must be at least 1");
	if (options->mismatched && pf_corpus_form(corpus) != PF_RECORD_BINARY)
		return pf_fail(error, PF_E_DATA, "mismatched completions need samples of one completion with a label");
	*sampler = (struct pf_sampler){ corpus, split, *options, samples, per_step, (samples - 1) / per_step + 1 };
	return 0;
}

uint64_t pf_sampler_steps(const struct pf_sampler *sampler, double epochs)
{
	double steps = ceil(epochs * (double)sampler->steps);

	return steps >= 1 ? (uint64_t)steps : 1;
}

uint64_t pf_sampler_sample(const struct pf_sampler *sampler, uint64_t epoch, uint64_t position)
{
	struct pf_permutation order = pf_permutation_make(sampler->samples, sampler->options.seed, epoch);

	return sampler->options.shuffle ? pf_permutation_at(&order, position) : position;
}

static int add_samples(const struct pf_sampler *sampler, const struct pf_step *facts, uint64_t count,
                       struct pf_pack *pack, struct pf_error *error)
{
	for (uint64_t i = 0; i < count; i++) {
		uint64_t sample = pf_sampler_sample(sampler, facts->epoch, facts->position + i);
		int status = pf_corpus_pack(sampler->corpus, sampler->split, sample, pack, error);

		if (status)
			return status;
	}
	return 0;
}

/* Place in the epoch whose completion goes with the prompt at place position + i of the step */
static uint64_t partner(const struct pf_sampler *sampler, const struct pf_step *facts, uint64_t count, uint64_t i)
{
	const uint64_t all = sampler->samples, back = sampler->options.mismatched > 0 ? 1 : 0;
	const uint64_t each = sampler->options.within ? sampler->options.batch : count, first = i / each * each;
	const uint64_t ring = count - first < each ? count - first : each;

	if (ring == 1)
		return (facts->position + i + (back ? all - 1 : 1)) % all;
	return facts->position + first + (i - first + (back ? ring - 1 : 1)) % ring;
}

static int add_mismatched(const struct pf_sampler *sampler, const struct pf_step *facts, uint64_t count,
                          struct pf_pack *pack, struct pf_error *error)
{
	for (uint64_t i = 0; i < count; i++) {
		uint64_t prompt = pf_sampler_sample(sampler, facts->epoch, facts->position + i);
		uint64_t other = pf_sampler_sample(sampler, facts->epoch, partner(sampler, facts, count, i));
		int status = pf_corpus_pack_mismatched(sampler->corpus, sampler->split, prompt, other, pack, error);

		if (status)
			return status;
	}
	return 0;
}

int pf_sampler_step(const struct pf_sampler *sampler, uint64_t step, struct pf_pack *pack, struct pf_step *facts,
                    struct pf_error *error)
{
	uint64_t position = step % sampler->steps * sampler->per_step, left = sampler->samples - position;
	uint64_t count = left < sampler->per_step ? left : sampler->per_step;
	int status;

	*facts = (struct pf_step){ .epoch = step / sampler->steps, .position = position };
	pf_pack_clear(pack);
	status = add_samples(sampler, facts, count, pack, error);
	if (status)
		return status;
	facts->groups = pack->group_count;
	facts->sequences = pack->sequences;
	facts->scored = pf_pack_scored(pack, 0, pack->sequences);
	if (sampler->options.mismatched && sampler->samples > 1)
		status = add_mismatched(sampler, facts, count, pack, error);
	facts->mismatched = pack->group_count - facts->groups;
	return status;
}
