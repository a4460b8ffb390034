/* Launches of kernel pref, word by word. */
#include <stdlib.h>
#include <string.h>
#include "tests/cmocka.h"
#include "tests/pref_launch.h"

static struct pf_item random_item(uint64_t *state)
{
	struct pf_item item = { 0 };
	item.policy = -(int64_t)((uint64_t)random_bits(state) << 6);
	item.reference = -(int64_t)((uint64_t)random_bits(state) << 6);
	item.old = -(int64_t)((uint64_t)random_bits(state) << 6);
	item.n = 1 + random_bits(state) % 50;
	item.kind = 1u << random_bits(state) % 4;
	item.score = (float)(4 * random_unit(state) - 2);
	item.margin = (float)(4 * random_unit(state) - 2);
	item.weight = (float)(random_unit(state) + 0.1);
	item.advantage = (float)(20 * random_unit(state) - 10);
	return item;
}

void pref_make(struct pref_launch *l, uint32_t groups, uint32_t largest, uint64_t *state)
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

void pref_free(struct pref_launch *l)
{
	free(l->item);
	free(l->out);
	free(l->group);
}

void pref_word(struct pref_launch *l, uint32_t op, uint32_t operand)
{
	assert_true(l->words < PF_PROG_MAX);
	l->prog[l->words++] = PF_WORD(op, operand);
}

void pref_begin(struct pref_launch *l, uint32_t c, uint32_t which)
{
	l->prog[PF_PROG_COMPONENT + 4 * c + which] = l->words;
	l->prog[PF_PROG_COMPONENT + 4 * c + 2] = 1;
}

void pref_run(struct pref_launch *l)
{
	memset(l->out, 0xaa, (l->items + 1) * sizeof *l->out);
	kernel_builds[0].pref(l->par, l->prog, l->item, l->group, l->out, l->words, l->items, l->groups);
	for (size_t i = 0; i < sizeof *l->out; i++)            /* nothing beyond the items */
		assert_int_equal(((unsigned char *)&l->out[l->items])[i], 0xaa);
}
