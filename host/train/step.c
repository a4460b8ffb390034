#include "step_work.h"
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static int unusable(const struct pf_pack *pack, size_t sequence, struct pf_error *error)
{
	return pf_fail(error, PF_E_NOT_FINITE,
	               "log-prob of sample %llu (member %u) is not finite: the model has diverged or "
	               "its weights are broken; lower --lr, or start from an earlier checkpoint",
	               (unsigned long long)pack->member[sequence].sample, pack->member[sequence].member);
}

/* ---- sums ---- */

/* Log-probs of a chunk under a model: sums of sequences, and of tokens if the loss wants them */
static int sum_chunk(struct pf_objective *o, const struct pf_model *model, const struct pf_pack *pack,
                     const struct pf_chunk *chunk, struct pf_work *w, struct pf_error *error)
{
	const uint32_t flags = pf_loss_own_weights(o->loss) ? PF_WANT_STATS : 0;
	o->referenced += model == o->reference;
	struct pf_seq *token = w->token ? w->token + pf_work_place(pack, chunk->sequence) : NULL;
	struct pf_seq *seq = w->seq + chunk->sequence;
	struct pf_seq *prompt = w->prompt && model == o->policy ? w->prompt + chunk->sequence : NULL;
	int code = pf_scorer_forward(o->scorer, model, pack, chunk, flags, token ? token : seq, prompt, NULL, error);
	for (size_t i = 0; !code && token && i < chunk->sequences; i++) {
		seq[i] = (struct pf_seq){ 0 };
		for (uint32_t t = 0; t < pack->scored[chunk->sequence + i]; t++, token++) {
			seq[i].logp += token->logp;
			seq[i].n += token->n;
			seq[i].hits += token->hits;
			seq[i].status |= token->status;
		}
	}
	return code;
}

/* LD-DPO: tails count less */
static void shorten(const struct pf_objective *o, int reference, const struct pf_chunk *chunk, struct pf_work *w)
{
	double alpha = 1.0, both = 1.0;
	if (!pf_loss_tail(o->loss))
		return;
	pf_loss_param(o->loss, "ld_alpha", &alpha);
	pf_loss_param(o->loss, "ld_reference", &both);
	for (size_t i = chunk->sequence; i < chunk->sequence + chunk->sequences && (!reference || both != 0.0); i++)
		w->seq[i].logp += llrint(alpha * (double)w->seq[i].logp_tail) - w->seq[i].logp_tail;
}

/* ---- reference ---- */

/* 1 if every sequence of the group is in the cache */
static int cached(const struct pf_objective *o, const struct pf_pack *pack, const struct pf_chunk *group, int64_t *sum,
                  struct pf_error *error)
{
	for (size_t i = group->sequence; i < group->sequence + group->sequences; i++) {
		const struct pf_member *m = &pack->member[i];
		if (!o->cache || m->mismatched)
			return 0;
		int found = pf_reference_get(o->cache, m->sample, m->member, &sum[i], error);
		if (found != 1)
			return found;
	}
	return 1;
}

static int keep(const struct pf_objective *o, const struct pf_pack *pack, const struct pf_chunk *group,
                struct pf_work *w, struct pf_error *error)
{
	for (size_t i = group->sequence; i < group->sequence + group->sequences; i++) {
		const struct pf_member *m = &pack->member[i];
		w->reference[i] = w->seq[i].logp;
		if (w->seq[i].status & PF_ROW_BAD)
			return unusable(pack, i, error);
		int code = o->cache && !m->mismatched
		               ? pf_reference_put(o->cache, m->sample, m->member, w->reference[i], error) : 0;
		if (code)
			return code;
	}
	return 0;
}

/* Reference sums of a chunk, from the cache or computed; zeros when the loss is reference-free. Groups are computed one
 * by one: products round by their shape, so in company a sum's last bits would depend on the batch that asked first */
static int reference_sums(struct pf_objective *o, const struct pf_pack *pack, const struct pf_chunk *chunk,
                          struct pf_work *w, struct pf_error *error)
{
	const size_t end = chunk->group + chunk->groups;
	const struct pf_chunk_limit one = { .groups = 1 };
	struct pf_chunk group;
	int code = 0;
	for (size_t g = chunk->group; !code && o->reference && pf_pack_chunk(pack, g, end, &one, &group); g++) {
		int found = cached(o, pack, &group, w->reference, error);
		if (found == 0)
			code = sum_chunk(o, o->reference, pack, &group, w, error);
		if (found == 0 && !code)
			shorten(o, 1, &group, w);
		if (found == 0 && !code)
			code = keep(o, pack, &group, w, error);
		code = found < 0 ? found : code;
	}
	return code;
}

/* The same token by token, which no cache holds */
static int reference_tokens(struct pf_objective *o, const struct pf_pack *pack, const struct pf_chunk *chunk,
                            struct pf_work *w, struct pf_error *error)
{
	const size_t at = pf_work_place(pack, chunk->sequence);
	int code = o->reference ? sum_chunk(o, o->reference, pack, chunk, w, error) : 0;
	for (size_t i = chunk->sequence; o->reference && !code && i < chunk->sequence + chunk->sequences; i++) {
		w->reference[i] = w->seq[i].logp;
		code = w->seq[i].status & PF_ROW_BAD ? unusable(pack, i, error) : 0;
	}
	for (size_t t = at; o->reference && !code && t < at + chunk->scored; t++)
		w->token_reference[t] = w->token[t].logp;
	return code;
}

static int score_policy(struct pf_objective *o, const struct pf_pack *pack, const struct pf_chunk *chunk,
                        struct pf_work *w, struct pf_error *error)
{
	int code = sum_chunk(o, o->policy, pack, chunk, w, error);
	for (size_t i = chunk->sequence; !code && i < chunk->sequence + chunk->sequences; i++)
		if ((w->seq[i].status | (w->prompt ? w->prompt[i].status : 0)) & PF_ROW_BAD)
			code = unusable(pack, i, error);
	if (!code)
		shorten(o, 0, chunk, w);
	return code;
}

/* Reference first, then the policy, whose activations stay for the way back */
static int score(struct pf_objective *o, const struct pf_pack *pack, const struct pf_chunk *chunk, struct pf_work *w,
                 struct pf_error *error)
{
	int code = (w->token ? reference_tokens : reference_sums)(o, pack, chunk, w, error);
	return code ? code : score_policy(o, pack, chunk, w, error);
}

/* ---- scalars ---- */

/* Groups [from, to): what a loss that looks beyond a group sees together */
struct part { size_t from, to; };

/* 1: nothing can be said of a group before all sums of its part are there */
static int looks_at_all(const struct pf_loss *loss)
{
	return pf_loss_coupled(loss) || pf_loss_uses(loss, PF_LOSS_DELTA);
}

/* Log-probs of the whole part, in so many chunks */
static int score_all(struct pf_objective *o, const struct pf_pack *pack, const struct part *part, struct pf_work *w,
                     size_t *chunks, struct pf_error *error)
{
	struct pf_chunk chunk;
	int code = 0;
	*chunks = 0;
	for (size_t g = part->from; !code && pf_pack_chunk(pack, g, part->to, &o->limit, &chunk);
	     g += chunk.groups, ++*chunks)
		code = score(o, pack, &chunk, w, error);
	return code;
}

/* Over sequences of the part, in order */
static double sum_log_ratios(const struct pf_pack *pack, const struct part *part, const struct pf_work *w)
{
	double total = 0.0;
	for (size_t i = pack->groups[part->from]; i < pack->groups[part->to]; i++)
		total += pf_work_ratio(w, i);
	return total;
}

/* z0 = max(0, mean log-ratio of the part's mismatched sequences), KTO eq. 7-8 with the exact mean */
static int find_z0(struct pf_objective *o, const struct pf_pack *pack, const struct pf_step *facts,
                   const struct part *part, struct pf_work *w, struct pf_loss_batch *batch, struct pf_tally *tally,
                   struct pf_error *error)
{
	const double n = (double)(part->to - part->from);
	const struct part mismatched = { facts->groups + part->from, facts->groups + part->to };
	size_t chunks;
	int code = facts->mismatched ? score_all(o, pack, &mismatched, w, &chunks, error) : 0;
	if (code)
		return code;
	const double total = facts->mismatched ? sum_log_ratios(pack, &mismatched, w) : 0.0;
	batch->z0 = total > 0.0 ? total / n : 0.0;
	tally->z0 = (isnan(tally->z0) ? 0.0 : tally->z0) + batch->z0 * (n / (double)facts->groups);
	return 0;
}

/* The running mean of all rewards seen, this part's included before it is used (TRL's RunningMoments) */
static double find_delta(struct pf_objective *o, const struct pf_pack *pack, const struct part *part,
                         const struct pf_work *w)
{
	struct pf_loss_state s = o->state;
	const double n = (double)(pack->groups[part->to] - pack->groups[part->from]);
	const double total = sum_log_ratios(pack, part, w);
	if (o->training || s.count == 0.0) {
		s.mean += (pf_reward_scale(o->loss) * total / n - s.mean) * n / (s.count + n);
		s.count += n;
	}
	if (o->training)
		o->state = s;
	return s.mean;
}

/* Of the whole step, whatever the loss sees together */
static void find_divisors(const struct pf_objective *o, const struct pf_pack *pack, const struct pf_step *facts,
                          struct pf_loss_batch *batch)
{
	*batch = (struct pf_loss_batch){ .divisor = (double)(pf_loss_per_item(o->loss) ? facts->sequences
		                                                                       : facts->groups) };
	for (size_t i = 0; i < facts->sequences; i++)
		if (pack->member[i].kind & PF_ITEM_CHOSEN) {
			batch->tokens += pack->scored[i];
			batch->prompt_tokens += pf_pack_prompt(pack, i);
		}
}

/* ---- loss and gradient ---- */

/* Loss of groups whose sums are there; gradients to their places */
static int find_loss(struct pf_objective *o, const struct pf_pack *pack, const struct pf_chunk *chunk,
                     const struct pf_loss_batch *batch, struct pf_work *w, struct pf_tally *tally,
                     struct pf_error *error)
{
	const struct pf_stretch s = pf_work_items(w, o, pack, chunk);
	size_t invalid;
	int code = pf_loss_evaluate(o->device, o->loss, batch, w->item, s.items, w->group, s.groups, w->result, error);
	if (code)
		return code;
	tally->loss += pf_loss_total(o->loss, batch, w->result, s.items, &invalid);
	if (invalid)
		return pf_fail(
			error, PF_E_NOT_FINITE,
			"the loss of %zu items is not finite; lower --lr or choose gentler "
			"parameters of the loss%s",
			invalid,
			pf_loss_coupled(o->loss) && chunk->groups == 1
				? " (a single pair, left over by --batch, has no variance)"
				: "");
	pf_work_tally(w, o, pack, chunk, tally);
	pf_work_spread(w, s.items);
	return 0;
}

static int go_back(struct pf_objective *o, const struct pf_pack *pack, const struct pf_chunk *chunk,
                   const struct pf_work *w, float *gradient, struct pf_tally *tally, struct pf_error *error)
{
	const size_t at = w->token ? pf_work_place(pack, chunk->sequence) : chunk->sequence;
	if (!gradient)
		return 0;
	const double *prompt = w->prompt ? w->grad + pack->sequences + at : NULL;
	int code = pf_scorer_backward(o->scorer, w->grad + at, prompt, gradient, error);
	const struct pf_left_out left_out = pf_scorer_left_out(o->scorer);
	pf_left_out_add(&tally->left_out, &left_out);
	return code;
}

/* Chunk by chunk: the loss of a group is its own affair */
static int run_chunks(struct pf_objective *o, const struct pf_pack *pack, const struct part *part,
                      struct pf_loss_batch *batch, struct pf_work *w, float *gradient, struct pf_tally *tally,
                      struct pf_error *error)
{
	struct pf_chunk chunk;
	int code = 0;
	for (size_t g = part->from; !code && pf_pack_chunk(pack, g, part->to, &o->limit, &chunk); g += chunk.groups) {
		code = score(o, pack, &chunk, w, error);
		if (!code)
			code = find_loss(o, pack, &chunk, batch, w, tally, error);
		if (!code)
			code = go_back(o, pack, &chunk, w, gradient, tally, error);
	}
	return code;
}

/* All sums before the first gradient. Chunks, if there are several, go forward again */
static int run_whole(struct pf_objective *o, const struct pf_pack *pack, const struct part *part,
                     struct pf_loss_batch *batch, struct pf_work *w, float *gradient, struct pf_tally *tally,
                     struct pf_error *error)
{
	const struct pf_chunk_limit all = { 0 };
	struct pf_chunk chunk, whole;
	size_t chunks = 0;
	int code = 0;
	if (!pf_pack_chunk(pack, part->from, part->to, &all, &whole))
		return 0;
	code = score_all(o, pack, part, w, &chunks, error);
	if (!code && pf_loss_uses(o->loss, PF_LOSS_DELTA))
		batch->delta = find_delta(o, pack, part, w);
	if (!code)
		code = find_loss(o, pack, &whole, batch, w, tally, error);
	for (size_t g = part->from; gradient && !code && pf_pack_chunk(pack, g, part->to, &o->limit, &chunk);
	     g += chunk.groups) {
		code = chunks > 1 ? score_policy(o, pack, &chunk, w, error) : 0;
		if (!code)
			code = go_back(o, pack, &chunk, w, gradient, tally, error);
	}
	return code;
}

static int run_parts(struct pf_objective *o, const struct pf_pack *pack, const struct pf_step *facts, struct pf_work *w,
                     float *gradient, struct pf_tally *tally, struct pf_error *error)
{
	const int whole = looks_at_all(o->loss), z0 = pf_loss_uses(o->loss, PF_LOSS_Z0);
	const size_t each = o->micro && (whole || z0) ? o->micro : facts->groups;
	struct pf_loss_batch batch;
	int code = 0;
	find_divisors(o, pack, facts, &batch);
	for (struct part part = { 0, 0 }; !code && part.from < facts->groups; part.from = part.to) {
		part.to = facts->groups - part.from < each ? facts->groups : part.from + each;
		code = z0 ? find_z0(o, pack, facts, &part, w, &batch, tally, error) : 0;
		if (!code)
			code = (whole ? run_whole : run_chunks)(o, pack, &part, &batch, w, gradient, tally, error);
	}
	return code;
}

int pf_step_run(struct pf_objective *o, const struct pf_pack *pack, const struct pf_step *facts, float *gradient,
                struct pf_tally *tally, struct pf_error *error)
{
	const uint64_t before = o->referenced;
	const struct part all = { 0, facts->groups };
	struct pf_work w;
	size_t chunks;
	pf_tally_clear(tally);
	tally->origin = pf_reference_origin(o->cache);
	int code = pf_work_open(&w, o, pack, error);
	if (code)
		return code;
	if (pf_loss_reward_kl(o->loss) > 0.0)
		code = score_all(o, pack, &all, &w, &chunks, error);
	if (!code && pf_loss_form(o->loss) == PF_FORM_ROLLOUT)
		pf_work_advantages(&w, o, pack, facts->groups);
	if (!code)
		code = run_parts(o, pack, facts, &w, gradient, tally, error);
	pf_work_close(&w);
	if (gradient && o->referenced == before)       /* the cache had it all, and will have most of the next step */
		pf_scorer_forget_reference(o->scorer);
	return code;
}

int pf_step_cached(const struct pf_objective *o, const struct pf_pack *pack, struct pf_error *error)
{
	const struct pf_chunk all = { .groups = pack->group_count, .sequences = pack->sequences };
	int64_t *sum = malloc((pack->sequences + 1) * sizeof *sum);
	int found = sum ? cached(o, pack, &all, sum, error)
	                : pf_fail(error, -ENOMEM, "no memory for %zu sums", pack->sequences);
	free(sum);
	return found;
}

int pf_step_reference(struct pf_objective *o, const struct pf_pack *pack, int64_t *sum, struct pf_error *error)
{
	const struct pf_chunk all = { .groups = pack->group_count, .sequences = pack->sequences };
	struct pf_work w;
	int code = pf_work_open(&w, o, pack, error);
	if (code)
		return code;
	code = reference_sums(o, pack, &all, &w, error);
	for (size_t i = 0; sum && !code && i < pack->sequences; i++)
		sum[i] = w.reference[i];
	pf_work_close(&w);
	return code;
}

int pf_step_check(struct pf_objective *o, const struct pf_pack *pack, double *largest, struct pf_error *error)
{
	struct pf_chunk chunk;
	struct pf_work w;
	*largest = o->reference && o->remote ? NAN : 0.0;
	if (!o->reference || o->remote || !pf_pack_chunk(pack, 0, pack->group_count, &o->limit, &chunk) ||
	    !chunk.scored)
		return 0;
	struct pf_row *row[2] = { calloc(chunk.scored, sizeof **row), calloc(chunk.scored, sizeof **row) };
	int code = pf_work_open(&w, o, pack, error);
	struct pf_seq *sum = w.token ? w.token : w.seq;
	if (!code && (!row[0] || !row[1])) {
		pf_work_close(&w);
		code = pf_fail(error, -ENOMEM, "no memory for %llu rows", (unsigned long long)chunk.scored);
	} else if (!code) {
		code = pf_scorer_forward(o->scorer, o->policy, pack, &chunk, 0, sum, NULL, row[0], error);
		if (!code)
			code = pf_scorer_forward(o->scorer, o->reference, pack, &chunk, 0, sum, NULL, row[1], error);
		pf_work_close(&w);
	}
	for (uint64_t t = 0; !code && t < chunk.scored; t++) {
		double delta = fabs((double)(row[0][t].logp_q32 - row[1][t].logp_q32) * 0x1p-32);
		*largest = delta > *largest ? delta : *largest;
	}
	free(row[0]);
	free(row[1]);
	return code;
}
