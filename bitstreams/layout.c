#include <stdlib.h>
#include <string.h>
#include "describe.h"
#include "prefpga/internal/cards.def"
#include "prefpga/internal/vitis.def"

void pf_layout_default(struct pf_layout *layout)
{
	layout->control = PF_XCLBIN_CTRL_CHAIN;
	layout->host_memory = 0;
	for (int k = 0; k < PF_KERNEL_COUNT; k++)
		layout->cus[k] = pf_kernel_rows[k].built ? 1 : 0;
}

static int kernel_number(const char *name, size_t length)
{
	for (int k = 0; k < PF_KERNEL_COUNT; k++)
		if (strlen(pf_kernel_rows[k].name) == length
		    && memcmp(pf_kernel_rows[k].name, name, length) == 0)
			return k;
	return -1;
}

/* One "kernel=count"; *end: behind it */
static int set_one(struct pf_layout *layout, const char *text, const char **end,
                   struct pf_error *error)
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
	layout->cus[k] = (uint32_t)count;
	*end = stop;
	return 0;
}

int pf_layout_set(struct pf_layout *layout, const char *text, struct pf_error *error)
{
	for (int status; *text; text += *text == ',')
		if ((status = set_one(layout, text, &text, error)) != 0)
			return status;
	return 0;
}

uint32_t pf_layout_cus(const struct pf_layout *layout)
{
	uint32_t count = 0;
	for (int k = 0; k < PF_KERNEL_COUNT; k++)
		count += layout->cus[k];
	return count;
}

/* ---- ports ---- */
int pf_first_of_bundle(const struct pf_kernel_row *row, unsigned arg)
{
	for (unsigned i = 0; i < arg; i++)
		if (strcmp(row->arg[i].bundle, row->arg[arg].bundle) == 0)
			return 0;
	return 1;
}

void pf_layout_ports(int kernel, unsigned ports[PF_BANK_CLASSES])
{
	const struct pf_kernel_row *row = &pf_kernel_rows[kernel];
	memset(ports, 0, PF_BANK_CLASSES * sizeof *ports);
	for (unsigned i = 0; i < row->count; i++)
		if (row->arg[i].dir != PF_DIR_VAL && pf_first_of_bundle(row, i))
			ports[row->arg[i].bank]++;
}

int pf_layout_count(const struct pf_layout *layout, const char *card, struct pf_ports *ports, struct pf_error *error)
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
		pf_layout_ports(k, one);
		for (unsigned c = 0; c < PF_BANK_CLASSES; c++)
			ports->used[c] += layout->cus[k] * one[c];
	}
	return 0;
}

int pf_layout_fits(const struct pf_ports *ports)
{
	unsigned sum = 0, most = 0;
	for (unsigned c = 0; c < PF_BANK_CLASSES; c++) {
		sum += ports->used[c];
		most = ports->used[c] > most ? ports->used[c] : most;
	}
	return (ports->shared ? sum : most) <= ports->limit;
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

static int image_number(const char *image)
{
	for (unsigned i = 0; image && i < IMAGES; i++)
		if (strcmp(images[i].name, image) == 0)
			return (int)i;
	return image ? -1 : 0;
}

int pf_layout_image(struct pf_layout *layout, const char *card, const char *image, struct pf_error *error)
{
	struct pf_ports ports;
	const int number = image_number(image);
	if (number < 0)
		return pf_fail(error, PF_E_UNKNOWN, "no image is called %s; vitis.def has them", image);
	memset(layout->cus, 0, sizeof layout->cus);
	int status = pf_layout_set(layout, images[number].kernels, error);
	if (status == 0)
		status = pf_layout_count(layout, card, &ports, error);
	if (status == 0 && !pf_layout_fits(&ports))
		status = pf_fail(error, PF_E_RANGE,
		                 "image %s takes %u + %u + %u ports of classes STREAM, WEIGHT, SMALL, which do not "
		                 "fit the %s of %s: it takes %u",
		                 images[number].name, ports.used[0], ports.used[1], ports.used[2], ports.memory,
		                 card, ports.limit);
	return status;
}
