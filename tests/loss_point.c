/* Random steps, and differences that know where the program branches */
#include "loss_point.h"
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "tests/cmocka.h"

#define KINK 1e-3L                     /* nearer to a branch the two sides are not told apart */
enum { STEP_MOST = 30, STEP_LEAST = 16, LEVELS = 7, SHRINK = 5 };   /* steps: 2^k of 2^-32 nat */

static uint64_t state;

void point_seed(uint64_t seed)
{
	state = seed;
}

/* splitmix64, in [low, high) */
static double draw(double low, double high)
{
	uint64_t z = state += 0x9e3779b97f4a7c15u;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
	z = (z ^ z >> 27) * 0x94d049bb133111ebu;
	return low + (high - low) * ldexp((double)((z ^ z >> 31) >> 11), -53);
}

static int64_t q32(double nats)
{
	return (int64_t)llrint(ldexp(nats, 32));
}

/* ---- random steps ---- */

/* Defaults of 0 often mean "none": half of the points keep them */
static double draw_param(const struct pf_loss_param *param)
{
	double low = isfinite(param->low) ? param->low : -1,
	       high = isfinite(param->high) ? param->high : low + 1;
	double value = param->value != 0  ? param->value * (draw(0, 1) < 0.5 ? draw(0.5, 2) : exp(draw(-2, 4)))
	               : draw(0, 1) < 0.5 ? 0
	                                  : draw(low, high);

	return value > param->low && value < param->high ? value
	       : param->value != 0 || !param->low_open ? param->value
	                                               : (low + high) / 2;
}

uint32_t point_members(enum pf_loss_form form)
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

struct pf_item point_item(uint32_t kind, double wide)
{
	uint32_t n = (uint32_t)draw(1, 30);
	double reference = -draw(0.5, 2.5) * n;

	return (struct pf_item){
		.policy = q32(reference + wide * draw(-0.4, 0.4) * n),
		.reference = q32(reference),
		.n = n,
		.kind = kind,
		.score = (float)draw(0, 1),
		.margin = (float)draw(0, 2),
		.weight = (float)draw(0.3, 1.5),
		.advantage = (float)draw(-1.5, 1.5),
		.old = q32(reference + wide * draw(-0.8, 0.8)),
	};
}

/* A token: within a nat of where it was sampled, so that ratios meet their limits on both sides */
static struct pf_item draw_token(double wide)
{
	struct pf_item item = point_item(PF_ITEM_CHOSEN, 1);

	item.n = 1;
	item.old = q32(-draw(0.1, 4));
	item.policy = item.old + q32(wide * draw(-0.7, 0.7));
	item.reference = item.old + q32(wide * draw(-0.5, 0.5));
	return item;
}

void point_program(struct point *p, const struct pf_loss_row *row)
{
	struct pf_error error;

	p->loss.component[0].row = row;
	if (pf_program_build(&p->program, &p->loss, &error))
		fail_msg("%s", error.text);
	pf_program_par(&p->program, &p->loss, &p->batch, p->par);
}

void point_draw(struct point *p, const struct pf_loss_row *row, uint32_t size, double wide)
{
	memset(&p->loss, 0, sizeof p->loss);
	p->loss.components = 1;
	p->loss.component[0].weight = 1;
	for (unsigned i = 0; i < row->params; i++)
		p->loss.component[0].param[i] = draw_param(&row->param[i]);
	p->batch = (struct pf_loss_batch){
		.divisor = 3, .z0 = draw(0, 2), .delta = draw(-1, 1), .tokens = 11, .prompt_tokens = 7
	};
	p->items = 0;
	for (uint32_t g = 0; g < GROUPS; g++) {
		p->group[g] = p->items;
		for (uint32_t i = 0; i < size; i++)
			p->item[p->items++] =
				row->per_token ? draw_token(wide) : point_item(member_kind(row->form, i), wide);
		for (uint32_t i = p->group[g]; i < p->items && row->per_token; i++)
			p->item[i].advantage = p->item[p->group[g]].advantage;
	}
	p->group[GROUPS] = p->items;
	point_program(p, row);
}

void point_freeze(struct point *p)
{
	for (uint32_t i = 0; i < p->items; i++) {
		p->item[i].margin = (float)ldexp((double)p->item[i].policy, -32);
		p->item[i].policy = q32((double)p->item[i].margin);
	}
}

/* ---- total and gradient ---- */

void point_run(const struct point *p, unsigned which, long double *result)
{
	ref_pref_run(p->par, p->program.word, p->program.word[PF_PROG_COMPONENT + which], 0, p->item, p->items,
	             p->group, GROUPS, result);
}

/* size: what the sum's rounding is relative to, or NULL */
static long double total_at(struct point *p, uint32_t i, int64_t move, struct ref_gaps *gaps, long double *size)
{
	long double value[ITEMS_MOST], sum = 0, absolute = 0;

	if (gaps)
		gaps->count = 0;
	p->item[i].policy += move;
	ref_pref_branches(p->par, p->program.word, p->program.word[PF_PROG_COMPONENT], 0, p->item, p->items, p->group,
	                  GROUPS, value, gaps);
	p->item[i].policy -= move;
	for (uint32_t g = 0; g < GROUPS; g++)
		for (uint32_t k = p->group[g]; k < p->group[g + 1]; k++)
			if (p->program.word[PF_PROG_COMPONENT + 2] || k == p->group[g]) {
				sum += value[k];
				absolute += fabsl(value[k]);
			}
	if (size)
		*size = absolute;
	return sum;
}

long double point_size(const struct point *p)
{
	struct point copy = *p;
	long double size;

	total_at(&copy, 0, 0, NULL, &size);
	return size;
}

/* ---- branches ---- */

enum { HERE, ABOVE, BELOW, PLACES };
struct surroundings { struct ref_gaps gaps[PLACES]; };

static void look(struct point *p, uint32_t i, int64_t step, struct surroundings *s)
{
	static const int signs[PLACES] = { [HERE] = 0, [ABOVE] = 1, [BELOW] = -1 };

	for (int k = 0; k < PLACES; k++)
		total_at(p, i, signs[k] * step, &s->gaps[k], NULL);
}

/* Whether the item has a say in a branch: limits of 1e300 and what is not finite have no sides */
static int moves(const struct surroundings *s, size_t g)
{
	const long double up = s->gaps[ABOVE].gap[g].difference, down = s->gaps[BELOW].gap[g].difference;

	return isfinite(up) && isfinite(down) && fabsl(up) < 1e200L && up != down;
}

static int near_a_kink(const struct surroundings *s, struct point_sides *sides)
{
	int near = 0;

	for (size_t g = 0; g < s->gaps[HERE].count; g++) {
		const struct ref_gap *here = &s->gaps[HERE].gap[g];
		if (!moves(s, g))
			continue;
		near |= !(fabsl(here->difference) >= KINK);
		if (sides)
			sides->seen[here->at] |= here->difference < 0 ? 1 : 2;
	}
	return near;
}

static int crosses(const struct surroundings *s)
{
	for (size_t g = 0; g < s->gaps[HERE].count; g++) {
		const long double here = s->gaps[HERE].gap[g].difference;
		if (moves(s, g) && !(here * s->gaps[ABOVE].gap[g].difference > 0 &&
		                     here * s->gaps[BELOW].gap[g].difference > 0))
			return 1;
	}
	return 0;
}

/* Central differences with steps 2^k, 2^(k-1), ..., extrapolated (Ridders), where they are better than *best; *error
 * estimates what is left, rounding of the totals included */
static void extrapolate(struct point *p, uint32_t i, int first, long double *best, long double *error)
{
	const long double rounding = 8 * LDBL_EPSILON * point_size(p);
	long double table[LEVELS][LEVELS];

	for (int k = 0; k < LEVELS; k++) {
		const int64_t step = (int64_t)1 << (first - k);
		const long double width = ldexpl(2 * (long double)step, -32);
		table[0][k] = (total_at(p, i, step, NULL, NULL) - total_at(p, i, -step, NULL, NULL)) / width;
		for (int j = 1; j <= k; j++) {
			long double factor = ldexpl(1, 2 * j);
			table[j][k] = (table[j - 1][k] * factor - table[j - 1][k - 1]) / (factor - 1);
			long double left = fmaxl(fabsl(table[j][k] - table[j - 1][k]),
			                         fabsl(table[j][k] - table[j - 1][k - 1])) +
			                   rounding / width;
			if (left <= *error) {
				*error = left;
				*best = table[j][k];
			}
		}
	}
}

int point_derivative(struct point *p, uint32_t i, long double *derivative, long double *error,
                     struct point_sides *sides)
{
	struct surroundings s = { 0 };
	int step = STEP_MOST;

	look(p, i, (int64_t)1 << STEP_LEAST, &s);
	const int near = near_a_kink(&s, sides);
	for (look(p, i, (int64_t)1 << step, &s); !near && crosses(&s) && step > STEP_LEAST;)
		look(p, i, (int64_t)1 << --step, &s);
	*error = INFINITY;
	*derivative = NAN;
	for (; !near && !crosses(&s) && step >= STEP_LEAST && !(*error <= 1e-9L * fabsl(*derivative)); step -= SHRINK)
		extrapolate(p, i, step, derivative, error);
	for (int k = 0; k < PLACES; k++)
		free(s.gaps[k].gap);
	return near;
}
