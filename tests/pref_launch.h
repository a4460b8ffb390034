/* pref_launch.h: launches of kernel pref with random items, for tests that write programs word by word. One thread;
 * failures of memory end the test. */
#ifndef PF_TESTS_PREF_LAUNCH_H
#define PF_TESTS_PREF_LAUNCH_H
#include <stdint.h>
#include "tests/kernels.h"

struct pref_launch {
	double              par[PF_PAR_COUNT];
	uint32_t            prog[PF_PROG_MAX], words;
	struct pf_item     *item;
	struct pf_item_out *out;
	uint32_t           *group, items, groups;
};

/* Groups of 0 to `largest` items, 1 each if that is 1; weights and divisor 1, one component, no code yet */
void pref_make(struct pref_launch *l, uint32_t groups, uint32_t largest, uint64_t *state);
void pref_free(struct pref_launch *l);

/* What follows is the program of component c: its value (which 0) or gradient (which 1). One value per item */
void pref_begin(struct pref_launch *l, uint32_t c, uint32_t which);
void pref_word(struct pref_launch *l, uint32_t op, uint32_t operand);

/* The kernel into l->out; nothing beyond the items may be written */
void pref_run(struct pref_launch *l);
#endif
