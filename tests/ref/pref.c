/* The stack machine of abi.h, one straightforward case per operation, all items at once */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "tests/ref/ref.h"

struct machine {
	const double         *par;
	unsigned              component;
	const struct pf_item *item;
	uint32_t              items, groups, depth;
	const uint32_t       *group;
	long double          *stack[PF_STACK_MAX + 2], *reg[PF_REGISTERS];  /* + 2: move() may point past the top */
	struct ref_gaps      *gaps;
	uint32_t              at;                          /* word that runs */
};

static void must(int condition)
{
	if (!condition)
		abort();
}

static long double *lanes(uint32_t items)
{
	long double *lane = calloc(items ? items : 1, sizeof *lane);
	must(lane != NULL);
	return lane;
}

static void machine_init(struct machine *m)
{
	for (unsigned i = 0; i < PF_STACK_MAX + 2; i++)
		m->stack[i] = lanes(m->items);
	for (unsigned i = 0; i < PF_REGISTERS; i++)
		m->reg[i] = lanes(m->items);
}

static void machine_fini(struct machine *m)
{
	for (unsigned i = 0; i < PF_STACK_MAX + 2; i++)
		free(m->stack[i]);
	for (unsigned i = 0; i < PF_REGISTERS; i++)
		free(m->reg[i]);
}

static long double nats(__int128 q32)
{
	return ldexpl((long double)q32, -32);
}

/* ---- where a program branches ---- */
static void gap(struct ref_gaps *g, uint32_t at, long double difference)
{
	if (g->count == g->room) {
		g->room = g->room ? 2 * g->room : 1024;
		g->gap = realloc(g->gap, g->room * sizeof *g->gap);
		must(g->gap != NULL);
	}
	g->gap[g->count++] = (struct ref_gap){ at, difference };
}

static void gaps_of_pairs(struct machine *m, const long double *a, uint32_t from, uint32_t to)
{
	for (uint32_t i = from; m->gaps && i < to; i++)
		for (uint32_t k = from; k < i; k++)
			gap(m->gaps, m->at, a[i] - a[k]);
}

static void gaps_of_lanes(struct machine *m, uint32_t op, uint32_t base)
{
	const int compares = op == PF_OP_MIN || op == PF_OP_MAX || op == PF_OP_LT || op == PF_OP_LE || op == PF_OP_EQ;
	for (uint32_t i = 0; m->gaps && (compares || op == PF_OP_ABS) && i < m->items; i++)
		gap(m->gaps, m->at, compares ? m->stack[base][i] - m->stack[base + 1][i] : m->stack[base][i]);
}

/* ---- operations that leave something of the item ---- */
static long double leaf(const struct machine *m, uint32_t op, uint32_t operand, const struct pf_item *item)
{
	switch (op) {
	case PF_OP_CONST:  return m->par[PF_PAR_CONST + operand];
	case PF_OP_PAR:    return m->par[PF_PAR_COMPONENT + PF_PAR_STRIDE * m->component + 1 + operand];
	case PF_OP_SCALAR: return m->par[operand];
	case PF_OP_L:      return nats(item->policy);
	case PF_OP_R:      return nats(item->reference);
	case PF_OP_OLD:    return nats(item->old);
	case PF_OP_U:      return nats((__int128)item->policy - item->reference);
	case PF_OP_N:      return item->n;
	case PF_OP_SIGN:   return !!(item->kind & PF_ITEM_CHOSEN) - !!(item->kind & PF_ITEM_REJECTED);
	case PF_OP_IS:     return (item->kind & operand) != 0;
	case PF_OP_SCORE:  return item->score;
	case PF_OP_MARGIN: return item->margin;
	case PF_OP_WEIGHT: return item->weight;
	case PF_OP_ADV:    return item->advantage;
	default:           abort();
	}
}

static long double unary(uint32_t op, long double a)
{
	switch (op) {
	case PF_OP_NEG:      return -a;
	case PF_OP_ABS:      return fabsl(a);
	case PF_OP_EXP:      return expl(a);
	case PF_OP_LOG:      return logl(a);
	case PF_OP_LOG1P:    return log1pl(a);
	case PF_OP_EXPM1:    return expm1l(a);
	case PF_OP_SIGMOID:  return 1 / (1 + expl(-a));
	case PF_OP_SOFTPLUS: return a > 0 ? a + log1pl(expl(-a)) : log1pl(expl(a));
	case PF_OP_LOG1MEXP: return a > -0.6931L ? logl(-expm1l(a)) : log1pl(-expl(a));
	default:             abort();
	}
}

static long double binary(uint32_t op, long double a, long double b)
{
	switch (op) {
	case PF_OP_ADD: return a + b;
	case PF_OP_SUB: return a - b;
	case PF_OP_MUL: return a * b;
	case PF_OP_DIV: return a / b;
	case PF_OP_MIN: return isnan(a) || isnan(b) ? NAN : a < b ? a : b;
	case PF_OP_MAX: return isnan(a) || isnan(b) ? NAN : a > b ? a : b;
	case PF_OP_LT:  return a < b;
	case PF_OP_LE:  return a <= b;
	case PF_OP_EQ:  return a == b;
	default:        abort();
	}
}

/* ---- operations over the group a[n] ---- */
static long double group_sum(const long double *a, uint32_t n)
{
	long double sum = 0;
	for (uint32_t i = 0; i < n; i++)
		sum += a[i];
	return sum;
}

static long double group_max(const long double *a, uint32_t n)
{
	long double max = a[0];
	for (uint32_t i = 1; i < n; i++)
		max = binary(PF_OP_MAX, max, a[i]);
	return max;
}

static long double group_lse(const long double *a, uint32_t n)
{
	long double max = group_max(a, n), sum = 0;
	if (!isfinite(max))
		return max;
	for (uint32_t i = 0; i < n; i++)
		sum += expl(a[i] - max);
	return max + logl(sum);
}

static long double group_variance(const long double *a, uint32_t n)
{
	long double mean = group_sum(a, n) / n, sum = 0;
	for (uint32_t i = 0; i < n; i++)
		sum += (a[i] - mean) * (a[i] - mean);
	return n > 1 ? sum / (n - 1) : 0;
}

static long double group_rank(const long double *a, uint32_t n, uint32_t own)
{
	uint32_t rank = 0;
	for (uint32_t i = 0; i < n; i++)
		rank += a[i] > a[own] || (a[i] == a[own] && i < own);
	return rank;
}

static void reduce(uint32_t op, long double *a, uint32_t n, long double *result)
{
	const int nan = n && isnan(group_max(a, n));
	for (uint32_t i = 0; i < n; i++)
		switch (op) {
		case PF_OP_GSUM:   result[i] = i ? result[0] : group_sum(a, n); break;
		case PF_OP_GMEAN:  result[i] = i ? result[0] : group_sum(a, n) / n; break;
		case PF_OP_GMAX:   result[i] = i ? result[0] : group_max(a, n); break;
		case PF_OP_GLSE:   result[i] = i ? result[0] : group_lse(a, n); break;
		case PF_OP_GVAR:   result[i] = i ? result[0] : group_variance(a, n); break;
		case PF_OP_GRANK:  result[i] = nan ? NAN : group_rank(a, n, i); break;
		case PF_OP_GCOUNT: result[i] = n; break;
		default:           abort();
		}
}

/* ---- one word; `a` is the deepest slot that it takes, or the first that it leaves ---- */
static void move(struct machine *m, uint32_t op, uint32_t operand, uint32_t base)
{
	for (uint32_t i = 0; i < m->items; i++) {
		long double *slot[] = { &m->stack[base][i], &m->stack[base + 1][i], &m->stack[base + 2][i] };
		long double a = *slot[0];
		switch (op) {
		case PF_OP_DUP:   *slot[1] = a; break;
		case PF_OP_DROP:  break;
		case PF_OP_SWAP:  *slot[0] = *slot[1]; *slot[1] = a; break;
		case PF_OP_OVER:  *slot[2] = a; break;
		case PF_OP_STORE: m->reg[operand][i] = a; break;
		case PF_OP_LOAD:  *slot[0] = m->reg[operand][i]; break;
		default:          abort();
		}
	}
}

static void reduce_all(struct machine *m, uint32_t op, uint32_t base)
{
	long double *result = lanes(m->items);
	for (uint32_t g = 0; g < m->groups && (op == PF_OP_GMAX || op == PF_OP_GRANK); g++)
		gaps_of_pairs(m, m->stack[base], m->group[g], m->group[g + 1]);
	for (uint32_t g = 0; g < m->groups; g++)
		reduce(op, m->stack[base] + m->group[g], m->group[g + 1] - m->group[g], result + m->group[g]);
	memcpy(m->stack[base], result, m->items * sizeof *result);
	free(result);
}

/* Over all items; index, where there is one, lies above the operand */
static void over_all(struct machine *m, uint32_t op, uint32_t base)
{
	long double *a = m->stack[base], *index = m->stack[base + 1], *result = lanes(m->items);
	if (op == PF_OP_BRANK)
		gaps_of_pairs(m, a, 0, m->items);
	const long double sum = group_sum(a, m->items);
	const int nan = m->items && isnan(group_max(a, m->items));
	for (uint32_t i = 0; i < m->items; i++) {
		const int there = op >= PF_OP_BPUT && index[i] >= 0 && index[i] < m->items;
		if (op == PF_OP_BSUM)
			result[i] = sum;
		else if (op == PF_OP_BRANK)
			result[i] = nan ? NAN : group_rank(a, m->items, i);
		else if (op == PF_OP_BPUT && there)
			result[(uint32_t)index[i]] = a[i];
		else if (op == PF_OP_BGET && there)
			result[i] = a[(uint32_t)index[i]];
	}
	memcpy(a, result, m->items * sizeof *result);
	free(result);
}

static uint32_t largest_group(const uint32_t *group, uint32_t groups)
{
	uint32_t largest = 1;
	for (uint32_t g = 0; g < groups; g++)
		largest = group[g + 1] - group[g] > largest ? group[g + 1] - group[g] : largest;
	return largest;
}

static void lane_by_lane(struct machine *m, uint32_t op, uint32_t operand, uint32_t base, int takes)
{
	gaps_of_lanes(m, op, base);
	for (uint32_t i = 0; i < m->items; i++) {
		long double *a = &m->stack[base][i];
		if (takes == 0)
			*a = leaf(m, op, operand, &m->item[i]);
		else if (takes == 1)
			*a = unary(op, *a);
		else if (takes == 2)
			*a = binary(op, *a, m->stack[base + 1][i]);
		else
			*a = *a != 0 ? m->stack[base + 1][i] : m->stack[base + 2][i];
	}
}

static void step(struct machine *m, uint32_t op, uint32_t operand)
{
	static const struct { int takes, leaves; } shape[] = {
#define SHAPE(symbol, mnemonic, takes, leaves, imm, text) { takes, leaves },
		PF_OPS(SHAPE)
#undef SHAPE
	};
	must(op < PF_OP_COUNT && m->depth >= (uint32_t)shape[op].takes);
	uint32_t base = m->depth - (uint32_t)shape[op].takes;
	m->depth = base + (uint32_t)shape[op].leaves;
	must(m->depth <= PF_STACK_MAX);
	if (op >= PF_OP_DUP && op <= PF_OP_LOAD)
		move(m, op, operand, base);
	else if (op >= PF_OP_BSUM)
		over_all(m, op, base);
	else if (op >= PF_OP_GSUM)
		reduce_all(m, op, base);
	else
		lane_by_lane(m, op, operand, base, shape[op].takes);
}

void ref_pref_branches(const double *par, const uint32_t *prog, uint32_t start, unsigned component,
                       const struct pf_item *item, uint32_t items, const uint32_t *group, uint32_t groups,
                       long double *result, struct ref_gaps *gaps)
{
	struct machine m = { .par = par, .component = component, .item = item, .items = items,
	                     .group = group, .groups = groups, .gaps = gaps };
	machine_init(&m);
	for (uint32_t at = start, body = start, turns = 0; (prog[at] & 255) != PF_OP_END; at++)
		if ((prog[at] & 255) == PF_OP_LOOP) {
			body = at;
			turns = largest_group(group, groups);
		} else if ((prog[at] & 255) == PF_OP_NEXT) {
			must(turns > 0);
			at = --turns ? body : at;
		} else {
			m.at = at;
			step(&m, prog[at] & 255, prog[at] >> 8);
		}
	must(m.depth == 1);
	memcpy(result, m.stack[0], items * sizeof *result);
	machine_fini(&m);
}

void ref_pref_run(const double *par, const uint32_t *prog, uint32_t start, unsigned component,
                  const struct pf_item *item, uint32_t items, const uint32_t *group, uint32_t groups,
                  long double *result)
{
	ref_pref_branches(par, prog, start, component, item, items, group, groups, result, NULL);
}

/* ---- components, weights, statuses ---- */
static void add_component(const double *par, const uint32_t *prog, unsigned c, const struct pf_item *item,
                          uint32_t items, const uint32_t *group, uint32_t groups, struct ref_item_out *out)
{
	long double weight = par[PF_PAR_COMPONENT + PF_PAR_STRIDE * c];
	long double *value = lanes(items), *grad = lanes(items);
	const uint32_t *head = prog + PF_PROG_COMPONENT + 4 * c;
	ref_pref_run(par, prog, head[0], c, item, items, group, groups, value);
	ref_pref_run(par, prog, head[1], c, item, items, group, groups, grad);
	for (uint32_t g = 0; g < groups; g++)
		for (uint32_t i = group[g]; i < group[g + 1]; i++) {
			out[i].loss += weight * value[head[2] ? i : group[g]];
			out[i].grad += weight * grad[i] / par[PF_PAR_DIVISOR];
		}
	free(value);
	free(grad);
}

static void judge_group(const struct pf_item *item, struct ref_item_out *out, uint32_t n)
{
	uint32_t status = 0;
	for (uint32_t i = 0; i < n; i++) {
		status |= item[i].status & PF_ROW_BAD ? PF_ITEM_BAD_ROW : 0;
		status |= item[i].n == 0 ? PF_ITEM_NO_TOKENS : 0;
	}
	for (uint32_t i = 0; i < n && !status; i++)
		status |= isfinite((double)out[i].loss) && isfinite((double)out[i].grad) ? 0 : PF_ITEM_NOT_FINITE;
	for (uint32_t i = 0; i < n; i++) {
		out[i].status = status;
		out[i].loss = status ? NAN : out[i].loss;
		out[i].grad = status ? 0 : out[i].grad;
	}
}

void ref_pref(const double *par, const uint32_t *prog, const struct pf_item *item, uint32_t items,
              const uint32_t *group, uint32_t groups, struct ref_item_out *out)
{
	memset(out, 0, items * sizeof *out);
	for (unsigned c = 0; c < prog[0]; c++)
		add_component(par, prog, c, item, items, group, groups, out);
	for (uint32_t g = 0; g < groups; g++) {
		for (uint32_t i = group[g]; i < group[g + 1]; i++)
			out[i].group = g;
		judge_group(item + group[g], out + group[g], group[g + 1] - group[g]);
	}
}
