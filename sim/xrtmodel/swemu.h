/* swemu.h: the heap defect of some packaged libxrt_swemu (Debian's 2.13), and its cure in a copy.
 *
 * CpuemShim::alloc_void grows a buffer with realloc; in these builds the branch taken on success
 * jumps past the instruction that stores the new pointer, so that the shim goes on writing to freed
 * memory. The cure moves that branch back onto the store, one byte. The function is found by its
 * symbol, the branch by its code; nothing else is touched. Thread-safe: no state. */
#ifndef PF_XRTMODEL_SWEMU_H
#define PF_XRTMODEL_SWEMU_H
#include <stddef.h>
#include <stdint.h>

enum pf_swemu_state {
	PF_SWEMU_SOUND,                /* no such branch, or it stores: use the library as it is */
	PF_SWEMU_DEFECTIVE,            /* use a copy with byte `at` replaced by `value` */
	PF_SWEMU_UNKNOWN,              /* the branch is there, but not what stands around it */
};
struct pf_swemu_cure { size_t at; uint8_t value; };

/* Looks into an ELF file for x86-64; other files are sound, as far as this can tell */
enum pf_swemu_state pf_swemu_examine(const uint8_t *file, size_t bytes,
                                     struct pf_swemu_cure *cure);
#endif
