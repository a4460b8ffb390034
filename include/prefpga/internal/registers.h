/* registers.h: where a kernel's arguments lie in its AXI-Lite window, and how an emulated card is
 * laid out.
 *
 * The offsets are a habit of Vitis HLS, not a promise: check_abi compares them with the kernel.xml
 * of every image that a tool has built. Launches go by argument index; only what stands in for a
 * card (sim/xrtmodel) and what writes images for it needs these numbers. */
#ifndef PF_INTERNAL_REGISTERS_H
#define PF_INTERNAL_REGISTERS_H
#include "backend.h"

#define PF_REGISTER_FIRST  0x10u      /* after control, two interrupt enables, interrupt status */
#define PF_REGISTER_POINTER 12u        /* 64-bit address and a reserved word */
#define PF_REGISTER_SCALAR   8u        /* 32-bit value and a reserved word */
#define PF_REGISTER_WINDOW 0x1000u     /* bytes of a map; the widest kernel needs fewer */

/* Control word at offset 0 */
#define PF_CONTROL_START    0x01u
#define PF_CONTROL_DONE     0x02u
#define PF_CONTROL_IDLE     0x04u
#define PF_CONTROL_CONTINUE 0x10u

/* Compute unit number i of an emulated image answers at PF_EMULATED_BASE + i * PF_EMULATED_STEP */
#define PF_EMULATED_BASE 0x1800000u
#define PF_EMULATED_STEP 0x10000u
#define PF_PLATFORM_EMULATED "prefpga_generic_swemu_1_0"
/* Memory: one bank for each bank class, in the order of enum pf_bank, from address 0 up */
#define PF_EMULATED_BANKS 3u
#define PF_EMULATED_BANK_BYTES ((uint64_t)16 << 30)

/* Offset of argument `arg` (arg == row->count: the end of the map) */
static inline uint32_t pf_register_offset(const struct pf_kernel_row *row, unsigned arg)
{
	uint32_t offset = PF_REGISTER_FIRST;
	for (unsigned i = 0; i < arg; i++)
		offset += row->arg[i].dir == PF_DIR_VAL ? PF_REGISTER_SCALAR : PF_REGISTER_POINTER;
	return offset;
}
#endif
