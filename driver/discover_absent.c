/* Discovery of a build without libpci: says so. */
#include "prefpga/discover.h"

int pf_discover(const struct pf_discover_options *options, struct pf_card_function **functions,
                size_t *count, struct pf_error *error)
{
	(void)options;
	(void)functions;
	(void)count;
	return pf_fail(error, PF_E_UNSUPPORTED, "this build cannot list cards, because libpci was left "
	               "out: install libpci-dev and configure with -DPREFPGA_PCI=ON");
}
