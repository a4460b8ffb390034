/* Sums over sequences: row numbers become Q31.32 integers one by one, so the order of rows does not matter. Bad rows
 * add their status and n only; a span outside the rows, or a sum beyond 64 bits, gets PF_ROW_RANGE */
#include <math.h>
#include "cpu.h"

/* What is not finite or out of the range of logits is left out */
static int64_t q32(float nats)
{
	return fabsf(nats) < 0x1p15f ? (int64_t)((double)nats * 0x1p32) : 0;
}

static void add(int64_t *sum, int64_t value)
{
	*sum = (int64_t)((uint64_t)*sum + (uint64_t)value);
}

static void add_row(const struct pf_row *row, int tail, struct pf_seq *seq)
{
	if (row->status & PF_ROW_IGNORED)
		return;
	seq->n++;
	seq->status |= row->status;
	if (row->status & PF_ROW_BAD)
		return;
	add(&seq->logp, row->logp_q32);
	add(&seq->logp_tail, tail ? row->logp_q32 : 0);
	add(&seq->entropy, q32(row->entropy));
	add(&seq->log_weight, row->logp_q32 - q32(row->log_sum_p2));
	add(&seq->mean_logit, q32(row->mean));
	seq->hits += row->target == row->max;
	seq->status |= seq->logp > 0 ? PF_ROW_RANGE : 0;       /* wrapped */
}

void pf_cpu_seq_sum(const struct pf_row *row, uint32_t rows, const struct pf_span *span, struct pf_seq *out)
{
	struct pf_seq seq = { 0 };
	if (span->begin > span->split || span->split > span->end || span->end > rows)
		seq.status = PF_ROW_RANGE;
	else
		for (uint32_t t = span->begin; t < span->end; t++)
			add_row(&row[t], t >= span->split, &seq);
	*out = seq;
}
