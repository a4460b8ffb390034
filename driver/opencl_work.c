/* Buffers, copies and runs of backend opencl, and the events that say when they ended. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include "opencl_card.h"
#include "poll.h"
#include "xrt_library.h"

#define PLACED ((cl_mem_flags)1 << 31)           /* CL_MEM_EXT_PTR_XILINX, which XRT shifts into the sign */

static atomic_int ran;

int pf_cl_ran(void)
{
	return atomic_load(&ran);
}

int pf_cl_lost(const struct pf_cl_card *card)
{
	for (int k = 0; k < PF_KERNEL_COUNT; k++)
		for (uint32_t i = 0; card->cu[k] && i < card->cus[k]; i++)
			if (card->cu[k][i].lost)
				return 1;
	return 0;
}

static void empty_pool(struct pf_cl_card *card)
{
	for (struct pf_memory *memory; (memory = pf_xrt_pool_any(&card->pool)); free(memory))
		pf_cl.clReleaseMemObject(memory->buffer);
}

/* ---- events ---- */
static uint64_t stamp(cl_event event, cl_profiling_info which)
{
	cl_ulong ns = 0;
	return pf_cl.clGetEventProfilingInfo(event, which, sizeof ns, &ns, NULL) == CL_SUCCESS ? ns : 0;
}

/* Waits for the event and lets it go; its status: 0, an error, or CL_SUBMITTED if `abort` ended the wait */
static cl_int finish(cl_event event, const atomic_int *abort, struct pf_cl_times *times)
{
	cl_int state = CL_QUEUED;
	for (unsigned round = 0;; round++) {
		cl_int why = pf_cl.clGetEventInfo(event, CL_EVENT_COMMAND_EXECUTION_STATUS, sizeof state, &state, NULL);
		if (why != CL_SUCCESS)
			state = why;
		if (state <= CL_COMPLETE)
			break;
		if (abort && atomic_load(abort))
			return CL_SUBMITTED;           /* the event stays: XRT still works at it */
		pf_poll_pause(round);
	}
	uint64_t queued = stamp(event, CL_PROFILING_COMMAND_QUEUED);
	times->started_ns = stamp(event, CL_PROFILING_COMMAND_START) - queued;
	times->done_ns = stamp(event, CL_PROFILING_COMMAND_END) - queued;
	pf_cl.clReleaseEvent(event);
	return state;
}

void pf_cl_times(void *opaque, unsigned queue, unsigned number, uint64_t *started_ns, uint64_t *done_ns)
{
	struct pf_cl_card *card = opaque;
	struct pf_cl_times *times =
	    queue < PF_KERNEL_COUNT ? &card->cu[queue][number].times : &card->copy[queue - PF_KERNEL_COUNT];
	*started_ns = times->started_ns;
	*done_ns = times->done_ns;
}

/* ---- memory ---- */
/* Tells XRT that the memory lives on the card. Else it would copy the host's side of a buffer, or of a part, there at
 * the first run that uses it, over what an earlier run has left */
static cl_int settle(const struct pf_cl_card *card, cl_mem memory)
{
	struct pf_cl_times times;
	cl_event event;
	cl_int why = pf_cl.clEnqueueMigrateMemObjects(card->queue, 1, &memory, CL_MIGRATE_MEM_OBJECT_CONTENT_UNDEFINED,
						      0, NULL, &event);
	return why == CL_SUCCESS ? finish(event, NULL, &times) : why;
}

static cl_mem acquire(const struct pf_cl_card *card, enum pf_kernel kernel, unsigned arg, uint64_t bytes, cl_int *why)
{
	cl_mem_ext_ptr_t place = { .argidx = arg, .kernel = card->place[kernel] };
	cl_mem memory = pf_cl.clCreateBuffer(
	    card->context, CL_MEM_READ_WRITE | PLACED, bytes, &place, why);
	if (memory && (*why = settle(card, memory)) != CL_SUCCESS) {
		pf_cl.clReleaseMemObject(memory);
		memory = NULL;
	}
	return memory;
}

int pf_cl_alloc(void *opaque, enum pf_kernel kernel, unsigned arg, uint64_t bytes, struct pf_memory **memory,
                        struct pf_error *error)
{
	struct pf_cl_card *card = opaque;
	int group = (int)pf_kernel_rows[kernel].arg[arg].bank;
	uint64_t rounded = pf_xrt_pool_round(bytes);
	cl_int why = CL_SUCCESS;
	char what[96];
	if ((*memory = pf_xrt_pool_take(&card->pool, rounded, group)))
		return 0;
	struct pf_memory *made = calloc(1, sizeof *made);
	if (!made)
		return pf_fail(error, -ENOMEM, "out of memory");
	*made = (struct pf_memory) { .bytes = rounded, .group = group };
	made->buffer = acquire(card, kernel, arg, rounded, &why);
	if (!made->buffer) {
		empty_pool(card);
		made->buffer = acquire(card, kernel, arg, rounded, &why);
	}
	if (made->buffer) {
		*memory = made;
		return 0;
	}
	free(made);
	snprintf(what, sizeof what, "cannot allocate %llu bytes", (unsigned long long)bytes);
	return pf_cl_fail(error, PF_E_MEMORY, what, why);
}

void pf_cl_free(void *opaque, struct pf_memory *memory)
{
	struct pf_cl_card *card = opaque;
	if (pf_cl_lost(card))
		free(memory);
	else
		pf_xrt_pool_put(&card->pool, memory);
}

/* ---- copies ---- */
static cl_int copy_part(struct pf_cl_card *card, enum pf_direction direction, struct pf_memory *memory, uint64_t offset,
                        void *host, uint64_t bytes, struct pf_cl_times *times)
{
	cl_event event;
	cl_int why;
	if (direction == PF_TO_DEVICE)
		why = pf_cl.clEnqueueWriteBuffer(card->queue, memory->buffer, CL_FALSE, offset, bytes, host, 0, NULL,
		                                 &event);
	else
		why = pf_cl.clEnqueueReadBuffer(card->queue, memory->buffer, CL_FALSE, offset, bytes, host, 0, NULL,
		                                &event);
	if (why == CL_SUCCESS)
		pf_cl.clFlush(card->queue);
	return why == CL_SUCCESS ? finish(event, NULL, times) : why;
}

int pf_cl_copy(void *opaque, enum pf_direction direction, struct pf_memory *memory, uint64_t offset, void *host,
                       uint64_t bytes, struct pf_error *error)
{
	struct pf_cl_card *card = opaque;
	struct pf_cl_times *whole = &card->copy[direction], one;
	for (uint64_t done = 0, part; done < bytes; done += part) {
		part = bytes - done < PF_XRT_SYNC_BYTES_MAX ? bytes - done : PF_XRT_SYNC_BYTES_MAX;
		cl_int why = copy_part(card, direction, memory, offset + done, (uint8_t *)host + done, part, &one);
		if (why != CL_SUCCESS)
			return pf_cl_fail(error, PF_E_TRANSFER, "copy failed", why);
		*whole = done ? (struct pf_cl_times) { whole->started_ns, whole->done_ns + one.done_ns } : one;
	}
	return 0;
}

/* ---- runs ---- */
static cl_int set_memory(const struct pf_cl_card *card, cl_kernel kernel, const struct pf_launch *launch, unsigned i,
                         cl_mem *part)
{
	cl_mem whole = launch->memory[i]->buffer;
	cl_buffer_region region = { launch->offset[i], launch->bytes[i] };
	cl_int why = CL_SUCCESS;
	if (region.origin && region.size)
		*part = pf_cl.clCreateSubBuffer(whole, CL_MEM_READ_WRITE, CL_BUFFER_CREATE_TYPE_REGION, &region, &why);
	if (*part)
		why = settle(card, *part);
	return why != CL_SUCCESS ? why : pf_cl.clSetKernelArg(kernel, i, sizeof whole, *part ? part : &whole);
}

static cl_int set_args(const struct pf_cl_card *card, cl_kernel kernel, const struct pf_launch *launch, cl_mem *part)
{
	cl_int why = CL_SUCCESS;
	for (unsigned i = 0; i < launch->count && why == CL_SUCCESS; i++)
		why = launch->memory[i] ? set_memory(card, kernel, launch, i, &part[i])
		                        : pf_cl.clSetKernelArg(kernel, i, sizeof launch->value[i], &launch->value[i]);
	return why;
}

int pf_cl_run(void *opaque, unsigned number, const struct pf_launch *launch, struct pf_error *error)
{
	struct pf_cl_card *card = opaque;
	struct pf_cl_cu *cu = &card->cu[launch->kernel][number];
	cl_mem part[PF_ARGS_MAX] = { NULL };
	cl_event event;
	if (cu->lost)
		return pf_fail(error, PF_E_DEVICE, "compute unit %u of %s hangs since a run was given up" PF_XRT_RESET,
			       number, pf_kernel_rows[launch->kernel].name);
	atomic_store(&cu->abort, 0);
	atomic_store(&ran, 1);
	cl_int why = set_args(card, cu->kernel, launch, part);
	if (why == CL_SUCCESS)
		why = pf_cl.clEnqueueTask(card->queue, cu->kernel, 0, NULL, &event);
	if (why == CL_SUCCESS) {
		pf_cl.clFlush(card->queue);
		why = finish(event, &cu->abort, &cu->times);
		cu->lost = why == CL_SUBMITTED;
	}
	for (unsigned i = 0; i < launch->count; i++)
		if (part[i] && !cu->lost)
			pf_cl.clReleaseMemObject(part[i]);
	if (cu->lost)
		return pf_fail(error, PF_E_TIMEOUT, "run given up; its unit goes on");
	return why == CL_SUCCESS ? 0 : pf_cl_fail(error, PF_E_DEVICE, "run failed", why);
}

int pf_cl_abort(void *opaque, enum pf_kernel kernel, unsigned number)
{
	struct pf_cl_card *card = opaque;
	atomic_store(&card->cu[kernel][number].abort, 1);
	return 0;
}
