/* view.h: a matrix that somebody else owns. */
#ifndef PREFPGA_VIEW_H
#define PREFPGA_VIEW_H
#include <stddef.h>
#include <stdint.h>

enum pf_dtype { PF_F32, PF_F64, PF_F16, PF_BF16, PF_I32, PF_I64, PF_U16, PF_U8 };

static inline size_t pf_dtype_bytes(enum pf_dtype type)
{
	static const uint8_t bytes[] = { 4, 8, 2, 2, 4, 8, 2, 1 };
	return bytes[type];
}

/* rows x cols elements; row r starts at base + r * stride elements. Never owns its memory */
struct pf_view {
	void         *base;
	uint64_t      rows, cols, stride;
	enum pf_dtype type;
};
#endif
