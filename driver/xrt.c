/* Backend "xrt": a card, or XRT's emulation of one, through XRT's native C API.
 * where = "" | index | BDF, e.g. "1" or "0000:03:00.1".
 *
 * The library is opened at run time, so the program starts where there is no XRT. Files are looked
 * for before XRT is called, because up to 2.15 it ends the process when it misses one. What XRT has
 * to say goes to a log of our own and from there into our errors. */
#define _GNU_SOURCE                            /* dladdr */
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <xrt/xrt_bo.h>
#include <xrt/xrt_device.h>
#include <xrt/xrt_kernel.h>
#include "prefpga/image.h"
#include "prefpga/internal/backend.h"
#include "xrt_log.h"
#include "xrt_place.h"
#include "xrt_pool.h"

int xrtIniStringSet(const char *key, const char *value);       /* its header is C++ before 2.14 */

#define XRT_CALLS(F) \
	F(xrtDeviceOpen) F(xrtDeviceOpenByBDF) F(xrtDeviceClose) F(xrtDeviceLoadXclbinFile) \
	F(xrtDeviceGetXclbinUUID) F(xrtPLKernelOpen) F(xrtKernelClose) F(xrtKernelArgGroupId) \
	F(xrtBOAlloc) F(xrtBOSubAlloc) F(xrtBOFree) F(xrtBOMap) F(xrtBOSync) F(xrtRunOpen) \
	F(xrtRunSetArg) F(xrtRunStart) F(xrtRunState) F(xrtRunClose) F(xrtIniStringSet)

#define RESET "; reset the card (xrt-smi reset)"
#define SYNC_BYTES_MAX ((uint64_t)1 << 30)     /* the emulation's shim counts in 32 bits */
enum { SPINS = 200, POLL_NS = 20000, POLL_ROUNDS = 16, POLL_DOUBLINGS = 6 };   /* up to 1.3 ms */

struct cu {
	xrtKernelHandle kernel;
	xrtRunHandle    run;           /* opened by the first run, used by all */
	atomic_int      abort;
	atomic_int      lost;          /* a run was given up: the unit still works at it */
};
struct card {
	xrtDeviceHandle   device;
	struct pf_image  *image;
	char              name[96];
	struct cu        *cu[PF_KERNEL_COUNT];
	uint32_t          cus[PF_KERNEL_COUNT];
	struct pf_memory *pool;        /* freed buffers */
};

/* ---- XRT itself: opened once, never closed, as its threads and destructors would not survive ---- */
static struct {
	pthread_once_t  once;
	struct pf_error error;         /* code 0: usable */
	char            path[PF_PATH_BYTES];   /* of the library, links followed */
#define XRT_MEMBER(name) __typeof__(name) *name;
	XRT_CALLS(XRT_MEMBER)
} xrt = { .once = PTHREAD_ONCE_INIT };

static void *open_library(void)
{
	static const char name[] = "libxrt_coreutil.so.2";
	char path[PF_PATH_BYTES];
	const char *root = getenv("XILINX_XRT");
	void *library = dlopen(name, RTLD_NOW);
	snprintf(path, sizeof path, "%s/lib/%s", root ? root : "/opt/xilinx/xrt", name);
	return library ? library : dlopen(path, RTLD_NOW);
}

static void load_xrt(void)
{
	Dl_info where;
	char real[PF_PATH_BYTES];
	void *library = open_library();
	if (!library) {
		pf_fail(&xrt.error, PF_E_ABSENT,
		        "XRT is not installed (%s): install libxrt1, or XRT from AMD", dlerror());
		return;
	}
#define XRT_FIND(name) \
	if (!(*(void **)&xrt.name = dlsym(library, #name))) \
		pf_fail(&xrt.error, PF_E_ABSENT, "this XRT lacks " #name ": install 2.13 or later");
	XRT_CALLS(XRT_FIND)
	if (xrt.error.code == 0 && dladdr((void *)xrt.xrtDeviceOpen, &where)
	    && realpath(where.dli_fname, real))
		snprintf(xrt.path, sizeof xrt.path, "%s", real);
	const char *log = xrt.error.code == 0 ? pf_xrt_log_open() : NULL;
	if (log)
		xrt.xrtIniStringSet("Runtime.runtime_log", log);
}

/* Fails with what XRT said behind `what` */
static int fail(struct pf_error *error, int code, const char *what, const char *remedy)
{
	char text[512];
	return pf_fail(error, code, "%s%s%s", what, pf_xrt_log_last(text, sizeof text), remedy);
}

/* ---- the environment ---- */
static struct pf_xrt_place find_place(void)
{
	const char *mode = getenv("XCL_EMULATION_MODE");
	return (struct pf_xrt_place) {
		.root = getenv("XILINX_XRT"), .vitis = getenv("XILINX_VITIS"), .library = xrt.path,
		.mode = mode && mode[0] ? mode : NULL,
	};
}

/* ---- images ---- */
static void default_image(const struct pf_xrt_place *place, char path[PF_PATH_BYTES])
{
	Dl_info self;
	int known = dladdr((void *)&pf_image_open, &self) != 0 && self.dli_fname;
	pf_xrt_place_image(place, known ? self.dli_fname : "", path);
}

static void log_mismatch(const struct pf_device_options *options, const struct pf_error *error)
{
	if (options->log)
		options->log(options->log_context, 1, error->text);
}

/* Kernels that do not match are reported and left out; an image of nothing else is refused */
static int take_kernels(struct card *card, const struct pf_device_options *options,
                        struct pf_error *error)
{
	const struct pf_image_kernel *kernel;
	int status = pf_fail(error, PF_E_IMAGE, "image %s has no kernel of this program",
	                     pf_image_facts(card->image)->path), taken = 0;
	for (unsigned i = 0; (kernel = pf_image_kernel(card->image, i)); i++) {
		struct pf_error why;
		if (kernel->kernel < 0 || !kernel->cus)
			continue;
		if (pf_image_check(card->image, kernel->kernel, &why) == 0) {
			card->cus[kernel->kernel] = kernel->cus;
			taken++;
			continue;
		}
		log_mismatch(options, &why);
		status = pf_fail(error, PF_E_IMAGE, "%s", why.text);
	}
	return taken ? 0 : status;
}

/* Reads the image before XRT sees it */
static int open_image(struct card *card, const struct pf_xrt_place *place,
                      const struct pf_device_options *options, struct pf_error *error)
{
	char path[PF_PATH_BYTES];
	default_image(place, path);
	if (!options->image && access(path, R_OK) != 0)
		return pf_fail(error, PF_E_ABSENT, "no image to load: none is named, and there is no %s",
		               path);
	int status = pf_image_open(options->image ? options->image : path, &card->image, error);
	if (status != 0)
		return status;
	const struct pf_image_facts *facts = pf_image_facts(card->image);
	int emulated = place->mode && strcmp(place->mode, "sw_emu") == 0;
	if (facts->emulated && !emulated)
		return pf_fail(error, PF_E_IMAGE, "image %s is for software emulation: run under "
		               "`prefpga emulate --`", facts->path);
	if (!facts->emulated && emulated)
		return pf_fail(error, PF_E_IMAGE, "image %s is for a card, not for software emulation",
		               facts->path);
	if (facts->numerics != PF_NUMERICS)
		return pf_fail(error, PF_E_IMAGE, "image %s has numerics version %u, this program %u: "
		               "build the image again", facts->path, facts->numerics, PF_NUMERICS);
	return take_kernels(card, options, error);
}

/* ---- opening ---- */
static int open_device(struct card *card, const struct pf_xrt_place *place, const char *where,
                       struct pf_error *error)
{
	char *end, text[128];
	unsigned long index = strtoul(where, &end, 10);
	int by_index = !where[0] || (!*end && index < 1024);
	if (place->mode && strcmp(place->mode, "sw_emu") == 0 && by_index && index)
		return pf_fail(error, PF_E_ABSENT, "software emulation has card 0 only, not %s", where);
	card->device = by_index ? xrt.xrtDeviceOpen((unsigned)index) : xrt.xrtDeviceOpenByBDF(where);
	snprintf(card->name, sizeof card->name, "XRT card %.40s%s", where[0] ? where : "0",
	         place->mode ? " (emulated)" : "");
	snprintf(text, sizeof text, "cannot open %s", card->name);
	return card->device ? 0 : fail(error, PF_E_ABSENT, text, "; `prefpga devices` lists cards");
}

/* Opens one compute unit by name, so that the core decides which one runs */
static int open_cu(struct card *card, const xuid_t uuid, int kernel, uint32_t number,
                   struct pf_error *error)
{
	char name[160];
	const char *both = pf_image_cu(card->image, kernel, number), *colon = strchr(both, ':');
	snprintf(name, sizeof name, "%.*s:{%s}", (int)(colon - both), both, colon + 1);
	card->cu[kernel][number].kernel = xrt.xrtPLKernelOpen(card->device, uuid, name);
	return card->cu[kernel][number].kernel ? 0 : fail(error, PF_E_IMAGE, name, "");
}

static int open_cus(struct card *card, struct pf_error *error)
{
	xuid_t uuid;
	if (xrt.xrtDeviceGetXclbinUUID(card->device, uuid) != 0)
		return fail(error, PF_E_DEVICE, "the loaded image has no identity", "");
	for (int k = 0; k < PF_KERNEL_COUNT; k++) {
		card->cu[k] = calloc(card->cus[k] + 1, sizeof *card->cu[k]);
		if (!card->cu[k])
			return pf_fail(error, -ENOMEM, "out of memory");
		for (uint32_t i = 0; i < card->cus[k]; i++) {
			int status = open_cu(card, uuid, k, i, error);
			if (status != 0)
				return status;
		}
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

/* keep: XRT's buffers stay as they are */
static void empty_pool(struct card *card, int keep)
{
	for (struct pf_memory *memory; (memory = pf_xrt_pool_any(&card->pool)); free(memory))
		if (!keep)
			xrt.xrtBOFree(memory->buffer);
}

static void close_cu(struct cu *cu)
{
	if (cu->run)
		xrt.xrtRunClose(cu->run);
	if (cu->kernel)
		xrt.xrtKernelClose(cu->kernel);
}

/* With a lost unit, XRT's handles stay open: XRT's scheduler goes on asking for the run's state, in
 * memory that closing would free. 2.13's emulation may therefore crash when the program ends */
static void xrt_close(void *opaque)
{
	struct card *card = opaque;
	int keep = lost(card);
	for (int k = 0; k < PF_KERNEL_COUNT; k++) {
		for (uint32_t i = 0; card->cu[k] && !keep && i < card->cus[k]; i++)
			close_cu(&card->cu[k][i]);
		free(card->cu[k]);
	}
	empty_pool(card, keep);
	if (card->device && !keep)
		xrt.xrtDeviceClose(card->device);
	pf_image_close(card->image);
	free(card);
}

static void fill_facts(const struct card *card, struct pf_device_facts *facts)
{
	const struct pf_image_facts *image = pf_image_facts(card->image);
	facts->backend = "xrt";
	facts->name = card->name;
	facts->variant = image->platform;
	facts->memory_bytes = image->memory_bytes;
	facts->numerics = image->numerics;
	facts->exact = 1;
}

static int load_image(struct card *card, struct pf_error *error)
{
	const char *path = pf_image_facts(card->image)->path;
	if (xrt.xrtDeviceLoadXclbinFile(card->device, path) == 0)
		return 0;
	return fail(error, PF_E_IMAGE, path,
	            "; is it built for the card's shell, and is no other program using the card?");
}

static int open_card(struct card *card, const struct pf_xrt_place *place,
                     const struct pf_backend_open *open, struct pf_error *error)
{
	int status = open_device(card, place, open->where, error);
	if (status == 0)
		status = open_image(card, place, open->options, error);
	if (status == 0)
		status = load_image(card, error);
	return status ? status : open_cus(card, error);
}

static int xrt_open(const struct pf_backend_open *open, void **opaque,
                    struct pf_device_facts *facts, uint32_t *cus, struct pf_error *error)
{
	pthread_once(&xrt.once, load_xrt);
	if (xrt.error.code != 0)
		return pf_fail(error, xrt.error.code, "%s", xrt.error.text);
	struct pf_xrt_place place = find_place();
	int status = pf_xrt_place_check(&place, error);
	if (status != 0)
		return status;
	struct card *card = calloc(1, sizeof *card);
	status = card ? open_card(card, &place, open, error)
	              : pf_fail(error, -ENOMEM, "out of memory");
	if (status != 0) {
		if (card)
			xrt_close(card);
		return status;
	}
	fill_facts(card, facts);
	memcpy(cus, card->cus, sizeof card->cus);
	*opaque = card;
	return 0;
}

/* ---- memory ---- */
/* Asks XRT for a buffer and its mapping; 0: there is none */
static int acquire(const struct card *card, struct pf_memory *memory)
{
	memory->buffer = xrt.xrtBOAlloc(card->device, memory->bytes, XRT_BO_FLAGS_NONE,
	                                (xrtMemoryGroup)memory->group);
	memory->host = memory->buffer ? xrt.xrtBOMap(memory->buffer) : NULL;
	if (memory->buffer && !memory->host)
		xrt.xrtBOFree(memory->buffer);
	return memory->host != NULL;
}

static int xrt_alloc(void *opaque, enum pf_kernel kernel, unsigned arg, uint64_t bytes,
                     struct pf_memory **memory, struct pf_error *error)
{
	struct card *card = opaque;
	char what[96];
	int group = xrt.xrtKernelArgGroupId(card->cu[kernel][0].kernel, (int)arg);
	uint64_t rounded = pf_xrt_pool_round(bytes);
	if ((*memory = pf_xrt_pool_take(&card->pool, rounded, group)))
		return 0;
	struct pf_memory *made = calloc(1, sizeof *made);
	if (!made)
		return pf_fail(error, -ENOMEM, "out of memory");
	made->bytes = rounded;
	made->group = group;
	if (group >= 0 && !acquire(card, made)) {
		empty_pool(card, 0);
		acquire(card, made);
	}
	if (made->host) {
		*memory = made;
		return 0;
	}
	free(made);
	snprintf(what, sizeof what, "cannot allocate %llu bytes", (unsigned long long)bytes);
	return fail(error, PF_E_MEMORY, what, "");
}

/* A lost unit may still touch the buffer: nobody else may get it, not even from XRT */
static void xrt_free(void *opaque, struct pf_memory *memory)
{
	struct card *card = opaque;
	if (lost(card))
		free(memory);
	else
		pf_xrt_pool_put(&card->pool, memory);
}

static int sync_part(const struct pf_memory *memory, enum pf_direction direction, uint64_t offset,
                     uint8_t *host, uint64_t bytes)
{
	if (direction == PF_TO_DEVICE) {
		memcpy(memory->host + offset, host, bytes);
		return xrt.xrtBOSync(memory->buffer, XCL_BO_SYNC_BO_TO_DEVICE, bytes, offset);
	}
	if (xrt.xrtBOSync(memory->buffer, XCL_BO_SYNC_BO_FROM_DEVICE, bytes, offset) != 0)
		return -1;
	memcpy(host, memory->host + offset, bytes);
	return 0;
}

static int xrt_copy(void *opaque, enum pf_direction direction, struct pf_memory *memory,
                    uint64_t offset, void *host, uint64_t bytes, struct pf_error *error)
{
	(void)opaque;
	for (uint64_t done = 0, part; done < bytes; done += part) {
		part = bytes - done < SYNC_BYTES_MAX ? bytes - done : SYNC_BYTES_MAX;
		if (sync_part(memory, direction, offset + done, (uint8_t *)host + done, part) != 0)
			return fail(error, PF_E_DEVICE, "copy failed", RESET);
	}
	return 0;
}

/* ---- runs ---- */
/* The part of a buffer that an argument gets; *part: a sub-buffer to free, if one was needed */
static xrtBufferHandle argument(const struct pf_launch *launch, unsigned i, xrtBufferHandle *part)
{
	xrtBufferHandle whole = launch->memory[i]->buffer;
	if (!launch->offset[i] || !launch->bytes[i])
		return whole;
	return *part = xrt.xrtBOSubAlloc(whole, launch->bytes[i], launch->offset[i]);
}

static int set_scalar(xrtRunHandle run, const struct pf_launch *launch, unsigned i)
{
	float value;
	memcpy(&value, &launch->value[i], sizeof value);
	if (pf_kernel_rows[launch->kernel].arg[i].is_float)
		return xrt.xrtRunSetArg(run, (int)i, (double)value);   /* as C promotes it */
	return xrt.xrtRunSetArg(run, (int)i, launch->value[i]);
}

static int set_args(xrtRunHandle run, const struct pf_launch *launch, xrtBufferHandle *part)
{
	for (unsigned i = 0; i < launch->count; i++) {
		xrtBufferHandle buffer = NULL;
		if (!launch->memory[i]) {
			if (set_scalar(run, launch, i) != 0)
				return -1;
			continue;
		}
		buffer = argument(launch, i, &part[i]);
		if (!buffer || xrt.xrtRunSetArg(run, (int)i, buffer) != 0)
			return -1;
	}
	return 0;
}

/* Spins briefly, as small runs take microseconds, then sleeps longer and longer. XRT's own waits
 * either poll without pause or ignore their limit */
static void pause_poll(unsigned round)
{
	if (round < SPINS) {
		sched_yield();
		return;
	}
	unsigned doublings = (round - SPINS) / POLL_ROUNDS;
	long ns = (long)POLL_NS << (doublings < POLL_DOUBLINGS ? doublings : POLL_DOUBLINGS);
	nanosleep(&(struct timespec) { 0, ns }, NULL);
}

static int finish(struct cu *cu, struct pf_error *error)
{
	enum ert_cmd_state state;
	for (unsigned round = 0;; round++) {
		state = xrt.xrtRunState(cu->run);
		if (state == ERT_CMD_STATE_COMPLETED)
			return 0;
		if (state > ERT_CMD_STATE_COMPLETED && state != ERT_CMD_STATE_SUBMITTED)
			break;
		if (atomic_load(&cu->abort)) {
			cu->lost = 1;
			return pf_fail(error, PF_E_TIMEOUT, "run given up; its unit goes on");
		}
		pause_poll(round);
	}
	char what[96];
	snprintf(what, sizeof what, "run ended in state %d (5 error, 6 abort, 8 timeout, "
	         "9 no response)", (int)state);
	return fail(error, PF_E_DEVICE, what, RESET);
}

static int xrt_run(void *opaque, unsigned number, const struct pf_launch *launch,
                   struct pf_error *error)
{
	struct card *card = opaque;
	struct cu *cu = &card->cu[launch->kernel][number];
	xrtBufferHandle part[PF_ARGS_MAX] = { NULL };
	int status = 0;
	if (cu->lost)
		return pf_fail(error, PF_E_DEVICE, "compute unit %u of %s hangs since a run was given "
		               "up" RESET, number, pf_kernel_rows[launch->kernel].name);
	atomic_store(&cu->abort, 0);
	if (!cu->run)
		cu->run = xrt.xrtRunOpen(cu->kernel);
	if (!cu->run || set_args(cu->run, launch, part) != 0)
		status = fail(error, PF_E_DEVICE, "arguments refused", "");
	else if (xrt.xrtRunStart(cu->run) != 0)
		status = fail(error, PF_E_DEVICE, "run refused", RESET);
	else
		status = finish(cu, error);
	for (unsigned i = 0; i < launch->count; i++)
		if (part[i] && !cu->lost)
			xrt.xrtBOFree(part[i]);
	return status;
}

/* The unit goes on, since no API stops it; only the wait ends */
static int xrt_abort(void *opaque, enum pf_kernel kernel, unsigned number)
{
	struct card *card = opaque;
	atomic_store(&card->cu[kernel][number].abort, 1);
	return 0;
}

const struct pf_backend pf_backend_xrt = {
	.name = "xrt", .open = xrt_open, .close = xrt_close, .alloc = xrt_alloc, .free = xrt_free,
	.copy = xrt_copy, .run = xrt_run, .abort = xrt_abort,
};
