/* units.h: compute units of the kernels, as an image has them: as text, in the images of vitis.def, and the ports that
 * they take of a card's memory (driver/units.c). Pure functions, any thread. */
#ifndef PF_INTERNAL_UNITS_H
#define PF_INTERNAL_UNITS_H
#include "kernels.h"
#include "prefpga/error.h"

#define PF_CUS_MAX 15u                         /* of one kernel; v++ names them <kernel>_1 .. */

/* Bank classes of kernels.def */
enum pf_bank { PF_BANK_STREAM, PF_BANK_WEIGHT, PF_BANK_SMALL };
enum { PF_BANK_CLASSES = PF_BANK_SMALL + 1 };

/* Applies "logprob=2,pref=0"; other kernels keep their number. 0 or an error */
int pf_units_set(uint32_t units[PF_KERNEL_COUNT], const char *text, struct pf_error *error);
/* Name and purpose of image number i (vitis.def), NULL past the last; purpose may be NULL */
const char *pf_image_name(unsigned i, const char **purpose);
/* The units of image number i, of all kernels. PF_E_UNKNOWN past the last, or an error of the table */
int pf_image_units(unsigned i, uint32_t units[PF_KERNEL_COUNT], struct pf_error *error);

/* Ports of a kernel in each bank class: bundles that arguments of the class use */
void pf_kernel_ports(int kernel, unsigned ports[PF_BANK_CLASSES]);
/* Ports of all units on a card against what its memory takes (vitis.def) */
struct pf_ports {
	const char *memory;            /* "HBM", "DDR" */
	int         shared;            /* 1: the limit is for all classes together; 0: for each, which has a bank */
	unsigned    limit, used[PF_BANK_CLASSES];
};
/* 0, or PF_E_UNKNOWN: there is no such card */
int pf_ports_count(const uint32_t units[PF_KERNEL_COUNT], const char *card, struct pf_ports *ports,
                   struct pf_error *error);
int pf_ports_fit(const struct pf_ports *ports);
#endif
