/* loss_gradient.c: the gradient program of every loss against finite differences of its value program, both on the
 * wide reference machine (tests/ref), at random points. The program itself says how near a point is to a branch (min,
 * max, abs, comparisons, ranks): nearer than 1e-3 another point is drawn, and no difference reaches across one. Every
 * branch is seen from both sides, clamps from inside. Factors that count as constants are frozen for the differences.
 * And what programs promise about members they do not look at. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "host/train/expr.h"
#include "loss_point.h"
#include "tests/cmocka.h"
#include "tests/seed.h"

enum { POINTS = 24, POINTS_MOST = 1000 };

/* Losses with a factor that counts as a constant, and their value with that factor from the margin, which point_freeze
 * makes equal to the item's sum */
#define FROZEN_RATIO "margin old - -20 max 20 min exp =w "
#define KL "r l - 80 min dup expm1 swap - beta * + "
#define BY_TOKENS "divisor * tokens /"
static const struct { const char *name, *value; } frozen[] = {
	{ "kto_pair", "is chosen bsum =k margin r - is chosen * bsum k / 0 max =c margin r - is rejected * bsum k / 0 max =d "
	              "u is chosen d c select - beta * sign * neg sigmoid is chosen|rejected * gsum 0.5 *" },
	{ "cispo", FROZEN_RATIO "w epsilon_high min epsilon_low max adv * l * neg " KL BY_TOKENS },
	{ "vespo", "margin old - -20 max 20 min gsum =h phi 0 == adv 0 < vespo_k_neg vespo_k_pos select h * "
	           "adv 0 < vespo_lambda_neg vespo_lambda_pos select 1 h 80 min exp - * + exp phi select "
	           "adv * l * neg " KL BY_TOKENS },
	{ "nash_md", "margin r - beta * score 0.5 - - l *" },
	{ "dft", "margin exp l * neg is chosen * " BY_TOKENS },
};

static const char *frozen_value(const struct pf_loss_row *row)
{
	for (size_t i = 0; i < sizeof frozen / sizeof *frozen; i++)
		if (strcmp(frozen[i].name, row->name) == 0)
			return frozen[i].value;
	return NULL;
}

/* Prompts as the last members of groups, where the loss counts them */
static uint32_t draw_members(struct point *p, const struct pf_loss_row *row, double wide)
{
	const struct pf_loss alone = { 1, { { .row = row, .weight = 1 } } };
	const uint32_t prompts = (uint32_t)pf_loss_prompts(&alone), members = point_members(row->form) + prompts;

	point_draw(p, row, members, wide);
	for (uint32_t i = members - 1; prompts && i < p->items; i += members)
		p->item[i] = point_item(PF_ITEM_PROMPT, wide);
	return members;
}

static void draw_point(struct point *p, const struct pf_loss_row *row, double wide)
{
	struct pf_loss_row other = *row;

	draw_members(p, row, wide);
	other.value = frozen_value(row);
	if (other.value) {
		point_freeze(p);
		point_program(p, &other);
	}
}

/* ---- one point ---- */

static const char *name_of(const struct pf_loss_row *row)
{
	return strcmp(row->name, "expr") ? row->name : row->title;
}

static int agrees(long double grad, long double numeric, long double error, long double size)
{
	const long double most = 1e-7L * (fabsl(grad) + 1e-6L * size + 1e-12L);

	return error <= most && fabsl(numeric - grad) <= most;
}

/* 1: too near to a kink */
static int check_item(struct point *p, uint32_t i, long double grad, const char *name, struct point_sides *sides)
{
	long double error, numeric;

	if (point_derivative(p, i, &numeric, &error, sides))
		return 1;
	if (!agrees(grad, numeric, error, point_size(p)))
		fail_msg("loss %s, item %u: gradient %.12Lg, differences of the value %.12Lg +- %.1Lg", name, i, grad,
		         numeric, error);
	return 0;
}

static int check_point(struct point *p, const char *name, struct point_sides *sides)
{
	long double grad[ITEMS_MOST];
	int near = 0;

	point_run(p, 1, grad);
	for (uint32_t i = 0; i < p->items; i++)
		near |= check_item(p, i, grad[i], name, sides);
	return near;
}

/* A branch that something moves and that was met on one side only; -1: none */
static int one_sided(const struct point *p, const struct point_sides *sides)
{
	for (uint32_t at = 0; at < p->program.words; at++)
		if (sides->seen[at] == 1 || sides->seen[at] == 2)
			return (int)at;
	return -1;
}

/* Points far from each other in every direction: what training meets, and clamps from inside. More of them until every
 * branch has been met on both sides */
static void check_loss(const struct pf_loss_row *row, int both_sides)
{
	static const double wide[] = { 1, 1, 1, 30, 1000 };
	struct point_sides sides = { { 0 } };
	struct point p;
	int near = 0;

	for (int point = 0; point < POINTS || (both_sides && one_sided(&p, &sides) >= 0); point++) {
		do
			draw_point(&p, row, wide[point % 5]);
		while (check_point(&p, name_of(row), &sides) && ++near < POINTS_MOST);
		if (near == POINTS_MOST)
			fail_msg("loss %s: hardly a point that is not at a kink", name_of(row));
		if (point == POINTS_MOST)
			fail_msg("loss %s: word %d of the program was met on one side of its branch only", name_of(row),
			         one_sided(&p, &sides) - (int)PF_PROG_CODE);
	}
}

static void gradients_are_derivatives(void **state)
{
	const struct pf_loss_row *row;

	(void)state;
	point_seed(seed_of(20240613));
	for (unsigned r = 0; (row = pf_loss_row(r)) != NULL; r++)
		check_loss(row, 1);
}

/* A slope that is off by a millionth, a clamp without its flat side, NaN */
static void mistakes_are_noticed(void **state)
{
	struct pf_loss_row wrong = *pf_loss_find("hinge");
	struct point p;
	long double grad[ITEMS_MOST], numeric, error;
	unsigned noticed = 0;

	(void)state;
	point_seed(seed_of(17));
	wrong.grad = "0 beta - sign *";
	for (int point = 0; point < POINTS; point++) {
		point_draw(&p, &wrong, 2, 30);
		point_run(&p, 1, grad);
		if (point_derivative(&p, 0, &numeric, &error, NULL))
			continue;
		assert_false(agrees(numeric * 1.000001L + 1e-9L, numeric, error, point_size(&p)) ||
		             agrees(NAN, numeric, error, 1) || agrees(grad[0], NAN, error, 1) ||
		             agrees(grad[0], numeric, NAN, 1));
		noticed += !agrees(grad[0], numeric, error, point_size(&p));
	}
	assert_true(noticed > 2 && noticed < POINTS);
}

/* Formulas over every operator, function and form */
static void formulas_have_their_derivatives(void **state)
{
	static const char *const formulas[] = {
		"softplus(-x)",
		"x^2 - 2*x + 1/(1 + x^2)",
		"(lw/nw - ll/nl - 0.3)^3",
		"max(0, 1 - x) + min(x, 0.1*lw)",
		"log(1e-3 + x^2) * abs(x - 0.2)",
		"expm1(-abs(x)) + log1p(x^2)",
		"where(x < 0.1, softplus(-2*x), exp(-x))",
		"tanh(x/p0) * sigmoid(lw - ll)",
		"k3((rw - lw)/nw) + k3((rl - ll)/nl)",
		"log1mexp(min(lw/nw, -0.01)) + log1mexp(min(ll/nl, -0.01))",
		"blend(sigmoid(x/p0), softplus(-x), exp(-x))",
		"blend(0.3 + 0.1*tanh(x), x^2, abs(lw - ll))",
		"-logsigmoid(x - margin)",
		"sqrt(1 + x^2)",
		"pow(1 + x^2, p1)",
		"(1 + x^2)^-2",
		"softplus(x)*softplus(-x)*softplus(2*x)*softplus(x/3)",
		"p0*x + p1*x^2 + p2*x^3 + p3*(lw - ll)/nw",
		"p0*x + p1*x^2 + p2*x^3 + p3*lw/nw + p4*ll/nl + p5*softplus(x) + p6*sigmoid(x) + p7*(lw - ll)/nw",
		"where(y, sigmoid(-beta*(l - r - z0)), 2*sigmoid(beta*(l - r - z0)))",
		"(l - r)^2/n + y*softplus(-x)",
		"where(y == 1, -l/n, -log1mexp(min(l/n, -1e-6)))",
		"gsum(exp(score - glse(score))*(glse(x) - x))",
		"gvar(x) + gmean(l/n)^2",
		"gmax(x) - gmean(x)",
		"(x - gmean(x))^2",
		"gsum(softplus(-x*score))/gcount",
		"glse(x) - gsum(x*score)",
		"sigmoid(x - gmax(x)) * score",
		"gsum(where(grank(score) == 0, softplus(-x), 0.1*x))",
		"gvar(gsum(x)*l)*0.001 + gsum(gmean(x))",
	};

	(void)state;
	point_seed(seed_of(31));
	for (size_t i = 0; i < sizeof formulas / sizeof *formulas; i++) {
		const struct pf_loss_row *row;
		struct pf_error error;
		if (pf_expr_row(formulas[i], strlen(formulas[i]), &row, &error))
			fail_msg("%s: %s", formulas[i], error.text);
		check_loss(row, 0);
	}
}

static void group_losses_stand_on_every_member(void **state)
{
	const struct pf_loss_row *row;
	struct point s;

	(void)state;
	point_seed(seed_of(7));
	for (unsigned r = 0; (row = pf_loss_row(r)) != NULL; r++) {
		long double value[ITEMS_MOST];
		const uint32_t members = draw_members(&s, row, 1);
		point_run(&s, 0, value);
		for (uint32_t i = 0; i < s.items && !row->per_item; i++)
			if (!(value[i] == value[i / members * members]))
				fail_msg(
					"loss %s leaves different values on the members of a group",
					row->name);
	}
}

/* The member behind those of the form changes nothing and gets no gradient */
static void check_ignored(const struct pf_loss_row *row, uint32_t kind)
{
	const uint32_t members = point_members(row->form) + 1;
	long double value[ITEMS_MOST], alone[ITEMS_MOST], grad[ITEMS_MOST];
	struct point s;

	point_draw(&s, row, members, 1);
	for (int again = 0; again < 2; again++) {
		for (uint32_t i = members - 1; i < s.items; i += members)
			s.item[i] = point_item(kind, 1);
		point_run(&s, 0, again ? alone : value);
	}
	point_run(&s, 1, grad);
	for (uint32_t i = 0; i < s.items; i++)
		if (!(alone[i] == value[i]) || (i % members == members - 1 && !(grad[i] == 0)))
			fail_msg("loss %s looks at a member of kind %u", row->name, kind);
}

/* Mixtures with triples and with likelihood of prompts rely on it */
static void losses_ignore_members_of_others(void **state)
{
	const struct pf_loss_row *row;

	(void)state;
	point_seed(seed_of(11));
	for (unsigned r = 0; (row = pf_loss_row(r)) != NULL; r++) {
		const struct pf_loss alone = { 1, { { .row = row, .weight = 1 } } };
		if (row->form == PF_FORM_PAIR)
			check_ignored(row, PF_ITEM_EXTRA);
		if ((row->form == PF_FORM_PAIR || row->form == PF_FORM_TRIPLE ||
		     (row->form == PF_FORM_TOKENS && !row->per_token)) && !pf_loss_prompts(&alone))
			check_ignored(row, PF_ITEM_PROMPT);
	}
}

/* Groups of different sizes share a launch, whose loops are as long as the largest of them */
static void loops_stop_at_the_end_of_a_list(void **state)
{
	const struct pf_loss_row *row;
	struct point s;

	(void)state;
	point_seed(seed_of(13));
	for (unsigned r = 0; (row = pf_loss_row(r)) != NULL; r++) {
		long double want[2][ITEMS_MOST], got[ITEMS_MOST];
		if (row->form != PF_FORM_LIST)
			continue;
		point_draw(&s, row, 2, 1);
		for (unsigned which = 0; which < 2; which++)
			point_run(&s, which, want[which]);
		for (uint32_t i = 0; i < 4; i++)         /* a third group of six instead of two */
			s.item[s.items++] = point_item(PF_ITEM_CHOSEN, 1);
		s.group[GROUPS] = s.items;
		for (unsigned which = 0; which < 2; which++) {
			point_run(&s, which, got);
			for (uint32_t i = 0; i < s.group[2]; i++)
				if (!(fabsl(got[i] - want[which][i]) <= 1e-15L * (1 + fabsl(want[which][i]))))
					fail_msg("loss %s depends on the length of other lists", row->name);
		}
	}
}

int main(int argc, char **argv)
{
	if (seed_take(&argc, argv) || argc > 1)
		return 2;
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(gradients_are_derivatives),
		cmocka_unit_test(mistakes_are_noticed),
		cmocka_unit_test(formulas_have_their_derivatives),
		cmocka_unit_test(group_losses_stand_on_every_member),
		cmocka_unit_test(losses_ignore_members_of_others),
		cmocka_unit_test(loops_stop_at_the_end_of_a_list),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
