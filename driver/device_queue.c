/* The workers, completion, and what is kept of failures. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "core.h"

/* ---- texts of failed tickets, kept in the device until the ring comes round ---- */
static struct pf_failure *pf_failure_of(struct pf_device *d, const struct pf_ticket *ticket)
{
	for (unsigned i = 0; i < PF_FAILURES_KEPT; i++)
		if (d->kept[i].ticket == ticket)
			return &d->kept[i];
	return NULL;
}

void pf_failure_forget(struct pf_device *d, const struct pf_ticket *ticket)
{
	struct pf_failure *kept = pf_failure_of(d, ticket);
	if (kept)
		kept->ticket = NULL;
}

void pf_failure_keep(struct pf_device *d, const struct pf_ticket *ticket, const struct pf_error *error)
{
	struct pf_failure *kept = &d->kept[d->keep_next++ % PF_FAILURES_KEPT];
	kept->ticket = ticket;
	kept->error = *error;
}

const char *pf_failure_text(struct pf_device *d, const struct pf_ticket *ticket)
{
	const struct pf_failure *kept = pf_failure_of(d, ticket);
	return kept ? kept->error.text : pf_error_text(ticket->status);
}

/* ---- the list of unfinished work ---- */
void pf_work_link(struct pf_device *d, struct pf_work *work)
{
	work->older = d->newest;
	if (d->newest)
		d->newest->newer = work;
	else
		d->oldest = work;
	d->newest = work;
}

static void pf_work_unlink(struct pf_device *d, struct pf_work *work)
{
	*(work->older ? &work->older->newer : &d->oldest) = work->newer;
	*(work->newer ? &work->newer->older : &d->newest) = work->older;
}

struct pf_work *pf_work_of(struct pf_device *d, const struct pf_ticket *ticket)
{
	struct pf_work *work = d->newest;
	while (work && work->ticket != ticket)
		work = work->older;
	return work;
}

static void pf_work_free(struct pf_work *work)
{
	for (unsigned i = 0; i < PF_ARGS_MAX; i++)
		pf_buf_release(work->buf[i]);
	free(work);
}

/* ---- completion ---- */
static void pf_work_count(struct pf_device *d, const struct pf_work *work)
{
	d->counts.beats += work->beats;
	if (work->queue < PF_KERNEL_COUNT) {
		d->counts.runs++;
		return;
	}
	d->counts.copies++;
	*(work->queue == PF_QUEUE_IN ? &d->counts.bytes_in : &d->counts.bytes_out) += work->launch.bytes[0];
}

void pf_work_lost(struct pf_work *work, int cause, const char *text)
{
	work->cause = cause;
	pf_fail(&work->error, PF_E_DEPENDENCY, "%s%s",
	        cause == PF_E_DEPENDENCY ? "" : "not started, because an operation it waits for failed: ", text);
}

static void pf_dependents_go(struct pf_device *d, struct pf_work *work, int code)
{
	for (struct pf_work *next = work->dependents; next; next = next->sibling) {
		next->blocked = 0;
		if (code)
			pf_work_lost(next, code, work->error.text);
		pthread_cond_broadcast(&d->queue[next->queue].ready);
	}
}

void pf_work_done(struct pf_work *work, int code)
{
	struct pf_device *d = work->device;
	struct pf_ticket *ticket = work->ticket;
	ticket->done_ns = work->ended_ns ? work->ended_ns : pf_device_now(d);
	ticket->beats = code ? 0 : work->beats;
	ticket->status = code;
	if (code)
		pf_failure_keep(d, ticket, &work->error);
	else
		pf_work_count(d, work);
	pf_dependents_go(d, work, code);
	pf_work_unlink(d, work);
	pthread_cond_broadcast(&d->done);
}

void pf_cancel_queued(struct pf_device *d, int code, const char *why)
{
	for (unsigned q = 0; q < PF_QUEUE_COUNT; q++)
		d->queue[q].head = d->queue[q].tail = NULL;
	for (struct pf_work *work = d->oldest, *newer; work; work = newer) {
		newer = work->newer;
		if (work->running) {
			work->dependents = NULL;       /* they are among those that end here */
			continue;
		}
		pf_work_done(work, pf_fail(&work->error, code, "%s: %s", d->facts.name, why));
		pf_work_free(work);
	}
}

/* ---- workers ---- */
static struct pf_work *pf_queue_take(struct pf_device *d, struct pf_queue *queue)
{
	for (;;) {
		struct pf_work *work = queue->head;
		if (work && !work->blocked) {
			queue->head = work->next;
			if (!queue->head)
				queue->tail = NULL;
			return work;
		}
		if (!work && d->closing)
			return NULL;
		pthread_cond_wait(&queue->ready, &d->lock);
	}
}

/* A copy may be done again: nobody else touches either end meanwhile */
static int pf_copy_call(const struct pf_worker *me, const struct pf_work *work, struct pf_error *error)
{
	const struct pf_device *d = me->device;
	const struct pf_launch *l = &work->launch;
	char text[sizeof error->text + 64];
	for (unsigned failed = 0;;) {
		int code = d->backend->copy(d->card, me->queue == PF_QUEUE_IN ? PF_TO_DEVICE : PF_FROM_DEVICE,
		                            l->memory[0], l->offset[0], work->host, l->bytes[0], error);
		if (code != PF_E_TRANSFER)
			return code;
		if (++failed == PF_COPY_TRIES)
			return PF_E_DEVICE;
		snprintf(text, sizeof text, "%s: %s; copied again", d->facts.name, error->text);
		pf_device_log(d, 1, text);
		error->text[0] = '\0';
	}
}

static int pf_backend_call(const struct pf_worker *me, const struct pf_work *work, struct pf_error *error)
{
	const struct pf_device *d = me->device;
	int code = 0;
	if (me->queue < PF_KERNEL_COUNT)
		code = d->backend->run(d->card, me->cu, &work->launch, error);
	else if (work->launch.bytes[0])
		code = pf_copy_call(me, work, error);
	if (code && !error->text[0])
		pf_fail(error, code, "%s", pf_error_text(code));
	return code;
}

/* What the card's events say, held inside the time of the call */
static void pf_work_times(const struct pf_worker *me, struct pf_work *work)
{
	const struct pf_device *d = me->device;
	uint64_t began = 0, ended = 0, most = pf_device_now(d) - work->ticket->started_ns;
	if (!d->backend->times)
		return;
	d->backend->times(d->card, me->queue, me->cu, &began, &ended);
	ended = ended < most ? ended : most;
	began = began < ended ? began : ended;
	work->ended_ns = work->ticket->started_ns + ended;
	work->ticket->started_ns += began;
}

/* Runs `work` with the lock released meanwhile; the status for its ticket. The backend writes its error to this stack,
 * because work that the watchdog abandons gets its text from there */
static int pf_work_run(struct pf_worker *me, struct pf_work *work)
{
	struct pf_device *d = me->device;
	struct pf_error error = { 0 };
	work->running = 1;
	work->ticket->started_ns = pf_device_now(d);
	me->work = work;
	pf_watch_start(work);
	pthread_mutex_unlock(&d->lock);
	int code = pf_backend_call(me, work, &error);
	pthread_mutex_lock(&d->lock);
	me->work = NULL;
	if (work->expired)
		return PF_E_TIMEOUT;
	if (code)
		return pf_fail(&work->error, code < 0 ? code : PF_E_DEVICE, "%s: %s", d->facts.name, error.text);
	if (work->queue < PF_KERNEL_COUNT)
		pf_watch_learn(work, pf_device_now(d) - work->ticket->started_ns);
	pf_work_times(me, work);
	return 0;
}

static void pf_operation_values(struct pf_operation *o, const struct pf_work *work)
{
	const struct pf_kernel_row *row = &pf_kernel_rows[o->kernel];
	for (unsigned i = 0; i < row->count; i++)
		if (row->arg[i].dir == PF_DIR_VAL && o->values < PF_OPERATION_VALUES)
			o->value[o->values++] = work->launch.value[i];
}

/* With the lock held, which is let go meanwhile: from then on the ticket is its owner's again, so this is a copy */
static void pf_operation_tell(struct pf_worker *me, const struct pf_work *work, const struct pf_ticket *ticket)
{
	struct pf_device *d = me->device;
	struct pf_operation o = {
		.device = d->facts.name, .kind = PF_OP_RUN, .serial = work->serial, .after = work->after, .kernel = -1,
		.cu = me->cu, .beats = ticket->beats, .queued_ns = ticket->queued_ns, .started_ns = ticket->started_ns,
		.done_ns = ticket->done_ns, .status = ticket->status,
	};
	if (!d->options.operation)
		return;
	if (work->queue < PF_KERNEL_COUNT) {
		o.kernel = (int)work->queue;
		pf_operation_values(&o, work);
	} else {
		o.kind = work->queue == PF_QUEUE_IN ? PF_OP_IN : PF_OP_OUT;
		o.bytes = work->launch.bytes[0];
		o.bank = work->buf[0] ? work->buf[0]->bank : 0;
	}
	pthread_mutex_unlock(&d->lock);
	d->options.operation(d->options.operation_context, &o);
	pthread_mutex_lock(&d->lock);
}

static void pf_worker_work(struct pf_worker *me, struct pf_work *work)
{
	struct pf_device *d = me->device;
	int code = work->cause ? PF_E_DEPENDENCY : pf_work_run(me, work);
	if (work->abandoned) {
		d->stuck--;
	} else {
		const struct pf_ticket *ticket = work->ticket;
		pf_work_done(work, code);
		const struct pf_ticket over = *ticket;
		pf_operation_tell(me, work, &over);
	}
	if (code == PF_E_DEVICE && !d->failed) {
		pf_device_fail(d, work->error.text);
		pthread_mutex_unlock(&d->lock);
		pf_device_log(d, 0, work->error.text);
		pthread_mutex_lock(&d->lock);
	}
	pf_work_free(work);
}

void *pf_worker_main(void *worker)
{
	struct pf_worker *me = worker;
	struct pf_device *d = me->device;
	struct pf_work *work;
	pthread_mutex_lock(&d->lock);
	while ((work = pf_queue_take(d, &d->queue[me->queue])))
		pf_worker_work(me, work);
	int last = --d->alive == 0 && d->orphaned;
	pthread_cond_broadcast(&d->done);
	pthread_mutex_unlock(&d->lock);
	if (last)
		pf_device_destroy(d);
	return NULL;
}
