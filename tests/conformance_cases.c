/* What the conformance suite runs: edges of every shape, every status, random values; from one seed. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "tests/cmocka.h"
#include "tests/conformance.h"
#include "tests/ref/linear.h"
#include "tests/ref/mxint8.h"

/* ---- randomness: splitmix64 ---- */
static uint64_t seed;

static uint64_t draw(void)
{
	uint64_t z = seed += 0x9e3779b97f4a7c15u;
	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
	z = (z ^ z >> 27) * 0x94d049bb133111ebu;
	return z ^ z >> 31;
}

static uint32_t below(uint32_t n)
{
	return (uint32_t)(draw() % n);
}

static double uniform(double low, double high)
{
	return low + (high - low) * (double)(draw() >> 11) * 0x1p-53;
}

static double normal(double sigma)
{
	return sigma * sqrt(-2 * log(uniform(1e-18, 1))) * cos(6.28318530717958648 * uniform(0, 1));
}

/* ---- the list ---- */
static struct conf_case *list;
static unsigned listed, room;

static struct conf_case *add(enum pf_kernel kernel, const char *name)
{
	if (listed == room) {
		room = room ? 2 * room : 64;
		list = realloc(list, room * sizeof *list);
		assert_non_null(list);
	}
	struct conf_case *c = &list[listed];
	memset(c, 0, sizeof *c);
	c->kernel = kernel;
	c->offset = listed++ % 3 == 2 ? PF_PAGE_BYTES : 0;
	snprintf(c->name, sizeof c->name, "%s %s", pf_kernel_rows[kernel].name, name);
	return c;
}

/* After the scalars are set: room for what the kernel reads */
static void fit(struct conf_case *c)
{
	const struct pf_kernel_row *row = &pf_kernel_rows[c->kernel];
	for (unsigned i = 0; i < row->count; i++) {
		if (row->arg[i].dir == PF_DIR_VAL)
			continue;
		c->bytes[i] = row->elements(i, c->value) * row->arg[i].size;
		if (row->arg[i].dir == PF_DIR_OUT)
			continue;
		c->input[i] = calloc(1, c->bytes[i] + 1);
		assert_non_null(c->input[i]);
	}
}

void conf_free(struct conf_case *cases, unsigned count)
{
	for (unsigned k = 0; k < count; k++)
		for (unsigned i = 0; i < PF_ARGS_MAX; i++)
			free(cases[k].input[i]);
	free(cases);
	list = NULL;
	listed = room = 0;
}

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
	case ROW_WIDE:      return uniform(-50, 50);
	case ROW_FLAT:      return 7.25;
	case ROW_PEAK:      return v == odd ? 50 : normal(1) - 40;
	case ROW_RISING:    return -50 + 100.0 * v / vocab;
	case ROW_FALLING:   return 50 - 100.0 * v / vocab;
	case ROW_MASKED:    return v % 3 ? -INFINITY : normal(4);
	case ROW_EMPTY:     return v % 2 ? -INFINITY : -12000;
	case ROW_NAN:       return v == odd ? NAN : normal(3);
	case ROW_INF:       return v == odd ? INFINITY : normal(3);
	case ROW_HUGE:      return v == odd ? 11000 : normal(3);
	case ROW_EXTREME:   return uniform(-10990, 10990);
	case ROW_SUBNORMAL: return v % 2 ? uniform(-1e-39, 1e-39) : normal(1e-38);
	default:            return normal(3);
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
		const uint32_t odd = below(vocab);
		for (uint32_t v = 0; v < lanes; v++)
			put_lane(c, arg, (uint64_t)t * lanes + v, v < vocab ? logit(kind, v, vocab, odd) : NAN);
	}
}

static void fill_targets(int32_t *target, uint32_t rows, uint32_t vocab)
{
	for (uint32_t t = 0; t < rows; t++) {
		const int32_t edge[] = { 0, (int32_t)vocab - 1, (int32_t)vocab, PF_IGNORE, INT32_MIN, INT32_MAX, -1 };
		uint32_t pick = below(16);
		target[t] = pick < 7 ? edge[pick] : (int32_t)below(vocab);
	}
}

static uint32_t *scalar(struct conf_case *c, const char *name)
{
	const struct pf_kernel_row *row = &pf_kernel_rows[c->kernel];
	for (unsigned i = 0; i < row->count; i++)
		if (strcmp(row->arg[i].name, name) == 0)
			return &c->value[i];
	fail_msg("%s has no %s", row->name, name);
	return NULL;
}

struct shape { uint32_t rows, vocab, pad; unsigned kind; };

static struct conf_case *add_rows(enum pf_kernel kernel, const struct shape *s, const char *more)
{
	char name[64];
	snprintf(name, sizeof name, "T=%u V=%u pad=%u kinds from %u%s", s->rows, s->vocab, s->pad, s->kind, more);
	struct conf_case *c = add(kernel, name);
	const uint32_t lanes = pf_kernel_rows[kernel].lanes;
	*scalar(c, "rows") = s->rows;
	*scalar(c, "vocab") = s->vocab;
	*scalar(c, "stride") = (s->vocab + lanes - 1) / lanes + s->pad;
	return c;
}

static void logprob(enum pf_kernel kernel, const struct shape *s, uint32_t flags)
{
	struct conf_case *c = add_rows(kernel, s, flags ? " stats" : "");
	c->value[PF_ARG_logprob_flags] = flags;
	fit(c);
	fill_logits(c, PF_ARG_logprob_z, s->rows, s->vocab, c->value[PF_ARG_logprob_stride], s->kind);
	fill_targets((int32_t *)(void *)c->input[PF_ARG_logprob_target], s->rows, s->vocab);
}

/* What logprob hands on of a row, from the reference, so that every device gets the same bits */
static struct pf_row row_record(const double *z, uint32_t vocab, int32_t target)
{
	struct pf_row row = { 0 };
	struct ref_row want;
	ref_logprob(z, vocab, target, &want);
	row.status = want.status;
	if (row.status)
		return row;
	long double bits = (want.max + want.log_sum) / 0.693147180559945309417232121458L;
	row.exp2 = (int32_t)floorl(bits);
	row.inv = (float)exp2l(row.exp2 - bits);
	row.rest = (float)want.rest;
	row.max = (float)want.max;
	row.log_sum = (float)want.log_sum;
	row.target = (float)want.target;
	row.logp = (float)want.logp;
	return row;
}

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
		row[t] = row_record(z, s->vocab, target[t]);
	}
	free(z);
}

static void logit_grad(enum pf_kernel kernel, const struct shape *s, int in_place)
{
	static const float edge[] = { 0, -0.0f, 1e-40f, 0x1p-126f, 1, -0x1p125f };
	struct conf_case *c = add_rows(kernel, s, in_place ? " in place" : "");
	c->in_place = in_place;
	fit(c);
	float *coef = (float *)(void *)c->input[PF_ARG_logit_grad_coef];
	fill_logits(c, PF_ARG_logit_grad_z, s->rows, s->vocab, c->value[PF_ARG_logit_grad_stride], s->kind);
	fill_targets((int32_t *)(void *)c->input[PF_ARG_logit_grad_target], s->rows, s->vocab);
	for (uint32_t t = 0; t < s->rows; t++)
		coef[t] = below(4) ? (float)normal(0.1) : edge[below(6)];
	fill_records(c, s);
}

static void logits_cases(void)
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
	struct pf_row row = { .logp_q32 = -(int64_t)(draw() >> (20 + below(20))), .max = (float)normal(10) };
	row.target = below(4) ? (float)normal(10) : row.max;
	row.entropy = (float)uniform(0, 12);
	row.mean = below(8) ? (float)normal(3) : -INFINITY;
	row.log_sum_p2 = (float)uniform(-12, 0);
	if (below(10) == 0) {
		row.status = status[below(5)];
		row.entropy = row.mean = row.log_sum_p2 = row.status & PF_ROW_IGNORED ? 0 : NAN;
		row.logp_q32 = row.status & PF_ROW_IGNORED ? 0 : PF_Q32_NONE;
	}
	return row;
}

static struct pf_span random_span(uint32_t rows)
{
	struct pf_span s = { .begin = below(rows + 1) };
	s.end = s.begin + below(rows - s.begin + 1);
	s.split = below(3) ? s.end : s.begin + below(s.end - s.begin + 1);
	return s;
}

static void seq_sum(uint32_t rows, uint32_t seqs, int broken)
{
	char name[64];
	snprintf(name, sizeof name, "T=%u B=%u%s", rows, seqs, broken ? " broken spans" : "");
	struct conf_case *c = add(PF_KERNEL_seq_sum, name);
	c->value[PF_ARG_seq_sum_rows] = rows;
	c->value[PF_ARG_seq_sum_seqs] = seqs;
	fit(c);
	struct pf_row *row = (struct pf_row *)(void *)c->input[PF_ARG_seq_sum_row];
	struct pf_span *span = (struct pf_span *)(void *)c->input[PF_ARG_seq_sum_span];
	for (uint32_t t = 0; t < rows; t++)
		row[t] = random_record();
	for (uint32_t q = 0; q < seqs; q++) {
		span[q] = random_span(rows);
		if (broken && q % 3 == 0)
			span[q].end = rows + 1 + below(5);
		if (broken && q % 3 == 1)
			span[q].split = span[q].end + 1 + below(1000);
	}
}

/* ---- coef: spans in order, with gaps ---- */
static void coef(uint32_t rows, uint32_t seqs, float tail)
{
	char name[64];
	snprintf(name, sizeof name, "T=%u B=%u tail=%g", rows, seqs, (double)tail);
	struct conf_case *c = add(PF_KERNEL_coef, name);
	c->value[PF_ARG_coef_rows] = rows;
	c->value[PF_ARG_coef_seqs] = seqs;
	memcpy(&c->value[PF_ARG_coef_tail], &tail, sizeof tail);
	fit(c);
	struct pf_item_out *item = (struct pf_item_out *)(void *)c->input[PF_ARG_coef_item];
	struct pf_span *span = (struct pf_span *)(void *)c->input[PF_ARG_coef_span];
	for (uint32_t q = 0, at = 0; q < seqs; q++) {
		uint32_t left = rows - at, most = left / (seqs - q) + 1;
		item[q].grad = q % 7 ? normal(1) * exp(normal(10)) : 0;
		span[q].begin = at += left ? below(most < 4 ? most : 4) % (left + 1) : 0;
		span[q].end = at += rows - at ? below(most) % (rows - at + 1) : 0;
		span[q].split = q % 2 ? span[q].end : (span[q].begin + span[q].end) / 2;
	}
}

/* ---- pref ---- */
struct program { uint32_t word[PF_PROG_MAX], words; };

static void emit(struct program *p, uint32_t op, uint32_t operand)
{
	p->word[p->words++] = PF_WORD(op, operand);
}

static void emit_all(struct program *p, const uint32_t *op, unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		emit(p, op[i], 0);
	emit(p, PF_OP_END, 0);
}

/* DPO: softplus(-beta margin) and its derivative; par 0 is beta */
static void program_dpo(struct program *p, unsigned component)
{
	static const uint32_t value[] = { PF_OP_PAR, PF_OP_U, PF_OP_SIGN, PF_OP_MUL, PF_OP_GSUM, PF_OP_MUL, PF_OP_NEG,
	                                  PF_OP_SOFTPLUS };
	static const uint32_t grad[] = { PF_OP_PAR, PF_OP_U, PF_OP_SIGN, PF_OP_MUL, PF_OP_GSUM, PF_OP_MUL, PF_OP_NEG,
	                                 PF_OP_SIGMOID, PF_OP_PAR, PF_OP_MUL, PF_OP_SIGN, PF_OP_MUL, PF_OP_NEG };
	uint32_t *head = &p->word[PF_PROG_COMPONENT + 4 * component];
	head[0] = p->words;
	emit_all(p, value, sizeof value / sizeof *value);
	head[1] = p->words;
	emit_all(p, grad, sizeof grad / sizeof *grad);
	p->word[0] = component + 1;
}

/* Every reduction, on scores of moderate size */
static void program_groups(struct program *p, unsigned component)
{
	static const uint32_t value[] = { PF_OP_SCORE, PF_OP_DUP,   PF_OP_GLSE,   PF_OP_SWAP, PF_OP_GMEAN,
		                          PF_OP_ADD,   PF_OP_SCORE, PF_OP_GVAR,   PF_OP_ADD,  PF_OP_SCORE,
		                          PF_OP_GRANK, PF_OP_ADD,   PF_OP_GCOUNT, PF_OP_DIV };
	static const uint32_t grad[] = { PF_OP_SCORE,  PF_OP_GMAX,  PF_OP_SCORE,  PF_OP_SUB,   PF_OP_NEG,
		                         PF_OP_EXP,    PF_OP_SCORE, PF_OP_SCORE,  PF_OP_GMEAN, PF_OP_LE,
		                         PF_OP_WEIGHT, PF_OP_ADV,   PF_OP_SELECT, PF_OP_MUL };
	uint32_t *head = &p->word[PF_PROG_COMPONENT + 4 * component];
	head[0] = p->words;
	emit_all(p, value, sizeof value / sizeof *value);
	head[1] = p->words;
	emit_all(p, grad, sizeof grad / sizeof *grad);
	head[2] = 1;
	p->word[0] = component + 1;
}

/* Sums and ranks over all items, and a loop that adds up what position k of each group holds times k */
static void program_batch(struct program *p, unsigned component)
{
	static const uint32_t value[] = { PF_OP_SCORE, PF_OP_BRANK, PF_OP_SCORE, PF_OP_SCORE, PF_OP_BRANK, PF_OP_BPUT,
	                                  PF_OP_SWAP, PF_OP_BGET, PF_OP_ADV, PF_OP_BSUM, PF_OP_ADD };
	uint32_t *head = &p->word[PF_PROG_COMPONENT + 4 * component];
	head[0] = p->words;
	emit_all(p, value, sizeof value / sizeof *value);
	head[1] = p->words;
	for (uint32_t reg = 0; reg < 2; reg++) {
		emit(p, PF_OP_SCALAR, 7);
		emit(p, PF_OP_STORE, reg);
	}
	emit(p, PF_OP_LOOP, 0);
	emit(p, PF_OP_LOAD, 0);
	emit(p, PF_OP_SCORE, 0);
	emit(p, PF_OP_GRANK, 0);
	emit(p, PF_OP_LOAD, 1);
	emit(p, PF_OP_EQ, 0);
	emit(p, PF_OP_WEIGHT, 0);
	emit(p, PF_OP_MUL, 0);
	emit(p, PF_OP_GSUM, 0);
	emit(p, PF_OP_LOAD, 1);
	emit(p, PF_OP_MUL, 0);
	emit(p, PF_OP_ADD, 0);
	emit(p, PF_OP_STORE, 0);
	emit(p, PF_OP_LOAD, 1);
	emit(p, PF_OP_SCALAR, 6);
	emit(p, PF_OP_ADD, 0);
	emit(p, PF_OP_STORE, 1);
	emit(p, PF_OP_NEXT, 0);
	emit(p, PF_OP_LOAD, 0);
	emit(p, PF_OP_END, 0);
	head[2] = 1;
	p->word[0] = component + 1;
}

static uint32_t random_operand(uint32_t op, int immediate)
{
	if (!immediate)
		return 0;
	return op == PF_OP_CONST ? below(PF_CONSTS) : op == PF_OP_IS ? below(7) : below(8);
}

/* Any operations whose stack fits, at the end folded to one slot; registers are stored before they are loaded */
static void random_code(struct program *p, unsigned length)
{
	static const struct { int takes, leaves, immediate; } shape[] = {
#define SHAPE(symbol, mnemonic, takes, leaves, imm, text) { takes, leaves, imm },
		PF_OPS(SHAPE)
#undef SHAPE
	};
	int depth = 0, loop = -1;      /* loop: the stack's depth at an open one */
	for (uint32_t i = 0; i < PF_REGISTERS; i++) {
		emit(p, PF_OP_SCORE, 0);
		emit(p, PF_OP_STORE, i);
	}
	while (length > 0) {
		uint32_t op = 1 + below(PF_OP_COUNT - 1);
		int after = depth - shape[op].takes + shape[op].leaves;
		if (depth < shape[op].takes || after > (int)PF_STACK_MAX || (op == PF_OP_LOOP && loop >= 0) ||
		    (op == PF_OP_NEXT && loop != depth))
			continue;
		emit(p, op, random_operand(op, shape[op].immediate));
		loop = op == PF_OP_LOOP ? depth : op == PF_OP_NEXT ? -1 : loop;
		depth = after;
		length--;
	}
	for (; loop >= 0 && depth != loop; depth += depth < loop ? 1 : -1)
		emit(p, depth < loop ? PF_OP_U : PF_OP_DROP, 0);
	if (loop >= 0)
		emit(p, PF_OP_NEXT, 0);
	for (; depth == 0 || depth > 1; depth += depth ? -1 : 1)
		emit(p, depth ? PF_OP_ADD : PF_OP_U, 0);
	emit(p, PF_OP_END, 0);
}

static void program_random(struct program *p, unsigned component)
{
	uint32_t *head = &p->word[PF_PROG_COMPONENT + 4 * component];
	head[0] = p->words;
	random_code(p, 5 + below(40));
	head[1] = p->words;
	random_code(p, 5 + below(40));
	head[2] = below(2);
	p->word[0] = component + 1;
}

static struct pf_item random_item(unsigned index)
{
	struct pf_item item = { .n = 1 + below(500), .kind = index % 2 ? PF_ITEM_REJECTED : PF_ITEM_CHOSEN };
	item.policy = -(int64_t)(uniform(0, 300) * 0x1p32);
	item.reference = item.policy + (int64_t)(normal(5) * 0x1p32);
	item.old = item.policy + (int64_t)(normal(0.1) * 0x1p32);
	item.score = (float)normal(1);
	item.margin = (float)uniform(0, 1);
	item.weight = (float)uniform(0.1, 2);
	item.advantage = (float)normal(1);
	return item;
}

static struct conf_case *add_pref(const char *name, const struct program *p, uint32_t items, uint32_t most)
{
	char label[64];
	uint32_t *group = calloc(items + 1, sizeof *group), groups = 0;
	snprintf(label, sizeof label, "%s items=%u groups<=%u", name, items, most);
	struct conf_case *c = add(PF_KERNEL_pref, label);
	assert_non_null(group);
	for (uint32_t at = 0; at < items; at = group[groups]) {
		uint32_t size = most == 2 ? 2 : 1 + below(most);
		group[groups++] = at;
		group[groups] = at + size < items ? at + size : items;
	}
	c->value[PF_ARG_pref_words] = p->words;
	c->value[PF_ARG_pref_items] = items;
	c->value[PF_ARG_pref_groups] = groups;
	fit(c);
	memcpy(c->input[PF_ARG_pref_prog], p->word, p->words * sizeof *p->word);
	memcpy(c->input[PF_ARG_pref_group], group, (groups + 1) * sizeof *group);
	double *par = (double *)(void *)c->input[PF_ARG_pref_par];
	for (unsigned i = 0; i < PF_PAR_COUNT; i++)
		par[i] = uniform(0.1, 1);
	par[PF_PAR_DIVISOR] = items / 2 + 1;
	struct pf_item *item = (struct pf_item *)(void *)c->input[PF_ARG_pref_item];
	for (uint32_t i = 0; i < items; i++)
		item[i] = random_item(i);
	free(group);
	return c;
}

static void pref_cases(void)
{
	static const uint32_t counts[] = { 0, 1, 2, 3, 64, 501, PF_ITEMS_MAX };
	for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
		struct program dpo = { .words = PF_PROG_CODE }, both = { .words = PF_PROG_CODE };
		program_dpo(&dpo, 0);
		add_pref("dpo", &dpo, counts[i], 2);
		struct program all = { .words = PF_PROG_CODE };
		program_batch(&all, 0);
		struct conf_case *coupled = add_pref("over all items", &all, counts[i], 7);
		double *par = (double *)(void *)coupled->input[PF_ARG_pref_par];
		par[6] = 1;
		par[7] = 0;
		program_dpo(&both, 0);
		program_groups(&both, 1);
		struct conf_case *c = add_pref("two components", &both, counts[i], counts[i] > 600 ? 100 : 9);
		struct pf_item *item = (struct pf_item *)(void *)c->input[PF_ARG_pref_item];
		for (uint32_t k = 0; k < counts[i]; k += 17) {         /* statuses */
			item[k].status = k % 2 ? PF_ROW_MASKED : PF_ROW_IGNORED;
			item[k].n = k % 3 ? item[k].n : 0;
		}
	}
	for (int i = 0; i < 60; i++) {
		struct program p = { .words = PF_PROG_CODE };
		for (unsigned k = 0; k <= below(PF_COMPONENTS); k++)
			program_random(&p, k);
		add_pref("random program", &p, 1 + below(40), 1 + below(6))->bits_only = 1;
	}
}

/* ---- the fused head ---- */
struct head_shape { uint32_t rows, vocab, depth, mode, form; };

static int is_grad(enum pf_kernel kernel)
{
	return kernel == PF_KERNEL_linear_grad || kernel == PF_KERNEL_linear_grad_bf16;
}

static float *floats_of(struct conf_case *c, unsigned arg)
{
	return (float *)(void *)c->input[arg];
}

static uint32_t bits_of(float value)
{
	uint32_t bits;
	memcpy(&bits, &value, sizeof bits);
	return bits;
}

static struct conf_case *add_head(enum pf_kernel kernel, const struct head_shape *s)
{
	static const struct { const char *name; float value[4]; } form[] = {   /* plain, bent, saturated, with extras */
		{ "scale", { 1, 0.75f, 2, 1.25f } }, { "softcap", { 0, 6, 1.5f, 0 } },
		{ "temperature", { 1, 0.8f, 1, 1.5f } },
	};
	char name[64];
	snprintf(name, sizeof name, "T=%u V=%u D=%u mode=%u form %u", s->rows, s->vocab, s->depth, s->mode, s->form);
	struct conf_case *c = add(kernel, name);
	*scalar(c, "rows") = s->rows;
	*scalar(c, "vocab") = s->vocab;
	*scalar(c, "depth") = (s->depth + pf_kernel_rows[kernel].lanes - 1) / pf_kernel_rows[kernel].lanes;
	*scalar(c, "mode") = s->mode;
	for (size_t i = 0; i < sizeof form / sizeof *form; i++)
		*scalar(c, form[i].name) = bits_of(form[i].value[s->form]);
	if (is_grad(kernel)) {
		*scalar(c, "zloss") = bits_of(s->form == 3 ? 0.01f : 0);
		*scalar(c, "entropy") = bits_of(s->form == 3 ? 0.05f : 0);
	}
	fit(c);
	return c;
}

/* A row of the kernel's lane type from numbers */
static void put_row(const struct conf_case *c, unsigned char *to, const float *x, uint32_t depth)
{
	const unsigned lanes = pf_kernel_rows[c->kernel].lanes;
	if (lanes == 64)
		ref_mx_pack(x, depth, (depth + 63) / 64, to);
	for (uint32_t d = 0; lanes == 32 && d < depth; d++)
		((uint16_t *)(void *)to)[d] = ref_to_bf16((double)x[d]);
	if (lanes == 16)
		memcpy(to, x, depth * sizeof *x);
}

/* [rows, depth] in rows of whole beats; each `odd`-th row from 3 on, if not 0, begins with what is no number */
static void fill_matrix(struct conf_case *c, unsigned arg, uint64_t rows, uint32_t depth, double sigma, uint32_t odd)
{
	float *x = calloc(depth + 1, sizeof *x);
	assert_non_null(x);
	for (uint64_t r = 0; r < rows; r++) {
		for (uint32_t d = 0; d < depth; d++)
			x[d] = (float)normal(sigma);
		if (odd && r >= 3 && (r - 3) % odd == 0)
			x[0] = r % 2 ? NAN : INFINITY;
		put_row(c, c->input[arg] + r * (c->bytes[arg] / rows), x, depth);
	}
	free(x);
}

/* All kernels of the head begin with the same arguments; form 2 has rows without numbers and forbidden words */
static void fill_head(struct conf_case *c, const struct head_shape *s)
{
	float *bias = floats_of(c, PF_ARG_linear_grad_bias);
	fill_matrix(c, PF_ARG_linear_grad_hidden, s->rows, s->depth, 1, s->form == 2 ? 17 : 0);
	for (unsigned p = 0; p < PF_WEIGHT_PORTS; p++)
		fill_matrix(c, PF_ARG_linear_grad_weight + p, PF_PORT_ROWS(s->vocab, p), s->depth, 3 / sqrt(s->depth),
		            0);
	for (uint32_t v = 0; s->mode & PF_LINEAR_BIAS && v < s->vocab; v++)
		bias[v] = s->form == 2 && v % 5 == 2 ? -INFINITY : (float)normal(1);
	fill_targets((int32_t *)(void *)c->input[PF_ARG_linear_grad_target], s->rows, s->vocab);
}

/* Sums that are added to */
static void fill_sums(float *to, uint64_t count)
{
	for (uint64_t i = 0; i < count; i++)
		to[i] = (float)normal(1);
}

/* The record that the way back reads, from the reference, so that every device gets the same bits */
static void fill_head_records(struct conf_case *c, const struct head_shape *s)
{
	struct conf_head h;
	struct pf_row *row = (struct pf_row *)(void *)c->input[PF_ARG_linear_grad_row];
	double *z = calloc(s->vocab, sizeof *z);
	assert_non_null(z);
	conf_head_make(c, &h);
	for (uint32_t t = 0; t < s->rows; t++) {
		struct ref_row want;
		ref_linear_logits(&h.ref, t, z);
		ref_logprob(z, s->vocab, h.ref.target[t], &want);
		row[t] = row_record(z, s->vocab, h.ref.target[t]);
		row[t].entropy = row[t].status ? 0 : (float)want.entropy;
	}
	conf_head_free(&h);
	free(z);
}

static void forward_case(enum pf_kernel kernel, const struct head_shape *s)
{
	fill_head(add_head(kernel, s), s);
}

static void backward_case(enum pf_kernel kernel, const struct head_shape *s)
{
	struct conf_case *c = add_head(kernel, s);
	fill_head(c, s);
	for (uint32_t t = 0; t < s->rows; t++)
		floats_of(c, PF_ARG_linear_grad_coef)[t] = t % 7 == 5 ? 0 : (float)normal(0.3);
	fill_head_records(c, s);
	for (unsigned p = 0; s->mode & PF_LINEAR_DWEIGHT && p < PF_WEIGHT_PORTS; p++)
		fill_sums(floats_of(c, PF_ARG_linear_grad_dweight + p), c->bytes[PF_ARG_linear_grad_dweight + p] / 4);
	if (s->mode & PF_LINEAR_BIAS)
		fill_sums(floats_of(c, PF_ARG_linear_grad_dbias), s->vocab);
}

static void head_case(const struct head_shape *s)
{
	struct head_shape forward = *s;
	forward.mode &= PF_LINEAR_STATS | PF_LINEAR_BIAS;      /* raw logits: each backend's own; see tests/cpu_linear.c */
	forward_case(PF_KERNEL_linear_logprob, &forward);
	forward_case(PF_KERNEL_linear_logprob_bf16, &forward);
	forward_case(PF_KERNEL_linear_logprob_mxint8, &forward);
	backward_case(PF_KERNEL_linear_grad, s);
	backward_case(PF_KERNEL_linear_grad_bf16, s);
}

/* States of a range, and the filter: their meaning is tests/shards.c's business, here only that bits agree */
static void head_bits(const struct head_shape *s)
{
	struct head_shape part = *s;
	part.mode = (s->mode & (PF_LINEAR_STATS | PF_LINEAR_BIAS)) | PF_LINEAR_SHARD;
	struct conf_case *c = add_head(PF_KERNEL_linear_logprob, &part);
	fill_head(c, &part);
	c->bits_only = 1;
	part.mode = (s->mode & ~(uint32_t)PF_LINEAR_RAW) | PF_LINEAR_FILTER;
	c = add_head(PF_KERNEL_linear_grad, &part);
	*scalar(c, "filter") = bits_of(0.02f);
	fill_head(c, &part);
	for (uint32_t t = 0; t < s->rows; t++)
		floats_of(c, PF_ARG_linear_grad_coef)[t] = (float)normal(0.3);
	fill_head_records(c, &part);
	for (unsigned p = 0; s->mode & PF_LINEAR_DWEIGHT && p < PF_WEIGHT_PORTS; p++)
		fill_sums(floats_of(c, PF_ARG_linear_grad_dweight + p), c->bytes[PF_ARG_linear_grad_dweight + p] / 4);
	for (uint32_t v = 0; s->mode & PF_LINEAR_BIAS && v < s->vocab; v++)
		floats_of(c, PF_ARG_linear_grad_dbias)[v] = (float)normal(1);
	c->bits_only = 1;
}

static void head_cases(void)
{
	enum { B = PF_LINEAR_BIAS, W = PF_LINEAR_DWEIGHT, A = PF_LINEAR_ADD, S = PF_LINEAR_STATS };
	static const struct head_shape shapes[] = {
		/* a tile has 64 words, 16 of each port; a tile of backend cpu 512, a block 512 */
		{ 0, 1, 1, 0, 0 },
		{ 1, 1, 1, W, 0 },
		{ 3, 2, 5, W | A, 0 },
		{ 2, 17, 16, B | W, 1 },
		{ 5, 63, 17, B | W | A | S, 3 },
		{ 64, 64, 64, W, 0 },
		{ 65, 65, 63, B | W | S, 2 },
		{ 66, 130, 80, B | W | A | S, 3 },
		{ 40, 257, 33, 0, 1 },
		{ 30, 1000, 96, B | W | S, 1 },
		{ 520, 90, 24, B | W | A | S, 2 },
		{ 4, 4500, 48, W | S, 0 },
		{ 9, 2100, 20, B | S, 3 },
		{ 70, 40, 1060, W, 0 },
	};
	for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
		head_case(&shapes[i]);
	head_bits(&(struct head_shape){ 70, 300, 40, B | W | A | S, 1 });
	head_bits(&(struct head_shape){ 5, 90, 17, 0, 2 });
}

/* ---- the head's optimizer ---- */
static const struct { const char *name; float value; } adamw_factors[] = {
	{ "beta1", 0.9f },  { "beta2", 0.99f }, { "rest1", 0.1f },     { "rest2", 0.01f }, { "grad", 0.5f },
	{ "rate", 0.003f }, { "root", 2.5f },   { "epsilon", 1e-8f }, { "keep", 0.999f },
};

static void adamw_case(uint32_t vocab, uint32_t depth)
{
	char name[64];
	snprintf(name, sizeof name, "V=%u beats=%u", vocab, depth);
	for (unsigned k = 0; k < 2; k++) {
		struct conf_case *c = add(k ? PF_KERNEL_head_adamw : PF_KERNEL_head_norm, name);
		*scalar(c, "vocab") = vocab;
		*scalar(c, "depth") = depth;
		for (size_t i = 0; k && i < sizeof adamw_factors / sizeof *adamw_factors; i++)
			*scalar(c, adamw_factors[i].name) = bits_of(adamw_factors[i].value);
		fit(c);
		for (unsigned a = 0; a < pf_kernel_rows[c->kernel].count; a++)
			for (uint64_t i = 0; c->input[a] && i < c->bytes[a] / sizeof(float); i++)
				floats_of(c, a)[i] = (float)(normal(1) * exp(normal(8)));
		for (unsigned p = 0; k && p < PF_WEIGHT_PORTS; p++)
			for (uint64_t i = 0; i < c->bytes[PF_ARG_head_adamw_moment20 + p] / sizeof(float); i++)
				floats_of(c, PF_ARG_head_adamw_moment20 + p)[i] =
					fabsf(floats_of(c, PF_ARG_head_adamw_moment20 + p)[i]);
	}
}

struct conf_case *conf_cases(uint64_t first_seed, unsigned *count)
{
	static const struct { uint32_t rows, seqs; } chunks[] = {
		{ 0, 0 }, { 0, 3 }, { 1, 1 }, { 5, 0 }, { 17, 40 }, { 1000, 7 }, { 4096, 300 },
	};
	seed = first_seed;
	logits_cases();
	for (size_t i = 0; i < sizeof chunks / sizeof *chunks; i++) {
		seq_sum(chunks[i].rows, chunks[i].seqs, 0);
		seq_sum(chunks[i].rows, chunks[i].seqs, 1);
		coef(chunks[i].rows, chunks[i].seqs, 1);
		coef(chunks[i].rows, chunks[i].seqs, 0.3f);
	}
	pref_cases();
	head_cases();
	adamw_case(1, 1);
	adamw_case(67, 2);
	adamw_case(300, 17);
	*count = listed;
	return list;
}
