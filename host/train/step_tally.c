/* What a step says about itself: sums and counts */
#include <math.h>
#include "step_work.h"

#define TIE_NATS 1e-6                  /* per token: what log-probs promise; a smaller margin is rounding, not preference */

void pf_tally_clear(struct pf_tally *t)
{
	*t = (struct pf_tally){ .z0 = NAN };
}

void pf_tally_add(struct pf_tally *t, const struct pf_tally *more)
{
	t->loss += more->loss;
	for (int side = 0; side < 2; side++) {
		t->logp[side] += more->logp[side];
		t->reward[side] += more->reward[side];
		t->sequences[side] += more->sequences[side];
		t->drift[side] += more->drift[side];
	}
	t->referenced |= more->referenced;
	t->margin += more->margin;
	t->pairs += more->pairs;
	t->accurate += more->accurate;
	t->likelier += more->likelier;
	t->below += more->below;
	t->kl += more->kl;
	t->longer += more->longer;
	t->length += more->length;
	t->length2 += more->length2;
	t->margin2 += more->margin2;
	t->length_margin += more->length_margin;
	t->sure += more->sure;
	t->score += more->score;
	t->score2 += more->score2;
	t->scored += more->scored;
	t->groups += more->groups;
	t->flat += more->flat;
	t->tokens += more->tokens;
	t->hits += more->hits;
	t->computed += more->computed;
	pf_left_out_add(&t->left_out, &more->left_out);
	t->z0 = more->z0;
	t->origin = more->origin;
}

/* n k3 of the mean log-ratio a token: never negative, and at most the sum of the tokens' own k3 */
static double divergence(double ratio, double n)
{
	const double d = -ratio / n;
	return n * (expm1(d) - d);
}

static void tally_sequence(struct pf_tally *t, const struct pf_objective *o, const struct pf_pack *pack,
                           const struct pf_work *w, size_t i)
{
	const int side = (pack->member[i].kind & PF_ITEM_CHOSEN) ? 0 : 1;
	const double ratio = pf_work_ratio(w, i), n = pack->scored[i] ? pack->scored[i] : 1.0;
	t->sequences[side]++;
	t->logp[side] += (double)w->seq[i].logp * 0x1p-32;
	t->reward[side] += pf_reward_scale(o->loss) * ratio;
	t->tokens += w->seq[i].n;
	t->hits += w->seq[i].hits;
	if (!o->reference)
		return;
	t->referenced = 1;
	t->drift[side] += ratio / n;
	t->below += side == 0 && ratio < -TIE_NATS * n;
	t->kl += divergence(ratio, n);
}

static double sigmoid(double x)
{
	return 1.0 / (1.0 + exp(-x));
}

static void tally_pair(struct pf_tally *t, const struct pf_objective *o, const struct pf_pack *pack,
                       const struct pf_work *w, size_t c)
{
	const double scale = pf_reward_scale(o->loss), margin = scale * (pf_work_ratio(w, c) - pf_work_ratio(w, c + 1));
	const double tie = scale * TIE_NATS * (pack->scored[c] + pack->scored[c + 1]);
	const double length = (double)pack->scored[c] - (double)pack->scored[c + 1];
	t->pairs++;
	t->margin += margin;
	t->accurate += margin > tie;
	t->likelier += (double)w->seq[c].logp / pack->scored[c] > (double)w->seq[c + 1].logp / pack->scored[c + 1];
	t->longer += length > 0.0;
	t->length += length;
	t->length2 += length * length;
	t->margin2 += margin * margin;
	t->length_margin += length * margin;
	t->sure += sigmoid(fabs(margin));
}

/* Completions of one prompt with rewards */
static void tally_rollouts(struct pf_tally *t, const struct pf_pack *pack, size_t from, size_t to)
{
	int flat = 1;
	for (size_t i = from; i < to; i++) {
		const double score = pack->member[i].score;
		t->score += score;
		t->score2 += score * score;
		flat &= pack->member[i].score == pack->member[from].score;
	}
	t->scored += to - from;
	t->groups++;
	t->flat += (uint64_t)flat;
}

void pf_work_tally(const struct pf_work *w, const struct pf_objective *o, const struct pf_pack *pack,
                   const struct pf_chunk *chunk, struct pf_tally *t)
{
	t->computed += chunk->tokens;
	for (size_t i = 0; i < chunk->sequences; i++)
		tally_sequence(t, o, pack, w, chunk->sequence + i);
	for (size_t g = chunk->group; g < chunk->group + chunk->groups; g++) {
		const size_t c = pack->groups[g], end = pack->groups[g + 1];
		if (pf_loss_form(o->loss) == PF_FORM_ROLLOUT)
			tally_rollouts(t, pack, c, end);
		else if (end - c == 2 && (pack->member[c].kind & PF_ITEM_CHOSEN) &&
		         (pack->member[c + 1].kind & PF_ITEM_REJECTED))
			tally_pair(t, o, pack, w, c);
	}
}
