/* Submission and waiting. */
#include <errno.h>
#include <stdlib.h>
#include "core.h"

static int pf_refuse(struct pf_device *d, struct pf_ticket *ticket, const struct pf_error *error)
{
	uint64_t now = pf_device_now(d);
	*ticket = (struct pf_ticket){ .status = error->code, .queued_ns = now, .done_ns = now, .device = d };
	pf_failure_forget(d, ticket);
	pf_failure_keep(d, ticket, error);
	return error->code;
}

static int pf_depend(struct pf_device *d, struct pf_work *work, const struct pf_ticket *after)
{
	work->after = after && after->device == d ? after->serial : 0;
	if (!after || after->status == 0)
		return 0;
	if (after->device && after->device != d)
		return pf_fail(&work->error, PF_E_ARGUMENT, "%s: the operation to wait for belongs to another device",
		               d->facts.name);
	if (after->status != PF_PENDING) {
		pf_work_lost(work, after->status, pf_failure_text(d, after));
		return 0;
	}
	struct pf_work *first = pf_work_of(d, after);
	if (!first)
		return pf_fail(&work->error, PF_E_ARGUMENT, "%s: the operation to wait for was never submitted",
		               d->facts.name);
	work->blocked = 1;
	work->sibling = first->dependents;
	first->dependents = work;
	return 0;
}

static int pf_accept(struct pf_device *d, struct pf_work *work, const struct pf_ticket *after)
{
	if (d->closing)
		return pf_fail(&work->error, PF_E_CLOSED, "%s: %s", d->facts.name, pf_error_text(PF_E_CLOSED));
	if (d->failed)
		return pf_fail(&work->error, PF_E_DEVICE, "%s: refused, the device has failed: %s", d->facts.name,
		               d->failure.text);
	return pf_depend(d, work, after);
}

static void pf_enqueue(struct pf_device *d, struct pf_work *work)
{
	struct pf_queue *queue = &d->queue[work->queue];
	pf_failure_forget(d, work->ticket);
	for (unsigned i = 0; i < PF_ARGS_MAX; i++)
		if (work->buf[i])
			work->buf[i]->pending++;
	work->serial = ++d->serial;
	*work->ticket = (struct pf_ticket){ .status = PF_PENDING, .queued_ns = pf_device_now(d), .serial = work->serial,
		.device = d };
	pf_work_link(d, work);
	*(queue->tail ? &queue->tail->next : &queue->head) = work;
	queue->tail = work;
	pthread_cond_broadcast(&queue->ready);
}

/* Queues checked work, or refuses it with `code` and work->error, or -ENOMEM if there is no work at all */
static int pf_submit(struct pf_device *d, struct pf_work *work, int code, const struct pf_ticket *after,
                     struct pf_ticket *ticket)
{
	struct pf_error memory = { -ENOMEM, "no host memory for the operation" };
	pthread_mutex_lock(&d->lock);
	if (ticket->status == PF_PENDING)
		code = PF_E_ARGUMENT;
	else if (!work)
		code = pf_refuse(d, ticket, &memory);
	else {
		work->ticket = ticket;
		code = code ? code : pf_accept(d, work, after);
		if (code)
			pf_refuse(d, ticket, &work->error);
		else
			pf_enqueue(d, work);
	}
	pthread_mutex_unlock(&d->lock);
	if (code)
		free(work);
	return code;
}

static struct pf_work *pf_work_new(struct pf_device *d, unsigned queue)
{
	struct pf_work *work = calloc(1, sizeof *work);
	if (work) {
		work->device = d;
		work->queue = queue;
	}
	return work;
}

/* No device to keep a text in */
static int pf_refuse_plain(struct pf_ticket *ticket)
{
	if (ticket)
		*ticket = (struct pf_ticket){ .status = PF_E_ARGUMENT };
	return PF_E_ARGUMENT;
}

int pf_run(struct pf_device *device, int kernel, const struct pf_arg *args, unsigned count,
           const struct pf_ticket *after, struct pf_ticket *ticket)
{
	if (!device || !ticket)
		return pf_refuse_plain(ticket);
	struct pf_work *work = pf_work_new(device, 0);
	int code = work ? pf_check_run(work, kernel, args, count) : -ENOMEM;
	return pf_submit(device, work, code, after, ticket);
}

static int pf_copy(struct pf_buf *buf, unsigned queue, uint64_t offset, const void *host, uint64_t bytes,
                   const struct pf_ticket *after, struct pf_ticket *ticket)
{
	if (!buf || !ticket)
		return pf_refuse_plain(ticket);
	struct pf_work *work = pf_work_new(buf->device, queue);
	int code = work ? pf_check_copy(work, buf, offset, host, bytes) : -ENOMEM;
	return pf_submit(buf->device, work, code, after, ticket);
}

int pf_copy_in(struct pf_buf *buf, uint64_t offset, const void *from, uint64_t bytes, const struct pf_ticket *after,
               struct pf_ticket *ticket)
{
	return pf_copy(buf, PF_QUEUE_IN, offset, from, bytes, after, ticket);
}

int pf_copy_out(struct pf_buf *buf, uint64_t offset, void *to, uint64_t bytes, const struct pf_ticket *after,
                struct pf_ticket *ticket)
{
	return pf_copy(buf, PF_QUEUE_OUT, offset, to, bytes, after, ticket);
}

/* ---- waiting ---- */
static void pf_wait_tell(const struct pf_device *d, const struct pf_ticket *ticket, uint64_t began, uint64_t ended)
{
	const struct pf_operation o = { .device = d->facts.name, .kind = PF_OP_WAIT, .serial = ticket->serial,
		.kernel = -1, .queued_ns = began, .started_ns = began, .done_ns = ended, .status = ticket->status };
	if (d->options.operation)
		d->options.operation(d->options.operation_context, &o);
}

int pf_wait(struct pf_ticket *ticket, struct pf_error *error)
{
	struct pf_device *d = ticket->device;
	if (!d)
		return ticket->status ? pf_fail(error, ticket->status, "%s", pf_error_text(ticket->status)) : 0;
	pthread_mutex_lock(&d->lock);
	const uint64_t began = pf_device_now(d);
	while (ticket->status == PF_PENDING)
		pthread_cond_wait(&d->done, &d->lock);
	const uint64_t ended = pf_device_now(d);
	int code = ticket->status;
	if (code)
		pf_fail(error, code, "%s", pf_failure_text(d, ticket));
	pthread_mutex_unlock(&d->lock);
	pf_wait_tell(d, ticket, began, ended);
	return code;
}
