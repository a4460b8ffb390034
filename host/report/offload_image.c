/* Which image of a card has the kernels of a head, and how many units of them it has room for: ports are counted
 * (units.h), logic is estimated (operations.def). */
#include <math.h>
#include "offload.h"
#include "prefpga/device.h"
#include "prefpga/internal/units.h"
#include "prefpga/internal/vitis.def"

static void set_units(uint64_t head, uint32_t count, uint32_t units[PF_KERNEL_COUNT])
{
	for (int k = 0; k < PF_KERNEL_COUNT; k++)
		units[k] = head >> k & 1 ? count : units[k];
}

/* Never on a card that nobody knows */
static int ports_fit(const char *card, const uint32_t units[PF_KERNEL_COUNT])
{
	struct pf_ports ports;
	return pf_ports_count(units, card, &ports, NULL) == 0 && pf_ports_fit(&ports);
}

static int logic_fits(const char *card, const uint32_t units[PF_KERNEL_COUNT])
{
	return !(pf_card_share(card, units, PF_KERNEL_COUNT, NULL) > PF_FULL_SHARE);
}

/* ---- the image of a head ---- */
static uint64_t kernels_of(enum pf_precision precision, enum pf_offload_head head)
{
	return head != PF_OFFLOAD_REFERENCE ? pf_kernel_set(pf_precision_kernels(precision))
	                                    : (uint64_t)1 << pf_precision_forward_kernel(precision);
}

/* What else a step of it runs */
static const char *beside(enum pf_offload_head head)
{
	return head == PF_OFFLOAD_REFERENCE ? "seq_sum"
	       : head == PF_OFFLOAD_RESIDENT ? "seq_sum pref head_adamw head_norm"
	                                     : "seq_sum pref";
}

/* Of the images that have what is needed the one that takes least of the card, or the first; -1: none has it */
static int find_image(const char *card, uint64_t needed)
{
	int best = -1;
	double least = INFINITY;
	for (unsigned i = 0; pf_image_name(i, NULL); i++) {
		uint32_t units[PF_KERNEL_COUNT];
		uint64_t has = 0;
		if (pf_image_units(i, units, NULL))
			continue;
		for (int k = 0; k < PF_KERNEL_COUNT; k++)
			has |= (uint64_t)(units[k] > 0) << k;
		const double share = pf_card_share(card, units, PF_KERNEL_COUNT, NULL);
		if ((has & needed) != needed || (best >= 0 && !(share < least)))
			continue;
		best = (int)i;
		least = share;
	}
	return best;
}

/* Units of the head's kernels beside the others of the image that one limit allows */
static uint32_t most_units(int (*fits)(const char *card, const uint32_t *units), const char *card, uint64_t head,
                           uint32_t units[PF_KERNEL_COUNT])
{
	uint32_t n = 0;
	for (; n < PF_OFFLOAD_UNITS; n++) {
		set_units(head, n + 1, units);
		if (!fits(card, units))
			break;
	}
	return n;
}

void pf_offload_find_image(const char *card, enum pf_precision precision, enum pf_offload_head what, uint32_t count,
                           struct pf_offload_image *image)
{
	const uint64_t head = kernels_of(precision, what);
	const int i = find_image(card, head | pf_kernel_set(beside(what)));
	uint32_t units[PF_KERNEL_COUNT];
	*image = (struct pf_offload_image){ .resource = "unknown", .share = NAN };
	if (i < 0 || pf_image_units((unsigned)i, units, NULL))
		return;
	image->name = pf_image_name((unsigned)i, NULL);
	image->by_ports = most_units(ports_fit, card, head, units);
	image->by_logic = most_units(logic_fits, card, head, units);
	image->units = image->by_ports < image->by_logic ? image->by_ports : image->by_logic;
	image->units = count ? count : image->units ? image->units : 1;
	set_units(head, image->units, units);
	image->share = pf_card_share(card, units, PF_KERNEL_COUNT, &image->resource);
	image->placed = image->units <= image->by_ports && !(image->share > PF_FULL_SHARE);
}
