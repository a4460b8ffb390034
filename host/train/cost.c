#include "cost.h"
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "../model/logits.h"
#include "../model/parallel.h"
#include "prefpga/internal/kernels.h"
#include "seconds.h"

enum { VALUES_MOST = 11 };                                     /* scalars of head_adamw */
enum { BLOCKS = 8, UNITS_MOST = 64, DEVICES_MOST = 64, TRIES = 3, SIDE = 768 };
enum { BANK_STREAM, BANK_WEIGHT, BANK_SMALL };                 /* classes of kernels.def */
#define RECORD 64.0                    /* bytes of struct pf_row */
#define STATE 128.0                    /* bytes of struct pf_shard */
#define SQUARES 32.0                   /* bytes of head_norm's sums */

/* A schedule that grows. Jobs that all wait for several others do so through a chain of idle jobs of the host */
struct schedule {
	const struct pf_cost_place *place;
	const struct pf_cost_head  *head;
	struct pf_job              *job;
	uint32_t                    jobs;
	int                         code;
};

static uint32_t add(struct schedule *s, struct pf_job job, uint32_t a, uint32_t b, uint32_t c)
{
	job.after[0] = a;
	job.after[1] = b;
	job.after[2] = c;
	s->job[s->jobs] = job;
	return s->jobs++;
}

static uint32_t copy(struct schedule *s, enum pf_job_kind kind, uint32_t device, unsigned bank, double bytes,
                     uint32_t a)
{
	const struct pf_job job = { .kind = kind, .device = device, .bank = bank, .bytes = bytes };
	return add(s, job, a, PF_JOB_NONE, PF_JOB_NONE);
}

static uint32_t host(struct schedule *s, double flops, uint32_t a, uint32_t b)
{
	const struct pf_job job = { .kind = PF_JOB_HOST, .seconds = flops / s->place->host_flops };
	return add(s, job, a, b, PF_JOB_NONE);
}

static uint32_t launch(struct schedule *s, uint32_t device, int kernel, const uint32_t *value, unsigned values,
                       uint32_t a, uint32_t b, uint32_t c)
{
	struct pf_job job = { .kind = PF_JOB_RUN, .device = device, .kernel = kernel };
	const int code = pf_reports_cost(s->place->reports, s->place->card.array, kernel, value, values, &job.cost,
	                                 NULL);
	s->code = s->code ? s->code : code;
	return add(s, job, a, b, c);
}

/* Operations of one product */
static double product(const struct pf_cost_head *h)
{
	return 2.0 * h->tokens * (double)h->vocab * h->dim;
}

/* ---- ready logits ---- */
static void logits_schedule(struct schedule *s)
{
	const struct pf_cost_head *h = s->head;
	const uint32_t rows = (h->tokens + BLOCKS - 1) / BLOCKS, stride = (h->vocab + 15) / 16;
	const uint32_t forward[] = { rows, h->vocab, stride, 0 }, back[] = { rows, h->vocab, stride };
	const double matrix = 4.0 * rows * (double)stride * 16;
	uint32_t gathered = PF_JOB_NONE, out[BLOCKS];
	for (uint32_t b = 0; b < BLOCKS; b++) {
		const uint32_t device = b % s->place->devices;
		uint32_t at = host(s, product(h) / BLOCKS, PF_JOB_NONE, PF_JOB_NONE);
		at = copy(s, PF_JOB_IN, device, BANK_STREAM, matrix, at);
		at = launch(s, device, PF_KERNEL_logprob, forward, 4, at, PF_JOB_NONE, PF_JOB_NONE);
		out[b] = copy(s, PF_JOB_OUT, device, BANK_SMALL, RECORD * rows, at);
	}
	for (uint32_t b = 0; b < BLOCKS; b++)
		gathered = host(s, 0, gathered, out[b]);
	for (uint32_t b = 0; h->backward && b < BLOCKS; b++) {
		const uint32_t device = b % s->place->devices;
		uint32_t at = copy(s, PF_JOB_IN, device, BANK_SMALL, 4.0 * rows, gathered);
		at = launch(s, device, PF_KERNEL_logit_grad, back, 3, at, PF_JOB_NONE, PF_JOB_NONE);
		at = copy(s, PF_JOB_OUT, device, BANK_STREAM, matrix, at);
		host(s, product(h) * (h->dweight ? 2 : 1) / BLOCKS, at, PF_JOB_NONE);
	}
}

/* ---- the fused head ---- */

/* What one unit does: all words of some tokens, or all tokens of some words */
struct part { uint32_t device, tokens, words; };

static uint32_t cut(uint32_t all, uint32_t block, uint32_t parts, uint32_t i)
{
	const uint64_t blocks = (all + block - 1) / block;
	const uint64_t from = blocks * i / parts * block, to = blocks * (i + 1) / parts * block;
	return (uint32_t)((to < all ? to : all) - (from < all ? from : all));
}

static struct part part_of(const struct schedule *s, uint32_t shards, uint32_t i)
{
	const struct pf_cost_head *h = s->head;
	const uint32_t units = s->place->devices * s->place->cus;
	return (struct part){ i / s->place->cus, shards > 1 ? h->tokens : cut(h->tokens, PF_TOKENS, units, i),
		              shards > 1 ? cut(h->vocab, PF_TOKENS, units, i) : h->vocab };
}

static void unit_scalars(const struct pf_cost_head *h, enum pf_precision form, const struct part *p, uint32_t mode,
                         uint32_t value[10])
{
	const uint32_t all[10] = { p->tokens, pf_precision_depth(form, h->dim), p->words, mode };
	memcpy(value, all, sizeof all);
}

/* The head's optimizer behind all of dW: its norm, which the host adds to the others', then AdamW */
static void optimize(struct schedule *s, uint32_t summed)
{
	const struct pf_cost_head *h = s->head;
	const uint32_t value[VALUES_MOST] = { h->vocab, pf_precision_depth(h->precision, h->dim) };
	uint32_t at = launch(s, 0, PF_KERNEL_head_norm, value, 2, summed, PF_JOB_NONE, PF_JOB_NONE);
	at = copy(s, PF_JOB_OUT, 0, BANK_SMALL, SQUARES, at);
	at = host(s, 0, at, PF_JOB_NONE);
	launch(s, 0, PF_KERNEL_head_adamw, value, VALUES_MOST, at, PF_JOB_NONE, PF_JOB_NONE);
}

/* Bytes of a row of hidden states or W in the forms that the way forward and the way back want of it */
static double row_bytes(const struct pf_cost_head *h)
{
	const enum pf_precision back = pf_precision_back(h->precision);
	const double forward = (double)pf_precision_row_bytes(h->precision, h->dim);
	return h->backward && back != h->precision ? forward + (double)pf_precision_row_bytes(back, h->dim) : forward;
}

/* Of a row of dhidden, and of dW, which is fp32 */
static double dhidden_bytes(const struct pf_cost_head *h)
{
	return (double)pf_precision_row_bytes(pf_precision_back(h->precision), h->dim);
}

static double dweight_bytes(const struct pf_cost_head *h)
{
	return 4.0 * pf_precision_pitch(pf_precision_back(h->precision), h->dim);
}

static int has_work(const struct part *p)
{
	return p->tokens > 0 && p->words > 0;
}

/* Whether a unit after unit i has work on the same card */
static int goes_on(const struct schedule *s, uint32_t shards, uint32_t i)
{
	const uint32_t cus = s->place->cus, end = (i / cus + 1) * cus;
	for (uint32_t k = i + 1; k < end; k++) {
		const struct part p = part_of(s, shards, k);
		if (has_work(&p))
			return 1;
	}
	return 0;
}

/* The job that a device's W waits for: a copy in where it moves */
static uint32_t weight_in(struct schedule *s, uint32_t device, uint32_t shards)
{
	const struct pf_cost_head *h = s->head;
	const double words = shards > 1 ? (double)h->vocab / s->place->devices : h->vocab;
	return h->moves ? copy(s, PF_JOB_IN, device, BANK_WEIGHT, words * row_bytes(h), PF_JOB_NONE)
	                : PF_JOB_NONE;
}

static uint32_t fused_forward(struct schedule *s, uint32_t shards, uint32_t raw)
{
	const struct pf_cost_head *h = s->head;
	const uint32_t units = s->place->devices * s->place->cus;
	const int kernel = pf_precision_forward_kernel(h->precision);
	uint32_t gathered = PF_JOB_NONE, w = PF_JOB_NONE, in = PF_JOB_NONE, device = PF_JOB_NONE, value[10];
	for (uint32_t i = 0; i < units; i++) {
		const struct part p = part_of(s, shards, i);
		const int fresh = p.device != device;          /* its first units may have nothing to do */
		if (!has_work(&p))
			continue;
		device = p.device;
		w = fresh ? weight_in(s, p.device, shards) : w;
		if (fresh || shards == 1)
			in = copy(s, PF_JOB_IN, p.device, BANK_STREAM, p.tokens * row_bytes(h), w);
		unit_scalars(h, h->precision, &p, raw | (shards > 1 ? PF_LINEAR_SHARD : 0), value);
		uint32_t at = launch(s, p.device, kernel, value, 7, in, w, PF_JOB_NONE);
		at = copy(s, PF_JOB_OUT, p.device, BANK_SMALL, (shards > 1 ? STATE : RECORD) * p.tokens, at);
		gathered = host(s, 0, gathered, at);
	}
	return gathered;
}

static void fused_backward(struct schedule *s, uint32_t shards, uint32_t raw, uint32_t gathered)
{
	const struct pf_cost_head *h = s->head;
	const uint32_t units = s->place->devices * s->place->cus;
	const int kernel = pf_precision_backward_kernel(h->precision);
	uint32_t before = PF_JOB_NONE, device = PF_JOB_NONE, summed = PF_JOB_NONE, value[10];
	for (uint32_t i = 0; i < units; i++) {
		const struct part p = part_of(s, shards, i);
		if (!has_work(&p))
			continue;
		before = p.device != device || shards > 1 || !h->dweight ? PF_JOB_NONE : before;
		device = p.device;
		unit_scalars(h, pf_precision_back(h->precision), &p, raw | (h->dweight ? PF_LINEAR_DWEIGHT : 0), value);
		const uint32_t in = copy(s, PF_JOB_IN, p.device, BANK_SMALL,
		                         (4.0 + (shards > 1 ? RECORD : 0)) * p.tokens, gathered);
		before = launch(s, p.device, kernel, value, 10, in, before, PF_JOB_NONE);
		copy(s, PF_JOB_OUT, p.device, BANK_STREAM, p.tokens * dhidden_bytes(h), before);
		if (h->dweight && h->moves && (shards > 1 || !goes_on(s, shards, i)))
			copy(s, PF_JOB_OUT, p.device, BANK_WEIGHT, p.words * dweight_bytes(h), before);
		summed = h->optimizer ? host(s, 0, summed, before) : PF_JOB_NONE;
	}
	if (h->optimizer)
		optimize(s, summed);
}

static void fused_schedule(struct schedule *s, uint32_t raw, uint32_t shards)
{
	const uint32_t gathered = fused_forward(s, shards, raw);
	if (s->head->backward)
		fused_backward(s, shards, raw, gathered);
}

static double fused_memory(const struct pf_cost_place *p, const struct pf_cost_head *h, uint32_t shards, uint32_t raw)
{
	const double words = shards > 1 ? (double)h->vocab / p->devices : h->vocab;
	const double tokens = shards > 1 ? h->tokens : (double)h->tokens / p->devices;
	const double gradient = (h->dweight ? 1 : 0) + (h->optimizer ? 2 : 0);         /* and moments */
	return words * (row_bytes(h) + gradient * dweight_bytes(h)) +
	       tokens * (row_bytes(h) + (h->backward ? dhidden_bytes(h) : 0) + RECORD) +
	       (raw ? 4.0 * tokens * words : 0);
}

/* ---- plans ---- */
static int play(struct schedule *s, struct pf_cost_plan *plan, struct pf_error *error)
{
	struct pf_cycles_result r;
	if (s->code)
		return pf_fail(error, s->code, "the cost model has no figures of these kernels");
	int code = pf_cycles_play(&s->place->card, s->place->devices, s->place->cus, s->job, s->jobs, NULL, &r, error);
	if (code)
		return code;
	plan->seconds = r.seconds;
	plan->host_s = r.busy_host;
	plan->link_s = r.busy_in + r.busy_out;
	plan->card_s = r.busy_runs;
	plan->bytes_in = r.bytes_in;
	plan->bytes_out = r.bytes_out;
	return 0;
}

static int fused_plan(struct schedule *s, uint32_t raw, uint32_t shards, struct pf_cost_plan *plan,
                      struct pf_error *error)
{
	s->jobs = 0;
	plan->shards = shards;
	plan->card_bytes = fused_memory(s->place, s->head, shards, raw);
	plan->possible = plan->card_bytes <= s->place->card.memory_bytes;
	fused_schedule(s, raw, shards);
	return play(s, plan, error);
}

/* Tokens shared or words, what is possible and faster */
static int best_fused(struct schedule *s, uint32_t raw, struct pf_cost_plan *plan, struct pf_error *error)
{
	const uint32_t units = s->place->devices * s->place->cus;
	struct pf_cost_plan other;
	int code = fused_plan(s, raw, 1, plan, error);
	if (code || units == 1)
		return code;
	code = fused_plan(s, raw, units, &other, error);
	if (!code && (other.possible > plan->possible ||
	              (other.possible == plan->possible && other.seconds < plan->seconds)))
		*plan = other;
	return code;
}

static int check(const struct pf_cost_place *p, const struct pf_cost_head *h, struct pf_error *error)
{
	if (h->tokens == 0 || h->tokens > PF_ROWS_MAX || h->vocab == 0 || h->vocab > PF_VOCAB_MAX || h->dim == 0 ||
	    h->dim > PF_DEPTH_MAX * 16)
		return pf_fail(error, PF_E_RANGE,
		               "a head of %u tokens, %u words, %u numbers: 1 to %u, %u, %u are possible", h->tokens,
		               h->vocab, h->dim, PF_ROWS_MAX, PF_VOCAB_MAX, PF_DEPTH_MAX * 16);
	if (h->optimizer && (!h->backward || !h->dweight || h->moves || h->precision != PF_PRECISION_FP32 ||
	                     p->devices != 1))
		return pf_fail(error, PF_E_UNSUPPORTED,
		               "the head's optimizer runs on one card, on a trained float32 head that stays there");
	if (p->devices == 0 || p->devices > DEVICES_MOST || p->cus == 0 || p->cus > UNITS_MOST ||
	    !(p->host_flops > 0.0 && isfinite(p->host_flops)))
		return pf_fail(error, PF_E_RANGE, "%u cards of %u units, a host of %g operations/s: not a machine",
		               p->devices, p->cus, p->host_flops);
	return 0;
}

static void choose(struct pf_cost *cost)
{
	cost->best_card = PF_COST_HOST;
	for (enum pf_cost_way w = PF_COST_LOGITS; w < PF_COST_WAYS; w++)
		if (cost->plan[w].possible && (cost->best_card == PF_COST_HOST ||
		                               cost->plan[w].seconds < cost->plan[cost->best_card].seconds))
			cost->best_card = w;
	cost->best = cost->plan[cost->best_card].seconds < cost->plan[PF_COST_HOST].seconds ? cost->best_card
	                                                                                     : PF_COST_HOST;
}

static int fill(struct schedule *s, struct pf_cost *cost, struct pf_error *error)
{
	const struct pf_cost_head *h = s->head;
	const double flops = product(h) * (1 + (h->backward ? 1 : 0) + (h->backward && h->dweight ? 1 : 0));
	const double host_s = flops / s->place->host_flops;
	cost->plan[PF_COST_HOST] = (struct pf_cost_plan){ .possible = 1, .shards = 1, .seconds = host_s,
		.host_s = host_s };
	logits_schedule(s);
	cost->plan[PF_COST_LOGITS] = (struct pf_cost_plan){ .shards = 1,
		.card_bytes = 3 * 4.0 * ((h->tokens + BLOCKS - 1) / BLOCKS) * (double)h->vocab };
	cost->plan[PF_COST_LOGITS].possible = cost->plan[PF_COST_LOGITS].card_bytes <= s->place->card.memory_bytes;
	int code = play(s, &cost->plan[PF_COST_LOGITS], error);
	if (!code)
		code = best_fused(s, h->backward ? PF_LINEAR_RAW : 0, &cost->plan[PF_COST_SPILL], error);
	if (!code && !(h->backward && pf_precision_back(h->precision) != h->precision))
		code = best_fused(s, 0, &cost->plan[PF_COST_RECOMPUTE], error);
	return code;
}

static int open_schedule(struct schedule *s, struct pf_error *error)
{
	const int code = check(s->place, s->head, error);
	if (code)
		return code;
	s->job = calloc(10 * (size_t)s->place->devices * s->place->cus + 9 * BLOCKS, sizeof *s->job);
	return s->job ? 0 : pf_fail(error, -ENOMEM, "no memory for a schedule");
}

int pf_cost_schedule(const struct pf_cost_place *place, const struct pf_cost_head *head, enum pf_cost_way way,
                     uint32_t shards, struct pf_job **job, size_t *jobs, struct pf_error *error)
{
	struct schedule s = { .place = place, .head = head };
	const uint32_t raw = way == PF_COST_SPILL && head->backward ? PF_LINEAR_RAW : 0;
	int code = open_schedule(&s, error);
	*job = NULL;
	*jobs = 0;
	if (code)
		return code;
	if (way == PF_COST_LOGITS)
		logits_schedule(&s);
	else if (way != PF_COST_HOST)
		fused_schedule(&s, raw, shards);
	*job = s.job;
	*jobs = s.jobs;
	return s.code ? pf_fail(error, s.code, "the cost model has no figures of these kernels") : 0;
}

int pf_cost(const struct pf_cost_place *place, const struct pf_cost_head *head, struct pf_cost *cost,
            struct pf_error *error)
{
	struct schedule s = { .place = place, .head = head };
	memset(cost, 0, sizeof *cost);
	int code = open_schedule(&s, error);
	if (code)
		return code;
	code = fill(&s, cost, error);
	free(s.job);
	if (code)
		return code;
	choose(cost);
	return cost->best_card != PF_COST_HOST
	       ? 0
	       : pf_fail(error, PF_E_MEMORY,
	                 "no way of computing this head fits a card of %.3g bytes; give smaller chunks or more cards",
	                 place->card.memory_bytes);
}

/* ---- what the model is told ---- */
const char *pf_cost_way_name(enum pf_cost_way way)
{
	static const char *const names[] = { "host", "logits", "spill", "recompute" };
	return names[way];
}

const char *pf_cost_card_of(const struct pf_device_facts *facts)
{
	for (unsigned i = 0; pf_card_fact(i); i++)
		if (strcmp(facts->backend, "cpu") != 0 && strstr(facts->name, pf_card_fact(i)->card))
			return pf_card_fact(i)->card;
	return NULL;
}

double pf_cost_host_flops(unsigned threads)
{
	const size_t count = (size_t)SIDE * SIDE;
	float *a = calloc(3 * count, sizeof *a);
	double best = 0;
	for (size_t i = 0; a && i < 2 * count; i++)
		a[i] = 1;
	for (int i = 0; a && i < TRIES; i++) {
		const struct pf_head_shape shape = { SIDE, SIDE, SIDE, SIDE };
		const double began = pf_seconds();
		pf_logits(pf_threads(threads), &shape, a, a + count, a + 2 * count);
		best = fmax(best, 2.0 * SIDE * (double)count / (pf_seconds() - began));
	}
	free(a);
	return best > 0 && isfinite(best) ? best : 1e9;
}

void pf_cost_say(const struct pf_cost *cost, const char *card, const struct pf_cost_place *place, char *text,
                 size_t room)
{
	const struct pf_cost_plan *own = &cost->plan[cost->best_card], *host = &cost->plan[PF_COST_HOST];
	snprintf(text, room,
	         "%s: %s at its best (%s%s) takes %.3g s a chunk (modelled, uncalibrated), link busy %.3g s, kernels "
	         "%.3g s; this host %.3g s, at %.3g GFLOP/s (measured)",
	         cost->best == PF_COST_HOST ? "do not offload" : "offload", card, pf_cost_way_name(cost->best_card),
	         own->shards > 1 ? ", words shared by the units" : "", own->seconds, own->link_s, own->card_s,
	         host->seconds, 1e-9 * place->host_flops);
}
