/* renew.h: devices that failed in the middle of a run are replaced, as far as the user allows: by themselves after
 * waiting or a reset (prefpga/recover.h), by another card of the run, by the host. One thread; the caller has closed
 * everything that uses the devices. */
#ifndef PF_TRAIN_RENEW_H
#define PF_TRAIN_RENEW_H
#include "prefpga/recover.h"

enum pf_on_fault {
	PF_FAULT_STOP,                 /* the failure ends the run */
	PF_FAULT_RETRY,                /* open again, wait while it is busy; other cards of the run take over */
	PF_FAULT_RESET,                /* also reset the card, which needs the right to */
	PF_FAULT_CPU,                  /* also go on on the host, within its tolerance */
};
/* The value of --on-fault, or -1 */
int pf_on_fault_find(const char *name);

enum { PF_RENEWALS_FUTILE = 3 };

struct pf_renewal {
	struct pf_device **device;     /* [devices], renewed in place; entries may become the same device */
	const char *const *spec;       /* [devices] what each was opened by */
	unsigned           devices;
	const struct pf_device_options *options;
	enum pf_on_fault   on_fault;
	void             (*note)(void *context, const char *text);     /* what was done; may be NULL */
	void             (*opened)(void *context, struct pf_device *device);   /* a device is new; may be NULL */
	void              *context;
	struct pf_recovery recovery;   /* sleep and its context: in; of the last device: out */
	unsigned           renewals;   /* how often it was called and succeeded */
	unsigned           futile;     /* that since the run last got on; the caller sets 0 when it does */
};
/* Replaces what does not pass pf_device_check; `why`: the failure of the run. Returns 0, or an error that says what is
 * left to do; `why` itself for PF_FAULT_STOP. A device may pass the check and fail again in what that does not use:
 * after PF_RENEWALS_FUTILE futile renewals only others take over, and where no device fails the check it is an error */
int pf_renew(struct pf_renewal *renewal, const struct pf_error *why, struct pf_error *error);
/* 1: an earlier entry is the device of entry i, too */
int pf_device_repeats(struct pf_device *const *device, unsigned i);
#endif
