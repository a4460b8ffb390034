#include "replay.h"
#include "replay_power.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "prefpga/internal/kernels.h"

enum { DEVICES = 16 };

/* A call of the host, in the order of time: an operation was submitted, or waited for */
struct call {
	const struct pf_operation *operation;
	uint64_t time;                 /* when the host came */
};

/* Which job an operation of a device became, by serial */
struct known { uint32_t *job; uint64_t room; };

struct building {
	const struct pf_reports *reports;
	uint32_t array;                        /* of the card */
	const char *device[DEVICES];           /* as it was opened last */
	uint64_t over[DEVICES];                /* when that one's last operation was over */
	struct known known[DEVICES];
	uint32_t devices;
	const struct pf_operation *operation;
	size_t operations;
	struct pf_job *job;
	const struct pf_operation **of;        /* [jobs] NULL: the host */
	uint32_t jobs;
	uint64_t last;                 /* when the host's last call was over */
	uint32_t waited;               /* job that the host waited for since, or PF_JOB_NONE */
};

static int by_time(const void *a, const void *b)
{
	const struct call *x = a, *y = b;
	if (x->time != y->time)
		return x->time < y->time ? -1 : 1;
	return x->operation->serial < y->operation->serial ? -1 : x->operation->serial > y->operation->serial;
}

static uint64_t last_of(const struct building *b, const char *device)
{
	uint64_t last = 0;
	for (size_t i = 0; i < b->operations; i++)
		if (b->operation[i].device == device && b->operation[i].done_ns > last)
			last = b->operation[i].done_ns;
	return last;
}

/* A device that appears after the last operation of one of its name is that card, opened again; one that appears
 * earlier is a second card of that name */
static int is_reopened(const struct building *b, uint32_t device, const struct pf_operation *o)
{
	return strcmp(b->device[device], o->device) == 0 && b->over[device] < o->queued_ns;
}

static int device_of(struct building *b, const struct pf_operation *o, uint32_t *device, struct pf_error *error)
{
	for (*device = 0; *device < b->devices; ++*device)
		if (b->device[*device] == o->device)
			return 0;
	for (*device = 0; *device < b->devices && !is_reopened(b, *device, o);)
		++*device;
	if (*device == DEVICES)
		return pf_fail(error, PF_E_RANGE, "more than %d devices in the trace", DEVICES);
	b->devices += *device == b->devices;
	b->device[*device] = o->device;
	b->over[*device] = last_of(b, o->device);
	return 0;
}

static int remember(struct building *b, uint32_t device, uint64_t serial, uint32_t job, struct pf_error *error)
{
	struct known *k = &b->known[device];
	if (serial >= k->room) {
		const uint64_t room = 2 * serial + 64;
		uint32_t *more = realloc(k->job, room * sizeof *more);
		if (!more)
			return pf_fail(error, -ENOMEM, "no memory for a schedule");
		memset(more + k->room, 0xff, (room - k->room) * sizeof *more);         /* PF_JOB_NONE */
		k->job = more;
		k->room = room;
	}
	k->job[serial] = job;
	return 0;
}

static uint32_t recall(const struct building *b, uint32_t device, uint64_t serial)
{
	return serial && serial < b->known[device].room ? b->known[device].job[serial] : PF_JOB_NONE;
}

/* What the host computed since its last call */
static uint32_t add_host(struct building *b, uint64_t until)
{
	const double seconds = until > b->last ? 1e-9 * (double)(until - b->last) : 0.0;
	b->of[b->jobs] = NULL;
	b->job[b->jobs] = (struct pf_job){ .kind = PF_JOB_HOST, .seconds = seconds,
		.after = { b->waited, PF_JOB_NONE, PF_JOB_NONE } };
	b->waited = PF_JOB_NONE;
	return b->jobs++;
}

static int add_submission(struct building *b, const struct pf_operation *o, uint32_t device, struct pf_error *error)
{
	const uint32_t host = add_host(b, o->queued_ns);
	struct pf_job *job = &b->job[b->jobs];
	int code = remember(b, device, o->serial, b->jobs, error);
	*job = (struct pf_job){ .kind = o->kind == PF_OP_IN    ? PF_JOB_IN
		                        : o->kind == PF_OP_OUT ? PF_JOB_OUT
		                                               : PF_JOB_RUN,
		                .device = device,
		                .after = { host, recall(b, device, o->after), PF_JOB_NONE },
		                .bytes = (double)o->bytes,
		                .bank = o->bank,
		                .kernel = o->kernel };
	if (!code && o->kind == PF_OP_RUN)
		code = pf_reports_cost(b->reports, b->array, o->kernel, o->value, o->values, &job->cost, error);
	b->of[b->jobs++] = o;
	b->last = o->queued_ns;
	return code;
}

static int add_call(struct building *b, const struct call *c, struct pf_error *error)
{
	const struct pf_operation *o = c->operation;
	uint32_t device;
	int code = device_of(b, o, &device, error);
	if (code || o->kind != PF_OP_WAIT)
		return code ? code : add_submission(b, o, device, error);
	add_host(b, o->started_ns);
	b->waited = recall(b, device, o->serial);
	b->last = o->done_ns;
	return 0;
}

static int build(struct building *b, const struct call *call, size_t calls, struct pf_error *error)
{
	int code = 0;
	b->job = calloc(2 * calls + 1, sizeof *b->job);
	b->of = calloc(2 * calls + 1, sizeof *b->of);
	if (!b->job || !b->of || calls > UINT32_MAX / 4)
		return pf_fail(error, -ENOMEM, "no memory for a schedule of %zu calls", calls);
	b->last = calls ? call[0].time : 0;
	b->waited = PF_JOB_NONE;
	for (size_t i = 0; !code && i < calls; i++)
		code = add_call(b, &call[i], error);
	return code;
}

/* ---- the schedule as events ---- */

static void show(struct pf_trace *trace, const struct building *b, const struct pf_job_times *times, const char *card)
{
	static const char *const kernels[] = {
#define PF_KERNEL_TEXT(kernel, file, state, lanes, brief) #kernel,
		PF_KERNELS(PF_KERNEL_TEXT)
	};
	for (uint32_t i = 0; i < b->jobs; i++) {
		const struct pf_job *job = &b->job[i];
		const char *name = job->kind == PF_JOB_RUN  ? kernels[job->kernel]
		                   : job->kind == PF_JOB_IN ? "copies in"
		                                            : "copies out";
		char group[96];
		snprintf(group, sizeof group, "%s %u, modelled", card, job->device + 1);
		if (job->kind == PF_JOB_HOST && job->seconds > 0.0)
			pf_trace_event(trace, "host, its measured work in the modelled schedule", "work", "work",
			               times[i].start, times[i].end);
		else if (job->kind != PF_JOB_HOST)
			pf_trace_event(trace, group, name, name, times[i].start, times[i].end);
	}
}

static void measure(const struct building *b, struct pf_replay *r)
{
	uint64_t first = UINT64_MAX, last = 0;
	for (uint32_t i = 0; i < b->jobs; i++) {
		r->cycles += b->job[i].cost.cycles;
		r->reported += b->job[i].cost.cycles_reported;
		if (!b->of[i])
			r->host_s += b->job[i].seconds;
		else {
			first = b->of[i]->queued_ns < first ? b->of[i]->queued_ns : first;
			last = b->of[i]->done_ns > last ? b->of[i]->done_ns : last;
		}
	}
	r->measured_s = last > first ? 1e-9 * (double)(last - first) : 0.0;
}

static int play(struct pf_trace *trace, const struct building *b, const char *name, uint32_t cus, struct pf_replay *r,
                struct pf_error *error)
{
	struct pf_cycles_card card;
	struct pf_job_times *times = calloc(b->jobs + 1, sizeof *times);
	int code = times ? pf_cycles_card(name, &card, error) : pf_fail(error, -ENOMEM, "no memory for a schedule");
	if (!code)
		pf_reports_clock(b->reports, &card);
	if (!code)
		code = pf_cycles_play(&card, r->devices, cus, b->job, b->jobs, times, &r->modelled, error);
	if (!code)
		code = pf_cycles_doubts(name, &card, r->devices, cus, b->job, b->jobs, r->doubt,
		                        sizeof r->doubt / sizeof *r->doubt, &r->doubts, error);
	if (!code)
		code = pf_energy_play(name, &card, r->devices, cus, b->job, b->jobs, &r->energy, error);
	if (!code)
		code = pf_replay_power(trace, name, r->devices, b->job, b->jobs, times, error);
	if (!code) {
		show(trace, b, times, name);
		pf_trace_figure(trace, "modelled_seconds", r->energy.seconds);
		pf_trace_figure(trace, "modelled_joule", r->energy.total);
		pf_trace_figure(trace, "modelled_joule_at_rest", r->energy.rest);
	}
	free(times);
	return code;
}

int pf_replay_run(struct pf_trace *trace, const char *name, uint32_t cus, const struct pf_reports *reports,
                  struct pf_replay *replay, struct pf_error *error)
{
	const struct pf_operation *operations;
	size_t count;
	struct building b = { .reports = reports };
	*replay = (struct pf_replay){ 0 };
	struct pf_cycles_card card;
	int code = pf_cycles_card(name, &card, error);
	if (code)
		return code;
	b.array = card.array;
	if (pf_trace_operations(trace, &operations, &count) != 0)
		return pf_fail(error, -ENOMEM, "the run had more operations than are kept; trace fewer steps");
	b.operation = operations;
	b.operations = count;
	struct call *call = calloc(count + 1, sizeof *call);
	code = call ? 0 : pf_fail(error, -ENOMEM, "no memory for a schedule");
	for (size_t i = 0; !code && i < count; i++) {
		const struct pf_operation *o = &operations[i];
		call[i] = (struct call){ o, o->kind == PF_OP_WAIT ? o->started_ns : o->queued_ns };
	}
	if (!code) {
		qsort(call, count, sizeof *call, by_time);
		code = build(&b, call, count, error);
	}
	replay->devices = b.devices ? b.devices : 1;
	replay->jobs = b.jobs;
	measure(&b, replay);
	if (!code)
		code = play(trace, &b, name, cus, replay, error);
	for (uint32_t d = 0; d < b.devices; d++)
		free(b.known[d].job);
	free(b.job);
	free(b.of);
	free(call);
	return code;
}
