/* Operands of the fused head's products that are not fp32: bf16 to and from it, and the products of MXINT8, which are
 * exact integers per block of 32 and give the bits of kernel linear_logprob_mxint8. */
#include "vec.h"
#include "cpu.h"

/* ---- bf16 ---- */
void PF_CPU_PASTE(pf_cpu_widen, PF_CPU_LEVEL)(const uint16_t *from, size_t pitch, uint32_t rows, uint32_t cols,
                                              float *to)
{
	for (uint32_t r = 0; r < rows; r++)
		for (uint32_t c = 0; c < cols; c++) {
			const uint32_t bits = (uint32_t)from[r * pitch + c] << 16;
			memcpy(&to[(size_t)r * cols + c], &bits, sizeof bits);
		}
}

void PF_CPU_PASTE(pf_cpu_narrow, PF_CPU_LEVEL)(const float *from, size_t count, uint16_t *to)
{
	for (size_t i = 0; i < count; i++) {
		uint32_t bits;
		memcpy(&bits, &from[i], sizeof bits);
		to[i] = (uint16_t)(from[i] != from[i] ? 0x7fc0 : (bits + 0x7fff + (bits >> 16 & 1)) >> 16);
	}
}

/* ---- words of 32-bit integers, as many as floats ---- */
#if defined(__AVX512BW__)
typedef __m512i ints;
PF_INLINE ints ints_set(int32_t x) { return _mm512_set1_epi32(x); }
PF_INLINE ints ints_load(const void *p) { return _mm512_loadu_si512(p); }
PF_INLINE ints ints_add(ints a, ints b) { return _mm512_add_epi32(a, b); }
/* Sums of two products of 16-bit halves */
PF_INLINE ints ints_dot(ints a, ints b) { return _mm512_madd_epi16(a, b); }
PF_INLINE pf_vec ints_real(ints a) { return _mm512_cvtepi32_ps(a); }
/* 2^(at - 127): 0 for at < 1, NaN for at > 254 */
PF_INLINE pf_vec ints_power(ints at)
{
	const ints bits = _mm512_slli_epi32(_mm512_max_epi32(at, _mm512_setzero_si512()), 23);
	const __mmask16 high = _mm512_cmpgt_epi32_mask(at, ints_set(254));
	return _mm512_castsi512_ps(_mm512_mask_mov_epi32(bits, high, ints_set(0x7fc00000)));
}
#elif defined(__AVX2__) && defined(__FMA__)
typedef __m256i ints;
PF_INLINE ints ints_set(int32_t x) { return _mm256_set1_epi32(x); }
PF_INLINE ints ints_load(const void *p) { return _mm256_loadu_si256(p); }
PF_INLINE ints ints_add(ints a, ints b) { return _mm256_add_epi32(a, b); }
PF_INLINE ints ints_dot(ints a, ints b) { return _mm256_madd_epi16(a, b); }
PF_INLINE pf_vec ints_real(ints a) { return _mm256_cvtepi32_ps(a); }
PF_INLINE pf_vec ints_power(ints at)
{
	const ints bits = _mm256_slli_epi32(_mm256_max_epi32(at, _mm256_setzero_si256()), 23);
	const ints high = _mm256_cmpgt_epi32(at, ints_set(254));
	return _mm256_castsi256_ps(_mm256_blendv_epi8(bits, ints_set(0x7fc00000), high));
}
#else
typedef struct { int32_t lane[PF_VEC]; } ints;
PF_INLINE ints ints_set(int32_t x)
{
	ints a;
	for (int i = 0; i < PF_VEC; i++)
		a.lane[i] = x;
	return a;
}
PF_INLINE ints ints_load(const void *p)
{
	ints a;
	memcpy(&a, p, sizeof a);
	return a;
}
PF_INLINE ints ints_add(ints a, ints b)
{
	for (int i = 0; i < PF_VEC; i++)
		a.lane[i] += b.lane[i];
	return a;
}
PF_INLINE ints ints_dot(ints a, ints b)
{
	int16_t x[2 * PF_VEC], y[2 * PF_VEC];
	memcpy(x, &a, sizeof x);
	memcpy(y, &b, sizeof y);
	for (int i = 0; i < PF_VEC; i++)
		a.lane[i] = x[2 * i] * y[2 * i] + x[2 * i + 1] * y[2 * i + 1];
	return a;
}
PF_INLINE pf_vec ints_real(ints a)
{
	_Alignas(64) float x[PF_VEC];
	for (int i = 0; i < PF_VEC; i++)
		x[i] = (float)a.lane[i];
	return vec_load(x);
}
PF_INLINE pf_vec ints_power(ints at)
{
	_Alignas(64) float x[PF_VEC];
	for (int i = 0; i < PF_VEC; i++) {
		const int32_t e = at.lane[i];
		const uint32_t bits = e < 1 ? 0 : e > 254 ? 0x7fc00000 : (uint32_t)e << 23;
		memcpy(&x[i], &bits, sizeof bits);
	}
	return vec_load(x);
}
#endif

/* ---- MXINT8 ---- */
enum {
	BLOCK = PF_MX_BLOCK, PAIRS = BLOCK / 2,
	CHUNK = PF_CPU_MX_CHUNK,               /* blocks along D at a time */
	ROOM = PF_CPU_TILE_WORDS,
	GROUP = 4,                             /* vectors of words at a time: what stays in registers */
};
_Static_assert(ROOM % (GROUP * 16) == 0, "groups of words");

static int32_t exponent(uint8_t code)
{
	return code == 255 ? 1024 : code;
}

/* Blocks [first, first + blocks) of the tile's words, pairs of elements by pair; words beyond the last are 0 */
static void pack(const struct pf_cpu_mx *job, uint32_t first, uint32_t blocks)
{
	const uint32_t room = (job->words + GROUP * PF_VEC - 1) / (GROUP * PF_VEC) * (GROUP * PF_VEC);
	struct pf_cpu_mx_room *r = job->room;
	memset(r->pair, 0, sizeof r->pair);
	memset(r->exponent, 0, sizeof r->exponent);
	for (uint32_t w = 0; w < job->words && w < room; w++) {
		const uint8_t *row = job->weight + w * job->row_bytes;
		for (uint32_t b = 0; b < blocks; b++) {
			const int8_t *element = (const int8_t *)row + (size_t)(first + b) * BLOCK;
			r->exponent[b][w] = exponent(row[job->elements + first + b]);
			for (uint32_t p = 0; p < PAIRS; p++) {
				r->pair[b * PAIRS + p][w][0] = element[2 * p];
				r->pair[b * PAIRS + p][w][1] = element[2 * p + 1];
			}
		}
	}
}

/* Adds the packed blocks' terms of one token to words [word, word + GROUP vectors) */
PF_INLINE void add_group(const struct pf_cpu_mx_room *r, const int32_t *own, const int32_t *e, uint32_t blocks,
                         uint32_t word, float *raw)
{
	pf_vec sum[GROUP];
	for (int i = 0; i < GROUP; i++)
		sum[i] = vec_load(raw + i * PF_VEC);
	for (uint32_t b = 0; b < blocks; b++) {
		const int16_t (*pair)[ROOM][2] = &r->pair[b * PAIRS];
		const int32_t *code = &r->exponent[b][word];
		ints dot[GROUP];
		for (int i = 0; i < GROUP; i++)
			dot[i] = ints_set(0);
		for (uint32_t p = 0; p < PAIRS; p++) {
			const ints x = ints_set(own[b * PAIRS + p]);
			for (int i = 0; i < GROUP; i++)
				dot[i] = ints_add(dot[i], ints_dot(x, ints_load(pair[p][word + (uint32_t)i * PF_VEC])));
		}
		for (int i = 0; i < GROUP; i++) {
			const ints at = ints_add(ints_set(e[b]), ints_load(code + i * PF_VEC));
			sum[i] = vec_add(sum[i], vec_mul(ints_real(dot[i]), ints_power(at)));
		}
	}
	for (int i = 0; i < GROUP; i++)
		vec_store(raw + i * PF_VEC, sum[i]);
}

static void add_token(const struct pf_cpu_mx *job, uint32_t first, uint32_t blocks, uint32_t t)
{
	const uint8_t *row = job->hidden + t * job->row_bytes;
	_Alignas(64) float part[GROUP * PF_VEC] = { 0 };
	int32_t own[CHUNK * PAIRS], e[CHUNK];
	for (uint32_t b = 0; b < blocks; b++)
		e[b] = exponent(row[job->elements + first + b]) - 266 + 127;
	for (uint32_t p = 0; p < blocks * PAIRS; p++) {
		const int16_t two[2] = { (int8_t)row[first * BLOCK + 2 * p], (int8_t)row[first * BLOCK + 2 * p + 1] };
		memcpy(&own[p], two, sizeof two);
	}
	for (uint32_t w = 0; w < job->words; w += GROUP * PF_VEC) {
		const uint32_t n = job->words - w < GROUP * PF_VEC ? job->words - w : GROUP * PF_VEC;
		float *raw = job->raw + t * job->ld + w;
		if (first)
			memcpy(part, raw, n * sizeof *part);
		else
			memset(part, 0, sizeof part);
		add_group(job->room, own, e, blocks, w, part);
		memcpy(raw, part, n * sizeof *part);
	}
}

void PF_CPU_PASTE(pf_cpu_mx_product, PF_CPU_LEVEL)(const struct pf_cpu_mx *job)
{
	const uint32_t all = (uint32_t)(job->elements / BLOCK);
	for (uint32_t first = 0; first < all; first += CHUNK) {
		const uint32_t blocks = all - first < CHUNK ? all - first : CHUNK;
		pack(job, first, blocks);
		for (uint32_t t = 0; t < job->tokens; t++)
			add_token(job, first, blocks, t);
	}
}
