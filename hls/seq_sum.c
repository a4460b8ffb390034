/* seq_sum: exact sums of row records over sequences. Integers, so any order and any split into chunks gives the same.
 *
 * Rows that are ignored count for nothing; a bad row adds its status and its n but no numbers; a statistic that is not
 * finite (the mean over a masked vocabulary) adds nothing to its sum. A span that is not within the rows, or whose sum
 * leaves the 64 bits, gets PF_ROW_RANGE. The recurrences are 64-bit additions: II = 1. */
#include "prefpga/internal/abi.h"
#include "prefpga/internal/kernels.h"
#include "prefpga/internal/kmath.h"
PF_KERNELS(PF_PROTOTYPE)

/* Nats as Q31.32; 0 if not finite or beyond the range of logits */
static inline int64_t pf_q32_of(float x)
{
	uint32_t b = pf_bits(x) & PF_F32_ABS;
	return b < 0x47000000u ? (int64_t)(x * 0x1p32f) : 0;   /* |x| < 2^15 */
}

/* Wraps instead of overflowing */
static inline int64_t pf_add64(int64_t a, int64_t b) { return (int64_t)((uint64_t)a + (uint64_t)b); }

static inline void pf_seq_add(struct pf_seq *s, const struct pf_row *row, int tail)
{
	int valid = (row->status & (PF_ROW_BAD | PF_ROW_IGNORED)) == 0;
	int64_t logp = valid ? row->logp_q32 : 0;
	int64_t weight = valid ? row->logp_q32 - pf_q32_of(row->log_sum_p2) : 0;
	s->logp = pf_add64(s->logp, logp);
	s->logp_tail = pf_add64(s->logp_tail, tail ? logp : 0);
	s->entropy = pf_add64(s->entropy, valid ? pf_q32_of(row->entropy) : 0);
	s->log_weight = pf_add64(s->log_weight, weight);
	s->mean_logit = pf_add64(s->mean_logit, valid ? pf_q32_of(row->mean) : 0);
	s->n += (row->status & PF_ROW_IGNORED) == 0;
	s->hits += valid && pf_bits(row->target) == pf_bits(row->max);
	s->status |= (row->status & ~(uint32_t)PF_ROW_IGNORED) | (s->logp > 0 ? PF_ROW_RANGE : 0);
}

void PF_KERNEL_NAME(seq_sum)(const struct pf_row *row, const struct pf_span *span, struct pf_seq *out, uint32_t rows,
                             uint32_t seqs)
{
#pragma HLS INTERFACE mode=m_axi port=row bundle=gmem0 offset=slave
#pragma HLS INTERFACE mode=m_axi port=span bundle=gmem1 offset=slave
#pragma HLS INTERFACE mode=m_axi port=out bundle=gmem0 offset=slave
#pragma HLS INTERFACE mode=s_axilite port=row bundle=control
#pragma HLS INTERFACE mode=s_axilite port=span bundle=control
#pragma HLS INTERFACE mode=s_axilite port=out bundle=control
#pragma HLS INTERFACE mode=s_axilite port=rows bundle=control
#pragma HLS INTERFACE mode=s_axilite port=seqs bundle=control
#pragma HLS INTERFACE mode=s_axilite port=return bundle=control
sequences:
	for (uint32_t q = 0; q < seqs; q++) {
#pragma HLS LOOP_TRIPCOUNT min=1 max=65536
		const struct pf_span at = span[q];
		const int inside = at.begin <= at.split && at.split <= at.end && at.end <= rows;
		const uint32_t end = inside ? at.end : at.begin;
		struct pf_seq s = { 0 };
		s.status = inside ? 0 : PF_ROW_RANGE;
tokens:
		for (uint32_t t = at.begin; t < end; t++) {
#pragma HLS PIPELINE II=1
#pragma HLS LOOP_TRIPCOUNT min=1 max=1048576
			struct pf_row r = row[t];
			pf_seq_add(&s, &r, t >= at.split);
		}
		out[q] = s;
	}
}
