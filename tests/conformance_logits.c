/* The cases of the kernels of ready logits, and of the sums and coefficients of sequences. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "tests/cmocka.h"
#include "tests/conformance_make.h"

/* ---- rows of logits ---- */
enum row_kind {
	ROW_MODEL,
	ROW_WIDE,
	ROW_FLAT,
	ROW_PEAK,
	ROW_RISING,
	ROW_FALLING,
	ROW_MASKED,
	ROW_EMPTY,
	ROW_NAN,
	ROW_INF,
	ROW_HUGE,
	ROW_EXTREME,
	ROW_SUBNORMAL,
	ROW_KINDS
};

static double logit(enum row_kind kind, uint32_t v, uint32_t vocab, uint32_t odd)
{
	switch (kind) {
	case ROW_WIDE:      return conf_uniform(-50, 50);
	case ROW_FLAT:      return 7.25;
	case ROW_PEAK:      return v == odd ? 50 : conf_normal(1) - 40;
	case ROW_RISING:    return -50 + 100.0 * v / vocab;
	case ROW_FALLING:   return 50 - 100.0 * v / vocab;
	case ROW_MASKED:    return v % 3 ? -INFINITY : conf_normal(4);
	case ROW_EMPTY:     return v % 2 ? -INFINITY : -12000;
	case ROW_NAN:       return v == odd ? NAN : conf_normal(3);
	case ROW_INF:       return v == odd ? INFINITY : conf_normal(3);
	case ROW_HUGE:      return v == odd ? 11000 : conf_normal(3);
	case ROW_EXTREME:   return conf_uniform(-10990, 10990);
	case ROW_SUBNORMAL: return v % 2 ? conf_uniform(-1e-39, 1e-39) : conf_normal(1e-38);
	default:            return conf_normal(3);
	}
}

static void put_lane(struct conf_case *c, unsigned arg, uint64_t lane, double value)
{
	if (pf_kernel_rows[c->kernel].lanes == 32)
		((uint16_t *)(void *)c->input[arg])[lane] = ref_to_bf16(value);
	else
		((float *)(void *)c->input[arg])[lane] = (float)value;
}

/* z[rows, vocab]: kinds in turn from `first` on; NaN in every lane beyond the row */
static void fill_logits(struct conf_case *c, unsigned arg, uint32_t rows, uint32_t vocab, uint32_t stride,
                        unsigned first)
{
	const uint32_t lanes = stride * pf_kernel_rows[c->kernel].lanes;
	for (uint32_t t = 0; t < rows; t++) {
		const enum row_kind kind = (enum row_kind)((first + t) % ROW_KINDS);
		const uint32_t odd = conf_below(vocab);
		for (uint32_t v = 0; v < lanes; v++)
			put_lane(c, arg, (uint64_t)t * lanes + v, v < vocab ? logit(kind, v, vocab, odd) : NAN);
	}
}

struct shape { uint32_t rows, vocab, pad; unsigned kind; };

static struct conf_case *add_rows(enum pf_kernel kernel, const struct shape *s, const char *more)
{
	char name[64];
	snprintf(name, sizeof name, "T=%u V=%u pad=%u kinds from %u%s", s->rows, s->vocab, s->pad, s->kind, more);
	struct conf_case *c = conf_add(kernel, name);
	const uint32_t lanes = pf_kernel_rows[kernel].lanes;
	*conf_scalar(c, "rows") = s->rows;
	*conf_scalar(c, "vocab") = s->vocab;
	*conf_scalar(c, "stride") = (s->vocab + lanes - 1) / lanes + s->pad;
	return c;
}

static void logprob(enum pf_kernel kernel, const struct shape *s, uint32_t flags)
{
	struct conf_case *c = add_rows(kernel, s, flags ? " stats" : "");
	c->value[PF_ARG_logprob_flags] = flags;
	conf_fit(c);
	fill_logits(c, PF_ARG_logprob_z, s->rows, s->vocab, c->value[PF_ARG_logprob_stride], s->kind);
	conf_targets((int32_t *)(void *)c->input[PF_ARG_logprob_target], s->rows, s->vocab);
}

/* What logprob hands on of a row, from the reference, so that every device gets the same bits */
static double get_lane(const struct conf_case *c, unsigned arg, uint64_t lane)
{
	return pf_kernel_rows[c->kernel].lanes == 32 ? ref_from_bf16(((const uint16_t *)(void *)c->input[arg])[lane])
	                                             : (double)((const float *)(void *)c->input[arg])[lane];
}

static void fill_records(struct conf_case *c, const struct shape *s)
{
	const uint64_t lanes = c->value[PF_ARG_logit_grad_stride] * pf_kernel_rows[c->kernel].lanes;
	const int32_t *target = (const int32_t *)(void *)c->input[PF_ARG_logit_grad_target];
	struct pf_row *row = (struct pf_row *)(void *)c->input[PF_ARG_logit_grad_row];
	double *z = calloc(s->vocab, sizeof *z);
	assert_non_null(z);
	for (uint32_t t = 0; t < s->rows; t++) {
		for (uint32_t v = 0; v < s->vocab; v++)
			z[v] = get_lane(c, PF_ARG_logit_grad_z, t * lanes + v);
		row[t] = conf_record(z, s->vocab, target[t]);
	}
	free(z);
}

static void logit_grad(enum pf_kernel kernel, const struct shape *s, int in_place)
{
	static const float edge[] = { 0, -0.0f, 1e-40f, 0x1p-126f, 1, -0x1p125f };
	struct conf_case *c = add_rows(kernel, s, in_place ? " in place" : "");
	c->in_place = in_place;
	conf_fit(c);
	float *coef = (float *)(void *)c->input[PF_ARG_logit_grad_coef];
	fill_logits(c, PF_ARG_logit_grad_z, s->rows, s->vocab, c->value[PF_ARG_logit_grad_stride], s->kind);
	conf_targets((int32_t *)(void *)c->input[PF_ARG_logit_grad_target], s->rows, s->vocab);
	for (uint32_t t = 0; t < s->rows; t++)
		coef[t] = conf_below(4) ? (float)conf_normal(0.1) : edge[conf_below(6)];
	fill_records(c, s);
}

static void row_cases(void)
{
	static const struct shape shapes[] = {
		/* a beat has 16 or 32 lanes, a step of the simulator 64 beats, a block 64 rows */
		{ 0, 1, 0, 0 },
		{ 1, 1, 0, 0 },
		{ ROW_KINDS, 1, 2, 0 },
		{ ROW_KINDS, 2, 0, 0 },
		{ ROW_KINDS, 15, 0, 0 },
		{ ROW_KINDS, 16, 0, 0 },
		{ ROW_KINDS, 17, 0, 0 },
		{ ROW_KINDS, 31, 1, 0 },
		{ ROW_KINDS, 32, 0, 0 },
		{ ROW_KINDS, 33, 0, 0 },
		{ ROW_KINDS, 1023, 0, 0 },
		{ ROW_KINDS, 1024, 0, 0 },
		{ ROW_KINDS, 1025, 0, 0 },
		{ ROW_KINDS, 2047, 3, 0 },
		{ ROW_KINDS, 2048, 0, 0 },
		{ ROW_KINDS, 2049, 0, 0 },
		{ 63, 300, 0, 1 },
		{ 64, 300, 0, 2 },
		{ 65, 300, 0, 3 },
		{ 130, 77, 0, 4 },
		{ 5, 32000, 0, 0 },
		{ 2, 151936, 0, 0 },
		{ 2, 262144, 0, 1 },
		{ 1, 262143, 1, ROW_EXTREME },
	};
	for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
		logprob(PF_KERNEL_logprob, &shapes[i], PF_WANT_STATS);
		logprob(PF_KERNEL_logprob_bf16, &shapes[i], PF_WANT_STATS);
		logprob(i % 2 ? PF_KERNEL_logprob : PF_KERNEL_logprob_bf16, &shapes[i], 0);
		logit_grad(PF_KERNEL_logit_grad, &shapes[i], i % 2);
		logit_grad(PF_KERNEL_logit_grad_bf16, &shapes[i], i % 2 == 0);
	}
}

/* ---- seq_sum ---- */
static struct pf_row random_record(void)
{
	static const uint32_t status[] = { PF_ROW_RANGE, PF_ROW_EMPTY, PF_ROW_TARGET, PF_ROW_MASKED, PF_ROW_IGNORED };
	struct pf_row row = { .logp_q32 = -(int64_t)(conf_draw() >> (20 + conf_below(20))),
		              .max = (float)conf_normal(10) };
	row.target = conf_below(4) ? (float)conf_normal(10) : row.max;
	row.entropy = (float)conf_uniform(0, 12);
	row.mean = conf_below(8) ? (float)conf_normal(3) : -INFINITY;
	row.log_sum_p2 = (float)conf_uniform(-12, 0);
	if (conf_below(10) == 0) {
		row.status = status[conf_below(5)];
		row.entropy = row.mean = row.log_sum_p2 = row.status & PF_ROW_IGNORED ? 0 : NAN;
		row.logp_q32 = row.status & PF_ROW_IGNORED ? 0 : PF_Q32_NONE;
	}
	return row;
}

static struct pf_span random_span(uint32_t rows)
{
	struct pf_span s = { .begin = conf_below(rows + 1) };
	s.end = s.begin + conf_below(rows - s.begin + 1);
	s.split = conf_below(3) ? s.end : s.begin + conf_below(s.end - s.begin + 1);
	return s;
}

static void seq_sum(uint32_t rows, uint32_t seqs, int broken)
{
	char name[64];
	snprintf(name, sizeof name, "T=%u B=%u%s", rows, seqs, broken ? " broken spans" : "");
	struct conf_case *c = conf_add(PF_KERNEL_seq_sum, name);
	c->value[PF_ARG_seq_sum_rows] = rows;
	c->value[PF_ARG_seq_sum_seqs] = seqs;
	conf_fit(c);
	struct pf_row *row = (struct pf_row *)(void *)c->input[PF_ARG_seq_sum_row];
	struct pf_span *span = (struct pf_span *)(void *)c->input[PF_ARG_seq_sum_span];
	for (uint32_t t = 0; t < rows; t++)
		row[t] = random_record();
	for (uint32_t q = 0; q < seqs; q++) {
		span[q] = random_span(rows);
		if (broken && q % 3 == 0)
			span[q].end = rows + 1 + conf_below(5);
		if (broken && q % 3 == 1)
			span[q].split = span[q].end + 1 + conf_below(1000);
	}
}

/* ---- coef: spans in order, with gaps ---- */
static void coef(uint32_t rows, uint32_t seqs, float tail)
{
	char name[64];
	snprintf(name, sizeof name, "T=%u B=%u tail=%g", rows, seqs, (double)tail);
	struct conf_case *c = conf_add(PF_KERNEL_coef, name);
	c->value[PF_ARG_coef_rows] = rows;
	c->value[PF_ARG_coef_seqs] = seqs;
	memcpy(&c->value[PF_ARG_coef_tail], &tail, sizeof tail);
	conf_fit(c);
	struct pf_item_out *item = (struct pf_item_out *)(void *)c->input[PF_ARG_coef_item];
	struct pf_span *span = (struct pf_span *)(void *)c->input[PF_ARG_coef_span];
	for (uint32_t q = 0, at = 0; q < seqs; q++) {
		uint32_t left = rows - at, most = left / (seqs - q) + 1;
		item[q].grad = q % 7 ? conf_normal(1) * exp(conf_normal(10)) : 0;
		span[q].begin = at += left ? conf_below(most < 4 ? most : 4) % (left + 1) : 0;
		span[q].end = at += rows - at ? conf_below(most) % (rows - at + 1) : 0;
		span[q].split = q % 2 ? span[q].end : (span[q].begin + span[q].end) / 2;
	}
}

void conf_logits_cases(void)
{
	static const struct { uint32_t rows, seqs; } chunks[] = {
		{ 0, 0 }, { 0, 3 }, { 1, 1 }, { 5, 0 }, { 17, 40 }, { 1000, 7 }, { 4096, 300 },
	};
	row_cases();
	for (size_t i = 0; i < sizeof chunks / sizeof *chunks; i++) {
		seq_sum(chunks[i].rows, chunks[i].seqs, 0);
		seq_sum(chunks[i].rows, chunks[i].seqs, 1);
		coef(chunks[i].rows, chunks[i].seqs, 1);
		coef(chunks[i].rows, chunks[i].seqs, 0.3f);
	}
}
