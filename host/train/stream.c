#include <string.h>
#include "stream.h"

int pf_stream_open(struct pf_stream *stream, struct pf_device *device, unsigned slots, pf_stream_fn consume,
                   void *context)
{
	memset(stream, 0, sizeof *stream);
	if (slots < 1 || slots > PF_STREAM_SLOTS)
		return PF_E_RANGE;
	stream->device = device;
	stream->slots = slots;
	stream->consume = consume;
	stream->context = context;
	return 0;
}

/* Waits for every operation, also after a failure, because they use the caller's memory */
static int pf_slot_wait(struct pf_stream_slot *slot, struct pf_error *error)
{
	int code = 0;
	for (unsigned i = 0; i < slot->steps; i++) {
		int one = pf_wait(&slot->ticket[i], code ? NULL : error);
		code = code ? code : one;
	}
	return code;
}

static void pf_stream_consume(struct pf_stream *stream)
{
	unsigned index = (unsigned)(stream->consumed % stream->slots);
	struct pf_stream_slot *slot = &stream->slot[index];
	struct pf_error error = { 0 };
	int code = pf_slot_wait(slot, &error);
	if (code == 0 && stream->code == 0 && stream->consume)
		code = stream->consume(stream->context, index, slot->batch, &error);
	if (code && stream->code == 0) {
		stream->code = code;
		stream->error = error;
	}
	slot->steps = 0;
	stream->consumed++;
}

static int pf_stream_code(const struct pf_stream *stream, struct pf_error *error)
{
	if (stream->code == 0)
		return 0;
	return pf_fail(error, stream->code, "%s",
	               stream->error.text[0] ? stream->error.text : pf_error_text(stream->code));
}

int pf_stream_next(struct pf_stream *stream, unsigned *slot, struct pf_error *error)
{
	if (stream->begun - stream->consumed == stream->slots)
		pf_stream_consume(stream);
	if (stream->code)
		return pf_stream_end(stream, error);
	*slot = (unsigned)(stream->begun % stream->slots);
	stream->slot[*slot].batch = stream->begun++;
	stream->slot[*slot].steps = 0;
	return 0;
}

int pf_stream_end(struct pf_stream *stream, struct pf_error *error)
{
	while (stream->consumed < stream->begun)
		pf_stream_consume(stream);
	return pf_stream_code(stream, error);
}

/* ---- operations ---- */
/* The next ticket of the batch begun last and the one before it; NULL when the stream has an error */
static struct pf_ticket *pf_step_begin(struct pf_stream *stream, const struct pf_ticket **after)
{
	*after = NULL;
	if (stream->code)
		return NULL;
	if (stream->begun == stream->consumed) {
		stream->code = pf_fail(&stream->error, PF_E_ARGUMENT, "an operation outside of a batch");
		return NULL;
	}
	struct pf_stream_slot *slot = &stream->slot[(stream->begun - 1) % stream->slots];
	if (slot->steps == PF_STREAM_STEPS) {
		stream->code = pf_fail(&stream->error, PF_E_RANGE, "more than %d operations in a batch",
		                       PF_STREAM_STEPS);
		return NULL;
	}
	if (slot->steps)
		*after = &slot->ticket[slot->steps - 1];
	return &slot->ticket[slot->steps++];
}

static int pf_step_end(struct pf_stream *stream, struct pf_ticket *ticket, int code)
{
	if (code) {
		pf_wait(ticket, &stream->error);
		stream->code = code;
	}
	return code;
}

int pf_stream_in(struct pf_stream *stream, struct pf_buf *buf, uint64_t offset, const void *from, uint64_t bytes)
{
	const struct pf_ticket *after;
	struct pf_ticket *ticket = pf_step_begin(stream, &after);
	if (!ticket)
		return stream->code;
	return pf_step_end(stream, ticket, pf_copy_in(buf, offset, from, bytes, after, ticket));
}

int pf_stream_run(struct pf_stream *stream, int kernel, const struct pf_arg *args, unsigned count)
{
	const struct pf_ticket *after;
	struct pf_ticket *ticket = pf_step_begin(stream, &after);
	if (!ticket)
		return stream->code;
	return pf_step_end(stream, ticket, pf_run(stream->device, kernel, args, count, after, ticket));
}

int pf_stream_out(struct pf_stream *stream, struct pf_buf *buf, uint64_t offset, void *to, uint64_t bytes)
{
	const struct pf_ticket *after;
	struct pf_ticket *ticket = pf_step_begin(stream, &after);
	if (!ticket)
		return stream->code;
	return pf_step_end(stream, ticket, pf_copy_out(buf, offset, to, bytes, after, ticket));
}
