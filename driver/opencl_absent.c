/* Backend "opencl" of a build that found no headers of OpenCL or XRT: says so. */
#include "prefpga/internal/backend.h"

static int opencl_open(const struct pf_backend_open *open, void **card, struct pf_device_facts *facts, uint32_t *cus,
                       struct pf_error *error)
{
	(void)open;
	(void)card;
	(void)facts;
	(void)cus;
	return pf_fail(error, PF_E_UNSUPPORTED,
		       "this build has no backend opencl, because headers were missing: install "
		       "opencl-c-headers, libxrt-dev and uuid-dev, and build again");
}

const struct pf_backend pf_backend_opencl = { .name = "opencl", .open = opencl_open };
