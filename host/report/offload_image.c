/* Which image of a card has the kernels of a head, and how many units of them it has room for: arithmetic from
 * kernels.def for ports, as bitstreams/layout.c does it for links, and the estimates of operations.def for logic. */
#include <math.h>
#include <string.h>
#include "offload.h"
#include "prefpga/device.h"
#include "prefpga/internal/cards.def"
#include "prefpga/internal/kernels.h"
#include "prefpga/internal/vitis.def"

enum { STREAM, WEIGHT, SMALL, CLASSES };
/* Bundles by number; scalars have no port */
enum {
	gmem0,
	gmem1,
	gmem2,
	gmem3,
	gmem4,
	gmem5,
	gmem6,
	gmem7,
	gmem8,
	gmem9,
	gmem10,
	gmem11,
	gmem12,
	gmem13,
	gmem14,
	gmem15,
	gmem16,
	gmem17,
	gmem18,
	gmem19,
	control = 0
};

#define PORT_BITS(kernel, name, dir, ctype, ports, bundle, bank, count) bits[bank] |= ((1u << (ports)) - 1) << (bundle)
#define SEMICOLON()                                                     ;
#define PORTS_OF(kernel, file, state, lanes, brief)                                                                    \
	static void ports_##kernel(uint32_t bits[CLASSES])                                                             \
	{                                                                                                              \
		PF_ARGS_##kernel(PORT_BITS, SEMICOLON);                                                                \
	}
PF_KERNELS(PORTS_OF)

static const struct {
	const char *name;
	void (*ports)(uint32_t bits[CLASSES]);
} kernels[PF_KERNEL_COUNT] = {
#define KERNEL_ROW(kernel, file, state, lanes, brief) { #kernel, ports_##kernel },
	PF_KERNELS(KERNEL_ROW)
};

static const struct {
	const char *name, *memory;
} cards[] = {
#define MEMORY_ROW(name, title, platform, memory, ...) { #name, #memory },
	PF_CARDS(MEMORY_ROW)
};

static const struct {
	const char *name, *kernels;
} images[] = {
#define IMAGE_ROW(name, purpose, kernels) { #name, kernels },
	PF_IMAGES(IMAGE_ROW)
};
enum { CARDS = sizeof cards / sizeof *cards, IMAGES = sizeof images / sizeof *images };

/* ---- an image, as units of each kernel ---- */

/* "kernel=1,kernel=1": those of a table have one unit each */
static void read_image(const char *text, uint32_t units[PF_KERNEL_COUNT])
{
	memset(units, 0, PF_KERNEL_COUNT * sizeof *units);
	for (size_t length; *text; text += strcspn(text, ","), text += *text == ',') {
		length = strcspn(text, "=,");
		for (int k = 0; k < PF_KERNEL_COUNT; k++)
			if (strlen(kernels[k].name) == length && memcmp(kernels[k].name, text, length) == 0)
				units[k] = 1;
	}
}

static void set_units(uint64_t head, uint32_t count, uint32_t units[PF_KERNEL_COUNT])
{
	for (int k = 0; k < PF_KERNEL_COUNT; k++)
		units[k] = head >> k & 1 ? count : units[k];
}

static int ports_fit(const char *memory, const uint32_t units[PF_KERNEL_COUNT])
{
	const int shared = strcmp(memory, "HBM") == 0;
	unsigned ports[CLASSES] = { 0 }, sum = 0, most = 0;
	for (int k = 0; k < PF_KERNEL_COUNT; k++) {
		uint32_t bits[CLASSES] = { 0 };
		kernels[k].ports(bits);
		for (int c = 0; c < CLASSES; c++)
			for (uint32_t left = bits[c]; left; left &= left - 1)
				ports[c] += units[k];
	}
	for (int c = 0; c < CLASSES; c++) {
		sum += ports[c];
		most = ports[c] > most ? ports[c] : most;
	}
	return shared ? sum <= PF_HBM_PORTS : most <= PF_DDR_PORTS;
}

static double share_of(const char *card, const uint32_t units[PF_KERNEL_COUNT], const char **resource)
{
	return pf_card_share(card, units, PF_KERNEL_COUNT, resource);
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
	for (int i = 0; i < IMAGES; i++) {
		uint32_t units[PF_KERNEL_COUNT];
		uint64_t has = 0;
		read_image(images[i].kernels, units);
		for (int k = 0; k < PF_KERNEL_COUNT; k++)
			has |= (uint64_t)(units[k] > 0) << k;
		const double share = share_of(card, units, NULL);
		if ((has & needed) != needed || (best >= 0 && !(share < least)))
			continue;
		best = i;
		least = share;
	}
	return best;
}

/* Units of the head's kernels beside the others of the image that one limit allows */
static uint32_t most_units(const char *card, const char *memory, uint64_t head, uint32_t units[PF_KERNEL_COUNT])
{
	uint32_t n = 0;
	for (; n < PF_OFFLOAD_UNITS; n++) {
		set_units(head, n + 1, units);
		if (memory ? !ports_fit(memory, units) : share_of(card, units, NULL) > PF_FULL_SHARE)
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
	if (i < 0)
		return;
	image->name = images[i].name;
	read_image(images[i].kernels, units);
	for (int c = 0; c < CARDS; c++)
		if (strcmp(cards[c].name, card) == 0)
			image->by_ports = most_units(card, cards[c].memory, head, units);
	image->by_logic = most_units(card, NULL, head, units);
	image->units = image->by_ports < image->by_logic ? image->by_ports : image->by_logic;
	image->units = count ? count : image->units ? image->units : 1;
	set_units(head, image->units, units);
	image->share = share_of(card, units, &image->resource);
	image->placed = image->units <= image->by_ports && !(image->share > PF_FULL_SHARE);
}
