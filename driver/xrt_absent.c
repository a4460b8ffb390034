/* Backend "xrt" of a build that found no headers of XRT: says so. */
#include "prefpga/internal/backend.h"

static int xrt_open(const struct pf_backend_open *open, void **card, struct pf_device_facts *facts,
                    uint32_t *cus, struct pf_error *error)
{
	(void)open;
	(void)card;
	(void)facts;
	(void)cus;
	return pf_fail(error, PF_E_UNSUPPORTED, "this build has no backend xrt, because XRT's headers "
	               "were missing: install libxrt-dev and uuid-dev, and build again");
}

const struct pf_backend pf_backend_xrt = { .name = "xrt", .open = xrt_open };
