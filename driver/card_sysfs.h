/* card_sysfs.h: what the kernel and XRT's drivers show of a PCI function below /sys, or below a recorded copy of it.
 *
 * Files that are missing or malformed leave a field unknown: a machine is described as far as it can be.
 * Sources: Linux Documentation/ABI/testing/sysfs-bus-pci; XRT core/pcie/linux/device_linux.cpp (rom/VBNV, xclbinuuid,
 * firewall/detected_level, xmc/xmc_fpga_temp, xmc/xmc_power). Thread-safe: no state. */
#ifndef PF_DRIVER_CARD_SYSFS_H
#define PF_DRIVER_CARD_SYSFS_H
#include "prefpga/discover.h"

/* First line of a file, what is not printable as '?'; "" if there is none */
void pf_card_sysfs_line(const char *path, char *text, int size);
/* Number in a file of the function (decimal or 0x...), `unknown` if there is none */
long pf_card_sysfs_number(const char *root, const char *bdf, const char *name, long unknown);
/* Fills what /sys knows of function->bdf. root: "" for the machine's own */
void pf_card_sysfs_read(const char *root, struct pf_card_function *function);
#endif
