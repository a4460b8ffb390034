/* discover.h: which FPGA cards this machine, or a recorded one, has.
 *
 * A listing by PCI ids (cards.def). It opens no card and changes nothing; two drivers can claim the
 * same ids, so the bound one is reported. A recorded machine is a file made with `lspci -xxxx`, a
 * copy of its /sys below another folder, or both. Thread-safe. */
#ifndef PREFPGA_DISCOVER_H
#define PREFPGA_DISCOVER_H
#include <stddef.h>
#include <stdint.h>
#include "error.h"
#ifdef __cplusplus
extern "C" {
#endif

struct pf_discover_options {
	const char *pci_dump;          /* file made with lspci -xxxx; NULL: the machine's own bus */
	const char *sysfs_root;        /* folder in place of /; NULL: /, or none with a dump */
};

/* One PCI function of a card. Texts are "" where unknown */
struct pf_card_function {
	char        bdf[16];           /* "0000:03:00.1" */
	uint16_t    vendor, device;
	const char *card;              /* "u55c" */
	const char *role;              /* "user" runs kernels; "mgmt"; "golden": factory image only */
	char        driver[32];        /* bound one: "xocl", "xclmgmt", "ami", ... */
	char        link_speed[32], link_speed_max[32];        /* "8.0 GT/s PCIe" */
	unsigned    link_width, link_width_max;                /* lanes, 0: unknown */
};

/* *functions: malloc, the caller frees; in the order of the bus. None found: 0 and *count == 0.
 * options may be NULL. PF_E_UNSUPPORTED: built without libpci; PF_E_ABSENT: no PCI bus to read */
PF_API int pf_discover(const struct pf_discover_options *options,
                       struct pf_card_function **functions, size_t *count,
                       struct pf_error *error);
#ifdef __cplusplus
}
#endif
#endif
