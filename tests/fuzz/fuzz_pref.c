/* Kernel pref on hostile tables: whatever program, group table and numbers, it stays within its buffers, which have
 * exactly the sizes it was told, and its results are finite or marked. */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include "prefpga/internal/kernels.h"
PF_KERNELS(PF_PROTOTYPE)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct input { const uint8_t *data; size_t size; };

/* The next bytes of the input; zeros after its end */
static void *take(struct input *in, size_t bytes)
{
	uint8_t *block = malloc(bytes ? bytes : 1);
	size_t have = in->size < bytes ? in->size : bytes;
	if (!block)
		abort();
	memcpy(block, in->data, have);
	memset(block + have, 0, bytes - have);
	in->data += have;
	in->size -= have;
	return block;
}

static uint32_t take_byte(struct input *in)
{
	uint8_t *byte = take(in, 1);
	uint32_t value = *byte;
	free(byte);
	return value;
}

static void check(const struct pf_item_out *out, uint32_t items)
{
	for (uint32_t i = 0; i < items; i++) {
		int marked = out[i].status != 0;
		if (!isfinite(out[i].grad) || isnan(out[i].loss) != marked || isinf(out[i].loss) ||
		    (marked && out[i].grad != 0))
			abort();
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = { data, size };
	uint32_t items = take_byte(&in) % 33, groups = take_byte(&in) % 17, words = take_byte(&in) % 129;
	uint32_t *prog = take(&in, words * sizeof *prog), *group = take(&in, (groups + 1) * sizeof *group);
	double *par = take(&in, PF_PAR_COUNT * sizeof *par);
	struct pf_item *item = take(&in, items * sizeof *item);
	struct pf_item_out *out = calloc(items + !items, sizeof *out);
	if (!out)
		abort();
	PF_KERNEL_NAME(pref)(par, prog, item, group, out, words, items, groups);
	check(out, items);
	free(prog);
	free(group);
	free(par);
	free(item);
	free(out);
	return 0;
}
