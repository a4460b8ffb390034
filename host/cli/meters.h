/* meters.h: --energy: the sensors of this machine (or of --sysfs-root) for a training, and what they showed in the
 * end. */
#ifndef PF_CLI_METERS_H
#define PF_CLI_METERS_H
#include <jansson.h>
#include <signal.h>
#include "cli.h"
#include "host/train/energy.h"

/* The sensors that the options name; the caller frees *sensors. PF_E_ABSENT with what was refused if there is none */
int pf_cli_sensors(const struct pf_options *options, struct pf_sensor **sensors, size_t *count, struct pf_error *error);
/* Opened and with the idle power measured; NULL without --energy */
int  pf_cli_meters(const struct pf_options *options, const volatile sig_atomic_t *stop, struct pf_meters **meters,
                   struct pf_error *error);
/* Ends the meters: the energy of the whole training, a list of objects or lines on stdout */
json_t *pf_cli_energy_json(const struct pf_options *options, struct pf_meters *meters);
void    pf_cli_energy_text(const struct pf_options *options, struct pf_meters *meters);
/* One window as an object, as in metrics.jsonl */
json_t *pf_cli_window_json(const struct pf_energy_window *window);
#endif
