/* stream.h: the simulator's PF_BEAT_PUT (hls/beat.h), included before the kernels of each level. On x86-64 a beat is a
 * line of 64 bytes, written around the caches: a plain store would fetch the line first, which costs more than the
 * gradient where compute units share the memory's bandwidth. pf_stream_fence orders such stores before whatever tells
 * another thread of them; level.c calls it after each kernel. Sanitizers do not see these stores, so builds with one
 * keep the plain ones. */
#ifndef PF_SIM_STREAM_H
#define PF_SIM_STREAM_H
#if defined(__x86_64__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#include <emmintrin.h>
#define PF_BEAT_PUT(to, beat) pf_beat_stream(to, &(beat))

static inline void pf_beat_stream(void *to, const void *beat)
{
	__m128i *line = to;
	const __m128i *part = beat;
	for (int i = 0; i < 4; i++)
		_mm_stream_si128(line + i, _mm_loadu_si128(part + i));
}
static inline void pf_stream_fence(void) { _mm_sfence(); }
#else
static inline void pf_stream_fence(void) { }
#endif
#endif
