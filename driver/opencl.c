/* Backend "opencl": a card, or XRT's emulation of one, through XRT's OpenCL and the ICD loader.
 * where = "" | index | BDF, as for xrt.
 *
 * One out-of-order queue with profiling: the core decides what may run when, so the queue needs no order of its own,
 * and events say when an operation really ran. Extensions of XRT's: a buffer is made for a kernel's argument, which
 * places it; a kernel object names its compute unit. */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "card_image.h"
#include "opencl_library.h"
#include "poll.h"
#include "xrt_library.h"
#include "xrt_pool.h"

#define PLACED ((cl_mem_flags)1 << 31)           /* CL_MEM_EXT_PTR_XILINX, which XRT shifts into the sign */
enum { PLATFORMS_MAX = 16, DEVICES_MAX = 32, DIRECTIONS = 2 };

struct times { uint64_t started_ns, done_ns; };
struct cu {
	cl_kernel    kernel;
	struct times times;
	atomic_int   abort, lost;      /* lost: a run was given up, the unit still works at it */
};
/* XRT 2.13 now and then crashes in a later load of a process, and keeps files open for what it released. So a card
 * that is closed is parked as it is until the program ends, and whoever opens it with the same image gets it again */
struct card {
	struct card      *next;        /* parked */
	cl_device_id      device;
	cl_context        context;
	cl_command_queue  queue;
	cl_program        program;
	struct pf_image  *image;
	char              name[96];
	struct cu        *cu[PF_KERNEL_COUNT];
	uint32_t          cus[PF_KERNEL_COUNT];
	cl_kernel         place[PF_KERNEL_COUNT]; /* for allocations only: XRT makes the new buffer their argument */
	struct times      copy[DIRECTIONS];
	struct pf_memory *pool;        /* freed buffers; group: the bank class */
};
static pthread_mutex_t parked_lock = PTHREAD_MUTEX_INITIALIZER;
static struct card *parked;
static atomic_int ran; /* a card has: XRT 2.13 crashes in its runs once another image is loaded after that */

static int fail(struct pf_error *error, int code, const char *what, cl_int why)
{
	char text[512];
	snprintf(text, sizeof text, "%.400s: OpenCL error %d", what, (int)why);
	return pf_xrt_fail(error, code, text, code == PF_E_DEVICE ? PF_XRT_RESET : "");
}

/* ---- opening ---- */
static int find_platform(cl_platform_id *platform, struct pf_error *error)
{
	cl_platform_id all[PLATFORMS_MAX];
	cl_uint count = 0;
	char vendor[128];
	if (pf_cl.clGetPlatformIDs(PLATFORMS_MAX, all, &count) != CL_SUCCESS)
		count = 0;
	for (cl_uint i = 0; i < count && i < PLATFORMS_MAX; i++)
		if (pf_cl.clGetPlatformInfo(all[i], CL_PLATFORM_VENDOR, sizeof vendor, vendor, NULL) == CL_SUCCESS
		    && strcmp(vendor, "Xilinx") == 0) {
			*platform = all[i];
			return 0;
		}
	return pf_fail(error, PF_E_ABSENT,
		       "OpenCL's loader knows no platform of Xilinx: a file in /etc/OpenCL/vendors must "
		       "name libxilinxopencl.so.2 (XRT from AMD installs it)");
}

/* "0000:03:00.1" of a device; "" if it does not say */
static void device_bdf(cl_device_id device, char bdf[32])
{
	if (pf_cl.clGetDeviceInfo(device, CL_DEVICE_PCIE_BDF, 32, bdf, NULL) != CL_SUCCESS)
		bdf[0] = '\0';
}

static int find_device(struct card *card, const char *where, struct pf_error *error)
{
	cl_platform_id platform = NULL;
	cl_device_id all[DEVICES_MAX];
	cl_uint count = 0;
	char *end, bdf[32];
	unsigned long index = strtoul(where, &end, 10);
	int status = find_platform(&platform, error);
	if (status != 0)
		return status;
	if (pf_cl.clGetDeviceIDs(platform, CL_DEVICE_TYPE_ACCELERATOR, DEVICES_MAX, all, &count) != CL_SUCCESS)
		count = 0;
	for (cl_uint i = 0; i < count && i < DEVICES_MAX; i++) {
		device_bdf(all[i], bdf);
		if (*end ? strcmp(where, bdf) == 0 : index == i) {
			card->device = all[i];
			return 0;
		}
	}
	return pf_fail(error, PF_E_ABSENT, "OpenCL has no card %s, but %u; `prefpga devices` lists cards",
	               where[0] ? where : "0", (unsigned)count);
}

static void *read_image(const char *path, size_t *bytes)
{
	FILE *in = fopen(path, "rb");
	long length = in && fseek(in, 0, SEEK_END) == 0 ? ftell(in) : -1;
	void *data = length > 0 && fseek(in, 0, SEEK_SET) == 0 ? malloc((size_t)length) : NULL;
	*bytes = data ? fread(data, 1, (size_t)length, in) : 0;
	if (in)
		fclose(in);
	return data;
}

static int load_program(struct card *card, struct pf_error *error)
{
	const char *path = pf_image_facts(card->image)->path;
	size_t bytes;
	cl_int status = CL_INVALID_BINARY, why;
	unsigned char *data = read_image(path, &bytes);
	const unsigned char *binary = data;
	if (data)
		card->program = pf_cl.clCreateProgramWithBinary(card->context, 1, &card->device, &bytes, &binary,
		                                                &status, &why);
	free(data);
	return card->program ? 0 : fail(error, PF_E_IMAGE, path, status ? status : why);
}

static int open_context(struct card *card, struct pf_error *error)
{
	cl_int why;
	card->context = pf_cl.clCreateContext(NULL, 1, &card->device, NULL, NULL, &why);
	if (!card->context)
		return fail(error, PF_E_ABSENT, card->name, why);
	card->queue = pf_cl.clCreateCommandQueue(card->context, card->device, CL_QUEUE_OUT_OF_ORDER_EXEC_MODE_ENABLE
	                                         | CL_QUEUE_PROFILING_ENABLE, &why);
	return card->queue ? 0 : fail(error, PF_E_DEVICE, card->name, why);
}

static int open_kernel(struct card *card, int kernel, uint32_t number, cl_kernel *opened, struct pf_error *error)
{
	char name[160];
	cl_int why;
	pf_card_image_cu(card->image, kernel, number, name, sizeof name);
	*opened = pf_cl.clCreateKernel(card->program, name, &why);
	return *opened ? 0 : fail(error, PF_E_IMAGE, name, why);
}

static int open_cus(struct card *card, struct pf_error *error)
{
	for (int k = 0; k < PF_KERNEL_COUNT; k++) {
		int status = 0;
		card->cu[k] = calloc(card->cus[k] + 1, sizeof *card->cu[k]);
		if (!card->cu[k])
			return pf_fail(error, -ENOMEM, "out of memory");
		for (uint32_t i = 0; i < card->cus[k] && status == 0; i++)
			status = open_kernel(card, k, i, &card->cu[k][i].kernel, error);
		if (card->cus[k] && status == 0)
			status = open_kernel(card, k, 0, &card->place[k], error);
		if (status != 0)
			return status;
	}
	return 0;
}

static int lost(const struct card *card)
{
	for (int k = 0; k < PF_KERNEL_COUNT; k++)
		for (uint32_t i = 0; card->cu[k] && i < card->cus[k]; i++)
			if (card->cu[k][i].lost)
				return 1;
	return 0;
}

static void empty_pool(struct card *card)
{
	for (struct pf_memory *memory; (memory = pf_xrt_pool_any(&card->pool)); free(memory))
		pf_cl.clReleaseMemObject(memory->buffer);
}

/* After a failed opening: nothing has run yet */
static void release(struct card *card)
{
	for (int k = 0; k < PF_KERNEL_COUNT; k++) {
		for (uint32_t i = 0; card->cu[k] && i < card->cus[k]; i++)
			if (card->cu[k][i].kernel)
				pf_cl.clReleaseKernel(card->cu[k][i].kernel);
		if (card->place[k])
			pf_cl.clReleaseKernel(card->place[k]);
		free(card->cu[k]);
	}
	if (card->program)
		pf_cl.clReleaseProgram(card->program);
	if (card->queue)
		pf_cl.clReleaseCommandQueue(card->queue);
	if (card->context)
		pf_cl.clReleaseContext(card->context);
	pf_image_close(card->image);
	free(card);
}

/* A card with a lost unit stays open, but nobody gets it again */
static void opencl_close(void *opaque)
{
	struct card *card = opaque;
	pthread_mutex_lock(&parked_lock);
	card->next = parked;
	parked = card;
	pthread_mutex_unlock(&parked_lock);
}

/* A parked card on the same device with the same image, or NULL */
static struct card *take_parked(const struct card *wanted)
{
	pthread_mutex_lock(&parked_lock);
	struct card **at = &parked, *found;
	while (*at && ((*at)->device != wanted->device || lost(*at)
	               || strcmp(pf_image_facts((*at)->image)->uuid, pf_image_facts(wanted->image)->uuid) != 0))
		at = &(*at)->next;
	if ((found = *at))
		*at = found->next;
	pthread_mutex_unlock(&parked_lock);
	return found;
}

static int open_card(struct card **opened, const struct pf_xrt_place *place, const struct pf_backend_open *open,
                     struct pf_error *error)
{
	struct card *card = *opened, *before;
	int status = find_device(card, open->where, error);
	snprintf(card->name, sizeof card->name, "OpenCL card %.40s%s", open->where[0] ? open->where : "0",
	         place->mode ? " (emulated)" : "");
	if (status == 0)
		status = pf_card_image_open(place, open->options, &card->image, card->cus, error);
	if (status == 0 && (before = take_parked(card))) {
		release(card);
		*opened = before;
		return 0;
	}
	if (status == 0 && atomic_load(&ran))
		status = pf_fail(error, PF_E_UNSUPPORTED,
				 "%s: XRT's OpenCL does not survive loading one more card or image "
				 "after a run: open all cards first, or use xrt",
				 card->name);
	if (status == 0)
		status = open_context(card, error);
	if (status == 0)
		status = load_program(card, error);
	return status ? status : open_cus(card, error);
}

static int opencl_open(const struct pf_backend_open *open, void **opaque, struct pf_device_facts *facts, uint32_t *cus,
                       struct pf_error *error)
{
	struct pf_xrt_place place;
	int status = pf_xrt_start("opencl", &place, error);
	if (status == 0)
		status = pf_cl_start(error);
	if (status != 0)
		return status;
	struct card *card = calloc(1, sizeof *card);
	status = card ? open_card(&card, &place, open, error) : pf_fail(error, -ENOMEM, "out of memory");
	if (status != 0) {
		if (card)
			release(card);
		return status;
	}
	facts->backend = "opencl";
	facts->name = card->name;
	pf_card_image_facts(card->image, facts);
	memcpy(cus, card->cus, sizeof card->cus);
	*opaque = card;
	return 0;
}

/* ---- events ---- */
static uint64_t stamp(cl_event event, cl_profiling_info which)
{
	cl_ulong ns = 0;
	return pf_cl.clGetEventProfilingInfo(event, which, sizeof ns, &ns, NULL) == CL_SUCCESS ? ns : 0;
}

/* Waits for the event and lets it go; its status: 0, an error, or CL_SUBMITTED if `abort` ended the wait */
static cl_int finish(cl_event event, const atomic_int *abort, struct times *times)
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

static void opencl_times(void *opaque, unsigned queue, unsigned number, uint64_t *started_ns, uint64_t *done_ns)
{
	struct card *card = opaque;
	struct times *times =
	    queue < PF_KERNEL_COUNT ? &card->cu[queue][number].times : &card->copy[queue - PF_KERNEL_COUNT];
	*started_ns = times->started_ns;
	*done_ns = times->done_ns;
}

/* ---- memory ---- */
/* Tells XRT that the memory lives on the card. Else it would copy the host's side of a buffer, or of a part, there at
 * the first run that uses it, over what an earlier run has left */
static cl_int settle(const struct card *card, cl_mem memory)
{
	struct times times;
	cl_event event;
	cl_int why = pf_cl.clEnqueueMigrateMemObjects(card->queue, 1, &memory, CL_MIGRATE_MEM_OBJECT_CONTENT_UNDEFINED,
						      0, NULL, &event);
	return why == CL_SUCCESS ? finish(event, NULL, &times) : why;
}

static cl_mem acquire(const struct card *card, enum pf_kernel kernel, unsigned arg, uint64_t bytes, cl_int *why)
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

static int opencl_alloc(void *opaque, enum pf_kernel kernel, unsigned arg, uint64_t bytes, struct pf_memory **memory,
                        struct pf_error *error)
{
	struct card *card = opaque;
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
	return fail(error, PF_E_MEMORY, what, why);
}

static void opencl_free(void *opaque, struct pf_memory *memory)
{
	struct card *card = opaque;
	if (lost(card))
		free(memory);
	else
		pf_xrt_pool_put(&card->pool, memory);
}

/* ---- copies ---- */
static cl_int copy_part(struct card *card, enum pf_direction direction, struct pf_memory *memory, uint64_t offset,
                        void *host, uint64_t bytes, struct times *times)
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

static int opencl_copy(void *opaque, enum pf_direction direction, struct pf_memory *memory, uint64_t offset, void *host,
                       uint64_t bytes, struct pf_error *error)
{
	struct card *card = opaque;
	struct times *whole = &card->copy[direction], one;
	for (uint64_t done = 0, part; done < bytes; done += part) {
		part = bytes - done < PF_XRT_SYNC_BYTES_MAX ? bytes - done : PF_XRT_SYNC_BYTES_MAX;
		cl_int why = copy_part(card, direction, memory, offset + done, (uint8_t *)host + done, part, &one);
		if (why != CL_SUCCESS)
			return fail(error, PF_E_TRANSFER, "copy failed", why);
		*whole = done ? (struct times) { whole->started_ns, whole->done_ns + one.done_ns } : one;
	}
	return 0;
}

/* ---- runs ---- */
static cl_int set_memory(const struct card *card, cl_kernel kernel, const struct pf_launch *launch, unsigned i,
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

static cl_int set_args(const struct card *card, cl_kernel kernel, const struct pf_launch *launch, cl_mem *part)
{
	cl_int why = CL_SUCCESS;
	for (unsigned i = 0; i < launch->count && why == CL_SUCCESS; i++)
		why = launch->memory[i] ? set_memory(card, kernel, launch, i, &part[i])
		                        : pf_cl.clSetKernelArg(kernel, i, sizeof launch->value[i], &launch->value[i]);
	return why;
}

static int opencl_run(void *opaque, unsigned number, const struct pf_launch *launch, struct pf_error *error)
{
	struct card *card = opaque;
	struct cu *cu = &card->cu[launch->kernel][number];
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
	return why == CL_SUCCESS ? 0 : fail(error, PF_E_DEVICE, "run failed", why);
}

static int opencl_abort(void *opaque, enum pf_kernel kernel, unsigned number)
{
	struct card *card = opaque;
	atomic_store(&card->cu[kernel][number].abort, 1);
	return 0;
}

const struct pf_backend pf_backend_opencl = {
	.name = "opencl", .open = opencl_open, .close = opencl_close, .alloc = opencl_alloc, .free = opencl_free,
	.copy = opencl_copy, .run = opencl_run, .abort = opencl_abort, .times = opencl_times,
};
