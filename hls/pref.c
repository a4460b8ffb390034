/* pref: preference losses as programs, run on a stack whose slots are vectors over the items (abi.h, PF_OPS).
 *
 * Tables are loaded, checked (pref_program.h), then trusted; what fails the check gives every item PF_ITEM_BAD_PROGRAM
 * and computes nothing. Per component the value program and the gradient program run to their end; their results are
 * weighted and added up, gradients divided by PF_PAR_DIVISOR. A group with a bad member is invalid as a whole.
 * Lane loops have no recurrence; II = 8 lets all opcodes share one set of operators, for the work is O(items).
 * About 2 MiB on chip: items, stack and registers, one memory per slot. */
#include "pref_program.h"
#include "prefpga/internal/kernels.h"
#include "prefpga/internal/pref_group.h"
PF_KERNELS(PF_PROTOTYPE)

/* ---- the machine ---- */

static double pf_scalar(const struct pf_program *p, uint32_t component, uint32_t op, uint32_t operand)
{
	switch (op) {
	case PF_OP_CONST: return pf_flush64(p->par[PF_PAR_CONST + operand]);
	case PF_OP_PAR: return pf_flush64(p->par[PF_PAR_COMPONENT + PF_PAR_STRIDE * component + 1 + operand]);
	case PF_OP_SCALAR: return pf_flush64(p->par[operand]);
	default: return 0.0;
	}
}

/* Runs a word on every lane; `depth` is the stack's before */
static void pf_run_lanes(uint32_t word, double scalar, const struct pf_table *t, uint32_t depth,
                         double stack[PF_STACK_MAX][PF_ITEMS_MAX], double reg[PF_REGISTERS][PF_ITEMS_MAX])
{
	const uint32_t op = word & 255u, operand = word >> 8;
	const struct pf_op_shape shape = pf_op_shapes[op];
	const uint32_t top = depth - 1, to = depth - shape.takes + shape.leaves - 1;
lanes:
	for (uint32_t i = 0; i < t->items; i++) {
#pragma HLS PIPELINE II=8
#pragma HLS LOOP_TRIPCOUNT min=1 max=8192
		const double x = shape.takes > 0 ? stack[top][i] : 0.0;
		const double y = shape.takes > 1 ? stack[top - 1][i] : 0.0;
		const double z = shape.takes > 2 ? stack[top - 2][i] : 0.0;
		const double given = op == PF_OP_LOAD ? reg[operand][i] : scalar;
		const double result = pf_lane(op, operand, shape.takes, &t->item[i], given, x, y, z);
		if (op == PF_OP_SWAP)
			stack[top - 1][i] = x;
		if (op == PF_OP_STORE)
			reg[operand][i] = x;
		if (shape.leaves > 0)
			stack[to][i] = result;
	}
}

/* Reduces slot `top` over every group; gcount makes the slot */
static void pf_run_groups(uint32_t op, const struct pf_table *t, uint32_t top,
                          double stack[PF_STACK_MAX][PF_ITEMS_MAX], double operand[PF_ITEMS_MAX])
{
operands:
	for (uint32_t i = 0; i < t->items; i++) {
#pragma HLS PIPELINE II=1
#pragma HLS LOOP_TRIPCOUNT min=1 max=8192
		operand[i] = op == PF_OP_GCOUNT ? 0.0 : stack[top][i];
	}
groups:
	for (uint32_t g = 0; g < t->groups; g++) {
#pragma HLS LOOP_TRIPCOUNT min=1 max=8192
		const uint32_t begin = t->start[g], end = t->start[g + 1];
		const double value = begin < end && op != PF_OP_GRANK ? pf_group_value(op, operand, begin, end) : 0.0;
members:
		for (uint32_t i = begin; i < end; i++) {
#pragma HLS LOOP_TRIPCOUNT min=1 max=8192
			stack[top][i] = op == PF_OP_GRANK ? pf_group_rank(operand, i, begin, end) : value;
		}
	}
}

/* Index that a lane holds; PF_ITEMS_MAX if it is none */
static inline uint32_t pf_index(double x, uint32_t items)
{
	return x >= 0.0 && x < (double)items ? (uint32_t)x : PF_ITEMS_MAX;
}

/* The b-operations; the result lies in slot `to` */
static void pf_run_batch(uint32_t op, const struct pf_table *t, uint32_t to, double stack[PF_STACK_MAX][PF_ITEMS_MAX],
                         double operand[PF_ITEMS_MAX])
{
	const int indexed = op == PF_OP_BPUT || op == PF_OP_BGET;
operands:
	for (uint32_t i = 0; i < t->items; i++) {
#pragma HLS PIPELINE II=1
#pragma HLS LOOP_TRIPCOUNT min=1 max=8192
		operand[i] = stack[to][i];
		stack[to][i] = 0.0;
	}
	const double sum = op == PF_OP_BSUM ? pf_group_sum(operand, 0, t->items) : 0.0;
items:
	for (uint32_t i = 0; i < t->items; i++) {
#pragma HLS LOOP_TRIPCOUNT min=1 max=8192
		const uint32_t index = indexed ? pf_index(stack[to + 1][i], t->items) : i;
		if (op == PF_OP_BPUT && index < PF_ITEMS_MAX)
			stack[to][index] = operand[i];
		else if (op == PF_OP_BGET && index < PF_ITEMS_MAX)
			stack[to][i] = operand[index];
		else if (op == PF_OP_BRANK)
			stack[to][i] = pf_group_rank(operand, i, 0, t->items);
		else if (op == PF_OP_BSUM)
			stack[to][i] = sum;
	}
}

/* Runs checked code; the result is stack[0]. A loop goes back to its body's first word */
static void pf_run_code(const struct pf_program *p, uint32_t component, uint32_t start, const struct pf_table *t,
                        double stack[PF_STACK_MAX][PF_ITEMS_MAX], double reg[PF_REGISTERS][PF_ITEMS_MAX],
                        double operand[PF_ITEMS_MAX])
{
	uint32_t depth = 0, at = start, body = start, turns = 0;
words:
	for (uint32_t step = 0; step < PF_PROG_MAX * PF_ITEMS_MAX; step++) {
#pragma HLS LOOP_TRIPCOUNT min=1 max=8388608
		const uint32_t word = p->word[at], op = word & 255u;
		const struct pf_op_shape shape = pf_op_shapes[op];
		at++;
		if (op == PF_OP_END)
			break;
		if (op == PF_OP_LOOP) {
			body = at;
			turns = t->largest;
		} else if (op == PF_OP_NEXT) {
			turns--;
			at = turns > 0 ? body : at;
		} else if (pf_is_group_op(op)) {
			pf_run_groups(op, t, depth - shape.takes, stack, operand);
		} else if (pf_is_batch_op(op)) {
			pf_run_batch(op, t, depth - shape.takes, stack, operand);
		} else {
			pf_run_lanes(word, pf_scalar(p, component, op, word >> 8), t, depth, stack, reg);
		}
		depth = depth - shape.takes + shape.leaves;
	}
}

/* ---- results ---- */

struct pf_results { double loss[PF_ITEMS_MAX], grad[PF_ITEMS_MAX]; uint32_t status[PF_ITEMS_MAX]; };

/* to += weight * value; a number per group is that of the group's first item */
static void pf_collect(const double value[PF_ITEMS_MAX], const struct pf_table *t, int per_group, double weight,
                       double to[PF_ITEMS_MAX])
{
groups:
	for (uint32_t g = 0; g < t->groups; g++) {
#pragma HLS LOOP_TRIPCOUNT min=1 max=8192
		const uint32_t begin = t->start[g], end = t->start[g + 1];
members:
		for (uint32_t i = begin; i < end; i++) {
#pragma HLS PIPELINE II=1
#pragma HLS LOOP_TRIPCOUNT min=1 max=8192
			const double v = value[per_group ? begin : i];
			to[i] = pf_flush64(to[i] + pf_flush64(weight * v));
		}
	}
}

static inline uint32_t pf_item_check(const struct pf_item *it)
{
	return (it->status & PF_ROW_BAD ? PF_ITEM_BAD_ROW : 0u) | (it->n == 0 ? PF_ITEM_NO_TOKENS : 0u);
}

static inline int pf_finite(double x) { return x - x == 0.0; }

/* What is wrong with a group; divides its gradients */
static uint32_t pf_group_finish(const struct pf_table *t, uint32_t begin, uint32_t end, double divisor,
                                struct pf_results *r)
{
	uint32_t status = 0, finite = 1;
members:
	for (uint32_t i = begin; i < end; i++) {
#pragma HLS PIPELINE II=1
#pragma HLS LOOP_TRIPCOUNT min=1 max=8192
		const double grad = pf_flush64(r->grad[i] / divisor);
		r->grad[i] = grad;
		finite &= pf_finite(r->loss[i]) && pf_finite(grad);
		status |= pf_item_check(&t->item[i]);
	}
	return status == 0 && !finite ? PF_ITEM_NOT_FINITE : status;
}

static void pf_results_write(const struct pf_table *t, double divisor, struct pf_results *r, struct pf_item_out *out)
{
groups:
	for (uint32_t g = 0; g < t->groups; g++) {
#pragma HLS LOOP_TRIPCOUNT min=1 max=8192
		const uint32_t begin = t->start[g], end = t->start[g + 1];
		const uint32_t status = pf_group_finish(t, begin, end, divisor, r);
members:
		for (uint32_t i = begin; i < end; i++) {
#pragma HLS PIPELINE II=1
#pragma HLS LOOP_TRIPCOUNT min=1 max=8192
			struct pf_item_out o = { 0 };
			o.loss = status ? pf_float64(PF_F64_NAN) : r->loss[i];
			o.grad = status ? 0.0 : r->grad[i];
			o.status = status;
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

static void pf_table_load(const struct pf_item *item, const uint32_t *group, uint32_t items, uint32_t groups,
                          struct pf_table *t, struct pf_results *r)
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
#pragma HLS INTERFACE mode=m_axi port=group bundle=gmem1 offset=slave
#pragma HLS INTERFACE mode=m_axi port=out bundle=gmem3 offset=slave
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
	struct pf_table table;
	struct pf_results results;
	double stack[PF_STACK_MAX][PF_ITEMS_MAX], reg[PF_REGISTERS][PF_ITEMS_MAX], operand[PF_ITEMS_MAX];
#pragma HLS ARRAY_PARTITION variable=stack complete dim=1
#pragma HLS ARRAY_PARTITION variable=reg complete dim=1
	if (words > PF_PROG_MAX || items > PF_ITEMS_MAX || groups > PF_ITEMS_MAX) {
		pf_refuse(items, out);
		return;
	}
	pf_program_load(par, prog, words, &program);
	pf_table_load(item, group, items, groups, &table, &results);
	if (!pf_program_check(&program) || !pf_groups_check(&table)) {
		pf_refuse(items, out);
		return;
	}
components:
	for (uint32_t c = 0; c < program.word[0]; c++) {
#pragma HLS LOOP_TRIPCOUNT min=1 max=4
		const uint32_t at = PF_PROG_COMPONENT + 4 * c;
		const double weight = pf_flush64(program.par[PF_PAR_COMPONENT + PF_PAR_STRIDE * c]);
		pf_run_code(&program, c, program.word[at], &table, stack, reg, operand);
		pf_collect(stack[0], &table, program.word[at + 2] == 0, weight, results.loss);
		pf_run_code(&program, c, program.word[at + 1], &table, stack, reg, operand);
		pf_collect(stack[0], &table, 0, weight, results.grad);
	}
	pf_results_write(&table, pf_flush64(program.par[PF_PAR_DIVISOR]), &results, out);
}
