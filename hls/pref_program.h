/* pref_program.h: the tables of a launch of pref, and the checks that let the machine trust them.
 *
 * A program is checked by walking it once: every opcode known, every operand in range, the stack never over or
 * under, registers written before they are read, a loop closed, not nested, and as deep at its end as at its
 * beginning (so that one turn stands for all), one slot left at the end. A group table must cut the items [0, items)
 * into consecutive groups; groups may be empty. */
#ifndef PF_HLS_PREF_PROGRAM_H
#define PF_HLS_PREF_PROGRAM_H
#include "prefpga/internal/abi.h"

struct pf_program {
	double   par[PF_PAR_COUNT];
	uint32_t word[PF_PROG_MAX], words;
};
struct pf_table {
	struct pf_item item[PF_ITEMS_MAX];
	uint32_t       start[PF_ITEMS_MAX + 1], items, groups;
	uint32_t       largest;        /* items of the largest group, at least 1: turns of a loop */
};
/* What the check knows at a word */
struct pf_walk { uint32_t depth, stored, looped, loop_depth; };

struct pf_op_shape { uint8_t takes, leaves; };
static const struct pf_op_shape pf_op_shapes[PF_OP_COUNT] = {
#define PF_OP_SHAPE(symbol, mnemonic, takes, leaves, imm, text) { takes, leaves },
	PF_OPS(PF_OP_SHAPE)
#undef PF_OP_SHAPE
};

/* Operands of an opcode are below it */
static inline uint32_t pf_operand_limit(uint32_t op)
{
	switch (op) {
	case PF_OP_CONST: return PF_CONSTS;
	case PF_OP_PAR: return PF_PARAMS;
	case PF_OP_SCALAR: return PF_PAR_SCALARS;
	case PF_OP_STORE:
	case PF_OP_LOAD: return PF_REGISTERS;
	case PF_OP_IS: return 2 * PF_ITEM_EXTRA;
	default: return 1;
	}
}

static inline int pf_loop_check(uint32_t op, struct pf_walk *w)
{
	const int good = op == PF_OP_LOOP ? !w->looped : w->looped && w->depth == w->loop_depth;
	w->looped = op == PF_OP_LOOP;
	w->loop_depth = w->depth;
	return good;
}

/* 1 if the word can run with this stack and these registers, which it updates */
static inline int pf_word_check(uint32_t word, struct pf_walk *w)
{
	const uint32_t op = word & 255u, operand = word >> 8;
	if (op >= PF_OP_COUNT || operand >= pf_operand_limit(op))
		return 0;
	if (op == PF_OP_LOAD && !(w->stored >> operand & 1u))
		return 0;
	if (op == PF_OP_STORE)
		w->stored |= 1u << operand;
	if (op == PF_OP_LOOP || op == PF_OP_NEXT)
		return pf_loop_check(op, w);
	const struct pf_op_shape shape = pf_op_shapes[op];
	if (w->depth < shape.takes || w->depth - shape.takes + shape.leaves > PF_STACK_MAX)
		return 0;
	w->depth = w->depth - shape.takes + shape.leaves;
	return 1;
}

static int pf_code_check(const struct pf_program *p, uint32_t start)
{
	struct pf_walk walk = { 0, 0, 0, 0 };
	if (start < PF_PROG_CODE)
		return 0;
words:
	for (uint32_t i = start; i < p->words; i++) {
#pragma HLS LOOP_TRIPCOUNT min=1 max=1024
		if (!pf_word_check(p->word[i], &walk))
			return 0;
		if (p->word[i] == PF_WORD(PF_OP_END, 0))
			return walk.depth == 1 && !walk.looped;
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
		const uint32_t at = PF_PROG_COMPONENT + 4 * c;
		if (!pf_code_check(p, p->word[at]) || !pf_code_check(p, p->word[at + 1]) || p->word[at + 2] > 1)
			return 0;
	}
	return 1;
}

/* Also finds the largest group */
static int pf_groups_check(struct pf_table *t)
{
	t->largest = 1;
	int good = t->start[0] == 0 && t->start[t->groups] == t->items;
groups:
	for (uint32_t g = 0; g < t->groups; g++) {
#pragma HLS LOOP_TRIPCOUNT min=1 max=8192
		const uint32_t size = t->start[g + 1] - t->start[g];
		good &= t->start[g] <= t->start[g + 1];
		t->largest = size > t->largest ? size : t->largest;
	}
	return good;
}
#endif
