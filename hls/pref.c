/* pref: preference losses as programs, run on a stack whose slots are vectors over the items (abi.h, PF_OPS).
 *
 * Tables are loaded, checked, then trusted: a program with an unknown opcode, a stack that runs over or under, a register
 * read before it is written, an operand out of range or no end, or a group table that is not a partition, gives every
 * item PF_ITEM_BAD_PROGRAM and computes nothing. Arithmetic is double, in the order of the items; what comes out at or
 * below 2^-1022 is 0, so flushing does not matter. Group reductions with NaN give NaN.
 * Lane loops have no recurrence; II = 8 lets the operators of all opcodes share hardware, and O(items) work is little.
 * Reductions carry one double addition: II = 8 is its latency; their order is part of the numerics. */
#include "prefpga/internal/abi.h"
#include "prefpga/internal/kernels.h"
#include "prefpga/internal/kmath.h"
#include "prefpga/internal/kmath64.h"
PF_KERNELS(PF_PROTOTYPE)

/* What checking needs of PF_OPS */
struct pf_op_shape { uint8_t takes, leaves; };
static const struct pf_op_shape pf_op_shapes[PF_OP_COUNT] = {
#define PF_OP_SHAPE(symbol, mnemonic, takes, leaves, imm, text) { takes, leaves },
	PF_OPS(PF_OP_SHAPE)
#undef PF_OP_SHAPE
};

struct pf_program {
	double par[PF_PAR_COUNT];
	uint32_t word[PF_PROG_MAX], words;
};
struct pf_items {
	struct pf_item item[PF_ITEMS_MAX];
	uint32_t start[PF_ITEMS_MAX + 1], items, groups;
};
typedef double pf_slot[PF_ITEMS_MAX];

/* ---- checking ---- */

static inline uint32_t pf_operand_limit(uint32_t op)
{
	switch (op) {
	case PF_OP_CONST: return PF_CONSTS;
	case PF_OP_PAR: return PF_PARAMS;
	case PF_OP_SCALAR: return PF_PAR_SCALARS;
	case PF_OP_STORE:
	case PF_OP_LOAD: return PF_REGISTERS;
	case PF_OP_IS: return 8;
	default: return 1;
	}
}

/* One word: 1 if it can run with this stack and these registers, which it updates */
static inline int pf_word_check(uint32_t word, uint32_t *depth, uint32_t *stored)
{
	uint32_t op = word & 255u, operand = word >> 8;
	if (op >= PF_OP_COUNT || operand >= pf_operand_limit(op))
		return 0;
	if (op == PF_OP_LOAD && !(*stored >> operand & 1u))
		return 0;
	if (op == PF_OP_STORE)
		*stored |= 1u << operand;
	struct pf_op_shape shape = pf_op_shapes[op];
	if (*depth < shape.takes || *depth - shape.takes + shape.leaves > PF_STACK_MAX)
		return 0;
	*depth += (uint32_t)shape.leaves - shape.takes;
	return 1;
}

static int pf_code_check(const struct pf_program *p, uint32_t start)
{
	uint32_t depth = 0, stored = 0;
	if (start < PF_PROG_CODE)
		return 0;
words:
	for (uint32_t i = start; i < p->words; i++) {
#pragma HLS LOOP_TRIPCOUNT min=1 max=1024
		if (!pf_word_check(p->word[i], &depth, &stored))
			return 0;
		if (p->word[i] == PF_WORD(PF_OP_END, 0))
			return depth == 1;
	}
	return 0;
}

static int pf_program_check(const struct pf_program *p)
{
	if (p->words < PF_PROG_CODE || p->word[0] == 0 || p->word[0] > PF_COMPONENTS)
		return 0;
components:
	for (uint32_t c = 0; c < p->word[0]; c++) {
#pragma HLS LOOP_TRIPCOUNT min=1 max=4
		const uint32_t *at = &p->word[PF_PROG_COMPONENT + 4 * c];
		if (!pf_code_check(p, at[0]) || !pf_code_check(p, at[1]) || at[2] > 1)
			return 0;
	}
	return 1;
}

static int pf_groups_check(const struct pf_items *t)
{
	int good = t->start[0] == 0 && t->start[t->groups] == t->items;
groups:
	for (uint32_t g = 0; g < t->groups; g++) {
#pragma HLS LOOP_TRIPCOUNT min=1 max=8192
		good &= t->start[g] <= t->start[g + 1];
	}
	return good;
}

/* ---- one lane ---- */

static inline double pf_from_q32(int64_t q) { return (double)q * 0x1p-32; }
static inline double pf_widen(float x) { return (double)pf_same(x); }

static inline double pf_difference(int64_t a, int64_t b)
{
	return pf_from_q32((int64_t)((uint64_t)a - (uint64_t)b));
}

static inline double pf_sign(uint32_t kind)
{
	return (kind & PF_ITEM_CHOSEN ? 1.0 : 0.0) - (kind & PF_ITEM_REJECTED ? 1.0 : 0.0);
}

/* Words that push something of the item */
static inline double pf_lane_item(uint32_t op, uint32_t operand, const struct pf_item *it)
{
	switch (op) {
	case PF_OP_L: return pf_from_q32(it->policy);
	case PF_OP_R: return pf_from_q32(it->reference);
	case PF_OP_OLD: return pf_from_q32(it->old);
	case PF_OP_U: return pf_difference(it->policy, it->reference);
	case PF_OP_N: return (double)it->n;
	case PF_OP_SIGN: return pf_sign(it->kind);
	case PF_OP_IS: return it->kind & operand ? 1.0 : 0.0;
	case PF_OP_SCORE: return pf_widen(it->score);
	case PF_OP_MARGIN: return pf_widen(it->margin);
	case PF_OP_WEIGHT: return pf_widen(it->weight);
	default: return pf_widen(it->advantage);
	}
}

static inline double pf_nan_or(double a, double b, double value) { return a != a ? a : b != b ? b : value; }

static inline double pf_lane_binary(uint32_t op, double a, double b)
{
	switch (op) {
	case PF_OP_ADD: return pf_flush64(a + b);
	case PF_OP_SUB: return pf_flush64(a - b);
	case PF_OP_MUL: return pf_flush64(a * b);
	case PF_OP_DIV: return pf_flush64(a / b);
	case PF_OP_MIN: return pf_nan_or(a, b, a < b ? a : b);
	case PF_OP_MAX: return pf_nan_or(a, b, a > b ? a : b);
	case PF_OP_LT: return a < b ? 1.0 : 0.0;
	case PF_OP_LE: return a <= b ? 1.0 : 0.0;
	default: return a == b ? 1.0 : 0.0;
	}
}

static inline double pf_lane_unary(uint32_t op, double a)
{
	switch (op) {
	case PF_OP_NEG: return -a;
	case PF_OP_ABS: return pf_float64(pf_bits64(a) & PF_F64_ABS);
	case PF_OP_EXP: return pf_exp64(a);
	case PF_OP_LOG: return pf_log64(a);
	case PF_OP_LOG1P: return pf_log1p64(a);
	case PF_OP_EXPM1: return pf_expm1_64(a);
	case PF_OP_SIGMOID: return pf_sigmoid64(a);
	case PF_OP_SOFTPLUS: return pf_softplus64(a);
	default: return pf_log1mexp64(a);
	}
}

/* ---- groups: items [begin, end) of vector a; the result goes to every member ---- */

static double pf_group_sum(const pf_slot a, uint32_t begin, uint32_t end)
{
	double sum = 0.0;
sum:
	for (uint32_t i = begin; i < end; i++) {
#pragma HLS PIPELINE II=8
#pragma HLS LOOP_TRIPCOUNT min=1 max=8192
		sum = pf_flush64(sum + a[i]);
	}
	return sum;
}

static double pf_group_max(const pf_slot a, uint32_t begin, uint32_t end)
{
	double max = a[begin];
max:
	for (uint32_t i = begin; i < end; i++) {
#pragma HLS PIPELINE II=8
#pragma HLS LOOP_TRIPCOUNT min=1 max=8192
		max = pf_lane_binary(PF_OP_MAX, max, a[i]);
	}
	return max;
}

static double pf_group_lse(const pf_slot a, uint32_t begin, uint32_t end)
{
	const double max = pf_group_max(a, begin, end);
	double sum = 0.0;
	if (!(max - max == 0.0))
		return max;
sum:
	for (uint32_t i = begin; i < end; i++) {
#pragma HLS PIPELINE II=8
#pragma HLS LOOP_TRIPCOUNT min=1 max=8192
		sum += pf_exp64(a[i] - max);
	}
	return pf_flush64(max + pf_log64(sum));
}

static double pf_group_variance(const pf_slot a, uint32_t begin, uint32_t end)
{
	const double n = (double)(end - begin), mean = pf_flush64(pf_group_sum(a, begin, end) / n);
	double sum = 0.0;
squares:
	for (uint32_t i = begin; i < end; i++) {
#pragma HLS PIPELINE II=8
#pragma HLS LOOP_TRIPCOUNT min=1 max=8192
		double d = pf_flush64(a[i] - mean);
		sum = pf_flush64(sum + pf_flush64(d * d));
	}
	return end - begin < 2 ? sum : pf_flush64(sum / (n - 1.0));
}

static double pf_group_value(uint32_t op, const pf_slot a, uint32_t begin, uint32_t end)
{
	switch (op) {
	case PF_OP_GSUM: return pf_group_sum(a, begin, end);
	case PF_OP_GMEAN: return pf_flush64(pf_group_sum(a, begin, end) / (double)(end - begin));
	case PF_OP_GMAX: return pf_group_max(a, begin, end);
	case PF_OP_GLSE: return pf_group_lse(a, begin, end);
	case PF_OP_GVAR: return pf_group_variance(a, begin, end);
	default: return (double)(end - begin);
	}
}

static double pf_group_rank(const pf_slot a, uint32_t i, uint32_t begin, uint32_t end)
{
	uint32_t rank = 0;
	int nan = 0;
others:
	for (uint32_t j = begin; j < end; j++) {
#pragma HLS PIPELINE II=1
#pragma HLS LOOP_TRIPCOUNT min=1 max=8192
		rank += a[j] > a[i] || (a[j] == a[i] && j < i);
		nan |= a[j] != a[j];
	}
	return nan ? pf_float64(PF_F64_NAN) : (double)rank;
}

/* ---- the machine ---- */

struct pf_machine {
	pf_slot stack[PF_STACK_MAX], reg[PF_REGISTERS], scratch;
	uint32_t depth;
};

static void pf_group_op(uint32_t op, const struct pf_items *t, pf_slot a, pf_slot scratch)
{
groups:
	for (uint32_t g = 0; g < t->groups; g++) {
#pragma HLS LOOP_TRIPCOUNT min=1 max=8192
		const uint32_t begin = t->start[g], end = t->start[g + 1];
		const double value = begin < end && op != PF_OP_GRANK ? pf_group_value(op, a, begin, end) : 0.0;
members:
		for (uint32_t i = begin; i < end; i++) {
#pragma HLS LOOP_TRIPCOUNT min=1 max=8192
			scratch[i] = op == PF_OP_GRANK ? pf_group_rank(a, i, begin, end) : value;
		}
	}
copy:
	for (uint32_t i = 0; i < t->items; i++) {
#pragma HLS PIPELINE II=1
#pragma HLS LOOP_TRIPCOUNT min=1 max=8192
		a[i] = scratch[i];
	}
}

/* What an operation leaves on top, from the three topmost slots (x is the top) */
static inline double pf_lane(uint32_t op, uint32_t operand, const struct pf_item *it, double x, double y, double z)
{
	if (op >= PF_OP_L && op <= PF_OP_ADV)
		return pf_lane_item(op, operand, it);
	if (op >= PF_OP_ADD && op <= PF_OP_EQ)
		return pf_lane_binary(op, y, x);
	if (op >= PF_OP_NEG && op <= PF_OP_LOG1MEXP)
		return pf_lane_unary(op, x);
	if (op == PF_OP_SELECT)
		return z != 0.0 ? y : x;
	return op == PF_OP_DUP ? x : y;                        /* swap, over */
}

static void pf_lane_op(struct pf_machine *m, uint32_t op, uint32_t operand, double scalar, const struct pf_items *t)
{
	const struct pf_op_shape shape = pf_op_shapes[op];
	const uint32_t top = m->depth - 1, to = m->depth - shape.takes + shape.leaves - 1;
lanes:
	for (uint32_t i = 0; i < t->items; i++) {
#pragma HLS PIPELINE II=8
#pragma HLS LOOP_TRIPCOUNT min=1 max=8192
		double x = shape.takes > 0 ? m->stack[top][i] : 0.0;
		double y = shape.takes > 1 ? m->stack[top - 1][i] : 0.0;
		double z = shape.takes > 2 ? m->stack[top - 2][i] : 0.0;
		double v = pf_lane(op, operand, &t->item[i], x, y, z);
		v = op == PF_OP_LOAD ? m->reg[operand][i] : v;
		v = op <= PF_OP_SCALAR ? scalar : v;
		if (op == PF_OP_SWAP)
			m->stack[top - 1][i] = x;
		if (op == PF_OP_STORE)
			m->reg[operand][i] = x;
		if (shape.leaves > 0)
			m->stack[to][i] = v;
	}
	m->depth = to + 1;
}

static inline double pf_scalar(const struct pf_program *p, uint32_t c, uint32_t op, uint32_t operand)
{
	if (op == PF_OP_CONST)
		return pf_flush64(p->par[PF_PAR_CONST + operand]);
	if (op == PF_OP_PAR)
		return pf_flush64(p->par[PF_PAR_COMPONENT + PF_PAR_STRIDE * c + 1 + operand]);
	return pf_flush64(p->par[operand & (PF_PAR_SCALARS - 1)]);
}

/* Runs the checked code at `start`; the result is stack[0] */
static void pf_code_run(struct pf_machine *m, const struct pf_program *p, uint32_t c, uint32_t start,
                        const struct pf_items *t)
{
	m->depth = 0;
words:
	for (uint32_t i = start; i < p->words; i++) {
#pragma HLS LOOP_TRIPCOUNT min=1 max=1024
		const uint32_t op = p->word[i] & 255u, operand = p->word[i] >> 8;
		if (op == PF_OP_END)
			break;
		if (op == PF_OP_GCOUNT)
			m->depth++;
		if (op >= PF_OP_GSUM)
			pf_group_op(op, t, m->stack[m->depth - 1], m->scratch);
		else
			pf_lane_op(m, op, operand, pf_scalar(p, c, op, operand), t);
	}
}

/* ---- results ---- */

struct pf_results { pf_slot loss, grad; uint32_t status[PF_ITEMS_MAX]; };

/* to += weight * value; a loss per group has the value of the group's first item */
static void pf_collect(const struct pf_items *t, const pf_slot value, double weight, int first, pf_slot to)
{
groups:
	for (uint32_t g = 0; g < t->groups; g++) {
#pragma HLS LOOP_TRIPCOUNT min=1 max=8192
		const uint32_t begin = t->start[g], end = t->start[g + 1];
members:
		for (uint32_t i = begin; i < end; i++) {
#pragma HLS PIPELINE II=1
#pragma HLS LOOP_TRIPCOUNT min=1 max=8192
			double v = value[first ? begin : i];
			to[i] = pf_flush64(to[i] + pf_flush64(weight * v));
		}
	}
}

static void pf_components_run(struct pf_machine *m, const struct pf_program *p, const struct pf_items *t,
                              struct pf_results *r)
{
components:
	for (uint32_t c = 0; c < p->word[0]; c++) {
#pragma HLS LOOP_TRIPCOUNT min=1 max=4
		const uint32_t at = PF_PROG_COMPONENT + 4 * c;
		const double weight = pf_flush64(p->par[PF_PAR_COMPONENT + PF_PAR_STRIDE * c]);
		pf_code_run(m, p, c, p->word[at], t);
		pf_collect(t, m->stack[0], weight, p->word[at + 2] == 0, r->loss);
		pf_code_run(m, p, c, p->word[at + 1], t);
		pf_collect(t, m->stack[0], weight, 0, r->grad);
	}
}

static inline uint32_t pf_item_check(const struct pf_item *it)
{
	return (it->status & PF_ROW_BAD ? PF_ITEM_BAD_ROW : 0u) | (it->n == 0 ? PF_ITEM_NO_TOKENS : 0u);
}

/* Divides, and finds what is wrong with each group */
static void pf_results_finish(const struct pf_items *t, double divisor, struct pf_results *r)
{
groups:
	for (uint32_t g = 0; g < t->groups; g++) {
#pragma HLS LOOP_TRIPCOUNT min=1 max=8192
		const uint32_t begin = t->start[g], end = t->start[g + 1];
		uint32_t status = 0, finite = 1;
members:
		for (uint32_t i = begin; i < end; i++) {
#pragma HLS PIPELINE II=1
#pragma HLS LOOP_TRIPCOUNT min=1 max=8192
			r->grad[i] = pf_flush64(r->grad[i] / divisor);
			finite &= r->loss[i] - r->loss[i] == 0.0 && r->grad[i] - r->grad[i] == 0.0;
			status |= pf_item_check(&t->item[i]);
		}
		status |= status == 0 && !finite ? PF_ITEM_NOT_FINITE : 0;
marks:
		for (uint32_t i = begin; i < end; i++) {
#pragma HLS PIPELINE II=1
#pragma HLS LOOP_TRIPCOUNT min=1 max=8192
			r->status[i] = status;
		}
	}
}

static void pf_results_write(const struct pf_items *t, const struct pf_results *r, struct pf_item_out *out)
{
groups:
	for (uint32_t g = 0; g < t->groups; g++) {
#pragma HLS LOOP_TRIPCOUNT min=1 max=8192
members:
		for (uint32_t i = t->start[g]; i < t->start[g + 1]; i++) {
#pragma HLS PIPELINE II=1
#pragma HLS LOOP_TRIPCOUNT min=1 max=8192
			struct pf_item_out o = { 0 };
			o.loss = r->status[i] ? pf_float64(PF_F64_NAN) : r->loss[i];
			o.grad = r->status[i] ? 0.0 : r->grad[i];
			o.status = r->status[i];
			o.group = g;
			out[i] = o;
		}
	}
}

static void pf_refuse(uint32_t items, struct pf_item_out *out)
{
refuse:
	for (uint32_t i = 0; i < items; i++) {
#pragma HLS PIPELINE II=1
#pragma HLS LOOP_TRIPCOUNT min=1 max=8192
		struct pf_item_out o = { 0 };
		o.loss = pf_float64(PF_F64_NAN);
		o.status = PF_ITEM_BAD_PROGRAM;
		out[i] = o;
	}
}

/* ---- loading ---- */

static void pf_program_load(const double *par, const uint32_t *prog, uint32_t words, struct pf_program *p)
{
	p->words = words;
parameters:
	for (uint32_t i = 0; i < PF_PAR_COUNT; i++) {
#pragma HLS PIPELINE II=1
		p->par[i] = par[i];
	}
words:
	for (uint32_t i = 0; i < words; i++) {
#pragma HLS PIPELINE II=1
#pragma HLS LOOP_TRIPCOUNT min=1 max=1024
		p->word[i] = prog[i];
	}
}

static void pf_items_load(const struct pf_item *item, const uint32_t *group, uint32_t items, uint32_t groups,
                          struct pf_items *t, struct pf_results *r)
{
	t->items = items;
	t->groups = groups;
items:
	for (uint32_t i = 0; i < items; i++) {
#pragma HLS PIPELINE II=1
#pragma HLS LOOP_TRIPCOUNT min=1 max=8192
		t->item[i] = item[i];
		r->loss[i] = 0.0;
		r->grad[i] = 0.0;
	}
groups:
	for (uint32_t g = 0; g <= groups; g++) {
#pragma HLS PIPELINE II=1
#pragma HLS LOOP_TRIPCOUNT min=1 max=8193
		t->start[g] = group[g];
	}
}

void PF_KERNEL_NAME(pref)(const double *par, const uint32_t *prog, const struct pf_item *item, const uint32_t *group,
                          struct pf_item_out *out, uint32_t words, uint32_t items, uint32_t groups)
{
#pragma HLS INTERFACE mode=m_axi port=par bundle=gmem0 offset=slave
#pragma HLS INTERFACE mode=m_axi port=prog bundle=gmem1 offset=slave
#pragma HLS INTERFACE mode=m_axi port=item bundle=gmem2 offset=slave
#pragma HLS INTERFACE mode=m_axi port=group bundle=gmem3 offset=slave
#pragma HLS INTERFACE mode=m_axi port=out bundle=gmem4 offset=slave
#pragma HLS INTERFACE mode=s_axilite port=par bundle=control
#pragma HLS INTERFACE mode=s_axilite port=prog bundle=control
#pragma HLS INTERFACE mode=s_axilite port=item bundle=control
#pragma HLS INTERFACE mode=s_axilite port=group bundle=control
#pragma HLS INTERFACE mode=s_axilite port=out bundle=control
#pragma HLS INTERFACE mode=s_axilite port=words bundle=control
#pragma HLS INTERFACE mode=s_axilite port=items bundle=control
#pragma HLS INTERFACE mode=s_axilite port=groups bundle=control
#pragma HLS INTERFACE mode=s_axilite port=return bundle=control
	struct pf_program program;
	struct pf_items table;
	struct pf_machine machine;
	struct pf_results results;
	if (words > PF_PROG_MAX || items > PF_ITEMS_MAX || groups > PF_ITEMS_MAX) {
		pf_refuse(items, out);
		return;
	}
	pf_program_load(par, prog, words, &program);
	pf_items_load(item, group, items, groups, &table, &results);
	if (!pf_program_check(&program) || !pf_groups_check(&table)) {
		pf_refuse(items, out);
		return;
	}
	pf_components_run(&machine, &program, &table, &results);
	pf_results_finish(&table, program.par[PF_PAR_DIVISOR], &results);
	pf_results_write(&table, &results, out);
}
