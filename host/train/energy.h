/* energy.h: what training steps burn, as the machine's sensors show it: windows of whole steps, each as short as its
 * sensor can see, with the power of the idle machine beside it.
 *
 * A step is usually shorter than a sensor's refresh, so figures are of windows: some steps in a row. The power before
 * training, with device and model open and nothing computing, is measured first; idle energy is that power times the
 * window's seconds, shown beside the whole and never mixed into it. A sensor that fails ends its own figures, not the
 * training. One thread calls. */
#ifndef PF_TRAIN_ENERGY_H
#define PF_TRAIN_ENERGY_H
#include <signal.h>
#include "../report/metrics.h"
#include "prefpga/power.h"

struct pf_meters;

/* J, with the interval that refresh and step of the sensor leave; idle: of the machine before training, over
 * `seconds` */
struct pf_energy_window {
	const struct pf_sensor *sensor;
	uint64_t first, last;          /* steps, counted from 1, both included */
	double   seconds;
	double   joule, low, high;
	double   idle, idle_low, idle_high;
};
typedef void (*pf_energy_fn)(void *context, const struct pf_energy_window *window);

/* A window as it is logged; NaN, such as the idle power that a meter at the wall does not know, is left out */
enum { PF_ENERGY_FIELDS = 12 };
void pf_energy_fields(const struct pf_energy_window *window, struct pf_metrics_field field[PF_ENERGY_FIELDS]);

/* Copies the sensors and starts reading them */
int  pf_meters_open(const struct pf_sensor *sensor, size_t sensors, struct pf_meters **meters, struct pf_error *error);
void pf_meters_close(struct pf_meters *meters);                 /* NULL is allowed */
/* Measures the idle power: waits for `seconds`, or as long as the slowest sensor needs if that is more. *stop (may be
 * NULL) ends it with PF_E_INTERRUPTED */
int pf_meters_idle(struct pf_meters *meters, double seconds, const volatile sig_atomic_t *stop, struct pf_error *error);
/* `steps` are done; the next one begins now */
int  pf_meters_begin(struct pf_meters *meters, uint64_t steps, struct pf_error *error);
/* Another step is done. window is called for each window that is closed by what the sensors have shown so far */
int  pf_meters_step(struct pf_meters *meters, pf_energy_fn window, void *context, struct pf_error *error);
/* Training is over: waits for the samples behind the last step, unless *stop (may be NULL) says not to. window is
 * called once per sensor, with everything since the beginning; sensors that failed have told so in `failed` (may be
 * NULL) */
int  pf_meters_end(struct pf_meters *meters, const volatile sig_atomic_t *stop, pf_energy_fn window, void *context,
                   struct pf_error *failed);
#endif
