/* A stand-in for XRT's native library (libxrt_coreutil.so.2) with two cards, for what its emulation has not: cards with
 * addresses, and failures with the texts of XRT's drivers. It computes kernel coef; any other run ends without doing
 * anything. Buffers have two sides, so that a copy that was forgotten shows, and a buffer of one card is refused by the
 * other. Signatures are XRT's; its headers belong to driver/xrt_library.h alone. */
#define _GNU_SOURCE                    /* strdup */
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "tests/fake_xrt.h"

#define API __attribute__((visibility("default")))
enum { CARDS = 2, ARGS = 32, COMPLETED = 4, TO_CARD = 0 };

struct buffer { struct fake_card *card; uint8_t *host, *memory; size_t bytes; int of_caller, is_part; };
struct kernel { struct fake_card *card; int is_coef; };
struct run { struct kernel *kernel; struct buffer *buffer[ARGS]; uint32_t value[ARGS]; float tail; int state; };

static struct fake_card cards[CARDS] = { { .bdf = "0000:3b:00.1" }, { .bdf = "0000:af:00.1" } };
static char log_path[64], failing[64], says[256];
static int fails, state_of_runs;

API struct fake_card *fake_xrt_card(unsigned i)
{
	return i < CARDS ? &cards[i] : NULL;
}

API void fake_xrt_fail(const char *call, int times, const char *text, int state)
{
	snprintf(failing, sizeof failing, "%s", call);
	snprintf(says, sizeof says, "%s", text);
	fails = times;
	state_of_runs = state;
}

/* Does this call fail? Then XRT says why, in its log */
static int failed(const char *call)
{
	if (!fails || strcmp(call, failing) != 0)
		return 0;
	fails--;
	FILE *log = fopen(log_path, "a");
	if (log) {
		fprintf(log, "[Tue Nov 24 12:00:00 2026 GMT] [XRT] Tid: 4711,  ERROR: %s\n", says);
		fclose(log);
	}
	return 1;
}

/* ---- devices ---- */
API int xrtIniStringSet(const char *key, const char *value)
{
	if (strcmp(key, "Runtime.runtime_log") == 0)
		snprintf(log_path, sizeof log_path, "%s", value);
	return 0;
}

API void *xrtDeviceOpen(unsigned index)
{
	if (index >= CARDS || failed("xrtDeviceOpen"))
		return NULL;
	cards[index].open++;
	return &cards[index];
}

API void *xrtDeviceOpenByBDF(const char *bdf)
{
	for (unsigned i = 0; i < CARDS; i++)
		if (strcmp(cards[i].bdf, bdf) == 0)
			return xrtDeviceOpen(i);
	return NULL;
}

API int xrtDeviceClose(void *card)
{
	((struct fake_card *)card)->open--;
	return 0;
}

API int xrtDeviceLoadXclbinFile(void *card, const char *path)
{
	FILE *file = fopen(path, "rb");
	(void)card;
	if (file)
		fclose(file);
	return !file || failed("xrtDeviceLoadXclbinFile") ? -1 : 0;
}

API int xrtDeviceGetXclbinUUID(void *card, unsigned char uuid[16])
{
	(void)card;
	memset(uuid, 7, 16);
	return 0;
}

/* ---- kernels ---- */
API void *xrtPLKernelOpen(void *card, const unsigned char uuid[16], const char *name)
{
	struct kernel *kernel = failed("xrtPLKernelOpen") ? NULL : calloc(1, sizeof *kernel);
	(void)uuid;
	if (kernel)
		*kernel = (struct kernel){ card, strncmp(name, "pf_k_coef:", 10) == 0 };
	return kernel;
}

API int xrtKernelClose(void *kernel)
{
	free(kernel);
	return 0;
}

API int xrtKernelArgGroupId(void *kernel, int arg)
{
	(void)kernel, (void)arg;
	return 0;
}

/* ---- buffers ---- */
static void *new_buffer(void *card, void *host, size_t bytes, const char *call)
{
	struct buffer *buffer = failed(call) ? NULL : calloc(1, sizeof *buffer);
	if (buffer)
		*buffer = (struct buffer){ card, host ? host : calloc(1, bytes), calloc(1, bytes), bytes, host != NULL,
			                   0 };
	return buffer;
}

API void *xrtBOAlloc(void *card, size_t bytes, uint64_t flags, uint32_t group)
{
	(void)flags, (void)group;
	return new_buffer(card, NULL, bytes, "xrtBOAlloc");
}

API void *xrtBOAllocUserPtr(void *card, void *host, size_t bytes, uint64_t flags, uint32_t group)
{
	(void)flags, (void)group;
	return new_buffer(card, host, bytes, "xrtBOAllocUserPtr");
}

API void *xrtBOSubAlloc(void *whole, size_t bytes, size_t offset)
{
	struct buffer *part = malloc(sizeof *part);
	*part = *(struct buffer *)whole;
	part->host += offset;
	part->memory += offset;
	part->bytes = bytes;
	part->is_part = 1;
	return part;
}

API int xrtBOFree(void *handle)
{
	struct buffer *buffer = handle;
	if (!buffer->is_part) {
		free(buffer->of_caller ? NULL : buffer->host);
		free(buffer->memory);
	}
	free(buffer);
	return 0;
}

API void *xrtBOMap(void *handle)
{
	return ((struct buffer *)handle)->host;
}

API int xrtBOSync(void *handle, int direction, size_t bytes, size_t offset)
{
	struct buffer *b = handle;
	if (offset > b->bytes || bytes > b->bytes - offset || failed("xrtBOSync"))
		return -1;
	if (direction == TO_CARD)
		memcpy(b->memory + offset, b->host + offset, bytes);
	else
		memcpy(b->host + offset, b->memory + offset, bytes);
	__atomic_add_fetch(direction == TO_CARD ? &b->card->bytes_in : &b->card->bytes_out, bytes, __ATOMIC_RELAXED);
	return 0;
}

/* ---- runs ---- */
API void *xrtRunOpen(void *kernel)
{
	struct run *run = calloc(1, sizeof *run);
	run->kernel = kernel;
	return run;
}

API int xrtRunClose(void *run)
{
	free(run);
	return 0;
}

/* Arguments of coef: three buffers, two integers, a float that C hands on as a double */
API int xrtRunSetArg(void *handle, int index, ...)
{
	struct run *run = handle;
	va_list list;
	if (index < 0 || index >= ARGS || !run->kernel->is_coef)
		return index < 0 || index >= ARGS ? -1 : 0;
	va_start(list, index);
	if (index < 3)
		run->buffer[index] = va_arg(list, void *);
	else if (index < 5)
		run->value[index] = va_arg(list, uint32_t);
	else
		run->tail = (float)va_arg(list, double);
	va_end(list);
	return index < 3 && run->buffer[index]->card != run->kernel->card ? -1 : 0;
}

static void run_coef(const struct run *run)
{
	const uint32_t *span = (const uint32_t *)(const void *)run->buffer[1]->memory;
	float *out = (float *)(void *)run->buffer[2]->memory;
	memset(out, 0, run->value[3] * sizeof *out);
	for (uint32_t q = 0; q < run->value[4]; q++) {
		double grad;
		memcpy(&grad, run->buffer[0]->memory + q * 32 + 8, sizeof grad);
		for (uint32_t t = span[4 * q]; t < span[4 * q + 1] && t < run->value[3]; t++)
			out[t] = (float)(-grad * (t < span[4 * q + 2] ? 1.0 : (double)run->tail));
	}
}

API int xrtRunStart(void *handle)
{
	struct run *run = handle;
	if (failed("xrtRunStart"))
		return -1;
	run->state = failed("xrtRunState") ? state_of_runs : COMPLETED;
	if (run->state == COMPLETED && run->kernel->is_coef)
		run_coef(run);
	__atomic_add_fetch(&run->kernel->card->runs, 1, __ATOMIC_RELAXED);
	return 0;
}

API int xrtRunState(void *run)
{
	return ((struct run *)run)->state;
}
