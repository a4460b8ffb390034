/* pref called directly with malformed programs, headers, groups and tables: every item is refused. */
#include <math.h>
#include <string.h>
#include "tests/cmocka.h"
#include "tests/pref_launch.h"

static void assert_refused(struct pref_launch *l, const char *what)
{
	pref_run(l);
	for (uint32_t i = 0; i < l->items; i++)
		if (l->out[i].status != PF_ITEM_BAD_PROGRAM || !isnan(l->out[i].loss) || l->out[i].grad != 0)
			fail_msg("not refused: %s", what);
}

static const uint32_t just_l[] = { PF_OP_L, PF_OP_END };

/* Random items and a program of one component, whose value and gradient are both `code`, up to its end */
static void make_code(struct pref_launch *l, uint32_t groups, uint32_t largest, uint64_t *seed, const uint32_t *code)
{
	pref_make(l, groups, largest, seed);
	pref_begin(l, 0, 0);
	pref_begin(l, 0, 1);
	do
		pref_word(l, *code, 0);
	while (*code++ != PF_OP_END);
}

static const struct { const char *what; uint32_t word[12], words; } programs[] = {
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

static void malformed_programs(void **state)
{
	uint64_t seed = 15;
	(void)state;
	for (size_t i = 0; i < sizeof programs / sizeof *programs; i++)
		for (uint32_t which = 0; which < 2; which++) {         /* as value, as gradient */
			struct pref_launch l;
			make_code(&l, 5, 3, &seed, just_l);
			pref_begin(&l, 0, which);
			for (uint32_t w = 0; w < programs[i].words; w++)
				l.prog[l.words++] = programs[i].word[w];
			assert_refused(&l, programs[i].what);
			pref_free(&l);
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
		struct pref_launch l;
		make_code(&l, 5, 3, &seed, just_l);
		pref_run(&l);
		assert_int_equal(l.out[0].status, 0);
		l.prog[cases[i].at] = cases[i].value;
		assert_refused(&l, cases[i].what);
		pref_free(&l);
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
		struct pref_launch l;
		make_code(&l, 5, 3, &seed, just_l);
		l.words = words[i];
		assert_refused(&l, "number of words");
		pref_free(&l);
	}
}

static void malformed_groups(void **state)
{
	static const struct { const char *what; uint32_t group[4], groups; } cases[] = {
		{ "does not start at 0", { 1, 3, 6, 9 }, 3 }, { "descends", { 0, 6, 3, 9 }, 3 },
		{ "ends early", { 0, 3, 6, 8 }, 3 }, { "ends late", { 0, 3, 6, 10 }, 3 }, { "no group", { 0 }, 0 },
		{ "far away", { 0, UINT32_MAX, 6, 9 }, 3 }, { "too many", { 0 }, PF_ITEMS_MAX + 1 },
	};
	static const uint32_t sum_of_l[] = { PF_OP_L, PF_OP_GSUM, PF_OP_END };
	uint64_t seed = 21;
	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct pref_launch l;
		make_code(&l, 9, 1, &seed, sum_of_l);
		memcpy(l.group, cases[i].group, sizeof cases[i].group);
		l.groups = cases[i].groups;
		assert_refused(&l, cases[i].what);
		pref_free(&l);
	}
}

static void too_many_items(void **state)
{
	uint64_t seed = 23;
	struct pref_launch l;
	(void)state;
	make_code(&l, PF_ITEMS_MAX + 1, 1, &seed, just_l);
	l.groups = 1;
	l.group[1] = l.items;
	assert_refused(&l, "items");
	pref_free(&l);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(malformed_programs),    cmocka_unit_test(malformed_headers),
		cmocka_unit_test(too_few_or_many_words), cmocka_unit_test(malformed_groups),
		cmocka_unit_test(too_many_items),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
