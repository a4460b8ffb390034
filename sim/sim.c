/* Backend "sim": a card whose kernels are the hls/ sources, compiled for this processor.
 * where = [card][*compute units of each kernel][@level], e.g. "u250", "u55c*4", "*2@v3". Each unit
 * is a thread; without a number there are as many as threads were asked for, which changes the speed and no bit. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "flush.h"
#include "level.h"
#include "memory.h"
#include "prefpga/internal/cards.def"
#include "prefpga/internal/nearest.h"

#define PF_SIM_CARD "u55c"                     /* the default */
#define PF_SIM_CUS_MAX 16

struct pf_card_row {
	const char *name, *memory;
	unsigned    banks;
	uint64_t    bank_bytes;
	unsigned    first[PF_BANK_CLASSES], last[PF_BANK_CLASSES];
};
#define PF_CARD_ROW(name, title, platform, memory, banks, mib, sf, sl, wf, wl, mf, ml, array) \
	{ #name, #memory, banks, (uint64_t)(mib) << 20, { sf, wf, mf }, { sl, wl, ml } },
static const struct pf_card_row cards[] = { PF_CARDS(PF_CARD_ROW) };
enum { CARDS = sizeof cards / sizeof *cards };
#define PF_CARD_CHECK(name, title, platform, memory, banks, mib, sf, sl, wf, wl, mf, ml, array) \
	_Static_assert((sf) <= (sl) && (sl) < (wf) && (wf) <= (wl) && (wl) < (mf) && (mf) <= (ml) && (ml) < (banks), \
	               #name ": bank classes are disjoint, in order, and on the card");
PF_CARDS(PF_CARD_CHECK)

struct pf_sim {
	const struct pf_card_row *card;
	const struct pf_level    *level;
	uint32_t                  cus;
	struct pf_stores          stores;
	char                      name[64], variant[32];
};

/* ---- the spec ---- */
static int pf_sim_card(const char *name, const struct pf_card_row **card, struct pf_error *error)
{
	char known[256] = "";
	const char *best = NULL;
	size_t used = 0;
	for (unsigned i = 0; i < CARDS; i++) {
		if (strcmp(cards[i].name, name) == 0)
			return *card = &cards[i], 0;
		pf_name_nearest(name, cards[i].name, &best);
		if (used < sizeof known)
			used += (size_t)snprintf(known + used, sizeof known - used, "%s%s", i ? ", " : "",
			                         cards[i].name);
	}
	return pf_fail(error, PF_E_UNKNOWN, "sim: there is no card \"%s\"; known: %s%s%s%s", name, known,
	               best ? "; did you mean \"" : "", best ? best : "", best ? "\"?" : "");
}

static int pf_sim_level(const char *name, const struct pf_level **level, struct pf_error *error)
{
	char known[64] = "";
	size_t used = 0;
	int able = 0;
	*level = pf_level_find(name, &able);
	if (*level && able)
		return 0;
	if (*level)
		return pf_fail(error, PF_E_UNSUPPORTED, "sim: this processor lacks instruction set level %s", name);
	for (unsigned i = 0; pf_level_at(i) && used < sizeof known; i++)
		used += (size_t)snprintf(known + used, sizeof known - used, "%s%s", i ? ", " : "",
		                         pf_level_at(i)->name);
	return pf_fail(error, PF_E_UNKNOWN, "sim: there is no instruction set level \"%s\"; known: %s", name, known);
}

static int pf_sim_where(struct pf_sim *sim, const char *where, uint32_t threads, struct pf_error *error)
{
	char text[64], *cus, *level, *end = "";
	unsigned long count = threads < PF_SIM_CUS_MAX ? threads : PF_SIM_CUS_MAX;
	if (snprintf(text, sizeof text, "%s", where) >= (int)sizeof text)
		return pf_fail(error, PF_E_ARGUMENT, "sim: \"%s\" is too long for [card][*cus][@level]", where);
	if ((level = strchr(text, '@')))
		*level++ = 0;
	if ((cus = strchr(text, '*'))) {
		*cus++ = 0;
		count = *cus >= '0' && *cus <= '9' ? strtoul(cus, &end, 10) : 0;
	}
	if (count < 1 || count > PF_SIM_CUS_MAX || *end)
		return pf_fail(error, PF_E_RANGE, "sim: \"%s\": compute units must be a number in 1..%d", where,
		               PF_SIM_CUS_MAX);
	sim->cus = (uint32_t)count;
	int code = pf_sim_card(text[0] ? text : PF_SIM_CARD, &sim->card, error);
	return code ? code : pf_sim_level(level ? level : "", &sim->level, error);
}

/* ---- opening ---- */
static int pf_sim_banks(struct pf_sim *sim, uint64_t limit, struct pf_error *error)
{
	static const char *const class[] = { "STREAM", "WEIGHT", "SMALL" };
	const struct pf_card_row *card = sim->card;
	uint64_t whole = card->banks * card->bank_bytes;
	if (limit > whole)
		return pf_fail(error, PF_E_RANGE,
		               "sim: %" PRIu64 " bytes of card memory asked for, the %s has %" PRIu64, limit,
		               card->name, whole);
	sim->stores.bytes = limit ? limit : whole;
	for (unsigned i = 0; i < PF_BANK_CLASSES; i++) {
		struct pf_store *store = &sim->stores.store[i];
		store->bytes = (card->last[i] - card->first[i] + 1) * card->bank_bytes;
		snprintf(store->label, sizeof store->label, "%s (%s[%u:%u])", class[i], card->memory, card->first[i],
		         card->last[i]);
	}
	return 0;
}

static void pf_sim_facts(struct pf_sim *sim, struct pf_device_facts *facts, uint32_t *cus)
{
	uint64_t stream = sim->stores.store[PF_BANK_STREAM].bytes;
	snprintf(sim->name, sizeof sim->name, "simulated %s", sim->card->name);
	snprintf(sim->variant, sizeof sim->variant, "%s%s", sim->level->name[0] == 'v' ? "x86-64-" : "",
	         sim->level->name);
	facts->backend = "sim";
	facts->name = sim->name;
	facts->variant = sim->variant;
	facts->memory_bytes = stream < sim->stores.bytes ? stream : sim->stores.bytes;
	facts->numerics = PF_NUMERICS;
	facts->exact = 1;
	for (unsigned k = 0; k < PF_KERNEL_COUNT; k++)
		cus[k] = sim->level->call[k] ? sim->cus : 0;
}

static int pf_sim_open(const struct pf_backend_open *open, void **card, struct pf_device_facts *facts, uint32_t *cus,
                       struct pf_error *error)
{
	struct pf_sim *sim = calloc(1, sizeof *sim);
	if (!sim)
		return pf_fail(error, -ENOMEM, "sim: %s", pf_error_text(-ENOMEM));
	int code = pf_sim_where(sim, open->where, open->options->threads, error);
	if (code == 0)
		code = pf_sim_banks(sim, open->options->memory_bytes, error);
	if (code) {
		free(sim);
		return code;
	}
	pf_sim_facts(sim, facts, cus);
	*card = sim;
	return 0;
}

static void pf_sim_close(void *card)
{
	struct pf_sim *sim = card;
	pf_memory_end(&sim->stores);
	free(sim);
}

/* ---- memory ---- */
static int pf_sim_alloc(void *card, enum pf_kernel kernel, unsigned arg, uint64_t bytes, struct pf_memory **memory,
                        struct pf_error *error)
{
	struct pf_sim *sim = card;
	int code = pf_memory_alloc(&sim->stores, pf_kernel_rows[kernel].arg[arg].bank, bytes, memory, error);
	if (code)
		pf_fail_in(error, "%s: argument %s of kernel %s", sim->name, pf_kernel_rows[kernel].arg[arg].name,
		           pf_kernel_rows[kernel].name);
	return code;
}

static void pf_sim_free(void *card, struct pf_memory *memory)
{
	pf_memory_free(&((struct pf_sim *)card)->stores, memory);
}

static int pf_sim_copy(void *card, enum pf_direction direction, struct pf_memory *memory, uint64_t offset, void *host,
                       uint64_t bytes, struct pf_error *error)
{
	(void)card;
	if (direction == PF_TO_DEVICE) {
		memcpy(pf_memory_at(memory, offset), host, bytes);
		pf_memory_mark(memory, offset, bytes);
		return 0;
	}
	uint64_t first = pf_memory_unwritten(memory, offset, bytes);
	if (first != UINT64_MAX)
		return pf_fail(error, PF_E_UNWRITTEN, "copy to the host of %" PRIu64 " bytes from offset %" PRIu64
		               " on: nothing was ever written at offset %" PRIu64, bytes, offset, first);
	memcpy(host, pf_memory_at(memory, offset), bytes);
	return 0;
}

/* ---- runs ---- */
static int pf_sim_inputs(const struct pf_launch *launch, struct pf_error *error)
{
	const struct pf_kernel_row *row = &pf_kernel_rows[launch->kernel];
	for (unsigned i = 0; i < launch->count; i++) {
		if (row->arg[i].dir != PF_DIR_IN && row->arg[i].dir != PF_DIR_INOUT)
			continue;
		uint64_t first = pf_memory_unwritten(launch->memory[i], launch->offset[i], launch->bytes[i]);
		if (first != UINT64_MAX)
			return pf_fail(error, PF_E_UNWRITTEN, "kernel %s reads %" PRIu64 " bytes from offset %" PRIu64
			               " of argument %u (%s) on, but nothing was ever written at offset %" PRIu64,
			               row->name, launch->bytes[i], launch->offset[i], i, row->arg[i].name, first);
	}
	return 0;
}

static void pf_sim_outputs(const struct pf_launch *launch)
{
	const struct pf_kernel_row *row = &pf_kernel_rows[launch->kernel];
	for (unsigned i = 0; i < launch->count; i++)
		if (row->arg[i].dir == PF_DIR_OUT || row->arg[i].dir == PF_DIR_INOUT)
			pf_memory_mark(launch->memory[i], launch->offset[i], launch->bytes[i]);
}

static int pf_sim_run(void *card, unsigned cu, const struct pf_launch *launch, struct pf_error *error)
{
	const struct pf_sim *sim = card;
	void *at[PF_ARGS_MAX] = { NULL };
	int code = pf_sim_inputs(launch, error);
	(void)cu;
	if (code)
		return code;
	for (unsigned i = 0; i < launch->count; i++)
		if (launch->memory[i])
			at[i] = pf_memory_at(launch->memory[i], launch->offset[i]);
	uint64_t before = pf_flush_begin();
	sim->level->call[launch->kernel](at, launch->value);
	pf_flush_end(before);
	pf_sim_outputs(launch);
	return 0;
}

const struct pf_backend pf_backend_sim = {
	.name = "sim", .open = pf_sim_open, .close = pf_sim_close, .alloc = pf_sim_alloc, .free = pf_sim_free,
	.copy = pf_sim_copy, .run = pf_sim_run,
};
