/* Slots of a head whose logits cross the link: how many, how large, and where logits wait on their way. */
#include "head_logits_inside.h"
#include <errno.h>
#include <stdlib.h>
#include "prefpga/internal/kernels.h"

void pf_head_slot_close(struct slot *s)
{
	struct pf_buf *all[] = { s->z, s->target, s->span, s->row, s->seq, s->item, s->coef };
	for (size_t i = 0; i < sizeof all / sizeof *all; i++)
		pf_buf_free(all[i]);
	free(s->host_span);
	free(s->host_seq);
	free(s->host_item);
}

int pf_head_slot_open(struct pf_head_logits *h, struct slot *s, struct pf_error *error)
{
	const uint64_t rows = h->rows;
	const struct { struct pf_buf **buf; int kernel, arg; uint64_t bytes; } want[] = {
		{ &s->z, PF_KERNEL_logprob, PF_ARG_logprob_z, rows * pf_head_row_bytes(h) },
		{ &s->target, PF_KERNEL_logprob, PF_ARG_logprob_target, rows * sizeof(int32_t) },
		{ &s->row, PF_KERNEL_logprob, PF_ARG_logprob_out, rows * sizeof(struct pf_row) },
		{ &s->coef, PF_KERNEL_coef, PF_ARG_coef_out, rows * sizeof(float) },
		{ &s->span, PF_KERNEL_seq_sum, PF_ARG_seq_sum_span, rows * sizeof(struct pf_span) },
		{ &s->seq, PF_KERNEL_seq_sum, PF_ARG_seq_sum_out, rows * sizeof(struct pf_seq) },
		{ &s->item, PF_KERNEL_coef, PF_ARG_coef_item, rows * sizeof(struct pf_item_out) },
	};
	for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
		int code = pf_buf_alloc(s->device, want[i].kernel, (unsigned)want[i].arg, want[i].bytes, want[i].buf,
		                        error);
		if (code)
			return code;
	}
	return 0;
}

static uint64_t slot_bytes(const struct pf_head_logits *h)
{
	return h->rows * (pf_head_row_bytes(h) + sizeof(int32_t) + sizeof(struct pf_row) + sizeof(float) +
	                  sizeof(struct pf_span) + sizeof(struct pf_seq) + sizeof(struct pf_item_out)) +
	       7 * PF_PAGE_BYTES;
}

/* Rows of a block: a power of two, about BLOCK_BYTES of logits, fewer if three blocks would not fit the memory given */
static void choose_shape(struct pf_head_logits *h, uint64_t memory_bytes, unsigned devices)
{
	h->rows = ROWS_MOST;
	while (h->rows > ROWS_LEAST &&
	       (h->rows * pf_head_row_bytes(h) > BLOCK_BYTES || slot_bytes(h) * STAGES > memory_bytes))
		h->rows /= 2;
	uint64_t slots = memory_bytes / slot_bytes(h);
	h->slots = (uint32_t)(slots > 4096 ? 4096 : slots) * devices;
}

static int open_stages(struct pf_head_logits *h, struct pf_error *error)
{
	int mapped = 1;
	for (uint32_t i = 0; i < h->slots; i++)
		mapped &= h->slot[i].mapped;
	for (int i = 0; !mapped && i < STAGES; i++) {
		h->stage[i].z = calloc(h->rows, pf_head_row_bytes(h));
		if (!h->stage[i].z)
			return pf_fail(error, -ENOMEM, "no memory for staging blocks of %u rows", h->rows);
	}
	return 0;
}

int pf_head_slots_open(struct pf_head_logits *h, const struct pf_head_options *o, struct pf_error *error)
{
	uint64_t memory = o->memory_bytes ? o->memory_bytes : UINT64_MAX;
	for (unsigned i = 0; i < o->devices; i++) {
		uint64_t half = pf_device_facts(o->device[i])->memory_bytes / 2;
		memory = half < memory && !o->memory_bytes ? half : memory;
	}
	choose_shape(h, memory, o->devices);
	if (h->slots < STAGES * o->devices)
		return pf_fail(error, PF_E_MEMORY,
		               "%llu bytes of device memory do not hold three blocks of %u rows of %u "
		               "logits (%llu each); give --card-memory more",
		               (unsigned long long)memory, h->rows, h->vocab, (unsigned long long)slot_bytes(h));
	h->slot = calloc(h->slots, sizeof *h->slot);
	if (!h->slot)
		return pf_fail(error, -ENOMEM, "no memory for %u blocks", h->slots);
	for (uint32_t i = 0; i < h->slots; i++) {
		h->slot[i].device = o->device[i % o->devices];
		h->slot[i].mapped = pf_device_facts(h->slot[i].device)->host_visible;
	}
	return open_stages(h, error);
}
