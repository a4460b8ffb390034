/* pref called directly: every operation against the reference, the stack by random exact programs, components, weights,
 * invalid groups, malformed programs and tables. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "tests/cmocka.h"
#include "host/train/loss_whole.h"
#include "tests/kernels.h"
#include "tests/loss_point.h"
#include "tests/ref/ref.h"

#define BOUND 0x1p-48                  /* relative error of one operation; of a sum, relative to the sum of sizes */

static const struct kernel_build *const kernels = &kernel_builds[0];

struct launch {
	double             par[PF_PAR_COUNT];
	uint32_t           prog[PF_PROG_MAX], words;
	struct pf_item    *item;
	struct pf_item_out *out;
	uint32_t          *group, items, groups;
};

/* ---- building ---- */
static struct pf_item random_item(uint64_t *state)
{
	struct pf_item item = { 0 };
	item.policy = -(int64_t)((uint64_t)random_bits(state) << 6);
	item.reference = -(int64_t)((uint64_t)random_bits(state) << 6);
	item.old = -(int64_t)((uint64_t)random_bits(state) << 6);
	item.n = 1 + random_bits(state) % 50;
	item.kind = 1u << random_bits(state) % 3;
	item.score = (float)(4 * random_unit(state) - 2);
	item.margin = (float)(4 * random_unit(state) - 2);
	item.weight = (float)(random_unit(state) + 0.1);
	item.advantage = (float)(20 * random_unit(state) - 10);
	return item;
}

/* Groups of 0 to `largest` items */
static void launch_make(struct launch *l, uint32_t groups, uint32_t largest, uint64_t *state)
{
	memset(l, 0, sizeof *l);
	l->groups = groups;
	l->group = calloc(groups + 1, sizeof *l->group);
	assert_non_null(l->group);
	for (uint32_t g = 0; g < groups; g++)
		l->group[g + 1] = l->group[g] + (largest > 1 ? random_bits(state) % (largest + 1) : 1);
	l->items = l->group[groups];
	l->item = calloc(l->items + 1, sizeof *l->item);
	l->out = calloc(l->items + 1, sizeof *l->out);
	assert_true(l->item && l->out);
	for (uint32_t i = 0; i < l->items; i++)
		l->item[i] = random_item(state);
	l->par[PF_PAR_DIVISOR] = 1;
	l->prog[0] = 1;
	l->words = PF_PROG_CODE;
	for (int c = 0; c < 4; c++)
		l->par[PF_PAR_COMPONENT + PF_PAR_STRIDE * c] = 1;
}

static void launch_free(struct launch *l)
{
	free(l->item);
	free(l->out);
	free(l->group);
}

static void word(struct launch *l, uint32_t op, uint32_t operand)
{
	assert_true(l->words < PF_PROG_MAX);
	l->prog[l->words++] = PF_WORD(op, operand);
}

/* What follows is the program of component c: its value (which 0) or gradient (which 1). One value per item */
static void begin(struct launch *l, uint32_t c, uint32_t which)
{
	l->prog[PF_PROG_COMPONENT + 4 * c + which] = l->words;
	l->prog[PF_PROG_COMPONENT + 4 * c + 2] = 1;
}

static void run(struct launch *l)
{
	memset(l->out, 0xaa, (l->items + 1) * sizeof *l->out);
	kernels->pref(l->par, l->prog, l->item, l->group, l->out, l->words, l->items, l->groups);
	for (size_t i = 0; i < sizeof *l->out; i++)            /* nothing beyond the items */
		assert_int_equal(((unsigned char *)&l->out[l->items])[i], 0xaa);
}

/* ---- every operation ---- */
struct shape { const char *name; int takes, leaves, immediate; };
static const struct shape shapes[PF_OP_COUNT] = {
#define SHAPE(symbol, mnemonic, takes, leaves, imm, text) { mnemonic, takes, leaves, imm },
	PF_OPS(SHAPE)
#undef SHAPE
};

/* Operands on the stack that suit the operation: fields of the item, made positive or negative where it needs that */
static void push_operands(struct launch *l, uint32_t op)
{
	static const uint32_t fields[3] = { PF_OP_SCORE, PF_OP_MARGIN, PF_OP_ADV };
	for (int i = 0; i < shapes[op].takes; i++)
		if (i == 1 && op >= PF_OP_BPUT)
			word(l, PF_OP_N, 0);                   /* an index, sometimes beyond the items */
		else
			word(l,
			     op == PF_OP_EXP || op == PF_OP_SIGMOID || op == PF_OP_SOFTPLUS || op == PF_OP_GLSE
			             ? PF_OP_ADV
			             : fields[i],
			     0);
	if (op == PF_OP_LOG || op == PF_OP_LOG1P)
		word(l, PF_OP_ABS, 0);
	if (op == PF_OP_LOG1MEXP) {
		word(l, PF_OP_ABS, 0);
		word(l, PF_OP_NEG, 0);
	}
}

static void push_operation(struct launch *l, uint32_t op, uint32_t operand)
{
	push_operands(l, op);
	if (op == PF_OP_LOAD) {
		word(l, PF_OP_L, 0);
		word(l, PF_OP_STORE, operand);
	}
	word(l, op, operand);
	if (op == PF_OP_STORE)
		word(l, PF_OP_LOAD, operand);
	if (op == PF_OP_DROP)
		word(l, PF_OP_R, 0);
	for (int left = shapes[op].leaves; left > 1; left--) {
		word(l, PF_OP_CONST, 3);
		word(l, PF_OP_MUL, 0);
		word(l, PF_OP_SUB, 0);
	}
	word(l, PF_OP_END, 0);
}

static double largest_size(const struct launch *l)
{
	double size = 0;
	for (uint32_t i = 0; i < l->items; i++)
		size = fmax(size, fabs((double)l->item[i].score) + fabs((double)l->item[i].advantage));
	return size;
}

static void compare_launch(struct launch *l, const char *name, double slack)
{
	struct ref_item_out *want = calloc(l->items + 1, sizeof *want);
	assert_non_null(want);
	run(l);
	ref_pref(l->par, l->prog, l->item, l->items, l->group, l->groups, want);
	for (uint32_t i = 0; i < l->items; i++) {
		double loss = (double)fabsl(l->out[i].loss - want[i].loss);
		double grad = (double)fabsl(l->out[i].grad - want[i].grad);
		if (l->out[i].status != want[i].status || l->out[i].group != want[i].group ||
		    (!want[i].status && (!(loss <= BOUND * (double)fabsl(want[i].loss) + slack) ||
		                         !(grad <= BOUND * (double)fabsl(want[i].grad) + slack))))
			fail_msg("%s: item %u: loss %.17g, not %.17Lg; grad %.17g, not %.17Lg; status %u, not %u", name,
			         i, l->out[i].loss, want[i].loss, l->out[i].grad, want[i].grad, l->out[i].status,
			         want[i].status);
		assert_true(!want[i].status || (isnan(l->out[i].loss) && l->out[i].grad == 0));
	}
	free(want);
}

static uint32_t operands_of(uint32_t op)
{
	return op == PF_OP_CONST ? PF_CONSTS
	       : op == PF_OP_IS || op == PF_OP_STORE || op == PF_OP_LOAD || op == PF_OP_PAR || op == PF_OP_SCALAR ? 8
	                                                                                                          : 1;
}

static void every_operation(void **state)
{
	uint64_t seed = 1;
	(void)state;
	for (uint32_t op = PF_OP_END + 1; op < PF_OP_LOOP; op++)
		for (uint32_t operand = 0; operand < operands_of(op); operand++)
			for (uint32_t largest = 1; largest < 40; largest = largest * 3 + 1) {
				struct launch l;
				launch_make(&l, 30, largest, &seed);
				for (uint32_t p = 0; p < PF_PAR_COUNT; p++)
					l.par[p] = 4 * random_unit(&seed) - 1.5;
				begin(&l, 0, 0);
				push_operation(&l, op, operand);
				begin(&l, 0, 1);
				push_operation(&l, op, operand);
				const double summed = op == PF_OP_BSUM ? 30 * 60 : op >= PF_OP_GSUM ? 60 : 0;
				compare_launch(&l, shapes[op].name, summed * largest_size(&l) * BOUND);
				launch_free(&l);
			}
}

/* Ends of the range: overflow, zero, what flushes */
static void operations_at_the_ends(void **state)
{
	static const struct { uint32_t op; double a, b, want; } cases[] = {
		{ PF_OP_MUL, 1e-200, 1e-200, 0 }, { PF_OP_MUL, 1e-154, 1e-155, 0 }, { PF_OP_ADD, 3e-308, -2.9e-308, 0 },
		{ PF_OP_DIV, 1e-300, 1e10, 0 }, { PF_OP_MUL, 1e-310, 1e10, 0 }, { PF_OP_MIN, -0.0, 5, 0 },
		{ PF_OP_LT, -1e300, 1e300, 1 }, { PF_OP_LE, 2, 2, 1 }, { PF_OP_EQ, 2, 2, 1 }, { PF_OP_EQ, 2, 2.5, 0 },
		{ PF_OP_MUL, 1e200, 1e200, INFINITY }, { PF_OP_DIV, 1, 0, INFINITY }, { PF_OP_DIV, 0, 0, NAN },
		{ PF_OP_MAX, NAN, 1, NAN }, { PF_OP_MAX, 1, NAN, NAN }, { PF_OP_MIN, NAN, 1, NAN },
		{ PF_OP_MIN, 1, NAN, NAN },
		{ PF_OP_LT, NAN, 1, 0 }, { PF_OP_EQ, NAN, NAN, 0 },
	};
	uint64_t seed = 3;
	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct launch l;
		launch_make(&l, 1, 1, &seed);
		l.par[PF_PAR_CONST] = cases[i].a;
		l.par[PF_PAR_CONST + 1] = cases[i].b;
		begin(&l, 0, 0);
		begin(&l, 0, 1);
		word(&l, PF_OP_CONST, 0);
		word(&l, PF_OP_CONST, 1);
		word(&l, cases[i].op, 0);
		word(&l, PF_OP_END, 0);
		run(&l);
		if (isfinite(cases[i].want))
			assert_true(l.out[0].loss == cases[i].want && l.out[0].grad == cases[i].want &&
			            !l.out[0].status);
		else
			assert_true(isnan(l.out[0].loss) && l.out[0].grad == 0 &&
			            l.out[0].status == PF_ITEM_NOT_FINITE);
		launch_free(&l);
	}
}

/* ---- random programs whose numbers are small integers: exact ---- */
static const uint32_t exact_ops[] = {
	PF_OP_CONST,  PF_OP_PAR,    PF_OP_SCALAR, PF_OP_L,    PF_OP_U,    PF_OP_N,    PF_OP_SIGN,
	PF_OP_IS,     PF_OP_SCORE,  PF_OP_DUP,    PF_OP_DROP, PF_OP_SWAP, PF_OP_OVER, PF_OP_STORE,
	PF_OP_LOAD,   PF_OP_ADD,    PF_OP_SUB,    PF_OP_MIN,  PF_OP_MAX,  PF_OP_LT,   PF_OP_LE,
	PF_OP_EQ,     PF_OP_SELECT, PF_OP_NEG,    PF_OP_ABS,  PF_OP_GSUM, PF_OP_GMAX, PF_OP_GRANK,
	PF_OP_GCOUNT, PF_OP_BSUM,   PF_OP_BRANK,  PF_OP_BPUT, PF_OP_BGET,
};

static void random_program(struct launch *l, uint64_t *state)
{
	uint32_t depth = 0, stored = 0;
	for (int length = 0; length < 60 || depth == 0; length++) {
		uint32_t op = exact_ops[random_bits(state) % (sizeof exact_ops / sizeof *exact_ops)];
		uint32_t operand = shapes[op].immediate ? random_bits(state) % 8 : 0,
			 takes = (uint32_t)shapes[op].takes;
		if (depth < takes || depth - takes + (uint32_t)shapes[op].leaves > PF_STACK_MAX ||
		    (op == PF_OP_LOAD && !(stored >> operand & 1)))
			continue;
		stored |= op == PF_OP_STORE ? 1u << operand : 0;
		depth += (uint32_t)shapes[op].leaves - takes;
		word(l, op, operand);
	}
	for (; depth > 1; depth--)
		word(l, PF_OP_ADD, 0);
	word(l, PF_OP_END, 0);
}

static void random_exact_programs(void **state)
{
	uint64_t seed = 5;
	(void)state;
	for (int round = 0; round < 400; round++) {
		struct launch l;
		launch_make(&l, 6, 5, &seed);
		for (uint32_t p = 0; p < PF_PAR_COUNT; p++)
			l.par[p] = (double)(random_bits(&seed) % 9) - 4;
		l.par[PF_PAR_DIVISOR] = 1;
		for (uint32_t i = 0; i < l.items; i++) {
			l.item[i].policy = -(int64_t)((uint64_t)(random_bits(&seed) % 9) << 32);
			l.item[i].reference = -(int64_t)((uint64_t)(random_bits(&seed) % 9) << 32);
			l.item[i].score = (float)(random_bits(&seed) % 5);
		}
		l.prog[0] = 2;
		for (uint32_t c = 0; c < 2; c++)
			for (uint32_t which = 0; which < 2; which++) {
				begin(&l, c, which);
				random_program(&l, &seed);
			}
		compare_launch(&l, "random program", 0);
		launch_free(&l);
	}
}

/* ---- components, divisor, groups ---- */
static void components_are_weighted(void **state)
{
	uint64_t seed = 7;
	struct launch l;
	(void)state;
	launch_make(&l, 20, 4, &seed);
	l.prog[0] = 4;
	l.par[PF_PAR_DIVISOR] = 8;
	for (uint32_t c = 0; c < 4; c++) {
		l.par[PF_PAR_COMPONENT + PF_PAR_STRIDE * c] = ldexp(1, (int)c);
		l.par[PF_PAR_COMPONENT + PF_PAR_STRIDE * c + 1 + c] = 3 + c;
		begin(&l, c, 0);
		word(&l, PF_OP_PAR, c);
		word(&l, PF_OP_END, 0);
		begin(&l, c, 1);
		word(&l, PF_OP_PAR, c);
		word(&l, PF_OP_NEG, 0);
		word(&l, PF_OP_END, 0);
	}
	run(&l);
	for (uint32_t i = 0; i < l.items; i++) {
		assert_true(l.out[i].loss == 3 * 1 + 4 * 2 + 5 * 4 + 6 * 8);
		assert_true(l.out[i].grad == -79.0 / 8);
		assert_true(l.out[i].status == 0 && l.out[i].reserved == 0);
	}
	launch_free(&l);
}

/* A loss per group is the first member's value; gradients stay the items' own */
static void losses_per_group(void **state)
{
	uint64_t seed = 8;
	struct launch l;
	(void)state;
	launch_make(&l, 12, 4, &seed);
	begin(&l, 0, 0);
	begin(&l, 0, 1);
	word(&l, PF_OP_SCORE, 0);
	word(&l, PF_OP_END, 0);
	l.prog[PF_PROG_COMPONENT + 2] = 0;
	compare_launch(&l, "loss per group", 0);
	for (uint32_t g = 0; g < l.groups; g++)
		for (uint32_t i = l.group[g]; i < l.group[g + 1]; i++) {
			assert_true(l.out[i].loss == (double)l.item[l.group[g]].score);
			assert_true(l.out[i].grad == (double)l.item[i].score);
		}
	launch_free(&l);
}

/* A bad member spoils its group, and only its group */
static void invalid_groups(void **state)
{
	uint64_t seed = 9;
	struct launch l;
	(void)state;
	launch_make(&l, 6, 1, &seed);
	l.group[1] = 1;
	l.group[2] = 1;
	l.group[3] = 2;
	l.group[4] = 4;
	l.group[5] = 5;
	begin(&l, 0, 0);
	begin(&l, 0, 1);
	word(&l, PF_OP_CONST, 0);
	word(&l, PF_OP_SCORE, 0);
	word(&l, PF_OP_DIV, 0);
	word(&l, PF_OP_END, 0);
	l.par[PF_PAR_CONST] = 1;
	for (int i = 0; i < 6; i++)
		l.item[i].score = 1;
	l.item[0].status = PF_ROW_MASKED;
	l.item[2].n = 0;
	l.item[3].status = PF_ROW_RANGE | PF_ROW_IGNORED;
	l.item[4].score = 0;
	l.item[5].status = PF_ROW_IGNORED;
	compare_launch(&l, "invalid groups", 0);
	static const uint32_t want[] = { PF_ITEM_BAD_ROW, 0, PF_ITEM_BAD_ROW | PF_ITEM_NO_TOKENS,
	                                 PF_ITEM_BAD_ROW | PF_ITEM_NO_TOKENS, PF_ITEM_NOT_FINITE, 0 };
	for (int i = 0; i < 6; i++)
		assert_int_equal(l.out[i].status, want[i]);
	l.par[PF_PAR_DIVISOR] = 0;
	run(&l);
	assert_int_equal(l.out[1].status, PF_ITEM_NOT_FINITE);
	launch_free(&l);
}

/* Sum over the positions of a group: k times what stands at rank k */
static void loops(void **state)
{
	uint64_t seed = 25;
	(void)state;
	for (uint32_t largest = 1; largest < 90; largest = largest * 3 + 1) {
		struct launch l;
		launch_make(&l, 9, largest, &seed);
		l.par[PF_PAR_CONST + 1] = 1;
		for (uint32_t which = 0; which < 2; which++) {
			begin(&l, 0, which);
			word(&l, PF_OP_CONST, 0);
			word(&l, PF_OP_STORE, 0);
			word(&l, PF_OP_CONST, 0);
			word(&l, PF_OP_LOOP, 0);
			word(&l, PF_OP_SCORE, 0);
			word(&l, PF_OP_GRANK, 0);
			word(&l, PF_OP_LOAD, 0);
			word(&l, PF_OP_EQ, 0);
			word(&l, PF_OP_LOAD, 0);
			word(&l, PF_OP_MUL, 0);
			word(&l, PF_OP_ADD, 0);
			word(&l, PF_OP_LOAD, 0);
			word(&l, PF_OP_CONST, 1);
			word(&l, PF_OP_ADD, 0);
			word(&l, PF_OP_STORE, 0);
			word(&l, PF_OP_NEXT, 0);
			word(&l, PF_OP_END, 0);
		}
		compare_launch(&l, "loop", 0);
		for (uint32_t g = 0; g < l.groups; g++) {        /* the ranks of a group, in some order */
			double sum = 0, n = l.group[g + 1] - l.group[g];
			for (uint32_t i = l.group[g]; i < l.group[g + 1]; i++)
				sum += l.out[i].loss;
			assert_true(sum == n * (n - 1) / 2);
		}
		launch_free(&l);
	}
}

static void largest_launch(void **state)
{
	uint64_t seed = 11;
	struct launch l;
	(void)state;
	launch_make(&l, PF_ITEMS_MAX, 1, &seed);
	assert_int_equal(l.items, PF_ITEMS_MAX);
	begin(&l, 0, 0);
	begin(&l, 0, 1);
	word(&l, PF_OP_U, 0);
	for (int i = 0; i < 900; i++)
		word(&l, i & 1 ? PF_OP_NEG : PF_OP_ABS, 0);
	word(&l, PF_OP_END, 0);
	compare_launch(&l, "largest launch", 0);
	launch_free(&l);
}

static void no_items(void **state)
{
	uint64_t seed = 13;
	struct launch l;
	(void)state;
	launch_make(&l, 0, 1, &seed);
	begin(&l, 0, 0);
	begin(&l, 0, 1);
	word(&l, PF_OP_GCOUNT, 0);
	word(&l, PF_OP_END, 0);
	run(&l);
	launch_free(&l);
}

/* ---- malformed ---- */
static void assert_refused(struct launch *l, const char *what)
{
	run(l);
	for (uint32_t i = 0; i < l->items; i++)
		if (l->out[i].status != PF_ITEM_BAD_PROGRAM || !isnan(l->out[i].loss) || l->out[i].grad != 0)
			fail_msg("not refused: %s", what);
}

static void malformed_programs(void **state)
{
	static const struct { const char *what; uint32_t word[12], words; } cases[] = {
		{ "no end", { PF_WORD(PF_OP_L, 0) }, 1 },
		{ "nothing at all", { 0 }, 0 },
		{ "empty result", { PF_WORD(PF_OP_END, 0) }, 1 },
		{ "two results", { PF_WORD(PF_OP_L, 0), PF_WORD(PF_OP_L, 0), PF_WORD(PF_OP_END, 0) }, 3 },
		{ "underflow", { PF_WORD(PF_OP_L, 0), PF_WORD(PF_OP_ADD, 0), PF_WORD(PF_OP_END, 0) }, 3 },
		{ "underflow of select", { PF_WORD(PF_OP_L, 0), PF_WORD(PF_OP_L, 0), PF_WORD(PF_OP_SELECT, 0) }, 3 },
		{ "underflow of gsum", { PF_WORD(PF_OP_GSUM, 0), PF_WORD(PF_OP_END, 0) }, 2 },
		{ "unknown opcode", { PF_WORD(PF_OP_COUNT, 0), PF_WORD(PF_OP_END, 0) }, 2 },
		{ "opcode 255", { 255, PF_WORD(PF_OP_END, 0) }, 2 },
		{ "constant", { PF_WORD(PF_OP_CONST, PF_CONSTS), PF_WORD(PF_OP_END, 0) }, 2 },
		{ "large constant", { PF_WORD(PF_OP_CONST, 0xffffff), PF_WORD(PF_OP_END, 0) }, 2 },
		{ "parameter", { PF_WORD(PF_OP_PAR, PF_PARAMS), PF_WORD(PF_OP_END, 0) }, 2 },
		{ "scalar", { PF_WORD(PF_OP_SCALAR, PF_PAR_SCALARS), PF_WORD(PF_OP_END, 0) }, 2 },
		{ "kind", { PF_WORD(PF_OP_IS, 8), PF_WORD(PF_OP_END, 0) }, 2 },
		{ "register", { PF_WORD(PF_OP_L, 0), PF_WORD(PF_OP_STORE, PF_REGISTERS), PF_WORD(PF_OP_L, 0), 0 }, 4 },
		{ "unwritten register", { PF_WORD(PF_OP_LOAD, 0), PF_WORD(PF_OP_END, 0) }, 2 },
		{ "operand where none is", { PF_WORD(PF_OP_L, 1), PF_WORD(PF_OP_END, 0) }, 2 },
		{ "operand of end", { PF_WORD(PF_OP_L, 0), PF_WORD(PF_OP_END, 1) }, 2 },
		{ "overflow", { PF_OP_L, PF_OP_L, PF_OP_L, PF_OP_L, PF_OP_L, PF_OP_L, PF_OP_L, PF_OP_L, PF_OP_L, 0 }, 10 },
		{ "loop without end", { PF_OP_L, PF_OP_LOOP, 0 }, 3 },
		{ "end of no loop", { PF_OP_L, PF_OP_NEXT, 0 }, 3 },
		{ "loop in a loop", { PF_OP_L, PF_OP_LOOP, PF_OP_LOOP, PF_OP_NEXT, PF_OP_NEXT, 0 }, 6 },
		{ "loop that grows", { PF_OP_LOOP, PF_OP_L, PF_OP_NEXT, 0 }, 4 },
		{ "loop that shrinks", { PF_OP_L, PF_OP_L, PF_OP_LOOP, PF_OP_ADD, PF_OP_NEXT, 0 }, 6 },
		{ "register of a later turn", { PF_OP_L, PF_OP_LOOP, PF_OP_LOAD, PF_OP_STORE, PF_OP_NEXT, 0 }, 6 },
		{ "overflow by over", { PF_OP_L, PF_OP_L, PF_OP_L, PF_OP_L, PF_OP_L, PF_OP_L, PF_OP_L, PF_OP_L, PF_OP_OVER }, 9 },
	};
	uint64_t seed = 15;
	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
		for (uint32_t which = 0; which < 2; which++) {         /* as value, as gradient */
			struct launch l;
			launch_make(&l, 5, 3, &seed);
			begin(&l, 0, !which);
			word(&l, PF_OP_L, 0);
			word(&l, PF_OP_END, 0);
			begin(&l, 0, which);
			for (uint32_t w = 0; w < cases[i].words; w++)
				l.prog[l.words++] = cases[i].word[w];
			assert_refused(&l, cases[i].what);
			launch_free(&l);
		}
}

static void malformed_headers(void **state)
{
	static const struct { const char *what; uint32_t at, value; } cases[] = {
		{ "no component", 0, 0 }, { "five components", 0, 5 }, { "very many components", 0, UINT32_MAX },
		{ "start in the header", PF_PROG_COMPONENT, 0 },
		{ "start before the code", PF_PROG_COMPONENT, PF_PROG_CODE - 1 },
		{ "start at the end", PF_PROG_COMPONENT + 1, PF_PROG_CODE + 2 },
		{ "start far away", PF_PROG_COMPONENT, UINT32_MAX },
		{ "second component without code", 0, 2 },
		{ "neither per item nor per group", PF_PROG_COMPONENT + 2, 2 },
	};
	uint64_t seed = 17;
	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct launch l;
		launch_make(&l, 5, 3, &seed);
		begin(&l, 0, 0);
		begin(&l, 0, 1);
		word(&l, PF_OP_L, 0);
		word(&l, PF_OP_END, 0);
		run(&l);
		assert_int_equal(l.out[0].status, 0);
		l.prog[cases[i].at] = cases[i].value;
		assert_refused(&l, cases[i].what);
		launch_free(&l);
	}
}

static void too_few_or_many_words(void **state)
{
	static const uint32_t words[] = {
		0, 1, PF_PROG_CODE - 1, PF_PROG_CODE, PF_PROG_CODE + 1, PF_PROG_MAX + 1, UINT32_MAX
	};
	uint64_t seed = 19;
	(void)state;
	for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
		struct launch l;
		launch_make(&l, 5, 3, &seed);
		begin(&l, 0, 0);
		begin(&l, 0, 1);
		word(&l, PF_OP_L, 0);
		word(&l, PF_OP_END, 0);
		l.words = words[i];
		assert_refused(&l, "number of words");
		launch_free(&l);
	}
}

static void malformed_groups(void **state)
{
	static const struct { const char *what; uint32_t group[4], groups; } cases[] = {
		{ "does not start at 0", { 1, 3, 6, 9 }, 3 }, { "descends", { 0, 6, 3, 9 }, 3 },
		{ "ends early", { 0, 3, 6, 8 }, 3 }, { "ends late", { 0, 3, 6, 10 }, 3 }, { "no group", { 0 }, 0 },
		{ "far away", { 0, UINT32_MAX, 6, 9 }, 3 }, { "too many", { 0 }, PF_ITEMS_MAX + 1 },
	};
	uint64_t seed = 21;
	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct launch l;
		launch_make(&l, 9, 1, &seed);
		begin(&l, 0, 0);
		begin(&l, 0, 1);
		word(&l, PF_OP_L, 0);
		word(&l, PF_OP_GSUM, 0);
		word(&l, PF_OP_END, 0);
		memcpy(l.group, cases[i].group, sizeof cases[i].group);
		l.groups = cases[i].groups;
		assert_refused(&l, cases[i].what);
		launch_free(&l);
	}
}

static void too_many_items(void **state)
{
	uint64_t seed = 23;
	struct launch l;
	(void)state;
	launch_make(&l, PF_ITEMS_MAX + 1, 1, &seed);
	l.groups = 1;
	l.group[1] = l.items;
	begin(&l, 0, 0);
	begin(&l, 0, 1);
	word(&l, PF_OP_L, 0);
	word(&l, PF_OP_END, 0);
	assert_refused(&l, "items");
	launch_free(&l);
}

/* ---- the host's machine, for steps that no launch holds ---- */

/* Every loss at a few points, chosen and rejected items of whatever group: the kernel's bits */
static void the_host_gives_the_kernels_bits(void **state)
{
	const struct pf_loss_row *row;
	(void)state;
	point_seed(19);
	for (unsigned r = 0; (row = pf_loss_row(r)) != NULL; r++)
		for (int k = 0; k < 6; k++) {
			struct pf_item_out kernel[ITEMS_MOST], host[ITEMS_MOST];
			struct pf_error error;
			struct point p;
			point_draw(&p, row, point_members(row->form), k < 4 ? 1 : 1000);
			if (k == 3)
				p.item[p.items - 1].n = 0;
			p.par[PF_PAR_COMPONENT] = 0.75;
			const struct pf_whole whole = { &p.program, p.par, p.item, p.group, p.items, GROUPS, host };
			assert_int_equal(pf_loss_whole(&whole, &error), 0);
			kernels->pref(p.par, p.program.word, p.item, p.group, kernel, p.program.words, p.items, GROUPS);
			if (memcmp(kernel, host, p.items * sizeof *host) != 0)
				fail_msg("loss %s: the host's machine gives other bits than the kernel", row->name);
		}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_operation), cmocka_unit_test(operations_at_the_ends),
		cmocka_unit_test(random_exact_programs), cmocka_unit_test(components_are_weighted),
		cmocka_unit_test(losses_per_group), cmocka_unit_test(invalid_groups), cmocka_unit_test(loops),
		cmocka_unit_test(largest_launch), cmocka_unit_test(no_items),
		cmocka_unit_test(malformed_programs), cmocka_unit_test(malformed_headers),
		cmocka_unit_test(too_few_or_many_words), cmocka_unit_test(malformed_groups),
		cmocka_unit_test(too_many_items),
		cmocka_unit_test(the_host_gives_the_kernels_bits),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
