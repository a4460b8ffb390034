/* pref called directly: every operation against the reference, the stack by random exact programs, components, weights,
 * invalid groups, the largest launch; the host's machine beside it. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "tests/cmocka.h"
#include "host/train/loss_whole.h"
#include "tests/loss_point.h"
#include "tests/pref_launch.h"
#include "tests/ref/ref.h"

#define BOUND 0x1p-48                  /* relative error of one operation; of a sum, relative to the sum of sizes */

static const struct kernel_build *const kernels = &kernel_builds[0];

/* ---- every operation ---- */
struct shape { const char *name; int takes, leaves, immediate; };
static const struct shape shapes[PF_OP_COUNT] = {
#define SHAPE(symbol, mnemonic, takes, leaves, imm, text) { mnemonic, takes, leaves, imm },
	PF_OPS(SHAPE)
#undef SHAPE
};

/* Operands on the stack that suit the operation: fields of the item, made positive or negative where it needs that */
static void push_operands(struct pref_launch *l, uint32_t op)
{
	static const uint32_t fields[3] = { PF_OP_SCORE, PF_OP_MARGIN, PF_OP_ADV };
	for (int i = 0; i < shapes[op].takes; i++)
		if (i == 1 && op >= PF_OP_BPUT)
			pref_word(l, PF_OP_N, 0);                   /* an index, sometimes beyond the items */
		else
			pref_word(l,
			     op == PF_OP_EXP || op == PF_OP_SIGMOID || op == PF_OP_SOFTPLUS || op == PF_OP_GLSE
			             ? PF_OP_ADV
			             : fields[i],
			     0);
	if (op == PF_OP_LOG || op == PF_OP_LOG1P)
		pref_word(l, PF_OP_ABS, 0);
	if (op == PF_OP_LOG1MEXP) {
		pref_word(l, PF_OP_ABS, 0);
		pref_word(l, PF_OP_NEG, 0);
	}
}

static void push_operation(struct pref_launch *l, uint32_t op, uint32_t operand)
{
	push_operands(l, op);
	if (op == PF_OP_LOAD) {
		pref_word(l, PF_OP_L, 0);
		pref_word(l, PF_OP_STORE, operand);
	}
	pref_word(l, op, operand);
	if (op == PF_OP_STORE)
		pref_word(l, PF_OP_LOAD, operand);
	if (op == PF_OP_DROP)
		pref_word(l, PF_OP_R, 0);
	for (int left = shapes[op].leaves; left > 1; left--) {
		pref_word(l, PF_OP_CONST, 3);
		pref_word(l, PF_OP_MUL, 0);
		pref_word(l, PF_OP_SUB, 0);
	}
	pref_word(l, PF_OP_END, 0);
}

static double largest_size(const struct pref_launch *l)
{
	double size = 0;
	for (uint32_t i = 0; i < l->items; i++)
		size = fmax(size, fabs((double)l->item[i].score) + fabs((double)l->item[i].advantage));
	return size;
}

static void compare_launch(struct pref_launch *l, const char *name, double slack)
{
	struct ref_item_out *want = calloc(l->items + 1, sizeof *want);
	assert_non_null(want);
	pref_run(l);
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
				struct pref_launch l;
				pref_make(&l, 30, largest, &seed);
				for (uint32_t p = 0; p < PF_PAR_COUNT; p++)
					l.par[p] = 4 * random_unit(&seed) - 1.5;
				pref_begin(&l, 0, 0);
				push_operation(&l, op, operand);
				pref_begin(&l, 0, 1);
				push_operation(&l, op, operand);
				const double summed = op == PF_OP_BSUM ? 30 * 60 : op >= PF_OP_GSUM ? 60 : 0;
				compare_launch(&l, shapes[op].name, summed * largest_size(&l) * BOUND);
				pref_free(&l);
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
		struct pref_launch l;
		pref_make(&l, 1, 1, &seed);
		l.par[PF_PAR_CONST] = cases[i].a;
		l.par[PF_PAR_CONST + 1] = cases[i].b;
		pref_begin(&l, 0, 0);
		pref_begin(&l, 0, 1);
		pref_word(&l, PF_OP_CONST, 0);
		pref_word(&l, PF_OP_CONST, 1);
		pref_word(&l, cases[i].op, 0);
		pref_word(&l, PF_OP_END, 0);
		pref_run(&l);
		if (isfinite(cases[i].want))
			assert_true(l.out[0].loss == cases[i].want && l.out[0].grad == cases[i].want &&
			            !l.out[0].status);
		else
			assert_true(isnan(l.out[0].loss) && l.out[0].grad == 0 &&
			            l.out[0].status == PF_ITEM_NOT_FINITE);
		pref_free(&l);
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

static void random_program(struct pref_launch *l, uint64_t *state)
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
		pref_word(l, op, operand);
	}
	for (; depth > 1; depth--)
		pref_word(l, PF_OP_ADD, 0);
	pref_word(l, PF_OP_END, 0);
}

static void random_exact_programs(void **state)
{
	uint64_t seed = 5;
	(void)state;
	for (int round = 0; round < 400; round++) {
		struct pref_launch l;
		pref_make(&l, 6, 5, &seed);
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
				pref_begin(&l, c, which);
				random_program(&l, &seed);
			}
		compare_launch(&l, "random program", 0);
		pref_free(&l);
	}
}

/* ---- components, divisor, groups ---- */
static void components_are_weighted(void **state)
{
	uint64_t seed = 7;
	struct pref_launch l;
	(void)state;
	pref_make(&l, 20, 4, &seed);
	l.prog[0] = 4;
	l.par[PF_PAR_DIVISOR] = 8;
	for (uint32_t c = 0; c < 4; c++) {
		l.par[PF_PAR_COMPONENT + PF_PAR_STRIDE * c] = ldexp(1, (int)c);
		l.par[PF_PAR_COMPONENT + PF_PAR_STRIDE * c + 1 + c] = 3 + c;
		pref_begin(&l, c, 0);
		pref_word(&l, PF_OP_PAR, c);
		pref_word(&l, PF_OP_END, 0);
		pref_begin(&l, c, 1);
		pref_word(&l, PF_OP_PAR, c);
		pref_word(&l, PF_OP_NEG, 0);
		pref_word(&l, PF_OP_END, 0);
	}
	pref_run(&l);
	for (uint32_t i = 0; i < l.items; i++) {
		assert_true(l.out[i].loss == 3 * 1 + 4 * 2 + 5 * 4 + 6 * 8);
		assert_true(l.out[i].grad == -79.0 / 8);
		assert_true(l.out[i].status == 0 && l.out[i].reserved == 0);
	}
	pref_free(&l);
}

/* A loss per group is the first member's value; gradients stay the items' own */
static void losses_per_group(void **state)
{
	uint64_t seed = 8;
	struct pref_launch l;
	(void)state;
	pref_make(&l, 12, 4, &seed);
	pref_begin(&l, 0, 0);
	pref_begin(&l, 0, 1);
	pref_word(&l, PF_OP_SCORE, 0);
	pref_word(&l, PF_OP_END, 0);
	l.prog[PF_PROG_COMPONENT + 2] = 0;
	compare_launch(&l, "loss per group", 0);
	for (uint32_t g = 0; g < l.groups; g++)
		for (uint32_t i = l.group[g]; i < l.group[g + 1]; i++) {
			assert_true(l.out[i].loss == (double)l.item[l.group[g]].score);
			assert_true(l.out[i].grad == (double)l.item[i].score);
		}
	pref_free(&l);
}

/* A bad member spoils its group, and only its group */
static void invalid_groups(void **state)
{
	uint64_t seed = 9;
	struct pref_launch l;
	(void)state;
	pref_make(&l, 6, 1, &seed);
	l.group[1] = 1;
	l.group[2] = 1;
	l.group[3] = 2;
	l.group[4] = 4;
	l.group[5] = 5;
	pref_begin(&l, 0, 0);
	pref_begin(&l, 0, 1);
	pref_word(&l, PF_OP_CONST, 0);
	pref_word(&l, PF_OP_SCORE, 0);
	pref_word(&l, PF_OP_DIV, 0);
	pref_word(&l, PF_OP_END, 0);
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
	pref_run(&l);
	assert_int_equal(l.out[1].status, PF_ITEM_NOT_FINITE);
	pref_free(&l);
}

/* Sum over the positions of a group: k times what stands at rank k */
static void loops(void **state)
{
	uint64_t seed = 25;
	(void)state;
	for (uint32_t largest = 1; largest < 90; largest = largest * 3 + 1) {
		struct pref_launch l;
		pref_make(&l, 9, largest, &seed);
		l.par[PF_PAR_CONST + 1] = 1;
		for (uint32_t which = 0; which < 2; which++) {
			pref_begin(&l, 0, which);
			pref_word(&l, PF_OP_CONST, 0);
			pref_word(&l, PF_OP_STORE, 0);
			pref_word(&l, PF_OP_CONST, 0);
			pref_word(&l, PF_OP_LOOP, 0);
			pref_word(&l, PF_OP_SCORE, 0);
			pref_word(&l, PF_OP_GRANK, 0);
			pref_word(&l, PF_OP_LOAD, 0);
			pref_word(&l, PF_OP_EQ, 0);
			pref_word(&l, PF_OP_LOAD, 0);
			pref_word(&l, PF_OP_MUL, 0);
			pref_word(&l, PF_OP_ADD, 0);
			pref_word(&l, PF_OP_LOAD, 0);
			pref_word(&l, PF_OP_CONST, 1);
			pref_word(&l, PF_OP_ADD, 0);
			pref_word(&l, PF_OP_STORE, 0);
			pref_word(&l, PF_OP_NEXT, 0);
			pref_word(&l, PF_OP_END, 0);
		}
		compare_launch(&l, "loop", 0);
		for (uint32_t g = 0; g < l.groups; g++) {        /* the ranks of a group, in some order */
			double sum = 0, n = l.group[g + 1] - l.group[g];
			for (uint32_t i = l.group[g]; i < l.group[g + 1]; i++)
				sum += l.out[i].loss;
			assert_true(sum == n * (n - 1) / 2);
		}
		pref_free(&l);
	}
}

static void largest_launch(void **state)
{
	uint64_t seed = 11;
	struct pref_launch l;
	(void)state;
	pref_make(&l, PF_ITEMS_MAX, 1, &seed);
	assert_int_equal(l.items, PF_ITEMS_MAX);
	pref_begin(&l, 0, 0);
	pref_begin(&l, 0, 1);
	pref_word(&l, PF_OP_U, 0);
	for (int i = 0; i < 900; i++)
		pref_word(&l, i & 1 ? PF_OP_NEG : PF_OP_ABS, 0);
	pref_word(&l, PF_OP_END, 0);
	compare_launch(&l, "largest launch", 0);
	pref_free(&l);
}

static void no_items(void **state)
{
	uint64_t seed = 13;
	struct pref_launch l;
	(void)state;
	pref_make(&l, 0, 1, &seed);
	pref_begin(&l, 0, 0);
	pref_begin(&l, 0, 1);
	pref_word(&l, PF_OP_GCOUNT, 0);
	pref_word(&l, PF_OP_END, 0);
	pref_run(&l);
	pref_free(&l);
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
		cmocka_unit_test(the_host_gives_the_kernels_bits),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
