#include "energy_meter.h"
#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "host/report/meter.h"

enum { LINE_BYTES = 1 << 20 };
#define DRIFT 0.01                     /* clocks of a meter are no better */

struct step { uint64_t step; double end; };    /* seconds since 1970 */

struct steps { struct step *at; size_t count, room; double start; };

/* ---- the log ---- */

static int take_step(struct steps *s, const char *path, unsigned line, const char *text, struct pf_error *error)
{
	json_error_t where;
	json_t *json = json_loads(text, 0, &where), *unix_ms = json_object_get(json, "unix_ms");
	const double end = 1e-3 * json_number_value(unix_ms);
	const json_int_t step = json_integer_value(json_object_get(json, "step"));
	const double seconds = json_number_value(json_object_get(json, "seconds"));
	int code = 0;
	if (!json_is_integer(unix_ms) || step < 1 || !(seconds >= 0.0))
		code = pf_fail(error, PF_E_FORMAT,
		               "%s:%u: no step, seconds and unix_ms; is it the metrics.jsonl of a training?", path,
		               line);
	else if (s->count && (!(end > s->at[s->count - 1].end) || (uint64_t)step != s->at[s->count - 1].step + 1))
		code = pf_fail(error, PF_E_DATA, "%s:%u: step %lld does not follow the one before in number and time",
		               path, line, (long long)step);
	json_decref(json);
	if (!code && s->count == s->room) {
		s->room = s->room ? 2 * s->room : 256;
		struct step *at = realloc(s->at, s->room * sizeof *at);
		if (!at)
			return pf_fail(error, -ENOMEM, "no memory for %zu steps", s->room);
		s->at = at;
	}
	if (!code && !s->count)
		s->start = end - seconds;
	if (!code)
		s->at[s->count++] = (struct step){ (uint64_t)step, end };
	return code;
}

static int read_log(const char *path, struct steps *s, struct pf_error *error)
{
	char *line = malloc(LINE_BYTES);
	FILE *file = fopen(path, "r");
	int code = !file ? pf_fail(error, -errno, "%s: %s", path, strerror(errno))
	                 : line ? 0 : pf_fail(error, -ENOMEM, "no memory for a line of %s", path);
	for (unsigned number = 1; !code && fgets(line, LINE_BYTES, file); number++)
		code = take_step(s, path, number, line, error);
	if (!code && !s->count)
		code = pf_fail(error, PF_E_DATA, "%s: no steps", path);
	if (file)
		fclose(file);
	free(line);
	return code;
}

/* ---- both together ---- */

/* Seconds to add to the meter's times */
static int align(const char *path, const struct pf_meter *m, const struct steps *s, double *shift,
                 struct pf_error *error)
{
	const double end = s->at[s->count - 1].end, span = end - s->start;
	*shift = isnan(m->start) ? 0.0 : s->start - m->start;
	if (isnan(m->start) && !isnan(m->end))
		*shift = end - m->end;
	if (!isnan(m->start) && !isnan(m->end) && !(fabs(m->end - m->start - span) <= 2.0 * m->spacing + DRIFT * span))
		return pf_fail(error, PF_E_MISMATCH,
		               "%s: %.1f s between its markers start and end, the training took %.1f s; are they "
		               "of the same run?",
		               path, m->end - m->start, span);
	if (m->at[0].time + *shift > s->start || m->at[m->count - 1].time + *shift < end)
		return pf_fail(error, PF_E_MISMATCH,
		               "%s: its readings do not cover the training; if its clock is not UNIX time, "
		               "mark the line where training began with `start` in a third column",
		               path);
	return 0;
}

/* The finest step that the readings show */
static double finest_step(const struct pf_meter *m)
{
	double step = INFINITY;
	for (size_t i = 1; i < m->count; i++) {
		const double change = fabs(m->at[i].watt - m->at[i - 1].watt);
		step = change > 0.0 ? fmin(step, change) : step;
	}
	return isfinite(step) ? step : 1.0;
}

static int fill(const struct pf_meter *m, double shift, struct pf_ledger **ledger, struct pf_sensor *sensor,
                struct pf_error *error)
{
	*sensor = (struct pf_sensor){ .scope = PF_POWER_WALL, .name = "meter", .refresh_s = m->spacing,
	                              .step = finest_step(m), .unit = 1.0 };
	const struct pf_ledger_options options = { sensor, 1, m->spacing };
	int code = pf_ledger_open(&options, ledger, error);
	for (size_t i = 0; !code && i < m->count; i++)
		code = pf_ledger_add(*ledger, 0, m->at[i].time + shift, m->at[i].watt, error);
	return code;
}

struct idle { double watt, low, high; };       /* NaN: the meter does not say */

/* Of the stretch that is marked so */
static int find_idle(const char *path, const struct pf_meter *m, double shift, struct pf_ledger *ledger,
                     struct idle *idle, struct pf_error *error)
{
	const double seconds = m->idle_end - m->idle;
	struct pf_energy e;
	*idle = (struct idle){ NAN, NAN, NAN };
	if (isnan(m->idle))
		return 0;
	if (pf_ledger_energy(ledger, 0, m->idle + shift, m->idle_end + shift, &e, error) != 0)
		return pf_fail(error, PF_E_RANGE,
		               "%s: its first and last line marked `idle` are %.3g s apart, at least %.3g s are needed "
		               "between other readings", path, seconds, pf_ledger_shortest(ledger, 0));
	*idle = (struct idle){ e.joule / seconds, e.low / seconds, e.high / seconds };
	return 0;
}

/* Windows from the first step on, each as short as the meter can see */
static int walk(struct pf_ledger *ledger, const struct pf_sensor *sensor, const struct steps *s,
                const struct idle *idle, pf_energy_fn window, struct pf_energy_window *total, void *context,
                struct pf_error *error)
{
	double from = s->start;
	uint64_t first = s->at[0].step;
	*total = (struct pf_energy_window){ .sensor = sensor, .first = first };
	for (size_t i = 0; i < s->count; i++) {
		struct pf_energy e;
		int code = pf_ledger_energy(ledger, 0, from, s->at[i].end, &e, error);
		if (code == PF_E_RANGE && i + 1 < s->count)
			continue;
		if (code == -EAGAIN || code == PF_E_RANGE)
			break;
		if (code)
			return code;
		const double seconds = s->at[i].end - from;
		const struct pf_energy_window w = { .sensor = sensor, .first = first, .last = s->at[i].step,
			.seconds = seconds, .joule = e.joule, .low = e.low, .high = e.high,
			.idle = seconds * idle->watt, .idle_low = seconds * idle->low,
			.idle_high = seconds * idle->high };
		window(context, &w);
		total->last = w.last;
		total->seconds += w.seconds;
		total->joule += w.joule;
		total->low += w.low;
		total->high += w.high;
		total->idle += w.idle;
		total->idle_low += w.idle_low;
		total->idle_high += w.idle_high;
		from = s->at[i].end;
		first = w.last + 1;
	}
	return total->last ? 0
	                   : pf_fail(error, PF_E_RANGE,
	                             "the training is too short for this meter: %.3g s, at least %.3g s are needed, "
	                             "for its readings lie up to %.3g s apart",
	                             s->at[s->count - 1].end - s->start, pf_ledger_shortest(ledger, 0),
	                             sensor->refresh_s);
}

int pf_energy_meter(const char *meter, const char *log, pf_energy_fn window, pf_energy_fn total, void *context,
                    struct pf_error *error)
{
	struct steps steps = { 0 };
	struct pf_meter m = { 0 };
	struct pf_ledger *ledger = NULL;
	struct pf_sensor sensor;
	struct pf_energy_window all;
	struct idle idle;
	double shift = 0.0;
	int code = read_log(log, &steps, error);
	if (!code)
		code = pf_meter_read(meter, &m, error);
	if (!code)
		code = align(meter, &m, &steps, &shift, error);
	if (!code)
		code = fill(&m, shift, &ledger, &sensor, error);
	if (!code)
		code = find_idle(meter, &m, shift, ledger, &idle, error);
	if (!code)
		code = walk(ledger, &sensor, &steps, &idle, window, &all, context, error);
	if (!code)
		total(context, &all);
	pf_ledger_close(ledger);
	pf_meter_free(&m);
	free(steps.at);
	return code;
}
