/* Backend "opencl": the name is reserved for XRT's OpenCL; cards are reached through its native interface so far. */
#include "prefpga/internal/backend.h"

static int opencl_open(const struct pf_backend_open *open, void **card, struct pf_device_facts *facts, uint32_t *cus,
                       struct pf_error *error)
{
	(void)open;
	(void)card;
	(void)facts;
	(void)cus;
	return pf_fail(error, PF_E_UNSUPPORTED,
	               "this version reaches cards through XRT's native interface only: use xrt");
}

const struct pf_backend pf_backend_opencl = { .name = "opencl", .open = opencl_open };
