/* power.h: the pieces of driver/power_*.c. */
#ifndef PF_DRIVER_POWER_H
#define PF_DRIVER_POWER_H
#include "prefpga/power.h"

enum { PF_POWER_TEXT = 1 << 16 };      /* longest file that is read */

/* The first `room` - 1 bytes of a file, NUL behind them. 0 or -errno */
int pf_power_slurp(const char *path, char *text, size_t room);
/* A decimal number and nothing behind it but white space; not negative, finite. 0 or PF_E_DATA */
int pf_power_number(const char *text, double *value);
/* Watts in what xrt-smi or xbutil wrote; bdf "": of the only device. PF_E_FORMAT says what is wrong */
int pf_power_report(const char *text, const char *bdf, double *watts, struct pf_error *error);
/* Watts that fpga-describe-local-image printed as measured last */
int pf_power_aws(const char *text, double *watts, struct pf_error *error);
#endif
