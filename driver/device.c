/* Opening, closing, buffers. */
#define _GNU_SOURCE                    /* sched_getaffinity */
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include "core.h"

/* Kernels keep their scratch rows on the stack; the default of some systems is too small for it */
#define PF_WORKER_STACK (16u << 20)

void pf_device_log(const struct pf_device *device, int level, const char *text)
{
	if (device->options.log)
		device->options.log(device->options.log_context, level, text);
}

/* ---- opening ---- */
static void pf_device_init(struct pf_device *d)
{
	pthread_condattr_t attr;
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_mutex_init(&d->lock, NULL);
	pthread_cond_init(&d->done, NULL);
	pthread_cond_init(&d->watch, &attr);
	for (unsigned q = 0; q < PF_QUEUE_COUNT; q++)
		pthread_cond_init(&d->queue[q].ready, NULL);
	pthread_condattr_destroy(&attr);
}

void pf_device_destroy(struct pf_device *d)
{
	for (struct pf_buf *buf = d->bufs, *older; buf; buf = older) {
		older = buf->older;
		d->backend->free(d->card, buf->memory);
		free(buf);
	}
	if (d->opened)
		d->backend->close(d->card);
	for (unsigned q = 0; q < PF_QUEUE_COUNT; q++)
		pthread_cond_destroy(&d->queue[q].ready);
	pthread_cond_destroy(&d->watch);
	pthread_cond_destroy(&d->done);
	pthread_mutex_destroy(&d->lock);
	free(d->worker);
	free(d);
}

static unsigned pf_queue_workers(const struct pf_device *d, unsigned queue)
{
	return queue < PF_KERNEL_COUNT ? d->cus[queue] : 1;
}

static int pf_thread_start(pthread_t *thread, void *(*body)(void *), void *argument)
{
	pthread_attr_t attr;
	sigset_t all, old;
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, PF_WORKER_STACK);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);      /* signals are for the caller's threads */
	int code = pthread_create(thread, &attr, body, argument);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	pthread_attr_destroy(&attr);
	return -code;
}

static int pf_worker_start(struct pf_device *d, unsigned queue, unsigned cu)
{
	struct pf_worker *worker = &d->worker[d->workers];
	worker->device = d;
	worker->queue = queue;
	worker->cu = cu;
	pthread_mutex_lock(&d->lock);
	d->alive++;
	pthread_mutex_unlock(&d->lock);
	int code = pf_thread_start(&worker->thread, pf_worker_main, worker);
	pthread_mutex_lock(&d->lock);
	d->alive -= code != 0;
	d->workers += code == 0;
	pthread_mutex_unlock(&d->lock);
	return code;
}

static int pf_workers_start(struct pf_device *d)
{
	unsigned count = 0;
	for (unsigned q = 0; q < PF_QUEUE_COUNT; q++)
		count += pf_queue_workers(d, q);
	d->worker = calloc(count, sizeof *d->worker);
	if (!d->worker)
		return -ENOMEM;
	for (unsigned q = 0; q < PF_QUEUE_COUNT; q++)
		for (unsigned cu = 0; cu < pf_queue_workers(d, q); cu++) {
			int code = pf_worker_start(d, q, cu);
			if (code)
				return code;
		}
	return 0;
}

/* 1: every thread has left. 0: some are stuck inside the backend; the last of them destroys the device */
static int pf_workers_stop(struct pf_device *d)
{
	pthread_mutex_lock(&d->lock);
	d->closing = 1;
	pf_cancel_queued(d, PF_E_CLOSED, "the device was closed before the operation started");
	pf_watch_close(d);
	for (unsigned q = 0; q < PF_QUEUE_COUNT; q++)
		pthread_cond_broadcast(&d->queue[q].ready);
	while (d->alive > d->stuck)
		pthread_cond_wait(&d->done, &d->lock);
	d->watch_stop = 1;
	pthread_cond_signal(&d->watch);
	pthread_mutex_unlock(&d->lock);
	pthread_join(d->watchdog, NULL);

	pthread_mutex_lock(&d->lock);
	d->orphaned = d->alive > 0;
	for (unsigned i = 0; d->orphaned && i < d->workers; i++)
		pthread_detach(d->worker[i].thread);
	int left = !d->orphaned;
	pthread_mutex_unlock(&d->lock);
	for (unsigned i = 0; left && i < d->workers; i++)
		pthread_join(d->worker[i].thread, NULL);
	return left;
}

static int pf_threads_start(struct pf_device *d, struct pf_error *error)
{
	int code = pf_thread_start(&d->watchdog, pf_watch_main, d);
	if (code == 0) {
		code = pf_workers_start(d);
		if (code)
			pf_workers_stop(d);
	}
	if (code == 0)
		return 0;
	return pf_fail(error, code, "%s: cannot start the device's threads: %s", d->facts.name, pf_error_text(code));
}

/* As many as this process may run on */
static uint32_t pf_processors(void)
{
	cpu_set_t set;
	return sched_getaffinity(0, sizeof set, &set) == 0 ? (uint32_t)CPU_COUNT(&set) : 1;
}

int pf_device_open_backend(const struct pf_backend *backend, const char *where, const struct pf_device_options *options,
                           struct pf_device **device, struct pf_error *error)
{
	struct pf_device *d = calloc(1, sizeof *d);
	struct pf_backend_open open = { where ? where : "", NULL };
	int code;
	*device = NULL;
	if (!d)
		return pf_fail(error, -ENOMEM, "%s: %s", backend->name, pf_error_text(-ENOMEM));
	if (options)
		d->options = *options;
	if (!d->options.threads)
		d->options.threads = pf_processors();
	d->backend = backend;
	open.options = &d->options;
	pf_device_init(d);
	code = backend->open(&open, &d->card, &d->facts, d->cus, error);
	d->opened = code == 0;
	if (code == 0)
		code = pf_threads_start(d, error);
	if (code)
		pf_device_destroy(d);
	else
		*device = d;
	return code;
}

int pf_device_close(struct pf_device *device)
{
	if (!device)
		return 0;
	if (!pf_workers_stop(device))
		return PF_E_TIMEOUT;
	pf_device_destroy(device);
	return 0;
}

/* ---- what it is ---- */
const struct pf_device_facts *pf_device_facts(const struct pf_device *device)
{
	return &device->facts;
}

uint32_t pf_device_cus(const struct pf_device *device, int kernel)
{
	return kernel >= 0 && kernel < PF_KERNEL_COUNT ? device->cus[kernel] : 0;
}

void pf_device_counts(const struct pf_device *device, struct pf_device_counts *counts)
{
	pthread_mutex_t *lock = (pthread_mutex_t *)&device->lock;
	pthread_mutex_lock(lock);
	*counts = device->counts;
	pthread_mutex_unlock(lock);
}

int pf_device_failure(const struct pf_device *device, struct pf_error *error)
{
	pthread_mutex_t *lock = (pthread_mutex_t *)&device->lock;
	pthread_mutex_lock(lock);
	int code = device->failed ? pf_fail(error, device->failure.code, "%s", device->failure.text) : 0;
	pthread_mutex_unlock(lock);
	return code;
}

/* ---- buffers ---- */
static int pf_check_alloc(const struct pf_device *d, int kernel, unsigned arg, uint64_t bytes, struct pf_error *error)
{
	if (kernel < 0 || kernel >= PF_KERNEL_COUNT)
		return pf_fail(error, PF_E_ARGUMENT, "%s: there is no kernel number %d", d->facts.name, kernel);
	const struct pf_kernel_row *row = &pf_kernel_rows[kernel];
	if (d->cus[kernel] == 0)
		return pf_fail(error, PF_E_UNSUPPORTED, "%s: kernel %s is not in this image", d->facts.name, row->name);
	if (arg >= row->count || row->arg[arg].dir == PF_DIR_VAL)
		return pf_fail(error, PF_E_ARGUMENT, "%s: argument %u of kernel %s is not memory", d->facts.name, arg,
		               row->name);
	if (bytes == 0)
		return pf_fail(error, PF_E_RANGE, "%s: a buffer for %s of kernel %s needs at least one byte",
		               d->facts.name, row->arg[arg].name, row->name);
	if (bytes > d->facts.memory_bytes)
		return pf_fail(error, PF_E_MEMORY, "%s: %llu bytes for %s of kernel %s, but the device has %llu",
		               d->facts.name, (unsigned long long)bytes, row->arg[arg].name, row->name,
		               (unsigned long long)d->facts.memory_bytes);
	return 0;
}

/* What the caller's memory is to a buffer */
enum pf_host { PF_HOST_NONE, PF_HOST_SIDE, PF_HOST_ADOPTED };

static int pf_buf_backend(struct pf_device *d, int kernel, unsigned arg, enum pf_host is, void *host, struct pf_buf *b,
                          struct pf_error *error)
{
	const struct pf_backend *backend = d->backend;
	if (is == PF_HOST_ADOPTED)
		return backend->adopt(d->card, host, b->bytes, &b->memory, error);
	if (is == PF_HOST_SIDE && backend->alloc_host)
		return backend->alloc_host(d->card, (enum pf_kernel)kernel, arg, host, b->bytes, &b->memory, error);
	return backend->alloc(d->card, (enum pf_kernel)kernel, arg, b->bytes, &b->memory, error);
}

static int pf_buf_new(struct pf_device *device, int kernel, unsigned arg, enum pf_host is, void *host,
                      uint64_t bytes, struct pf_buf **buf, struct pf_error *error)
{
	struct pf_buf *b;
	*buf = NULL;
	int code = pf_check_alloc(device, kernel, arg, bytes, error);
	if (code)
		return code;
	b = calloc(1, sizeof *b);
	if (!b)
		return pf_fail(error, -ENOMEM, "%s: %s", device->facts.name, pf_error_text(-ENOMEM));
	b->device = device;
	b->bytes = bytes;
	b->bank = pf_kernel_rows[kernel].arg[arg].bank;
	pthread_mutex_lock(&device->lock);
	code = pf_buf_backend(device, kernel, arg, is, host, b, error);
	if (code == 0) {
		b->older = device->bufs;
		if (b->older)
			b->older->newer = b;
		device->bufs = b;
		*buf = b;
	}
	pthread_mutex_unlock(&device->lock);
	if (code)
		free(b);
	return code;
}

int pf_buf_alloc(struct pf_device *device, int kernel, unsigned arg, uint64_t bytes, struct pf_buf **buf,
                 struct pf_error *error)
{
	return pf_buf_new(device, kernel, arg, PF_HOST_NONE, NULL, bytes, buf, error);
}

int pf_buf_alloc_host(struct pf_device *device, int kernel, unsigned arg, void *host, uint64_t bytes,
                      struct pf_buf **buf, struct pf_error *error)
{
	*buf = NULL;
	if (!host || (uintptr_t)host % PF_PAGE_BYTES)
		return pf_fail(error, PF_E_ARGUMENT,
			       "%s: the caller's memory of a buffer must begin on a multiple of %u", device->facts.name,
			       PF_PAGE_BYTES);
	return pf_buf_new(device, kernel, arg, PF_HOST_SIDE, host, bytes, buf, error);
}

int pf_buf_adopt(struct pf_device *device, int kernel, unsigned arg, void *memory, uint64_t bytes,
                 struct pf_buf **buf, struct pf_error *error)
{
	*buf = NULL;
	if (!device->facts.host_visible || !device->backend->adopt || !memory)
		return pf_fail(error, PF_E_UNSUPPORTED, "%s: works in its own memory; allocate a buffer and copy into "
		               "it", device->facts.name);
	return pf_buf_new(device, kernel, arg, PF_HOST_ADOPTED, memory, bytes, buf, error);
}

static void pf_buf_destroy(struct pf_buf *buf)
{
	if (buf->newer)
		buf->newer->older = buf->older;
	else
		buf->device->bufs = buf->older;
	if (buf->older)
		buf->older->newer = buf->newer;
	buf->device->backend->free(buf->device->card, buf->memory);
	free(buf);
}

void pf_buf_release(struct pf_buf *buf)
{
	if (buf && --buf->pending == 0 && buf->freed)
		pf_buf_destroy(buf);
}

void pf_buf_free(struct pf_buf *buf)
{
	if (!buf)
		return;
	pthread_mutex_t *lock = &buf->device->lock;
	pthread_mutex_lock(lock);
	buf->freed = 1;
	if (buf->pending == 0)
		pf_buf_destroy(buf);
	pthread_mutex_unlock(lock);
}

uint64_t pf_buf_bytes(const struct pf_buf *buf)
{
	return buf->bytes;
}

void *pf_buf_map(struct pf_buf *buf)
{
	const struct pf_backend *backend = buf->device->backend;
	return backend->map ? backend->map(buf->device->card, buf->memory) : NULL;
}
