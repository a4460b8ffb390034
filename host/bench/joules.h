/* joules.h: the energy of a work's runs, from the machine's sensors: runs are repeated for as long as a sensor needs to
 * see them, so figures are means over many. One thread calls; the ledger has its own. */
#ifndef PF_BENCH_JOULES_H
#define PF_BENCH_JOULES_H
#include "prefpga/power.h"
#include "table.h"

struct pf_bench_meter {
	struct pf_ledger *ledger;
	const struct pf_sensor *sensor; /* [sensors], the caller's */
	size_t sensors;
	double idle[8]; /* W of the first eight; NaN: not measured */
};
/* Starts reading and measures the idle machine; as long as the slowest sensor needs */
int pf_bench_meter_open(struct pf_bench_meter *meter, const struct pf_sensor *sensor, size_t sensors,
                        const volatile sig_atomic_t *stop, struct pf_error *error);
void pf_bench_meter_close(struct pf_bench_meter *meter);
/* By the sensor that sees most of `backend`'s work: the board for a card, the package else; the first if there is none.
 * J of one run */
int pf_bench_meter_run(struct pf_bench_meter *meter, const char *backend, const struct pf_bench_work *work, void *state,
                       const volatile sig_atomic_t *stop, struct pf_bench_joules *joules, struct pf_error *error);
#endif
