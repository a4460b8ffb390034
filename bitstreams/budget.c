/* What fits a card: the ports of each memory against its limit, which is arithmetic, the logic as estimated, and the
 * figures that a bitstream is up against. How much logic a kernel needs, only csynth can say. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "prefpga/internal/card_facts.def"
#include "prefpga/internal/cards.def"
#include "quality.h"
#include "vitis.h"

struct fact { const char *card, *figure; double value; const char *grade, *source; };
static const struct fact facts[] = {
#define FACT_ROW(card, figure, value, grade, what, source) { #card, #figure, value, #grade, source },
	PF_CARD_FACTS(FACT_ROW)
};

static const char *const classes[] = { "STREAM", "WEIGHT", "SMALL" };

static void budget_kernels(FILE *out, const struct pf_layout *layout)
{
	fputs("| kernel | CUs | STREAM | WEIGHT | SMALL | ports |\n|---|--:|--:|--:|--:|--:|\n", out);
	for (int k = 0; k < PF_KERNEL_COUNT; k++) {
		unsigned ports[PF_BANK_CLASSES], sum = 0;
		if (!layout->cus[k])
			continue;
		pf_kernel_ports(k, ports);
		for (unsigned c = 0; c < PF_BANK_CLASSES; c++)
			sum += ports[c];
		fprintf(out, "| %s | %u | %u | %u | %u | %u x %u = %u |\n", pf_kernel_rows[k].name, layout->cus[k],
			ports[0], ports[1], ports[2], layout->cus[k], sum, layout->cus[k] * sum);
	}
}

/* An estimate, which is why it stands apart from what is counted */
static void budget_logic(FILE *out, const struct pf_layout *layout, const char *card)
{
	const char *resource;
	const double share = pf_quality_share(layout, card, &resource);
	const char *verdict = pf_quality_verdict(share);
	if (isnan(share)) {
		fprintf(out, "\nLogic: estimated in quality-%s.md; what the card has is not known here.\n", card);
		return;
	}
	fprintf(out, "\nLogic, estimated in quality-%s.md: %.1f %% of the card's %s, its shell not counted%s%s.\n",
	        card, 100.0 * share, resource, verdict[0] ? ": " : "", verdict);
}

/* Kernels of an image and the sums of their ports */
static int budget_image(FILE *out, const struct pf_layout *layout, const char *card, struct pf_error *error)
{
	struct pf_ports ports;
	int status = pf_ports_count(layout->cus, card, &ports, error);
	if (status)
		return status;
	budget_kernels(out, layout);
	if (ports.shared)
		fprintf(out, "\nAll ports share the %s's %u: %u + %u + %u = %u, %s.\n", ports.memory, ports.limit,
			ports.used[0], ports.used[1], ports.used[2], ports.used[0] + ports.used[1] + ports.used[2],
			pf_ports_fit(&ports) ? "which fits" : "which does not fit");
	for (unsigned c = 0; !ports.shared && c < PF_BANK_CLASSES; c++)
		fprintf(out, "\n%s bank of class %s: %u ports of at most %u, %s.\n", ports.memory, classes[c],
			ports.used[c], ports.limit, ports.used[c] <= ports.limit ? "which fits" : "which does not fit");
	budget_logic(out, layout, card);
	return 0;
}

/* Every image of the card */
static int budget_images(FILE *out, const char *card, struct pf_error *error)
{
	struct pf_layout layout = { .control = PF_XCLBIN_CTRL_CHAIN };
	const char *name, *purpose;
	int status = 0;
	for (unsigned i = 0; status == 0 && (name = pf_image_name(i, &purpose)); i++) {
		fprintf(out, "\n## Image %s: %s\n\n", name, purpose);
		status = pf_layout_image(&layout, card, name, error);
		fprintf(out, "File `prefpga%s%s.xclbin`.\n\n", i ? "-" : "", i ? name : "");
		if (status == 0)
			status = budget_image(out, &layout, card, error);
	}
	return status;
}

static void budget_facts(FILE *out, const char *card)
{
	fputs("\n| the device | | grade | source |\n|---|--:|---|---|\n", out);
	for (size_t i = 0; i < sizeof facts / sizeof *facts; i++)
		if (strcmp(facts[i].card, card) == 0
		    && (strcmp(facts[i].figure, "lut") == 0 || strcmp(facts[i].figure, "dsp") == 0
		        || strcmp(facts[i].figure, "power_cap_w") == 0))
			fprintf(out, "| %s | %.0f | %s | %s |\n", facts[i].figure, facts[i].value, facts[i].grade,
				facts[i].source);
}

int pf_vitis_budget(FILE *out, const struct pf_layout *layout, const char *card, struct pf_error *error)
{
	struct pf_ports ports;
	struct pf_layout none = { .control = PF_XCLBIN_CTRL_CHAIN };
	int status = pf_ports_count(none.cus, card, &ports, error);
	if (status)
		return status;
	fprintf(out, "# Budget of %s\n\nMade by `prefpga-emit budget` from kernels.def, cards.def and vitis.def, "
	        "which says where the limits come from.\n", card);
	fprintf(out, "\nThe fused head's kernels have an array of %u x 64 multiply-adds here (cards.def).\n",
	        pf_card_array(card));
	if (layout)
		fputc('\n', out);
	status = layout ? budget_image(out, layout, card, error) : budget_images(out, card, error);
	if (status)
		return status;
	budget_facts(out, card);
	fputs("\nThe U280's platform takes 205 k LUT and 471 BRAM of the device (PC2 kernel_util); other shells are "
	      "not known "
	      "here. LUT, DSP and BRAM of the kernels stand in csynth's report, which nobody has made yet.\n",
	      out);
	return ferror(out) ? PF_E_DATA : 0;
}
