#include "step.h"
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define TIE_NATS 1e-6                  /* per token: what log-probs promise; a smaller margin is rounding, not preference */

/* What a chunk needs beside the scorer's own memory */
struct work {
	struct pf_seq *sum;            /* [sequences] */
	int64_t *reference;            /* [sequences] */
	double *grad;                  /* [sequences] */
	struct pf_loss_item *item;     /* [items]: one a sequence, and one more a group of a triple */
	struct pf_loss_result *result; /* [items] */
	uint32_t *group;               /* [groups + 1] */
};

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
	}
	t->margin += more->margin;
	t->pairs += more->pairs;
	t->accurate += more->accurate;
	t->likelier += more->likelier;
	t->tokens += more->tokens;
	t->hits += more->hits;
	t->computed += more->computed;
	t->z0 = more->z0;
}

static void work_free(struct work *w)
{
	free(w->sum);
	free(w->reference);
	free(w->grad);
	free(w->item);
	free(w->result);
	free(w->group);
}

static int work_open(struct work *w, const struct pf_pack *pack, struct pf_error *error)
{
	const size_t seqs = pack->sequences + 1, items = seqs + pack->group_count;
	*w = (struct work){ calloc(seqs, sizeof *w->sum), calloc(seqs, sizeof *w->reference),
		            calloc(seqs, sizeof *w->grad), calloc(items, sizeof *w->item),
		            calloc(items, sizeof *w->result), calloc(pack->group_count + 1, sizeof *w->group) };
	if (w->sum && w->reference && w->grad && w->item && w->result && w->group)
		return 0;
	work_free(w);
	return pf_fail(error, -ENOMEM, "no memory for a step of %zu sequences", pack->sequences);
}

static int unusable(const struct pf_pack *pack, size_t sequence, struct pf_error *error)
{
	return pf_fail(error, PF_E_NOT_FINITE, "log-prob of sample %llu (member %u) is not finite: the model has diverged or "
	               "its weights are broken; lower --lr, or start from an earlier checkpoint",
	               (unsigned long long)pack->member[sequence].sample, pack->member[sequence].member);
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

static int keep(const struct pf_objective *o, const struct pf_pack *pack, const struct pf_chunk *group, struct work *w,
                struct pf_error *error)
{
	for (size_t i = group->sequence; i < group->sequence + group->sequences; i++) {
		const struct pf_member *m = &pack->member[i];
		w->reference[i] = w->sum[i].logp;
		if (w->sum[i].status & PF_ROW_BAD)
			return unusable(pack, i, error);
		int code = o->cache && !m->mismatched
		               ? pf_reference_put(o->cache, m->sample, m->member, w->reference[i], error) : 0;
		if (code)
			return code;
	}
	return 0;
}

/* Reference sums of a chunk, from the cache or computed; zeros when the loss is reference-free. Groups are computed one by
 * one: products round by their shape, so in company a sum's last bits would depend on the batch that asked first */
static int reference_sums(struct pf_objective *o, const struct pf_pack *pack, const struct pf_chunk *chunk, struct work *w,
                          struct pf_error *error)
{
	const size_t end = chunk->group + chunk->groups;
	const struct pf_chunk_limit one = { .groups = 1 };
	struct pf_chunk group;
	int code = 0;
	for (size_t g = chunk->group; !code && o->reference && pf_pack_chunk(pack, g, end, &one, &group); g++) {
		int found = cached(o, pack, &group, w->reference, error);
		if (found == 0)
			code = pf_scorer_forward(o->scorer, o->reference, pack, &group, 0, w->sum + group.sequence, NULL, error);
		if (found == 0 && !code)
			code = keep(o, pack, &group, w, error);
		code = found < 0 ? found : code;
	}
	return code;
}

/* Reference first, then the policy, whose activations stay for the way back */
static int score(struct pf_objective *o, const struct pf_pack *pack, const struct pf_chunk *chunk, struct work *w,
                 struct pf_error *error)
{
	int code = reference_sums(o, pack, chunk, w, error);
	if (!code)
		code = pf_scorer_forward(o->scorer, o->policy, pack, chunk, 0, w->sum + chunk->sequence, NULL, error);
	for (size_t i = 0; !code && i < chunk->sequences; i++)
		if (w->sum[chunk->sequence + i].status & PF_ROW_BAD)
			code = unusable(pack, chunk->sequence + i, error);
	return code;
}

static double log_ratio(const struct work *w, size_t sequence)
{
	return (double)(w->sum[sequence].logp - w->reference[sequence]) * 0x1p-32;
}

/* ---- scalars of the whole step ---- */

/* Sum of log-ratios over groups [from, to), in order */
static int sum_log_ratios(struct pf_objective *o, const struct pf_pack *pack, size_t from, size_t to, struct work *w,
                          double *total, struct pf_error *error)
{
	struct pf_chunk chunk;
	int code = 0;
	*total = 0.0;
	for (size_t g = from; !code && pf_pack_chunk(pack, g, to, &o->limit, &chunk); g += chunk.groups) {
		code = score(o, pack, &chunk, w, error);
		for (size_t i = 0; !code && i < chunk.sequences; i++)
			*total += log_ratio(w, chunk.sequence + i);
	}
	return code;
}

/* z0 = max(0, mean log-ratio of the mismatched sequences), KTO eq. 7-8 with the exact global mean */
static int find_z0(struct pf_objective *o, const struct pf_pack *pack, const struct pf_step *facts, struct work *w,
                   double *z0, struct pf_error *error)
{
	double total;
	int code = sum_log_ratios(o, pack, facts->groups, pack->group_count, w, &total, error);
	*z0 = facts->mismatched && total > 0.0 ? total / (double)facts->mismatched : 0.0;
	return code;
}

static double reward_scale(const struct pf_loss *loss)
{
	const struct pf_loss_row *row = loss->component[0].row;
	for (unsigned i = 0; i < row->params; i++)
		if (strcmp(row->param[i].name, "beta") == 0)
			return loss->component[0].param[i];
	return 1.0;
}

/* The running mean of all rewards seen, this step's included before it is used (TRL's RunningMoments) */
static int find_delta(struct pf_objective *o, const struct pf_pack *pack, const struct pf_step *facts, struct work *w,
                      double *delta, struct pf_error *error)
{
	struct pf_loss_state s = o->state;
	const double n = (double)facts->sequences;
	double total;
	int code = sum_log_ratios(o, pack, 0, facts->groups, w, &total, error);
	if (code)
		return code;
	if (o->training || s.count == 0.0) {
		s.mean += (reward_scale(o->loss) * total / n - s.mean) * n / (s.count + n);
		s.count += n;
	}
	if (o->training)
		o->state = s;
	*delta = s.mean;
	return 0;
}

static int find_scalars(struct pf_objective *o, const struct pf_pack *pack, const struct pf_step *facts, struct work *w,
                        struct pf_loss_batch *batch, struct pf_tally *tally, struct pf_error *error)
{
	*batch = (struct pf_loss_batch){ .divisor = (double)(pf_loss_per_item(o->loss) ? facts->sequences : facts->groups) };
	for (size_t i = 0; i < facts->sequences; i++)
		if (pack->member[i].kind & PF_ITEM_CHOSEN)
			batch->tokens += pack->scored[i];
	int code = 0;
	if (pf_loss_uses(o->loss, PF_LOSS_Z0)) {
		code = find_z0(o, pack, facts, w, &batch->z0, error);
		tally->z0 = batch->z0;
	}
	if (!code && pf_loss_uses(o->loss, PF_LOSS_DELTA))
		code = find_delta(o, pack, facts, w, &batch->delta, error);
	return code;
}

/* ---- loss of a chunk ---- */

static struct pf_loss_item make_item(const struct pf_pack *pack, const struct work *w, size_t sequence)
{
	const struct pf_member *m = &pack->member[sequence];
	return (struct pf_loss_item){ .policy = w->sum[sequence].logp, .reference = w->reference[sequence],
		.n = pack->scored[sequence], .kind = (int)m->kind, .score = m->score, .margin = m->margin,
		.weight = m->weight, .status = w->sum[sequence].status };
}

/* A triple's third member is the chosen completion once more: it is what SLiC-HF regularises towards */
static size_t make_items(const struct pf_objective *o, const struct pf_pack *pack, const struct pf_chunk *chunk,
                         struct work *w)
{
	const int triple = pf_loss_form(o->loss) == PF_FORM_TRIPLE;
	size_t items = 0;
	for (size_t g = 0; g < chunk->groups; g++) {
		const uint32_t *edge = &pack->groups[chunk->group + g];
		w->group[g] = (uint32_t)items;
		for (size_t i = edge[0]; i < edge[1]; i++)
			w->item[items++] = make_item(pack, w, i);
		if (triple) {
			w->item[items] = make_item(pack, w, edge[0]);
			w->item[items++].kind = PF_ITEM_EXTRA;
		}
	}
	w->group[chunk->groups] = (uint32_t)items;
	return items;
}

/* Gradients of items to gradients of sequences; an extra member's belongs to the group's first sequence */
static void spread_grads(const struct pf_pack *pack, const struct pf_chunk *chunk, struct work *w)
{
	for (size_t g = 0; g < chunk->groups; g++) {
		const uint32_t *edge = &pack->groups[chunk->group + g];
		const struct pf_loss_result *r = &w->result[w->group[g]];
		const size_t members = edge[1] - edge[0], items = w->group[g + 1] - w->group[g];
		for (size_t i = 0; i < members; i++)
			w->grad[edge[0] + i] = r[i].grad;
		for (size_t i = members; i < items; i++)
			w->grad[edge[0]] += r[i].grad;
	}
}

static void tally_sequence(struct pf_tally *t, const struct pf_pack *pack, const struct work *w, double scale, size_t i)
{
	const int side = (pack->member[i].kind & PF_ITEM_CHOSEN) ? 0 : 1;
	t->sequences[side]++;
	t->logp[side] += (double)w->sum[i].logp * 0x1p-32;
	t->reward[side] += scale * log_ratio(w, i);
	t->tokens += w->sum[i].n;
	t->hits += w->sum[i].hits;
}

static void tally_pair(struct pf_tally *t, const struct pf_pack *pack, const struct work *w, double scale, size_t c)
{
	const double margin = scale * (log_ratio(w, c) - log_ratio(w, c + 1));
	const double tie = scale * TIE_NATS * (pack->scored[c] + pack->scored[c + 1]);
	t->pairs++;
	t->margin += margin;
	t->accurate += margin > tie;
	t->likelier += (double)w->sum[c].logp / pack->scored[c] > (double)w->sum[c + 1].logp / pack->scored[c + 1];
}

static void tally_chunk(struct pf_tally *t, const struct pf_pack *pack, const struct pf_chunk *chunk, const struct work *w,
                        double scale)
{
	t->computed += chunk->tokens;
	for (size_t i = 0; i < chunk->sequences; i++)
		tally_sequence(t, pack, w, scale, chunk->sequence + i);
	for (size_t g = chunk->group; g < chunk->group + chunk->groups; g++) {
		const size_t c = pack->groups[g];
		if (pack->groups[g + 1] - c == 2 && (pack->member[c].kind & PF_ITEM_CHOSEN) &&
		    (pack->member[c + 1].kind & PF_ITEM_REJECTED))
			tally_pair(t, pack, w, scale, c);
	}
}

static int run_chunk(struct pf_objective *o, const struct pf_pack *pack, const struct pf_chunk *chunk,
                     const struct pf_loss_batch *batch, struct work *w, float *gradient, struct pf_tally *tally,
                     struct pf_error *error)
{
	int code = score(o, pack, chunk, w, error);
	if (code)
		return code;
	const size_t items = make_items(o, pack, chunk, w);
	size_t invalid;
	code = pf_loss_evaluate(o->device, o->loss, batch, w->item, items, w->group, chunk->groups, w->result, error);
	if (code)
		return code;
	tally->loss += pf_loss_total(o->loss, batch, w->result, items, &invalid);
	if (invalid)
		return pf_fail(error, PF_E_NOT_FINITE, "the loss of %zu items is not finite; lower --lr or choose gentler "
		               "parameters of the loss", invalid);
	tally_chunk(tally, pack, chunk, w, reward_scale(o->loss));
	if (!gradient)
		return 0;
	spread_grads(pack, chunk, w);
	return pf_scorer_backward(o->scorer, w->grad + chunk->sequence, gradient, error);
}

int pf_step_run(struct pf_objective *o, const struct pf_pack *pack, const struct pf_step *facts, float *gradient,
                struct pf_tally *tally, struct pf_error *error)
{
	struct pf_loss_batch batch;
	struct pf_chunk chunk;
	struct work w;
	pf_tally_clear(tally);
	int code = work_open(&w, pack, error);
	if (code)
		return code;
	code = find_scalars(o, pack, facts, &w, &batch, tally, error);
	for (size_t g = 0; !code && pf_pack_chunk(pack, g, facts->groups, &o->limit, &chunk); g += chunk.groups)
		code = run_chunk(o, pack, &chunk, &batch, &w, gradient, tally, error);
	work_free(&w);
	return code;
}

int pf_step_check(struct pf_objective *o, const struct pf_pack *pack, double *largest, struct pf_error *error)
{
	struct pf_chunk chunk;
	struct work w;
	*largest = 0.0;
	if (!o->reference || !pf_pack_chunk(pack, 0, pack->group_count, &o->limit, &chunk) || !chunk.scored)
		return 0;
	struct pf_row *row[2] = { calloc(chunk.scored, sizeof **row), calloc(chunk.scored, sizeof **row) };
	int code = work_open(&w, pack, error);
	if (!code && (!row[0] || !row[1])) {
		work_free(&w);
		code = pf_fail(error, -ENOMEM, "no memory for %llu rows", (unsigned long long)chunk.scored);
	} else if (!code) {
		code = pf_scorer_forward(o->scorer, o->policy, pack, &chunk, 0, w.sum, row[0], error);
		if (!code)
			code = pf_scorer_forward(o->scorer, o->reference, pack, &chunk, 0, w.sum, row[1], error);
		work_free(&w);
	}
	for (uint64_t t = 0; !code && t < chunk.scored; t++) {
		double delta = fabs((double)(row[0][t].logp_q32 - row[1][t].logp_q32) * 0x1p-32);
		*largest = delta > *largest ? delta : *largest;
	}
	free(row[0]);
	free(row[1]);
	return code;
}
