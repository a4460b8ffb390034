/* Backend "xrt": a card, or XRT's emulation of one, through XRT's native C API.
 * where = "" | index | BDF, e.g. "1" or "0000:03:00.1". Opening and closing; xrt_memory.c and xrt_run.c do the rest. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "xrt_card.h"

static int open_device(struct pf_xrt_card *card, const struct pf_xrt_place *place, const char *where,
                       struct pf_error *error)
{
	char *end, text[128];
	unsigned long index = strtoul(where, &end, 10);
	int by_index = !where[0] || (!*end && index < 1024);
	if (by_index && index >= pf_xrt_place_cards(place))    /* XRT would make one up */
		return pf_fail(error, PF_E_ABSENT, "there is no emulated card %s: see `prefpga emulate --cards`",
			       where);
	card->device = by_index ? pf_xrt.xrtDeviceOpen((unsigned)index) : pf_xrt.xrtDeviceOpenByBDF(where);
	snprintf(card->name, sizeof card->name, "XRT card %.40s%s", where[0] ? where : "0",
	         place->mode ? " (emulated)" : "");
	snprintf(text, sizeof text, "cannot open %s", card->name);
	return card->device ? 0 : pf_xrt_fail(error, PF_E_ABSENT, text, "; `prefpga devices` lists cards");
}

/* Opens one compute unit by name, so that the core decides which one runs */
static int open_cu(struct pf_xrt_card *card, const xuid_t uuid, int kernel, uint32_t number,
                   struct pf_error *error)
{
	char name[160];
	pf_card_image_cu(card->image, kernel, number, name, sizeof name);
	card->cu[kernel][number].kernel = pf_xrt.xrtPLKernelOpen(card->device, uuid, name);
	return card->cu[kernel][number].kernel ? 0 : pf_xrt_fail(error, PF_E_IMAGE, name, "");
}

static int open_cus(struct pf_xrt_card *card, struct pf_error *error)
{
	xuid_t uuid;
	if (pf_xrt.xrtDeviceGetXclbinUUID(card->device, uuid) != 0)
		return pf_xrt_fail(error, PF_E_DEVICE, "the loaded image has no identity", "");
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

int pf_xrt_lost(const struct pf_xrt_card *card)
{
	for (int k = 0; k < PF_KERNEL_COUNT; k++)
		for (uint32_t i = 0; card->cu[k] && i < card->cus[k]; i++)
			if (card->cu[k][i].lost)
				return 1;
	return 0;
}

/* With a lost unit, XRT's handles stay open: XRT's scheduler goes on asking for the run's state, in
 * memory that closing would free. 2.13's emulation may therefore crash when the program ends */
static void xrt_close(void *opaque)
{
	struct pf_xrt_card *card = opaque;
	int keep = pf_xrt_lost(card);
	for (int k = 0; k < PF_KERNEL_COUNT; k++) {
		for (uint32_t i = 0; card->cu[k] && !keep && i < card->cus[k]; i++)
			pf_xrt_cu_close(&card->cu[k][i]);
		free(card->cu[k]);
	}
	pf_xrt_pool_empty(card, keep);
	if (card->device && !keep)
		pf_xrt.xrtDeviceClose(card->device);
	pf_image_close(card->image);
	free(card);
}

static void fill_facts(const struct pf_xrt_card *card, struct pf_device_facts *facts)
{
	facts->backend = "xrt";
	facts->name = card->name;
	pf_card_image_facts(card->image, facts);
}

static int load_image(struct pf_xrt_card *card, struct pf_error *error)
{
	const char *path = pf_image_facts(card->image)->path;
	if (pf_xrt.xrtDeviceLoadXclbinFile(card->device, path) == 0)
		return 0;
	return pf_xrt_fail(error, PF_E_IMAGE, path,
	            "; is it built for the card's shell, and is no other program using the card?");
}

static int open_card(struct pf_xrt_card *card, const struct pf_xrt_place *place,
                     const struct pf_backend_open *open, struct pf_error *error)
{
	int status = open_device(card, place, open->where, error);
	if (status == 0)
		status = pf_card_image_open(place, open->options, &card->image, card->cus, error);
	if (status == 0)
		status = load_image(card, error);
	return status ? status : open_cus(card, error);
}

static int xrt_open(const struct pf_backend_open *open, void **opaque,
                    struct pf_device_facts *facts, uint32_t *cus, struct pf_error *error)
{
	struct pf_xrt_place place;
	int status = pf_xrt_start("xrt", &place, error);
	if (status != 0)
		return status;
	struct pf_xrt_card *card = calloc(1, sizeof *card);
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

const struct pf_backend pf_backend_xrt = {
	.name = "xrt", .open = xrt_open, .close = xrt_close, .alloc = pf_xrt_alloc, .alloc_host = pf_xrt_alloc_host,
	.free = pf_xrt_free, .copy = pf_xrt_copy, .run = pf_xrt_run, .abort = pf_xrt_abort, .reset = pf_xrt_reset,
};
