#include "joules.h"
#include <errno.h>
#include <math.h>
#include <string.h>
#include <time.h>

#define REST_S    0.02
#define GIVE_UP_S 15.0
#define MARGIN    1.1 /* over the shortest span: a busy machine leaves holes between samples */
enum { TRIES = 6, IDLE = 8 }; /* the last is 32 times as long */

static void rest(void)
{
	const struct timespec pause = { 0, (long)(1e9 * REST_S) };
	nanosleep(&pause, NULL);
}

/* Energy of a span that is over: waits for the samples behind it */
static int settle(struct pf_ledger *ledger, size_t i, double from, double to, struct pf_energy *energy,
                  struct pf_error *error)
{
	const double give_up = pf_ledger_now() + GIVE_UP_S;
	int code;
	while ((code = pf_ledger_energy(ledger, i, from, to, energy, error)) == -EAGAIN && pf_ledger_now() < give_up)
		rest();
	return code;
}

/* Runs, or without a work rests, for a span that the sensor can see */
static int span(struct pf_ledger *ledger, size_t i, const struct pf_bench_work *work, void *state,
                const volatile sig_atomic_t *stop, double *runs, double *seconds, struct pf_energy *energy,
                struct pf_error *error)
{
	double least = MARGIN * pf_ledger_shortest(ledger, i);
	int code = PF_E_RANGE;
	for (int tries = 0; code == PF_E_RANGE && tries < TRIES; tries++, least *= 2) {
		const double from = pf_ledger_now();
		*runs = 0;
		for (code = 0; !code && pf_ledger_now() - from < least; ++*runs) {
			if (stop && *stop)
				return pf_fail(error, PF_E_INTERRUPTED, "interrupted");
			if (work)
				code = work->run(state, error);
			else
				rest();
		}
		*seconds = pf_ledger_now() - from;
		if (!code)
			code = settle(ledger, i, from, from + *seconds, energy, error);
	}
	return code;
}

int pf_bench_meter_open(struct pf_bench_meter *m, const struct pf_sensor *sensor, size_t sensors,
                        const volatile sig_atomic_t *stop, struct pf_error *error)
{
	const struct pf_ledger_options options = { .sensor = sensor, .sensors = sensors };
	*m = (struct pf_bench_meter){ .sensor = sensor, .sensors = sensors };
	int code = pf_ledger_open(&options, &m->ledger, error);
	if (!code)
		code = pf_ledger_start(m->ledger, error);
	rest(); /* the first samples are in */
	for (size_t i = 0; !code && i < sensors && i < IDLE; i++) {
		struct pf_energy e;
		struct pf_error why;
		double runs = 0, seconds = 0;
		const int one = span(m->ledger, i, NULL, NULL, stop, &runs, &seconds, &e, &why);
		m->idle[i] = one ? NAN : e.joule / seconds;
		if (one == PF_E_INTERRUPTED)
			code = pf_fail(error, one, "interrupted while the idle machine was measured");
	}
	return code;
}

void pf_bench_meter_close(struct pf_bench_meter *m)
{
	pf_ledger_close(m->ledger);
	m->ledger = NULL;
}

static size_t choose(const struct pf_bench_meter *m, const char *backend)
{
	const int card = strcmp(backend, "xrt") == 0 || strcmp(backend, "opencl") == 0;
	for (size_t i = 0; i < m->sensors; i++)
		if (m->sensor[i].scope == (card ? PF_POWER_BOARD : PF_POWER_PACKAGE))
			return i;
	return 0;
}

int pf_bench_meter_run(struct pf_bench_meter *m, const char *backend, const struct pf_bench_work *work, void *state,
                       const volatile sig_atomic_t *stop, struct pf_bench_joules *joules, struct pf_error *error)
{
	const size_t i = choose(m, backend);
	struct pf_energy e;
	double runs = 0, seconds = 0;
	const int code = span(m->ledger, i, work, state, stop, &runs, &seconds, &e, error);
	if (code)
		return code;
	*joules = (struct pf_bench_joules){ pf_power_scope_name(m->sensor[i].scope), e.joule / runs, e.low / runs,
		                            e.high / runs, (i < IDLE ? m->idle[i] : NAN) * seconds / runs };
	return 0;
}
