/* energy_meter.h: the readings of a meter at the wall matched with the log of a training. */
#ifndef PF_CLI_ENERGY_METER_H
#define PF_CLI_ENERGY_METER_H
#include "host/train/energy.h"

/* Calls window for each window of steps of the log that the meter can see, then total for all of them together. Errors
 * name the file and its line */
int pf_energy_meter(const char *meter, const char *log, pf_energy_fn window, pf_energy_fn total, void *context,
                    struct pf_error *error);
#endif
