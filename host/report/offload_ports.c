/* How many units of the fused head a card's memory has ports for, beside one unit of each kernel that training needs
 * with them: arithmetic from kernels.def, as bitstreams/layout.c does it for links. */
#include <string.h>
#include "offload.h"
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
#define PORTS_OF(kernel)                                                                                               \
	static void ports_##kernel(uint32_t bits[CLASSES])                                                             \
	{                                                                                                              \
		PF_ARGS_##kernel(PORT_BITS, SEMICOLON);                                                                \
	}
PORTS_OF(seq_sum)
PORTS_OF(pref)
PORTS_OF(linear_logprob)
PORTS_OF(linear_grad)

static void add_ports(void (*kernel)(uint32_t *), unsigned ports[CLASSES])
{
	uint32_t bits[CLASSES] = { 0 };
	kernel(bits);
	for (int c = 0; c < CLASSES; c++)
		for (uint32_t left = bits[c]; left; left &= left - 1)
			ports[c]++;
}

static int fits(const char *memory, const unsigned base[CLASSES], const unsigned unit[CLASSES], unsigned units)
{
	const int shared = strcmp(memory, "HBM") == 0;
	unsigned sum = 0, most = 0;
	for (int c = 0; c < CLASSES; c++) {
		const unsigned ports = base[c] + units * unit[c];
		sum += ports;
		most = ports > most ? ports : most;
	}
	return shared ? sum <= PF_HBM_PORTS : most <= PF_DDR_PORTS;
}

uint32_t pf_offload_units(const char *card)
{
	static const struct {
		const char *name, *memory;
	} cards[] = {
#define MEMORY_ROW(name, title, platform, memory, ...) { #name, #memory },
		PF_CARDS(MEMORY_ROW)
	};
	unsigned base[CLASSES] = { 0 }, unit[CLASSES] = { 0 };
	uint32_t units = 0;
	add_ports(ports_seq_sum, base);
	add_ports(ports_pref, base);
	add_ports(ports_linear_logprob, unit);
	add_ports(ports_linear_grad, unit);
	for (size_t i = 0; i < sizeof cards / sizeof *cards; i++)
		while (strcmp(cards[i].name, card) == 0 && fits(cards[i].memory, base, unit, units + 1))
			units++;
	return units;
}
