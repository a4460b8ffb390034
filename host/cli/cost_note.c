#include "cost_note.h"
#include <stdio.h>

void pf_cli_cost_note(const struct pf_options *o, const struct pf_device *device, unsigned devices,
                      const char *precision, struct pf_cost_head head, char *text, size_t room)
{
	const char *card = pf_cost_card_of(pf_device_facts(device));
	struct pf_cost_place place = { .devices = devices };
	struct pf_error error = { 0 };
	struct pf_cost cost;
	text[0] = '\0';
	head.precision = (enum pf_precision)pf_precision_find(precision);
	place.cus = pf_device_cus(device, pf_precision_forward_kernel(head.precision));
	if (!card || !place.cus || pf_cycles_card(card, &place.card, &error))
		return;
	place.host_flops = pf_cost_host_flops((unsigned)o->threads);
	if (pf_cost(&place, &head, &cost, &error))
		snprintf(text, room, "%s", error.text);
	else
		pf_cost_say(&cost, card, &place, text, room);
}
