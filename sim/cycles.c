/* The discrete-event simulation. A job has a fixed part (setup of a copy, launch of a run, all of host work) and a
 * fluid part whose pace the banks may slow down. Between two events every pace is constant, so time advances from end
 * to end of parts; there is no time step. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "prefpga/cycles.h"
#include "prefpga/internal/kernels.h"

enum { KINDS = PF_JOB_HOST + 1, QUEUE_IN = PF_KERNEL_COUNT, QUEUE_OUT, QUEUES };
enum { BURST_BEATS = 16, BURSTS = 16 };        /* m_axi's defaults (UG1399), which the kernels leave as they are */

struct work {
	double fixed, fluid;           /* s left at full pace */
	double whole;                  /* fluid at the start */
	double pace;
	int done;
};

struct queue { uint32_t head, tail, free; };           /* free: servers */

struct play {
	const struct pf_cycles_card *card;
	const struct pf_job *job;
	size_t jobs, under_way, done;
	uint32_t devices;
	struct work *work;             /* [jobs] */
	uint32_t *next;                /* [jobs] in its queue */
	uint32_t *running;             /* [under_way] */
	struct queue *queue;           /* [devices x QUEUES, and the host's] */
	struct pf_job_times *times;    /* [jobs] */
	double now, moved[PF_CYCLES_CLASSES];
	struct pf_cycles_result *result;
};

/* ---- the jobs ---- */

static size_t queue_of(const struct play *p, const struct pf_job *job)
{
	const size_t first = (size_t)job->device * QUEUES;
	switch (job->kind) {
	case PF_JOB_IN:  return first + QUEUE_IN;
	case PF_JOB_OUT: return first + QUEUE_OUT;
	case PF_JOB_RUN: return first + (unsigned)job->kernel;
	default:         return (size_t)p->devices * QUEUES;
	}
}

static double bytes_of(const struct pf_job *job, unsigned class)
{
	if (job->kind == PF_JOB_RUN)
		return job->cost.bytes[class];
	return job->kind != PF_JOB_HOST && job->bank == class ? job->bytes : 0.0;
}

static void measure(const struct pf_cycles_card *card, const struct pf_job *job, struct work *w)
{
	const double port = pf_cycles_port_rate(card, BURST_BEATS, BURSTS);
	*w = (struct work){ .fixed = card->copy_setup_s };
	if (job->kind == PF_JOB_HOST)
		w->fixed = job->seconds;
	else if (job->kind == PF_JOB_RUN)
		w->fixed = card->launch_s;
	if (job->kind == PF_JOB_RUN)
		w->fluid = fmax(job->cost.cycles / card->clock_hz, job->cost.port_most / port);
	else if (job->kind != PF_JOB_HOST)
		w->fluid = fmax(job->bytes / (job->kind == PF_JOB_IN ? card->link_in : card->link_out),
		                job->bytes / card->class_rate[job->bank]);
	w->whole = w->fluid;
}

static int check_number(double value, const char *what, size_t i, struct pf_error *error)
{
	if (value >= 0.0 && isfinite(value))
		return 0;
	return pf_fail(error, PF_E_RANGE, "job %zu: %s is %g", i, what, value);
}

static int check_job(const struct play *p, size_t i, struct pf_error *error)
{
	const struct pf_job *job = &p->job[i];
	if ((unsigned)job->kind >= KINDS || (job->kind != PF_JOB_HOST && job->device >= p->devices))
		return pf_fail(error, PF_E_RANGE, "job %zu: kind %d on device %u of %u", i, (int)job->kind, job->device,
		               p->devices);
	if (job->kind == PF_JOB_RUN && (job->kernel < 0 || job->kernel >= PF_KERNEL_COUNT))
		return pf_fail(error, PF_E_RANGE, "job %zu: kernel %d", i, job->kernel);
	if ((job->kind == PF_JOB_IN || job->kind == PF_JOB_OUT) && job->bank >= PF_CYCLES_CLASSES)
		return pf_fail(error, PF_E_RANGE, "job %zu: bank class %u", i, job->bank);
	for (unsigned k = 0; k < PF_JOB_AFTER; k++)
		if (job->after[k] != PF_JOB_NONE && job->after[k] >= i)
			return pf_fail(error, PF_E_RANGE, "job %zu waits for job %u, which is not earlier", i,
			               job->after[k]);
	int code = check_number(job->kind == PF_JOB_HOST ? job->seconds : 0.0, "seconds", i, error);
	if (!code && job->kind == PF_JOB_RUN)
		code = check_number(job->cost.cycles + job->cost.port_most, "the cost", i, error);
	for (unsigned c = 0; !code && c < PF_CYCLES_CLASSES; c++)
		code = check_number(bytes_of(job, c), "bytes", i, error);
	return code;
}

/* ---- queues ---- */

static int take_up_ready(const struct play *p, size_t i, double *ready)
{
	*ready = 0.0;
	for (unsigned k = 0; k < PF_JOB_AFTER; k++) {
		const uint32_t before = p->job[i].after[k];
		if (before == PF_JOB_NONE)
			continue;
		if (!p->work[before].done)
			return 0;
		*ready = fmax(*ready, p->times[before].end);
	}
	return 1;
}

/* Queues start their jobs in order: a head that waits holds back what is behind it */
static void take_up(struct play *p)
{
	for (size_t q = 0; q <= (size_t)p->devices * QUEUES; q++) {
		struct queue *queue = &p->queue[q];
		double ready;
		while (queue->free && queue->head != PF_JOB_NONE && take_up_ready(p, queue->head, &ready)) {
			const uint32_t i = queue->head;
			queue->head = p->next[i];
			queue->free--;
			p->times[i].ready = ready;
			p->times[i].start = p->now;
			if (p->job[i].kind == PF_JOB_RUN)      /* part of the launch went by while it waited */
				p->work[i].fixed = fmax(p->card->issue_s, p->card->launch_s - (p->now - ready));
			p->running[p->under_way++] = i;
		}
	}
}

/* ---- paces ---- */

static void demand_of(const struct play *p, uint32_t device, double demand[PF_CYCLES_CLASSES])
{
	memset(demand, 0, PF_CYCLES_CLASSES * sizeof *demand);
	for (size_t r = 0; r < p->under_way; r++) {
		const struct pf_job *job = &p->job[p->running[r]];
		const struct work *w = &p->work[p->running[r]];
		if (job->kind == PF_JOB_HOST || job->device != device || w->fixed > 0.0 || !(w->whole > 0.0))
			continue;
		for (unsigned c = 0; c < PF_CYCLES_CLASSES; c++)
			demand[c] += bytes_of(job, c) / w->whole;
	}
}

/* A job is as slow as the most wanted class it touches */
static void set_paces(struct play *p)
{
	double demand[PF_CYCLES_CLASSES];
	uint32_t device = PF_JOB_NONE;
	for (size_t r = 0; r < p->under_way; r++) {
		const struct pf_job *job = &p->job[p->running[r]];
		struct work *w = &p->work[p->running[r]];
		w->pace = 1.0;
		if (job->kind == PF_JOB_HOST)
			continue;
		if (job->device != device)
			demand_of(p, device = job->device, demand);
		for (unsigned c = 0; c < PF_CYCLES_CLASSES; c++)
			if (bytes_of(job, c) > 0.0 && demand[c] > p->card->class_rate[c])
				w->pace = fmin(w->pace, p->card->class_rate[c] / demand[c]);
	}
}

/* ---- time ---- */

static double left(const struct work *w)
{
	return w->fixed > 0.0 ? w->fixed : w->fluid / w->pace;
}

static void count_busy(struct play *p, double step)
{
	struct pf_cycles_result *r = p->result;
	double *busy[KINDS] = { &r->busy_in, &r->busy_out, &r->busy_runs, &r->busy_host };
	int seen[KINDS] = { 0 };
	for (size_t i = 0; i < p->under_way; i++)
		seen[p->job[p->running[i]].kind] = 1;
	for (int k = 0; k < KINDS; k++)
		*busy[k] += seen[k] ? step : 0.0;
}

static void finish(struct play *p, size_t r)
{
	const uint32_t i = p->running[r];
	const struct pf_job *job = &p->job[i];
	p->work[i].done = 1;
	p->times[i].end = p->now;
	p->queue[queue_of(p, job)].free++;
	p->running[r] = p->running[--p->under_way];
	p->done++;
	p->result->bytes_in += job->kind == PF_JOB_IN ? job->bytes : 0.0;
	p->result->bytes_out += job->kind == PF_JOB_OUT ? job->bytes : 0.0;
	for (unsigned c = 0; c < PF_CYCLES_CLASSES; c++)
		p->moved[c] += bytes_of(job, c);
}

/* To the next end of a part */
static void advance(struct play *p)
{
	double step = INFINITY;
	for (size_t r = 0; r < p->under_way; r++)
		step = fmin(step, left(&p->work[p->running[r]]));
	count_busy(p, step);
	p->now += step;
	for (size_t r = p->under_way; r-- > 0;) {
		struct work *w = &p->work[p->running[r]];
		const int ends = left(w) <= step;
		if (w->fixed > 0.0)
			w->fixed = ends ? 0.0 : w->fixed - step;
		else
			w->fluid = ends ? 0.0 : w->fluid - step * w->pace;
		if (!(w->fixed > 0.0) && !(w->fluid > 0.0))
			finish(p, r);
	}
}

/* ---- all of it ---- */

static int open_play(struct play *p, uint32_t cus, struct pf_error *error)
{
	const size_t queues = (size_t)p->devices * QUEUES + 1;
	p->work = calloc(p->jobs + 1, sizeof *p->work);
	p->next = calloc(p->jobs + 1, sizeof *p->next);
	p->running = calloc(p->jobs + 1, sizeof *p->running);
	p->times = calloc(p->jobs + 1, sizeof *p->times);
	p->queue = calloc(queues, sizeof *p->queue);
	if (!p->work || !p->next || !p->running || !p->times || !p->queue)
		return pf_fail(error, -ENOMEM, "no memory for a schedule of %zu jobs", p->jobs);
	for (size_t q = 0; q < queues; q++) {
		const int runs = q + 1 < queues && q % QUEUES < PF_KERNEL_COUNT;
		p->queue[q] = (struct queue){ PF_JOB_NONE, PF_JOB_NONE, runs ? cus : 1 };
	}
	for (size_t i = 0; i < p->jobs; i++) {
		const int code = check_job(p, i, error);
		if (code)
			return code;
		struct queue *queue = &p->queue[queue_of(p, &p->job[i])];
		measure(p->card, &p->job[i], &p->work[i]);
		p->next[i] = PF_JOB_NONE;
		*(queue->tail == PF_JOB_NONE ? &queue->head : &p->next[queue->tail]) = (uint32_t)i;
		queue->tail = (uint32_t)i;
	}
	return 0;
}

static void close_play(struct play *p)
{
	free(p->work);
	free(p->next);
	free(p->running);
	free(p->times);
	free(p->queue);
}

static int check_card(const struct pf_cycles_card *c, uint32_t devices, uint32_t cus, size_t jobs,
                      struct pf_error *error)
{
	const double rates[] = { c->clock_hz, c->port_bytes, c->bank_rate, c->class_rate[0], c->class_rate[1],
		c->class_rate[2], c->link_in, c->link_out };
	for (size_t i = 0; i < sizeof rates / sizeof *rates; i++)
		if (!(rates[i] > 0.0) || !isfinite(rates[i]))
			return pf_fail(error, PF_E_RANGE, "figure %zu of the card is %g; rates are positive", i,
			               rates[i]);
	if (!(c->copy_setup_s >= 0.0) || !(c->launch_s >= 0.0) || !(c->issue_s >= 0.0) || !(c->port_latency_s > 0.0) ||
	    !devices || !cus || jobs >= PF_JOB_NONE)
		return pf_fail(error, PF_E_RANGE, "%u devices with %u compute units, %zu jobs, setup %g s, launch %g s",
		               devices, cus, jobs, c->copy_setup_s, c->launch_s);
	return 0;
}

int pf_cycles_play(const struct pf_cycles_card *card, uint32_t devices, uint32_t cus, const struct pf_job *job,
                   size_t jobs, struct pf_job_times *times, struct pf_cycles_result *result, struct pf_error *error)
{
	struct play p = { .card = card, .job = job, .jobs = jobs, .devices = devices, .result = result };
	*result = (struct pf_cycles_result){ 0 };
	int code = check_card(card, devices, cus, jobs, error);
	if (!code)
		code = open_play(&p, cus, error);
	while (!code && p.done < jobs) {
		take_up(&p);
		set_paces(&p);
		advance(&p);
	}
	if (!code) {
		result->seconds = p.now;
		for (unsigned c = 0; c < PF_CYCLES_CLASSES; c++) {
			result->bytes_banks += p.moved[c];
			if (p.now > 0.0)
				result->class_share[c] = p.moved[c] / (card->class_rate[c] * devices * p.now);
		}
		if (times)
			memcpy(times, p.times, jobs * sizeof *times);
	}
	close_play(&p);
	return code;
}
