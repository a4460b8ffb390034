/* Verb energy: what can be measured here, and the energy of a training that a meter at the wall watched. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "energy_meter.h"
#include "meters.h"

static json_t *sensor_json(const struct pf_sensor *s, double value)
{
	return json_pack("{ss ss ss sf ss sf so}", "sensor", s->name, "scope", pf_power_scope_name(s->scope), "shows",
	                 s->counts ? "energy" : "power", "refresh_s", s->refresh_s, "file", s->path,
	                 s->counts ? "joule" : "watt", value, "kind", json_string("measured"));
}

static int list(const struct pf_options *o)
{
	const int as_json = strcmp(o->format, "json") == 0;
	struct pf_sensor *sensors = NULL;
	struct pf_error error;
	size_t count = 0;
	int code = pf_cli_sensors(o, &sensors, &count, &error);
	json_t *all = json_array();
	for (size_t i = 0; !code && i < count; i++) {
		const struct pf_sensor *s = &sensors[i];
		double value = NAN;
		code = pf_sensor_read(s, &value, &error);
		if (!code && as_json)
			json_array_append_new(all, sensor_json(s, value));
		else if (!code)
			printf("%-28s %-8s %12.6g %s, a new value every %g s  (%s)\n", s->name,
			       pf_power_scope_name(s->scope), value, s->counts ? "J" : "W", s->refresh_s, s->path);
	}
	if (!code && as_json) {
		json_dumpf(all, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(9));
		putchar('\n');
	}
	json_decref(all);
	free(sensors);
	return code ? pf_cli_fail(o, &error) : PF_EXIT_OK;
}

/* ---- a meter at the wall ---- */

static void end_line(const struct pf_energy_window *w)
{
	if (isfinite(w->idle))
		printf("; idle %.4g J of it [%.4g, %.4g]", w->idle, w->idle_low, w->idle_high);
	putchar('\n');
}

static void on_window(void *context, const struct pf_energy_window *w)
{
	const struct pf_options *o = context;
	if (strcmp(o->format, "json") != 0) {
		printf("steps %llu to %llu, measured at the wall: %.4g J [%.4g, %.4g] in %.1f s",
		       (unsigned long long)w->first, (unsigned long long)w->last, w->joule, w->low, w->high,
		       w->seconds);
		end_line(w);
		return;
	}
	json_t *json = pf_cli_window_json(w);
	json_dumpf(json, stdout, JSON_COMPACT | JSON_REAL_PRECISION(9));
	putchar('\n');
	json_decref(json);
}

static void on_total(void *context, const struct pf_energy_window *w)
{
	const struct pf_options *o = context;
	const double steps = (double)(w->last - w->first + 1);
	if (strcmp(o->format, "json") == 0)
		return;
	printf("all, measured at the wall: %.5g J [%.5g, %.5g] in %.1f s, %.4g J a step, %.4g W", w->joule, w->low,
	       w->high, w->seconds, w->joule / steps, w->joule / w->seconds);
	end_line(w);
}

int pf_verb_energy(const struct pf_options *o)
{
	struct pf_error error;
	if (!o->meter && !o->meter_log)
		return list(o);
	if (!o->meter || !o->meter_log)
		return pf_cli_usage(o, "--meter and --log belong together: the readings, and the training they are of");
	if (pf_energy_meter(o->meter, o->meter_log, on_window, on_total, (void *)(uintptr_t)o, &error) != 0)
		return pf_cli_fail(o, &error);
	return PF_EXIT_OK;
}
