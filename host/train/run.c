#include "run.h"
#include <string.h>
#include "../corpus/hash.h"
#include "../model/config.h"
#include "../model/parallel.h"

enum { CHUNK_TOKENS = 8192 };

/* Largest group of the loss's form: a chunk must hold one whole */
static uint32_t group_tokens(const struct pf_run *run)
{
	const enum pf_loss_form form = pf_loss_form(run->loss);
	const uint32_t members = form == PF_FORM_LIST || form == PF_FORM_ROLLOUT  ? PF_COMPLETIONS_MAX
	                         : form == PF_FORM_PAIR || form == PF_FORM_TRIPLE ? 2
	                                                                          : 1;
	return members * run->max_length;
}

static double tail_weight(const struct pf_loss *loss)
{
	double alpha;
	return pf_loss_tail(loss) && pf_loss_param(loss, "ld_alpha", &alpha) ? alpha : 1.0;
}

/* Policy and reference take turns in one workspace, so they must be of one shape */
static int check_reference(const struct pf_run *run, const struct pf_model *model, struct pf_error *error)
{
	char policy[512], reference[512];
	if (!run->reference || pf_config_equal(&run->reference->config, &model->config))
		return 0;
	pf_config_describe(&model->config, policy, sizeof policy);
	pf_config_describe(&run->reference->config, reference, sizeof reference);
	return pf_fail(error, PF_E_SHAPE,
	               "policy (%s) and reference (%s) differ in shape; give --reference a model of the "
	               "policy's",
	               policy, reference);
}

/* Whether some device's image lacks the kernel of the reference's head */
static int reference_is_remote(const struct pf_run *run)
{
	const int kernel = pf_precision_forward_kernel(run->reference_precision);
	int lacks = 0;
	for (unsigned i = 0; !run->logits && i < run->devices; i++)
		lacks |= !pf_device_cus(run->device[i], kernel);
	return lacks;
}

/* So many tokens a chunk holds, if no group is larger */
static uint32_t chunk_tokens(const struct pf_run *run)
{
	return run->chunk_tokens ? run->chunk_tokens : CHUNK_TOKENS;
}

int pf_running_describe(struct pf_running *r, const struct pf_run *run, const struct pf_model *model, int backward,
                        struct pf_error *error)
{
	memset(r, 0, sizeof *r);
	r->run = run;
	int code = check_reference(run, model, error);
	if (code)
		return code;
	if (pf_loss_needs_reference(run->loss) && !run->reference && !run->uniform)
		return pf_fail(error, PF_E_ARGUMENT,
		               "loss %s compares with a reference policy; give --reference DIR, or choose a "
		               "loss without one (`prefpga losses` shows which)",
		               run->loss->component[0].row->name);
	r->objective = (struct pf_objective){ .loss = run->loss,
		                              .device = run->device[0],
		                              .policy = model,
		                              .reference = pf_loss_needs_reference(run->loss) ? run->reference : NULL,
		                              .limit = { .groups = run->batch, .tokens = chunk_tokens(run) },
		                              .micro = run->micro ? run->batch : 0,
		                              .training = backward,
		                              .remote = reference_is_remote(run),
		                              .advantages = run->advantages };
	return 0;
}

int pf_running_open(struct pf_running *r, const struct pf_run *run, const struct pf_model *model, int backward,
                    struct pf_error *error)
{
	const uint32_t wanted = chunk_tokens(run), least = group_tokens(run);
	const struct pf_model *reference = run->reference == model ? NULL : run->reference;
	const struct pf_scorer_options options = { run->device, run->devices, run->memory_bytes,
		wanted > least ? wanted : least, run->max_length, run->threads, backward, pf_loss_per_token(run->loss),
		pf_loss_tail(run->loss), tail_weight(run->loss), run->trace,
		run->logits, run->way, run->precision, reference, run->reference_precision,
		run->filter, run->shards };
	int code = pf_running_describe(r, run, model, backward, error);
	if (!code)
		code = pf_scorer_open(&model->config, &model->layout, &options, &r->scorer, error);
	r->objective.scorer = r->scorer;
	return code;
}

void pf_running_close(struct pf_running *r)
{
	pf_scorer_close(r->scorer);
	pf_pack_free(&r->pack);
}

static int stopped(const struct pf_run *run)
{
	return run->stop && *run->stop;
}

static unsigned sides_of(const struct pf_corpus *corpus)
{
	const enum pf_record_form form = pf_corpus_form(corpus);
	return form == PF_RECORD_PAIRS ? 2
	     : form == PF_RECORD_RANKINGS || form == PF_RECORD_GROUPS ? PF_COMPLETIONS_MAX : 1;
}

int pf_running_cache(const struct pf_running *r, const struct pf_corpus *corpus, enum pf_split split,
                     struct pf_reference **cache, struct pf_error *error)
{
	const struct pf_model *m = r->objective.reference;
	struct pf_blas_facts blas;
	char shape[512];
	*cache = NULL;
	if (!m || !r->run->cache || pf_corpus_count(corpus, split) == 0 || pf_loss_per_token(r->run->loss))
		return 0;
	uint64_t key = m->half ? pf_hash_bytes(PF_HASH_START, m->half, m->layout.size * sizeof *m->half)
	                       : pf_hash_bytes(PF_HASH_START, m->param, m->layout.size * sizeof *m->param);
	if (m->lora)
		key = pf_hash_bytes(key, m->adapter, m->lora->layout.size * sizeof *m->adapter);
	key = m->rounded ? pf_hash_word(key, 1) : key;
	key = pf_hash_word(key, (uint64_t)m->config.heads << 32 | m->config.kv_heads);
	key = pf_hash_bytes(key, &m->config.rope_theta, sizeof m->config.rope_theta);
	key = pf_hash_bytes(key, &m->config.norm_eps, sizeof m->config.norm_eps);
	pf_config_describe(&m->config, shape, sizeof shape);
	key = pf_hash_bytes(key, shape, strlen(shape));
	key = pf_hash_word(key, pf_corpus_hash(corpus, split));
	double tails[2] = { tail_weight(r->run->loss), 1.0 };
	pf_loss_param(r->run->loss, "ld_reference", &tails[1]);
	if (tails[0] != 1.0 && tails[1] != 0.0)
		key = pf_hash_bytes(key, tails, sizeof tails[0]);
	if (r->run->reference_precision != PF_PRECISION_FP32)
		key = pf_hash_word(key, (uint64_t)r->run->reference_precision);
	pf_blas_facts(&blas);
	key = pf_hash_bytes(key, blas.core, strlen(blas.core));
	for (unsigned i = 0; i < r->run->devices; i++) {
		const struct pf_device_facts *f = pf_device_facts(r->run->device[i]);
		key = pf_hash_word(key, f->numerics);
		if (!f->exact)
			key = pf_hash_bytes(pf_hash_bytes(key, f->backend, strlen(f->backend)), f->variant,
			                    strlen(f->variant));
	}
	return pf_reference_open(r->run->cache, key, pf_corpus_count(corpus, split), sides_of(corpus), cache, error);
}

int pf_running_table(const struct pf_corpus *corpus, enum pf_split split, const struct pf_reference *cache,
                     struct pf_reference_table *table, struct pf_error *error)
{
	*table = (struct pf_reference_table){ .samples = pf_corpus_count(corpus, split), .sides = sides_of(corpus),
		.key = cache ? pf_reference_key(cache) : 0, .origin = pf_reference_origin(cache),
		.pairs = pf_corpus_form(corpus) == PF_RECORD_PAIRS };
	return pf_reference_table_init(table, error);
}

int pf_running_reference(struct pf_running *r, struct pf_corpus *corpus, enum pf_split split,
                         struct pf_reference *cache, struct pf_reference_table *table,
                         void (*progress)(void *context, uint64_t done, uint64_t total), void *context,
                         struct pf_error *error)
{
	int64_t sum[PF_COMPLETIONS_MAX];
	int code = 0;
	r->objective.cache = cache;
	for (uint64_t i = 0; !code && i < table->samples; i++) {
		pf_pack_clear(&r->pack);
		code = pf_corpus_pack(corpus, split, i, &r->pack, error);
		if (!code)
			code = pf_step_reference(&r->objective, &r->pack, sum, error);
		for (size_t k = 0; !code && k < r->pack.sequences; k++)
			table->sum[i * table->sides + r->pack.member[k].member] = sum[k];
		if (!code && progress)
			progress(context, i + 1, table->samples);
		if (!code && stopped(r->run))
			code = pf_fail(error, PF_E_INTERRUPTED, "interrupted; what was computed is kept");
	}
	return code;
}

int pf_running_sampler(const struct pf_running *r, struct pf_corpus *corpus, enum pf_split split, uint64_t seed,
                       int shuffle, uint32_t accumulate, struct pf_sampler *sampler, struct pf_error *error)
{
	double rotation = 1.0;
	const int rotated = pf_loss_param(r->run->loss, "kl_rotation", &rotation) && rotation < 0.0;
	const struct pf_sampler_options options = { seed, r->run->batch, accumulate, shuffle,
		                                    !pf_loss_uses(r->run->loss, PF_LOSS_Z0) ? 0 : rotated ? -1 : 1,
		                                    r->run->micro };
	return pf_sampler_open(sampler, corpus, split, &options, error);
}

int pf_running_evaluate(struct pf_running *r, const struct pf_held *held,
                        void (*progress)(void *context, uint64_t done, uint64_t total), void *context,
                        struct pf_tally *tally, struct pf_error *error)
{
	struct pf_sampler sampler;
	struct pf_tally one;
	struct pf_step facts;
	uint64_t groups = 0;
	double loss = 0.0;
	const int training = r->objective.training;
	pf_tally_clear(tally);
	int code = pf_running_sampler(r, held->corpus, held->split, 0, 0, 1, &sampler, error);
	r->objective.training = 0;
	for (uint64_t i = 0; !code && i < sampler.steps; i++) {
		code = pf_sampler_step(&sampler, i, &r->pack, &facts, error);
		if (!code)
			code = pf_step_run(&r->objective, &r->pack, &facts, NULL, &one, error);
		if (code)
			break;
		pf_tally_add(tally, &one);
		loss += one.loss * (double)facts.groups;
		groups += facts.groups;
		if (progress)
			progress(context, i + 1, sampler.steps);
		if (stopped(r->run))
			code = pf_fail(error, PF_E_INTERRUPTED, "interrupted while evaluating");
	}
	r->objective.training = training;
	tally->loss = groups ? loss / (double)groups : 0.0;
	return code;
}

int pf_evaluate(const struct pf_run *run, const struct pf_model *model, const struct pf_held *held,
                void (*progress)(void *context, uint64_t done, uint64_t total), void *context, struct pf_tally *tally,
                struct pf_error *error)
{
	struct pf_running r;
	struct pf_reference *cache = NULL;
	pf_tally_clear(tally);
	int code = pf_running_open(&r, run, model, 0, error);
	if (!code)
		code = pf_running_cache(&r, held->corpus, held->split, &cache, error);
	r.objective.cache = cache;
	if (!code)
		code = pf_running_evaluate(&r, held, progress, context, tally, error);
	pf_reference_close(cache);
	pf_running_close(&r);
	return code;
}
