/* flush.h: subnormals to zero, as AMD's floating-point operators treat them, in the calling thread. */
#ifndef PF_SIM_FLUSH_H
#define PF_SIM_FLUSH_H
#include <stdint.h>
#if defined(__SSE2__)
#include <xmmintrin.h>
#endif

/* Inputs and results; the state before, for pf_flush_end */
static inline uint64_t pf_flush_begin(void)
{
#if defined(__SSE2__)
	uint32_t before = _mm_getcsr();
	_mm_setcsr(before | 0x8040);           /* FTZ, DAZ */
	return before;
#elif defined(__aarch64__)
	uint64_t before;
	__asm__ volatile("mrs %0, fpcr" : "=r"(before));
	__asm__ volatile("msr fpcr, %0" : : "r"(before | (uint64_t)1 << 24));  /* FZ */
	return before;
#else
	return 0;                              /* kernels give the same bits either way */
#endif
}

static inline void pf_flush_end(uint64_t before)
{
#if defined(__SSE2__)
	_mm_setcsr((uint32_t)before);
#elif defined(__aarch64__)
	__asm__ volatile("msr fpcr, %0" : : "r"(before));
#else
	(void)before;
#endif
}
#endif
