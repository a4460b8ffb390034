/* Backend "fault": another backend that goes wrong as planned. where = FAULT[@n][+FAULT[@n]...]/SPEC, for example
 * "firewall@7/sim:u55c": the 7th run (from 1) on that card trips its firewall. Faults: internal/faults.def.
 *
 * What a fault has done to a card outlives its closing, as with a real one, until something cures it; so cards are kept
 * by the text of `where` for the life of the process. Counters run on over openings, and each fault strikes once, but
 * those of strikes EVERY.
 * Threads: any; one lock for all cards, not held during the inner backend's calls. */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "prefpga/internal/backend.h"
#include "prefpga/internal/faults.def"
#include "prefpga/internal/nearest.h"

enum strikes { STRIKE_OPEN, STRIKE_RUN, STRIKE_EVERY, STRIKE_COPY, STRIKE_HOLD, STRIKE_LATE };
enum cure { CURE_NONE, CURE_REOPEN, CURE_USER, CURE_MGMT, CURE_WAIT, CURE_COLD };
struct row { const char *name; enum strikes strikes; int code; enum cure cure; unsigned tries; const char *report; };
#define FAULT_ROW(name, strikes, code, cure, tries, report) \
	{ #name, STRIKE_##strikes, code, CURE_##cure, tries, report },
static const struct row rows[] = { PF_CARD_FAULTS(FAULT_ROW) };
enum { FAULTS = sizeof rows / sizeof *rows, PLAN_MAX = 8 };

struct plan { const struct row *row; uint64_t at; int struck; };
/* A card, as its faults have left it */
struct state {
	struct state     *next;
	char             *where;
	struct plan       plan[PLAN_MAX];
	unsigned          plans;
	char              inner[128];          /* spec */
	uint64_t          count[STRIKE_LATE + 1];
	const struct row *down;                /* what it suffers from */
	unsigned          tries;               /* openings that still fail */
	int               aborted;             /* a held run is to end */
};
struct card { struct state *state; const struct pf_backend *inner; void *card; };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t moved = PTHREAD_COND_INITIALIZER;
static struct state *states;

/* ---- the plan ---- */
static int parse_fault(const char *text, size_t length, struct plan *plan, struct pf_error *error)
{
	char name[64], known[256] = "", *end = "";
	const char *best = NULL;
	snprintf(name, sizeof name, "%.*s", (int)length, text);
	char *at = strchr(name, '@');
	if (at)
		*at++ = '\0';
	unsigned long long n = at ? strtoull(at, &end, 10) : 1;
	for (unsigned i = 0; i < FAULTS; i++) {
		pf_name_nearest(name, rows[i].name, &best);
		snprintf(known + strlen(known), sizeof known - strlen(known), "%s%s", i ? ", " : "", rows[i].name);
		if (strcmp(rows[i].name, name) == 0 && n > 0 && !*end && length < sizeof name) {
			*plan = (struct plan) { &rows[i], n, 0 };
			return 0;
		}
	}
	return pf_fail(error, PF_E_ARGUMENT, "fault: \"%.*s\" is no FAULT[@n], n from 1%s%s; faults are %s",
	               (int)length, text, best ? "; the nearest fault is " : "", best ? best : "", known);
}

static int parse_plan(struct state *state, struct pf_error *error)
{
	const char *at = state->where, *slash = strchr(at, '/');
	if (!slash || !slash[1] || strlen(slash + 1) >= sizeof state->inner)
		return pf_fail(error, PF_E_ARGUMENT, "fault: write FAULT[@n]/DEVICE, such as firewall@7/sim");
	snprintf(state->inner, sizeof state->inner, "%s", slash + 1);
	for (;; at++) {
		size_t length = strcspn(at, "+/");
		if (state->plans == PLAN_MAX)
			return pf_fail(error, PF_E_RANGE, "fault: more than %d faults", PLAN_MAX);
		int status = parse_fault(at, length, &state->plan[state->plans++], error);
		if (status != 0)
			return status;
		at += length;
		if (at == slash)
			break;
	}
	return 0;
}

static struct state *find_state(const char *where)
{
	struct state *state = states;
	while (state && strcmp(state->where, where) != 0)
		state = state->next;
	return state;
}

/* With the lock held */
static int take_state(const char *where, struct state **taken, struct pf_error *error)
{
	if ((*taken = find_state(where)))
		return 0;
	struct state *state = calloc(1, sizeof *state);
	if (state)
		state->where = strdup(where);
	int status = state && state->where ? parse_plan(state, error) : pf_fail(error, -ENOMEM, "fault: out of memory");
	if (status != 0) {
		if (state)
			free(state->where);
		free(state);
		return status;
	}
	state->next = states;
	return *taken = states = state, 0;
}

/* ---- striking; the lock is held ---- */
/* Counts a call of this kind; the fault that strikes it, or NULL */
static const struct row *strike(struct state *state, enum strikes kind)
{
	uint64_t n = ++state->count[kind];
	for (unsigned i = 0; i < state->plans; i++) {
		struct plan *plan = &state->plan[i];
		if (plan->row->strikes != kind || (kind == STRIKE_EVERY ? plan->at > n : plan->at != n || plan->struck))
			continue;
		plan->struck = 1;
		if (plan->row->cure != CURE_NONE) {
			state->down = plan->row;
			state->tries = plan->row->tries;
		}
		return plan->row;
	}
	return NULL;
}

static int report(const struct row *row, struct pf_error *error)
{
	return pf_fail(error, row->code, "%s", row->report);
}

/* ---- opening ---- */
/* What stands in the way of opening, NULL if nothing. Most sick cards open, and fail later */
static const struct row *may_open(struct state *state)
{
	const struct row *row = state->down;
	if (row && row->cure == CURE_WAIT && state->tries)
		return state->tries--, row;
	if (row && (row->cure == CURE_WAIT || row->cure == CURE_REOPEN))
		row = state->down = NULL;
	if (!row && (row = strike(state, STRIKE_OPEN)) && row->cure == CURE_WAIT)
		state->tries--;
	return row && (row->strikes == STRIKE_OPEN || row->cure == CURE_COLD) ? row : NULL;
}

static int fault_open(const struct pf_backend_open *open, void **opaque, struct pf_device_facts *facts, uint32_t *cus,
                      struct pf_error *error)
{
	struct card *card = calloc(1, sizeof *card);
	const char *where = NULL;
	if (!card)
		return pf_fail(error, -ENOMEM, "fault: out of memory");
	pthread_mutex_lock(&lock);
	int status = take_state(open->where, &card->state, error);
	const struct row *row = status == 0 ? may_open(card->state) : NULL;
	if (status == 0)
		card->state->aborted = 0;
	pthread_mutex_unlock(&lock);
	if (row)
		status = report(row, error);
	if (status == 0)
		status = pf_backend_find(card->state->inner, &card->inner, &where, error);
	if (status == 0) {
		struct pf_backend_open inner = { where, open->options };
		status = card->inner->open(&inner, &card->card, facts, cus, error);
	}
	if (status != 0)
		free(card);
	else
		*opaque = card;
	return status;
}

static void fault_close(void *opaque)
{
	struct card *card = opaque;
	card->inner->close(card->card);
	free(card);
}

/* ---- calls that pass on ---- */
static int fault_alloc(void *opaque, enum pf_kernel kernel, unsigned arg, uint64_t bytes, struct pf_memory **memory,
                       struct pf_error *error)
{
	struct card *card = opaque;
	return card->inner->alloc(card->card, kernel, arg, bytes, memory, error);
}

static void fault_free(void *opaque, struct pf_memory *memory)
{
	struct card *card = opaque;
	card->inner->free(card->card, memory);
}

/* ---- copies ---- */
static int fault_copy(void *opaque, enum pf_direction direction, struct pf_memory *memory, uint64_t offset, void *host,
                      uint64_t bytes, struct pf_error *error)
{
	struct card *card = opaque;
	pthread_mutex_lock(&lock);
	const struct row *down = card->state->down, *row = down ? down : strike(card->state, STRIKE_COPY);
	pthread_mutex_unlock(&lock);
	if (row && (row->cure != CURE_NONE || bytes < 2))
		return report(row, error);
	if (row && strcmp(row->name, "short") == 0)
		card->inner->copy(card->card, direction, memory, offset, host, bytes / 2, NULL);
	return row ? report(row, error)
	           : card->inner->copy(card->card, direction, memory, offset, host, bytes, error);
}

/* ---- runs ---- */
static void (*on_hold)(int holding);

void pf_fault_on_hold(void (*held)(int holding))
{
	on_hold = held;
}

/* Until somebody gives the run up; with the lock held */
static void hold(struct state *state)
{
	pthread_mutex_unlock(&lock);
	if (on_hold)
		on_hold(1);
	pthread_mutex_lock(&lock);
	while (!state->aborted)
		pthread_cond_wait(&moved, &lock);
	pthread_mutex_unlock(&lock);
	if (on_hold)
		on_hold(0);
	pthread_mutex_lock(&lock);
}

static int fault_run(void *opaque, unsigned cu, const struct pf_launch *launch, struct pf_error *error)
{
	struct card *card = opaque;
	struct state *state = card->state;
	pthread_mutex_lock(&lock);
	const struct row *down = state->down, *row = down ? down : strike(state, STRIKE_RUN);
	if (!row && launch->kernel != PF_CHECK_KERNEL)         /* so that the card looks sound again */
		row = strike(state, STRIKE_EVERY);
	const struct row *held = row ? NULL : strike(state, STRIKE_HOLD),
			 *late = row ? NULL : strike(state, STRIKE_LATE);
	if (held)
		hold(state);
	pthread_mutex_unlock(&lock);
	if (row || held)
		return report(row ? row : held, error);
	int status = card->inner->run(card->card, cu, launch, error);
	pthread_mutex_lock(&lock);
	if (status == PF_E_UNWRITTEN)                  /* what the simulator explains, a card does not */
		for (unsigned i = 0; i < state->plans; i++)
			if (strcmp(state->plan[i].row->name, "ecc") == 0)
				status = report(state->down = state->plan[i].row, error);
	if (late)
		hold(state);
	pthread_mutex_unlock(&lock);
	return late ? report(late, error) : status;
}

static int fault_abort(void *opaque, enum pf_kernel kernel, unsigned cu)
{
	struct card *card = opaque;
	(void)kernel;
	(void)cu;
	pthread_mutex_lock(&lock);
	card->state->aborted = 1;
	pthread_cond_broadcast(&moved);
	pthread_mutex_unlock(&lock);
	return 0;
}

/* ---- resets ---- */
static int fault_reset(const char *where, enum pf_reset level, struct pf_error *error)
{
	pthread_mutex_lock(&lock);
	struct state *state;
	int status = take_state(where, &state, error);
	const struct row *down = status == 0 ? state->down : NULL;
	if (down && down->cure == CURE_COLD)
		status = pf_fail(error, PF_E_DEVICE, "reset failed: %s", down->report);
	else if (down && (down->cure == CURE_REOPEN || (down->cure == CURE_USER && level >= PF_RESET_USER)
	                  || (down->cure == CURE_MGMT && level >= PF_RESET_MGMT)))
		state->down = NULL;
	pthread_mutex_unlock(&lock);
	return status;
}

const struct pf_backend pf_backend_fault = {
	.name = "fault", .open = fault_open, .close = fault_close, .alloc = fault_alloc, .free = fault_free,
	.copy = fault_copy, .run = fault_run, .abort = fault_abort, .reset = fault_reset,
};
