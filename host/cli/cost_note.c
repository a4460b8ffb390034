#include "cost_note.h"
#include <stdio.h>
#include "host/train/precision.h"

static void set_precision(struct pf_cost_head *head, enum pf_precision precision)
{
	head->forward = pf_precision_forward_kernel(precision);
	head->gradient = pf_precision_backward_kernel(precision);
	head->weight_bytes = precision == PF_PRECISION_FP32 ? 4 : precision == PF_PRECISION_BF16 ? 2 : 33.0 / 32;
	head->hidden_bytes = precision == PF_PRECISION_FP32 ? 4 : 2;
}

void pf_cli_cost_note(const struct pf_options *o, const struct pf_device *device, unsigned devices,
                      const char *precision, struct pf_cost_head head, char *text, size_t room)
{
	const char *card = pf_cost_card_of(pf_device_facts(device));
	struct pf_cost_place place = { .devices = devices };
	struct pf_error error = { 0 };
	struct pf_cost cost;
	text[0] = '\0';
	set_precision(&head, (enum pf_precision)pf_precision_find(precision));
	place.cus = pf_device_cus(device, head.forward);
	if (!card || !place.cus || pf_cycles_card(card, &place.card, &error))
		return;
	place.host_flops = pf_cost_host_flops((unsigned)o->threads);
	if (pf_cost(&place, &head, &cost, &error))
		snprintf(text, room, "%s", error.text);
	else
		pf_cost_say(&cost, card, &place, text, room);
}
