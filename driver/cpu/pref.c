/* Kernel pref on the host: the vector stack machine of abi.h in double with libm. A program is checked before it runs,
 * so that the loops below need no checks. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "cpu.h"

struct shape { uint8_t takes, leaves, immediate; };
static const struct shape shapes[PF_OP_COUNT] = {
#define PF_SHAPE(symbol, mnemonic, takes, leaves, imm, text) { takes, leaves, imm },
	PF_OPS(PF_SHAPE)
#undef PF_SHAPE
};

struct machine {
	const struct pf_cpu_pref *job;
	unsigned component;
	uint32_t largest;                                      /* items of the largest group: turns of a loop */
	double  *slot[PF_STACK_MAX], *reg[PF_REGISTERS], *spare, *memory;
};

/* ---- checks ---- */
static uint32_t operand_limit(uint32_t op)
{
	switch (op) {
	case PF_OP_CONST:  return PF_CONSTS;
	case PF_OP_PAR:    return PF_PARAMS;
	case PF_OP_SCALAR: return PF_PAR_SCALARS;
	case PF_OP_STORE:
	case PF_OP_LOAD:   return PF_REGISTERS;
	case PF_OP_IS:     return 8;                           /* every kind together */
	default:           return 1;
	}
}

static int check_code(const struct pf_cpu_pref *job, uint32_t at)
{
	uint32_t depth = 0, stored = 0, looped = 0, loop_depth = 0;
	for (; at >= PF_PROG_CODE && at < job->words; at++) {
		uint32_t op = job->prog[at] & 255, operand = job->prog[at] >> 8;
		if (op >= PF_OP_COUNT || operand >= operand_limit(op))
			return 0;
		if (op == PF_OP_END)
			return depth == 1 && !looped;
		if (op == PF_OP_LOOP ? looped : op == PF_OP_NEXT && (!looped || depth != loop_depth))
			return 0;
		looped = op == PF_OP_LOOP || (looped && op != PF_OP_NEXT);
		loop_depth = op == PF_OP_LOOP ? depth : loop_depth;
		if (depth < shapes[op].takes || depth - shapes[op].takes + shapes[op].leaves > PF_STACK_MAX)
			return 0;
		if (op == PF_OP_LOAD && !(stored >> operand & 1))
			return 0;
		stored |= op == PF_OP_STORE ? 1u << operand : 0;
		depth = depth - shapes[op].takes + shapes[op].leaves;
	}
	return 0;
}

static int check_groups(const struct pf_cpu_pref *job)
{
	for (uint32_t g = 0; g < job->groups; g++)
		if (job->group[g] > job->group[g + 1])
			return 0;
	return job->group[0] == 0 && job->group[job->groups] == job->items;
}

static int check(const struct pf_cpu_pref *job)
{
	if (job->words < PF_PROG_CODE || job->prog[0] == 0 || job->prog[0] > PF_COMPONENTS)
		return 0;
	for (unsigned c = 0; c < job->prog[0]; c++) {
		const uint32_t *head = job->prog + PF_PROG_COMPONENT + 4 * c;
		if (!check_code(job, head[0]) || !check_code(job, head[1]) || head[2] > 1)
			return 0;
	}
	return check_groups(job);
}

/* ---- lane by lane ---- */
static double par(const struct machine *m, uint32_t i)
{
	return m->job->par[PF_PAR_COMPONENT + PF_PAR_STRIDE * m->component + i];
}

static double leaf(const struct machine *m, uint32_t op, uint32_t operand, const struct pf_item *item)
{
	switch (op) {
	case PF_OP_CONST:  return m->job->par[PF_PAR_CONST + operand];
	case PF_OP_PAR:    return par(m, 1 + operand);
	case PF_OP_SCALAR: return m->job->par[operand];
	case PF_OP_L:      return (double)item->policy * 0x1p-32;
	case PF_OP_R:      return (double)item->reference * 0x1p-32;
	case PF_OP_OLD:    return (double)item->old * 0x1p-32;
	case PF_OP_U:      return (double)(int64_t)((uint64_t)item->policy - (uint64_t)item->reference) * 0x1p-32;
	case PF_OP_N:      return item->n;
	case PF_OP_SIGN:   return !!(item->kind & PF_ITEM_CHOSEN) - !!(item->kind & PF_ITEM_REJECTED);
	case PF_OP_IS:     return (item->kind & operand) != 0;
	case PF_OP_SCORE:  return (double)item->score;
	case PF_OP_MARGIN: return (double)item->margin;
	case PF_OP_WEIGHT: return (double)item->weight;
	default:           return (double)item->advantage;
	}
}

static double unary(uint32_t op, double a)
{
	switch (op) {
	case PF_OP_NEG:      return -a;
	case PF_OP_ABS:      return fabs(a);
	case PF_OP_EXP:      return exp(a);
	case PF_OP_LOG:      return log(a);
	case PF_OP_LOG1P:    return log1p(a);
	case PF_OP_EXPM1:    return expm1(a);
	case PF_OP_SIGMOID:  return a < 0 ? exp(a) / (1 + exp(a)) : 1 / (1 + exp(-a));
	case PF_OP_SOFTPLUS: return (a > 0 ? a : 0) + log1p(exp(-fabs(a)));
	default:             return a > -M_LN2 ? log(-expm1(a)) : log1p(-exp(a));
	}
}

static double binary(uint32_t op, double a, double b)
{
	switch (op) {
	case PF_OP_ADD: return a + b;
	case PF_OP_SUB: return a - b;
	case PF_OP_MUL: return a * b;
	case PF_OP_DIV: return a / b;
	case PF_OP_MIN: return a != a || a < b ? a : b;         /* NaN wins */
	case PF_OP_MAX: return a != a || a > b ? a : b;
	case PF_OP_LT:  return a < b;
	case PF_OP_LE:  return a <= b;
	default:        return a == b;
	}
}

/* ---- over a group a[n] ---- */
static double group_sum(const double *a, uint32_t n)
{
	double sum = 0;
	for (uint32_t i = 0; i < n; i++)
		sum += a[i];
	return sum;
}

static double group_max(const double *a, uint32_t n)
{
	double max = a[0];
	for (uint32_t i = 1; i < n; i++)
		max = binary(PF_OP_MAX, max, a[i]);
	return max;
}

static double group_lse(const double *a, uint32_t n)
{
	double max = group_max(a, n), sum = 0;
	if (!isfinite(max))
		return max;
	for (uint32_t i = 0; i < n; i++)
		sum += exp(a[i] - max);
	return max + log(sum);
}

static double group_variance(const double *a, uint32_t n)
{
	double mean = group_sum(a, n) / n, sum = 0;
	for (uint32_t i = 0; i < n; i++)
		sum += (a[i] - mean) * (a[i] - mean);
	return n > 1 ? sum / (n - 1) : 0;
}

static void group_rank(const double *a, uint32_t n, double *result)
{
	const int nan = n && isnan(group_max(a, n));
	for (uint32_t own = 0; own < n; own++) {
		uint32_t rank = 0;
		for (uint32_t i = 0; i < n; i++)
			rank += a[i] > a[own] || (a[i] == a[own] && i < own);
		result[own] = nan ? NAN : rank;
	}
}

static double reduced(uint32_t op, const double *a, uint32_t n)
{
	switch (op) {
	case PF_OP_GSUM:  return group_sum(a, n);
	case PF_OP_GMEAN: return group_sum(a, n) / n;
	case PF_OP_GMAX:  return group_max(a, n);
	case PF_OP_GLSE:  return group_lse(a, n);
	case PF_OP_GVAR:  return group_variance(a, n);
	default:          return n;                            /* PF_OP_GCOUNT */
	}
}

static void reduce(struct machine *m, uint32_t op, double *a)
{
	const struct pf_cpu_pref *job = m->job;
	for (uint32_t g = 0; g < job->groups; g++) {
		uint32_t first = job->group[g], n = job->group[g + 1] - first;
		if (op == PF_OP_GRANK) {
			group_rank(a + first, n, m->spare + first);
			continue;
		}
		double value = n ? reduced(op, a + first, n) : 0;
		for (uint32_t i = 0; i < n; i++)
			m->spare[first + i] = value;
	}
	memcpy(a, m->spare, job->items * sizeof *a);
}

/* ---- over all items ---- */
static double *indexed(const struct machine *m, double *a, double index)
{
	return index >= 0 && index < m->job->items ? a + (uint32_t)index : NULL;
}

static void batch(struct machine *m, uint32_t op, uint32_t base)
{
	double *a = m->slot[base], *index = m->slot[base + (op == PF_OP_BPUT || op == PF_OP_BGET)], *found;
	const uint32_t n = m->job->items;
	const double sum = op == PF_OP_BSUM ? group_sum(a, n) : 0;
	if (op == PF_OP_BRANK)
		group_rank(a, n, m->spare);
	else
		for (uint32_t i = 0; i < n; i++)
			m->spare[i] = sum;
	for (uint32_t i = 0; i < n && op == PF_OP_BPUT; i++)
		if ((found = indexed(m, m->spare, index[i])))
			*found = a[i];
	for (uint32_t i = 0; i < n && op == PF_OP_BGET; i++)
		if ((found = indexed(m, a, index[i])))
			m->spare[i] = *found;
	memcpy(a, m->spare, n * sizeof *a);
}

/* ---- one word; base: the deepest slot that it takes or leaves ---- */
static void copy_lanes(const struct machine *m, double *to, const double *from)
{
	memcpy(to, from, m->job->items * sizeof *to);
}

static void move(struct machine *m, uint32_t op, uint32_t operand, uint32_t base)
{
	double *kept = m->slot[base];
	switch (op) {
	case PF_OP_DUP:   copy_lanes(m, m->slot[base + 1], kept); break;
	case PF_OP_OVER:  copy_lanes(m, m->slot[base + 2], kept); break;
	case PF_OP_STORE: copy_lanes(m, m->reg[operand], kept); break;
	case PF_OP_LOAD:  copy_lanes(m, kept, m->reg[operand]); break;
	case PF_OP_SWAP:
		m->slot[base] = m->slot[base + 1];
		m->slot[base + 1] = kept;
		break;
	}
}

static void lanes(struct machine *m, uint32_t op, uint32_t operand, uint32_t base)
{
	double *const *s = m->slot + base;
	for (uint32_t i = 0; i < m->job->items; i++)
		switch (shapes[op].takes) {
		case 0:  s[0][i] = leaf(m, op, operand, &m->job->item[i]); break;
		case 1:  s[0][i] = unary(op, s[0][i]); break;
		case 2:  s[0][i] = binary(op, s[0][i], s[1][i]); break;
		default: s[0][i] = s[0][i] != 0 ? s[1][i] : s[2][i]; break;
		}
}

/* Runs the program at word `at`; its result is slot 0 */
static double *run(struct machine *m, uint32_t at)
{
	uint32_t body = at, turns = 0;
	for (uint32_t depth = 0;; at++) {
		uint32_t op = m->job->prog[at] & 255, operand = m->job->prog[at] >> 8;
		if (op == PF_OP_END)
			return m->slot[0];
		uint32_t base = depth - shapes[op].takes;
		if (op >= PF_OP_DUP && op <= PF_OP_LOAD)
			move(m, op, operand, base);
		else if (op >= PF_OP_GSUM && op <= PF_OP_GCOUNT)
			reduce(m, op, m->slot[base]);
		else if (op >= PF_OP_BSUM && op <= PF_OP_BGET)
			batch(m, op, base);
		else if (op == PF_OP_LOOP) {
			body = at;
			turns = m->largest;
		} else if (op == PF_OP_NEXT)
			at = --turns ? body : at;
		else
			lanes(m, op, operand, base);
		depth = base + shapes[op].leaves;
	}
}

/* ---- components, weights, statuses ---- */
static int machine_init(struct machine *m, const struct pf_cpu_pref *job)
{
	const size_t lanes_each = job->items ? job->items : 1;
	memset(m, 0, sizeof *m);
	m->job = job;
	m->largest = 1;
	for (uint32_t g = 0; g < job->groups; g++)
		if (job->group[g + 1] - job->group[g] > m->largest)
			m->largest = job->group[g + 1] - job->group[g];
	m->memory = calloc(lanes_each * (PF_STACK_MAX + PF_REGISTERS + 1), sizeof *m->memory);
	if (!m->memory)
		return -ENOMEM;
	for (uint32_t i = 0; i < PF_STACK_MAX; i++)
		m->slot[i] = m->memory + i * lanes_each;
	for (uint32_t i = 0; i < PF_REGISTERS; i++)
		m->reg[i] = m->memory + (PF_STACK_MAX + i) * lanes_each;
	m->spare = m->memory + (PF_STACK_MAX + PF_REGISTERS) * lanes_each;
	return 0;
}

/* A loss per group is that of the group's first item */
static void share_first(const struct pf_cpu_pref *job, double *value)
{
	for (uint32_t g = 0; g < job->groups; g++)
		for (uint32_t i = job->group[g]; i < job->group[g + 1]; i++)
			value[i] = value[job->group[g]];
}

static void add_component(struct machine *m)
{
	const struct pf_cpu_pref *job = m->job;
	const uint32_t *head = job->prog + PF_PROG_COMPONENT + 4 * m->component;
	double *result = run(m, head[0]);
	if (!head[2])
		share_first(job, result);
	for (uint32_t i = 0; i < job->items; i++)
		job->out[i].loss += par(m, 0) * result[i];
	result = run(m, head[1]);
	for (uint32_t i = 0; i < job->items; i++)
		job->out[i].grad += par(m, 0) * result[i];
}

static uint32_t group_status(const struct pf_cpu_pref *job, uint32_t first, uint32_t end)
{
	uint32_t status = 0;
	for (uint32_t i = first; i < end; i++) {
		status |= job->item[i].status & PF_ROW_BAD ? PF_ITEM_BAD_ROW : 0;
		status |= job->item[i].n == 0 ? PF_ITEM_NO_TOKENS : 0;
	}
	for (uint32_t i = first; i < end && !status; i++)
		if (!isfinite(job->out[i].loss) || !isfinite(job->out[i].grad))
			return PF_ITEM_NOT_FINITE;
	return status;
}

static void judge(const struct pf_cpu_pref *job)
{
	for (uint32_t i = 0; i < job->items; i++)
		job->out[i].grad /= job->par[PF_PAR_DIVISOR];
	for (uint32_t g = 0; g < job->groups; g++) {
		uint32_t status = group_status(job, job->group[g], job->group[g + 1]);
		for (uint32_t i = job->group[g]; i < job->group[g + 1]; i++) {
			struct pf_item_out *out = &job->out[i];
			out->group = g;
			out->status = status;
			out->loss = status ? NAN : out->loss;
			out->grad = status ? 0 : out->grad;
		}
	}
}

static void refuse(const struct pf_cpu_pref *job)
{
	for (uint32_t i = 0; i < job->items; i++) {
		job->out[i].loss = NAN;
		job->out[i].status = PF_ITEM_BAD_PROGRAM;
	}
}

int pf_cpu_pref(const struct pf_cpu_pref *job)
{
	struct machine m;
	memset(job->out, 0, job->items * sizeof *job->out);
	if (!check(job)) {
		refuse(job);
		return 0;
	}
	if (machine_init(&m, job))
		return -ENOMEM;
	for (m.component = 0; m.component < job->prog[0]; m.component++)
		add_component(&m);
	judge(job);
	free(m.memory);
	return 0;
}
