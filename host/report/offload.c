#include "offload.h"
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "gpu_anchors.def"
#include "prefpga/internal/kernels.h"
#include "prefpga/internal/nearest.h"

enum { BEATS = 16, BURSTS = 16, TOKENS_LEAST = 64 }; /* bursts as in sim/cycles.c */
#define CROWDED 0.85                                 /* of what the banks can move */
#define SHARE   0.5                                  /* of the time, from which on something is what bounds */

const char *pf_offload_head_name(enum pf_offload_head head)
{
	static const char *const names[] = { "trained", "resident", "frozen", "reference" };
	return names[head];
}

const char *pf_offload_bound_name(enum pf_offload_bound bound)
{
	static const char *const names[] = { "link", "array", "port", "host", "waiting" };
	return names[bound];
}

#define ANCHOR(gpu, what, type, tokens, vocab, dim, seconds, flops, source)                                            \
	{ gpu, what, type, source, tokens, vocab, dim, seconds, flops },
static const struct pf_gpu_anchor anchors[] = { PF_GPU_ANCHORS(ANCHOR) };

const struct pf_gpu_anchor *pf_gpu_anchor(unsigned i)
{
	return i < sizeof anchors / sizeof *anchors ? &anchors[i] : NULL;
}

/* ---- shapes ---- */
struct pf_offload_shape pf_offload_plain(uint32_t dim, uint32_t vocab, uint32_t layers, uint32_t tokens)
{
	return (struct pf_offload_shape){ tokens, vocab, dim, layers, 12.0 * layers * dim * dim, PF_PRECISION_FP32 };
}

struct pf_offload_shape pf_offload_of(const struct pf_model_config *c, uint32_t tokens)
{
	const double heads = (double)c->heads * c->head_dim, pairs = 2.0 * c->kv_heads * c->head_dim;
	const double layer = c->dim * (2 * heads + pairs + (c->mlp == PF_MLP_GELU ? 2.0 : 3.0) * c->ffn);
	return (struct pf_offload_shape){ tokens, c->vocab, c->dim, c->layers, c->layers * layer, PF_PRECISION_FP32 };
}

static struct pf_cost_head cost_head(const struct pf_offload_shape *s, enum pf_offload_head head)
{
	return (struct pf_cost_head){ .tokens = s->tokens,
		                      .vocab = s->vocab,
		                      .dim = s->dim,
		                      .backward = head != PF_OFFLOAD_REFERENCE,
		                      .dweight = head == PF_OFFLOAD_TRAINED || head == PF_OFFLOAD_RESIDENT,
		                      .moves = head == PF_OFFLOAD_TRAINED,
		                      .precision = s->precision,
		                      .optimizer = head == PF_OFFLOAD_RESIDENT };
}

/* ---- the card ---- */
static int find_card(const char *name, struct pf_cycles_card *card, struct pf_error *error)
{
	const char *best = NULL;
	const int code = pf_cycles_card(name, card, error);
	for (unsigned i = 0; code && pf_card_fact(i); i++)
		pf_name_nearest(name, pf_card_fact(i)->card, &best);
	if (best && error) {
		const struct pf_error first = *error;
		return pf_fail(error, code, "%.400s; did you mean %s?", first.text, best);
	}
	return code;
}

static int cost_place(const struct pf_offload_place *p, uint32_t units, struct pf_cost_place *place,
                      struct pf_error *error)
{
	*place = (struct pf_cost_place){ .devices = p->cards ? p->cards : 1,
		                         .host_flops = p->host_flops,
		                         .reports = p->reports,
		                         .cus = units };
	const int code = find_card(p->card, &place->card, error);
	if (!code)
		pf_reports_clock(p->reports, &place->card);
	return code;
}

/* ---- what bounds it ---- */
/* Seconds of all runs by what each of them waits for, one unit's share; the rest of them is launches */
static void split_runs(const struct pf_cost_place *place, const struct pf_job *job, const struct pf_job_times *t,
                       size_t jobs, double banks, struct pf_offload *a)
{
	const double port = pf_cycles_port_rate(&place->card, BEATS, BURSTS);
	double array = 0, ports = 0, launches = 0;
	for (size_t i = 0; i < jobs; i++) {
		const double by_cycles = job[i].cost.cycles / place->card.clock_hz,
			     by_port = job[i].cost.port_most / port, works = fmax(by_cycles, by_port);
		if (job[i].kind != PF_JOB_RUN)
			continue;
		array += by_cycles >= by_port ? by_cycles : 0;
		ports += by_cycles < by_port ? by_port : 0;
		launches += fmin(place->card.launch_s, fmax(t[i].end - t[i].start - works, 0)); /* more: the banks */
	}
	if (banks >= CROWDED) { /* units take the banks from each other: faster ones would wait longer */
		ports += array;
		array = 0;
	}
	const double all = array + ports + launches > 0 ? array + ports + launches : 1;
	a->busy[PF_BOUND_ARRAY] = a->plan.card_s * array / all;
	a->busy[PF_BOUND_PORT] = a->plan.card_s * ports / all;
}

/* How much of what its banks can move the busiest class moved while kernels ran */
static double crowding(const struct pf_cycles_result *r)
{
	double most = 0;
	for (int c = 0; c < PF_CYCLES_CLASSES; c++)
		most = fmax(most, r->class_share[c]);
	return r->busy_runs > 0 ? most * r->seconds / r->busy_runs : 0;
}

static void find_bound(const struct pf_cost_place *place, const struct pf_job *job, const struct pf_job_times *times,
                       size_t jobs, const struct pf_cycles_result *r, struct pf_offload *a)
{
	split_runs(place, job, times, jobs, crowding(r), a);
	a->busy[PF_BOUND_LINK] = a->plan.link_s;
	a->busy[PF_BOUND_HOST] = a->plan.host_s;
	a->bound = PF_BOUND_WAITING;
	for (enum pf_offload_bound b = PF_BOUND_LINK; b < PF_BOUND_WAITING; b++)
		if (a->busy[b] >= SHARE * a->plan.seconds &&
		    (a->bound == PF_BOUND_WAITING || a->busy[b] > a->busy[a->bound]))
			a->bound = b;
}

/* ---- the answer ---- */
static void judge(struct pf_offload *a)
{
	const double kernels = a->busy[PF_BOUND_ARRAY] + a->busy[PF_BOUND_PORT], rest = a->plan.seconds - kernels;
	a->verdict = a->head_s.low >= a->host_s   ? PF_VERDICT_NO
	             : a->head_s.high < a->host_s ? PF_VERDICT_YES
	                                          : PF_VERDICT_OPEN;
	if (a->verdict != PF_VERDICT_NO && !a->image.placed)
		a->verdict = PF_VERDICT_UNPLACED;
	a->host_flops_equal = a->operations / a->plan.seconds;
	a->kernels_faster = a->host_s > rest ? kernels / (a->host_s - rest) : INFINITY;
}

static struct pf_interval per_mac(const struct pf_offload *a)
{
	const struct pf_interval all = a->energy.operations;
	const double macs = a->operations / 2;
	return (struct pf_interval){ all.value / macs, all.low / macs, all.high / macs };
}

static double reported_part(const struct pf_job *job, size_t jobs)
{
	double reported = 0, all = 0;
	for (size_t i = 0; i < jobs; i++) {
		reported += job[i].cost.cycles_reported;
		all += job[i].cost.cycles;
	}
	return all > 0 ? reported / all : 0;
}

static int play(const struct pf_offload_place *p, const struct pf_cost_place *place, const struct pf_cost_head *head,
                struct pf_offload *a, struct pf_error *error)
{
	struct pf_cycles_result r;
	struct pf_job *job;
	size_t jobs;
	int code = pf_cost_schedule(place, head, a->way, a->plan.shards, &job, &jobs, error);
	struct pf_job_times *times = code ? NULL : malloc((jobs + 1) * sizeof *times);
	if (code)
		return code;
	code = times ? 0 : pf_fail(error, -ENOMEM, "no memory for a schedule of %zu jobs", jobs);
	if (!code)
		code = pf_energy_play(p->card, &place->card, place->devices, place->cus, job, jobs, &a->energy, error);
	if (!code)
		code = pf_cycles_play(&place->card, place->devices, place->cus, job, jobs, times, &r, error);
	if (!code)
		code = pf_cycles_doubts(p->card, &place->card, place->devices, place->cus, job, jobs, a->doubt,
		                        sizeof a->doubt / sizeof *a->doubt, &a->doubts, error);
	if (!code) {
		a->head_s = a->energy.seconds;
		a->reported = reported_part(job, jobs);
		a->joule_mac = per_mac(a);
		find_bound(place, job, times, jobs, &r, a);
		judge(a);
	}
	free(times);
	free(job);
	return code;
}

/* With ready logits the host multiplies all the same, so no card can help; of the fused ways the faster that fits */
static enum pf_cost_way best_way(const struct pf_cost *cost)
{
	const struct pf_cost_plan *spill = &cost->plan[PF_COST_SPILL], *again = &cost->plan[PF_COST_RECOMPUTE];
	if (!spill->possible && !again->possible)
		return PF_COST_LOGITS;
	if (!spill->possible || !again->possible)
		return spill->possible ? PF_COST_SPILL : PF_COST_RECOMPUTE;
	return spill->seconds <= again->seconds ? PF_COST_SPILL : PF_COST_RECOMPUTE;
}

int pf_offload_ask(const struct pf_offload_place *p, const struct pf_offload_shape *shape, enum pf_offload_head head,
                   struct pf_offload *a, struct pf_error *error)
{
	const struct pf_cost_head wanted = cost_head(shape, head);
	struct pf_cost_place place;
	struct pf_cost cost;
	*a = (struct pf_offload){ 0 };
	if (head == PF_OFFLOAD_RESIDENT && shape->precision != PF_PRECISION_FP32)
		return pf_fail(error, PF_E_UNSUPPORTED,
		               "the head's optimizer on the card is float32, not %s: take --head trained, or fp32",
		               pf_precision_name(shape->precision));
	if (head == PF_OFFLOAD_RESIDENT && p->cards > 1)
		return pf_fail(error, PF_E_UNSUPPORTED,
		               "the head's optimizer is on one card, not on %u: take --head trained, or --cards 1",
		               p->cards);
	pf_offload_find_image(p->card, shape->precision, head, p->units, &a->image);
	int code = cost_place(p, a->image.units, &place, error);
	if (!code)
		code = pf_cost(&place, &wanted, &cost, error);
	if (code)
		return code;
	a->units = place.cus;
	a->way = best_way(&cost);
	a->plan = cost.plan[a->way];
	a->logits_s = cost.plan[PF_COST_LOGITS].seconds;
	a->host_s = cost.plan[PF_COST_HOST].seconds;
	a->operations = a->host_s * p->host_flops;
	a->body_s = 6.0 * shape->tokens * shape->body_weights / p->host_flops;
	return play(p, &place, &wanted, a, error);
}

/* Whether the card's head is the faster one at that many tokens */
static int pays_at(const struct pf_cost_place *place, const struct pf_offload_shape *shape, enum pf_offload_head head,
                   uint32_t tokens)
{
	struct pf_offload_shape other = *shape;
	struct pf_cost cost;
	other.tokens = tokens;
	const struct pf_cost_head wanted = cost_head(&other, head);
	return pf_cost(place, &wanted, &cost, NULL) == 0 && cost.best != PF_COST_HOST;
}

uint32_t pf_offload_tokens(const struct pf_offload_place *p, const struct pf_offload_shape *shape,
                           enum pf_offload_head head, uint32_t *most)
{
	struct pf_offload_image image;
	struct pf_cost_place place;
	uint32_t least = TOKENS_LEAST;
	*most = 0;
	pf_offload_find_image(p->card, shape->precision, head, p->units, &image);
	if (cost_place(p, image.units, &place, NULL))
		return 0;
	while (least <= PF_ROWS_MAX && !pays_at(&place, shape, head, least))
		least *= 2;
	for (uint32_t tokens = least; tokens <= PF_ROWS_MAX && pays_at(&place, shape, head, tokens); tokens *= 2)
		*most = tokens;
	return *most ? least : 0;
}
