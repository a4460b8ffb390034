/* pci_dump.h: dumps made with `lspci -x...`, checked before libpci reads them.
 *
 * libpci's own reader takes offsets with a sign and ends the program on a long line. What passes
 * here is rewritten to what it needs and cannot stumble over: device lines, hex lines, blank lines.
 * Thread-safe: no state. */
#ifndef PF_DRIVER_PCI_DUMP_H
#define PF_DRIVER_PCI_DUMP_H
#include <stdio.h>
#include "prefpga/error.h"

/* Copies a dump from `in` to `out`. Errors name `path` and the line. A dump without a byte of configuration space
 * (another file, lspci without -x) is an error, lest it be taken for a machine without cards */
int pf_pci_dump_copy(FILE *in, FILE *out, const char *path, struct pf_error *error);
#endif
