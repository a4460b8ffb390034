/* Any launch of any built kernel on the simulated card, over any contents of its memory: either refused with a reason,
 * or it ends, and touches nothing outside of the regions that kernels.def declares (guards, and ASan's poison).
 * Input: kernel; per argument a size tweak or a scalar; then bytes that fill all memory, over and over. */
#include <stdlib.h>
#include <string.h>
#include "prefpga/internal/backend.h"

enum { MOST = 96 };                    /* of most scalars, to keep launches small */

struct bytes { const uint8_t *at; size_t left; };

static uint32_t take(struct bytes *b, size_t n)
{
	uint32_t value = 0;
	for (; n > 0 && b->left > 0; n--, b->at++, b->left--)
		value = value << 8 | *b->at;
	return value;
}

/* The highest bit of the first byte asks for any value at all */
static uint32_t take_scalar(struct bytes *b, const struct pf_arg_row *row)
{
	uint32_t head = take(b, 1);
	if (head & 128)
		return take(b, 4);
	if (row->is_float) {
		float value = (float)head / 16;
		memcpy(&head, &value, sizeof head);
		return head;
	}
	if (strcmp(row->name, "words") == 0)
		return PF_PROG_CODE + head;
	if (strcmp(row->name, "flags") == 0)
		return head & 1;
	return strcmp(row->name, "vocab") == 0    ? 1 + head * 2
	       : strcmp(row->name, "stride") == 0 ? 1 + head / 4
	                                          : head % MOST;
}

static void fill(struct pf_buf *buf, const struct bytes *from)
{
	const uint64_t bytes = pf_buf_bytes(buf);
	unsigned char *host = malloc(bytes);
	struct pf_ticket ticket = { 0 };
	if (!host)
		abort();
	for (uint64_t i = 0; i < bytes; i++)
		host[i] = from->left ? from->at[i % from->left] : 0;
	if (pf_copy_in(buf, 0, host, bytes, NULL, &ticket) || pf_wait(&ticket, NULL))
		abort();
	free(host);
}

static void launch(struct pf_device *device, int kernel, struct pf_arg *arg)
{
	const struct pf_kernel_row *row = &pf_kernel_rows[kernel];
	struct pf_ticket run = { 0 }, out = { 0 };
	struct pf_error error = { 0 };
	pf_run(device, kernel, arg, row->count, NULL, &run);
	if (pf_wait(&run, &error)) {
		if (!error.text[0] || run.status == PF_E_DEVICE || run.status == PF_E_TIMEOUT)
			abort();
		return;
	}
	for (unsigned i = 0; i < row->count; i++) {
		if (row->arg[i].dir != PF_DIR_OUT)
			continue;
		uint64_t bytes = pf_buf_bytes(arg[i].buf);
		char *host = malloc(bytes);
		if (!host || pf_copy_out(arg[i].buf, 0, host, bytes, NULL, &out) || pf_wait(&out, NULL))
			abort();
		free(host);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct pf_device *device;
	struct bytes b = { data, size };
	struct pf_arg arg[PF_ARGS_MAX] = { { 0 } };
	uint32_t value[PF_ARGS_MAX] = { 0 };
	if (!device && pf_device_open("sim", NULL, &device, NULL))
		abort();
	int kernel = (int)(take(&b, 1) % PF_KERNEL_COUNT);
	const struct pf_kernel_row *row = &pf_kernel_rows[kernel];
	if (!row->built)
		return 0;
	for (unsigned i = 0; i < row->count; i++)
		if (row->arg[i].dir == PF_DIR_VAL)
			value[i] = arg[i].val.u32 = take_scalar(&b, &row->arg[i]);
	for (unsigned i = 0; i < row->count; i++) {
		if (row->arg[i].dir == PF_DIR_VAL)
			continue;
		uint64_t bytes = row->elements(i, value) * row->arg[i].size + take(&b, 1) % 16 / 14;
		if (bytes == 0 || bytes > 4 << 20)
			bytes = 64;
		if (pf_buf_alloc(device, kernel, i, bytes, &arg[i].buf, NULL))
			abort();
	}
	for (unsigned i = 0; i < row->count; i++)
		if (arg[i].buf)
			fill(arg[i].buf, &b);
	launch(device, kernel, arg);
	for (unsigned i = 0; i < row->count; i++)
		pf_buf_free(arg[i].buf);
	return 0;
}
