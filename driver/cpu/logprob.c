/* logprob on the host: ready rows of logits, fp32 or bf16, scanned by scan.h. */
#include "scan.h"

/* Smallest index of the row's largest logit; 0 where there is none */
static uint32_t argmax(const struct row *row, const struct scan *scan, float target)
{
	uint32_t v = scan->top;
	if (!(scan->max > -INFINITY))
		v = row->vocab;
	while (v < row->vocab && vec_logit(row->z, row->bf16, v) != scan->max)
		v++;
	int wins = target >= scan->max && row->target < row->vocab;
	return wins && (row->target < v || target > scan->max) ? row->target : v < row->vocab ? v : 0;
}

static void score_row(struct row *row, struct pf_row *out)
{
	struct scan scan;
	float target = row->target < row->vocab ? vec_logit(row->z, row->bf16, row->target) : -INFINITY;
	scan_row(row, &scan);
	float max = target > scan.max ? target : scan.max;
	if (alive(max) && max < NEAR_LIMIT) {
		row->careful = 1;
		scan_row(row, &scan);
	}
	finish(row, &scan, target, argmax(row, &scan, target), out);
}

void PF_CPU_PASTE(pf_cpu_logprob, PF_CPU_LEVEL)(const struct pf_cpu_logprob *job, uint32_t begin, uint32_t end)
{
	uint32_t before = vec_enter();
	for (uint32_t t = begin; t < end; t++) {
		struct row row = { .z = job->z + t * job->stride, .vocab = job->vocab,
		                   .target = (uint32_t)job->target[t],
		                   .bf16 = job->bf16, .stats = (job->flags & PF_WANT_STATS) != 0 };
		memset(&job->out[t], 0, sizeof job->out[t]);
		if (job->target[t] < 0)
			job->out[t].status = PF_ROW_IGNORED;
		else
			score_row(&row, &job->out[t]);
	}
	vec_leave(before);
}
