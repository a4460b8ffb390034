/* vec.h: the few vector words that the row loops of logprob, logit_grad and the fused head are written in, once per
 * instruction set.
 *
 * Which set is decided by the compiler's target flags: this header is included once per level by objects that
 * CMakeLists.txt compiles with different ones. PF_VEC lanes of fp32; addresses of vec_load and vec_store are aligned to
 * their own width.
 * To add a level: a block here, a row in CMakeLists.txt, a row in PF_CPU_LEVELS (cpu.h). */
#ifndef PF_CPU_VEC_H
#define PF_CPU_VEC_H
#include <math.h>
#include <stdint.h>
#include <string.h>
#if defined(__SSE2__)
#include <immintrin.h>
#endif
#define PF_INLINE static inline __attribute__((always_inline))

#if defined(__AVX512F__)
enum { PF_VEC = 16 };
typedef __m512 pf_vec;
typedef __m512i pf_pair;
PF_INLINE pf_vec vec_set(float x) { return _mm512_set1_ps(x); }
PF_INLINE pf_vec vec_load(const float *p) { return _mm512_load_ps(p); }
PF_INLINE void vec_store(float *p, pf_vec a) { _mm512_store_ps(p, a); }
PF_INLINE void vec_stream(float *p, pf_vec a) { _mm512_stream_ps(p, a); }
PF_INLINE pf_vec vec_add(pf_vec a, pf_vec b) { return _mm512_add_ps(a, b); }
PF_INLINE pf_vec vec_sub(pf_vec a, pf_vec b) { return _mm512_sub_ps(a, b); }
PF_INLINE pf_vec vec_mul(pf_vec a, pf_vec b) { return _mm512_mul_ps(a, b); }
PF_INLINE pf_vec vec_div(pf_vec a, pf_vec b) { return _mm512_div_ps(a, b); }
PF_INLINE pf_vec vec_fma(pf_vec a, pf_vec b, pf_vec c) { return _mm512_fmadd_ps(a, b, c); }
/* The larger; b if either is NaN */
PF_INLINE pf_vec vec_max(pf_vec a, pf_vec b) { return _mm512_max_ps(a, b); }
PF_INLINE pf_vec vec_min(pf_vec a, pf_vec b) { return _mm512_min_ps(a, b); }
/* a where x > low, else 0 */
PF_INLINE pf_vec vec_above(pf_vec x, pf_vec low, pf_vec a)
{
	return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(x, low, _CMP_GT_OQ), a);
}
/* The float whose exponent field is the integer in the low bits of k's pattern */
PF_INLINE pf_vec vec_power(pf_vec k) { return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_castps_si512(k), 23)); }
PF_INLINE pf_vec vec_load_bf16(const uint16_t *p)
{
	__m512i wide = _mm512_cvtepu16_epi32(_mm256_load_si256((const __m256i *)p));
	return _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16));
}
/* Adds half a unit, ties to even: bf16 is the upper half of the result */
PF_INLINE __m512i vec_round_bf16(pf_vec a)
{
	__m512i bits = _mm512_castps_si512(a);
	__m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
	return _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
}
/* The bf16 lanes of a, then of b: one register */
PF_INLINE pf_pair vec_pair_bf16(pf_vec a, pf_vec b)
{
	const __m512i first = _mm512_set1_epi32(0x00030001), step = _mm512_set1_epi32(0x00040004);
	const __m512i count = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
	__m512i upper = _mm512_add_epi32(first, _mm512_mullo_epi32(count, step));
	return _mm512_permutex2var_epi16(vec_round_bf16(a), upper, vec_round_bf16(b));
}
PF_INLINE void vec_store_pair(uint16_t *p, pf_pair a) { _mm512_store_si512(p, a); }
PF_INLINE void vec_stream_pair(uint16_t *p, pf_pair a) { _mm512_stream_si512((__m512i *)p, a); }
PF_INLINE void vec_accumulate(double *sum, pf_vec a)
{
	__m512d low = _mm512_cvtps_pd(_mm512_castps512_ps256(a));
	__m512d high = _mm512_cvtps_pd(_mm256_castpd_ps(_mm512_extractf64x4_pd(_mm512_castps_pd(a), 1)));
	_mm512_storeu_pd(sum, _mm512_add_pd(_mm512_loadu_pd(sum), low));
	_mm512_storeu_pd(sum + 8, _mm512_add_pd(_mm512_loadu_pd(sum + 8), high));
}

#elif defined(__AVX2__) && defined(__FMA__)
enum { PF_VEC = 8 };
typedef __m256 pf_vec;
typedef __m256i pf_pair;
PF_INLINE pf_vec vec_set(float x) { return _mm256_set1_ps(x); }
PF_INLINE pf_vec vec_load(const float *p) { return _mm256_load_ps(p); }
PF_INLINE void vec_store(float *p, pf_vec a) { _mm256_store_ps(p, a); }
PF_INLINE void vec_stream(float *p, pf_vec a) { _mm256_stream_ps(p, a); }
PF_INLINE pf_vec vec_add(pf_vec a, pf_vec b) { return _mm256_add_ps(a, b); }
PF_INLINE pf_vec vec_sub(pf_vec a, pf_vec b) { return _mm256_sub_ps(a, b); }
PF_INLINE pf_vec vec_mul(pf_vec a, pf_vec b) { return _mm256_mul_ps(a, b); }
PF_INLINE pf_vec vec_div(pf_vec a, pf_vec b) { return _mm256_div_ps(a, b); }
PF_INLINE pf_vec vec_fma(pf_vec a, pf_vec b, pf_vec c) { return _mm256_fmadd_ps(a, b, c); }
PF_INLINE pf_vec vec_max(pf_vec a, pf_vec b) { return _mm256_max_ps(a, b); }
PF_INLINE pf_vec vec_min(pf_vec a, pf_vec b) { return _mm256_min_ps(a, b); }
PF_INLINE pf_vec vec_above(pf_vec x, pf_vec low, pf_vec a)
{
	return _mm256_and_ps(_mm256_cmp_ps(x, low, _CMP_GT_OQ), a);
}
PF_INLINE pf_vec vec_power(pf_vec k) { return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_castps_si256(k), 23)); }
PF_INLINE pf_vec vec_load_bf16(const uint16_t *p)
{
	__m256i wide = _mm256_cvtepu16_epi32(_mm_load_si128((const __m128i *)p));
	return _mm256_castsi256_ps(_mm256_slli_epi32(wide, 16));
}
PF_INLINE __m256i vec_round_bf16(pf_vec a)
{
	__m256i bits = _mm256_castps_si256(a);
	__m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
	bits = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
	return _mm256_srai_epi32(bits, 16);
}
PF_INLINE pf_pair vec_pair_bf16(pf_vec a, pf_vec b)
{
	return _mm256_permute4x64_epi64(_mm256_packs_epi32(vec_round_bf16(a), vec_round_bf16(b)), 0xd8);
}
PF_INLINE void vec_store_pair(uint16_t *p, pf_pair a) { _mm256_store_si256((__m256i *)p, a); }
PF_INLINE void vec_stream_pair(uint16_t *p, pf_pair a) { _mm256_stream_si256((__m256i *)p, a); }
PF_INLINE void vec_accumulate(double *sum, pf_vec a)
{
	__m256d low = _mm256_cvtps_pd(_mm256_castps256_ps128(a)), high = _mm256_cvtps_pd(_mm256_extractf128_ps(a, 1));
	_mm256_storeu_pd(sum, _mm256_add_pd(_mm256_loadu_pd(sum), low));
	_mm256_storeu_pd(sum + 4, _mm256_add_pd(_mm256_loadu_pd(sum + 4), high));
}

#else
/* Any processor: the compiler's own vectors of 128 bits. Without fused multiply-add the range reduction is still exact,
 * because vexp.h's constants are short */
enum { PF_VEC = 4 };
typedef float pf_vec __attribute__((vector_size(16)));
typedef uint32_t pf_bits __attribute__((vector_size(16)));       /* unsigned: sums may wrap */
typedef int32_t pf_ivec __attribute__((vector_size(16)));
typedef int16_t pf_pair __attribute__((vector_size(16), may_alias));
PF_INLINE pf_vec vec_set(float x) { return (pf_vec){ x, x, x, x }; }
PF_INLINE pf_vec vec_load(const float *p) { return *(const pf_vec *)p; }
PF_INLINE void vec_store(float *p, pf_vec a) { *(pf_vec *)p = a; }
PF_INLINE pf_vec vec_add(pf_vec a, pf_vec b) { return a + b; }
PF_INLINE pf_vec vec_sub(pf_vec a, pf_vec b) { return a - b; }
PF_INLINE pf_vec vec_mul(pf_vec a, pf_vec b) { return a * b; }
PF_INLINE pf_vec vec_div(pf_vec a, pf_vec b) { return a / b; }
PF_INLINE pf_vec vec_fma(pf_vec a, pf_vec b, pf_vec c) { return a * b + c; }
PF_INLINE pf_vec vec_select(pf_ivec mask, pf_vec a, pf_vec b)
{
	return (pf_vec)((mask & (pf_ivec)a) | (~mask & (pf_ivec)b));
}
PF_INLINE pf_vec vec_above(pf_vec x, pf_vec low, pf_vec a) { return (pf_vec)((x > low) & (pf_ivec)a); }
PF_INLINE pf_vec vec_power(pf_vec k) { return (pf_vec)((pf_bits)k << 23); }
#if defined(__SSE2__)
PF_INLINE pf_pair vec_narrow(pf_ivec a, pf_ivec b) { return (pf_pair)_mm_packs_epi32((__m128i)a, (__m128i)b); }
PF_INLINE void vec_stream_pair(uint16_t *p, pf_pair a) { _mm_stream_si128((__m128i *)p, (__m128i)a); }
PF_INLINE void vec_stream(float *p, pf_vec a) { _mm_stream_ps(p, a); }
PF_INLINE pf_vec vec_max(pf_vec a, pf_vec b) { return _mm_max_ps(a, b); }
PF_INLINE pf_vec vec_min(pf_vec a, pf_vec b) { return _mm_min_ps(a, b); }
#else
PF_INLINE pf_pair vec_narrow(pf_ivec a, pf_ivec b)
{
	return (pf_pair){ (int16_t)a[0], (int16_t)a[1], (int16_t)a[2], (int16_t)a[3],
	                  (int16_t)b[0], (int16_t)b[1], (int16_t)b[2], (int16_t)b[3] };
}
PF_INLINE void vec_stream_pair(uint16_t *p, pf_pair a) { *(pf_pair *)p = a; }
PF_INLINE void vec_stream(float *p, pf_vec a) { vec_store(p, a); }
PF_INLINE pf_vec vec_max(pf_vec a, pf_vec b) { return vec_select(a > b, a, b); }
PF_INLINE pf_vec vec_min(pf_vec a, pf_vec b) { return vec_select(a < b, a, b); }
#endif
PF_INLINE pf_vec vec_load_bf16(const uint16_t *p)
{
	return (pf_vec)((pf_bits){ p[0], p[1], p[2], p[3] } << 16);
}
PF_INLINE pf_pair vec_pair_bf16(pf_vec a, pf_vec b)
{
	pf_bits x = (pf_bits)a, y = (pf_bits)b;
	x += ((x >> 16) & 1) + 0x7fff;
	y += ((y >> 16) & 1) + 0x7fff;
	return vec_narrow((pf_ivec)x >> 16, (pf_ivec)y >> 16);
}
PF_INLINE void vec_store_pair(uint16_t *p, pf_pair a) { *(pf_pair *)p = a; }
PF_INLINE void vec_accumulate(double *sum, pf_vec a)
{
	for (int i = 0; i < PF_VEC; i++)
		sum[i] += (double)a[i];
}
#endif

/* Asks for what comes half a page later: with arithmetic between the loads, the processor's own prefetching falls
 * behind */
PF_INLINE void vec_fetch(const char *p)
{
	__builtin_prefetch(p + 2048);
}

PF_INLINE float vec_largest(pf_vec a)
{
	_Alignas(64) float lane[PF_VEC];
	vec_store(lane, a);
	float largest = lane[0];
	for (int i = 1; i < PF_VEC; i++)
		largest = lane[i] > largest ? lane[i] : largest;
	return largest;
}

/* Subnormals as zero while a kernel runs: terms that small count for nothing and are slow. Returns what to restore */
PF_INLINE uint32_t vec_enter(void)
{
#if defined(__SSE2__)
	uint32_t before = _mm_getcsr();
	_mm_setcsr(before | 0x8040u);
	return before;
#else
	return 0;
#endif
}

/* Restores, and orders streamed stores before what follows */
PF_INLINE void vec_leave(uint32_t before)
{
#if defined(__SSE2__)
	_mm_sfence();
	_mm_setcsr(before);
#else
	(void)before;
#endif
}

/* Element v of z[V], fp32 or bf16 */
PF_INLINE float vec_logit(const void *z, int bf16, uint32_t v)
{
	union { uint32_t bits; float value; } wide;
	if (!bf16)
		return ((const float *)z)[v];
	wide.bits = (uint32_t)((const uint16_t *)z)[v] << 16;
	return wide.value;
}
#endif
