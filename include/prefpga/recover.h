/* recover.h: what to do when a device has failed.
 *
 * A failed device refuses work and is closed. Nothing of an unfinished step has reached weights, so the caller begins
 * the step anew on the same card, once it works again, on another one, or on the host. Here is the ladder for the
 * first: open it again, waiting while the card is busy or cools down; then reset it, each level followed by an opening
 * and a check; what none of that cures needs the machine switched off. Thread-safe for different devices. */
#ifndef PREFPGA_RECOVER_H
#define PREFPGA_RECOVER_H
#include <stdint.h>
#include "device.h"
#ifdef __cplusplus
extern "C" {
#endif

/* Each level includes those before it */
enum pf_reset {
	PF_RESET_NONE,
	PF_RESET_USER,                 /* compute units, firewall: xrt-smi reset of the user function */
	PF_RESET_MGMT,                 /* the whole card: xbmgmt reset of the management function */
};
PF_API const char *pf_reset_name(enum pf_reset level);         /* "none", "user", "management" */

struct pf_recovery {
	enum pf_reset most;            /* in: the strongest reset that is allowed */
	void        (*sleep)(void *context, uint64_t ns);      /* in: how to wait; NULL: nanosleep */
	void         *context;
	unsigned      opens;           /* out: openings tried */
	uint64_t      waited_ns;       /* out: between them */
	enum pf_reset reset;           /* out: the last reset done */
};

/* 1 if an operation that failed with this code has lost its device, which may be recovered; 0 for mistakes of the
 * caller */
PF_API int pf_device_lost(int code);
/* 0, or why the device has failed and refuses work */
PF_API int pf_device_failure(const struct pf_device *device, struct pf_error *error);
/* Does this device compute? Runs a kernel of known result. 0, or the error of what failed */
PF_API int pf_device_check(struct pf_device *device, struct pf_error *error);
/* Resets the card behind `spec`, which nobody in this process has open. PF_E_UNSUPPORTED: the backend has none */
PF_API int pf_device_reset(const char *spec, enum pf_reset level, struct pf_error *error);
/* Opens `spec`, whose device failed and was closed, up the ladder. *device is checked. The error of the last try says
 * what is left to do */
PF_API int pf_device_recover(const char *spec, const struct pf_device_options *options, struct pf_recovery *recovery,
                             struct pf_device **device, struct pf_error *error);
#ifdef __cplusplus
}
#endif
#endif
