#include "card_json.h"
#include <inttypes.h>
#include <stdio.h>

static json_t *number(int value)
{
	return value < 0 ? json_null() : json_integer(value);
}

static json_t *truth(int value)
{
	return value < 0 ? json_null() : json_boolean(value);
}

static json_t *text(const char *value)
{
	return value[0] ? json_string(value) : json_null();
}

static json_t *bars(const struct pf_card_function *f)
{
	json_t *list = json_array();
	for (unsigned i = 0; i < 6; i++)
		json_array_append_new(list, json_integer((json_int_t)f->bar_bytes[i]));
	return list;
}

json_t *pf_cli_card_json(const struct pf_card_function *f)
{
	char vendor[8], device[8];
	snprintf(vendor, sizeof vendor, "%04" PRIx16, f->vendor);
	snprintf(device, sizeof device, "%04" PRIx16, f->device);
	json_t *link = json_pack("{so si so si}", "speed", text(f->link_speed), "width", (int)f->link_width,
	                         "max_speed", text(f->link_speed_max), "max_width", (int)f->link_width_max);
	json_t *health = json_pack("{so so so so}", "alive", truth(f->alive), "firewall_level", number(f->firewall),
	                           "fpga_celsius", number(f->celsius), "power_microwatts", number(f->microwatts));
	return json_pack("{ss ss ss ss ss so so so so so so so so so}", "bdf", f->bdf, "vendor", vendor, "device",
	                 device, "card", f->card, "role", f->role, "driver", text(f->driver), "link", link, "numa_node",
	                 number(f->numa_node), "iommu_group", number(f->iommu_group), "bar_bytes", bars(f),
	                 "accessible", truth(f->accessible), "shell", text(f->shell), "image", text(f->image), "health",
	                 health);
}
