/* expr_range.h: what values the nodes of a formula can take, and which forms of it cannot be computed well.
 * Thread-safe. */
#ifndef PF_TRAIN_EXPR_RANGE_H
#define PF_TRAIN_EXPR_RANGE_H
#include "expr_node.h"

struct pf_range { double low, high; int low_open, high_open; };

/* range[count of nodes]; `name_range` gives that of a name */
void pf_ranges_find(const struct pf_graph *graph, struct pf_range (*name_range)(int name), struct pf_range *range);
/* Logarithms, quotients and powers outside their domain; exponentials times what vanishes, differences that cancel. The
 * error has the column in `formula` and the form to write instead */
int pf_ranges_check(const struct pf_graph *graph, const struct pf_range *range, const char *formula,
                    struct pf_error *error);
#endif
