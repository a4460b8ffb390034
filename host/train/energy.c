#include "energy.h"
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define POLL_S 0.05
#define GIVE_UP_REFRESHES 20.0         /* a sensor that shows nothing new for so long has stopped */

struct boundary { double time; uint64_t steps; };

struct meter {
	struct pf_sensor sensor;
	size_t start, previous;                /* boundaries: of the window that is open, of the one before */
	struct pf_energy_window total, last;   /* closed windows together; the last of them */
	double idle, idle_low, idle_high;      /* W */
	struct pf_error error;                 /* code: this sensor is out */
};

struct pf_meters {
	struct pf_ledger *ledger;
	struct meter *meter;
	size_t meters;
	struct boundary *at;                   /* ends of steps since the earliest `previous` */
	size_t count, room;
};

int pf_meters_open(const struct pf_sensor *sensor, size_t sensors, struct pf_meters **meters, struct pf_error *error)
{
	const struct pf_ledger_options options = { .sensor = sensor, .sensors = sensors };
	struct pf_meters *m = calloc(1, sizeof *m);
	*meters = NULL;
	if (m)
		m->meter = calloc(sensors ? sensors : 1, sizeof *m->meter);
	if (!m || !m->meter) {
		pf_meters_close(m);
		return pf_fail(error, -ENOMEM, "no memory for %zu sensors", sensors);
	}
	m->meters = sensors;
	for (size_t i = 0; i < sensors; i++)
		m->meter[i].sensor = sensor[i];
	int code = pf_ledger_open(&options, &m->ledger, error);
	if (!code)
		code = pf_ledger_start(m->ledger, error);
	if (code) {
		pf_meters_close(m);
		return code;
	}
	*meters = m;
	return 0;
}

void pf_meters_close(struct pf_meters *m)
{
	if (!m)
		return;
	pf_ledger_close(m->ledger);
	free(m->meter);
	free(m->at);
	free(m);
}

void pf_energy_fields(const struct pf_energy_window *w, struct pf_metrics_field field[PF_ENERGY_FIELDS])
{
	const struct pf_metrics_field fields[PF_ENERGY_FIELDS] = {
		{ "sensor", w->sensor->name, 0.0 }, { "scope", pf_power_scope_name(w->sensor->scope), 0.0 },
		{ "kind", "measured", 0.0 }, { "first_step", NULL, (double)w->first },
		{ "last_step", NULL, (double)w->last },
		{ "seconds", NULL, w->seconds }, { "joule", NULL, w->joule }, { "joule_low", NULL, w->low },
		{ "joule_high", NULL, w->high }, { "idle_joule", NULL, w->idle },
		{ "idle_joule_low", NULL, w->idle_low },
		{ "idle_joule_high", NULL, w->idle_high },
	};
	memcpy(field, fields, sizeof fields);
}

/* ---- waiting ---- */

static void rest(void)
{
	const struct timespec pause = { 0, (long)(1e9 * POLL_S) };
	nanosleep(&pause, NULL);
}

/* Energy of a span that ends now or ended before: waits for the samples behind it. A failure puts the sensor out, but
 * for an interruption */
static int wait_energy(struct pf_meters *m, size_t i, double from, double to, const volatile sig_atomic_t *stop,
                       struct pf_energy *energy)
{
	struct meter *meter = &m->meter[i];
	const double give_up = to + GIVE_UP_REFRESHES * (meter->sensor.refresh_s + POLL_S);
	struct pf_error why;
	int code;
	while ((code = pf_ledger_energy(m->ledger, i, from, to, energy, &why)) == -EAGAIN &&
	       pf_ledger_now() < give_up) {
		if (stop && *stop)
			return PF_E_INTERRUPTED;
		rest();
	}
	if (code)
		meter->error = why;
	return code;
}

int pf_meters_idle(struct pf_meters *m, double seconds, const volatile sig_atomic_t *stop, struct pf_error *error)
{
	for (size_t i = 0; i < m->meters; i++)
		seconds = fmax(seconds, pf_ledger_shortest(m->ledger, i));
	rest();                                /* the first samples are in */
	const double from = pf_ledger_now(), to = from + seconds;
	for (size_t i = 0; i < m->meters; i++) {
		struct meter *meter = &m->meter[i];
		struct pf_energy e;
		if (wait_energy(m, i, from, to, stop, &e) == PF_E_INTERRUPTED)
			return pf_fail(error, PF_E_INTERRUPTED, "interrupted while the idle machine was measured");
		meter->idle = e.joule / seconds;
		meter->idle_low = e.low / seconds;
		meter->idle_high = e.high / seconds;
	}
	return 0;
}

/* ---- windows ---- */

static int push(struct pf_meters *m, uint64_t steps, struct pf_error *error)
{
	if (m->count == m->room) {
		const size_t room = m->room ? 2 * m->room : 64;
		struct boundary *at = realloc(m->at, room * sizeof *at);
		if (!at)
			return pf_fail(error, -ENOMEM, "no memory for the ends of steps");
		m->at = at;
		m->room = room;
	}
	m->at[m->count++] = (struct boundary){ pf_ledger_now(), steps };
	return 0;
}

int pf_meters_begin(struct pf_meters *m, uint64_t steps, struct pf_error *error)
{
	m->count = 0;
	for (size_t i = 0; i < m->meters; i++)
		m->meter[i].start = m->meter[i].previous = 0;
	return push(m, steps, error);
}

static struct pf_energy_window make_window(const struct pf_meters *m, const struct meter *meter, size_t from, size_t to,
                                           const struct pf_energy *e)
{
	const double seconds = m->at[to].time - m->at[from].time;
	return (struct pf_energy_window){ &meter->sensor,
		                          m->at[from].steps + 1,
		                          m->at[to].steps,
		                          seconds,
		                          e->joule,
		                          e->low,
		                          e->high,
		                          meter->idle * seconds,
		                          meter->idle_low * seconds,
		                          meter->idle_high * seconds };
}

static void add(struct pf_energy_window *total, const struct pf_energy_window *w, double sign)
{
	total->seconds += sign * w->seconds;
	total->joule += sign * w->joule;
	total->low += sign * w->low;
	total->high += sign * w->high;
	total->idle += sign * w->idle;
	total->idle_low += sign * w->idle_low;
	total->idle_high += sign * w->idle_high;
}

/* Takes window [from, to] into the total */
static void close_window(struct pf_meters *m, struct meter *meter, size_t from, size_t to, const struct pf_energy *e)
{
	meter->last = make_window(m, meter, from, to, e);
	if (!meter->total.sensor)
		meter->total = (struct pf_energy_window){ .sensor = &meter->sensor, .first = meter->last.first };
	add(&meter->total, &meter->last, 1.0);
	meter->total.last = meter->last.last;
	meter->previous = from;
	meter->start = to;
}

/* The first boundary that ends a window long enough, 0 if there is none yet */
static size_t window_end(const struct pf_meters *m, size_t i)
{
	const double least = m->at[m->meter[i].start].time + pf_ledger_shortest(m->ledger, i);
	for (size_t k = m->meter[i].start + 1; k < m->count; k++)
		if (m->at[k].time >= least)
			return k;
	return 0;
}

/* Boundaries and samples that no window will ask for again */
static void forget(struct pf_meters *m)
{
	size_t old = m->count - 1;
	double before = m->at[old].time;
	for (size_t i = 0; i < m->meters; i++) {
		const struct meter *meter = &m->meter[i];
		if (meter->error.code)
			continue;
		old = meter->previous < old ? meter->previous : old;
		before = fmin(before, m->at[meter->previous].time - 2.0 * pf_ledger_shortest(m->ledger, i));
	}
	pf_ledger_forget(m->ledger, before);
	memmove(m->at, m->at + old, (m->count - old) * sizeof *m->at);
	m->count -= old;
	for (size_t i = 0; i < m->meters; i++) {
		m->meter[i].start -= m->meter[i].error.code ? m->meter[i].start : old;
		m->meter[i].previous -= m->meter[i].error.code ? m->meter[i].previous : old;
	}
}

int pf_meters_step(struct pf_meters *m, pf_energy_fn window, void *context, struct pf_error *error)
{
	int code = push(m, m->at[m->count - 1].steps + 1, error);
	for (size_t i = 0; !code && i < m->meters; i++) {
		struct meter *meter = &m->meter[i];
		const size_t end = meter->error.code ? 0 : window_end(m, i);
		struct pf_energy e;
		struct pf_error why;
		const int one =
			end ? pf_ledger_energy(m->ledger, i, m->at[meter->start].time, m->at[end].time, &e, &why)
			    : -EAGAIN;
		if (one == 0) {
			close_window(m, meter, meter->start, end, &e);
			window(context, &meter->last);
		} else if (one != -EAGAIN) {
			meter->error = why;
		}
	}
	forget(m);
	return code;
}

/* What is left behind the last window; too short alone, it is taken together with that one */
static void close_rest(struct pf_meters *m, size_t i)
{
	struct meter *meter = &m->meter[i];
	const size_t end = m->count - 1;
	struct pf_energy e;
	if (meter->error.code || meter->start == end)
		return;
	const int alone = m->at[end].time - m->at[meter->start].time >= pf_ledger_shortest(m->ledger, i);
	const size_t from = alone || !meter->total.sensor ? meter->start : meter->previous;
	if (wait_energy(m, i, m->at[from].time, m->at[end].time, NULL, &e) != 0)
		return;
	if (from != meter->start)
		add(&meter->total, &meter->last, -1.0);
	close_window(m, meter, from, end, &e);
}

int pf_meters_end(struct pf_meters *m, pf_energy_fn window, void *context, struct pf_error *failed)
{
	int code = 0;
	for (size_t i = 0; i < m->meters; i++) {
		struct meter *meter = &m->meter[i];
		close_rest(m, i);
		if (meter->error.code)
			code = pf_fail(failed, meter->error.code, "%s", meter->error.text);
		if (meter->total.sensor)
			window(context, &meter->total);
	}
	return code;
}
