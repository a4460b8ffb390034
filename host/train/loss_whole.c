/* Programs of losses run on the host, lane for lane as kernel pref runs them */
#include "loss_whole.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "prefpga/internal/pref_group.h"

struct ranked { double value; uint32_t item; };

struct machine {
	const struct pf_whole *job;
	unsigned  component;
	uint32_t  largest;                             /* items of the largest group: turns of a loop */
	double   *slot[PF_STACK_MAX], *reg[PF_REGISTERS], *operand, *memory;
	struct ranked *ranked;
};

struct shape { uint8_t takes, leaves; };
static const struct shape shapes[PF_OP_COUNT] = {
#define PF_SHAPE(symbol, mnemonic, takes, leaves, imm, text) { takes, leaves },
	PF_OPS(PF_SHAPE)
#undef PF_SHAPE
};

/* ---- lanes ---- */

static double scalar(const struct machine *m, uint32_t op, uint32_t operand)
{
	const double *par = m->job->par;

	switch (op) {
	case PF_OP_CONST: return pf_flush64(par[PF_PAR_CONST + operand]);
	case PF_OP_PAR: return pf_flush64(par[PF_PAR_COMPONENT + PF_PAR_STRIDE * m->component + 1 + operand]);
	case PF_OP_SCALAR: return pf_flush64(par[operand]);
	default: return 0.0;
	}
}

/* base: the deepest slot that the operation takes, or the first that it leaves */
static void run_lanes(struct machine *m, uint32_t op, uint32_t operand, uint32_t base)
{
	const struct shape shape = shapes[op];
	const uint32_t top = base + shape.takes, to = base + shape.leaves;
	const double given = scalar(m, op, operand);

	for (uint32_t i = 0; i < m->job->items; i++) {
		const double x = shape.takes > 0 ? m->slot[top - 1][i] : 0.0;
		const double y = shape.takes > 1 ? m->slot[top - 2][i] : 0.0;
		const double z = shape.takes > 2 ? m->slot[top - 3][i] : 0.0;
		const double result = pf_lane(op, operand, shape.takes, &m->job->item[i],
		                              op == PF_OP_LOAD ? m->reg[operand][i] : given, x, y, z);
		if (op == PF_OP_SWAP)
			m->slot[base][i] = x;
		if (op == PF_OP_STORE)
			m->reg[operand][i] = x;
		if (shape.leaves > 0)
			m->slot[to - 1][i] = result;
	}
}

/* ---- ranks: as pf_group_rank says, by sorting ---- */

static int before(const void *a, const void *b)
{
	const struct ranked *x = a, *y = b;

	if (x->value != y->value)
		return x->value > y->value ? -1 : 1;
	return x->item < y->item ? -1 : x->item > y->item;
}

static void rank(struct machine *m, uint32_t begin, uint32_t end, double *result)
{
	int nan = 0;

	for (uint32_t i = begin; i < end; i++) {
		m->ranked[i - begin] = (struct ranked){ m->operand[i], i };
		nan |= m->operand[i] != m->operand[i];
	}
	if (!nan)
		qsort(m->ranked, end - begin, sizeof *m->ranked, before);
	for (uint32_t k = 0; k < end - begin; k++)
		result[m->ranked[k].item] = nan ? pf_float64(PF_F64_NAN) : (double)k;
}

/* ---- groups and the whole ---- */

static void run_groups(struct machine *m, uint32_t op, double *slot)
{
	memcpy(m->operand, slot, m->job->items * sizeof *slot);
	for (uint32_t g = 0; g < m->job->groups; g++) {
		const uint32_t begin = m->job->group[g], end = m->job->group[g + 1];
		if (op == PF_OP_GRANK) {
			rank(m, begin, end, slot);
			continue;
		}
		const double value = begin < end ? pf_group_value(op, m->operand, begin, end) : 0.0;
		for (uint32_t i = begin; i < end; i++)
			slot[i] = value;
	}
}

/* Item that a lane points to; -1: none */
static int64_t index_of(double x, uint32_t items)
{
	return x >= 0.0 && x < (double)items ? (int64_t)x : -1;
}

static void run_whole(struct machine *m, uint32_t op, uint32_t base)
{
	const uint32_t items = m->job->items;
	double *slot = m->slot[base];
	const double *index = m->slot[base + (op == PF_OP_BPUT || op == PF_OP_BGET)];

	memcpy(m->operand, slot, items * sizeof *slot);
	const double sum = op == PF_OP_BSUM ? pf_group_sum(m->operand, 0, items) : 0.0;
	for (uint32_t i = 0; i < items; i++)
		slot[i] = sum;
	if (op == PF_OP_BRANK)
		rank(m, 0, items, slot);
	for (uint32_t i = 0; i < items && (op == PF_OP_BPUT || op == PF_OP_BGET); i++) {
		const int64_t at = index_of(index[i], items);
		if (at >= 0 && op == PF_OP_BPUT)
			slot[at] = m->operand[i];
		else if (at >= 0)
			slot[i] = m->operand[at];
	}
}

/* ---- programs ---- */

/* From word `at` on; the result is slot 0 */
static const double *run(struct machine *m, uint32_t at)
{
	uint32_t body = at, turns = 0;

	for (uint32_t depth = 0;; at++) {
		const uint32_t op = m->job->program->word[at] & 255u, operand = m->job->program->word[at] >> 8;
		const uint32_t base = depth - shapes[op].takes;
		if (op == PF_OP_END)
			return m->slot[0];
		if (op == PF_OP_LOOP) {
			body = at;
			turns = m->largest;
		} else if (op == PF_OP_NEXT)
			at = --turns > 0 ? body : at;
		else if (pf_is_group_op(op))
			run_groups(m, op, m->slot[base]);
		else if (pf_is_batch_op(op))
			run_whole(m, op, base);
		else
			run_lanes(m, op, operand, base);
		depth = base + shapes[op].leaves;
	}
}

/* A number per group is that of the group's first item */
static void add_component(struct machine *m)
{
	const struct pf_whole *job = m->job;
	const uint32_t *head = job->program->word + PF_PROG_COMPONENT + 4 * m->component;
	const double weight = pf_flush64(job->par[PF_PAR_COMPONENT + PF_PAR_STRIDE * m->component]);
	const double *value = run(m, head[0]);

	for (uint32_t g = 0; g < job->groups; g++)
		for (uint32_t i = job->group[g]; i < job->group[g + 1]; i++)
			job->out[i].loss = pf_flush64(job->out[i].loss +
			                              pf_flush64(weight * value[head[2] ? i : job->group[g]]));
	value = run(m, head[1]);
	for (uint32_t i = 0; i < job->items; i++)
		job->out[i].grad = pf_flush64(job->out[i].grad + pf_flush64(weight * value[i]));
}

/* ---- results ---- */

static int finite(double x)
{
	return x - x == 0.0;
}

static uint32_t finish_group(const struct pf_whole *job, uint32_t begin, uint32_t end)
{
	const double divisor = pf_flush64(job->par[PF_PAR_DIVISOR]);
	uint32_t status = 0;
	int all = 1;

	for (uint32_t i = begin; i < end; i++) {
		job->out[i].grad = pf_flush64(job->out[i].grad / divisor);
		all &= finite(job->out[i].loss) && finite(job->out[i].grad);
		status |= (job->item[i].status & PF_ROW_BAD ? PF_ITEM_BAD_ROW : 0u) |
		          (job->item[i].n == 0 ? PF_ITEM_NO_TOKENS : 0u);
	}
	return status == 0 && !all ? PF_ITEM_NOT_FINITE : status;
}

static void finish(const struct pf_whole *job)
{
	for (uint32_t g = 0; g < job->groups; g++) {
		const uint32_t status = finish_group(job, job->group[g], job->group[g + 1]);
		for (uint32_t i = job->group[g]; i < job->group[g + 1]; i++) {
			job->out[i].loss = status ? pf_float64(PF_F64_NAN) : job->out[i].loss;
			job->out[i].grad = status ? 0.0 : job->out[i].grad;
			job->out[i].status = status;
			job->out[i].group = g;
		}
	}
}

/* ---- memory ---- */

static int open_machine(struct machine *m, const struct pf_whole *job)
{
	const size_t lanes = job->items ? job->items : 1;

	*m = (struct machine){ .job = job, .largest = 1 };
	for (uint32_t g = 0; g < job->groups; g++)
		if (job->group[g + 1] - job->group[g] > m->largest)
			m->largest = job->group[g + 1] - job->group[g];
	m->memory = calloc(lanes * (PF_STACK_MAX + PF_REGISTERS + 1), sizeof *m->memory);
	m->ranked = calloc(lanes, sizeof *m->ranked);
	if (!m->memory || !m->ranked)
		return -ENOMEM;
	for (uint32_t i = 0; i < PF_STACK_MAX; i++)
		m->slot[i] = m->memory + i * lanes;
	for (uint32_t i = 0; i < PF_REGISTERS; i++)
		m->reg[i] = m->memory + (PF_STACK_MAX + i) * lanes;
	m->operand = m->memory + (PF_STACK_MAX + PF_REGISTERS) * lanes;
	return 0;
}

int pf_loss_whole(const struct pf_whole *job, struct pf_error *error)
{
	struct machine m;
	int code = open_machine(&m, job);

	memset(job->out, 0, job->items * sizeof *job->out);
	for (m.component = 0; !code && m.component < job->program->word[0]; m.component++)
		add_component(&m);
	if (!code)
		finish(job);
	free(m.memory);
	free(m.ranked);
	return code ? pf_fail(error, code, "no memory for the loss of a step of %u items", job->items) : 0;
}
