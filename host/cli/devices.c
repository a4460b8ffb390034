#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include "card_json.h"
#include "cli.h"
#include "prefpga/device.h"
#include "prefpga/discover.h"

struct found { struct pf_card_function *at; size_t count; struct pf_error why; };

static int print_json(const struct found *found)
{
	json_t *cards = json_array(), *backends = json_array();
	for (size_t i = 0; i < found->count; i++)
		json_array_append_new(cards, pf_cli_card_json(&found->at[i]));
	for (unsigned i = 0; pf_backend_name(i); i++)
		json_array_append_new(backends, json_string(pf_backend_name(i)));
	json_t *all = json_pack("{so so}", "cards", cards, "backends", backends);
	if (all && found->why.code)
		json_object_set_new(all, "note", json_string(found->why.text));
	int failed = !all || json_dumpf(all, stdout, JSON_INDENT(2)) != 0 || putchar('\n') == EOF;
	json_decref(all);
	return failed ? PF_EXIT_FAILED : PF_EXIT_OK;
}

static const char *or_dash(const char *text)
{
	return text[0] ? text : "-";
}

static void print_function(const struct pf_card_function *f)
{
	printf("%-13s %04" PRIx16 ":%04" PRIx16 "  %-8s %-7s %-10s ", f->bdf, f->vendor, f->device,
	       f->card, f->role, or_dash(f->driver));
	if (f->link_width)
		printf("x%u %s (of x%u %s)\n", f->link_width, f->link_speed, f->link_width_max,
		       f->link_speed_max);
	else
		puts("-");
}

static int print_table(const struct found *found)
{
	if (found->count)
		printf("%-13s %-9s  %-8s %-7s %-10s %s\n", "BDF", "id", "card", "role", "driver", "link");
	for (size_t i = 0; i < found->count; i++)
		print_function(&found->at[i]);
	if (!found->count && !found->why.code)
		puts("no FPGA card that prefpga knows");
	printf("--device takes: auto");
	for (unsigned i = 0; pf_backend_name(i); i++)
		printf(", %s", pf_backend_name(i));
	putchar('\n');
	for (size_t i = 0; i < found->count; i++)
		if (strcmp(found->at[i].role, "user") == 0)
			printf("  --device xrt:%s\n", found->at[i].bdf);
	return PF_EXIT_OK;
}

/* A recorded machine that cannot be read is an error; a machine without a PCI bus is an answer */
int pf_verb_devices(const struct pf_options *options)
{
	struct pf_discover_options where = { options->pci_dump, options->sysfs_root };
	struct found found = { NULL, 0, { 0 } };
	int status = pf_discover(&where, &found.at, &found.count, &found.why);
	if (status != 0 && (where.pci_dump || where.sysfs_root))
		return pf_cli_fail(options, &found.why);
	if (status != 0)
		pf_cli_note(options, "%s", found.why.text);
	int code = strcmp(options->format, "json") == 0 ? print_json(&found) : print_table(&found);
	free(found.at);
	return code;
}
