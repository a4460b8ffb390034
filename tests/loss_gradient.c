/* loss_gradient.c: the gradient program of every loss against finite differences of its value
 * program, both on the wide reference machine (tests/ref), at random points; and what programs
 * promise about members they do not look at. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "host/train/expr.h"
#include "host/train/loss_program.h"
#include "tests/cmocka.h"
#include "tests/ref/ref.h"
#include "tests/seed.h"

enum { POINTS = 40, KINKS_MOST = 2, GROUPS = 3, LIST = 4, ITEMS_MOST = GROUPS * LIST, LEVELS = 11 };

/* A step of GROUPS groups of one loss */
struct step {
	struct pf_loss        loss;
	struct pf_loss_batch  batch;
	struct pf_program     program;
	double                par[PF_PAR_COUNT];
	struct pf_item        item[ITEMS_MOST];
	uint32_t              group[GROUPS + 1], items;
};

static uint64_t seed;

/* splitmix64, in [low, high) */
static double draw(double low, double high)
{
	uint64_t z = seed += 0x9e3779b97f4a7c15u;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
	z = (z ^ z >> 27) * 0x94d049bb133111ebu;
	return low + (high - low) * ldexp((double)((z ^ z >> 31) >> 11), -53);
}

static int64_t q32(double nats)
{
	return (int64_t)llrint(ldexp(nats, 32));
}

/* ---- random steps ---- */

static double draw_param(const struct pf_loss_param *param)
{
	double low = isfinite(param->low) ? param->low : -1,
	       high = isfinite(param->high) ? param->high : low + 1;
	double value = param->value != 0 ? param->value * draw(0.5, 2) : draw(low, high);

	return value > low && value < high ? value
	       : param->value != 0         ? param->value
	                                   : (low + high) / 2;
}

static uint32_t members(enum pf_loss_form form)
{
	static const uint32_t counts[] = {
		[PF_FORM_TOKENS] = 1, [PF_FORM_PAIR] = 2,    [PF_FORM_BINARY] = 1,
		[PF_FORM_TRIPLE] = 3, [PF_FORM_LIST] = LIST, [PF_FORM_ROLLOUT] = LIST,
	};
	return counts[form];
}

static uint32_t member_kind(enum pf_loss_form form, uint32_t i)
{
	if (form == PF_FORM_BINARY)
		return draw(0, 1) < 0.5 ? PF_ITEM_CHOSEN : PF_ITEM_REJECTED;
	return form == PF_FORM_PAIR || form == PF_FORM_TRIPLE ? 1u << i : PF_ITEM_CHOSEN;
}

static struct pf_item draw_item(uint32_t kind)
{
	uint32_t n = (uint32_t)draw(1, 30);
	double reference = -draw(0.5, 2.5) * n;

	return (struct pf_item){
		.policy = q32(reference + draw(-0.4, 0.4) * n),
		.reference = q32(reference),
		.n = n,
		.kind = kind,
		.score = (float)draw(0, 1),
		.margin = (float)draw(0, 2),
		.weight = (float)draw(0.3, 1.5),
		.advantage = (float)draw(-1.5, 1.5),
		.old = q32(reference + draw(-0.8, 0.8)),
	};
}

/* A token: within a nat of where it was sampled, so that ratios meet their limits on both sides */
static struct pf_item draw_token(void)
{
	struct pf_item item = draw_item(PF_ITEM_CHOSEN);

	item.n = 1;
	item.old = q32(-draw(0.1, 4));
	item.policy = item.old + q32(draw(-0.7, 0.7));
	item.reference = item.old + q32(draw(-0.5, 0.5));
	return item;
}

static void draw_step(struct step *s, const struct pf_loss_row *row, uint32_t size)
{
	struct pf_error error;

	char name[256];

	snprintf(name, sizeof name, "%s%s", row->name, strcmp(row->name, "expr") == 0 ? ":" : "");
	if (name[strlen(name) - 1] == ':')
		strcat(name, row->title);
	if (pf_loss_parse(name, &s->loss, &error))
		fail_msg("%s", error.text);
	for (unsigned i = 0; i < row->params; i++)
		s->loss.component[0].param[i] = draw_param(&row->param[i]);
	s->batch = (struct pf_loss_batch){
		.divisor = 3, .z0 = draw(0, 2), .delta = draw(-1, 1), .tokens = 11
	};
	s->items = 0;
	for (uint32_t g = 0; g < GROUPS; g++) {
		s->group[g] = s->items;
		for (uint32_t i = 0; i < size; i++)
			s->item[s->items++] = row->per_token ? draw_token() : draw_item(member_kind(row->form, i));
		for (uint32_t i = s->group[g]; i < s->items && row->per_token; i++)
			s->item[i].advantage = s->item[s->group[g]].advantage;
	}
	s->group[GROUPS] = s->items;
	if (pf_program_build(&s->program, &s->loss, &error))
		fail_msg("%s", error.text);
	pf_program_par(&s->program, &s->loss, &s->batch, s->par);
}

/* ---- total and gradient ---- */

static void run(const struct step *s, unsigned which, long double *result)
{
	ref_pref_run(s->par, s->program.word, s->program.word[PF_PROG_COMPONENT + which], 0,
	             s->item, s->items, s->group, GROUPS, result);
}

static long double total(const struct step *s)
{
	long double value[ITEMS_MOST], sum = 0;

	run(s, 0, value);
	for (uint32_t g = 0; g < GROUPS; g++)
		for (uint32_t i = s->group[g]; i < s->group[g + 1]; i++)
			sum += s->program.word[PF_PROG_COMPONENT + 2] || i == s->group[g] ? value[i]
			                                                                  : 0;
	return sum;
}

static long double difference(struct step *s, uint32_t i, int64_t h)
{
	int64_t policy = s->item[i].policy;
	long double up, down;

	s->item[i].policy = policy + h;
	up = total(s);
	s->item[i].policy = policy - h;
	down = total(s);
	s->item[i].policy = policy;
	return (up - down) / ldexpl(2 * (long double)h, -32);
}

/* Central differences with steps 1/4, 1/8, ... nats, extrapolated (Ridders); *error estimates what
 * is left. Steps that cross a kink have large estimates and lose against smaller ones */
static long double derivative(struct step *s, uint32_t i, long double *error)
{
	long double table[LEVELS][LEVELS], best = NAN;

	*error = INFINITY;
	for (int k = 0; k < LEVELS; k++) {
		table[0][k] = difference(s, i, (int64_t)1 << (30 - k));
		for (int j = 1; j <= k; j++) {
			long double factor = ldexpl(1, 2 * j);
			table[j][k] =
				(table[j - 1][k] * factor - table[j - 1][k - 1]) / (factor - 1);
			long double left = fmaxl(fabsl(table[j][k] - table[j - 1][k]),
			                         fabsl(table[j][k] - table[j - 1][k - 1]));
			if (left <= *error) {
				*error = left;
				best = table[j][k];
			}
		}
	}
	return best;
}

/* 1: a kink lies closer than the smallest step, so the differences say nothing */
static int check_item(struct step *s, uint32_t i, long double grad, const char *name)
{
	long double error, numeric = derivative(s, i, &error);
	long double scale = fabsl(grad) + 1e-6L * fabsl(total(s)) + 1e-12L;

	if (isfinite(grad) && isfinite(error) && error > 1e-7L * scale)
		return 1;
	if (!(error <= 1e-7L * scale) || !(fabsl(numeric - grad) <= 1e-7L * scale))
		fail_msg("loss %s, item %u: gradient %.12Lg, differences of the value %.12Lg +- "
		         "%.1Lg",
		         name, i, grad, numeric, error);
	return 0;
}

/* Losses with a factor that counts as a constant: their gradients are held by tests/vectors alone */
static int is_detached(const struct pf_loss_row *row)
{
	static const char *const names[] = { "kto_pair", "cispo", "vespo", "nash_md", "dft" };

	for (size_t i = 0; i < sizeof names / sizeof *names; i++)
		if (strcmp(names[i], row->name) == 0)
			return 1;
	return 0;
}

/* At random points; few of them may lie at a kink */
static void check_loss(const struct pf_loss_row *row)
{
	struct step s;
	int kinks = 0;

	for (int point = 0; point < POINTS; point++) {
		long double grad[ITEMS_MOST];
		int kink = 0;
		draw_step(&s, row, members(row->form));
		run(&s, 1, grad);
		for (uint32_t i = 0; i < s.items; i++)
			kink |= check_item(&s, i, grad[i], strcmp(row->name, "expr") ? row->name : row->title);
		kinks += kink;
	}
	if (kinks > KINKS_MOST)
		fail_msg("loss %s (%s): %d of %d points lie at a kink", row->name, row->title, kinks, POINTS);
}

static void gradients_are_derivatives(void **state)
{
	const struct pf_loss_row *row;

	(void)state;
	seed = seed_of(20240613);
	for (unsigned r = 0; (row = pf_loss_row(r)) != NULL; r++)
		if (!is_detached(row))
			check_loss(row);
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
	seed = seed_of(31);
	for (size_t i = 0; i < sizeof formulas / sizeof *formulas; i++) {
		const struct pf_loss_row *row;
		struct pf_error error;
		if (pf_expr_row(formulas[i], strlen(formulas[i]), &row, &error))
			fail_msg("%s: %s", formulas[i], error.text);
		check_loss(row);
	}
}

static void group_losses_stand_on_every_member(void **state)
{
	const struct pf_loss_row *row;
	struct step s;

	(void)state;
	seed = seed_of(7);
	for (unsigned r = 0; (row = pf_loss_row(r)) != NULL; r++) {
		long double value[ITEMS_MOST];
		draw_step(&s, row, members(row->form));
		run(&s, 0, value);
		for (uint32_t i = 0; i < s.items && !row->per_item; i++)
			if (!(value[i] == value[i / members(row->form) * members(row->form)]))
				fail_msg(
					"loss %s leaves different values on the members of a group",
					row->name);
	}
}

/* A third member changes nothing for a pair loss and gets no gradient: mixtures with triples rely
 * on it */
static void pairs_ignore_an_extra_member(void **state)
{
	const struct pf_loss_row *row;
	struct step s;

	(void)state;
	seed = seed_of(11);
	for (unsigned r = 0; (row = pf_loss_row(r)) != NULL; r++) {
		long double value[ITEMS_MOST], alone[ITEMS_MOST], grad[ITEMS_MOST];
		if (row->form != PF_FORM_PAIR)
			continue;
		draw_step(&s, row, 3);
		run(&s, 0, value);
		run(&s, 1, grad);
		s.item[2] = s.item[5] = s.item[8] = draw_item(PF_ITEM_EXTRA);
		run(&s, 0, alone);
		for (uint32_t i = 0; i < s.items; i++)
			if (!(alone[i] == value[i]) || (i % 3 == 2 && !(grad[i] == 0)))
				fail_msg("loss %s looks at an extra member", row->name);
	}
}

/* Groups of different sizes share a launch, whose loops are as long as the largest of them */
static void loops_stop_at_the_end_of_a_list(void **state)
{
	const struct pf_loss_row *row;
	struct step s;

	(void)state;
	seed = seed_of(13);
	for (unsigned r = 0; (row = pf_loss_row(r)) != NULL; r++) {
		long double want[2][ITEMS_MOST], got[ITEMS_MOST];
		if (row->form != PF_FORM_LIST)
			continue;
		draw_step(&s, row, 2);
		for (unsigned which = 0; which < 2; which++)
			run(&s, which, want[which]);
		for (uint32_t i = 0; i < 4; i++)         /* a third group of six instead of two */
			s.item[s.items++] = draw_item(PF_ITEM_CHOSEN);
		s.group[GROUPS] = s.items;
		for (unsigned which = 0; which < 2; which++) {
			run(&s, which, got);
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
		cmocka_unit_test(formulas_have_their_derivatives),
		cmocka_unit_test(group_losses_stand_on_every_member),
		cmocka_unit_test(pairs_ignore_an_extra_member),
		cmocka_unit_test(loops_stop_at_the_end_of_a_list),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
