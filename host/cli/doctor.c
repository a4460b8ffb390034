/* Verb doctor: every card with one verdict and what to do about it. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include "card_json.h"
#include "cli.h"

static const char *const health[] = { "ok", "warning", "error" };

/* ---- JSON ---- */
static json_t *json_card(const struct pf_machine_report *machine, const struct pf_card_report *card)
{
	json_t *functions = json_array();
	for (size_t i = 0; i < card->functions; i++)
		json_array_append_new(functions, pf_cli_card_json(&machine->function[card->first + i]));
	return json_pack("{ss ss ss ss ss ss ss si so}", "slot", card->slot, "card", card->card, "verdict",
	                 card->verdict, "health", health[card->health], "text", card->text, "remedy", card->remedy,
	                 "link_degraded", card->degraded, "power_cap_watts", (int)card->power_cap_w, "functions",
	                 functions);
}

static int print_json(const struct pf_machine_report *machine, const struct pf_error *why)
{
	json_t *cards = json_array();
	for (size_t i = 0; i < machine->cards; i++)
		json_array_append_new(cards, json_card(machine, &machine->card[i]));
	json_t *all =
		json_pack("{so s{ss ss}}", "cards", cards, "xrt", "library", machine->xrt, "driver", machine->driver);
	if (all && why->code)
		json_object_set_new(all, "note", json_string(why->text));
	int failed = !all || json_dumpf(all, stdout, JSON_INDENT(2)) != 0 || putchar('\n') == EOF;
	json_decref(all);
	return failed;
}

/* ---- text ---- */
static const char *or_unknown(const char *text)
{
	return text[0] ? text : "unknown";
}

static void print_bars(const struct pf_card_function *f)
{
	for (unsigned i = 0; i < 6; i++)
		if (f->bar_bytes[i])
			printf(", BAR%u %" PRIu64 " KiB", i, f->bar_bytes[i] >> 10);
}

static void print_place(const struct pf_card_function *f)
{
	if (f->link_width)
		printf("           link x%u at %s (card: x%u at %s)\n", f->link_width, f->link_speed, f->link_width_max,
		       f->link_speed_max);
	if (f->numa_node >= 0 || f->iommu_group >= 0 || f->bar_bytes[0])
		printf("           NUMA node %d, IOMMU group %d", f->numa_node, f->iommu_group), print_bars(f),
			putchar('\n');
}

static void print_health(const struct pf_card_function *f, unsigned cap)
{
	if (f->firewall >= 0 || f->celsius >= 0)
		printf("           firewall level %d, FPGA %d C\n", f->firewall, f->celsius);
	if (f->microwatts >= 0)
		printf("           %.1f W, card of the %u W class\n", f->microwatts * 1e-6, cap);
}

static void print_function(const struct pf_card_function *f, unsigned cap)
{
	printf("  %s %04" PRIx16 ":%04" PRIx16 " %s, driver %s\n", strchr(f->bdf, '.'), f->vendor, f->device, f->role,
	       f->driver[0] ? f->driver : "none");
	print_place(f);
	if (strcmp(f->role, "user") != 0)
		return;
	printf("           shell %s, image %s\n", or_unknown(f->shell), or_unknown(f->image));
	print_health(f, cap);
}

static void print_text(const struct pf_machine_report *machine, const struct pf_error *why)
{
	for (size_t i = 0; i < machine->cards; i++) {
		const struct pf_card_report *card = &machine->card[i];
		printf("%s: %s %s %s\n", health[card->health], card->card, card->slot, card->text);
		if (card->remedy[0])
			printf("  do: %s\n", card->remedy);
		for (size_t k = 0; k < card->functions; k++)
			print_function(&machine->function[card->first + k], card->power_cap_w);
	}
	if (!machine->cards)
		printf("no FPGA card that prefpga knows%s%s\n", why->code ? ": " : "", why->code ? why->text : "");
	printf("XRT: library %s, driver xocl %s\n", machine->xrt[0] ? machine->xrt : "not found",
	       machine->driver[0] ? machine->driver : "not loaded");
	if (!machine->cards)
		puts("without a card: --device sim, or prefpga emulate -- CMD for XRT's own library, whose emulated "
		     "cards are on no PCI bus and not listed here");
}

/* A recorded machine that cannot be read is an error; a machine without a PCI bus has no cards */
int pf_verb_doctor(const struct pf_options *options)
{
	struct pf_discover_options where = { options->pci_dump, options->sysfs_root };
	struct pf_machine_report machine;
	struct pf_error why = { 0 };
	int worst = PF_HEALTH_OK, failed = 0;
	int status = pf_examine(&where, &machine, &why);
	if (status != 0 && (where.pci_dump || where.sysfs_root))
		return pf_cli_fail(options, &why);
	if (strcmp(options->format, "json") == 0)
		failed = print_json(&machine, &why);
	else
		print_text(&machine, &why);
	for (size_t i = 0; i < machine.cards; i++)
		worst = machine.card[i].health > (enum pf_health)worst ? (int)machine.card[i].health : worst;
	pf_machine_free(&machine);
	return failed || worst == PF_HEALTH_ERROR ? PF_EXIT_FAILED : PF_EXIT_OK;
}
