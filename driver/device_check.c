/* What is checked of every operation before it is queued. */
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include "core.h"

/* ---- scalars ---- */
struct pf_limit { const char *name; uint32_t low, high; };
static const struct pf_limit limits[] = {              /* by name, for every kernel that has such a scalar */
	{ "rows", 0, PF_ROWS_MAX }, { "vocab", 1, PF_VOCAB_MAX }, { "seqs", 0, PF_SEQS_MAX },
	{ "items", 0, PF_ITEMS_MAX }, { "groups", 0, PF_ITEMS_MAX }, { "words", PF_PROG_CODE, PF_PROG_MAX },
	{ "flags", 0, PF_WANT_STATS }, { "mode", 0, PF_LINEAR_MODES }, { "depth", 1, PF_DEPTH_MAX },
};

static int PF_PRINTF(4, 5) pf_fail_run(struct pf_work *work, int code, const struct pf_arg_row *arg,
                                       const char *format, ...)
{
	const struct pf_kernel_row *row = &pf_kernel_rows[work->launch.kernel];
	char what[512];
	va_list list;
	va_start(list, format);
	vsnprintf(what, sizeof what, format, list);
	va_end(list);
	return pf_fail(&work->error, code, "%s: kernel %s, argument %d (%s): %s", work->device->facts.name, row->name,
	               (int)(arg - row->arg), arg->name, what);
}

static int pf_check_scalar(struct pf_work *work, const struct pf_arg_row *arg, const struct pf_arg *given)
{
	uint32_t value = given->val.u32;
	if (given->buf)
		return pf_fail_run(work, PF_E_ARGUMENT, arg, "is a scalar, not a buffer");
	if (arg->is_float && !isfinite(given->val.f32))
		return pf_fail_run(work, PF_E_NOT_FINITE, arg, "is not a finite number");
	for (size_t i = 0; i < sizeof limits / sizeof *limits; i++)
		if (strcmp(limits[i].name, arg->name) == 0 && (value < limits[i].low || value > limits[i].high))
			return pf_fail_run(work, PF_E_RANGE, arg,
			                   "is %" PRIu32 ", must lie in %" PRIu32 "..%" PRIu32 " for one launch", value,
			                   limits[i].low, limits[i].high);
	return 0;
}

static const struct pf_arg_row *pf_arg_named(const struct pf_kernel_row *row, const char *name)
{
	for (unsigned i = 0; i < row->count; i++)
		if (strcmp(row->arg[i].name, name) == 0)
			return &row->arg[i];
	return NULL;
}

/* Scalars that bound each other */
static int pf_check_shape(struct pf_work *work, const struct pf_kernel_row *row)
{
	const struct pf_arg_row *stride = pf_arg_named(row, "stride"), *vocab = pf_arg_named(row, "vocab");
	const struct pf_arg_row *items = pf_arg_named(row, "items"), *groups = pf_arg_named(row, "groups");
	const struct pf_arg_row *depth = pf_arg_named(row, "depth");
	const uint32_t *value = work->launch.value;
	if (stride && vocab && row->lanes) {
		uint32_t v = value[vocab - row->arg], have = value[stride - row->arg];
		uint32_t beats = (v + row->lanes - 1) / row->lanes;
		if (have < beats)
			return pf_fail_run(work, PF_E_SHAPE, stride,
			                   "is %" PRIu32 " beats, but rows of %" PRIu32 " elements need %" PRIu32,
			                   have, v, beats);
	}
	if (depth && value[depth - row->arg] > PF_DEPTH_MAX * 16 / row->lanes)
		return pf_fail_run(work, PF_E_RANGE, depth, "is %" PRIu32 ", must lie in 1..%u: rows of %u elements",
		                   value[depth - row->arg], PF_DEPTH_MAX * 16 / row->lanes, PF_DEPTH_MAX * 16);
	if (items && groups && value[groups - row->arg] > value[items - row->arg])
		return pf_fail_run(work, PF_E_SHAPE, groups, "is %" PRIu32 ", more than the %" PRIu32 " items",
		                   value[groups - row->arg], value[items - row->arg]);
	return 0;
}

/* ---- memory ---- */
static int pf_check_region(struct pf_work *work, const struct pf_arg_row *arg, const struct pf_arg *given,
                           uint64_t bytes)
{
	static const char *const bank[] = { "STREAM", "WEIGHT", "SMALL" };
	const struct pf_buf *buf = given->buf;
	if (!buf)
		return pf_fail_run(work, PF_E_ARGUMENT, arg, "no buffer");
	if (buf->device != work->device)
		return pf_fail_run(work, PF_E_ARGUMENT, arg, "the buffer belongs to another device");
	if (buf->bank != arg->bank)
		return pf_fail_run(work, PF_E_ARGUMENT, arg,
		                   "the buffer lies in bank class %s, the argument reaches %s; allocate it for "
		                   "this argument", bank[buf->bank], bank[arg->bank]);
	if (given->offset % PF_PAGE_BYTES)
		return pf_fail_run(work, PF_E_ARGUMENT, arg, "offset %" PRIu64 " is not a multiple of %u",
		                   given->offset, PF_PAGE_BYTES);
	if (given->offset > buf->bytes || bytes > buf->bytes - given->offset)
		return pf_fail_run(work, PF_E_SHAPE, arg,
		                   "%s %s of %" PRIu32 " bytes are %" PRIu64 " bytes from offset %" PRIu64
		                   " on, the buffer has %" PRIu64,
		                   arg->count, arg->ctype, arg->size, bytes, given->offset, buf->bytes);
	return 0;
}

static int pf_check_memory(struct pf_work *work, const struct pf_arg_row *arg, unsigned i, const struct pf_arg *given)
{
	struct pf_launch *launch = &work->launch;
	uint64_t bytes = pf_kernel_rows[launch->kernel].elements(i, launch->value) * arg->size;
	int code = pf_check_region(work, arg, given, bytes);
	if (code)
		return code;
	work->buf[i] = given->buf;
	launch->memory[i] = given->buf->memory;
	launch->offset[i] = given->offset;
	launch->bytes[i] = bytes;
	work->beats += (bytes + PF_BEAT_BYTES - 1) / PF_BEAT_BYTES * (arg->dir == PF_DIR_INOUT ? 2 : 1) *
	               pf_kernel_passes(launch->kernel, i, launch->value);
	return 0;
}

static int pf_overlap(const struct pf_launch *l, unsigned i, unsigned j)
{
	return l->memory[i] && l->memory[i] == l->memory[j] && l->offset[i] < l->offset[j] + l->bytes[j] &&
	       l->offset[j] < l->offset[i] + l->bytes[i];
}

/* Regions may overlap if nobody writes them, or if one input and one output are the same region (in place) */
static int pf_check_overlap(struct pf_work *work, const struct pf_kernel_row *row, unsigned i, unsigned j)
{
	const struct pf_arg_row *a = &row->arg[i], *b = &row->arg[j];
	const struct pf_launch *l = &work->launch;
	if (!pf_overlap(l, i, j) || (a->dir == PF_DIR_IN && b->dir == PF_DIR_IN))
		return 0;
	if (a->dir != b->dir && a->dir != PF_DIR_INOUT && b->dir != PF_DIR_INOUT && strcmp(a->ctype, b->ctype) == 0 &&
	    l->offset[i] == l->offset[j] && l->bytes[i] == l->bytes[j])
		return 0;
	return pf_fail_run(work, PF_E_ARGUMENT, b, "overlaps argument %u (%s), and one of them is written", i, a->name);
}

static int pf_check_args(struct pf_work *work, const struct pf_kernel_row *row, const struct pf_arg *args)
{
	int code = 0;
	for (unsigned i = 0; i < row->count && code == 0; i++)
		if (row->arg[i].dir == PF_DIR_VAL) {
			work->launch.value[i] = args[i].val.u32;
			code = pf_check_scalar(work, &row->arg[i], &args[i]);
		}
	if (code == 0)
		code = pf_check_shape(work, row);
	for (unsigned i = 0; i < row->count && code == 0; i++)
		if (row->arg[i].dir != PF_DIR_VAL)
			code = pf_check_memory(work, &row->arg[i], i, &args[i]);
	for (unsigned i = 0; i < row->count && code == 0; i++)
		for (unsigned j = i + 1; j < row->count && code == 0; j++)
			code = pf_check_overlap(work, row, i, j);
	return code;
}

int pf_check_run(struct pf_work *work, int kernel, const struct pf_arg *args, unsigned count)
{
	const char *name = work->device->facts.name;
	if (kernel < 0 || kernel >= PF_KERNEL_COUNT)
		return pf_fail(&work->error, PF_E_ARGUMENT, "%s: there is no kernel number %d", name, kernel);
	const struct pf_kernel_row *row = &pf_kernel_rows[kernel];
	if (work->device->cus[kernel] == 0)
		return pf_fail(&work->error, PF_E_UNSUPPORTED, "%s: kernel %s is not in this image", name, row->name);
	if (count != row->count || !args)
		return pf_fail(&work->error, PF_E_ARGUMENT, "%s: kernel %s takes %u arguments, not %u", name, row->name,
		               row->count, args ? count : 0);
	work->queue = (unsigned)kernel;
	work->launch.kernel = (enum pf_kernel)kernel;
	work->launch.count = count;
	return pf_check_args(work, row, args);
}

int pf_check_copy(struct pf_work *work, struct pf_buf *buf, uint64_t offset, const void *host, uint64_t bytes)
{
	const char *name = work->device->facts.name;
	if (!host && bytes)
		return pf_fail(&work->error, PF_E_ARGUMENT, "%s: copy of %" PRIu64 " bytes without host memory", name,
		               bytes);
	if (offset > buf->bytes || bytes > buf->bytes - offset)
		return pf_fail(&work->error, PF_E_RANGE, "%s: copy of %" PRIu64 " bytes at offset %" PRIu64
		               " leaves the buffer of %" PRIu64 " bytes", name, bytes, offset, buf->bytes);
	work->buf[0] = buf;
	work->host = (void *)host;
	work->launch.memory[0] = buf->memory;
	work->launch.offset[0] = offset;
	work->launch.bytes[0] = bytes;
	if (bytes)
		work->beats = (offset + bytes - 1) / PF_BEAT_BYTES - offset / PF_BEAT_BYTES + 1;
	return 0;
}
