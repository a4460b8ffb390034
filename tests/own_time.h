/* own_time.h: a clock for tests of the device core that stands still until the test lets time pass. One a program. */
#ifndef PF_TESTS_OWN_TIME_H
#define PF_TESTS_OWN_TIME_H
#include <stdatomic.h>
#include "prefpga/internal/backend.h"

#define MS UINT64_C(1000000)
static _Atomic uint64_t time_ns;

/* For pf_device_clock */
static uint64_t now(void *context)
{
	(void)context;
	return atomic_load(&time_ns);
}

static void pass_time(struct pf_device *device, uint64_t ns)
{
	atomic_fetch_add(&time_ns, ns);
	pf_device_tick(device);
}
#endif
