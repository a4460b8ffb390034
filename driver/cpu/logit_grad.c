/* logit_grad on the host: dz = c (softmax - onehot), ready rows of logits, fp32 or bf16, elsewhere or in place. */
#include "grad_row.h"

/* NaN for a coefficient without meaning, else 0; beyond the vocabulary 0 */
static void write_constant(const struct row *row)
{
	memset(row->dz, 0, (size_t)row->room * (row->bf16 ? 2 : 4));
	for (uint32_t v = 0; v < row->vocab && isnan(row->scale); v++)
		if (row->bf16)
			((uint16_t *)row->dz)[v] = 0x7fc0;
		else
			((float *)row->dz)[v] = NAN;
}

static struct row make_row(const struct pf_cpu_logit_grad *job, uint32_t t)
{
	const struct pf_row *r = &job->row[t];
	const float c = fabsf(job->coef[t]) < 0x1p126f ? job->coef[t] : NAN;
	return (struct row){
		.z = job->z + t * job->stride, .dz = job->dz + t * job->stride, .vocab = job->vocab,
		.target = (uint32_t)job->target[t], .room = (uint32_t)(job->stride / (job->bf16 ? 2 : 4)),
		.exp2 = r->exp2, .scale = c * r->inv, .at_target = -(c * r->rest),
		.bf16 = job->bf16, .stream = job->stream,
	};
}

void PF_CPU_PASTE(pf_cpu_logit_grad, PF_CPU_LEVEL)(const struct pf_cpu_logit_grad *job, uint32_t begin, uint32_t end)
{
	uint32_t before = vec_enter();
	for (uint32_t t = begin; t < end; t++) {
		struct row row = make_row(job, t);
		if (job->target[t] < 0 || job->row[t].status != 0)
			row.scale = 0;
		if (row.scale == 0 || isnan(row.scale))
			write_constant(&row);
		else
			write_row(&row);
	}
	vec_leave(before);
}
