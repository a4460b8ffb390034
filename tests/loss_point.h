/* loss_point.h: a loss at a random point, on the wide reference machine (tests/ref), its derivatives by differences.
 *
 * The generator is seeded by point_seed. One thread. */
#ifndef PF_TESTS_LOSS_POINT_H
#define PF_TESTS_LOSS_POINT_H
#include "host/train/loss_program.h"
#include "tests/ref/ref.h"

enum { GROUPS = 3, LIST = 5, ITEMS_MOST = GROUPS * LIST };

/* A step of GROUPS groups of one loss */
struct point {
	struct pf_loss        loss;
	struct pf_loss_batch  batch;
	struct pf_program     program;
	double                par[PF_PAR_COUNT];
	struct pf_item        item[ITEMS_MOST];
	uint32_t              group[GROUPS + 1], items;
};

void point_seed(uint64_t seed);
/* Items of a group of this form */
uint32_t point_members(enum pf_loss_form form);
struct pf_item point_item(uint32_t kind, double wide);
/* Groups of `size` items. wide: by how much policy and reference differ, 1 for what training meets; at 30 ratios leave
 * their limits, at 1000 exponents theirs */
void point_draw(struct point *p, const struct pf_loss_row *row, uint32_t size, double wide);
/* Every margin becomes the item's sum of logp, which is a single then: a program may read it as a constant */
void point_freeze(struct point *p);
/* Another value program */
void point_program(struct point *p, const struct pf_loss_row *row);

/* which: 0 value, 1 gradient; result[items] */
void point_run(const struct point *p, unsigned which, long double *result);
/* Sum of the absolute values that the total is made of */
long double point_size(const struct point *p);

/* What a value program does where it branches, by the word that branches: seen taking the lower, the upper side while
 * the item moved it. NULL: nobody asks */
struct point_sides { uint8_t seen[PF_PROG_MAX]; };
/* The derivative of the total by item i's sum, by extrapolated differences over steps that cross no branch; *error:
 * what may be left. Returns 0, or 1 where a branch that the item moves is within 1e-3 */
int point_derivative(struct point *p, uint32_t i, long double *derivative, long double *error,
                     struct point_sides *sides);
#endif
