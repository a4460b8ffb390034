/* logit_grad on the host: dz = c (softmax - onehot) from the row records of logprob.
 *
 * exp(z) comes relative to the row's own power of two (vexp.h), so no large logits are subtracted; the target's entry is
 * -c (1 - p), which the record carries. Probabilities below 2^-126 are 0. Blocks with the target or the end of the row
 * are put together in a small copy, so that every store to dz is a whole vector. */
#include "cpu.h"
#include "vexp.h"

enum { BLOCK = 64 };                   /* lanes; whole beats of either type */
#define NEAR_LIMIT (-15600)            /* of exp2: below it, logits that count as -inf could weigh in */

struct row {
	const char *z;
	char       *dz;
	uint32_t    vocab, target, room;       /* room: lanes of the stride; those beyond vocab become 0 */
	int32_t     exp2;
	float       scale, at_target;  /* c / sum, -c (1 - p) */
	int         bf16, stream;
};

PF_INLINE pf_vec load(const char *z, uint32_t lane, int bf16)
{
	return bf16 ? vec_load_bf16((const uint16_t *)z + lane) : vec_load((const float *)z + lane);
}

PF_INLINE void store(char *dz, uint32_t lane, int bf16, int stream, pf_vec a)
{
	if (bf16 && stream)
		vec_stream_bf16((uint16_t *)dz + lane, a);
	else if (bf16)
		vec_store_bf16((uint16_t *)dz + lane, a);
	else if (stream)
		vec_stream((float *)dz + lane, a);
	else
		vec_store((float *)dz + lane, a);
}

PF_INLINE pf_vec gradient(const struct vexp *e, pf_vec scale, pf_vec z)
{
	return vec_above(z, e->low, vec_mul(vexp(e, z), scale));
}

/* Lanes [begin, end), whole blocks */
PF_INLINE void whole_blocks(const struct row *row, uint32_t begin, uint32_t end, int bf16, int stream)
{
	const struct vexp e = vexp_base(row->exp2);
	const pf_vec scale = vec_set(row->scale);
	for (uint32_t i = begin; i < end; i += 4 * PF_VEC)
		for (uint32_t j = i; j < i + 4 * PF_VEC; j += PF_VEC)
			store(row->dz, j, bf16, stream, gradient(&e, scale, load(row->z, j, bf16)));
}

static void stretch(const struct row *row, uint32_t begin, uint32_t end)
{
	if (row->bf16 && row->stream)
		whole_blocks(row, begin, end, 1, 1);
	else if (row->bf16)
		whole_blocks(row, begin, end, 1, 0);
	else if (row->stream)
		whole_blocks(row, begin, end, 0, 1);
	else
		whole_blocks(row, begin, end, 0, 0);
}

static float logit(const struct row *row, uint32_t v)
{
	union { uint32_t bits; float value; } wide;
	if (!row->bf16)
		return ((const float *)row->z)[v];
	wide.bits = (uint32_t)((const uint16_t *)row->z)[v] << 16;
	return wide.value;
}

static void odd_block(const struct row *row, uint32_t first)
{
	_Alignas(64) float copy[BLOCK];
	const uint32_t end = row->room - first < BLOCK ? row->room - first : BLOCK;
	for (uint32_t i = 0; i < BLOCK; i++) {
		float x = first + i < row->vocab ? logit(row, first + i) : -INFINITY;
		copy[i] = x > -PF_LOGIT_LIMIT ? x : -INFINITY;
	}
	const struct row flat = { .z = (const char *)copy, .dz = (char *)copy, .exp2 = row->exp2, .scale = row->scale };
	whole_blocks(&flat, 0, BLOCK, 0, 0);
	if (row->target - first < BLOCK)
		copy[row->target - first] = row->at_target;
	for (uint32_t i = 0; i < end; i += PF_VEC)
		store(row->dz, first + i, row->bf16, row->stream, vec_load(copy + i));
}

static void write_row(const struct row *row)
{
	const uint32_t whole = row->vocab / BLOCK * BLOCK, odd = row->target / BLOCK * BLOCK;
	if (row->exp2 < NEAR_LIMIT) {
		for (uint32_t first = 0; first < row->room; first += BLOCK)
			odd_block(row, first);
		return;
	}
	stretch(row, 0, odd < whole ? odd : whole);
	if (odd < whole)
		odd_block(row, odd);
	if (odd + BLOCK < whole)
		stretch(row, odd + BLOCK, whole);
	for (uint32_t first = whole; first < row->room; first += BLOCK)
		odd_block(row, first);
}

static void write_zeros(const struct row *row)
{
	for (uint32_t i = 0; i < row->room; i += PF_VEC)
		store(row->dz, i, row->bf16, row->stream, vec_set(0));
}

static struct row make_row(const struct pf_cpu_logit_grad *job, uint32_t t)
{
	const struct pf_row *r = &job->row[t];
	const float c = fabsf(job->coef[t]) < 0x1p126f ? job->coef[t] : NAN;
	return (struct row){
		.z = job->z + t * job->stride, .dz = job->dz + t * job->stride, .vocab = job->vocab,
		.target = (uint32_t)job->target[t], .room = (uint32_t)(job->stride / (job->bf16 ? 2 : 4)),
		.exp2 = r->exp2, .scale = c * r->inv, .at_target = -(c * r->rest), .bf16 = job->bf16, .stream = job->stream,
	};
}

void PF_CPU_PASTE(pf_cpu_logit_grad, PF_CPU_LEVEL)(const struct pf_cpu_logit_grad *job, uint32_t begin, uint32_t end)
{
	uint32_t before = vec_enter();
	for (uint32_t t = begin; t < end; t++) {
		const struct row row = make_row(job, t);
		if (job->target[t] < 0 || job->row[t].status != 0 || row.scale == 0)
			write_zeros(&row);
		else
			write_row(&row);
	}
	vec_leave(before);
}
