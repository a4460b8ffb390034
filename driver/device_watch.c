/* Time: the clock, the limit of a run, and the thread that ends runs which pass it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "core.h"

#define PF_NS 1000000000u
#define PF_LIMIT_LEAST_NS (10u * (uint64_t)PF_NS)
#define PF_LIMIT_BEAT_NS 1000u                 /* a beat's allowance while nothing is known: 64 MB/s */
#define PF_LIMIT_MEDIANS 8
#define PF_SLEEP_NS PF_NS                      /* the watchdog looks once a second, */
#define PF_LATE_NS PF_NS                       /* and if it comes this late, the process was stopped meanwhile */

/* ---- the clock ---- */
static uint64_t pf_clock_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * PF_NS + (uint64_t)t.tv_nsec;
}

uint64_t pf_device_now(const struct pf_device *d)
{
	return d->now ? d->now(d->now_context) : pf_clock_ns();
}

void pf_device_clock(struct pf_device *d, uint64_t (*now)(void *context), void *context)
{
	pthread_mutex_lock(&d->lock);
	d->now = now;
	d->now_context = context;
	pthread_mutex_unlock(&d->lock);
}

void pf_device_tick(struct pf_device *d)
{
	pthread_mutex_lock(&d->lock);
	pthread_cond_signal(&d->watch);
	pthread_mutex_unlock(&d->lock);
}

/* ---- limits ---- */
void pf_watch_rate(struct pf_queue *queue, uint64_t ns, uint64_t beats)
{
	queue->rate[queue->rates++ % PF_RATES_KEPT] = (double)ns / (double)(beats ? beats : 1);
}

static int pf_double_order(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

static double pf_rate_median(const struct pf_queue *queue)
{
	double rate[PF_RATES_KEPT];
	unsigned n = queue->rates < PF_RATES_KEPT ? queue->rates : PF_RATES_KEPT;
	memcpy(rate, queue->rate, n * sizeof *rate);
	qsort(rate, n, sizeof *rate, pf_double_order);
	return rate[n / 2];
}

static uint64_t pf_limit_ns(const struct pf_work *work)
{
	const struct pf_device *d = work->device;
	const struct pf_queue *queue = &d->queue[work->queue];
	if (d->options.watchdog_ms)
		return d->options.watchdog_ms * (uint64_t)(PF_NS / 1000);
	if (queue->rates == 0)
		return PF_LIMIT_LEAST_NS + work->beats * PF_LIMIT_BEAT_NS;
	double limit = PF_LIMIT_MEDIANS * pf_rate_median(queue) * (double)work->beats;
	return limit > (double)PF_LIMIT_LEAST_NS ? (uint64_t)limit : PF_LIMIT_LEAST_NS;
}

static void pf_deadline_set(struct pf_work *work)
{
	work->limit_ns = pf_limit_ns(work);
	work->deadline_ns = pf_device_now(work->device) + work->limit_ns;
	pthread_cond_signal(&work->device->watch);
}

void pf_watch_start(struct pf_work *work)
{
	work->deadline_ns = UINT64_MAX;
	if (work->queue < PF_KERNEL_COUNT)
		pf_deadline_set(work);
}

void pf_watch_close(struct pf_device *d)
{
	for (unsigned i = 0; i < d->workers; i++)
		if (d->worker[i].work && d->worker[i].work->deadline_ns == UINT64_MAX)
			pf_deadline_set(d->worker[i].work);
}

/* ---- the end of a run that takes too long ---- */
void pf_device_fail(struct pf_device *d, const char *why)
{
	d->failed = 1;
	pf_fail(&d->failure, PF_E_DEVICE, "%s", why);
	pf_cancel_queued(d, PF_E_DEVICE, why);
}

static void pf_expire(struct pf_worker *worker)
{
	struct pf_device *d = worker->device;
	struct pf_work *work = worker->work;
	const struct pf_backend *backend = d->backend;
	const uint64_t serial = work->serial;
	const unsigned kernel = worker->queue;
	struct pf_error why;
	int able = 0;
	work->expired = 1;
	pf_fail(&work->error, PF_E_TIMEOUT, "%s: %s %s on compute unit %u took longer than %llu ms", d->facts.name,
	        kernel < PF_KERNEL_COUNT ? "kernel" : "a copy",
	        kernel < PF_KERNEL_COUNT ? pf_kernel_rows[kernel].name : "", worker->cu,
	        (unsigned long long)(work->limit_ns / (PF_NS / 1000)));
	why = work->error;
	pf_device_fail(d, why.text);
	pthread_mutex_unlock(&d->lock);
	pf_device_log(d, 0, why.text);
	if (kernel < PF_KERNEL_COUNT && backend->abort)
		able = backend->abort(d->card, (enum pf_kernel)kernel, worker->cu) == 0;
	pthread_mutex_lock(&d->lock);
	if (worker->work && worker->work->serial == serial)
		work->deadline_ns = pf_device_now(d) + (able ? PF_ABORT_GRACE_NS : 0);
}

static void pf_abandon(struct pf_worker *worker)
{
	struct pf_work *work = worker->work;
	worker->work = NULL;
	worker->device->stuck++;
	work->abandoned = 1;
	pf_work_done(work, PF_E_TIMEOUT);
}

static struct pf_worker *pf_watch_next(struct pf_device *d)
{
	struct pf_worker *next = NULL;
	for (unsigned i = 0; i < d->workers; i++) {
		struct pf_worker *worker = &d->worker[i];
		if (worker->work && worker->work->deadline_ns != UINT64_MAX &&
		    (!next || worker->work->deadline_ns < next->work->deadline_ns))
			next = worker;
	}
	return next;
}

void pf_watch_extend(struct pf_device *d, uint64_t ns)
{
	for (unsigned i = 0; i < d->workers; i++)
		if (d->worker[i].work && d->worker[i].work->deadline_ns != UINT64_MAX)
			d->worker[i].work->deadline_ns += ns;
}

/* With a clock of a test's own, `ns` is no real time; pf_device_tick ends the sleep. Time during which the whole
 * process stood still (job control, a debugger) is not held against a run */
static void pf_watch_sleep(struct pf_device *d, uint64_t ns)
{
	uint64_t until = pf_clock_ns() + (ns < PF_SLEEP_NS ? ns : PF_SLEEP_NS);
	struct timespec t = { (time_t)(until / PF_NS), (long)(until % PF_NS) };
	pthread_cond_timedwait(&d->watch, &d->lock, &t);
	uint64_t now = pf_clock_ns();
	if (now > until + PF_LATE_NS)
		pf_watch_extend(d, now - until);
}

void *pf_watch_main(void *device)
{
	struct pf_device *d = device;
	pthread_mutex_lock(&d->lock);
	while (!d->watch_stop) {
		struct pf_worker *next = pf_watch_next(d);
		uint64_t now = pf_device_now(d);
		if (!next)
			pthread_cond_wait(&d->watch, &d->lock);
		else if (now < next->work->deadline_ns)
			pf_watch_sleep(d, next->work->deadline_ns - now);
		else if (next->work->expired)
			pf_abandon(next);
		else
			pf_expire(next);
	}
	pthread_mutex_unlock(&d->lock);
	return NULL;
}
