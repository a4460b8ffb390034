/* loss_whole.h: the machine of kernel pref on the host, for what no launch holds: steps of more than PF_ITEMS_MAX items
 * of a loss that looks at all of them, groups of more.
 *
 * Operations are the kernel's own (prefpga/internal/pref_lane.h, pref_group.h), in its order, so the bits are those of
 * a larger kernel. Thread-safe: everything is in the caller's memory or allocated. */
#ifndef PF_TRAIN_LOSS_WHOLE_H
#define PF_TRAIN_LOSS_WHOLE_H
#include "loss_program.h"

struct pf_whole {
	const struct pf_program *program;      /* as pf_program_build leaves it */
	const double            *par;          /* [PF_PAR_COUNT] */
	const struct pf_item    *item;         /* [items] */
	const uint32_t          *group;        /* [groups + 1], from 0 to items, ascending */
	uint32_t                 items, groups;
	struct pf_item_out      *out;          /* [items] */
};
/* Any number of items; programs with loops take a time that grows with the largest group's square. -ENOMEM */
int pf_loss_whole(const struct pf_whole *whole, struct pf_error *error);
#endif
