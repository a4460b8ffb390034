/* Sums into items, gradients of items back to sequences and tokens */
#include "step_work.h"
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

void pf_work_close(struct pf_work *w)
{
	free(w->seq);
	free(w->reference);
	free(w->token);
	free(w->token_reference);
	free(w->prompt);
	free(w->grad);
	free(w->reward);
	free(w->advantage);
	free(w->item);
	free(w->result);
	free(w->group);
	free(w->owner);
}

size_t pf_work_place(const struct pf_pack *pack, size_t sequence)
{
	return (size_t)pf_pack_scored(pack, 0, sequence);
}

int pf_work_open(struct pf_work *w, const struct pf_objective *o, const struct pf_pack *pack, struct pf_error *error)
{
	const int per_token = pf_loss_per_token(o->loss), prompts = pf_loss_prompts(o->loss);
	const size_t seqs = pack->sequences + 1, places = pf_work_place(pack, pack->sequences) + 1;
	const size_t items = per_token ? places : (prompts ? 2 : 1) * seqs + pack->group_count;
	*w = (struct pf_work){ .seq = calloc(seqs, sizeof *w->seq),
		               .reference = calloc(seqs, sizeof *w->reference),
		               .prompt = prompts ? calloc(seqs, sizeof *w->prompt) : NULL,
		               .grad = calloc(per_token ? places : 2 * seqs, sizeof *w->grad),
		               .reward = calloc(seqs, sizeof *w->reward),
		               .advantage = calloc(seqs, sizeof *w->advantage),
		               .item = calloc(items, sizeof *w->item),
		               .result = calloc(items, sizeof *w->result),
		               .group = calloc(seqs + pack->group_count, sizeof *w->group),
		               .owner = calloc(items, sizeof *w->owner) };
	if (per_token) {
		w->token = calloc(places, sizeof *w->token);
		w->token_reference = calloc(places, sizeof *w->token_reference);
	}
	if (w->seq && w->reference && w->grad && w->reward && w->advantage && w->item && w->result && w->group &&
	    w->owner && (!prompts || w->prompt) && (!per_token || (w->token && w->token_reference)))
		return 0;
	pf_work_close(w);
	return pf_fail(error, -ENOMEM, "no memory for a step of %zu sequences", pack->sequences);
}

double pf_work_ratio(const struct pf_work *w, size_t sequence)
{
	return (double)(w->seq[sequence].logp - w->reference[sequence]) * 0x1p-32;
}

double pf_reward_scale(const struct pf_loss *loss)
{
	double beta;
	return pf_loss_param(loss, "beta", &beta) && beta > 0 ? beta : 1.0;
}

/* ---- advantages ---- */

struct rewards { double mean, deviation; size_t count; };

/* A sequence's log-prob of token t under the policy that sampled it: this one unless the data says otherwise */
static int64_t sampled(const struct pf_pack *pack, const struct pf_work *w, size_t sequence, size_t place,
                       uint32_t t)
{
	const int given = pack->old && pack->member[sequence].sampled;
	return given ? pack->old[pack->first[sequence] + t] : w->token[place].logp;
}

/* Scores less beta sum (old - reference), as TRL's RLOO has it */
static void find_rewards(struct pf_work *w, const struct pf_objective *o, const struct pf_pack *pack,
                         size_t sequences)
{
	const double beta = pf_loss_reward_kl(o->loss);
	for (size_t i = 0, place = 0; i < sequences; i++) {
		double kl = 0.0;
		for (uint32_t t = 0; beta > 0.0 && t < pack->scored[i]; t++, place++)
			kl += (double)(sampled(pack, w, i, place, t) - w->token_reference[place]) * 0x1p-32;
		w->reward[i] = (double)pack->member[i].score - beta * kl;
	}
}

/* Of the members' rewards, with the unbiased deviation; 0 for a single one */
static struct rewards describe(const double *reward, size_t from, size_t to)
{
	struct rewards r = { 0.0, 0.0, to - from };
	for (size_t i = from; i < to; i++)
		r.mean += reward[i] / (double)r.count;
	for (size_t i = from; i < to; i++)
		r.deviation += (reward[i] - r.mean) * (reward[i] - r.mean);
	r.deviation = r.count > 1 ? sqrt(r.deviation / (double)(r.count - 1)) : 0.0;
	return r;
}

/* beta1 log mean e^(reward / beta1): A*-PO's estimate of the best value */
static double best_value(const double *reward, size_t from, size_t to, double beta1)
{
	double most = -INFINITY, sum = 0.0;
	for (size_t i = from; i < to; i++)
		most = fmax(most, reward[i]);
	for (size_t i = from; i < to; i++)
		sum += exp((reward[i] - most) / beta1);
	return most + beta1 * log(sum / (double)(to - from));
}

static double advantage(enum pf_advantages kind, double reward, const struct rewards *group, const struct rewards *step)
{
	switch (kind) {
	case PF_ADVANTAGES_NONE:  return reward - group->mean;
	case PF_ADVANTAGES_BATCH: return (reward - group->mean) / (step->deviation + 1e-4);
	case PF_ADVANTAGES_STEP:  return (reward - step->mean) / (step->deviation + 1e-4);
	case PF_ADVANTAGES_OTHERS:
		return group->count > 1 ? (reward - group->mean) * (double)group->count / (double)(group->count - 1)
		                        : 0.0;
	default: return (reward - group->mean) / (group->deviation + 1e-4);
	}
}

void pf_work_advantages(struct pf_work *w, const struct pf_objective *o, const struct pf_pack *pack, size_t groups)
{
	find_rewards(w, o, pack, pack->groups[groups]);
	const struct rewards step = describe(w->reward, 0, pack->groups[groups]);
	double beta1;
	const int regression = pf_loss_param(o->loss, "beta1", &beta1);
	for (size_t g = 0; g < groups; g++) {
		const size_t from = pack->groups[g], to = pack->groups[g + 1];
		const struct rewards group = describe(w->reward, from, to);
		const double value = regression ? best_value(w->reward, from, to, beta1) : 0.0;
		for (size_t i = from; i < to; i++) {
			const struct pf_member *m = &pack->member[i];
			const double own = regression ? w->reward[i] - value
			                              : advantage(o->advantages, w->reward[i], &group, &step);
			w->advantage[i] = isnan(m->advantage) ? (float)own : m->advantage;
		}
	}
}

/* ---- items ---- */

/* Completion tokens that nothing predicts: the first one of a sequence without bos and prompt */
static uint32_t unscored(const struct pf_pack *pack, size_t sequence)
{
	const uint32_t length = pack->offsets[sequence + 1] - pack->offsets[sequence];
	return length - pack->member[sequence].prompt - pack->scored[sequence];
}

static struct pf_loss_item sequence_item(const struct pf_objective *o, const struct pf_pack *pack,
                                         const struct pf_work *w, size_t sequence)
{
	const struct pf_member *m = &pack->member[sequence];
	const struct pf_seq *s = &w->seq[sequence];
	const double own = s->n ? exp((double)s->log_weight * 0x1p-32 / s->n) : 1.0;
	return (struct pf_loss_item){ .policy = s->logp,
		                      .reference = w->reference[sequence],
		                      .old = (int64_t)unscored(pack, sequence) << 32,
		                      .n = pack->scored[sequence],
		                      .kind = (int)m->kind,
		                      .score = m->score,
		                      .margin = m->margin,
		                      .weight = pf_loss_own_weights(o->loss) ? (float)own : m->weight,
		                      .status = s->status };
}

static struct pf_loss_item prompt_item(const struct pf_pack *pack, const struct pf_work *w, size_t sequence)
{
	const struct pf_seq *s = &w->prompt[sequence];
	return (struct pf_loss_item){ .policy = s->logp,
		                      .n = pf_pack_prompt(pack, sequence),
		                      .kind = PF_ITEM_PROMPT,
		                      .weight = 1,
		                      .status = s->status };
}

static struct pf_loss_item token_item(const struct pf_pack *pack, const struct pf_work *w, size_t sequence,
                                      size_t place, uint32_t t)
{
	const struct pf_member *m = &pack->member[sequence];
	return (struct pf_loss_item){ .policy = w->token[place].logp,
		                      .reference = w->token_reference[place],
		                      .old = sampled(pack, w, sequence, place, t),
		                      .n = 1,
		                      .kind = PF_ITEM_CHOSEN,
		                      .score = m->score,
		                      .margin = m->margin,
		                      .weight = m->weight,
		                      .advantage = w->advantage[sequence],
		                      .status = w->token[place].status };
}

static void add_item(struct pf_work *w, struct pf_stretch *s, struct pf_loss_item item, size_t owner)
{
	w->item[s->items] = item;
	w->owner[s->items++] = owner;
}

/* Members of a list best first, equals in their order; of anything else as they are */
static size_t in_order(const struct pf_objective *o, const struct pf_pack *pack, size_t from, size_t to,
                       size_t position)
{
	if (pf_loss_form(o->loss) != PF_FORM_LIST)
		return from + position;
	for (size_t i = from; i < to; i++) {
		size_t before = 0;
		for (size_t k = from; k < to; k++)
			before += pack->member[k].score > pack->member[i].score ||
			          (pack->member[k].score == pack->member[i].score && k < i);
		if (before == position)
			return i;
	}
	return from + position;
}

/* A triple's third member is the chosen completion once more: it is what SLiC-HF regularises towards */
static void add_sequences(struct pf_work *w, const struct pf_objective *o, const struct pf_pack *pack, size_t g,
                          struct pf_stretch *s)
{
	const size_t from = pack->groups[g], to = pack->groups[g + 1];
	w->group[s->groups++] = (uint32_t)s->items;
	for (size_t i = 0; i < to - from; i++) {
		const size_t q = in_order(o, pack, from, to, i);
		add_item(w, s, sequence_item(o, pack, w, q), q);
	}
	if (pf_loss_form(o->loss) == PF_FORM_TRIPLE) {
		struct pf_loss_item extra = sequence_item(o, pack, w, from);
		extra.kind = PF_ITEM_EXTRA;
		add_item(w, s, extra, from);
	}
	for (size_t q = from; w->prompt && q < to; q++)
		if (w->prompt[q].n)
			add_item(w, s, prompt_item(pack, w, q), pack->sequences + q);
}

static void add_tokens(struct pf_work *w, const struct pf_pack *pack, size_t g, size_t *place, struct pf_stretch *s)
{
	for (size_t q = pack->groups[g]; q < pack->groups[g + 1]; q++) {
		w->group[s->groups] = (uint32_t)s->items;
		s->groups += pack->scored[q] > 0;
		for (uint32_t t = 0; t < pack->scored[q]; t++, ++*place)
			add_item(w, s, token_item(pack, w, q, *place, t), *place);
	}
}

struct pf_stretch pf_work_items(struct pf_work *w, const struct pf_objective *o, const struct pf_pack *pack,
                                const struct pf_chunk *chunk)
{
	struct pf_stretch s = { 0, 0 };
	size_t place = w->token ? pf_work_place(pack, chunk->sequence) : 0;
	for (size_t g = chunk->group; g < chunk->group + chunk->groups; g++)
		if (w->token)
			add_tokens(w, pack, g, &place, &s);
		else
			add_sequences(w, o, pack, g, &s);
	w->group[s.groups] = (uint32_t)s.items;
	return s;
}

void pf_work_spread(struct pf_work *w, size_t items)
{
	for (size_t i = 0; i < items; i++)
		w->grad[w->owner[i]] = 0.0;
	for (size_t i = 0; i < items; i++)
		w->grad[w->owner[i]] += w->result[i].grad;
}
