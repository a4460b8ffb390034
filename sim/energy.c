/* Activity times energy per unit, with intervals. */
#include <math.h>
#include <stdio.h>
#include <string.h>
#include "prefpga/energy.h"
#include "prefpga/internal/cards.def"
#include "prefpga/internal/energy.def"
#include "prefpga/internal/kernels.h"

_Static_assert((int)PF_ENERGY_KERNELS >= PF_KERNEL_COUNT, "room for every kernel");

#define PF_UNIT_ROW(unit, value, low, high, grade, text, source) \
	{ "any", #unit, text, source, { value, low, high }, PF_FACT_##grade },
#define PF_REST_ROW(card, value, low, high, grade, text, source) \
	{ #card, "rest_w", text, source, { value, low, high }, PF_FACT_##grade },
static const struct pf_energy_fact facts[] = { PF_ENERGY_UNIT_FACTS(PF_UNIT_ROW) PF_ENERGY_REST_FACTS(PF_REST_ROW) };
enum { FACTS = sizeof facts / sizeof *facts };

#define PF_UNIT_NUMBER(unit, value, low, high, grade, text, source) PF_ENERGY_##unit,
static const enum pf_energy_unit units[] = { PF_ENERGY_UNIT_FACTS(PF_UNIT_NUMBER) };
_Static_assert(sizeof units / sizeof *units == PF_ENERGY_UNITS, "a figure for every unit");

enum memory { HBM = PF_ENERGY_HBM, DDR = PF_ENERGY_DDR };
struct card { const char *name; enum memory memory; };
#define PF_CARD_ROW(name, title, platform, memory, ...) { #name, memory },
static const struct card cards[] = { PF_CARDS(PF_CARD_ROW) };

const struct pf_energy_fact *pf_energy_fact(unsigned i)
{
	return i < FACTS ? &facts[i] : NULL;
}

static int find_rest(const char *name, struct pf_interval *rest)
{
	for (unsigned i = PF_ENERGY_UNITS; i < FACTS; i++)
		if (strcmp(facts[i].card, name) == 0) {
			*rest = facts[i].is;
			return 1;
		}
	return 0;
}

int pf_energy_card(const char *name, struct pf_energy_card *card, struct pf_error *error)
{
	char known[128] = "";
	for (size_t i = 0; i < sizeof cards / sizeof *cards; i++) {
		if (strcmp(cards[i].name, name) == 0 && find_rest(name, &card->rest_w)) {
			for (unsigned u = 0; u < PF_ENERGY_UNITS; u++)
				card->unit[units[u]] = facts[u].is;
			for (unsigned c = 0; c < PF_CYCLES_CLASSES; c++)
				card->bank[c] = (enum pf_energy_unit)cards[i].memory;
			return 0;
		}
		snprintf(known + strlen(known), sizeof known - strlen(known), "%s%s", i ? ", " : "", cards[i].name);
	}
	return pf_fail(error, PF_E_UNKNOWN, "no energies of a card \"%s\"; known: %s", name, known);
}

/* ---- sums ---- */

static void add(struct pf_interval *to, struct pf_interval unit, double amount)
{
	to->value += unit.value * amount;
	to->low += unit.low * amount;
	to->high += unit.high * amount;
}

static double bytes_of(const struct pf_job *job, unsigned class)
{
	if (job->kind == PF_JOB_RUN)
		return job->cost.bytes[class];
	return job->kind != PF_JOB_HOST && job->bank == class ? job->bytes : 0.0;
}

static void add_run(const struct pf_energy_card *card, const struct pf_job *job, struct pf_energy_modelled *e)
{
	struct pf_interval *own = &e->kernel[job->kernel];
	const struct pf_interval dsp = card->unit[PF_ENERGY_DSP], lut = card->unit[PF_ENERGY_LUT];
	add(own, dsp, job->cost.dsp_operations);
	add(own, lut, job->cost.lut_operations);
	add(own, card->unit[PF_ENERGY_ONCHIP], job->cost.onchip_bytes);
	add(&e->operations, dsp, job->cost.dsp_operations);
	add(&e->operations, lut, job->cost.lut_operations);
	add(&e->onchip, card->unit[PF_ENERGY_ONCHIP], job->cost.onchip_bytes);
	for (unsigned c = 0; c < PF_CYCLES_CLASSES; c++) {
		add(own, card->unit[card->bank[c]], bytes_of(job, c));
		add(&e->banks, card->unit[card->bank[c]], bytes_of(job, c));
	}
}

static void add_job(const struct pf_energy_card *card, const struct pf_job *job, struct pf_energy_modelled *e)
{
	if (job->kind == PF_JOB_RUN)
		add_run(card, job, e);
	else if (job->kind != PF_JOB_HOST) {
		add(&e->link, card->unit[PF_ENERGY_LINK], job->bytes);
		add(&e->link, card->unit[card->bank[job->bank]], job->bytes);
	}
}

/* ---- checks ---- */

static int is_interval(struct pf_interval x)
{
	return x.low >= 0.0 && x.low <= x.value && x.value <= x.high && isfinite(x.high);
}

static int check_card(const struct pf_energy_card *card, struct pf_interval seconds, struct pf_error *error)
{
	int good = is_interval(card->rest_w);
	for (unsigned u = 0; u < PF_ENERGY_UNITS; u++)
		good &= is_interval(card->unit[u]);
	for (unsigned c = 0; c < PF_CYCLES_CLASSES; c++)
		good &= card->bank[c] == PF_ENERGY_HBM || card->bank[c] == PF_ENERGY_DDR;
	if (!good)
		return pf_fail(error, PF_E_RANGE, "an energy of the card is no interval from 0 up");
	if (!is_interval(seconds))
		return pf_fail(error, PF_E_RANGE, "%g s, from %g to %g: no interval from 0 up", seconds.value,
		               seconds.low, seconds.high);
	return 0;
}

static int check_job(const struct pf_job *job, size_t i, struct pf_error *error)
{
	const struct pf_run_cost *cost = &job->cost;
	const int run = job->kind == PF_JOB_RUN, copy = job->kind == PF_JOB_IN || job->kind == PF_JOB_OUT;
	const double amounts[] = { copy ? job->bytes : 0.0, run ? cost->dsp_operations : 0.0,
		run ? cost->lut_operations : 0.0, run ? cost->onchip_bytes : 0.0, run ? cost->bytes[0] : 0.0,
		run ? cost->bytes[1] : 0.0, run ? cost->bytes[2] : 0.0 };
	if (!run && !copy && job->kind != PF_JOB_HOST)
		return pf_fail(error, PF_E_RANGE, "job %zu: kind %d", i, (int)job->kind);
	if (run && (job->kernel < 0 || job->kernel >= PF_KERNEL_COUNT))
		return pf_fail(error, PF_E_RANGE, "job %zu: kernel %d", i, job->kernel);
	if (copy && job->bank >= PF_CYCLES_CLASSES)
		return pf_fail(error, PF_E_RANGE, "job %zu: bank class %u", i, job->bank);
	for (size_t k = 0; k < sizeof amounts / sizeof *amounts; k++)
		if (!(amounts[k] >= 0.0) || !isfinite(amounts[k]))
			return pf_fail(error, PF_E_RANGE, "job %zu: an activity is %g", i, amounts[k]);
	return 0;
}

/* ---- all of it ---- */

int pf_energy_of(const struct pf_energy_card *card, uint32_t devices, const struct pf_job *job, size_t jobs,
                 struct pf_interval seconds, struct pf_energy_modelled *energy, struct pf_error *error)
{
	*energy = (struct pf_energy_modelled){ .seconds = seconds };
	int code = check_card(card, seconds, error);
	for (size_t i = 0; !code && i < jobs; i++) {
		code = check_job(&job[i], i, error);
		if (!code)
			add_job(card, &job[i], energy);
	}
	if (code)
		return code;
	energy->rest = (struct pf_interval){ card->rest_w.value * seconds.value * devices,
		card->rest_w.low * seconds.low * devices, card->rest_w.high * seconds.high * devices };
	for (unsigned k = 0; k < PF_ENERGY_KERNELS; k++)
		add(&energy->total, energy->kernel[k], 1.0);
	add(&energy->total, energy->link, 1.0);
	add(&energy->total, energy->rest, 1.0);
	return 0;
}

int pf_energy_play(const char *name, const struct pf_cycles_card *figures, uint32_t devices, uint32_t cus,
                   const struct pf_job *job, size_t jobs, struct pf_energy_modelled *energy, struct pf_error *error)
{
	struct pf_energy_card card;
	struct pf_cycles_card time;
	struct pf_cycles_result result;
	struct pf_interval seconds = { 0 };
	int code = pf_energy_card(name, &card, error);
	if (!code)
		code = pf_cycles_card(name, &time, error);
	if (!code && figures)
		time = *figures;
	if (!code)
		code = pf_cycles_play(&time, devices, cus, job, jobs, NULL, &result, error);
	if (!code)
		code = pf_cycles_range(name, figures, devices, cus, job, jobs, &seconds.low, &seconds.high, error);
	if (code)
		return code;
	seconds.value = result.seconds;
	return pf_energy_of(&card, devices, job, jobs, seconds, energy, error);
}
