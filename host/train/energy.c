#include "energy.h"
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define POLL_S 0.05
#define GIVE_UP_REFRESHES 20.0         /* a sensor that shows nothing new for so long, */
#define GIVE_UP_S 10.0                 /* and as long as a busy machine may keep its reader, has stopped */
#define IDLE_TRIES 3

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
 * for an interruption and for a span that is too short */
static int wait_energy(struct pf_meters *m, size_t i, double from, double to, const volatile sig_atomic_t *stop,
                       struct pf_energy *energy)
{
	struct meter *meter = &m->meter[i];
	const double give_up = to + fmax(GIVE_UP_S, GIVE_UP_REFRESHES * meter->sensor.refresh_s);
	struct pf_error why;
	int code;
	while ((code = pf_ledger_energy(m->ledger, i, from, to, energy, &why)) == -EAGAIN &&
	       pf_ledger_now() < give_up) {
		if (stop && *stop)
			return PF_E_INTERRUPTED;
		rest();
	}
	if (code && code != PF_E_RANGE)
		meter->error = why;
	return code;
}

/* A busy machine leaves holes between the samples: a longer span may do then */
static int idle_of(struct pf_meters *m, size_t i, double from, double seconds, const volatile sig_atomic_t *stop)
{
	struct meter *meter = &m->meter[i];
	struct pf_energy e;
	int code = PF_E_RANGE;
	for (int tries = 0; code == PF_E_RANGE && tries < IDLE_TRIES; tries++, seconds *= 2.0)
		if ((code = wait_energy(m, i, from, from + seconds, stop, &e)) == 0) {
			meter->idle = e.joule / seconds;
			meter->idle_low = e.low / seconds;
			meter->idle_high = e.high / seconds;
		}
	if (code == PF_E_RANGE)
		pf_fail(&meter->error, code, "%s: the machine is too busy to read it", meter->sensor.name);
	return code;
}

int pf_meters_idle(struct pf_meters *m, double seconds, const volatile sig_atomic_t *stop, struct pf_error *error)
{
	for (size_t i = 0; i < m->meters; i++)
		seconds = fmax(seconds, pf_ledger_shortest(m->ledger, i));
	rest();                                /* the first samples are in */
	const double from = pf_ledger_now();
	for (size_t i = 0; i < m->meters; i++)
		if (idle_of(m, i, from, seconds, stop) == PF_E_INTERRUPTED)
			return pf_fail(error, PF_E_INTERRUPTED, "interrupted while the idle machine was measured");
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

/* Closes the window of a sensor at the first boundary that its samples allow. 1: closed */
static int try_window(struct pf_meters *m, size_t i)
{
	struct meter *meter = &m->meter[i];
	const size_t first = meter->error.code ? 0 : window_end(m, i);
	int code = PF_E_RANGE;
	for (size_t end = first; end && end < m->count && code == PF_E_RANGE; end++) {
		struct pf_energy e;
		struct pf_error why;
		code = pf_ledger_energy(m->ledger, i, m->at[meter->start].time, m->at[end].time, &e, &why);
		if (code == 0)
			close_window(m, meter, meter->start, end, &e);
		else if (code != PF_E_RANGE && code != -EAGAIN)
			meter->error = why;
	}
	return code == 0;
}

int pf_meters_step(struct pf_meters *m, pf_energy_fn window, void *context, struct pf_error *error)
{
	const int code = push(m, m->at[m->count - 1].steps + 1, error);
	for (size_t i = 0; !code && i < m->meters; i++)
		if (try_window(m, i))
			window(context, &m->meter[i].last);
	forget(m);
	return code;
}

/* What is left behind the last window; if the sensor cannot see it alone, it is taken together with that one */
static void close_rest(struct pf_meters *m, size_t i, const volatile sig_atomic_t *stop)
{
	struct meter *meter = &m->meter[i];
	const size_t end = m->count - 1;
	size_t from = meter->start;
	struct pf_energy e;
	if (meter->error.code || from == end)
		return;
	int code = wait_energy(m, i, m->at[from].time, m->at[end].time, stop, &e);
	if (code == PF_E_RANGE && meter->total.sensor) {
		from = meter->previous;
		code = wait_energy(m, i, m->at[from].time, m->at[end].time, stop, &e);
	}
	if (code == PF_E_RANGE || code == PF_E_INTERRUPTED)
		pf_fail(&meter->error, code, "%s has not shown the last %.3g s", meter->sensor.name,
		        m->at[end].time - m->at[meter->start].time);
	if (code)
		return;
	if (from != meter->start)
		add(&meter->total, &meter->last, -1.0);
	close_window(m, meter, from, end, &e);
}

int pf_meters_end(struct pf_meters *m, const volatile sig_atomic_t *stop, pf_energy_fn window, void *context,
                  struct pf_error *failed)
{
	int code = 0;
	for (size_t i = 0; i < m->meters; i++) {
		struct meter *meter = &m->meter[i];
		close_rest(m, i, stop);
		if (meter->error.code)
			code = pf_fail(failed, meter->error.code, "%s", meter->error.text);
		if (meter->total.sensor)
			window(context, &meter->total);
	}
	return code;
}
