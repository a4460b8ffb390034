/* Backend "opencl": a card, or XRT's emulation of one, through XRT's OpenCL and the ICD loader.
 * where = "" | index | BDF, as for xrt.
 *
 * One out-of-order queue with profiling: the core decides what may run when, so the queue needs no order of its own,
 * and events say when an operation really ran. Extensions of XRT's: a buffer is made for a kernel's argument, which
 * places it; a kernel object names its compute unit. Opening and closing; opencl_work.c does the rest. */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "opencl_card.h"
#include "xrt_library.h"

enum { PLATFORMS_MAX = 16, DEVICES_MAX = 32 };

static pthread_mutex_t parked_lock = PTHREAD_MUTEX_INITIALIZER;
static struct pf_cl_card *parked;

int pf_cl_fail(struct pf_error *error, int code, const char *what, cl_int why)
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

static int find_device(struct pf_cl_card *card, const char *where, struct pf_error *error)
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

static int load_program(struct pf_cl_card *card, struct pf_error *error)
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
	return card->program ? 0 : pf_cl_fail(error, PF_E_IMAGE, path, status ? status : why);
}

static int open_context(struct pf_cl_card *card, struct pf_error *error)
{
	cl_int why;
	card->context = pf_cl.clCreateContext(NULL, 1, &card->device, NULL, NULL, &why);
	if (!card->context)
		return pf_cl_fail(error, PF_E_ABSENT, card->name, why);
	card->queue = pf_cl.clCreateCommandQueue(card->context, card->device, CL_QUEUE_OUT_OF_ORDER_EXEC_MODE_ENABLE
	                                         | CL_QUEUE_PROFILING_ENABLE, &why);
	return card->queue ? 0 : pf_cl_fail(error, PF_E_DEVICE, card->name, why);
}

static int open_kernel(struct pf_cl_card *card, int kernel, uint32_t number, cl_kernel *opened, struct pf_error *error)
{
	char name[160];
	cl_int why;
	pf_card_image_cu(card->image, kernel, number, name, sizeof name);
	*opened = pf_cl.clCreateKernel(card->program, name, &why);
	return *opened ? 0 : pf_cl_fail(error, PF_E_IMAGE, name, why);
}

static int open_cus(struct pf_cl_card *card, struct pf_error *error)
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

/* After a failed opening: nothing has run yet */
static void release(struct pf_cl_card *card)
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
	struct pf_cl_card *card = opaque;
	pthread_mutex_lock(&parked_lock);
	card->next = parked;
	parked = card;
	pthread_mutex_unlock(&parked_lock);
}

/* A parked card on the same device with the same image, or NULL */
static struct pf_cl_card *take_parked(const struct pf_cl_card *wanted)
{
	pthread_mutex_lock(&parked_lock);
	struct pf_cl_card **at = &parked, *found;
	while (*at && ((*at)->device != wanted->device || pf_cl_lost(*at)
	               || strcmp(pf_image_facts((*at)->image)->uuid, pf_image_facts(wanted->image)->uuid) != 0))
		at = &(*at)->next;
	if ((found = *at))
		*at = found->next;
	pthread_mutex_unlock(&parked_lock);
	return found;
}

static int open_card(struct pf_cl_card **opened, const struct pf_xrt_place *place, const struct pf_backend_open *open,
                     struct pf_error *error)
{
	struct pf_cl_card *card = *opened, *before;
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
	if (status == 0 && pf_cl_ran())
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
	struct pf_cl_card *card = calloc(1, sizeof *card);
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

const struct pf_backend pf_backend_opencl = {
	.name = "opencl", .open = opencl_open, .close = opencl_close, .alloc = pf_cl_alloc, .free = pf_cl_free,
	.copy = pf_cl_copy, .run = pf_cl_run, .abort = pf_cl_abort, .times = pf_cl_times,
};
