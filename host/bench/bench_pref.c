/* Work pref: DPO of pairs, from sums of log-probs to losses and gradients, tables of the loss included. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include "bench.h"
#include "plain.h"
#include "prefpga/internal/abi.h"
#include "prefpga/loss.h"

enum { PAIRS_MOST = PF_ITEMS_MAX / 2 /* one launch */ };
#define BETA  0.1
#define ERROR 1e-6

struct pref {
	struct pf_bench_task task;
	struct pf_loss loss;
	uint32_t pairs;
	struct pf_loss_item *item; /* [2 pairs] */
	struct pf_loss_result *result;
	uint32_t *group; /* [pairs + 1] */
};

/* A pair a token: what a step of so many tokens at most has */
static uint32_t pairs_of(const struct pf_bench_shape *s)
{
	return s->tokens < PAIRS_MOST ? s->tokens : PAIRS_MOST;
}

static void close_pref(void *state)
{
	struct pref *p = state;
	if (!p)
		return;
	free(p->item);
	free(p->result);
	free(p->group);
	free(p);
}

static int64_t q32(double nats)
{
	return llrint(nats * 0x1p32);
}

static int open_pref(const struct pf_bench_task *task, void **state, struct pf_error *error)
{
	struct pref *p = calloc(1, sizeof *p);
	*state = p;
	if (!p)
		return pf_fail(error, -ENOMEM, "no memory for the bench");
	*p = (struct pref){ .task = *task, .pairs = pairs_of(&task->shape) };
	p->item = calloc(2 * (size_t)p->pairs, sizeof *p->item);
	p->result = calloc(2 * (size_t)p->pairs, sizeof *p->result);
	p->group = calloc(p->pairs + 1, sizeof *p->group);
	if (!p->item || !p->result || !p->group)
		return pf_fail(error, -ENOMEM, "no memory for %u pairs", p->pairs);
	for (uint32_t i = 0; i < 2 * p->pairs; i++)
		p->item[i] = (struct pf_loss_item){ .policy = q32(-50 - i * 37 % 101 * 0.25),
			                            .reference = q32(-60 - i % 13),
			                            .n = 20 + i % 50,
			                            .kind = i % 2 ? PF_KIND_REJECTED : PF_KIND_CHOSEN,
			                            .weight = 1 };
	for (uint32_t g = 0; g <= p->pairs; g++)
		p->group[g] = 2 * g;
	return pf_loss_parse("sigmoid:beta=0.1", &p->loss, error);
}

static int run_pref(void *state, struct pf_error *error)
{
	struct pref *p = state;
	const struct pf_loss_batch batch = { .divisor = p->pairs };
	return pf_loss_evaluate(p->task.device, &p->loss, &batch, p->item, 2 * (size_t)p->pairs, p->group, p->pairs,
	                        p->result, error);
}

static double ratio(const struct pf_loss_item *item)
{
	return (double)(item->policy - item->reference) * 0x1p-32;
}

static int check_pref(void *state, struct pf_error *error)
{
	struct pref *p = state;
	int code = run_pref(p, error);
	for (uint32_t g = 0; !code && g < p->pairs; g++) {
		double slope, want = pf_plain_dpo(BETA, ratio(&p->item[2 * g]) - ratio(&p->item[2 * g + 1]), &slope);
		const struct pf_loss_result *got = &p->result[2 * g];
		if (!(fabs(got->loss - want) <= ERROR * (1 + want)) ||
		    !(fabs(got->grad - slope / p->pairs) <= ERROR / p->pairs) ||
		    !(fabs(got[1].grad + slope / p->pairs) <= ERROR / p->pairs))
			code = pf_fail(
				error, PF_E_DATA,
				"loss and gradient of pair %u are %.9g and %.9g, the plain reference says %.9g and "
				"%.9g: %s computes wrong numbers, nothing was timed",
				g, got->loss, got->grad, want, slope / p->pairs, pf_device_facts(p->task.device)->name);
	}
	return code;
}

static double bytes(const struct pf_bench_shape *s)
{
	return 2.0 * pairs_of(s) * (sizeof(struct pf_item) + sizeof(struct pf_item_out));
}

static double pairs(const struct pf_bench_shape *s)
{
	return pairs_of(s);
}

const struct pf_bench_work pf_bench_pref = { "pref",    "f64",      PF_BENCH_COPY, 0,          -1,   bytes, pairs,
	                                     open_pref, check_pref, run_pref,      close_pref, NULL, "pref" };
