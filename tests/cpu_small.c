/* seq_sum, coef and pref on cpu and sim against the reference: integers exact, double within 1e-11 of its operands. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "tests/cmocka.h"
#include "tests/cpu_run.h"
#include "tests/ref/ref.h"

static const char *const specs[] = { "cpu", "sim" };
enum { SPECS = sizeof specs / sizeof *specs };

static uint64_t state = 0x9e3779b97f4a7c15ull;

static double uniform(void)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return (double)(state >> 11) * 0x1p-53;
}

static void close_to(double got, long double want, double tolerance)
{
	if (isnan(want) ? !isnan(got) : !(fabsl(got - want) <= tolerance))
		fail_msg("%.17g, should be %.17Lg within %.3g", got, want, tolerance);
}

/* ---- seq_sum ---- */
enum { ROWS = 500, SEQS = 40 };

static struct pf_row make_row(uint32_t t)
{
	static const uint32_t status[] = { PF_ROW_IGNORED, PF_ROW_RANGE, PF_ROW_EMPTY, PF_ROW_TARGET, PF_ROW_MASKED };
	struct pf_row row = { .max = 3, .target = (float)(t % 3 ? uniform() : 3) };
	row.logp_q32 = -(int64_t)(uniform() * 20 * 0x1p32);
	row.entropy = (float)(uniform() * 11);
	row.mean = t % 17 ? (float)(uniform() * 10 - 5) : -INFINITY;
	row.log_sum_p2 = (float)(-uniform() * 9);
	if (t % 7 == 0 || t >= 400) {
		row.status = t % 7 ? 0 : status[t / 7 % 5];
		row.logp_q32 = row.status & ~(uint32_t)PF_ROW_IGNORED ? PF_Q32_NONE : row.logp_q32;
	}
	return row;
}

static void make_spans(struct pf_span *span, uint32_t rows, uint32_t seqs)
{
	uint32_t at = 0;
	for (uint32_t b = 0; b < seqs; b++) {
		uint32_t length = (uint32_t)(uniform() * 2 * rows / seqs);
		uint32_t end = at + length < rows ? at + length : rows;
		span[b] = (struct pf_span){ at, end, at + (uint32_t)(uniform() * (end - at + 1)), 0 };
		at = end;
	}
}

static void check_seq(const struct pf_seq *got, const struct ref_seq *want)
{
	const double slack = (want->n + 1) * 0x1p-31;
	assert_true(got->logp == want->logp && got->logp_tail == want->logp_tail);
	assert_int_equal(got->n, want->n);
	assert_int_equal(got->hits, want->hits);
	assert_int_equal(got->status, want->status);
	close_to(ldexp((double)got->entropy, -32), want->entropy, slack);
	close_to(ldexp((double)got->mean_logit, -32), want->mean_logit, slack);
	close_to(ldexp((double)got->log_weight, -32), want->log_weight, slack);
}

static void test_seq_sum(void **unused)
{
	struct pf_row row[ROWS];
	struct pf_span span[SEQS];
	struct pf_seq got[SEQS];
	(void)unused;
	for (uint32_t t = 0; t < ROWS; t++)
		row[t] = make_row(t);
	make_spans(span, ROWS, SEQS - 4);
	span[SEQS - 4] = (struct pf_span){ 0, ROWS, ROWS, 0 };
	span[SEQS - 3] = (struct pf_span){ 0, ROWS + 1, 0, 0 };        /* past the rows */
	span[SEQS - 2] = (struct pf_span){ 5, 4, 5, 0 };
	span[SEQS - 1] = (struct pf_span){ 5, 9, 10, 0 };
	for (int i = 0; i < SPECS; i++) {
		struct pf_device *device = run_open(specs[i], 2);
		run_seq_sum(device, row, ROWS, span, SEQS, got);
		for (uint32_t b = 0; b < SEQS; b++) {
			struct ref_seq want;
			ref_seq_sum(row, ROWS, &span[b], &want);
			check_seq(&got[b], &want);
		}
		pf_device_close(device);
	}
}

/* ---- coef ---- */
static void test_coef(void **unused)
{
	struct pf_item_out item[SEQS] = { 0 };
	struct pf_span span[SEQS];
	float got[ROWS];
	double want[ROWS];
	(void)unused;
	for (uint32_t b = 0; b < SEQS; b++)
		item[b].grad = b % 5 ? uniform() - 0.5 : b % 2 ? 0 : 1e-42;
	make_spans(span, ROWS, SEQS);
	ref_coef(item, span, SEQS, ROWS, 0.25, want);
	for (int i = 0; i < SPECS; i++) {
		struct pf_device *device = run_open(specs[i], 1);
		run_coef(device, item, span, SEQS, ROWS, 0.25f, got);
		for (uint32_t t = 0; t < ROWS; t++)
			close_to((double)got[t], want[t], fabs(want[t]) * 0x1p-24 + 0x1p-126);
		pf_device_close(device);
	}
}

/* ---- pref ---- */
enum { ITEMS = 64, GROUPS = 12 };

struct table {
	double         par[PF_PAR_COUNT];
	uint32_t       prog[PF_PROG_MAX], words, group[GROUPS + 1];
	struct pf_item item[ITEMS];
};

/* Appends "mnemonic[:operand] ..."; the first unknown word fails the test */
static uint32_t assemble(struct table *t, const char *text)
{
	static const char *const names[] = {
#define NAME(symbol, mnemonic, takes, leaves, imm, brief) mnemonic,
		PF_OPS(NAME)
#undef NAME
	};
	uint32_t start = t->words, length;
	for (char word[32]; sscanf(text, "%31s%n", word, (int *)&length) == 1; text += length) {
		uint32_t op = 0, operand = 0;
		char *colon = strchr(word, ':');
		if (colon) {
			*colon = 0;
			operand = (uint32_t)atoi(colon + 1);
		}
		while (op < PF_OP_COUNT && strcmp(names[op], word) != 0)
			op++;
		assert_true(op < PF_OP_COUNT);
		t->prog[t->words++] = PF_WORD(op, operand);
	}
	t->prog[t->words++] = PF_OP_END;
	return start;
}

static void add_component(struct table *t, double weight, const char *value, const char *grad, uint32_t per_item)
{
	uint32_t c = t->prog[0]++, *head = &t->prog[PF_PROG_COMPONENT + 4 * c];
	head[0] = assemble(t, value);
	head[1] = assemble(t, grad);
	head[2] = per_item;
	t->par[PF_PAR_COMPONENT + PF_PAR_STRIDE * c] = weight;
	for (unsigned i = 0; i < PF_PARAMS; i++)
		t->par[PF_PAR_COMPONENT + PF_PAR_STRIDE * c + 1 + i] = uniform() + c;
}

static struct table make_table(void)
{
	static const uint32_t size[GROUPS] = { 1, 2, 2, 3, 17, 0, 4, 1, 8, 2, 20, 4 };
	struct table t = { .words = PF_PROG_CODE };
	t.par[PF_PAR_DIVISOR] = 7;
	t.par[PF_PAR_Z0] = 0.3;
	for (unsigned i = 0; i < PF_CONSTS; i++)
		t.par[PF_PAR_CONST + i] = uniform() * 4 - 2;
	for (uint32_t g = 0; g < GROUPS; g++)
		t.group[g + 1] = t.group[g] + size[g];
	for (uint32_t i = 0; i < ITEMS; i++) {
		double reference = -200 * uniform();
		t.item[i] = (struct pf_item){
			.policy = llrint((reference + 6 * uniform() - 3) * 0x1p32),
			.reference = llrint(reference * 0x1p32),
			.old = llrint((reference + 0.1 * uniform()) * 0x1p32),
			.n = 1 + (uint32_t)(uniform() * 50),
			.kind = 1u << i % 3,
			.score = (float)(i % 5),
			.margin = (float)uniform(),
			.weight = (float)uniform(),
			.advantage = (float)(uniform() - 0.5),
		};
	}
	assert_int_equal(t.group[GROUPS], ITEMS);
	return t;
}

static void check_table(const struct table *t)
{
	struct ref_item_out want[ITEMS];
	ref_pref(t->par, t->prog, t->item, ITEMS, t->group, GROUPS, want);
	for (int i = 0; i < SPECS; i++) {
		struct pf_item_out got[ITEMS];
		struct pf_device *device = run_open(specs[i], 1);
		run_pref(device, t->par, t->prog, t->words, t->item, ITEMS, t->group, GROUPS, got);
		for (uint32_t k = 0; k < ITEMS; k++) {
			assert_int_equal(got[k].status, want[k].status);
			assert_int_equal(got[k].group, want[k].group);
			close_to(got[k].loss, want[k].loss, 1e-11 * (1 + fabs((double)want[k].loss)));
			close_to(got[k].grad, want[k].grad, 1e-11 * (1 + fabs((double)want[k].grad)));
		}
		pf_device_close(device);
	}
}

/* Each operation at least once, in and out of its domain */
static const char *const programs[] = {
	"const:0", "const:31", "par:0", "par:7", "scalar:1", "l", "r", "old", "u", "n", "sign", "is:1", "is:6", "is:7",
	"score", "margin", "weight", "adv",
	"l dup *", "l r drop", "l r swap -", "l r over - -", "u store:7 r load:7 +", "u store:0 l store:0 load:0",
	"l r +", "u const:1 *", "u weight /", "u score /", "u adv min", "u adv max", "u adv <", "score const:2 <=",
	"score const:3 ==", "score u adv select", "u neg", "u abs", "u exp", "weight log", "u log",
	"adv log1p", "u expm1", "u sigmoid", "u softplus", "weight neg log1mexp", "l log1mexp", "l neg exp",
	"u gsum", "u gmean", "u gmax", "l glse", "u gvar", "score grank", "u grank", "gcount",
	"u log gmax", "u log grank", "u log weight min", "u log weight max",
	"u par:1 * softplus sign * gsum gcount /", "u l r old n score margin + + + + + +",
};

static void test_operations(void **unused)
{
	(void)unused;
	for (unsigned i = 0; i < sizeof programs / sizeof *programs; i++)
		for (uint32_t per_item = 0; per_item < 2; per_item++) {
			struct table t = make_table();
			add_component(&t, 0.75, programs[i], "weight", per_item);
			check_table(&t);
		}
}

static void test_components(void **unused)
{
	struct table t = make_table();
	(void)unused;
	add_component(&t, 1.5, "par:0 u * neg softplus", "par:0 u * sigmoid", 1);
	add_component(&t, -0.5, "u gsum", "const:3", 0);
	add_component(&t, 2, "par:7 u * exp", "par:7 u *", 1);
	add_component(&t, 0, "adv", "adv u *", 0);
	check_table(&t);
}

static void test_bad_members(void **unused)
{
	struct table t = make_table();
	(void)unused;
	t.item[0].status = PF_ROW_MASKED;
	t.item[2].n = 0;
	t.item[6].n = 0;
	t.item[7].status = PF_ROW_RANGE;
	t.item[30].status = PF_ROW_IGNORED;            /* no matter */
	add_component(&t, 1, "u gsum", "u", 0);
	check_table(&t);
}

static void test_not_finite(void **unused)
{
	struct table t = make_table();
	(void)unused;
	t.par[PF_PAR_CONST] = 1e300;
	add_component(&t, 1, "u", "score const:0 * const:0 *", 1);
	check_table(&t);
}

/* ---- malformed tables: every item is refused ---- */
static void check_refused(const struct table *t)
{
	for (int i = 0; i < SPECS; i++) {
		struct pf_item_out got[ITEMS];
		struct pf_device *device = run_open(specs[i], 1);
		run_pref(device, t->par, t->prog, t->words, t->item, ITEMS, t->group, GROUPS, got);
		for (uint32_t k = 0; k < ITEMS; k++) {
			assert_int_equal(got[k].status, PF_ITEM_BAD_PROGRAM);
			assert_true(isnan(got[k].loss) && got[k].grad == 0);
		}
		pf_device_close(device);
	}
}

static void test_malformed_code(void **unused)
{
	static const char *const codes[] = {
		"",         "l l",         "+",
		"l drop",   "l +",         "l l l l l l l l l drop drop drop drop drop drop drop drop",
		"const:32", "par:8",       "scalar:8",
		"load:0",   "l store:8 l", "is:8",
		"l:1",      "l exp:2",     "l store:1 load:2",
	};
	(void)unused;
	for (unsigned i = 0; i < sizeof codes / sizeof *codes; i++) {
		struct table t = make_table();
		add_component(&t, 1, "u", codes[i], 1);
		check_refused(&t);
	}
}

static void test_malformed_tables(void **unused)
{
	(void)unused;
	for (int i = 0; i < 9; i++) {
		struct table t = make_table();
		add_component(&t, 1, "u", "u", 1);
		switch (i) {
		case 0: t.prog[0] = 0; break;
		case 1: t.prog[0] = 5; break;
		case 2: t.prog[PF_PROG_COMPONENT] = 0; break;
		case 3: t.prog[PF_PROG_COMPONENT + 1] = t.words; break;
		case 4: t.prog[PF_PROG_COMPONENT + 2] = 2; break;
		case 5: t.prog[t.words - 1] = PF_OP_COUNT; break;
		case 6: t.words--; break;
		case 7: t.group[3] = 60; break;
		case 8: t.group[0] = 1; break;
		}
		check_refused(&t);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_seq_sum), cmocka_unit_test(test_coef), cmocka_unit_test(test_operations),
		cmocka_unit_test(test_components), cmocka_unit_test(test_bad_members),
		cmocka_unit_test(test_not_finite),
		cmocka_unit_test(test_malformed_code), cmocka_unit_test(test_malformed_tables),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
