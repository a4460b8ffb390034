/* Power in texts that other programs write. */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include "power.h"

static const json_t *find_device(const json_t *devices, const char *bdf, struct pf_error *error)
{
	const size_t count = json_array_size(devices);
	if (!*bdf && count == 1)
		return json_array_get(devices, 0);
	for (size_t i = 0; *bdf && i < count; i++) {
		const json_t *device = json_array_get(devices, i);
		const char *id = json_string_value(json_object_get(device, "device_id"));
		if (id && strcmp(id, bdf) == 0)
			return device;
	}
	pf_fail(error, PF_E_FORMAT, "%zu devices in the report, %s%s; write it with `xrt-smi examine -d BDF -r "
	        "electrical -f JSON`", count, *bdf ? "none is " : "and not one", bdf);
	return NULL;
}

int pf_power_report(const char *text, const char *bdf, double *watts, struct pf_error *error)
{
	json_error_t where;
	json_t *root = json_loads(text, JSON_REJECT_DUPLICATES, &where);
	if (!root)
		return pf_fail(error, PF_E_FORMAT, "line %d of the report: %s", where.line, where.text);
	int code = PF_E_FORMAT;
	const json_t *device = find_device(json_object_get(root, "devices"), bdf, error);
	if (device) {
		const json_t *electrical = json_object_get(device, "electrical");
		const char *number = json_string_value(json_object_get(electrical, "power_consumption_watts"));
		code = number ? pf_power_number(number, watts) : PF_E_DATA;
		if (code)
			code = pf_fail(error, PF_E_DATA, "power_consumption_watts of the report is %s%.40s; this card "
			               "or shell does not show it", number ? "" : "missing", number ? number : "");
	}
	json_decref(root);
	return code;
}

int pf_power_aws(const char *text, double *watts, struct pf_error *error)
{
	static const char head[] = "Power consumption (Vccint):", line[] = "Last measured:";
	const char *at = strstr(text, head);
	char *end;
	at = at ? strstr(at, line) : NULL;
	if (!at)
		return pf_fail(error, PF_E_FORMAT, "no line \"%s\" under \"%s\"; write the file with "
		               "`fpga-describe-local-image -S SLOT -M`", line, head);
	at += sizeof line - 1;
	at += strspn(at, " \t");
	*watts = *at >= '0' && *at <= '9' ? strtod(at, &end) : -1.0;
	if (*watts < 0.0 || strncmp(end, " watts", 6) != 0)
		return pf_fail(error, PF_E_FORMAT, "\"%s %.20s\": expected a number of watts", line, at);
	return 0;
}
