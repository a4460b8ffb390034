/* cu.h: compute units: a register map in front, a kernel behind, a thread each.
 *
 * The host sees what AXI-Lite shows it. ap_ctrl_hs: start, then 0x6 (done, idle) once, then 0x4.
 * ap_ctrl_chain: the start bit falls when the unit has taken its arguments (a second start may
 * wait), done stands until the host writes continue. Arguments are checked against kernels.def: a
 * pointer must have all the elements that the contract names inside one allocation.
 * Threads: any; each unit has a lock. */
#ifndef PF_XRTMODEL_CU_H
#define PF_XRTMODEL_CU_H
#include "layout.h"
#include "memory.h"

struct pf_emu_cus;
/* Called when the card can only die (a kernel got memory it must not touch). Must not return */
typedef void (*pf_emu_fatal)(const char *text);

/* Starts the units of `layout` with the kernels of a shared library; `memory` must outlive them */
int  pf_emu_cus_open(const struct pf_emu_layout *layout, const char *library,
                       struct pf_emu_memory *memory, pf_emu_fatal fatal,
                       struct pf_emu_cus **cus, struct pf_error *error);
/* Only with idle units, since a kernel cannot be stopped; see pf_emu_cus_busy. NULL is allowed */
void pf_emu_cus_close(struct pf_emu_cus *cus);
int  pf_emu_cus_busy(struct pf_emu_cus *cus);

/* Register access by the card's address. PF_E_RANGE: nobody answers there */
int pf_emu_cu_write(struct pf_emu_cus *cus, uint64_t address, const uint8_t *data,
                      size_t bytes);
int pf_emu_cu_read(struct pf_emu_cus *cus, uint64_t address, uint32_t *word);
#endif
