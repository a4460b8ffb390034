/* beat.h: one text for both lane types. -DPF_BF16 makes the bf16 variant of a kernel (symbol <name>_bf16).
 * PF_STEP beats go through the pipeline at once: 1 on a card, more in the simulator; the results are the same bits. */
#ifndef PF_HLS_BEAT_H
#define PF_HLS_BEAT_H
#include "prefpga/internal/abi.h"
#include "prefpga/internal/kernels.h"
#include "prefpga/internal/kmath.h"

#ifndef PF_STEP
#define PF_STEP 1
#endif

#ifdef PF_BF16
#define PF_BEAT pf_beat_bf16
#define PF_BEAT_LANES 32
#define PF_VARIANT(kernel) kernel##_bf16
#define PF_LANE_LOAD(lane) pf_from_bf16(lane)
#define PF_LANE_STORE(x) pf_bf16(x)
#else
#define PF_BEAT pf_beat_f32
#define PF_BEAT_LANES 16
#define PF_VARIANT(kernel) kernel
#define PF_LANE_LOAD(lane) pf_float(lane)
#define PF_LANE_STORE(x) pf_bits(x)
#endif
#define PF_LANES (PF_BEAT_LANES * PF_STEP)
#endif
