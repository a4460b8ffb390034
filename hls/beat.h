/* beat.h: one text for both lane types, and the reading of a step.
 *
 * -DPF_BF16 makes the bf16 variant of a kernel (symbol <name>_bf16). PF_STEP beats go through the pipeline at once: 1
 * on a card, more in the simulator, where it gives the compiler something to vectorise; the results are the same bits.
 *
 * Loops in hls/: each has a label, and its pragmas directly under it. The one rule for loops without a pragma: they lie
 * within a PIPELINE loop, in its body or in what it calls, and go over lanes, beats of a step or bins; their bounds are
 * constants where PF_STEP is 1, and the pipeline unrolls them whole. tests/lint_kernels.py checks this. */
#ifndef PF_HLS_BEAT_H
#define PF_HLS_BEAT_H
#include "prefpga/internal/abi.h"
#include "prefpga/internal/kernels.h"
#include "prefpga/internal/kmath.h"

#ifndef PF_STEP
#define PF_STEP 1
#endif
_Static_assert(PF_STEP >= 1 && PF_STEP <= 64, "32-bit partial sums of a lane hold 64 beats");

#ifdef PF_BF16
#define PF_BEAT pf_beat_bf16
#define PF_BEAT_LANES 32
#define PF_VARIANT(kernel) kernel##_bf16
static inline float pf_lane_load(uint16_t lane) { return pf_from_bf16(lane); }
static inline uint16_t pf_lane_store(float x) { return pf_bf16(x); }
#else
#define PF_BEAT pf_beat_f32
#define PF_BEAT_LANES 16
#define PF_VARIANT(kernel) kernel
static inline float pf_lane_load(uint32_t lane) { return pf_float(lane); }
static inline uint32_t pf_lane_store(float x) { return pf_bits(x); }
#endif
#define PF_LANES (PF_BEAT_LANES * PF_STEP)

/* A whole beat into memory; the simulator's build has its own way (sim/stream.h) */
#ifndef PF_BEAT_PUT
#define PF_BEAT_PUT(to, beat) (*(to) = (beat))
#endif

/* Beats of the step with `left` beats to go: a constant on a card */
static inline uint32_t pf_step_beats(uint32_t left) { return PF_STEP == 1 || left > PF_STEP ? PF_STEP : left; }

/* run[r]: how many rows of a block from r on count without a gap, 0 if r does not. Such rows go through one pipeline,
 * which is then filled and emptied once for all of them */
static inline void pf_block_runs(const int32_t target[PF_TOKENS], uint32_t n, uint32_t run[PF_TOKENS])
{
	uint32_t length = 0;
runs:
	for (uint32_t k = 0; k < PF_TOKENS; k++) {
#pragma HLS PIPELINE II=1
		const uint32_t r = PF_TOKENS - 1 - k;
		length = r < n && target[r] >= 0 ? length + 1 : 0;
		run[r] = length;
	}
}

/* Lanes at or beyond the end of the row, which lies in the last beat if at all, become -inf */
static inline void pf_step_read(const struct PF_BEAT *z, uint32_t beats, uint32_t lanes, float x[PF_LANES])
{
	const uint32_t last = (beats - 1) * PF_BEAT_LANES;
read:
	for (uint32_t b = 0; b < beats; b++) {
		const struct PF_BEAT w = z[b];
lanes:
		for (uint32_t l = 0; l < PF_BEAT_LANES; l++)
			x[b * PF_BEAT_LANES + l] = pf_lane_load(w.lane[l]);
	}
end:
	for (uint32_t l = 0; l < PF_BEAT_LANES; l++) {
		const uint32_t bits = pf_bits(x[last + l]);
		x[last + l] = pf_float(last + l < lanes ? bits : PF_F32_SIGN | PF_F32_INF);
	}
}

#endif
