#include "prefpga/internal/units.h"
#include <stdlib.h>
#include <string.h>
#include "prefpga/internal/backend.h"
#include "prefpga/internal/cards.def"
#include "prefpga/internal/vitis.def"

/* ---- as text ---- */
static int kernel_number(const char *name, size_t length)
{
	for (int k = 0; k < PF_KERNEL_COUNT; k++)
		if (strlen(pf_kernel_rows[k].name) == length && memcmp(pf_kernel_rows[k].name, name, length) == 0)
			return k;
	return -1;
}

/* One "kernel=count"; *end: behind it */
static int set_one(uint32_t units[PF_KERNEL_COUNT], const char *text, const char **end, struct pf_error *error)
{
	size_t length = strcspn(text, "=,");
	int k = kernel_number(text, length);
	if (k < 0 || !pf_kernel_rows[k].built)
		return pf_fail(error, PF_E_UNKNOWN, "no built kernel is called %.*s", (int)length, text);
	char *stop = NULL;
	unsigned long count = text[length] == '=' ? strtoul(text + length + 1, &stop, 10) : 0;
	if (!stop || stop == text + length + 1 || (*stop && *stop != ',') || count > PF_CUS_MAX)
		return pf_fail(error, PF_E_RANGE, "%.*s: write %s=N, N from 0 to %u", (int)length, text,
		               pf_kernel_rows[k].name, PF_CUS_MAX);
	units[k] = (uint32_t)count;
	*end = stop;
	return 0;
}

int pf_units_set(uint32_t units[PF_KERNEL_COUNT], const char *text, struct pf_error *error)
{
	for (int status; *text; text += *text == ',')
		if ((status = set_one(units, text, &text, error)) != 0)
			return status;
	return 0;
}

/* ---- images ---- */
static const struct { const char *name, *purpose, *kernels; } images[] = {
#define IMAGE_ROW(name, purpose, kernels) { #name, purpose, kernels },
	PF_IMAGES(IMAGE_ROW)
};
enum { IMAGES = sizeof images / sizeof *images };

const char *pf_image_name(unsigned i, const char **purpose)
{
	if (i < IMAGES && purpose)
		*purpose = images[i].purpose;
	return i < IMAGES ? images[i].name : NULL;
}

int pf_image_units(unsigned i, uint32_t units[PF_KERNEL_COUNT], struct pf_error *error)
{
	memset(units, 0, PF_KERNEL_COUNT * sizeof *units);
	return i < IMAGES ? pf_units_set(units, images[i].kernels, error)
	                  : pf_fail(error, PF_E_UNKNOWN, "there is no image %u", i);
}

/* ---- ports ---- */
int pf_first_of_bundle(const struct pf_kernel_row *row, unsigned arg)
{
	for (unsigned i = 0; i < arg; i++)
		if (strcmp(row->arg[i].bundle, row->arg[arg].bundle) == 0)
			return 0;
	return 1;
}

void pf_kernel_ports(int kernel, unsigned ports[PF_BANK_CLASSES])
{
	const struct pf_kernel_row *row = &pf_kernel_rows[kernel];
	memset(ports, 0, PF_BANK_CLASSES * sizeof *ports);
	for (unsigned i = 0; i < row->count; i++)
		if (row->arg[i].dir != PF_DIR_VAL && pf_first_of_bundle(row, i))
			ports[row->arg[i].bank]++;
}

int pf_ports_count(const uint32_t units[PF_KERNEL_COUNT], const char *card, struct pf_ports *ports,
                   struct pf_error *error)
{
	static const struct { const char *name, *memory; } cards[] = {
#define MEMORY_ROW(name, title, platform, memory, ...) { #name, #memory },
		PF_CARDS(MEMORY_ROW)
	};
	unsigned one[PF_BANK_CLASSES];
	memset(ports, 0, sizeof *ports);
	for (size_t i = 0; i < sizeof cards / sizeof *cards; i++)
		if (card && strcmp(cards[i].name, card) == 0)
			ports->memory = cards[i].memory;
	if (!ports->memory)
		return pf_fail(error, PF_E_UNKNOWN, "there is no card %s", card ? card : "(--card)");
	ports->shared = strcmp(ports->memory, "HBM") == 0;
	ports->limit = ports->shared ? PF_HBM_PORTS : PF_DDR_PORTS;
	for (int k = 0; k < PF_KERNEL_COUNT; k++) {
		pf_kernel_ports(k, one);
		for (unsigned c = 0; c < PF_BANK_CLASSES; c++)
			ports->used[c] += units[k] * one[c];
	}
	return 0;
}

int pf_ports_fit(const struct pf_ports *ports)
{
	unsigned sum = 0, most = 0;
	for (unsigned c = 0; c < PF_BANK_CLASSES; c++) {
		sum += ports->used[c];
		most = ports->used[c] > most ? ports->used[c] : most;
	}
	return (ports->shared ? sum : most) <= ports->limit;
}
