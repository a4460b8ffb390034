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
	int         alive;             /* 0: configuration space reads all ones, the card is off the bus; -1: unknown */
	int         numa_node, iommu_group;                    /* -1: unknown or none */
	uint64_t    bar_bytes[6];      /* 0: absent or unknown */
	int         accessible;        /* may this user open it? -1: unknown */
	char        shell[96];         /* platform that XRT's driver read from the card */
	char        image[64];         /* UUID of the loaded image */
	int         firewall;          /* level at which the AXI firewall tripped, 0: it has not, -1: unknown */
	int         celsius;           /* of the FPGA, -1: unknown */
	int         microwatts;        /* of the board as XRT's driver last read it, -1: unknown */
};

/* *functions: malloc, the caller frees; in the order of the bus. None found: 0 and *count == 0.
 * options may be NULL. PF_E_UNSUPPORTED: built without libpci; PF_E_ABSENT: no PCI bus to read */
PF_API int pf_discover(const struct pf_discover_options *options,
                       struct pf_card_function **functions, size_t *count,
                       struct pf_error *error);

/* What is the matter with a card: one verdict, the first of internal/verdicts.def that holds */
enum pf_health { PF_HEALTH_OK, PF_HEALTH_WARNING, PF_HEALTH_ERROR };
struct pf_card_report {
	char              slot[16];    /* "0000:3b:00" */
	const char       *card;
	size_t            first, functions;    /* of pf_machine_report.function */
	const char       *verdict;     /* "ready", "golden", ... */
	enum pf_health    health;
	char              text[256];
	char              remedy[256]; /* "" if nothing is to be done */
	unsigned          power_cap_w;         /* the card's class (card_facts.def), 0: unknown */
	char              degraded[128];       /* the link is slower than the card's: how; "" if not */
};
struct pf_machine_report {
	struct pf_card_function *function;
	size_t                   functions;
	struct pf_card_report   *card;
	size_t                   cards;
	char                     xrt[32];      /* version of XRT's library, "" if it is not installed or unknown */
	char                     driver[64];   /* of its kernel driver xocl, likewise */
};
/* Looks at every card. Free with pf_machine_free. Errors as pf_discover */
PF_API int  pf_examine(const struct pf_discover_options *options, struct pf_machine_report *machine,
                       struct pf_error *error);
PF_API void pf_machine_free(struct pf_machine_report *machine);
#ifdef __cplusplus
}
#endif
#endif
