#include "meters.h"
#include "setup.h"
#include <stdlib.h>

int pf_cli_sensors(const struct pf_options *o, struct pf_sensor **sensors, size_t *count, struct pf_error *error)
{
	const struct pf_sensor_options options = { o->sysfs_root, o->power_report, o->power_aws };
	struct pf_error refused;
	int code = pf_sensors_find(&options, sensors, count, &refused);
	if (code)
		return pf_fail(error, code, "%s", refused.text);
	if (refused.code)
		pf_cli_note(o, "not used: %s", refused.text);
	if (*count)
		return 0;
	return pf_fail(error, PF_E_ABSENT,
	               "this machine shows no sensor of power%s; a card needs its driver, a processor readable "
	               "/sys/class/powercap (virtual machines have none); a meter at the wall works everywhere: "
	               "prefpga energy "
	               "--help",
	               refused.code ? " that can be used" : "");
}

int pf_cli_meters(const struct pf_options *o, const volatile sig_atomic_t *stop, struct pf_meters **meters,
                  struct pf_error *error)
{
	struct pf_sensor *sensors = NULL;
	size_t count;
	*meters = NULL;
	if (!o->energy)
		return 0;
	int code = pf_cli_sensors(o, &sensors, &count, error);
	if (!code)
		code = pf_meters_open(sensors, count, meters, error);
	free(sensors);
	if (code)
		return code;
	pf_cli_note(o, "measuring the idle machine before training");
	return pf_meters_idle(*meters, o->energy_idle, stop, error);
}

json_t *pf_cli_window_json(const struct pf_energy_window *w)
{
	struct pf_metrics_field fields[PF_ENERGY_FIELDS];
	pf_energy_fields(w, fields);
	return pf_metrics_object(fields, PF_ENERGY_FIELDS);
}

static void on_json(void *context, const struct pf_energy_window *w)
{
	json_array_append_new(context, pf_cli_window_json(w));
}

static void on_text(void *context, const struct pf_energy_window *w)
{
	const double steps = (double)(w->last - w->first + 1);
	(void)context;
	printf("energy, measured, %s (%s): %.4g J [%.4g, %.4g] in %.1f s, %.4g J a step; idle %.4g J of it [%.4g, "
	       "%.4g]\n",
	       pf_power_scope_name(w->sensor->scope), w->sensor->name, w->joule, w->low, w->high, w->seconds,
	       w->joule / steps, w->idle, w->idle_low, w->idle_high);
}

static void end(const struct pf_options *o, struct pf_meters *meters, pf_energy_fn window, void *context)
{
	struct pf_error failed;
	if (pf_meters_end(meters, pf_setup_stop(), window, context, &failed) != 0)
		pf_cli_note(o, "energy is incomplete: %s", failed.text);
}

json_t *pf_cli_energy_json(const struct pf_options *o, struct pf_meters *meters)
{
	json_t *list = json_array();
	end(o, meters, on_json, list);
	return list;
}

void pf_cli_energy_text(const struct pf_options *o, struct pf_meters *meters)
{
	end(o, meters, on_text, NULL);
}
