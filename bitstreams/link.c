#include <string.h>
#include "describe.h"
#include "prefpga/internal/cards.def"

struct card { const char *name, *platform, *memory; unsigned first[3], last[3]; };
#define PF_CARD_ROW(name, title, platform, memory, banks, mib, sf, sl, wf, wl, mf, ml, array) \
	{ #name, platform, #memory, { sf, wf, mf }, { sl, wl, ml } },
static const struct card cards[] = { PF_CARDS(PF_CARD_ROW) };
enum { CARDS = sizeof cards / sizeof *cards };
_Static_assert(PF_BANK_STREAM == 0 && PF_BANK_WEIGHT == 1 && PF_BANK_SMALL == 2, "order of classes");

static void link_port(FILE *out, const struct card *card, const char *kernel, uint32_t cu,
                      const struct pf_arg_row *arg, int host_memory)
{
	if (host_memory && arg->bank == PF_BANK_SMALL) {
		fprintf(out, "sp=pf_k_%s_%u.%s:HOST[0]\n", kernel, cu, arg->name);
		return;
	}
	unsigned first = card->first[arg->bank], last = card->last[arg->bank];
	fprintf(out, "sp=pf_k_%s_%u.%s:%s[%u", kernel, cu, arg->name, card->memory, first);
	if (last > first)
		fprintf(out, ":%u", last);
	fputs("]\n", out);
}

static void link_kernel(FILE *out, const struct card *card, const struct pf_kernel_row *row,
                        uint32_t cus, int host_memory)
{
	fprintf(out, "nk=pf_k_%s:%u\n", row->name, cus);
	for (uint32_t cu = 1; cu <= cus; cu++)
		for (unsigned i = 0; i < row->count; i++)
			if (row->arg[i].dir != PF_DIR_VAL)
				link_port(out, card, row->name, cu, &row->arg[i], host_memory);
}

static int write_card(FILE *out, const struct pf_layout *layout, const struct card *card)
{
	fprintf(out, "# prefpga on %s: made from kernels.def and cards.def by prefpga-emit link\n"
	        "platform=%s\n\n[connectivity]\n", card->name, card->platform);
	for (int k = 0; k < PF_KERNEL_COUNT; k++)
		if (layout->cus[k])
			link_kernel(out, card, &pf_kernel_rows[k], layout->cus[k], layout->host_memory);
	return ferror(out) ? PF_E_DATA : 0;
}

int pf_describe_link(FILE *out, const struct pf_layout *layout, const char *card,
                     struct pf_error *error)
{
	char known[256] = "";
	for (unsigned i = 0; i < CARDS; i++) {
		if (card && strcmp(cards[i].name, card) == 0)
			return write_card(out, layout, &cards[i]);
		size_t used = strlen(known);
		snprintf(known + used, sizeof known - used, "%s%s", i ? ", " : "", cards[i].name);
	}
	return pf_fail(error, PF_E_UNKNOWN, "link: there is no card %s; known: %s",
	               card ? card : "(--card)", known);
}
