/* The ledger: samples of sensors, and integrals over them.
 *
 * What is known. A sample at time t shows the power at some moment in [t - R, t], R the refresh; a counter shows the
 * energy up to such a moment. Samples lie at most d apart. For power one thing is assumed: between two refreshes the
 * true power lies between the values shown before and after. Any moment then has a refresh before it and one after it
 * that show within w = R + d of it, so its power lies between the least and the most shown in that neighbourhood; that
 * gives low and high. For counters nothing is assumed: they never run backwards. */
#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "prefpga/power.h"

enum { GAPS_LEAST = 2 };
#define PERIOD_LEAST_S 0.01

struct sample { double time, value; };

struct track {
	struct pf_sensor sensor;
	double period;
	struct sample *at;             /* [count], times ascend; of a counter without its wraps */
	size_t count, room;
	double wrapped;                /* J added to a counter's readings so far */
	double next;                   /* when the thread reads it again */
	struct pf_error error;         /* of the last reading, if it failed */
};

struct pf_ledger {
	pthread_mutex_t lock;          /* everything below */
	pthread_cond_t wake;
	pthread_t thread;
	int running, stop;
	struct track *track;
	size_t tracks;
};

double pf_ledger_now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* ---- life ---- */

int pf_ledger_open(const struct pf_ledger_options *o, struct pf_ledger **ledger, struct pf_error *error)
{
	struct pf_ledger *l = calloc(1, sizeof *l);
	pthread_condattr_t clock;
	*ledger = NULL;
	if (l)
		l->track = calloc(o->sensors ? o->sensors : 1, sizeof *l->track);
	if (!l || !l->track) {
		free(l);
		return pf_fail(error, -ENOMEM, "no memory for a ledger of %zu sensors", o->sensors);
	}
	l->tracks = o->sensors;
	for (size_t i = 0; i < o->sensors; i++) {
		const double fourth = fmax(o->sensor[i].refresh_s / 4.0, PERIOD_LEAST_S);
		l->track[i].sensor = o->sensor[i];
		l->track[i].period = o->period_s > 0.0 ? o->period_s : fourth;
	}
	pthread_mutex_init(&l->lock, NULL);
	pthread_condattr_init(&clock);
	pthread_condattr_setclock(&clock, CLOCK_MONOTONIC);
	pthread_cond_init(&l->wake, &clock);
	pthread_condattr_destroy(&clock);
	*ledger = l;
	return 0;
}

void pf_ledger_close(struct pf_ledger *l)
{
	if (!l)
		return;
	pthread_mutex_lock(&l->lock);
	l->stop = 1;
	pthread_cond_signal(&l->wake);
	pthread_mutex_unlock(&l->lock);
	if (l->running)
		pthread_join(l->thread, NULL);
	for (size_t i = 0; i < l->tracks; i++)
		free(l->track[i].at);
	free(l->track);
	pthread_cond_destroy(&l->wake);
	pthread_mutex_destroy(&l->lock);
	free(l);
}

/* ---- samples ---- */

static int append(struct track *t, double time, double value, struct pf_error *error)
{
	const struct sample *last = t->count ? &t->at[t->count - 1] : NULL;
	if (!(value >= 0.0) || !isfinite(value) || !isfinite(time) || (last && !(time > last->time)))
		return pf_fail(error, PF_E_DATA, "%s: a sample of %.9g at %.9g s; values are not negative and times "
		               "ascend", t->sensor.name, value, time);
	if (t->sensor.counts && last && value + t->wrapped < last->value)
		t->wrapped += t->sensor.range;
	if (t->sensor.counts && last && value + t->wrapped < last->value)
		return pf_fail(error, PF_E_DATA, "%s: counted back from %.9g to %.9g J, by more than its range of "
		               "%.9g J", t->sensor.name, last->value, value + t->wrapped, t->sensor.range);
	if (t->count == t->room) {
		const size_t room = t->room ? 2 * t->room : 256;
		struct sample *at = realloc(t->at, room * sizeof *at);
		if (!at)
			return pf_fail(error, -ENOMEM, "no memory for samples of %s", t->sensor.name);
		t->at = at;
		t->room = room;
	}
	t->at[t->count++] = (struct sample){ time, value + t->wrapped };
	return 0;
}

int pf_ledger_add(struct pf_ledger *l, size_t sensor, double seconds, double value, struct pf_error *error)
{
	if (sensor >= l->tracks)
		return pf_fail(error, PF_E_RANGE, "sensor %zu of a ledger of %zu", sensor, l->tracks);
	pthread_mutex_lock(&l->lock);
	const int code = append(&l->track[sensor], seconds, value, error);
	pthread_mutex_unlock(&l->lock);
	return code;
}

void pf_ledger_forget(struct pf_ledger *l, double before)
{
	pthread_mutex_lock(&l->lock);
	for (size_t i = 0; i < l->tracks; i++) {
		struct track *t = &l->track[i];
		size_t old = 0;
		while (old + 1 < t->count && t->at[old + 1].time < before)
			old++;
		memmove(t->at, t->at + old, (t->count - old) * sizeof *t->at);
		t->count -= old;
	}
	pthread_mutex_unlock(&l->lock);
}

/* ---- the thread ---- */

/* Reads a sensor without the lock, since a driver may take its time */
static void sample(struct pf_ledger *l, struct track *t)
{
	struct pf_error error = { 0 };
	double value;
	pthread_mutex_unlock(&l->lock);
	int code = pf_sensor_read(&t->sensor, &value, &error);
	const double now = pf_ledger_now();
	pthread_mutex_lock(&l->lock);
	if (!code)
		code = append(t, now, value, &error);
	t->error = code ? error : (struct pf_error){ 0 };
	t->next = t->next + t->period > now ? t->next + t->period : now + t->period;
}

static struct track *earliest(struct pf_ledger *l)
{
	struct track *first = &l->track[0];
	for (size_t i = 1; i < l->tracks; i++)
		first = l->track[i].next < first->next ? &l->track[i] : first;
	return first;
}

static void *sampling(void *context)
{
	struct pf_ledger *l = context;
	pthread_mutex_lock(&l->lock);
	while (!l->stop) {
		struct track *t = earliest(l);
		if (t->next > pf_ledger_now()) {
			const struct timespec until = { (time_t)t->next, (long)(1e9 * (t->next - floor(t->next))) };
			pthread_cond_timedwait(&l->wake, &l->lock, &until);
		} else {
			sample(l, t);
		}
	}
	pthread_mutex_unlock(&l->lock);
	return NULL;
}

int pf_ledger_start(struct pf_ledger *l, struct pf_error *error)
{
	const double now = pf_ledger_now();
	if (l->running || !l->tracks)
		return 0;
	for (size_t i = 0; i < l->tracks; i++)
		l->track[i].next = now;
	const int code = pthread_create(&l->thread, NULL, sampling, l);
	l->running = code == 0;
	return code ? pf_fail(error, -code, "no thread to read sensors: %s", strerror(code)) : 0;
}

/* ---- energy ---- */

/* The last sample at or before `time`, which must not be before the first one's */
static size_t before(const struct track *t, double time)
{
	size_t low = 0, high = t->count;
	while (high - low > 1) {
		const size_t middle = (low + high) / 2;
		if (t->at[middle].time <= time)
			low = middle;
		else
			high = middle;
	}
	return low;
}

/* Value at `time` on the straight line between its neighbours */
static double between(const struct track *t, double time)
{
	const size_t i = before(t, time);
	if (i + 1 == t->count)
		return t->at[i].value;
	const struct sample *a = &t->at[i], *b = a + 1;
	return a->value + (b->value - a->value) * (time - a->time) / (b->time - a->time);
}

static double shortest(const struct track *t)
{
	return PF_ENERGY_REFRESHES * (t->sensor.refresh_s > t->period ? t->sensor.refresh_s : t->period);
}

double pf_ledger_shortest(const struct pf_ledger *l, size_t sensor)
{
	return sensor < l->tracks ? shortest(&l->track[sensor]) : INFINITY;
}

static double longest_gap(const struct track *t, double from, double to)
{
	double gap = t->period;
	for (size_t i = before(t, from); i + 1 < t->count && t->at[i].time < to; i++)
		gap = fmax(gap, t->at[i + 1].time - t->at[i].time);
	return gap;
}

/* w: a refresh, and the longest gap of the samples within w of the span. Gaps that w takes in can make it longer */
static double neighbourhood(const struct track *t, double from, double to)
{
	double w = t->sensor.refresh_s + t->period, last = 0.0;
	while (t->count && w > last) {
		last = w;
		w = t->sensor.refresh_s + longest_gap(t, from - w, to + w);
	}
	return w;
}

/* Everything within w of the span is there, without holes */
static int check_span(const struct track *t, double from, double to, double w, struct pf_error *error)
{
	const double rounding = 1e-9, gap = w - t->sensor.refresh_s;
	if (!(to - from >= shortest(t) * (1.0 - rounding)))
		return pf_fail(error, PF_E_RANGE, "%.3g s are too short for %s, which refreshes every %.3g s: at least "
		               "%.3g s are needed", to - from, t->sensor.name, t->sensor.refresh_s, shortest(t));
	if (t->error.code)
		return pf_fail(error, PF_E_DATA, "%s cannot be read any more: %s", t->sensor.name, t->error.text);
	if (gap * GAPS_LEAST > to - from)
		return pf_fail(error, PF_E_RANGE, "%s: no samples for %.3g s within %.3g s; the machine was too busy "
		               "to read it", t->sensor.name, gap, to - from);
	if (!t->count || !(t->at[0].time <= from))
		return pf_fail(error, PF_E_DATA, "%s has no samples of the beginning of the span", t->sensor.name);
	if (!(t->at[t->count - 1].time >= to + w))
		return pf_fail(error, -EAGAIN, "%s has no samples up to %.3g s after the span", t->sensor.name, w);
	return 0;
}

/* Least and most shown from `from` to `to`, and by the last sample before it */
static void extremes(const struct track *t, double from, double to, double *least, double *most)
{
	*least = INFINITY;
	*most = 0.0;
	for (size_t i = before(t, from); i < t->count && (t->at[i].time <= to || *most < *least); i++) {
		*least = fmin(*least, t->at[i].value);
		*most = fmax(*most, t->at[i].value);
	}
}

static void integrate(const struct track *t, double from, double to, double w, struct pf_energy *e)
{
	for (size_t i = before(t, from); i + 1 < t->count && t->at[i].time < to; i++) {
		const double a = fmax(t->at[i].time, from), b = fmin(t->at[i + 1].time, to);
		double least, most;
		if (b <= a)
			continue;
		extremes(t, a - w, b + w, &least, &most);
		e->joule += 0.5 * (between(t, a) + between(t, b)) * (b - a);
		e->low += fmax(0.0, least - 0.5 * t->sensor.step) * (b - a);
		e->high += (most + 0.5 * t->sensor.step) * (b - a);
	}
}

/* F(t - R) <= c(t) <= F(t) for the true count F */
static void difference(const struct track *t, double from, double to, struct pf_energy *e)
{
	const double refresh = t->sensor.refresh_s;
	const size_t a = before(t, from), b = before(t, to);
	size_t after_a = a, after_b = b;
	while (t->at[after_a].time < from + refresh)
		after_a++;
	while (t->at[after_b].time < to + refresh)
		after_b++;
	e->joule = between(t, to) - between(t, from);
	e->low = fmax(0.0, t->at[b].value - t->at[after_a].value - t->sensor.step);
	e->high = t->at[after_b].value - t->at[a].value + t->sensor.step;
}

static int energy_of(const struct track *t, double from, double to, struct pf_energy *e, struct pf_error *error)
{
	const double w = neighbourhood(t, from, to);
	int code = check_span(t, from, to, w, error);
	if (code)
		return code;
	if (t->sensor.counts)
		difference(t, from, to, e);
	else
		integrate(t, from, to, w, e);
	const size_t first = before(t, from), last = before(t, to);
	e->samples = last - first;
	for (size_t i = first; i < last; i++) {
		const struct sample *s = &t->at[i];
		const double watt = t->sensor.counts ? (s[1].value - s->value) / (s[1].time - s->time) : s[1].value;
		e->watt_least = i == first ? watt : fmin(e->watt_least, watt);
		e->watt_most = i == first ? watt : fmax(e->watt_most, watt);
	}
	return 0;
}

int pf_ledger_energy(struct pf_ledger *l, size_t sensor, double from, double to, struct pf_energy *energy,
                     struct pf_error *error)
{
	*energy = (struct pf_energy){ 0 };
	if (sensor >= l->tracks)
		return pf_fail(error, PF_E_RANGE, "sensor %zu of a ledger of %zu", sensor, l->tracks);
	pthread_mutex_lock(&l->lock);
	const int code = energy_of(&l->track[sensor], from, to, energy, error);
	pthread_mutex_unlock(&l->lock);
	return code;
}
