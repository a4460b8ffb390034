/* The figures of cards, and what the model of time needs of them. */
#include <math.h>
#include <stdio.h>
#include <string.h>
#include "prefpga/cycles.h"
#include "prefpga/internal/backend.h"
#include "prefpga/internal/card_facts.def"
#include "prefpga/internal/cards.def"
#include "prefpga/internal/operations.def"

#define PF_FACT_ROW(card, name, value, grade, text, source) { #card, #name, text, source, value, PF_FACT_##grade },
static const struct pf_card_fact facts[] = { PF_CARD_FACTS(PF_FACT_ROW) };
enum { FACTS = sizeof facts / sizeof *facts };

struct card { const char *name; double banks[PF_CYCLES_CLASSES], bytes; uint32_t array; };
#define PF_CARD_ROW(name, title, platform, memory, banks, mib, sf, sl, wf, wl, mf, ml, array) \
	{ #name, { (sl) - (sf) + 1, (wl) - (wf) + 1, (ml) - (mf) + 1 }, (double)(banks) * (mib) * 0x1p20, array },
static const struct card cards[] = { PF_CARDS(PF_CARD_ROW) };
enum { CARDS = sizeof cards / sizeof *cards };
_Static_assert((int)PF_CYCLES_CLASSES == PF_BANK_SMALL + 1, "bank classes");

const struct pf_card_fact *pf_card_fact(unsigned i)
{
	return i < FACTS ? &facts[i] : NULL;
}

const char *pf_fact_grade_name(enum pf_fact_grade grade)
{
	static const char *const names[] = { "measured by others", "quoted", "assumed" };
	return names[grade];
}

double pf_card_figure(const char *card, const char *name)
{
	for (unsigned i = 0; i < FACTS; i++)
		if (strcmp(facts[i].card, card) == 0 && strcmp(facts[i].name, name) == 0)
			return facts[i].value;
	return NAN;
}

/* ---- logic ---- */
enum { RESOURCES = 5 };
static const char *const resources[RESOURCES] = { "dsp", "lut", "ff", "bram18", "uram" };
#define PF_SIZE_ROW(kernel, dsp, lut, ff, bram18, uram) [PF_KERNEL_##kernel] = { dsp, lut, ff, bram18, uram },
static const double sizes[PF_KERNEL_COUNT][RESOURCES] = { PF_SIZES(PF_SIZE_ROW) };
static const double sizes_half[PF_KERNEL_COUNT][RESOURCES] = { PF_SIZES_HALF(PF_SIZE_ROW) };   /* those that differ */

static uint32_t array_of(const char *name)
{
	for (unsigned i = 0; i < CARDS; i++)
		if (strcmp(cards[i].name, name) == 0)
			return cards[i].array;
	return 0;
}

double pf_card_takes(const char *card, unsigned kernel, unsigned resource, const char **name)
{
	if (resource >= RESOURCES || kernel >= PF_KERNEL_COUNT)
		return NAN;
	if (name)
		*name = resources[resource];
	return array_of(card) == 2 && sizes_half[kernel][resource] > 0.0 ? sizes_half[kernel][resource]
	                                                                 : sizes[kernel][resource];
}

double pf_card_share(const char *card, const uint32_t *units, unsigned kernels, const char **resource)
{
	double most = NAN;
	const char *scarcest = "unknown";
	for (unsigned r = 0; r < RESOURCES; r++) {
		double sum = 0.0;
		for (unsigned k = 0; k < kernels && k < PF_KERNEL_COUNT; k++)
			sum += units[k] * pf_card_takes(card, k, r, NULL);
		const double share = sum / pf_card_figure(card, resources[r]);
		if (isnan(share) || share <= most)
			continue;
		most = share;
		scarcest = resources[r];
	}
	if (resource)
		*resource = scarcest;
	return most;
}

/* ---- what the simulation needs ---- */
double pf_cycles_port_rate(const struct pf_cycles_card *card, double beats, double outstanding)
{
	const double flying = outstanding * beats * card->port_bytes;
	return fmin(fmin(card->port_bytes * card->clock_hz, flying / card->port_latency_s), card->bank_rate);
}

int pf_cycles_card(const char *name, struct pf_cycles_card *card, struct pf_error *error)
{
	char known[128] = "";
	for (unsigned i = 0; i < CARDS; i++) {
		const struct card *c = &cards[i];
		snprintf(known + strlen(known), sizeof known - strlen(known), "%s%s", i ? ", " : "", c->name);
		if (strcmp(c->name, name) != 0)
			continue;
		const double bank = pf_card_figure(name, "bank_bps");
		*card = (struct pf_cycles_card){
			.clock_hz = pf_card_figure(name, "clock_hz"),
			.port_bytes = pf_card_figure(name, "port_bytes"),
			.bank_rate = bank,
			.link_in = pf_card_figure(name, "link_in_bps"),
			.link_out = pf_card_figure(name, "link_out_bps"),
			.copy_setup_s = pf_card_figure(name, "copy_setup_s"),
			.launch_s = pf_card_figure(name, "launch_s"),
			.issue_s = pf_card_figure(name, "issue_s"),
			.port_latency_s = pf_card_figure(name, "port_latency_s"),
			.memory_bytes = c->bytes, .array = c->array,
		};
		for (unsigned k = 0; k < PF_CYCLES_CLASSES; k++)
			card->class_rate[k] = bank * c->banks[k];
		return 0;
	}
	return pf_fail(error, PF_E_UNKNOWN, "no figures of a card \"%s\"; known: %s", name, known);
}
