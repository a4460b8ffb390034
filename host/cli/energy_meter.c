#include "energy_meter.h"
#include <errno.h>
#include <math.h>
#include "host/report/meter.h"
#include "host/report/run_log.h"

#define DRIFT 0.01                     /* clocks of a meter are no better */

enum { UNIX_MS, SECONDS, KEYS };
static const char *const keys[KEYS] = { "unix_ms", "seconds" };

/* Times in seconds since 1970 */
struct steps { struct pf_run_log log; size_t count; double start; };

static double end_of(const struct steps *s, size_t i)
{
	return 1e-3 * s->log.value[UNIX_MS][i];
}

/* ---- the log ---- */

static int read_log(const char *path, struct steps *s, struct pf_error *error)
{
	int code = pf_run_log_read(path, keys, KEYS, &s->log, error);
	s->count = code ? 0 : s->log.steps;
	for (size_t i = 0; !code && i < s->count; i++) {
		if (!(s->log.value[UNIX_MS][i] > 0 && s->log.value[SECONDS][i] >= 0 && s->log.step[i] >= 1))
			code = pf_fail(error, PF_E_FORMAT,
			               "%s:%zu: no step, seconds and unix_ms; is it the metrics.jsonl of a training?",
			               path, i + 1);
		else if (i && (!(end_of(s, i) > end_of(s, i - 1)) || s->log.step[i] != s->log.step[i - 1] + 1))
			code = pf_fail(error, PF_E_DATA,
			               "%s:%zu: step %.0f does not follow the one before in number and time", path,
			               i + 1, s->log.step[i]);
	}
	if (!code)
		s->start = end_of(s, 0) - s->log.value[SECONDS][0];
	return code;
}

/* ---- both together ---- */

/* Seconds to add to the meter's times */
static int align(const char *path, const struct pf_meter *m, const struct steps *s, double *shift,
                 struct pf_error *error)
{
	const double end = end_of(s, s->count - 1), span = end - s->start;
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
	uint64_t first = (uint64_t)s->log.step[0];
	*total = (struct pf_energy_window){ .sensor = sensor, .first = first };
	for (size_t i = 0; i < s->count; i++) {
		struct pf_energy e;
		int code = pf_ledger_energy(ledger, 0, from, end_of(s, i), &e, error);
		if (code == PF_E_RANGE && i + 1 < s->count)
			continue;
		if (code == -EAGAIN || code == PF_E_RANGE)
			break;
		if (code)
			return code;
		const double seconds = end_of(s, i) - from;
		const struct pf_energy_window w = { .sensor = sensor, .first = first, .last = (uint64_t)s->log.step[i],
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
		from = end_of(s, i);
		first = w.last + 1;
	}
	return total->last ? 0
	                   : pf_fail(error, PF_E_RANGE,
	                             "the training is too short for this meter: %.3g s, at least %.3g s are needed, "
	                             "for its readings lie up to %.3g s apart",
	                             end_of(s, s->count - 1) - s->start, pf_ledger_shortest(ledger, 0),
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
	pf_run_log_close(&steps.log);
	return code;
}
