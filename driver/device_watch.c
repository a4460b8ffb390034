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
static void pf_times_add(struct pf_times *times, double time)
{
	times->last[times->count++ % PF_TIMES_KEPT] = time;
}

static int pf_double_order(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

static double pf_times_median(const struct pf_times *times)
{
	double last[PF_TIMES_KEPT];
	unsigned n = times->count < PF_TIMES_KEPT ? times->count : PF_TIMES_KEPT;
	memcpy(last, times->last, n * sizeof *last);
	qsort(last, n, sizeof *last, pf_double_order);
	return last[n / 2];
}

/* Runs with these scalars. NULL: none, or so long ago that others took its place, the first of which is *oldest */
static struct pf_shape *pf_shape_of(struct pf_queue *queue, const uint32_t *value, struct pf_shape **oldest)
{
	*oldest = &queue->shape[0];
	for (unsigned i = 0; i < PF_SHAPES_KEPT; i++) {
		struct pf_shape *shape = &queue->shape[i];
		if (shape->ns.count && memcmp(shape->value, value, sizeof shape->value) == 0)
			return shape;
		if (shape->used < (*oldest)->used)
			*oldest = shape;
	}
	return NULL;
}

void pf_watch_learn(const struct pf_work *work, uint64_t ns)
{
	struct pf_queue *queue = &work->device->queue[work->queue];
	struct pf_shape *oldest, *shape = pf_shape_of(queue, work->launch.value, &oldest);
	if (!shape) {
		shape = oldest;
		*shape = (struct pf_shape){ 0 };
		memcpy(shape->value, work->launch.value, sizeof shape->value);
	}
	pf_times_add(&shape->ns, (double)ns);
	shape->used = work->serial;
	pf_times_add(&queue->rate, (double)ns / (double)(work->beats ? work->beats : 1));
}

static uint64_t pf_later(uint64_t least, double ns)
{
	return ns > (double)least ? (uint64_t)ns : least;
}

/* A run is like an earlier one with the same scalars: it goes over the same data in the same way, whatever that costs.
 * Of a shape that was not seen yet, other shapes' time per beat is an estimate only (operations over all items of pref
 * take time that grows with their square), so it lengthens what a kernel's first run is given and never shortens it */
static uint64_t pf_limit_ns(const struct pf_work *work)
{
	struct pf_device *d = work->device;
	struct pf_queue *queue = &d->queue[work->queue];
	struct pf_shape *oldest, *shape = pf_shape_of(queue, work->launch.value, &oldest);
	const uint64_t first = PF_LIMIT_LEAST_NS + work->beats * PF_LIMIT_BEAT_NS;
	if (d->options.watchdog_ms)
		return d->options.watchdog_ms * (uint64_t)(PF_NS / 1000);
	if (shape)
		return pf_later(PF_LIMIT_LEAST_NS, PF_LIMIT_MEDIANS * pf_times_median(&shape->ns));
	if (queue->rate.count)
		return pf_later(first, PF_LIMIT_MEDIANS * pf_times_median(&queue->rate) * (double)work->beats);
	return first;
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
