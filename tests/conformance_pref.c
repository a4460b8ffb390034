/* Kernel pref's cases: DPO, operations over groups and over all items, statuses, random programs. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "tests/cmocka.h"
#include "tests/conformance_make.h"

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
	return op == PF_OP_CONST ? conf_below(PF_CONSTS) : op == PF_OP_IS ? conf_below(7) : conf_below(8);
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
		uint32_t op = 1 + conf_below(PF_OP_COUNT - 1);
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
	random_code(p, 5 + conf_below(40));
	head[1] = p->words;
	random_code(p, 5 + conf_below(40));
	head[2] = conf_below(2);
	p->word[0] = component + 1;
}

static struct pf_item random_item(unsigned index)
{
	struct pf_item item = { .n = 1 + conf_below(500), .kind = index % 2 ? PF_ITEM_REJECTED : PF_ITEM_CHOSEN };
	item.policy = -(int64_t)(conf_uniform(0, 300) * 0x1p32);
	item.reference = item.policy + (int64_t)(conf_normal(5) * 0x1p32);
	item.old = item.policy + (int64_t)(conf_normal(0.1) * 0x1p32);
	item.score = (float)conf_normal(1);
	item.margin = (float)conf_uniform(0, 1);
	item.weight = (float)conf_uniform(0.1, 2);
	item.advantage = (float)conf_normal(1);
	return item;
}

static struct conf_case *add_pref(const char *name, const struct program *p, uint32_t items, uint32_t most)
{
	char label[64];
	uint32_t *group = calloc(items + 1, sizeof *group), groups = 0;
	snprintf(label, sizeof label, "%s items=%u groups<=%u", name, items, most);
	struct conf_case *c = conf_add(PF_KERNEL_pref, label);
	assert_non_null(group);
	for (uint32_t at = 0; at < items; at = group[groups]) {
		uint32_t size = most == 2 ? 2 : 1 + conf_below(most);
		group[groups++] = at;
		group[groups] = at + size < items ? at + size : items;
	}
	c->value[PF_ARG_pref_words] = p->words;
	c->value[PF_ARG_pref_items] = items;
	c->value[PF_ARG_pref_groups] = groups;
	conf_fit(c);
	memcpy(c->input[PF_ARG_pref_prog], p->word, p->words * sizeof *p->word);
	memcpy(c->input[PF_ARG_pref_group], group, (groups + 1) * sizeof *group);
	double *par = (double *)(void *)c->input[PF_ARG_pref_par];
	for (unsigned i = 0; i < PF_PAR_COUNT; i++)
		par[i] = conf_uniform(0.1, 1);
	par[PF_PAR_DIVISOR] = items / 2 + 1;
	struct pf_item *item = (struct pf_item *)(void *)c->input[PF_ARG_pref_item];
	for (uint32_t i = 0; i < items; i++)
		item[i] = random_item(i);
	free(group);
	return c;
}

void conf_pref_cases(void)
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
		for (unsigned k = 0; k <= conf_below(PF_COMPONENTS); k++)
			program_random(&p, k);
		add_pref("random program", &p, 1 + conf_below(40), 1 + conf_below(6))->bits_only = 1;
	}
}
