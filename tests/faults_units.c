/* A compute unit that dies in the middle of a step of the fused head, with several units, with ranges of the
 * vocabulary, with several cards: the error names card and cause, the run goes on from its last checkpoint, or by
 * itself where that is allowed, and ends with the bits of an undisturbed one. */
#include <stdio.h>
#include <string.h>
#include "tests/cmocka.h"
#include "tests/faults_world.h"
#include "tests/scratch.h"

/* Answers long enough for several blocks of 64 tokens, one a unit */
static int open_world(void **state)
{
	(void)state;
	faults_open("faults_units", " sky over a sea, please");
	return 0;
}

static int close_world(void **state)
{
	(void)state;
	faults_close();
	return 0;
}

struct head { unsigned shards; const char *spec[FAULTS_DEVICES]; };

/* The first device is the one that fails */
static const struct head heads[] = {
	{ 0, { "sim:u55c*3" } },
	{ 3, { "sim:u55c*3" } },
	{ 2, { "sim:u55c*4" } },
	{ 0, { "sim:u55c*2", "sim:u250*2" } },
	{ 4, { "sim:u55c*2", "sim:u250*2" } },
};

enum { HEADS = sizeof heads / sizeof *heads };

static struct outcome *run(const struct head *head, const char *fault, const struct faults_plan *plan)
{
	static struct outcome o;
	char struck[96];
	const char *spec[FAULTS_DEVICES];
	memset(&o, 0, sizeof o);
	memcpy(spec, head->spec, sizeof spec);
	if (fault) {
		snprintf(struck, sizeof struck, "fault:%s/%s", fault, head->spec[0]);
		spec[0] = struck;
	}
	faults_run(spec, plan, &o);
	return &o;
}

static const char *const faults[] = { "firewall", "hang", "gone" };
enum { FAULTS = sizeof faults / sizeof *faults, FIRST_RUN = 7, RUNS_APART = 29, LAST_RUN = 400 };

/* The fault at runs of the first device all over the training, until it has no such run. A fault that has struck a spec
 * is over, so no two calls have a place in common */
static void each_place(const struct head *head, const char *fault, const struct faults_plan *plan,
                       int (*judge)(const struct head *head, const char *struck, const struct faults_plan *plan,
                                    struct outcome *o))
{
	const int own = (int)(head - heads) + (plan->out ? HEADS : 0);
	char struck[32], out[1024];
	int places = 0, judged = 0;
	const struct faults_plan plain = { .shards = head->shards, .group = plan->group };
	_Static_assert(2 * HEADS <= RUNS_APART, "");
	assert_true(run(head, NULL, &plain)->same);
	for (int n = FIRST_RUN + own; n < LAST_RUN; n += RUNS_APART, places++) {
		struct faults_plan here = *plan;
		snprintf(struck, sizeof struck, "%s@%d", fault, n);
		snprintf(out, sizeof out, "%s-%s-%d", plan->out ? plan->out : "", struck, own);
		here.out = plan->out ? out : NULL;
		struct outcome *o = run(head, struck, &here);
		if (o->code == 0 && o->renewal.renewals == 0)
			break;
		judged += judge(head, struck, &here, o);
	}
	print_message("%u ranges, %s, %s: %d places, %d judged\n", head->shards, head->spec[1] ? "2 cards" : "1 card",
	              fault, places, judged);
	assert_true(judged >= 1);
}

/* 1: it was stopped after its first checkpoint */
static int goes_on(const struct head *head, const char *struck, const struct faults_plan *plan, struct outcome *o)
{
	struct faults_plan again = *plan;
	if (o->code != PF_E_DEVICE && o->code != PF_E_TIMEOUT && o->code != PF_E_DEPENDENCY)
		fail_msg("%s: %s", struck, o->error.text);
	assert_non_null(strstr(o->error.text, "simulated u55c: "));
	assert_null(strstr(o->error.text, pf_error_text(PF_E_DEPENDENCY)));    /* the cause, not what it led to */
	again.resume = 1;
	o = run(head, NULL, &again);
	if (o->code && strstr(o->error.text, "no complete checkpoint to resume from; start without --resume"))
		return 0;
	if (o->code)
		fail_msg("%s: %s", struck, o->error.text);
	assert_non_null(strstr(o->notes, "resuming from"));
	assert_true(o->same);
	return 1;
}

static void stopped_runs_go_on(void **state)
{
	(void)state;
	char out[512];
	snprintf(out, sizeof out, "%s", scratch_path("out"));
	for (unsigned h = 0; h < HEADS; h++)
		for (int i = 0; i < FAULTS; i++) {
			const struct faults_plan plan = { PF_FAULT_STOP, heads[h].shards, h, out, 0 };
			each_place(&heads[h], faults[i], &plan, goes_on);
		}
}

static int went_on(const struct head *head, const char *struck, const struct faults_plan *plan, struct outcome *o)
{
	(void)plan;
	if (strncmp(struck, "gone", 4) == 0 && !head->spec[1]) {       /* only another card helps */
		assert_int_equal(o->code, PF_E_DEVICE);
		return 1;
	}
	if (o->code || !o->same || o->renewal.renewals != 1 || o->marked)
		fail_msg("%s: same %d, %u renewals, %s", struck, o->same, o->renewal.renewals,
		         o->code ? o->error.text : o->notes);
	return 1;
}

static void runs_go_on_by_themselves(void **state)
{
	(void)state;
	for (unsigned h = 0; h < HEADS; h++)
		for (int i = 0; i < FAULTS; i++) {
			const struct faults_plan plan = { PF_FAULT_RESET, heads[h].shards, h, NULL, 0 };
			each_place(&heads[h], faults[i], &plan, went_on);
		}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(stopped_runs_go_on),
		cmocka_unit_test(runs_go_on_by_themselves),
	};
	return cmocka_run_group_tests_name("faults_units", tests, open_world, close_world);
}
